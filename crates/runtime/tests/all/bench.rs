//! A control plane, an ingress and an admin port on loopback that serve the hostile guest, and clients for them.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use api::functions::{RevisionStatus, ServiceStatus, Status, TrafficTarget};
use reqwest::{Client, RequestBuilder, Response, header::HOST};
use runtime::{Control, ControlSettings, Drained, Ingress, Places, Runtime, Settings, bake::Baker};
use serde_json::Value;
use serving::{Config, Manifests, config::DomainConfig};
use tempfile::TempDir;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The function that most tests need.
pub const HOSTILE: &str = "hostile";

/// Pause between two looks at something that is about to change.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Each runtime reserves terabytes of address space for its sandboxes, and there is only so much of that.
static ROOM: Semaphore = Semaphore::const_new(4);

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the components, in which the hostile guest must have been built.
pub fn components() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let components =
        env::var_os("FOVEA_COMPONENTS").map_or_else(|| target.join("wasm32-wasip2/release"), PathBuf::from);
    let guest = components.join("guest_hostile.wasm");
    assert!(
        guest.exists(),
        "{} is missing; build it with `cargo build --release --target wasm32-wasip2 -p guest-hostile`",
        guest.display()
    );
    components
}

/// Artefacts outlive the tests, so that the guest is compiled once.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("runtime-cache")
}

/// What a bench is made of.
pub struct Setup {
    manifests: String,
    claim: Option<PathBuf>,
    components: PathBuf,
    artefacts: PathBuf,
    state: Option<PathBuf>,
    baker: Option<Baker>,
    drain: Duration,
    unload_after: Duration,
}

impl Setup {
    /// These manifests, and artefacts that other benches have made.
    pub fn of(manifests: impl ToString) -> Self {
        Self {
            manifests: manifests.to_string(),
            claim: None,
            components: components(),
            artefacts: runtime::artefacts_in(&cache()),
            state: None,
            baker: None,
            drain: PATIENCE,
            unload_after: PATIENCE,
        }
    }

    /// The folder that the claim `models` stands for.
    pub fn claim(mut self, folder: &Path) -> Self {
        self.claim = Some(folder.to_owned());
        self
    }

    pub fn components(mut self, folder: &Path) -> Self {
        self.components = folder.to_owned();
        self
    }

    pub fn artefacts(mut self, folder: &Path) -> Self {
        self.artefacts = folder.to_owned();
        self
    }

    /// Where the state of an earlier bench lies.
    pub fn state(mut self, folder: &Path) -> Self {
        self.state = Some(folder.to_owned());
        self
    }

    /// Bakes in a process of its own.
    pub fn baker(mut self, program: impl Into<PathBuf>) -> Self {
        self.baker = Some(Baker { program: program.into(), arguments: vec!["order".to_owned()] });
        self
    }

    pub fn drain(mut self, deadline: Duration) -> Self {
        self.drain = deadline;
        self
    }

    pub fn unload_after(mut self, time: Duration) -> Self {
        self.unload_after = time;
        self
    }

    /// Serves, and waits until all functions are ready.
    pub async fn start(self) -> Bench {
        let bench = self.begin().await;
        bench.until(|status| status.services.iter().all(|service| service.ready)).await;
        bench
    }

