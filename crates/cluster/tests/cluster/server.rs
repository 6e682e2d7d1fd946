//! A small Kubernetes API server in this process: objects by path, with resource versions, label and field selectors, merge
//! patches that conflict, applying, dry runs, and refusals on demand. Controllers there are none; tests play them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::{Bytes, to_bytes},
    extract::{Query, Request, State},
    http::{
        Method, StatusCode, Uri,
        header::{CONTENT_TYPE, HOST},
    },
    response::{IntoResponse, Response},
};
use cluster::Cluster;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Namespace of everything.
pub const NAMESPACE: &str = "ml-app";

/// Where Jobs are.
pub const JOBS: &str = "/apis/batch/v1/namespaces/ml-app/jobs";

/// Where templates of Jobs are.
pub const TEMPLATES: &str = "/apis/batch/v1/namespaces/ml-app/cronjobs";

/// Where pods are.
pub const PODS: &str = "/api/v1/namespaces/ml-app/pods";

/// Where events are.
pub const EVENTS: &str = "/api/v1/namespaces/ml-app/events";

/// Where Knative's Services are.
pub const SERVICES: &str = "/apis/serving.knative.dev/v1/namespaces/ml-app/services";

/// Where Knative's Revisions are.
pub const REVISIONS: &str = "/apis/serving.knative.dev/v1/namespaces/ml-app/revisions";

/// What can be listed.
const COLLECTIONS: [&str; 11] = [
    "cronjobs",
    "endpointslices",
    "events",
    "jobs",
    "nodes",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "revisions",
    "services",
    "storageclasses",
];

/// What a body is that is applied.
const APPLY: &str = "application/apply-patch+yaml";

/// The server; a clone is another handle on it.
#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<Objects>>,
    url: Arc<str>,
}

/// A request.
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub uri: Uri,
    /// The host that it is for.
    pub host: String,
    /// What its body is.
    kind: String,
    /// Its body.
    pub body: Bytes,
}

/// Something that happens at a request before it is answered.
type Hook = Box<dyn FnMut(&mut Objects, &Asked) -> Option<Response> + Send>;

/// Everything the server has.
#[derive(Default)]
pub struct Objects {
    by_path: BTreeMap<String, Value>,
    texts: BTreeMap<String, (StatusCode, String)>,
    version: u64,
    hooks: Vec<(String, Hook)>,
    requests: Vec<String>,
}

impl Server {
    /// Starts without any object.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).into();
        let server = Self { url, ..Self::in_process() };
        let app = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async { axum::serve(listener, app).await });
        server
    }

    /// Starts without any object and without a port: only clients in this process reach it, and no time passes on the way.
    pub fn in_process() -> Self {
        Self { state: Arc::default(), url: "".into() }
    }

    /// A client in this process, for a namespace.
    pub fn cluster_in_process(&self, namespace: &str) -> Cluster {
        let app = Router::new().fallback(answer).with_state(self.clone());
        Cluster::new(kube::Client::new(app, namespace), namespace)
    }

    /// A client of it.
    pub fn cluster(&self) -> Cluster {
        Cluster::configured(kube::Config::new(self.url.parse().unwrap()), NAMESPACE).unwrap()
    }

    /// Its port.
    pub fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    /// A kubeconfig that leads to it.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": &*self.url}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me", "namespace": NAMESPACE}}],
            "current-context": "fake",
        })
        .to_string()
    }

    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        self.state.lock().unwrap()
    }

    /// Puts an object there, as if somebody else had.
    pub fn put(&self, collection: &str, object: Value) {
        self.objects().put(collection, object);
    }

    pub fn get(&self, collection: &str, name: &str) -> Option<Value> {
        self.objects().by_path.get(&format!("{collection}/{name}")).cloned()
    }

    /// Changes an object, as if somebody else had.
    pub fn edit(&self, collection: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut objects = self.objects();
        let path = format!("{collection}/{name}");
        let mut object = objects.by_path.get(&path).unwrap_or_else(|| panic!("there is no {path}")).clone();
        edit(&mut object);
        objects.put(collection, object);
    }

    pub fn remove(&self, collection: &str, name: &str) {
        self.objects().remove(collection, name);
    }

    pub fn names(&self, collection: &str) -> Vec<String> {
        self.objects().names(collection)
    }

    /// Answers a path with a text, such as a pod's log.
    pub fn say(&self, path: &str, text: &str) {
        self.objects().texts.insert(path.to_owned(), (StatusCode::OK, text.to_owned()));
    }

    /// Does something at each request whose path begins so; what it returns is the answer. What was said last comes first.
    pub fn on(&self, path: &str, hook: impl FnMut(&mut Objects, &Asked) -> Option<Response> + Send + 'static) {
        self.objects().hooks.insert(0, (path.to_owned(), Box::new(hook)));
    }

    /// The same for requests of one method.
    pub fn at(
        &self,
        method: Method,
        path: &str,
        mut hook: impl FnMut(&mut Objects) -> Option<Response> + Send + 'static,
    ) {
        self.on(path, move |objects, asked| if asked.method == method { hook(objects) } else { None });
    }

    /// Answers requests of this kind by what they say.
    pub fn answer(&self, method: Method, path: &str, mut answer: impl FnMut(Value) -> Response + Send + 'static) {
        self.on(path, move |_, asked| {
            (asked.method == method).then(|| answer(serde_json::from_slice(&asked.body).unwrap_or_default()))
        });
    }

    /// Refuses requests of this kind whose path begins so, as often as told.
    pub fn refuse(&self, method: Method, path: &str, mut times: u32, code: u16, reason: &'static str, message: &str) {
        let message = message.to_owned();
        self.at(method, path, move |_| {
            times = times.checked_sub(1)?;
            Some(status(code, reason, &message))
        });
    }

    /// Requests so far, each as `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        self.objects().requests.clone()
    }
}

