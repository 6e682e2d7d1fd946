//! The one program of the machine that is needed: `kubectl`, which renders manifests and forwards ports.

use std::{ffi::OsString, io, path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    sync::Mutex,
    time::timeout,
};

use crate::failure::{Failure, Result};

/// Where Services take plain HTTP.
pub const PORT: u16 = 80;

/// How long a port-forward may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// `kubectl`, and the cluster that it is told of.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: OsString,
    arguments: Vec<String>,
    /// Hosts that it is to ask no proxy for.
    no_proxy: Option<String>,
}

impl Kubectl {
    /// The `kubectl` of the search path.
    pub fn new(kubeconfig: Option<&Path>, context: Option<&str>) -> Self {
        Self::program("kubectl", kubeconfig, context)
    }

    /// Another program that does the same.
    pub fn program(program: impl Into<OsString>, kubeconfig: Option<&Path>, context: Option<&str>) -> Self {
        let mut arguments = vec![];
        if let Some(kubeconfig) = kubeconfig {
            arguments.extend(["--kubeconfig".to_owned(), kubeconfig.display().to_string()]);
        }
        if let Some(context) = context {
            arguments.extend(["--context".to_owned(), context.to_owned()]);
        }
        Self { program: program.into(), arguments, no_proxy: None }
    }

    /// Asks no proxy for this host, as this program does; nor for those that the environment tells.
    pub fn without_proxy_for(mut self, host: Option<&str>) -> Self {
        let told = ["NO_PROXY", "no_proxy"].into_iter().find_map(|name| std::env::var(name).ok());
        let told = told.filter(|told| !told.is_empty());
        self.no_proxy = host.map(|host| told.into_iter().chain([host.to_owned()]).collect::<Vec<_>>().join(","));
        self
    }

    /// A command for a person to copy.
    pub fn shown(&self, arguments: &str) -> String {
        let words = ["kubectl"].into_iter().chain(self.arguments.iter().map(String::as_str));
        format!("{} {arguments}", words.collect::<Vec<_>>().join(" "))
    }

    fn missing(error: &io::Error) -> Failure {
        let says = format!("kubectl cannot be started ({error}); it renders the manifests");
        Failure::new(says).mend("see https://kubernetes.io/docs/tasks/tools")
    }

    /// The objects of a folder, as `kubectl kustomize` renders them.
    ///
    /// # Errors
    /// If there is no `kubectl`, or it refuses
    pub async fn render(&self, folder: &Path) -> Result<Vec<Value>> {
        let output = Command::new(&self.program).arg("kustomize").arg(folder).stdin(Stdio::null()).output().await;
        let output = output.map_err(|error| Self::missing(&error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("kubectl kustomize {} failed: {}", folder.display(), said.trim())));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
            .map_err(|error| Failure::new(format!("what {} renders is no YAML: {error}", folder.display())))?;
        Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
    }

    /// Forwards a port of this machine to a port of a Service, until the answer is dropped.
    ///
    /// # Errors
    /// If `kubectl` does not begin to
    pub async fn forward(&self, namespace: &str, service: &str, port: u16) -> Result<Forward> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(["--namespace", namespace, "port-forward", "--address", "127.0.0.1"]);
        command.arg(format!("service/{service}")).arg(format!(":{port}"));
        command.envs(self.no_proxy.iter().map(|hosts| ("NO_PROXY", hosts)));
        // An interruption is for this program alone, which may still have something to ask.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Self::missing(&error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut lines = BufReader::new(stdout.ok_or_else(|| Failure::new("kubectl says nothing"))?).lines();
        let first = timeout(BEGINS_WITHIN, lines.next_line()).await;
        let local = first.ok().and_then(Result::ok).flatten().and_then(|line| local_address(&line));
        let Some(local) = local else {
            // Whatever it is, it ends by that.
            let _ = child.start_kill();
            let mut said = String::new();
            if let Some(mut stderr) = stderr {
                let _ = timeout(Duration::from_secs(1), stderr.read_to_string(&mut said)).await;
            }
            let said = said.trim().replace('\n', "; ");
            return Err(Failure::new(format!(
                "kubectl does not forward a port to service {service} in {namespace}: {said}"
            )));
        };
        // It would wait for somebody to read what it tells of each connection.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        if let Some(stderr) = stderr {
            let mut lines = BufReader::new(stderr).lines();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        }
        Ok(Forward { child, base: format!("http://{local}") })
    }
}

/// Of `Forwarding from 127.0.0.1:40123 -> 8080`.
fn local_address(line: &str) -> Option<String> {
    let (address, _) = line.strip_prefix("Forwarding from ")?.split_once(" -> ")?;
    Some(address.to_owned())
}

