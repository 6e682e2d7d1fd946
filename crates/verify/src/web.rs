//! The web's REST, asked through the API server: it proxies requests to Services, so that no port need be open. Where it
//! cannot reach pods, as in clusters whose API server lives elsewhere, `kubectl` forwards a port.

use std::cell::OnceCell;

use api::{
    ErrorBody, ErrorCode, ErrorDetail,
    dataset::{DatasetManifest, Rejected},
    functions::Publication,
    train::RunStatus,
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, Result},
    kubectl::Door,
    run::Run,
    wait::Look,
};

/// The web of a run.
pub struct Web<'a> {
    run: &'a Run,
    /// Where the API server does not reach it.
    door: OnceCell<Door<'a>>,
}

/// Why there is no answer that says what was asked.
#[derive(Debug)]
pub enum NoAnswer {
    /// The web says so.
    Refused(ErrorDetail),
    /// It did not come to that; perhaps the next time.
    Away(String),
}

/// Where an upload stands, as far as a run reads it.
#[derive(Debug, Deserialize)]
pub struct Upload {
    /// Id of the upload.
    pub id: String,
    /// `working`, `succeeded` or `failed`.
    pub state: String,
    /// What is being done.
    pub stage: String,
    /// Units of the stage done.
    pub done: u64,
    /// Units of the stage in all.
    pub total: u64,
    /// Id of the data set that came out.
    pub dataset: Option<String>,
    /// Why none came out.
    pub error: Option<ErrorDetail>,
    /// Files that were left out.
    #[serde(default)]
    pub rejected: Vec<Rejected>,
}

/// A training run, as far as a run reads it.
#[derive(Debug, Deserialize)]
pub struct Training {
    /// Id of the training run.
    pub id: String,
    /// Where it stands.
    pub status: RunStatus,
    /// What keeps it from beginning.
    pub hindrance: Option<String>,
}

/// A model, as far as a run reads it.
#[derive(Debug, Deserialize)]
pub struct Model {
    /// Who gets which part of the requests.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// Versions on their way to a part.
    #[serde(default)]
    pub publications: Vec<Publication>,
}

/// A version's part of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Share {
    /// Version, from 1.
    pub version: u32,
    /// 1 to 100.
    pub percent: u32,
}

impl<'a> Web<'a> {
    /// Asks nothing yet.
    pub fn new(run: &'a Run) -> Self {
        Self { run, door: OnceCell::new() }
    }

