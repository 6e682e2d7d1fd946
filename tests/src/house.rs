//! A whole Fovea on free loopback ports, started by `fovea up` as a person would start it.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::multipart::{Form, Part};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// How long anything may take before a test gives up. Generous: it only matters where something hangs.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// A running Fovea. Dropping it kills it.
pub struct House {
    supervisor: Child,
    /// Client without proxies, for loopback only.
    pub http: reqwest::Client,
    /// The web service.
    pub web: String,
    /// The preprocess function.
    pub preprocess: String,
    /// The inference function.
    pub inference: String,
}

/// A program of this workspace, built beside the running test.
pub fn program(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("a test lies in target/<profile>/deps")?;
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is missing; `cargo xtask test` builds it", path.display());
    Ok(path)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl House {
    /// Starts everything over this data folder and waits until it answers.
    pub async fn start(data: &Path) -> Result<Self> {
        let ports = [free_port()?, free_port()?, free_port()?, free_port()?, free_port()?];
        let log = std::fs::File::options().create(true).append(true).open(data.join("house.log"))?;
        let supervisor = Command::new(program("fovea")?)
            .arg("up")
            .args(["--data".as_ref(), data.as_os_str()])
            .args(["--port", &ports[0].to_string()])
            .args(["--preprocess-port", &ports[1].to_string()])
            .args(["--inference-port", &ports[2].to_string()])
            .args(["--ingress-port", &ports[3].to_string()])
            .args(["--admin-port", &ports[4].to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let mut house = Self {
            supervisor,
            http: reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?,
            web: url(ports[0]),
            preprocess: url(ports[1]),
            inference: url(ports[2]),
        };
        house
            .wait_until_up()
            .await
            .with_context(|| std::fs::read_to_string(data.join("house.log")).unwrap_or_default())?;
        Ok(house)
    }

    /// Waits until the web service and both functions answer.
    pub async fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for base in [&self.web, &self.preprocess, &self.inference] {
            let url = format!("{base}/health/live");
            loop {
                if self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                if let Some(status) = self.supervisor.try_wait()? {
                    bail!("`fovea up` ended: {status}");
                }
                ensure!(Instant::now() < deadline, "{url} does not answer");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Process ids of the supervisor's children with this program name.
    pub fn children(&self, program: &str) -> Vec<u32> {
        children_of(self.supervisor.id()).into_iter().filter(|pid| name_of(*pid).as_deref() == Some(program)).collect()
    }

    /// Stops everything as Ctrl-C would and waits for the end.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        kill(self.supervisor.id(), Signal::INT)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.supervisor.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "`fovea up` does not stop");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// GETs JSON from the web service.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.web)).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "GET {path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Uploads an archive and returns the dataset's manifest.
    pub async fn upload(&self, archive: Vec<u8>) -> Result<Value> {
        let form = Form::new().part("archive", Part::bytes(archive).file_name("shapes.zip"));
        let answer = self.http.post(format!("{}/api/datasets?wait=true", self.web)).multipart(form).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "upload: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Starts a run and returns its id.
    pub async fn train(&self, dataset: &str, hyperparameters: Value) -> Result<String> {
        let body = json!({"dataset": dataset, "hyperparameters": hyperparameters});
        let answer = self.http.post(format!("{}/api/runs", self.web)).json(&body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == 201, "train: {status} {text}");
        let run: Value = serde_json::from_str(&text)?;
        Ok(run["id"].as_str().context("the answer names the run")?.to_owned())
    }

    /// Waits for a run's end and returns its last status.
    pub async fn wait_for_run(&self, run: &str) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.get(&format!("/api/runs/{run}")).await?;
            let status = state["status"].clone();
            match status["state"].as_str() {
                Some("queued" | "running") => {}
                Some(_) => return Ok(status),
                None => bail!("no state in {state}"),
            }
            ensure!(Instant::now() < deadline, "run {run} does not end: {status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the inference function answers with this model version.
    pub async fn wait_for_version(&self, version: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = match self.http.get(&self.inference).send().await {
                Ok(answer) => answer.text().await,
                Err(error) => Err(error),
            };
            let is_it = |told: &String| {
                serde_json::from_str::<Value>(told).is_ok_and(|info| info["model"]["version"] == version)
            };
            if told.as_ref().is_ok_and(is_it) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "version {version} is not served: {told:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if matches!(self.supervisor.try_wait(), Ok(None)) {
            let family: Vec<u32> = children_of(self.supervisor.id());
            let _ = self.supervisor.kill();
            let _ = self.supervisor.wait();
            for pid in family {
                let _ = kill(pid, Signal::KILL);
            }
        }
    }
}

/// Sends a signal to a process.
pub fn kill(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.try_into()?).context("a process id is not zero")?;
    Ok(kill_process(pid, signal)?)
}

/// Direct children of a process.
pub fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Name of a process's program, as far as the kernel keeps it.
pub fn name_of(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
}
