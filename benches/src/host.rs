//! The programs that are measured: our runtime with some functions, and stock `wasmtime serve` with one.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use api::functions::{Phase, RevisionStatus, Status};
use http::{HeaderValue, Method, header};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    Arguments,
    client::{Ask, Client, live},
};

/// How long anything may take to start; the first time, components are compiled.
pub const PATIENCE: Duration = Duration::from_secs(600);

const NAMESPACE: &str = "bench";

/// What a sandbox is shared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    Request,
    Instance,
}

/// A function to be measured, as a Knative Service.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub component: &'static str,
    pub isolation: Isolation,
    pub initial_scale: u32,
    pub min_scale: u32,
    /// Stable window in seconds.
    pub window: u32,
    /// The model's folder in its claim; none is the claim itself.
    pub sub_path: String,
}

impl Function {
    pub fn inference(name: String) -> Self {
        let isolation = Isolation::Request;
        Self {
            name,
            component: "inference",
            isolation,
            initial_scale: 1,
            min_scale: 0,
            window: 60,
            sub_path: String::new(),
        }
    }

    pub fn preprocess(name: String) -> Self {
        Self { component: "preprocess", ..Self::inference(name) }
    }

    fn manifest(&self) -> String {
        let Self { name, component, initial_scale, min_scale, window, .. } = self;
        let isolation = match self.isolation {
            Isolation::Request => "request",
            Isolation::Instance => "instance",
        };
        let model = match *component {
            "inference" => format!(
                "
          volumeMounts: [{{ name: models, mountPath: /model, subPath: '{}', readOnly: true }}]
      volumes: [{{ name: models, persistentVolumeClaim: {{ claimName: model, readOnly: true }} }}]",
                self.sub_path
            ),
            _ => String::new(),
        };
        format!(
            r#"---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{ name: {name}, namespace: {NAMESPACE} }}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/target: "1"
        autoscaling.knative.dev/target-utilization-percentage: "100"
        autoscaling.knative.dev/initial-scale: "{initial_scale}"
        autoscaling.knative.dev/min-scale: "{min_scale}"
        autoscaling.knative.dev/max-scale: "4"
        autoscaling.knative.dev/window: {window}s
        fovea.dev/component: {component}
        fovea.dev/isolation: {isolation}
    spec:
      containerConcurrency: 1
      timeoutSeconds: 600
      containers:
        - image: fovea/{component}
          readinessProbe: {{ httpGet: {{ path: /health/ready }} }}{model}
"#
        )
    }
}

/// A process that does not outlive its measurement.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Our runtime.
pub struct Runtime {
    program: Running,
    pub ingress: SocketAddr,
    admin: SocketAddr,
    _state: TempDir,
}

impl Runtime {
    /// Starts the runtime and waits until all functions could serve.
    pub async fn start(arguments: &Arguments, functions: &[Function]) -> Result<Self> {
        Self::start_unloading(arguments, functions, PATIENCE).await
    }

    /// As [`Runtime::start`]; functions at zero are unloaded after this time.
    pub async fn start_unloading(arguments: &Arguments, functions: &[Function], after: Duration) -> Result<Self> {
        Self::over(arguments, functions, &arguments.model, after).await
    }

    /// As [`Runtime::start_unloading`], with this folder as the functions' claim.
    pub async fn over(arguments: &Arguments, functions: &[Function], claim: &Path, after: Duration) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let mut manifests = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: config-autoscaler }\n\
                             data: { allow-zero-initial-scale: \"true\" }\n"
            .to_owned();
        for function in functions {
            manifests.write_str(&function.manifest())?;
        }
        let file = state.path().join("functions.yaml");
        fs::write(&file, manifests)?;
        let [ingress, admin] = [free_address()?, free_address()?];
        let claim = claim.canonicalize()?;
        let program = Command::new(beside_this("fovea-runtime")?)
            .arg("up")
            .args(["--manifests".as_ref(), file.as_os_str()])
            .args(["--components".as_ref(), components(arguments)?.as_os_str()])
            .args(["--claim", &format!("model={}", claim.display())])
            .args(["--state".as_ref(), state.path().join("state").as_os_str()])
            .args(["--ingress", &ingress.to_string(), "--admin", &admin.to_string()])
            .args(["--unload-after", &format!("{}s", after.as_secs())])
            .env("FOVEA_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start fovea-runtime")?;
        let mut runtime = Self { program: Running(program), ingress, admin, _state: state };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(status) = runtime.status().await {
                let revisions = || status.services.iter().flat_map(|service| &service.revisions);
                if let Some(failed) = revisions().find(|revision| revision.phase == Phase::Failed) {
                    bail!("{} failed: {}", failed.name, failed.reason.clone().unwrap_or_default());
                }
                if status.services.len() == functions.len() && status.services.iter().all(|service| service.ready) {
                    return Ok(runtime);
                }
            }
            if let Some(ended) = runtime.program.0.try_wait()? {
                bail!("fovea-runtime ended: {ended}");
            }
            ensure!(Instant::now() < deadline, "the functions do not become ready");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The request, addressed to this function.
    pub fn to(&self, function: &str, ask: &Ask) -> Ask {
        let mut ask = ask.clone();
        let host = format!("{function}.{NAMESPACE}.localhost");
        ask.headers_mut().insert(header::HOST, HeaderValue::from_str(&host).expect("a name is a header value"));
        ask
    }

    pub async fn status(&self) -> Result<Status> {
        let mut ask = live();
        *ask.uri_mut() = "/admin/status".parse()?;
        let body = Client::connect(self.admin).await?.body(&ask).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// The newest revision that can serve.
    pub async fn latest_ready(&self, function: &str) -> Result<String> {
        let status = self.status().await?;
        let service = status.services.iter().find(|service| service.name == function);
        service.and_then(|service| service.latest_ready.clone()).with_context(|| format!("{function} is not ready"))
    }

    /// Waits for the revision after this one.
    pub async fn next_ready(&self, function: &str, last: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let ready = self.latest_ready(function).await?;
            if ready != last {
                return Ok(ready);
            }
            ensure!(start.elapsed() < PATIENCE, "{function} gets no further than {last}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Replaces a function's traffic.
    pub async fn traffic(&self, function: &str, targets: &str) -> Result<()> {
        let mut ask = live();
        *ask.method_mut() = Method::PUT;
        *ask.uri_mut() = format!("/admin/services/{NAMESPACE}/{function}/traffic").parse()?;
        ask.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *ask.body_mut() = targets.to_owned().into();
        Client::connect(self.admin).await?.body(&ask).await.map(drop)
    }

    /// Waits until a function has no instances; how long that took.
    pub async fn until_zero(&self, function: &str) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let status = self.status().await?;
            let service = status.services.iter().find(|service| service.name == function);
            let is_at_zero = |revision: &RevisionStatus| revision.ready == 0 && revision.draining == 0;
            if service.is_some_and(|service| service.revisions.iter().all(is_at_zero)) {
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < PATIENCE, "{function} does not go to zero");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Processor time it has used so far.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.program.0.id()))?;
        let after_name = stat.rsplit(')').next().context("no name in stat")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks =
            |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok()).context("no time in stat");
        // Linux counts in hundredths of a second.
        Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
    }

    /// Resident memory, asked of the system: answering takes memory too.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }
}

