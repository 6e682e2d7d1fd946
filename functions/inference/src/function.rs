//! The function's behaviour: routes, the two kinds of prediction request, errors, and the model held in memory.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use api::{
    ErrorBody, ErrorCode, ErrorDetail,
    model::ModelManifest,
    predict::{DEFAULT_TOP_K, FunctionInfo, ModelInfo, PredictRequest, Prediction},
};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE},
};
use predictor::{Answer, Predictor, PredictorError};
use serde::Serialize;

use crate::query::Wish;

/// Longest body that is read: the largest picture that `imaging` takes, as base64, and some room.
pub const MAX_BODY_BYTES: usize = 48 << 20;

/// Most pictures in one JSON request.
pub const MAX_IMAGES: usize = 256;

/// Spin says here what is left of the path after the component's route.
const PATH_INFO: &str = "spin-path-info";

const ROUTES: [&str; 4] = ["GET /", "GET /health/live", "GET /health/ready", "POST /predict"];

/// The inference function over one model folder.
///
/// The model is loaded when it is first needed and then kept. A folder without a usable model is not remembered: the
/// next request looks again.
#[derive(Debug)]
pub struct Function {
    model_dir: PathBuf,
    read: fn(&Path) -> io::Result<Vec<u8>>,
    limits: imaging::Limits,
    predictor: OnceLock<Predictor>,
}

impl Function {
    /// A function over this folder, which need not exist yet. Reads nothing.
    pub fn new(model_dir: PathBuf) -> Self {
        Self::with_reader(model_dir, |path| std::fs::read(path))
    }

    /// As [`Function::new`], with the folder's files read by this function.
    pub fn with_reader(model_dir: PathBuf, read: fn(&Path) -> io::Result<Vec<u8>>) -> Self {
        Self { model_dir, read, limits: imaging::Limits::default(), predictor: OnceLock::new() }
    }

    /// The model, loaded now if it was not before.
    ///
    /// # Errors
    /// As [`Predictor::load`]
    pub fn load(&self) -> Result<&Predictor, PredictorError> {
        match self.predictor.get() {
            Some(predictor) => Ok(predictor),
            None => {
                let predictor = Predictor::load_with(&self.model_dir, self.read)?;
                Ok(self.predictor.get_or_init(|| predictor))
            }
        }
    }

