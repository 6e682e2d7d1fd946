//! A cluster with Knative and Kourier, and the controllers that make of manifests what runs.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    rc::Rc,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use clap::Parser;
use serde_json::{Value, json};
use tokio::time::Instant;
use verify::{kubectl::Kubectl, options::Options, report::Report, run::Run, wait::Teller};

use crate::{
    foundations::foundations,
    gateway::FakeGateway,
    refusing,
    server::{Objects, Server},
    web,
};

pub const NAMESPACE: &str = "other";
pub const RUN: &str = "abc123";
pub const NAMESPACES: &str = "/api/v1/namespaces";
pub const HOST: &str = "inference.other.example.com";

/// How long things take.
pub const WEB_STARTS: Duration = Duration::from_secs(20);
pub const FUNCTIONS_START: Duration = Duration::from_secs(45);
/// A further node, longer than anything may stand in the way.
pub const NODE_COMES: Duration = Duration::from_secs(240);
pub const TRAINING: Duration = Duration::from_secs(30);
pub const BAKING: Duration = Duration::from_secs(25);
/// Knative's stable window and grace period.
pub const IDLE: Duration = Duration::from_secs(90);

pub fn inside(group: &str, resource: &str) -> String {
    let root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}") };
    format!("{root}/namespaces/{NAMESPACE}/{resource}")
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    TakesEveryManifest,
    TrainerOutOfMemory,
    NeverAtZero,
    RefusesInBurst,
    SplitsEvenly,
    BakingFails,
    NeverScalesOut,
    NoSuchImage,
    StaysAfterRollBack,
    WebCrashes,
    NoDigest,
    NoRoomAtFirst,
    NoVolume,
    StumblesAtSplits,
    WebCutOff,
}

#[derive(Default)]
pub struct State {
    pub fault: Option<Fault>,
    pub applied: Option<Instant>,
    /// Every function's pods, as its requests have made them.
    pub scales: BTreeMap<&'static str, Scale>,
    /// Training runs and when each began.
    pub runs: Vec<(String, Instant)>,
    /// When requests are split how.
    pub splits: Vec<(Instant, Vec<(u32, u32)>)>,
    pub uploads: Vec<(Instant, Vec<u8>)>,
    pub predictions: u32,
    /// The split that requests have met.
    pub met: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Default)]
pub struct Scale {
    pub pods: usize,
    pub in_flight: usize,
    pub busy_since: Option<Instant>,
    pub used: Option<Instant>,
}

impl State {
    pub fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// How requests are split now.
    pub fn split(&self) -> Vec<(u32, u32)> {
        let past = self.splits.iter().rev().find(|(from, _)| *from <= Instant::now());
        past.map(|(_, split)| split.clone()).unwrap_or_default()
    }

    /// Versions that have come out of training.
    pub fn versions(&self) -> u32 {
        self.runs.iter().filter(|(_, began)| began.elapsed() >= TRAINING).count() as u32
    }

    /// What the autoscaler has made of it by now.
    pub fn scale(&mut self, function: &'static str) -> &mut Scale {
        let (stays, grows) = (self.has(Fault::NeverAtZero), !self.has(Fault::NeverScalesOut));
        let scale = self.scales.entry(function).or_default();
        let idle = scale.in_flight == 0 && scale.used.is_some_and(|used| used.elapsed() >= IDLE);
        if idle && !stays {
            scale.pods = 0;
        }
        let is_long_busy = scale.busy_since.is_some_and(|since| since.elapsed() >= Duration::from_secs(4));
        if is_long_busy && grows {
            scale.pods = 4;
        }
        scale
    }

    /// A request begins or a function is otherwise awake.
    pub fn wake(&mut self, function: &'static str) {
        let scale = self.scale(function);
        scale.pods = scale.pods.max(1);
        scale.used = Some(Instant::now());
    }
}

pub struct World {
    pub server: Server,
    pub state: Arc<Mutex<State>>,
    pub told: Rc<RefCell<Vec<String>>>,
}

impl World {
    /// A cluster that has all that a run needs, and where this goes wrong.
    pub fn new(fault: impl Into<Option<Fault>>) -> Self {
        let server = Server::in_process();
        let state = Arc::new(Mutex::new(State { fault: fault.into(), ..State::default() }));
        foundations(&server);
        refusing::admission(&server, state.clone());
        web::serve(&server, state.clone());
        let shared = state.clone();
        server.on("/", move |objects, _| {
            reconcile(objects, &mut shared.lock().unwrap());
            None
        });
        Self { server, state, told: Rc::default() }
    }

