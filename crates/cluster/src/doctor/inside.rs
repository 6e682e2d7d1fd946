//! What only a pod can see, asked of the web service through the API server: whether functions answer where the service
//! calls them, whether the models in use are whole, and what time it is there.

use api::diagnosis::{Answering, Diagnosis, InUse};
use http::Request;
use jiff::Timestamp;

use super::{
    Doctor, Finding, Outcome,
    platform::{CLOCK, skewed},
};
use crate::error::{Action, ClusterError, Result};

const CALLS: &str = "function URLs";
const MODELS: &str = "models";

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

    async fn diagnosis(&self) -> Result<Diagnosis> {
        let namespace = self.namespace();
        let path = format!("/api/v1/namespaces/{namespace}/services/web:80/proxy/api/diagnosis");
        let get = Action { verb: "get", resource: "services/proxy", group: "", name: Some("web:80"), namespace };
        let request = Request::get(path).body(vec![]).map_err(|error| ClusterError::Unfit {
            what: format!("the namespace {namespace}"),
            problem: format!("cannot be part of an address ({error})"),
        })?;
        self.cluster.client().request(request).await.map_err(|error| get.failed(error))
    }
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
