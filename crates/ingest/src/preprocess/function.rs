//! The preprocess function, asked over HTTP one picture at a time.
//!
//! What is the function's fault is kept apart from what is the picture's: a function that is away never makes a good
//! picture a rejected one, and a picture that the function breaks down over spoils no other. Who is to blame for a
//! failure is found out with the function to ourselves, by asking for the picture and for one that is surely good in
//! turns.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::{
    ErrorBody, ErrorCode, PreprocessSpec,
    preprocess::{BatchAnswer, Outcome, SAFETENSORS},
};
use bytes::Bytes;
use imaging::Probe;
use reqwest::{RequestBuilder, StatusCode, Url, header::ACCEPT};
use safetensors::{Dtype, SafeTensors};
use tokio::sync::RwLock;

use super::{Preprocess, Processed, Refusal};
use crate::IngestError;

/// Failures over a picture beside others, before it is asked for alone.
const FAILURES_BESIDE_OTHERS: u32 = 2;

/// Failures over a picture alone, each followed by an answer to another picture, that prove it guilty.
const PROOFS: u32 = 2;

/// How long and how often the function is asked.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For one answer, the picture's way there and back included.
    pub timeout: Duration,
    /// Tries before giving up on a function that is away, overloaded or failing at whatever it is asked for.
    pub attempts: u32,
    /// Wait before the second try; it doubles from try to try.
    pub backoff: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), attempts: 6, backoff: Duration::from_millis(100) }
    }
}

/// The preprocess function at a URL. Clones take turns with each other.
#[derive(Clone, Debug)]
pub struct FunctionClient {
    url: Url,
    http: reqwest::Client,
    patience: Patience,
    turns: Arc<Turns>,
}

/// What those who ask at the same time have to do with each other.
#[derive(Debug, Default)]
struct Turns {
    /// Held together by all who ask, and alone by whoever finds out what a failure comes from.
    lock: RwLock<()>,
    /// How often it came from the function, whatever the picture. Who waited meanwhile need not find out the same again.
    function_faults: AtomicU64,
}

/// A final answer, or one that blames somebody for good.
type Settled = Result<Bytes, Refusal>;

/// Why a try settled nothing.
struct Trouble {
    kind: Kind,
    error: IngestError,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The function is not there or has no place free; that says nothing of the picture.
    Away,
    /// The function failed, over this picture or by chance.
    Failed,
    /// The function did not answer in time, for this picture's sake or anyhow.
    Silent,
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
        Ok(Self { url, http, patience: Patience::default(), turns: Arc::default() })
    }

    /// Another patience than the default.
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Asks for a picture until that is settled.
    async fn ask(&self, picture: Bytes, request: impl Fn(Bytes) -> RequestBuilder) -> Settled {
        let known_faults = self.turns.function_faults.load(Ordering::Relaxed);
        let beside_others = {
            let _turn = self.turns.lock.read().await;
            self.ask_beside_others(|| request(picture.clone())).await
        };
        let trouble = match beside_others {
            Ok(settled) => return settled,
            Err(trouble) => trouble,
        };
        if trouble.kind == Kind::Away {
            return Err(Refusal::Service(trouble.error));
        }
        tracing::debug!("{}; asking again alone", trouble.error);
        let _turn = self.turns.lock.write().await;
        if self.turns.function_faults.load(Ordering::Relaxed) != known_faults {
            return Err(Refusal::Service(trouble.error));
        }
        let settled = self.ask_alone(|| request(picture.clone()), || request(sound_picture())).await;
        if matches!(settled, Err(Refusal::Service(_))) {
            self.turns.function_faults.fetch_add(1, Ordering::Relaxed);
        }
        settled
    }

    /// Asks until that is settled, the function turns out to be away, or this picture seems to be what it fails at.
    async fn ask_beside_others(&self, request: impl Fn() -> RequestBuilder) -> Result<Settled, Trouble> {
        let (mut away, mut failures) = (0, 0);
        let mut wait = self.patience.backoff;
        loop {
            let trouble = match self.ask_once(request()).await {
                Ok(settled) => return Ok(settled),
                Err(trouble) => trouble,
            };
            match trouble.kind {
                Kind::Away => away += 1,
                Kind::Failed => failures += 1,
                Kind::Silent => return Err(trouble),
            }
            if away >= self.patience.attempts || failures >= FAILURES_BESIDE_OTHERS {
                return Err(trouble);
            }
            tracing::debug!("{}; trying again", trouble.error);
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    /// Asks for the picture and, when the function fails at it, for one that is sound: if it has an answer to that time
    /// and again, the picture is to blame, and otherwise the function.
    async fn ask_alone(&self, suspect: impl Fn() -> RequestBuilder, sound: impl Fn() -> RequestBuilder) -> Settled {
        let (mut attempts, mut proofs) = (0, 0);
        let mut wait = self.patience.backoff;
        loop {
            let trouble = match self.ask_once(suspect()).await {
                Ok(settled) => return settled,
                Err(trouble) => trouble,
            };
            match self.ask_once(sound()).await {
                Ok(Ok(_)) => proofs += u32::from(trouble.kind != Kind::Away),
                Ok(Err(_)) | Err(Trouble { kind: Kind::Silent, .. }) => return Err(Refusal::Service(trouble.error)),
                Err(_) => proofs = 0,
            }
            attempts += 1;
            if proofs >= PROOFS {
                return Err(Refusal::Failed(trouble.error));
            }
            if attempts >= self.patience.attempts.max(PROOFS) {
                return Err(Refusal::Service(trouble.error));
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    async fn ask_once(&self, request: RequestBuilder) -> Result<Settled, Trouble> {
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
        let error = self.trouble(gateway_code(status), format!("answered {status}{told}"), None);
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Err(Trouble { kind: Kind::Away, error }),
            status if status.is_server_error() => Err(Trouble { kind: Kind::Failed, error }),
            _ => Ok(Err(Refusal::Service(error))),
        }
    }

    fn transport(&self, error: reqwest::Error) -> Trouble {
        let (kind, code, problem) = if error.is_connect() {
            (Kind::Away, ErrorCode::Unavailable, "cannot be reached; is it running?".to_owned())
        } else if error.is_timeout() {
            let timeout = self.patience.timeout.as_secs_f32();
            (Kind::Silent, ErrorCode::Timeout, format!("did not answer within {timeout} s"))
        } else {
            (Kind::Failed, ErrorCode::BadGateway, "broke off its answer".to_owned())
        };
        Trouble { kind, error: self.trouble(code, problem, Some(error)) }
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
        let body = self.ask(picture, |picture| self.http.post(url.clone()).body(picture)).await?;
        serde_json::from_slice(&body).map_err(|e| self.strange(e))
    }

    async fn process(&self, picture: Bytes, spec: &PreprocessSpec) -> Result<Processed, Refusal> {
        let query = serde_json::to_value(spec).map_err(|e| self.strange(e))?;
        let query = ["width", "height", "fit", "filter", "background"].map(|key| {
            let value = &query[key];
            (key, value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        let request =
            |picture: Bytes| self.http.post(self.url.clone()).query(&query).header(ACCEPT, SAFETENSORS).body(picture);
        let body = self.ask(picture, request).await?;
        self.read_answer(&body, spec)
    }
}

/// A picture that every function in order has an answer to.
fn sound_picture() -> Bytes {
    let spec = PreprocessSpec::square(16);
    imaging::encode_png(&vec![128; spec.picture_bytes()], &spec).into()
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