/// A port of this machine that leads into the cluster.
#[derive(Debug)]
pub struct Forward {
    child: Child,
    base: String,
}

impl Forward {
    /// Such as `http://127.0.0.1:40123`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether it still forwards: it ends when the pod behind it does.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// A Service's port, forwarded as long as it is used: anew where the pod behind it has ended.
#[derive(Debug)]
pub struct Door<'a> {
    kubectl: &'a Kubectl,
    namespace: &'a str,
    service: &'static str,
    /// Locked while one is begun, so that there are never two.
    forward: Mutex<Option<Forward>>,
}

impl<'a> Door<'a> {
    /// Forwards nothing yet.
    pub fn new(kubectl: &'a Kubectl, namespace: &'a str, service: &'static str) -> Self {
        Self { kubectl, namespace, service, forward: Mutex::default() }
    }

    /// Where the Service is reached now.
    ///
    /// # Errors
    /// If `kubectl` does not forward the port
    pub async fn base(&self) -> Result<String> {
        let mut kept = self.forward.lock().await;
        if let Some(forward) = kept.as_mut()
            && forward.is_alive()
        {
            return Ok(forward.base().to_owned());
        }
        let forward = self.kubectl.forward(self.namespace, self.service, PORT).await?;
        let base = forward.base().to_owned();
        *kept = Some(forward);
        Ok(base)
    }

    /// Ends the forwarding by which the Service was reached there, unless that is over already.
    pub async fn shut(&self, base: &str) {
        self.forward.lock().await.take_if(|forward| forward.base() == base);
    }
}

impl std::fmt::Display for Door<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a port forwarded to {}/{}", self.namespace, self.service)
    }
}

/// Where a script stands in for `kubectl`.
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use super::*;

    /// A script cannot be run while a process that another test forks still holds it open for writing.
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    fn script(folder: &tempfile::TempDir, text: &str) -> Kubectl {
        let path: PathBuf = folder.path().join("kubectl");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Kubectl::program(path, Some(Path::new("/k/config")), Some("mine"))
    }

    #[tokio::test]
    async fn a_forward_tells_its_address_and_whether_it_lives() {
        let _turn = ONE_AT_A_TIME.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let text =
            format!("echo \"$*\" > {}; echo 'Forwarding from 127.0.0.1:40123 -> 8080'; read line", said.display());
        // It reads from nowhere, so it ends at once.
        let mut forward = script(&folder, &text).forward("kourier-system", "kourier", 80).await.unwrap();
        assert_eq!(forward.base(), "http://127.0.0.1:40123");
        assert_eq!(
            fs::read_to_string(said).unwrap(),
            "--kubeconfig /k/config --context mine --namespace kourier-system port-forward --address 127.0.0.1 \
             service/kourier :80\n"
        );
        forward.child.wait().await.unwrap();
        assert!(!forward.is_alive());
    }

    #[tokio::test]
    async fn a_forward_that_does_not_begin_tells_what_kubectl_said() {
        let _turn = ONE_AT_A_TIME.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let kubectl = script(&folder, "echo 'error: services \"kourier\" not found' >&2; exit 1");
        let failure = kubectl.forward("kourier-system", "kourier", 80).await.unwrap_err();
        assert!(failure.says.ends_with("kourier-system: error: services \"kourier\" not found"), "{}", failure.says);
    }

    #[tokio::test]
    async fn an_api_server_that_is_asked_without_a_proxy_is_so_by_kubectl_too() {
        let _turn = ONE_AT_A_TIME.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let kubectl =
            script(&folder, "echo \"error: not by $NO_PROXY\" >&2; exit 1").without_proxy_for(Some("10.0.0.7"));
        let failure = kubectl.forward("kourier-system", "kourier", 80).await.unwrap_err();
        assert!(failure.says.contains("error: not by ") && failure.says.ends_with("10.0.0.7"), "{}", failure.says);
    }

    #[tokio::test]
    async fn what_cannot_be_rendered_is_told_in_kubectls_words() {
        let _turn = ONE_AT_A_TIME.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let kubectl = script(&folder, "echo 'error: no such folder' >&2; exit 1");
        let failure = kubectl.render(Path::new("/nowhere")).await.unwrap_err();
        assert_eq!(failure.says, "kubectl kustomize /nowhere failed: error: no such folder");
        let failure = Kubectl::program("/nowhere/kubectl", None, None).render(Path::new("x")).await.unwrap_err();
        assert!(failure.says.starts_with("kubectl cannot be started"), "{}", failure.says);
    }
}
