//! Listening: connections in, answers out, and an orderly end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Function, FunctionSpec, RuntimeError};

/// How long a connection may stay silent between requests, or take for a request's head. Longer than HTTP clients
/// commonly keep idle connections, so that it is they who close them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Pause after the system refuses to accept, as it does when it has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Knative's header of requests that ask the server in front of the function, not the function.
const PROBE: HeaderName = HeaderName::from_static("k-network-probe");

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still busy when the deadline passed and were cut.
    pub cut: usize,
}

/// Binds the address of this function.
///
/// # Errors
/// `PortTaken` or `Bind`.
pub async fn bind(spec: &FunctionSpec) -> Result<TcpListener, RuntimeError> {
    let (function, address) = (spec.name.clone(), spec.listen);
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => RuntimeError::PortTaken { function, address },
        _ => RuntimeError::Bind { function, address, source },
    })
}

impl Function {
    /// Serves HTTP/1.1 until `shutdown` is ready; then accepts no more and gives the requests in flight until
    /// `drain` has passed.
    ///
    /// A request with the header `K-Network-Probe: queue` is not for the guest: it is answered at once, whatever the
    /// guests are doing, with 200 `queue` or, while draining, 503.
    pub async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
        drain: Duration,
    ) -> Drained {
        let function = self;
        let connections = TaskTracker::new();
        let (draining, cut) = (CancellationToken::new(), CancellationToken::new());
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                // Shutting down must win over a stream of newcomers.
                biased;
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = converse(Arc::clone(&function), stream, peer, draining.clone());
                    connections.spawn(cut.clone().run_until_cancelled_owned(connection));
                }
                Err(error) => {
                    tracing::warn!(function = function.spec().name, %error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        connections.close();
        draining.cancel();
        let in_time = timeout(drain, connections.wait()).await.is_ok();
        let left = if in_time { 0 } else { connections.len() };
        cut.cancel();
        connections.wait().await;
        Drained { cut: left }
    }
}

/// Serves one connection until either side is done with it.
async fn converse(function: Arc<Function>, stream: TcpStream, peer: SocketAddr, draining: CancellationToken) {
    // Answers are written whole: waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let (function, draining) = (Arc::clone(&function), draining.clone());
        async move { Ok::<_, Infallible>(respond(&function, request, draining.is_cancelled()).await.map(Full::new)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(function = function.spec().name, %peer, %error, "connection broke");
    }
}

async fn respond(function: &Function, request: Request<Incoming>, draining: bool) -> Response<Bytes> {
    let Some(probe) = request.headers().get(PROBE) else {
        return function.handle(request).await;
    };
    let (status, body) = if probe != HeaderValue::from_static("queue") {
        (StatusCode::BAD_REQUEST, "unexpected probe header value")
    } else if draining {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down")
    } else {
        (StatusCode::OK, "queue")
    };
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    response
}