impl Objects {
    /// An object that is there.
    pub fn find(&self, collection: &str, name: &str) -> Value {
        self.by_path[&format!("{collection}/{name}")].clone()
    }

    /// Names of the objects of a collection.
    pub fn names(&self, collection: &str) -> Vec<String> {
        let below = self.by_path.keys().filter_map(|path| path.strip_prefix(collection)?.strip_prefix('/'));
        below.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }

    /// Takes away an object that is there.
    pub fn remove(&mut self, collection: &str, name: &str) {
        self.by_path.remove(&format!("{collection}/{name}")).expect("it was there");
    }

    /// Puts an object there: a new one gets what the server gives it, a changed spec another generation.
    pub fn put(&mut self, collection: &str, mut object: Value) {
        self.version += 1;
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let path = format!("{collection}/{name}");
        let before = self.by_path.get(&path);
        let generation = before.map_or(0, |before| before["metadata"]["generation"].as_i64().unwrap_or(0));
        let is_changed = before.is_none_or(|before| before["spec"] != object["spec"]);
        let uid =
            before.map_or_else(|| json!(format!("uid-{}", self.version)), |before| before["metadata"]["uid"].clone());
        default(&mut object);
        let metadata = &mut object["metadata"];
        metadata["uid"] = uid;
        if let Some((_, inside)) = collection.split_once("/namespaces/") {
            metadata["namespace"] = json!(inside.split('/').next());
        }
        metadata["generation"] = json!(generation + i64::from(is_changed));
        metadata["resourceVersion"] = json!(self.version.to_string());
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!("2026-11-23T06:45:12Z");
        }
        self.by_path.insert(path, object);
    }
}

/// What the server writes into a template of Jobs or a Job where it says nothing.
fn default(object: &mut Value) {
    for pod in ["/spec/jobTemplate/spec/template/spec", "/spec/template/spec"] {
        let containers = object.pointer_mut(pod).filter(|pod| !pod["restartPolicy"].is_null());
        for container in containers.and_then(|pod| pod["containers"].as_array_mut()).into_iter().flatten() {
            if container["terminationMessagePolicy"].is_null() {
                container["terminationMessagePolicy"] = json!("File");
            }
        }
    }
}

/// A refusal as API servers spell it.
pub fn status(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

fn not_found(path: &str) -> Response {
    let name = path.rsplit('/').next().unwrap_or_default();
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound",
        "message": format!("{name:?} not found"), "details": {"name": name},
    });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (host, kind) = (header(HOST), header(CONTENT_TYPE));
    let asked = Asked { method: head.method, uri: head.uri, host, kind, body };
    let path = asked.uri.path();
    let mut objects = server.objects();
    objects.requests.push(format!("{} {path}", asked.method));
    let mut hooks = std::mem::take(&mut objects.hooks);
    let concerned = hooks.iter_mut().filter(|(prefix, _)| path.starts_with(prefix.as_str()));
    let said = concerned.into_iter().find_map(|(_, hook)| hook(&mut objects, &asked));
    objects.hooks.append(&mut hooks);
    if let Some(said) = said {
        return said;
    }
    if let Some((code, text)) = objects.texts.get(path) {
        return (*code, text.clone()).into_response();
    }
    match asked.method {
        Method::GET => get(&objects, &asked),
        Method::POST => create(&mut objects, &asked),
        Method::PATCH => patch(&mut objects, &asked),
        Method::DELETE => delete(&mut objects, &asked),
        _ => status(405, "MethodNotAllowed", "the fake server does not take that"),
    }
}