    /// Serves, ready or not.
    pub async fn begin(self) -> Bench {
        let room = ROOM.acquire().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(self.artefacts);
        settings.baker = self.baker;
        let listener = runtime::bind("the ingress", loopback()).await.unwrap();
        let admin = runtime::bind("the admin port", loopback()).await.unwrap();
        let (at, admin_at) = (listener.local_addr().unwrap(), admin.local_addr().unwrap());
        let mut config = Config { domain: DomainConfig::single("localhost"), ..Config::default() };
        let allowed = ["kubernetes.podspec-persistent-volume-claim", "kubernetes.podspec-persistent-volume-write"];
        let features = allowed.map(|feature| (feature.to_owned(), "enabled".to_owned()));
        config.set("config-features", &features.into()).unwrap();
        let control_settings = ControlSettings {
            places: Places {
                components: self.components,
                claims: self.claim.map(|folder| ("models".to_owned(), folder)).into_iter().collect(),
            },
            state: self.state.unwrap_or_else(|| folder.path().join("state")),
            config,
            port: Some(at.port()),
            exposed: Default::default(),
            unload_after: self.unload_after,
        };
        let control = Control::start(Runtime::new(&settings).unwrap(), control_settings).await.unwrap();
        control.apply(Manifests::parse("the test", &self.manifests).unwrap()).await.unwrap();
        let stop = CancellationToken::new();
        let server = Ingress::new(&control).serve(listener, stop.clone().cancelled_owned(), self.drain);
        let admin = runtime::serve_admin(control.clone(), admin, stop.clone().cancelled_owned());
        Bench {
            client: Client::builder().no_proxy().build().unwrap(),
            control,
            at,
            admin_at,
            stop,
            server: tokio::spawn(server),
            admin: tokio::spawn(admin),
            _folder: folder,
            _room: room,
        }
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub struct Bench {
    pub client: Client,
    pub control: Control,
    /// The ingress.
    pub at: SocketAddr,
    admin_at: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<Drained>,
    admin: JoinHandle<std::io::Result<()>>,
    _folder: TempDir,
    _room: SemaphorePermit<'static>,
}

impl Bench {
    /// Whoever calls a function of the namespace `default` by its host.
    pub fn function(&self, name: &str) -> Caller {
        self.host(&format!("{name}.default.localhost"))
    }

    pub fn host(&self, host: &str) -> Caller {
        Caller { client: self.client.clone(), base: format!("http://{}", self.at), host: host.to_owned() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.function(HOSTILE).get(path).await
    }

    pub fn spawn_get(&self, path: &str) -> JoinHandle<Answer> {
        self.function(HOSTILE).spawn_get(path)
    }

    pub fn admin(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin_at)
    }

    /// As the admin port tells it.
    pub async fn status(&self) -> Status {
        let answer = self.client.get(self.admin("/admin/status")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        answer.json().await.unwrap()
    }

    pub async fn service(&self, name: &str) -> ServiceStatus {
        service(&self.status().await, name).clone()
    }

    /// Applies manifests at the admin port.
    pub async fn apply(&self, manifests: impl ToString) -> Answer {
        let request = self.client.post(self.admin("/admin/apply")).body(manifests.to_string());
        Answer::of(request.send().await.unwrap()).await
    }

    /// Replaces a function's traffic at the admin port.
    pub async fn traffic(&self, name: &str, targets: &[TrafficTarget]) -> Answer {
        let url = self.admin(&format!("/admin/services/default/{name}/traffic"));
        Answer::of(self.client.put(url).json(targets).send().await.unwrap()).await
    }

    /// Waits until the status is like this, and returns it.
    pub async fn until(&self, holds: impl Fn(&Status) -> bool) -> Status {
        let wait = async {
            loop {
                let status = self.status().await;
                if holds(&status) {
                    return status;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(status) => status,
            Err(_) => panic!("nothing comes of it: {:#?}", self.status().await),
        }
    }

    /// Waits until the newest revision of a function is like this.
    pub async fn until_newest(&self, name: &str, holds: impl Fn(&RevisionStatus) -> bool) -> RevisionStatus {
        let newest = |status: &Status| service(status, name).revisions[0].clone();
        newest(&self.until(|status| holds(&newest(status))).await)
    }

    /// Waits until this many requests run.
    pub async fn until_running(&self, requests: u64) {
        self.until_newest(HOSTILE, |revision| revision.running == requests).await;
    }

    /// Stops as the program does.
    pub async fn stop(self) -> Drained {
        self.stop.cancel();
        let drained = timeout(PATIENCE, self.server).await.unwrap().unwrap();
        self.control.stop().await;
        timeout(PATIENCE, self.admin).await.unwrap().unwrap().unwrap();
        drained
    }
}

pub fn service<'a>(status: &'a Status, name: &str) -> &'a ServiceStatus {
    let found = status.services.iter().find(|service| service.name == name);
    found.unwrap_or_else(|| panic!("there is no {name} in {status:#?}"))
}

/// Who gets how much, by revision.
pub fn shares(service: &ServiceStatus) -> Vec<(&str, u32)> {
    service.traffic.iter().map(|share| (share.revision.as_str(), share.percent)).collect()
}

/// Calls one host.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    base: String,
    host: String,
}

impl Caller {
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.client.get(format!("{}{path}", self.base))).await
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(self.client.post(format!("{}{path}", self.base)).body(body)).await
    }

    /// The request, sent from a task of its own.
    pub fn spawn_get(&self, path: &str) -> JoinHandle<Answer> {
        let (caller, path) = (self.clone(), path.to_owned());
        tokio::spawn(async move { caller.get(&path).await })
    }

    async fn send(&self, request: RequestBuilder) -> Answer {
        let sent = request.header(HOST, &self.host).send();
        Answer::of(timeout(PATIENCE, sent).await.unwrap().unwrap()).await
    }
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

    /// The names in `Server-Timing`, in their order.
    pub fn times(&self) -> Vec<&str> {
        let entries = self.timing.split(", ");
        entries
            .map(|entry| {
                let (name, dur) = entry.split_once(";dur=").unwrap_or_else(|| panic!("{entry} is no time"));
                assert!(dur.parse::<f64>().unwrap() >= 0.0, "{entry}");
                name
            })
            .collect()
    }

    #[track_caller]
    pub fn is_ok(&self, body: &str) {
        assert_eq!((self.status, self.text()), (200, body));
    }

    /// The status and the whole text.
    #[track_caller]
    pub fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.text()), (status, body));
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
