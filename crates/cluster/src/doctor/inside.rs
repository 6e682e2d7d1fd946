//! What only a pod can see, asked of the web service through the API server: whether functions answer where the service
//! calls them, whether the Kubernetes API answers it, whether the models in use are whole, and what time it is there.

use api::{
    ErrorBody,
    diagnosis::{Answering, Diagnosis, InUse},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::HOST};
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::{client::Body, core::Status};

use super::{
    Doctor, Finding, Outcome,
    platform::{CLOCK, skewed},
};
use crate::error::{Action, Result};

const CALLS: &str = "function URLs";
const MODELS: &str = "models";

/// Whether the Kubernetes API answers the web service: without it nothing is trained and nothing published.
pub const API_ACCESS: &str = "API access";

/// A name under which every web service lives.
const ANY_HOST: &str = "localhost";

/// A function that has not answered by then, in milliseconds, was still waking up: without an artefact its pod bakes first.
const STILL_WAKING: f64 = 20_000.0;

/// How often functions that wake up are called in all. The web service waits for each 25 s, and nothing is lost in between.
const CALLS_WHILE_WAKING: u32 = 4;

impl Doctor {
    /// What the web service sees.
    pub(super) async fn inside(&self) -> Vec<Finding> {
        let namespace = self.namespace();
        let before = Timestamp::now();
        let diagnosis = match self.diagnosis().await {
            Ok(diagnosis) => diagnosis,
            Err(error) => {
                let says = format!("the web service could not be asked: {error}");
                let mend = Some(format!("kubectl -n {namespace} logs deployment/web"));
                let unknown =
                    |check| Finding { check, outcome: Outcome::Unknown, says: says.clone(), mend: mend.clone() };
                return vec![unknown(CALLS), unknown(MODELS)];
            }
        };
        // It tells its time when all else is done.
        let mut findings: Vec<_> =
            Timestamp::from_millisecond(diagnosis.at_unix_ms).into_iter().map(|told| clock(before, told)).collect();
        findings.extend(diagnosis.functions.iter().map(|function| answering(namespace, function)));
        if let Some(problem) = diagnosis.cluster {
            let says = format!("the web service asks the Kubernetes API in vain: {problem}");
            let mend = format!(
                "kubectl -n default get endpointslices -l kubernetes.io/service-name=kubernetes, and see that the policy \
                 web allows these addresses and ports: kubectl -n {namespace} edit networkpolicy web; where Cilium \
                 enforces policies, kubectl apply -f knative/components/cilium/network.yaml"
            );
            findings.push(Finding::failed(API_ACCESS, says, mend));
        }
        if let Some(problem) = diagnosis.volumes {
            let mend = format!("kubectl -n {namespace} describe pod -l app.kubernetes.io/name=web");
            findings.push(Finding::failed("volumes", problem, mend));
        }
        if diagnosis.models.is_empty() {
            let mend = format!(
                "kubectl -n {namespace} port-forward service/web 8080:80, then train one at http://127.0.0.1:8080"
            );
            findings.push(Finding::warning(MODELS, "there is no model yet", mend));
        }
        findings.extend(diagnosis.models.iter().map(|model| in_use(namespace, model)));
        findings
    }

    /// Asks again while a function wakes up.
    async fn diagnosis(&self) -> Result<Diagnosis> {
        let is_waking = |function: &Answering| function.problem.is_some() && function.milliseconds >= STILL_WAKING;
        for _ in 1..CALLS_WHILE_WAKING {
            let diagnosis = self.ask_web().await?;
            if !diagnosis.functions.iter().any(is_waking) {
                return Ok(diagnosis);
            }
        }
        self.ask_web().await
    }

    async fn ask_web(&self) -> Result<Diagnosis> {
        let namespace = self.namespace();
        let get = Action { verb: "get", resource: "services/proxy", group: "", name: Some("web:80"), namespace };
        let mut answer = self.ask_web_as(None).await.map_err(|error| get.failed(error))?;
        if answer.status() == StatusCode::FORBIDDEN && serde_json::from_slice::<ErrorBody>(answer.body()).is_ok() {
            // The API server passes on the name by which it was called itself, and the service need not know that.
            answer = self.ask_web_as(Some(ANY_HOST)).await.map_err(|error| get.failed(error))?;
        }
        let error = match serde_json::from_slice(answer.body()) {
            Ok(diagnosis) if answer.status().is_success() => return Ok(diagnosis),
            Err(error) if answer.status().is_success() => kube::Error::SerdeError(error),
            _ => refusal(&answer),
        };
        Err(get.failed(error))
    }

    async fn ask_web_as(&self, host: Option<&'static str>) -> Result<Response<Bytes>, kube::Error> {
        let path = format!("/api/v1/namespaces/{}/services/web:80/proxy/api/diagnosis", self.namespace());
        let mut request = Request::get(path);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let request = request.body(Body::empty()).map_err(kube::Error::HttpError)?;
        let (head, body) = self.cluster.client().send(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}

/// What an answer says that is none: the API server's own words, the web service's, or whatever came.
fn refusal(answer: &Response<Bytes>) -> kube::Error {
    let code = answer.status().as_u16();
    let status = serde_json::from_slice::<Status>(answer.body()).ok().filter(|status| status.code == code);
    let said = serde_json::from_slice::<ErrorBody>(answer.body()).map(|body| body.error.message);
    let said = || said.unwrap_or_else(|_| String::from_utf8_lossy(answer.body()).trim().chars().take(300).collect());
    let status = status.unwrap_or_else(|| Status::failure(&said(), "").with_code(code));
    kube::Error::Api(status.boxed())
}

fn clock(before: Timestamp, told: Timestamp) -> Finding {
    let after = Timestamp::now();
    // Between the request and the answer it was right at some time.
    let skew = if told < before {
        told.duration_since(before)
    } else if told > after {
        told.duration_since(after)
    } else {
        return Finding::ok(CLOCK, "the web service's and this machine's agree");
    };
    skewed("the web service", skew)
}

fn answering(namespace: &str, function: &Answering) -> Finding {
    let Answering { name, url, milliseconds, problem } = function;
    match problem {
        None => Finding::ok(CALLS, format!("{name} answers at {url}, in {milliseconds:.0} ms")),
        Some(problem) => {
            let mend = format!(
                "kubectl -n {namespace} get ksvc {name}; kubectl -n {namespace} get configmap app-config -o yaml"
            );
            Finding::failed(CALLS, format!("{name} does not answer at {url}: {problem}"), mend)
        }
    }
}

fn in_use(namespace: &str, model: &InUse) -> Finding {
    let InUse { name, version, problem } = model;
    match problem {
        None => Finding::ok(MODELS, format!("{name} v{version} is as its manifest says")),
        Some(problem) => {
            let mend = format!(
                "fovea publish {name} <another version>; then remove v{version} from the volume of claim models in {namespace}"
            );
            Finding::failed(MODELS, format!("{name} v{version} is damaged: {problem}"), mend)
        }
    }
}