    /// Finds a way to the web.
    ///
    /// # Errors
    /// If there is none
    pub async fn reach(&self) -> Result<()> {
        let direct = match self.ask::<Value>(Method::GET, "/health/live", None).await {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        self.run.teller.tell(&format!("  the API server does not reach the web ({direct}); forwarding a port"));
        self.door.get_or_init(|| Door::new(&self.run.kubectl, self.run.namespace(), "web"));
        let answered = self.ask::<Value>(Method::GET, "/health/live", None).await;
        answered.map(drop).map_err(|error| Failure::new(format!("the web cannot be reached: {direct}; {error}")))
    }

    /// Uploads a tar file.
    ///
    /// # Errors
    /// If the web does not take it
    pub async fn upload(&self, archive: Bytes) -> Result<Upload, NoAnswer> {
        self.ask(Method::POST, "/api/datasets?name=verify", Some(("application/x-tar", archive))).await
    }

    /// Where an upload stands.
    ///
    /// # Errors
    /// If the web does not tell
    pub async fn upload_state(&self, id: &str) -> Result<Upload, NoAnswer> {
        self.ask(Method::GET, &format!("/api/uploads/{id}"), None).await
    }

    /// What a data set is.
    ///
    /// # Errors
    /// If the web does not tell
    pub async fn dataset(&self, id: &str) -> Result<DatasetManifest, NoAnswer> {
        self.ask(Method::GET, &format!("/api/datasets/{id}"), None).await
    }

    /// Begins to train.
    ///
    /// # Errors
    /// If the web refuses
    pub async fn train(&self, dataset: &str, seed: u64) -> Result<Training, NoAnswer> {
        let wish = json!({"dataset": dataset, "hyperparameters": {"seed": seed, "budget_seconds": 20}});
        self.ask(Method::POST, "/api/runs", Some(("application/json", wish.to_string().into()))).await
    }

    /// Where training stands.
    ///
    /// # Errors
    /// If the web does not tell
    pub async fn training(&self, id: &str) -> Result<Training, NoAnswer> {
        self.ask(Method::GET, &format!("/api/runs/{id}"), None).await
    }

    /// Who gets which part of a model's requests.
    ///
    /// # Errors
    /// If the web does not tell
    pub async fn model(&self, name: &str) -> Result<Model, NoAnswer> {
        self.ask(Method::GET, &format!("/api/models/{name}"), None).await
    }

    /// Gives a version a part of the requests.
    ///
    /// # Errors
    /// If the web refuses
    pub async fn publish(&self, name: &str, version: u32, percent: u32) -> Result<(), NoAnswer> {
        let wish = json!({"version": version, "percent": percent}).to_string();
        let path = format!("/api/models/{name}/current");
        self.ask::<Value>(Method::PUT, &path, Some(("application/json", wish.into()))).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<T, NoAnswer> {
        let away = |error: String| NoAnswer::Away(error);
        let base = match self.door.get() {
            Some(door) => Some(door.base().await.map_err(|failure| away(failure.says))?),
            None => None,
        };
        let place = format!("/api/v1/namespaces/{}/services/web:80/proxy", self.run.namespace());
        let mut request = Request::builder().method(method).uri(format!("{}{path}", base.as_deref().unwrap_or(&place)));
        if let Some((kind, _)) = &body {
            request = request.header(header::CONTENT_TYPE, *kind);
        }
        let body = body.map(|(_, bytes)| bytes).unwrap_or_default();
        let (status, bytes) = if base.is_some() {
            let request = request.body(body).map_err(|error| away(error.to_string()))?;
            let answer = self.run.http.send(request, self.run.options.patience.answer).await.map_err(away)?;
            (answer.status(), answer.into_body())
        } else {
            let request = request.body(Body::from(body.to_vec())).map_err(|error| away(error.to_string()))?;
            let answer = self.run.cluster.client().send(request).await.map_err(|error| away(error.to_string()))?;
            let status = answer.status();
            let bytes = answer.into_body().collect().await.map_err(|error| away(error.to_string()))?;
            (status, bytes.to_bytes())
        };
        read(status, &bytes)
    }
}

fn read<T: DeserializeOwned>(status: StatusCode, bytes: &[u8]) -> Result<T, NoAnswer> {
    if status.is_success() {
        return serde_json::from_slice(bytes)
            .map_err(|error| NoAnswer::Away(format!("the web's answer is not what it should be ({error})")));
    }
    if let Ok(ErrorBody { error }) = serde_json::from_slice(bytes) {
        return Err(NoAnswer::Refused(error));
    }
    // As the API server says that it cannot reach a pod.
    let said = serde_json::from_slice::<Value>(bytes).ok().and_then(|said| said["message"].as_str().map(str::to_owned));
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(bytes).chars().take(300).collect());
    Err(NoAnswer::Away(format!("{status}: {}", said.trim())))
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(detail) => write!(f, "the web says: {}", detail.message),
            Self::Away(why) => write!(f, "the web does not answer: {why}"),
        }
    }
}

impl NoAnswer {
    /// What it means for whoever waits: what may be otherwise in a moment is asked again.
    ///
    /// # Errors
    /// The rest
    pub fn look<T>(self) -> Result<Look<T>> {
        let is_passing = match &self {
            Self::Away(_) => true,
            Self::Refused(detail) => matches!(
                detail.code,
                ErrorCode::Unavailable | ErrorCode::BadGateway | ErrorCode::Timeout | ErrorCode::Conflict
            ),
        };
        if is_passing { Ok(Look::Wait(self.to_string())) } else { Err(self.into()) }
    }
}

impl From<NoAnswer> for Failure {
    fn from(no_answer: NoAnswer) -> Self {
        Self::new(no_answer.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn what_the_web_refuses_and_what_never_reached_it_are_told_apart() {
        let refused = read::<Value>(StatusCode::CONFLICT, br#"{"error":{"code":"conflict","message":"not now"}}"#);
        assert_eq!(refused.unwrap_err().to_string(), "the web says: not now");
        let status = br#"{"kind":"Status","message":"no endpoints available for service \"web\""}"#;
        let away = read::<Value>(StatusCode::SERVICE_UNAVAILABLE, status).unwrap_err();
        let told = "the web does not answer: 503 Service Unavailable: no endpoints available for service \"web\"";
        assert_eq!(away.to_string(), told);
        assert!(matches!(away.look::<Value>(), Ok(Look::Wait(_))));
        assert!(matches!(read::<Share>(StatusCode::OK, b"<html>").unwrap_err(), NoAnswer::Away(_)));
    }

    #[test]
    fn only_what_may_be_otherwise_in_a_moment_is_asked_again() {
        for (code, again) in [
            (ErrorCode::Unavailable, true),
            (ErrorCode::Conflict, true),
            (ErrorCode::Unprocessable, false),
            (ErrorCode::NotFound, false),
        ] {
            let refused = NoAnswer::Refused(ErrorDetail::new(code, "not now"));
            assert_eq!(refused.look::<Value>().is_ok(), again, "{code:?}");
        }
    }
}
