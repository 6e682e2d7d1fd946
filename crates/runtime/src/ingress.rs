//! The way in: a request's host leads to a route, the route to a revision, the revision's activator to an answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use activator::probe::{self, Health};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{net::TcpListener, time::Instant};

use crate::{
    Control, Drained,
    control::{Revision, Routes},
    error::chain,
    server::{self, Body, Handle, full},
    timing::Times,
};

/// Serves all functions by their hosts, or one of them whatever the host says.
pub struct Ingress {
    routes: Arc<Routes>,
    /// Namespace and name of the Service whose own port this is.
    service: Option<(String, String)>,
}

impl Ingress {
    /// Serves all functions by host.
    pub fn new(control: &Control) -> Self {
        Self { routes: control.routes(), service: None }
    }

    /// Serves this function; hosts of others, and of its tags, still lead to them.
    pub fn of_service(control: &Control, namespace: &str, name: &str) -> Self {
        Self { routes: control.routes(), service: Some((namespace.to_owned(), name.to_owned())) }
    }

    /// Serves HTTP/1.1 and HTTP/2 until `shutdown` is ready; then accepts no more and gives the requests in flight
    /// until `drain` has passed.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>, drain: Duration) -> Drained {
        server::serve(Arc::new(self), listener, shutdown, drain).await
    }
}

impl Handle for Ingress {
    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr, draining: bool) -> Response<Body> {
        let health = if draining { Health::ShuttingDown } else { Health::Ready };
        if let Some(answer) = probe::answer(request.headers(), health) {
            return answer.map(full);
        }
        let table = self.routes.table();
        let Some(route) = table.route(host(&request), self.service.as_ref()) else {
            return match &self.service {
                Some(_) => text(StatusCode::SERVICE_UNAVAILABLE, "this function cannot serve yet\n"),
                None => text(StatusCode::NOT_FOUND, "there is no function at this host\n"),
            };
        };
        let header = |name: &str| request.headers().get(name)?.to_str().ok();
        let Some(choice) = route.choose(header, fastrand::u64(..)) else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "this function has no revision that can serve yet\n");
        };
        let revision = Arc::clone(choice.revision);
        let mut added = HeaderMap::new();
        for (name, value) in choice.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                added.insert(name, value);
            }
        }
        answer(&revision, request, added, peer).await
    }
}

async fn answer(revision: &Revision, request: Request<Incoming>, added: HeaderMap, peer: SocketAddr) -> Response<Body> {
    let arrived = Instant::now();
    let mut times = Times::default();
    let (mut head, body) = request.into_parts();
    head.headers.extend(added);
    let mut response = match revision.intake.read(body).await {
        Err(failure) => {
            tracing::debug!(revision = revision.id.revision, reason = chain(&failure), "refused");
            failure.response().map(full)
        }
        Ok((body, share)) => {
            let answered = revision.call(Request::from_parts(head, body), peer.ip()).await;
            drop(share);
            if let Some(facts) = &answered.facts {
                times.queue = facts.queued;
                times.cold_start = facts.cold.then_some(facts.queued);
            }
            if let Some(failure) = &answered.failure {
                tracing::warn!(revision = revision.id.revision, reason = %failure, "failed");
            }
            answered.response.map(|body| body.map_err(Into::into).boxed_unsync())
        }
    };
    times.end(arrived, &revision.id.revision, &mut response);
    revision.counters.answered(response.status().as_u16(), times.total, times.cold_start);
    response
}

/// The host that a request is for.
fn host(request: &Request<Incoming>) -> &str {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or_default()
}

fn text(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