    /// A run in it with these flags.
    pub fn run(&self, flags: &[&str]) -> Run {
        let mut given = vec!["fovea-verify-cluster", "--namespace", NAMESPACE];
        if !flags.contains(&"--registry") {
            given.extend(["--registry", "registry.example.com"]);
        }
        let told = self.told.clone();
        Run {
            id: RUN.to_owned(),
            cluster: self.server.cluster_in_process(NAMESPACE),
            options: Options::try_parse_from(given.iter().chain(flags)).unwrap(),
            rendered: rendered(),
            kubectl: Kubectl::program("/nowhere/kubectl", Some(Path::new("k.yaml")), None),
            http: Box::new(FakeGateway::new(self.state.clone())),
            teller: Teller::new(move |line| told.borrow_mut().push(line.to_owned())),
        }
    }

    pub async fn verify(&self, flags: &[&str]) -> Report {
        verify::verify(&self.run(flags), std::future::pending()).await
    }

    /// Whether the run's namespace is there, and anything in it.
    pub fn is_empty(&self) -> bool {
        let inside = [
            inside("", "pods"),
            inside("", "secrets"),
            inside("", "configmaps"),
            inside("", "persistentvolumeclaims"),
            inside("apps/v1", "deployments"),
            inside("batch/v1", "jobs"),
            inside("serving.knative.dev/v1", "services"),
        ];
        let is_there = self.server.names(NAMESPACES).contains(&NAMESPACE.to_owned());
        !is_there && inside.iter().all(|collection| self.server.names(collection).is_empty())
    }

    /// Requests that change something and do not only ask or try.
    pub fn changes(&self) -> Vec<String> {
        let asks = ["GET ", "POST /apis/authorization.k8s.io/"];
        let requests = self.server.requests().into_iter();
        requests.filter(|request| asks.iter().all(|asks| !request.starts_with(asks))).collect()
    }
}

/// The base as kustomize renders it; as it is written, where nothing here can render.
pub fn rendered() -> Vec<Value> {
    static ONCE: LazyLock<Vec<Value>> = LazyLock::new(render);
    ONCE.clone()
}

