//! The runtime's admin port, asked over HTTP: what the functions do, and who gets which part of their requests.

use std::time::Duration;

use api::{
    ErrorBody, ErrorCode, ErrorDetail,
    functions::{ServiceStatus, Status, TrafficTarget},
};
use reqwest::{Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;

use crate::error::{Result, WebError};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The admin port at a URL, if one was told.
#[derive(Clone, Debug)]
pub struct Runtime {
    url: Option<Url>,
    http: reqwest::Client,
}

impl Runtime {
    /// The runtime whose admin port is at `url`, which ends in a slash; asks nothing.
    pub fn new(url: Option<Url>, http: reqwest::Client) -> Self {
        Self { url, http }
    }

    /// Whether there is anybody to ask.
    pub fn is_known(&self) -> bool {
        self.url.is_some()
    }

    /// What the functions do at this moment.
    ///
    /// # Errors
    /// `Unavailable` if nobody can be asked, `BadGateway` or `Timeout` if there is no sensible answer.
    pub async fn status(&self) -> Result<Status> {
        self.ask(Method::GET, &["admin", "status"], |request| request).await
    }

    /// Wishes for the traffic of a function; returns what comes of them.
    ///
    /// # Errors
    /// As [`Runtime::status`]; what the runtime refuses keeps its code and its words.
    pub async fn set_traffic(&self, namespace: &str, name: &str, targets: &[TrafficTarget]) -> Result<ServiceStatus> {
        let path = ["admin", "services", namespace, name, "traffic"];
        self.ask(Method::PUT, &path, |request| request.json(targets)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T> {
        let Some(base) = &self.url else {
            let message =
                "this service was not told where the functions' runtime is; name its admin port with FOVEA_ADMIN";
            return Err(WebError::refused(ErrorCode::Unavailable, message));
        };
        let mut url = base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => drop(segments.pop_if_empty().extend(path)),
            Err(()) => return Err(trouble(base, ErrorCode::Internal, "has a URL that cannot be used", None)),
        }
        let answer = fill(self.http.request(method, url)).timeout(TIMEOUT).send().await;
        let answer = answer.map_err(|error| broken(base, error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| broken(base, error))?;
        if status.is_success() {
            let foreign = "answered something else than a runtime of this version would";
            return serde_json::from_slice(&body).map_err(|_| trouble(base, ErrorCode::BadGateway, foreign, None));
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) if status.is_client_error() => Err(WebError::Refused(body.error)),
            Ok(body) => Err(WebError::Runtime { detail: body.error, source: None }),
            Err(_) => {
                let problem = format!("answered {}; is it the runtime's admin port?", status.as_u16());
                Err(trouble(base, ErrorCode::BadGateway, &problem, None))
            }
        }
    }
}

fn broken(base: &Url, error: reqwest::Error) -> WebError {
    let (code, problem) = if error.is_connect() {
        (ErrorCode::Unavailable, "does not answer; start it, or tell where it is with FOVEA_ADMIN".to_owned())
    } else if error.is_timeout() {
        (ErrorCode::Timeout, format!("did not answer within {} s", TIMEOUT.as_secs()))
    } else {
        (ErrorCode::BadGateway, "broke off its answer".to_owned())
    };
    trouble(base, code, &problem, Some(error))
}

fn trouble(base: &Url, code: ErrorCode, problem: &str, source: Option<reqwest::Error>) -> WebError {
    let base = base.as_str().trim_end_matches('/');
    WebError::Runtime { detail: ErrorDetail::new(code, format!("the functions' runtime at {base} {problem}")), source }
}
