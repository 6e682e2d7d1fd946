//! What a run is: the cluster, the namespace, the ways in, and how much patience it has.

use std::time::Duration;

use bytes::Bytes;
use cluster::Cluster;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use serde_json::Value;

use crate::{kubectl::Kubectl, options::Options, wait::Teller};

/// Who the API server is told that changes come from.
pub const FIELD_MANAGER: &str = "fovea-verify";

/// Why there is no answer when the time is over.
pub const TOO_LATE: &str = "no answer in time";

/// Sends plain HTTP requests.
pub trait Http: Send + Sync {
    /// The whole answer to a request whose address is whole; an error says why there is none.
    fn send(&self, request: Request<Bytes>, within: Duration) -> BoxFuture<'_, Result<Response<Bytes>, String>>;
}

/// A run.
pub struct Run {
    /// Its id, on all that it makes: DNS-safe.
    pub id: String,
    /// The cluster, and the namespace that the run makes.
    pub cluster: Cluster,
    /// What it was told.
    pub options: Options,
    /// The base, as `kubectl kustomize` renders it.
    pub rendered: Vec<Value>,
    /// Forwards ports.
    pub kubectl: Kubectl,
    /// Reaches the gateway.
    pub http: Box<dyn Http>,
    /// Where progress is told.
    pub teller: Teller,
}

impl Run {
    /// The namespace that the run makes.
    pub fn namespace(&self) -> &str {
        self.cluster.namespace()
    }

    /// A command for a person to copy, about the run's namespace.
    pub fn kubectl_here(&self, arguments: &str) -> String {
        self.kubectl.shown(&format!("-n {} {arguments}", self.namespace()))
    }
}

/// The namespace of a run that was not told one.
pub fn default_namespace(id: &str) -> String {
    format!("fovea-verify-{id}")
}

/// [`Http`] over the network.
#[derive(Clone, Debug)]
pub struct Network(reqwest::Client);

impl Network {
    /// Follows no redirects, and asks no proxy: a gateway is no site of the internet.
    ///
    /// # Errors
    /// If the machine offers no random numbers or the like
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        // Balancers forget connections that idle, and do not say so.
        client.pool_idle_timeout(Duration::from_secs(5)).connect_timeout(Duration::from_secs(5)).build().map(Self)
    }
}

impl Http for Network {
    fn send(&self, request: Request<Bytes>, within: Duration) -> BoxFuture<'_, Result<Response<Bytes>, String>> {
        Box::pin(async move {
            let mut request = reqwest::Request::try_from(request).map_err(innermost)?;
            *request.timeout_mut() = Some(within);
            let mut answer = self.0.execute(request).await.map_err(innermost)?;
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = answer.status();
            std::mem::swap(response.headers_mut(), answer.headers_mut());
            *response.body_mut() = answer.bytes().await.map_err(innermost)?;
            Ok(response)
        })
    }
}

fn innermost(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return TOO_LATE.to_owned();
    }
    let error: &dyn std::error::Error = &error;
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use axum::{Router, extract::Request as Asked};
    use http::{StatusCode, header};
    use tokio::net::TcpListener;

    use super::*;

    async fn listening(app: Router) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x?y", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await });
        url
    }

    #[tokio::test]
    async fn the_host_that_is_asked_for_is_the_one_that_is_sent_and_redirects_are_answers() {
        let app = Router::new().fallback(async |asked: Asked| {
            let host = asked.headers()[header::HOST].to_str().unwrap().to_owned();
            (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, "https://elsewhere")], host)
        });
        let request = Request::post(listening(app).await).header(header::HOST, "inference.n.example");
        let network = Network::new().unwrap();
        let answer = network.send(request.body("picture".into()).unwrap(), Duration::from_secs(20)).await.unwrap();
        assert_eq!(
            (answer.status(), answer.body().as_ref()),
            (StatusCode::MOVED_PERMANENTLY, &b"inference.n.example"[..])
        );
        assert_eq!(answer.headers()[header::LOCATION], "https://elsewhere");
    }

    #[tokio::test]
    async fn nobody_there_and_nothing_said_in_time_are_told_apart() {
        let network = Network::new().unwrap();
        let ask = |url: &str| Request::get(url).body(Bytes::new()).unwrap();
        let refused = network.send(ask("http://127.0.0.1:1/"), Duration::from_secs(20)).await.unwrap_err();
        assert!(refused.to_lowercase().contains("refused"), "{refused}");
        let silent = listening(Router::new().fallback(async || std::future::pending::<StatusCode>().await)).await;
        let late = network.send(ask(&silent), Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(late, TOO_LATE);
    }
}
