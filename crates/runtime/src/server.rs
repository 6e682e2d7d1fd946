//! Listening: connections in, answers out, and an orderly end. HTTP/1.1 and HTTP/2 without TLS share a port.

use std::{convert::Infallible, error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::RuntimeError;

/// How long a connection may stay silent between requests, or take for a request's head. Longer than HTTP clients
/// commonly keep idle connections, so that it is they who close them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Pause after the system refuses to accept, as it does when it has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The body of an answer on its way out.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// A whole body.
pub(crate) fn full(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// What answers the requests of a listener.
pub(crate) trait Handle: Send + Sync + 'static {
    /// Answers one request. Dropping the future cancels it.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        draining: bool,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still busy when the deadline passed and were cut.
    pub cut: usize,
}

/// Binds the address that `what` is to be served at.
///
/// # Errors
/// `PortTaken` or `Bind`
pub async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, RuntimeError> {
    let what = what.to_owned();
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => RuntimeError::PortTaken { what, address },
        _ => RuntimeError::Bind { what, address, source },
    })
}

/// Serves until `shutdown` is ready; then accepts no more and gives the requests in flight until `drain` has passed.
pub(crate) async fn serve(
    handler: Arc<impl Handle>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) -> Drained {
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
                let connection = converse(Arc::clone(&handler), stream, peer, draining.clone());
                connections.spawn(cut.clone().run_until_cancelled_owned(connection));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
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

/// Serves one connection until either side is done with it.
async fn converse(handler: Arc<impl Handle>, stream: TcpStream, peer: SocketAddr, draining: CancellationToken) {
    // Answers are written whole: waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let (handler, draining) = (Arc::clone(&handler), draining.clone());
        async move { Ok::<_, Infallible>(handler.handle(request, peer, draining.is_cancelled()).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_TIMEOUT);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &*error, "connection broke");
    }
}