impl Asked {
    fn query(&self) -> BTreeMap<String, String> {
        Query::try_from_uri(&self.uri).map(|Query(query)| query).unwrap_or_default()
    }

    fn is_dry_run(&self) -> bool {
        self.query().get("dryRun").is_some_and(|run| run == "All")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn get(objects: &Objects, asked: &Asked) -> Response {
    let path = asked.uri.path();
    if let Some(object) = objects.by_path.get(path) {
        return Json(object.clone()).into_response();
    }
    if !path.rsplit('/').next().is_some_and(|last| COLLECTIONS.contains(&last)) {
        return not_found(path);
    }
    let query = asked.query();
    let pairs = |key: &str| -> Vec<(String, String)> {
        let selector = query.get(key).cloned().unwrap_or_default();
        selector.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    let labels = pairs("labelSelector");
    let fields = pairs("fieldSelector");
    let prefix = format!("{path}/");
    let items: Vec<_> = objects
        .by_path
        .iter()
        .filter(|(at, _)| at.strip_prefix(&prefix).is_some_and(|name| !name.contains('/')))
        .map(|(_, object)| object)
        .filter(|object| labels.iter().all(|(key, value)| object["metadata"]["labels"][key] == **value))
        .filter(|object| {
            fields.iter().all(|(key, value)| key.split('.').fold(*object, |at, part| &at[part]) == value.as_str())
        })
        .cloned()
        .collect();
    Json(json!({"metadata": {"resourceVersion": objects.version.to_string()}, "items": items})).into_response()
}

fn create(objects: &mut Objects, asked: &Asked) -> Response {
    let (path, object) = (asked.uri.path(), asked.json());
    let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned) else {
        return status(422, "Invalid", "metadata.name: Required value");
    };
    let at = format!("{path}/{name}");
    if objects.by_path.contains_key(&at) {
        return status(409, "AlreadyExists", &format!("{name:?} already exists"));
    }
    if asked.is_dry_run() {
        return (StatusCode::CREATED, Json(object)).into_response();
    }
    objects.put(path, object);
    (StatusCode::CREATED, Json(objects.by_path[&at].clone())).into_response()
}

fn patch(objects: &mut Objects, asked: &Asked) -> Response {
    let (path, mut patch) = (asked.uri.path(), asked.json());
    let present = objects.by_path.get(path).cloned();
    let Some(mut object) = present.or_else(|| (asked.kind == APPLY).then(|| json!({}))) else {
        return not_found(path);
    };
    let precondition = patch["metadata"]["resourceVersion"].take();
    if !precondition.is_null() && precondition != object["metadata"]["resourceVersion"] {
        return status(
            409,
            "Conflict",
            "the object has been modified; please apply your changes to the latest version",
        );
    }
    merge(&mut object, patch);
    objects.put(path.rsplit_once('/').unwrap().0, object);
    Json(objects.by_path[path].clone()).into_response()
}

/// RFC 7396.
fn merge(object: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => {
            if !object.is_object() {
                *object = json!({});
            }
            for (key, value) in fields {
                if key == "resourceVersion" {
                    continue;
                }
                if value.is_null() {
                    object.as_object_mut().unwrap().remove(&key);
                } else {
                    merge(&mut object[&key], value);
                }
            }
        }
        other => *object = other,
    }
}

fn delete(objects: &mut Objects, asked: &Asked) -> Response {
    let path = asked.uri.path();
    let options: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let Some(object) = objects.by_path.get(path).cloned() else { return not_found(path) };
    let uid = &options["preconditions"]["uid"];
    if !uid.is_null() && *uid != object["metadata"]["uid"] {
        return status(409, "Conflict", "the UID in the precondition does not match the UID in record");
    }
    objects.by_path.remove(path);
    // What belongs to it goes with it.
    let name = path.rsplit('/').next().unwrap_or_default();
    objects.by_path.retain(|_, other| other["metadata"]["labels"]["batch.kubernetes.io/job-name"] != name);
    if path == format!("/api/v1/namespaces/{name}") {
        let inside = format!("/namespaces/{name}/");
        objects.by_path.retain(|at, _| !at.contains(&inside));
    }
    Json(object).into_response()
}
