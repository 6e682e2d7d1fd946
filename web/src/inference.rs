//! The inference function, asked over HTTP in bounded groups.
//!
//! A picture that the function chokes on is asked for again alone, so that it spoils nobody else's answer; a function
//! that is away or has no model is an error of the whole request.

use std::time::Duration;

use api::{
    ErrorBody, ErrorCode, ErrorDetail,
    predict::{FunctionInfo, PredictRequest, Prediction},
    preprocess::EncodedImage,
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::StatusCode;
use reqwest::Url;

use crate::error::{Result, WebError, chain};

/// Pictures in one request to the function.
const GROUP_PICTURES: usize = 8;

/// Bytes of pictures in one request to the function; a single larger picture goes alone.
const GROUP_BYTES: usize = 8 << 20;

/// Requests to the function at the same time, for one of ours.
const GROUPS_AT_ONCE: usize = 2;

/// How long the function may take for one group.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A picture file as it arrived.
#[derive(Clone, Debug)]
pub struct PictureFile {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its bytes, or why there are none.
    pub bytes: Result<Bytes, ErrorDetail>,
}

/// What answers should hold.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Whether each answer repeats its picture as a `data:` URL.
    pub include_images: bool,
    /// How many labels to rank.
    pub top_k: Option<usize>,
}

/// The inference function at a URL.
#[derive(Clone, Debug)]
pub struct Inference {
    url: Url,
    http: reqwest::Client,
}

/// What one request to the function came to.
enum Answer {
    /// One entry per picture.
    Predictions(Vec<Prediction>),
    /// It failed on this group; another group may do.
    Choked(ErrorDetail),
}

impl Inference {
    /// The function whose base is `url`.
    pub fn new(url: Url, http: reqwest::Client) -> Self {
        Self { url, http }
    }

    /// Asks for every picture; one entry per picture, in order.
    ///
    /// # Errors
    /// If the function is away or has no model. What is wrong with one picture is in its entry.
    pub async fn predict(&self, pictures: Vec<PictureFile>, wanted: Wanted) -> Result<Vec<Prediction>> {
        let groups: Vec<_> = groups(pictures).into_iter().map(|group| self.ask_group(group, wanted)).collect();
        let answers: Vec<Vec<Prediction>> = stream::iter(groups).buffered(GROUPS_AT_ONCE).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Whether the function is there and has no model.
    pub async fn is_without_model(&self) -> bool {
        let told =
            async { self.http.get(self.url.clone()).timeout(TIMEOUT).send().await?.json::<FunctionInfo>().await };
        told.await.is_ok_and(|info| info.model.is_none())
    }

    async fn ask_group(&self, group: Vec<PictureFile>, wanted: Wanted) -> Result<Vec<Prediction>> {
        let readable: Vec<_> = group.iter().filter_map(|file| Some((file, file.bytes.as_ref().ok()?))).collect();
        let mut answers =
            if readable.is_empty() { vec![] } else { self.ask_readable(&readable, wanted).await? }.into_iter();
        let entry = |file: &PictureFile| match &file.bytes {
            Ok(_) => answers.next().unwrap_or_default(),
            Err(detail) => failed(file, detail.clone()),
        };
        Ok(group.iter().map(entry).collect())
    }

    async fn ask_readable(&self, files: &[(&PictureFile, &Bytes)], wanted: Wanted) -> Result<Vec<Prediction>> {
        match self.ask(files, wanted).await? {
            Answer::Predictions(predictions) => Ok(predictions),
            Answer::Choked(detail) if files.len() == 1 => Ok(vec![failed(files[0].0, detail)]),
            Answer::Choked(_) => {
                let mut predictions = Vec::with_capacity(files.len());
                for file in files {
                    match self.ask(std::slice::from_ref(file), wanted).await? {
                        Answer::Predictions(alone) => predictions.extend(alone),
                        Answer::Choked(detail) => predictions.push(failed(file.0, detail)),
                    }
                }
                Ok(predictions)
            }
        }
    }

    async fn ask(&self, files: &[(&PictureFile, &Bytes)], wanted: Wanted) -> Result<Answer> {
        let images = files.iter().map(|(file, bytes)| EncodedImage::new(file.name.clone(), bytes)).collect();
        let request = PredictRequest { images, include_images: wanted.include_images, top_k: wanted.top_k };
        let url = self
            .url
            .join("predict")
            .map_err(|_| self.trouble(ErrorCode::Internal, "has a URL that cannot be used", None))?;
        let response = match self.http.post(url).timeout(TIMEOUT).json(&request).send().await {
            Ok(response) => response,
            Err(e) => return self.broken(e),
        };
        let status = response.status();
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(e) => return self.broken(e),
        };
        if status == StatusCode::OK {
            let predictions: Option<Vec<Prediction>> = serde_json::from_slice(&body).ok();
            return match predictions.filter(|predictions| predictions.len() == files.len()) {
                Some(predictions) => Ok(Answer::Predictions(predictions)),
                None => Err(self.trouble(
                    ErrorCode::BadGateway,
                    "answered something that is not one prediction per picture",
                    None,
                )),
            };
        }
        let told = serde_json::from_slice::<ErrorBody>(&body).ok().map(|body| body.error);
        match (status, told) {
            (StatusCode::SERVICE_UNAVAILABLE, Some(detail)) => {
                Err(WebError::Function { function: "inference", detail, source: None })
            }
            (StatusCode::SERVICE_UNAVAILABLE, None) => {
                Err(self.trouble(ErrorCode::Unavailable, "has no capacity; try again", None))
            }
            (StatusCode::NOT_FOUND, _) => {
                Err(self.trouble(ErrorCode::BadGateway, "does not know /predict; is the URL right?", None))
            }
            (status, Some(detail)) if status.is_client_error() => Ok(Answer::Choked(detail)),
            (status, _) => {
                let message = format!("the inference function answered {} for this picture", status.as_u16());
                Ok(Answer::Choked(ErrorDetail::new(ErrorCode::BadGateway, message)))
            }
        }
    }