fn render() -> Vec<Value> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../knative/base");
    let text = match Command::new("kubectl").arg("kustomize").arg(&base).output() {
        Ok(said) => {
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            String::from_utf8(said.stdout).unwrap()
        }
        Err(_) => {
            eprintln!("SKIPPED: the base was taken as it is written, for there is no kubectl to render it");
            let files = fs::read_dir(&base).unwrap().map(|entry| entry.unwrap().path());
            let files = files.filter(|file| !file.ends_with("kustomization.yaml"));
            files.map(|file| fs::read_to_string(file).unwrap()).collect::<Vec<_>>().join("\n---\n")
        }
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// What controllers do in the time that has passed since the last request.
fn reconcile(objects: &mut Objects, state: &mut State) {
    // Every namespace gets one, a moment after it was made.
    let is_there = objects.names(NAMESPACES).contains(&NAMESPACE.to_owned());
    let accounts = inside("", "serviceaccounts");
    if is_there && !objects.names(&accounts).contains(&"default".to_owned()) {
        objects.put(&accounts, json!({"metadata": {"name": "default"}}));
    }
    let services = inside("serving.knative.dev/v1", "services");
    if objects.names(&services).len() < 2 {
        return;
    }
    let applied = *state.applied.get_or_insert_with(Instant::now);
    let age = applied.elapsed();
    let hindering = [Fault::NoSuchImage, Fault::WebCrashes, Fault::NoVolume];
    let web_runs = !hindering.into_iter().any(|fault| state.has(fault));
    let claims = inside("", "persistentvolumeclaims");
    for name in objects.names(&claims) {
        let claim = objects.find(&claims, &name);
        let phase = if state.has(Fault::NoVolume) { "Pending" } else { "Bound" };
        status(objects, &claims, claim, json!({"phase": phase, "accessModes": ["ReadWriteOnce"]}));
    }
    let deployments = inside("apps/v1", "deployments");
    if age >= WEB_STARTS && web_runs && objects.names(&deployments).contains(&"web".to_owned()) {
        let available = json!([{"type": "Available", "status": "True"}]);
        let ready = json!({"readyReplicas": 1, "availableReplicas": 1, "conditions": available});
        let web = objects.find(&deployments, "web");
        status(objects, &deployments, web, ready);
    }
    web_pod(objects, state);
    if age < Duration::from_secs(1) {
        // A revision starts with a pod of its own.
        state.wake("preprocess");
        state.wake("inference");
    }
    for name in objects.names(&services) {
        let service = objects.find(&services, &name);
        let (ready, reason, message) = match state.fault {
            Some(Fault::NoDigest) => {
                ("False", "RevisionFailed", "Unable to fetch image: certificate signed by unknown authority")
            }
            Some(Fault::NoRoomAtFirst) if age < NODE_COMES => {
                ("False", "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.")
            }
            _ if age >= FUNCTIONS_START && web_runs => ("True", "", ""),
            _ => ("Unknown", "Deploying", "waiting for pods"),
        };
        let condition = json!([{"type": "Ready", "status": ready, "reason": reason, "message": message}]);
        revision(objects, &name, &condition);
        let told = json!({
            "url": format!("http://{name}.{NAMESPACE}.example.com"), "conditions": condition,
            "observedGeneration": service["metadata"]["generation"],
        });
        status(objects, &services, service, told);
    }
    if let Some((_, began)) = state.runs.first()
        && began.elapsed() >= TRAINING
        && state.splits.is_empty()
        && !state.has(Fault::BakingFails)
    {
        // The web publishes the first version by itself.
        state.splits.push((Instant::now() + BAKING, vec![(1, 100)]));
    }
    jobs(objects, state);
    for function in ["preprocess", "inference"] {
        function_pods(objects, function, state.scale(function).pods);
    }
}

/// The first one of a function.
fn revision(objects: &mut Objects, function: &str, condition: &Value) {
    let labels = json!({"serving.knative.dev/service": function, "serving.knative.dev/configurationGeneration": "1"});
    let metadata = json!({"name": format!("{function}-00001"), "labels": labels});
    let revision = json!({"metadata": metadata, "spec": {"containers": []}, "status": {"conditions": condition}});
    objects.put(&inside("serving.knative.dev/v1", "revisions"), revision);
}

fn status(objects: &mut Objects, collection: &str, mut object: Value, status: Value) {
    if object["status"] != status {
        object["status"] = status;
        objects.put(collection, object);
    }
}

fn web_pod(objects: &mut Objects, state: &State) {
    let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
    let container = match state.fault {
        Some(Fault::NoSuchImage) => waiting("ImagePullBackOff", "no such image: web:0.1.0"),
        Some(Fault::WebCrashes) => waiting("CrashLoopBackOff", "back-off 40s"),
        Some(Fault::NoVolume) => waiting("ContainerCreating", ""),
        _ => json!({"running": {}}),
    };
    put_pod(objects, "web-1", json!({"app.kubernetes.io/name": "web"}), "web", container);
    if state.has(Fault::WebCrashes) {
        let mut pod = objects.find(&inside("", "pods"), "web-1");
        let container = &mut pod["status"]["containerStatuses"][0];
        container["restartCount"] = json!(3);
        container["lastState"] = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        objects.put(&inside("", "pods"), pod);
    }
}

fn function_pods(objects: &mut Objects, function: &str, n: usize) {
    let pods = inside("", "pods");
    let prefix = format!("{function}-00001-");
    for name in objects.names(&pods).iter().filter(|name| name.starts_with(&prefix)) {
        objects.remove(&pods, name);
    }
    for n in 0..n {
        let labels = json!({"serving.knative.dev/service": function});
        put_pod(objects, &format!("{prefix}{n}"), labels, "user-container", json!({"running": {}}));
    }
}

fn put_pod(objects: &mut Objects, name: &str, labels: Value, container: &str, state: Value) {
    let is_running = !state["running"].is_null();
    let container = json!({
        "name": container, "image": "i", "imageID": "", "ready": is_running, "restartCount": 0, "state": state,
    });
    let ready = if is_running { "True" } else { "False" };
    let status = json!({
        "phase": if is_running { "Running" } else { "Pending" }, "containerStatuses": [container],
        "conditions": [{"type": "Ready", "status": ready}],
    });
    let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": []}, "status": status});
    objects.put(&inside("", "pods"), pod);
}

/// Jobs of the training runs.
fn jobs(objects: &mut Objects, state: &State) {
    let collection = inside("batch/v1", "jobs");
    for (run, began) in &state.runs {
        let name = format!("train-{run}");
        let is_over = began.elapsed() >= TRAINING;
        let (condition, phase) = match (is_over, state.has(Fault::TrainerOutOfMemory)) {
            (false, _) => (json!([]), json!({"running": {}})),
            (true, false) => (json!([{"type": "Complete", "status": "True"}]), json!({"terminated": {"exitCode": 0}})),
            (true, true) => (
                json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]),
                json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            ),
        };
        let labels = json!({"app.kubernetes.io/component": "trainer", "batch.kubernetes.io/job-name": name});
        put_pod(objects, &format!("{name}-x"), labels.clone(), "trainer", phase);
        let metadata = json!({"name": name, "labels": labels, "annotations": {"fovea.dev/run": run}});
        objects.put(&collection, json!({"metadata": metadata, "spec": {}, "status": {"conditions": condition}}));
    }
}
