//! The preprocess function, asked over HTTP one picture at a time.
//!
//! What is the function's fault is kept apart from what is the picture's: a function that is away never makes a good
//! picture a rejected one.

use std::time::Duration;

use api::{
    ErrorBody, ErrorCode, PreprocessSpec,
    preprocess::{BatchAnswer, Outcome, SAFETENSORS},
};
use bytes::Bytes;
use imaging::Probe;
use reqwest::{StatusCode, Url, header::ACCEPT};
use safetensors::{Dtype, SafeTensors};

use super::{Preprocess, Processed, Refusal};
use crate::IngestError;

/// How long and how often the function is asked.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For one answer, the picture's way there and back included.
    pub timeout: Duration,
    /// Tries before giving up on a function that is away or overloaded.
    pub attempts: u32,
    /// Wait before the second try; it doubles from try to try.
    pub backoff: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), attempts: 6, backoff: Duration::from_millis(100) }
    }
}

/// The preprocess function at a URL.
#[derive(Clone, Debug)]
pub struct FunctionClient {
    url: Url,
    http: reqwest::Client,
    patience: Patience,
}

impl FunctionClient {
    /// The function at `url`, for instance `http://127.0.0.1:8081`.
    ///
    /// # Errors
    /// [`IngestError::Options`] if `url` is not an http URL.
    pub fn new(url: &str, http: reqwest::Client) -> Result<Self, IngestError> {
        let wrong = || {
            IngestError::Options(format!(
                "the preprocess function's URL is {url:?}; expected one like http://127.0.0.1:8081"
            ))
        };
        let url = Url::parse(url).ok().filter(|url| url.scheme() == "http" && url.has_host()).ok_or_else(wrong)?;
        Ok(Self { url, http, patience: Patience::default() })
    }

    /// Another patience than the default.
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Asks until there is an answer that is not a passing trouble.
    async fn ask(&self, request: impl Fn() -> reqwest::RequestBuilder) -> Result<Bytes, Refusal> {
        let mut wait = self.patience.backoff;
        for attempt in 1.. {
            let trouble = match self.ask_once(request()).await {
                Ok(answer) => return answer,
                Err(trouble) => trouble,
            };
            if attempt >= self.patience.attempts.max(1) {
                return Err(Refusal::Service(trouble));
            }
            tracing::debug!(attempt, "{trouble}; trying again");
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        unreachable!("the attempts are counted without end")
    }

    /// `Err` is a trouble that may pass; everything else is the final answer.
    async fn ask_once(&self, request: reqwest::RequestBuilder) -> Result<Result<Bytes, Refusal>, IngestError> {
        let response = request.timeout(self.patience.timeout).send().await.map_err(|e| self.transport(e))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|e| self.transport(e))?;
        if status.is_success() {
            return Ok(Ok(body));
        }
        let detail = serde_json::from_slice::<ErrorBody>(&body).ok().map(|body| body.error);
        if let Some(detail) = detail.as_ref().filter(|detail| blames_picture(detail.code)) {
            return Ok(Err(Refusal::Picture(detail.clone())));
        }
        let told = detail.map(|detail| format!(": {}", detail.message)).unwrap_or_default();
        let trouble = self.trouble(gateway_code(status), format!("answered {status}{told}"), None);
        let passes =
            matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
        if passes { Err(trouble) } else { Ok(Err(Refusal::Service(trouble))) }
    }

    fn transport(&self, error: reqwest::Error) -> IngestError {
        let (code, problem) = if error.is_timeout() {
            (ErrorCode::Timeout, format!("did not answer within {} s", self.patience.timeout.as_secs_f32()))
        } else if error.is_connect() {
            (ErrorCode::Unavailable, "cannot be reached; is it running?".to_owned())
        } else {
            (ErrorCode::BadGateway, "broke off its answer".to_owned())
        };
        self.trouble(code, problem, Some(error))
    }

    fn trouble(&self, code: ErrorCode, problem: String, source: Option<reqwest::Error>) -> IngestError {
        IngestError::Function {
            url: self.url.to_string(),
            problem,
            code,
            source: source.map(reqwest::Error::without_url),
        }
    }

    fn strange(&self, problem: impl std::fmt::Display) -> Refusal {
        Refusal::Service(self.trouble(ErrorCode::BadGateway, format!("gave a strange answer: {problem}"), None))
    }

    /// The picture inside a compact answer.
    fn read_answer(&self, body: &[u8], spec: &PreprocessSpec) -> Result<Processed, Refusal> {
        let (_, head) = SafeTensors::read_metadata(body).map_err(|e| self.strange(e))?;
        let answer = head
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get("answer"))
            .ok_or_else(|| self.strange("no `answer` beside the pixels"))?;
        let answer: BatchAnswer = serde_json::from_str(answer).map_err(|e| self.strange(e))?;
        if answer.spec != *spec {
            return Err(self.strange(format_args!("it processed by {:?} instead of {spec:?}", answer.spec)));
        }
        let facts = match answer.images.into_iter().next().map(|entry| entry.outcome) {
            Some(Outcome::Processed(processed)) => processed.facts,
            Some(Outcome::Failed { error }) if blames_picture(error.code) => return Err(Refusal::Picture(error)),
            Some(Outcome::Failed { error }) => return Err(self.strange(error.message)),
            None => return Err(self.strange("no entry for the picture")),
        };
        let tensors = SafeTensors::deserialize(body).map_err(|e| self.strange(e))?;
        let images = tensors.tensor("images").map_err(|e| self.strange(e))?;
        let shape = [1, spec.height as usize, spec.width as usize, 3];
        if images.dtype() != Dtype::U8 || images.shape() != shape {
            return Err(self.strange(format_args!(
                "pixels are {:?} {:?}; expected U8 {shape:?}",
                images.dtype(),
                images.shape()
            )));
        }
        Ok(Processed { facts, pixels: images.data().to_vec() })
    }
}

impl Preprocess for FunctionClient {
    async fn probe(&self, picture: Bytes) -> Result<Probe, Refusal> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("probe");
        }
        let body = self.ask(|| self.http.post(url.clone()).body(picture.clone())).await?;
        serde_json::from_slice(&body).map_err(|e| self.strange(e))
    }

    async fn process(&self, picture: Bytes, spec: &PreprocessSpec) -> Result<Processed, Refusal> {
        let query = serde_json::to_value(spec).map_err(|e| self.strange(e))?;
        let query = ["width", "height", "fit", "filter", "background"].map(|key| {
            let value = &query[key];
            (key, value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        let body = self
            .ask(|| self.http.post(self.url.clone()).query(&query).header(ACCEPT, SAFETENSORS).body(picture.clone()))
            .await?;
        self.read_answer(&body, spec)
    }
}

/// Whether an error speaks of the picture, not of the request around it or of the function.
fn blames_picture(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Empty
            | ErrorCode::Undecodable
            | ErrorCode::Truncated
            | ErrorCode::UnsupportedFormat
            | ErrorCode::TooLarge
            | ErrorCode::TooSmall
    )
}

/// What the function's status means to whoever asked us.
fn gateway_code(status: StatusCode) -> ErrorCode {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => ErrorCode::Timeout,
        _ => ErrorCode::BadGateway,
    }
}
