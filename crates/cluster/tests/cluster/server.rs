//! A small Kubernetes API server in this process: objects by path, with resource versions, label and field selectors, merge
//! patches that conflict, and refusals on demand. Controllers there are none; tests play them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, Uri},
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
const COLLECTIONS: [&str; 8] =
    ["cronjobs", "events", "jobs", "nodes", "pods", "revisions", "services", "storageclasses"];

/// The server; a clone is another handle on it.
#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<Objects>>,
    url: Arc<str>,
}

/// Something that happens at a request before it is answered.
type Hook = Box<dyn FnMut(&mut Objects, &Bytes) -> Option<Response> + Send>;

/// Everything the server has.
#[derive(Default)]
pub struct Objects {
    by_path: BTreeMap<String, Value>,
    texts: BTreeMap<String, (StatusCode, String)>,
    version: u64,
    hooks: Vec<(Method, String, Hook)>,
    requests: Vec<String>,
}

impl Server {
    /// Starts without any object.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).into();
        let server = Self { state: Arc::default(), url };
        let app = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async { axum::serve(listener, app).await });
        server
    }

    /// A client of it.
    pub fn cluster(&self) -> Cluster {
        let mut config = kube::Config::new(self.url.parse().unwrap());
        // A test that refuses on purpose does not want to wait.
        config.default_retry = false;
        Cluster::new(kube::Client::try_from(config).unwrap(), NAMESPACE)
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
        self.objects().by_path.remove(&format!("{collection}/{name}")).expect("it was there");
    }

    pub fn names(&self, collection: &str) -> Vec<String> {
        let objects = self.objects();
        let below = objects.by_path.keys().filter_map(|path| path.strip_prefix(collection)?.strip_prefix('/'));
        below.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }

    /// Answers a path with a text, such as a pod's log.
    pub fn say(&self, path: &str, text: &str) {
        self.objects().texts.insert(path.to_owned(), (StatusCode::OK, text.to_owned()));
    }

    /// Does something at each request of this kind whose path begins so; what it returns is the answer.
    pub fn at(
        &self,
        method: Method,
        path: &str,
        mut hook: impl FnMut(&mut Objects) -> Option<Response> + Send + 'static,
    ) {
        self.objects().hooks.insert(0, (method, path.to_owned(), Box::new(move |objects, _| hook(objects))));
    }

    /// Answers requests of this kind by what they say.
    pub fn answer(&self, method: Method, path: &str, mut answer: impl FnMut(Value) -> Response + Send + 'static) {
        let hook: Hook = Box::new(move |_, body| Some(answer(serde_json::from_slice(body).unwrap_or_default())));
        self.objects().hooks.insert(0, (method, path.to_owned(), hook));
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
        let metadata = &mut object["metadata"];
        metadata["uid"] = uid;
        metadata["namespace"] = json!(NAMESPACE);
        metadata["generation"] = json!(generation + i64::from(is_changed));
        metadata["resourceVersion"] = json!(self.version.to_string());
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!("2026-11-23T06:45:12Z");
        }
        self.by_path.insert(path, object);
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
    let (method, uri) = (head.method, head.uri);
    let path = uri.path().to_owned();
    let mut objects = server.objects();
    objects.requests.push(format!("{method} {path}"));
    let mut hooks = std::mem::take(&mut objects.hooks);
    let concerned = hooks.iter_mut().filter(|(of, prefix, _)| *of == method && path.starts_with(prefix.as_str()));
    let said = concerned.into_iter().find_map(|(_, _, hook)| hook(&mut objects, &body));
    objects.hooks.append(&mut hooks);
    if let Some(said) = said {
        return said;
    }
    if let Some((code, text)) = objects.texts.get(&path) {
        return (*code, text.clone()).into_response();
    }
    match method {
        Method::GET => get(&objects, &path, &uri),
        Method::POST => create(&mut objects, &path, &body),
        Method::PATCH => patch(&mut objects, &path, &body),
        Method::DELETE => delete(&mut objects, &path, &body),
        _ => status(405, "MethodNotAllowed", "the fake server does not take that"),
    }
}

fn get(objects: &Objects, path: &str, uri: &Uri) -> Response {
    if let Some(object) = objects.by_path.get(path) {
        return Json(object.clone()).into_response();
    }
    if !path.rsplit('/').next().is_some_and(|last| COLLECTIONS.contains(&last)) {
        return not_found(path);
    }
    let query: BTreeMap<String, String> =
        axum::extract::Query::try_from_uri(uri).map(|axum::extract::Query(query)| query).unwrap_or_default();
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

fn create(objects: &mut Objects, path: &str, body: &Bytes) -> Response {
    let object: Value = serde_json::from_slice(body).unwrap();
    let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned) else {
        return status(422, "Invalid", "metadata.name: Required value");
    };
    let at = format!("{path}/{name}");
    if objects.by_path.contains_key(&at) {
        return status(409, "AlreadyExists", &format!("{name:?} already exists"));
    }
    objects.put(path, object);
    (StatusCode::CREATED, Json(objects.by_path[&at].clone())).into_response()
}

fn patch(objects: &mut Objects, path: &str, body: &Bytes) -> Response {
    let mut patch: Value = serde_json::from_slice(body).unwrap();
    let Some(mut object) = objects.by_path.get(path).cloned() else { return not_found(path) };
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

fn delete(objects: &mut Objects, path: &str, body: &Bytes) -> Response {
    let options: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(object) = objects.by_path.get(path).cloned() else { return not_found(path) };
    let uid = &options["preconditions"]["uid"];
    if !uid.is_null() && *uid != object["metadata"]["uid"] {
        return status(409, "Conflict", "the UID in the precondition does not match the UID in record");
    }
    objects.by_path.remove(path);
    // What belongs to it goes with it.
    let name = path.rsplit('/').next().unwrap_or_default();
    objects.by_path.retain(|_, other| other["metadata"]["labels"]["batch.kubernetes.io/job-name"] != name);
    Json(object).into_response()
}