    /// Loads the model and runs it once, so that a snapshot taken now answers without delay. Without a model there is
    /// nothing to do.
    ///
    /// # Errors
    /// As [`Predictor::load`] and [`Predictor::warm_up`]
    pub fn initialize(&self) -> Result<(), PredictorError> {
        match self.load() {
            Ok(predictor) => predictor.warm_up(),
            Err(PredictorError::NoModel { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Answers one request whose body is complete.
    pub fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        match self.route(request) {
            Ok(response) => response,
            Err(error) => error.into_response(),
        }
    }

    /// The answer to a body longer than [`MAX_BODY_BYTES`].
    pub fn refuse_long_body() -> Response<Bytes> {
        let message = format!("the body is longer than {MAX_BODY_BYTES} bytes; send fewer or smaller pictures at once");
        Refusal::from(ErrorDetail::new(ErrorCode::TooLarge, message)).into_response()
    }

    /// The answer to a body that broke off.
    pub fn refuse_broken_body(cause: &(dyn Error + 'static)) -> Response<Bytes> {
        log("cannot read a body", cause);
        let message = "the body broke off before its end; send it again";
        Refusal::from(ErrorDetail::new(ErrorCode::BadRequest, message)).into_response()
    }

    fn route(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, Refusal> {
        let path = request.headers().get(PATH_INFO).and_then(|path| path.to_str().ok());
        let path = path.unwrap_or(request.uri().path()).trim_end_matches('/');
        match (path, request.method()) {
            ("", &Method::GET) => Ok(json(StatusCode::OK, &self.info())),
            ("" | "/predict", &Method::POST) => Ok(self.predict(request)?),
            ("/health/live", &Method::GET) => Ok(json(StatusCode::OK, &serde_json::json!({"status": "live"}))),
            ("/health/ready", &Method::GET) => Ok(json(StatusCode::OK, &model_info(self.model()?.manifest()))),
            ("", _) => Err(Refusal::method("GET, POST")),
            ("/predict", _) => Err(Refusal::method("POST")),
            ("/health/live" | "/health/ready", _) => Err(Refusal::method("GET")),
            (path, _) => {
                let message = format!("there is no {path:?} here; try one of: {}", ROUTES.join(", "));
                Err(ErrorDetail::new(ErrorCode::NotFound, message).into())
            }
        }
    }

    fn info(&self) -> FunctionInfo {
        FunctionInfo {
            function: concat!("fovea inference ", env!("CARGO_PKG_VERSION")).to_owned(),
            routes: ROUTES.map(str::to_owned).to_vec(),
            model: self.model().ok().map(|predictor| model_info(predictor.manifest())),
        }
    }

    /// The model, or what a client is told while there is none; the cause goes to the log.
    fn model(&self) -> Result<&Predictor, ErrorDetail> {
        self.load().map_err(|error| {
            let message = match &error {
                PredictorError::NoModel { .. } => {
                    "no model has been published yet: train one on the web page, then ask again"
                }
                _ => {
                    log("cannot load the model", &error);
                    "the published model cannot be loaded, and this function's log says why: publish another version"
                }
            };
            ErrorDetail::new(ErrorCode::Unavailable, message)
        })
    }

    fn predict(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, ErrorDetail> {
        let mut spent = Spent::default();
        let mut response = if is_json(request) {
            json(StatusCode::OK, &self.predict_batch(request.body(), &mut spent)?)
        } else {
            let wish = Wish::from_query(request.uri().query().unwrap_or_default())?;
            json(StatusCode::OK, &self.predict_one(request.body(), wish, &mut spent)?)
        };
        response.headers_mut().insert("server-timing", spent.header());
        Ok(response)
    }

    fn predict_batch(&self, body: &[u8], spent: &mut Spent) -> Result<Vec<Prediction>, ErrorDetail> {
        let PredictRequest { images, include_images, top_k } = serde_json::from_slice(body).map_err(|e| {
            let message = format!("the body is not as expected: {e}; send {{\"images\":[{{\"image\":\"<base64>\"}}]}}");
            ErrorDetail::new(ErrorCode::BadRequest, message)
        })?;
        if images.len() > MAX_IMAGES {
            let message = format!("got {} pictures; at most {MAX_IMAGES} fit one request: send several", images.len());
            return Err(ErrorDetail::new(ErrorCode::TooLarge, message));
        }
        let wish = Wish { top_k: top_k.unwrap_or(DEFAULT_TOP_K), include_image: include_images };
        let predictor = self.model()?;
        let entries = images.into_iter().map(|image| {
            let bytes = image.decode();
            let outcome = bytes.as_ref().map_err(ErrorDetail::clone);
            let outcome = outcome.and_then(|bytes| self.classify(predictor, bytes, wish, spent));
            let mut entry = outcome.unwrap_or_else(|error| Prediction {
                // A picture that failed is shown too where it is recognised: the page puts the error beside it.
                image_url: bytes.ok().filter(|_| wish.include_image).and_then(|bytes| data_url(&bytes)),
                error: Some(error),
                ..Prediction::default()
            });
            entry.name = image.name;
            entry
        });
        Ok(entries.collect())
    }

    fn predict_one(&self, body: &[u8], wish: Wish, spent: &mut Spent) -> Result<Prediction, ErrorDetail> {
        if body.trim_ascii_start().starts_with(b"{") {
            let message = "the body looks like JSON; send it with Content-Type: application/json";
            return Err(ErrorDetail::new(ErrorCode::BadRequest, message));
        }
        self.classify(self.model()?, body, wish, spent)
    }

    fn classify(
        &self,
        predictor: &Predictor,
        bytes: &[u8],
        wish: Wish,
        spent: &mut Spent,
    ) -> Result<Prediction, ErrorDetail> {
        let start = Instant::now();
        let picture = imaging::process(bytes, &predictor.manifest().preprocess, &self.limits).map_err(|e| e.detail());
        spent.decode += start.elapsed();
        let picture = picture?;

        let start = Instant::now();
        let answer = predictor.predict(&picture.pixels, wish.top_k.max(1));
        spent.inference += start.elapsed();
        let Answer { mut ranked, unsure } = answer.map_err(|error| {
            log("cannot classify a picture", &error);
            ErrorDetail::new(ErrorCode::Internal, "the model fails on this picture, and this function's log says why")
        })?;

        let best = ranked.first().cloned();
        ranked.truncate(wish.top_k);
        Ok(Prediction {
            name: None,
            image_url: wish.include_image.then(|| picture.facts.format.data_url(bytes)),
            prediction: best.as_ref().map(|best| best.label.clone()),
            confidence: best.map(|best| best.probability),
            unsure,
            top_k: ranked,
            error: None,
        })
    }
}

/// Where a prediction's time went, over all of a request's pictures.
#[derive(Default)]
struct Spent {
    decode: Duration,
    inference: Duration,
}

impl Spent {
    fn header(&self) -> HeaderValue {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let text = format!("decode;dur={:.3}, inference;dur={:.3}", ms(self.decode), ms(self.inference));
        HeaderValue::from_str(&text).expect("digits and ASCII words are a header value")
    }
}

/// An error on its way to the client.
struct Refusal {
    detail: ErrorDetail,
    allow: Option<&'static str>,
}

impl Refusal {
    fn method(allow: &'static str) -> Self {
        let detail = ErrorDetail::new(ErrorCode::MethodNotAllowed, format!("this route takes {allow} only"));
        Self { detail, allow: Some(allow) }
    }

    fn into_response(self) -> Response<Bytes> {
        let status = StatusCode::from_u16(self.detail.code.status()).expect("every code has an HTTP status");
        let mut response = json(status, &ErrorBody::from(self.detail));
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<ErrorDetail> for Refusal {
    fn from(detail: ErrorDetail) -> Self {
        Self { detail, allow: None }
    }
}

fn model_info(manifest: &ModelManifest) -> ModelInfo {
    ModelInfo { name: manifest.name.clone(), version: manifest.version, labels: manifest.labels.clone() }
}

fn data_url(bytes: &[u8]) -> Option<String> {
    imaging::sniff(bytes).map(|format| format.data_url(bytes))
}

fn is_json(request: &Request<Bytes>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    let body = serde_json::to_vec(body).expect("wire types are plain data");
    // Hosts cannot see a component's body length and would send the answer in chunks.
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn log(what: &str, error: &(dyn Error + 'static)) {
    eprintln!("{what}: {}", chain(error));
}

/// An error and all of its causes on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