/// Stock `wasmtime serve` with the inference component, its model mounted and not baked.
pub struct Peer {
    program: Running,
    pub address: SocketAddr,
}

impl Peer {
    /// A fresh instance for every request; `None` without `wasmtime`.
    pub async fn start(arguments: &Arguments) -> Result<Option<Self>> {
        Self::with_reuse(arguments, 1).await
    }

    /// Instances are reused as often as wasmtime does by itself.
    pub async fn reusing(arguments: &Arguments) -> Result<Option<Self>> {
        Self::with_reuse(arguments, 128).await
    }

    async fn with_reuse(arguments: &Arguments, reuse: u32) -> Result<Option<Self>> {
        let Some(wasmtime) = &arguments.wasmtime else { return Ok(None) };
        let address = free_address()?;
        let model = arguments.model.canonicalize()?;
        let program = Command::new(wasmtime)
            .args(["serve", "-S", "http=y,p3=y,cli=y", "-W", "component-model-async=y"])
            .args(["--addr", &address.to_string(), "--max-instance-reuse-count", &reuse.to_string()])
            .args(["--dir", &format!("{}::/model", model.display())])
            .arg(components(arguments)?.join("inference.wasm"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", wasmtime.display()))?;
        let mut peer = Self { program: Running(program), address };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut client) = Client::connect(address).await
                && client.ask(&live()).await.is_ok()
            {
                return Ok(Some(peer));
            }
            if let Some(ended) = peer.program.0.try_wait()? {
                bail!("{} ended: {ended}", wasmtime.display());
            }
            ensure!(Instant::now() < deadline, "wasmtime serve does not answer");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn beside_this(program: &str) -> Result<PathBuf> {
    let folder = std::env::current_exe()?;
    let path = folder.parent().unwrap_or(Path::new(".")).join(program);
    ensure!(path.is_file(), "{} is missing; `cargo xtask bench` builds it", path.display());
    Ok(path)
}

fn components(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(folder) = &arguments.components {
        return Ok(folder.clone());
    }
    let this = std::env::current_exe()?;
    let target = this.parent().and_then(Path::parent).context("this program lies in no target folder")?;
    Ok(target.join("wasm32-wasip2/release"))
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A registry of copies of one model version, told apart by the number in their manifests.
pub struct Registry {
    folder: TempDir,
    model: PathBuf,
}

impl Registry {
    /// With version 1 as the current one.
    pub fn of(model: &Path) -> Result<Self> {
        let registry = Self { folder: tempfile::tempdir()?, model: model.to_owned() };
        registry.publish(1)?;
        Ok(registry)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a version and makes it the current one, atomically.
    pub fn publish(&self, version: u64) -> Result<()> {
        let name = format!("v{version}");
        let folder = self.folder().join(&name);
        fs::create_dir(&folder)?;
        fs::copy(self.model.join("model.onnx"), folder.join("model.onnx"))?;
        let mut manifest: Value = serde_json::from_slice(&fs::read(self.model.join("manifest.json"))?)?;
        manifest["version"] = version.into();
        fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
        let aside = self.folder().join("next");
        symlink(&name, &aside)?;
        Ok(fs::rename(aside, self.folder().join("current"))?)
    }
}
