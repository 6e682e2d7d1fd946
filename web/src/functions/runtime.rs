//! The functions of the embedded runtime, asked over HTTP at its admin port.
//!
//! It follows the registry's pointer `current` to new revisions, so a version is published by wishing for the traffic
//! first and moving the pointer after it: until the new revision is ready, those who serve go on to serve.

use std::time::Duration;

use api::{
    ErrorBody, ErrorCode, ErrorDetail,
    functions::{ServiceStatus, Status, TrafficTarget},
    split::{Receiver, share_out},
};
use futures_util::future::BoxFuture;
use reqwest::{Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use store::Volumes;

use super::Functions;
use crate::error::{Result, WebError};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The admin port at a URL, if one was told.
#[derive(Clone, Debug)]
pub struct Runtime {
    url: Option<Url>,
    http: reqwest::Client,
    volumes: Volumes,
}

impl Functions for Runtime {
    fn is_known(&self) -> bool {
        self.url.is_some()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        Box::pin(self.ask(Method::GET, &["admin", "status"], |request| request))
    }

    fn set_traffic<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        targets: &'a [TrafficTarget],
    ) -> BoxFuture<'a, Result<ServiceStatus>> {
        Box::pin(async move {
            let path = ["admin", "services", namespace, name, "traffic"];
            self.ask(Method::PUT, &path, |request| request.json(targets)).await
        })
    }

    fn publish<'a>(&'a self, model: &'a str, version: u32, percent: u32) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (volumes, name) = (self.volumes.clone(), model.to_owned());
            tokio::task::spawn_blocking(move || volumes.version(&name, version)).await??;
            let status = if self.is_known() { self.status().await? } else { Status::default() };
            let serves = |service: &&ServiceStatus| {
                service.revisions.iter().any(|revision| revision.model().is_some_and(|(name, _)| name == model))
            };
            let service = status.services.iter().find(serves);
            let newest = service.and_then(|service| {
                let newest = service.latest_created.as_ref()?;
                service.revisions.iter().find(|revision| revision.name == *newest)
            });
            let is_newest = newest.is_some_and(|newest| newest.model() == Some((model, version)));
            match service {
                Some(service) => {
                    let is_ready = is_newest && service.latest_ready == service.latest_created;
                    let newest = service.latest_ready.as_deref().filter(|_| is_ready);
                    let receiver = newest.map_or(Receiver::Next, Receiver::Revision);
                    let targets = share_out(service, receiver, percent).ok_or_else(|| alone(model, version))?;
                    self.set_traffic(&service.namespace, &service.name, &targets).await?;
                }
                None if percent < 100 => return Err(alone(model, version)),
                None => {}
            }
            if is_newest { Ok(()) } else { self.point_to(model.to_owned(), version).await }
        })
    }
}

fn alone(model: &str, version: u32) -> WebError {
    let message = format!(
        "nothing else serves {model}, so v{version} gets every request or none; publish it with 100 %, or put another \
         version into use first"
    );
    WebError::refused(ErrorCode::Conflict, message)
}

impl Runtime {
    /// The runtime whose admin port is at `url`, which ends in a slash; asks nothing.
    pub fn new(url: Option<Url>, http: reqwest::Client, volumes: Volumes) -> Self {
        Self { url, http, volumes }
    }

    async fn point_to(&self, model: String, version: u32) -> Result<()> {
        let volumes = self.volumes.clone();
        Ok(tokio::task::spawn_blocking(move || volumes.set_current(&model, version)).await??)
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