    /// No whole answer came: the function is away, or broke down over these pictures.
    fn broken(&self, error: reqwest::Error) -> Result<Answer> {
        if error.is_connect() {
            let problem = "cannot be reached; start it, or tell where it is with INFERENCE_URL";
            return Err(self.trouble(ErrorCode::Unavailable, problem, Some(error)));
        }
        tracing::warn!(error = chain(&error), "the inference function broke off");
        let detail = if error.is_timeout() {
            ErrorDetail::new(
                ErrorCode::Timeout,
                format!("the inference function did not answer within {} s", TIMEOUT.as_secs()),
            )
        } else {
            ErrorDetail::new(ErrorCode::BadGateway, "the inference function broke off its answer")
        };
        Ok(Answer::Choked(detail))
    }

    fn trouble(&self, code: ErrorCode, problem: &str, source: Option<reqwest::Error>) -> WebError {
        let detail = ErrorDetail::new(code, format!("the inference function at {} {problem}", self.url));
        WebError::Function { function: "inference", detail, source }
    }
}

fn failed(file: &PictureFile, error: ErrorDetail) -> Prediction {
    Prediction { name: file.name.clone(), error: Some(error), ..Prediction::default() }
}

/// Neighbours together, until a group has enough pictures or bytes.
fn groups(pictures: Vec<PictureFile>) -> Vec<Vec<PictureFile>> {
    let mut groups: Vec<Vec<PictureFile>> = vec![];
    let mut bytes = 0;
    for picture in pictures {
        let size = picture.bytes.as_ref().map_or(0, Bytes::len);
        match groups.last_mut() {
            Some(group) if group.len() < GROUP_PICTURES && bytes + size <= GROUP_BYTES => {
                bytes += size;
                group.push(picture);
            }
            _ => {
                bytes = size;
                groups.push(vec![picture]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(name: &str, size: usize) -> PictureFile {
        PictureFile { name: Some(name.into()), bytes: Ok(Bytes::from(vec![0; size])) }
    }

    #[test]
    fn groups_keep_the_order_and_stay_within_bounds() {
        let sizes = [1, GROUP_BYTES, 1, 1, 2 * GROUP_BYTES, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        let pictures = sizes.iter().enumerate().map(|(n, size)| picture(&n.to_string(), *size)).collect();
        let groups = groups(pictures);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2, 1, 8, 1]);
        let names = groups.iter().flatten().map(|p| p.name.clone().expect("all have names")).collect::<Vec<_>>();
        assert_eq!(names, (0..14).map(|n: usize| n.to_string()).collect::<Vec<_>>());
    }
}
