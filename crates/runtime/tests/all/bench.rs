//! A function of the hostile guest, served at a port of its own, and a client for it.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, Response};
use runtime::{Drained, Function, FunctionSpec, Runtime, Settings};
use serde_json::Value;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at something that is about to change.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The hostile guest's component, which must have been built.
pub fn hostile_guest() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let components =
        env::var_os("FOVEA_COMPONENTS").map_or_else(|| target.join("wasm32-wasip2/release"), PathBuf::from);
    let path = components.join("guest_hostile.wasm");
    assert!(
        path.exists(),
        "{} is missing; build it with `cargo build --release --target wasm32-wasip2 -p guest-hostile`",
        path.display()
    );
    path
}

/// Compiled components outlive the tests, so that the guest is compiled once.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("runtime-cache")
}

pub struct Bench {
    pub function: Arc<Function>,
    pub client: Client,
    base: String,
    stop: CancellationToken,
    server: JoinHandle<Drained>,
}

impl Bench {
    /// Serves the hostile guest with these further options, each led by a comma.
    pub async fn serve(options: &str) -> Self {
        Self::serve_draining(options, PATIENCE).await
    }

    pub async fn serve_draining(options: &str, drain: Duration) -> Self {
        let text = format!("name=hostile,component={},listen=127.0.0.1:0{options}", hostile_guest().display());
        let spec: FunctionSpec = text.parse().unwrap();
        let listener = runtime::bind(&spec).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let runtime = Runtime::new(&Settings::new(cache())).unwrap();
        let function = Arc::new(runtime.load(spec).await.unwrap());
        let stop = CancellationToken::new();
        let server = tokio::spawn(Arc::clone(&function).run(listener, stop.clone().cancelled_owned(), drain));
        Self { function, client: Client::new(), base, stop, server }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(timeout(PATIENCE, self.client.get(self.url(path)).send()).await.unwrap().unwrap()).await
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let sent = self.client.post(self.url(path)).body(body).send();
        Answer::of(timeout(PATIENCE, sent).await.unwrap().unwrap()).await
    }

    /// The request, sent from a task of its own.
    pub fn spawn_get(&self, path: &str) -> JoinHandle<Answer> {
        let request = self.client.get(self.url(path));
        tokio::spawn(async move { Answer::of(request.send().await.unwrap()).await })
    }

    /// Waits until this many instances are idle.
    pub async fn until_idle(&self, instances: usize) {
        until(|| self.function.idle_instances() == instances).await;
    }

    pub async fn drained(self) -> Drained {
        self.stop.cancel();
        timeout(PATIENCE, self.server).await.unwrap().unwrap()
    }
}

/// Waits until something holds.
pub async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap();
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub revision: String,
    pub timing: String,
    pub body: Vec<u8>,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let header = |name: &str| {
            let value = response.headers().get(name).map(|value| value.to_str().unwrap());
            value.unwrap_or_default().to_owned()
        };
        Self {
            status: response.status().as_u16(),
            revision: header("x-fovea-revision"),
            timing: header("server-timing"),
            body: response.bytes().await.unwrap().to_vec(),
        }
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn is_ok(&self, body: &str) {
        assert_eq!((self.status, self.text()), (200, body));
    }

    /// The status, the code and a part of the message, in the house's error body.
    #[track_caller]
    pub fn is_error(&self, status: u16, code: &str, message: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["error"]["code"], code, "{body}");
        let said = body["error"]["message"].as_str().unwrap();
        assert!(said.contains(message), "{said}");
        assert_eq!(body, serde_json::json!({ "error": { "code": code, "message": said } }));
    }
}
