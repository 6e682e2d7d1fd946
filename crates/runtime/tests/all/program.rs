//! The program itself, as a process.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Lines, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use api::functions::Status;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use serving::Manifests;
use tempfile::{NamedTempFile, TempDir};

use crate::{
    bench::{HOSTILE, PATIENCE, cache, components},
    function::Function,
    registry::{CURRENT, Registry},
};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fovea-runtime"));
    command.args(arguments).env("FOVEA_CACHE", cache()).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The program as a container runs it, at a free port.
fn serve(arguments: &[&str]) -> Command {
    let mut command = program(&["serve", "--port", "0"]);
    command.args(arguments).env("FOVEA_COMPONENT", guest());
    command
}

fn guest() -> String {
    components().join("guest_hostile.wasm").into_os_string().into_string().unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What `serve` takes where this variable is not set.
fn default_of(variable: &str) -> String {
    let help = program(&["serve", "--help"]).env_remove(variable).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, rest) = help.split_once(&format!("[env: {variable}=] [default: ")).unwrap();
    rest.split_once(']').unwrap().0.to_owned()
}

#[test]
fn a_containers_defaults_are_the_numbers_of_the_functions_manifests() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../knative/base");
    let manifests = Manifests::read(&base).unwrap();
    assert_eq!(manifests.services.len(), 2);
    let sandbox = default_of("FOVEA_MEMORY").parse::<bytesize::ByteSize>().unwrap();
    for manifest in &manifests.services {
        let container = &manifest.service.spec.template.spec.containers.as_ref().unwrap()[0];
        assert_eq!(container.ports[0].container_port.to_string(), default_of("PORT"));
        assert_eq!(u64::try_from(container.resources.limits["memory"].value()), Ok(sandbox.as_u64()));
    }
}

/// A running program that does not outlive its test.
struct Running {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    log: NamedTempFile,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let log = NamedTempFile::new().unwrap();
        let mut child = command.stderr(log.reopen().unwrap()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said, log }
    }

    /// The next line on the standard output, which begins like this: what follows.
    fn says(&mut self, beginning: &str) -> String {
        let Some(line) = self.said.next() else { panic!("it ended:\n{}", self.log()) };
        let line = line.unwrap();
        line.strip_prefix(beginning).unwrap_or_else(|| panic!("{line:?} does not begin with {beginning:?}")).to_owned()
    }

    /// Where a container is served, once it is ready.
    fn address(&mut self, name: &str) -> SocketAddr {
        self.says(&format!("ready: {name} at http://")).parse().unwrap()
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }

    /// The log, of which every line must be JSON.
    #[track_caller]
    fn log_lines(&self) -> Vec<Value> {
        let log = self.log();
        let parsed: Result<Vec<Value>, _> = log.lines().map(serde_json::from_str).collect();
        let lines = parsed.unwrap_or_else(|error| panic!("{error}:\n{log}"));
        assert!(lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()), "{log}");
        lines
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a GET and leaves the answer to be read.
fn ask(address: SocketAddr, host: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn is_ok(answer: &str, body: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
}

fn get(address: SocketAddr, path: &str) -> String {
    answer(ask(address, "localhost", path))
}

/// It ends with a complaint like this, and has said nothing on the standard output.
#[track_caller]
fn refuses(command: &mut Command, complaint: &str) {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(complaint), "{said}");
    assert_eq!(output.stdout, b"");
}

/// Manifests in a folder of their own, and a folder for the state.
struct House {
    folder: TempDir,
    registry: Registry,
    admin: SocketAddr,
}

impl House {
    fn new(functions: &[Function]) -> Self {
        let house =
            Self { folder: tempfile::tempdir().unwrap(), registry: Registry::with("one"), admin: free_address() };
        fs::create_dir(house.folder.path().join("manifests")).unwrap();
        for (n, function) in functions.iter().enumerate() {
            let file = house.folder.path().join(format!("manifests/{n}.yaml"));
            fs::write(file, function.to_string()).unwrap();
        }
        house
    }

    fn up(&self, arguments: &[&str]) -> Command {
        let mut command = program(&["up", "--ingress", "127.0.0.1:0"]);
        command.arg("--manifests").arg(self.folder.path().join("manifests"));
        command.arg("--claim").arg(format!("models={}", self.registry.path().display()));
        command.args(["--admin", &self.admin.to_string()]);
        command.env("FOVEA_STATE", self.folder.path().join("state")).env("FOVEA_COMPONENTS", components());
        command.args(arguments);
        command
    }

    fn status(&self) -> Status {
        let answer = answer(ask(self.admin, "localhost", "/admin/status"));
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn until(&self, holds: impl Fn(&Status) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.status()) {
            assert!(Instant::now() < deadline, "{:#?}", self.status());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn until_ready(&self) {
        self.until(|status| status.services.iter().all(|service| service.ready));
    }
}

#[test]
fn up_says_what_it_serves_answers_and_lets_requests_finish_when_told_to_stop() {
    let house = House::new(&[Function::new(HOSTILE).mounting(CURRENT), Function::new("other")]);
    let own = free_address();
    let expose = format!("default/hostile={own}");
    let mut running = Running::start(&mut house.up(&["--expose", &expose, "--log-format", "json"]));
    assert_eq!(running.says("function: hostile at "), format!("http://{own}/"));
    let other = running.says("function: other at http://other.default.localhost:");
    let ingress: SocketAddr = format!("127.0.0.1:{}", other.trim_end_matches('/')).parse().unwrap();
    assert_eq!(running.says("ready"), "");
    house.until_ready();

    is_ok(&get(own, "/version"), "one");
    // It was baked by a process of its own.
    is_ok(&get(own, "/baked"), "baked");
    is_ok(&answer(ask(ingress, "other.default.localhost", "/")), "well behaved");
    assert!(answer(ask(ingress, "localhost", "/")).starts_with("HTTP/1.1 404 "));
    house.registry.publish("two");
    house.until(|status| status.services[0].latest_ready.as_deref() == Some("hostile-00002"));
    is_ok(&get(own, "/version"), "two");

    let slow = ask(own, "localhost", "/wait?1000");
    house.until(|status| status.services[0].revisions[0].running == 1);
    running.terminate();
    is_ok(&answer(slow), "waited");
    assert!(running.ended().success());
    let log = running.log();
    let lines = running.log_lines();
    let has = |key: &str, value: &str| lines.iter().any(|line| line[key] == value);
    assert!(has("revision", "hostile-00002") && has("service", HOSTILE), "{log}");
    assert!(
        lines.iter().any(|line| line["message"].as_str().is_some_and(|said| said.starts_with("stopping"))),
        "{log}"
    );
}

#[test]
fn up_continues_where_it_was() {
    let house = House::new(&[Function::new(HOSTILE).mounting(CURRENT)]);
    let own = free_address();
    let expose = format!("default/hostile={own}");
    let mut running = Running::start(&mut house.up(&["--expose", &expose]));
    running.says("function: hostile at ");
    running.says("ready");
    house.until_ready();
    // Killed, not asked to stop.
    drop(running);
    house.registry.publish("two");
    let mut running = Running::start(&mut house.up(&["--expose", &expose]));
    running.says("function: hostile at ");
    running.says("ready");
    house.until(|status| status.services[0].latest_ready.as_deref() == Some("hostile-00002"));
    is_ok(&get(own, "/version"), "two");
    assert_eq!(house.status().services[0].revisions.len(), 2);
}

#[test]
fn up_takes_manifests_from_the_standard_input() {
    let house = House::new(&[Function::new(HOSTILE)]);
    let mut command = program(&["up", "--manifests", "-", "--ingress", "127.0.0.1:0", "--domain", "example.org"]);
    command.args(["--admin", &house.admin.to_string(), "--state"]).arg(house.folder.path().join("state"));
    command.env("FOVEA_COMPONENTS", components()).stdin(Stdio::piped());
    let mut running = Running::start(&mut command);
    let mut stdin = running.child.stdin.take().unwrap();
    let functions = [Function::new(HOSTILE), Function::new("other")];
    stdin.write_all(functions.map(|function| function.to_string()).concat().as_bytes()).unwrap();
    drop(stdin);
    running.says("function: hostile at http://hostile.default.example.org:");
    running.says("function: other at http://other.default.example.org:");
    running.says("ready");
}

#[test]
fn up_refuses_what_it_does_not_understand_before_it_serves() {
    let good = || House::new(&[Function::new(HOSTILE)]);
    refuses(program(&["up"]).env_remove("FOVEA_COMPONENTS"), "--components");
    refuses(&mut good().up(&["--colour", "red"]), "--colour");
    refuses(&mut good().up(&["--claim", "models"]), "expected CLAIM=FOLDER");
    refuses(&mut good().up(&["--expose", "hostile"]), "expected NAME=ADDRESS");
    refuses(&mut good().up(&["--expose", "hostile=8080"]), "is no address such as 127.0.0.1:8081");
    refuses(&mut good().up(&["--compute-threads", "0"]), "--compute-threads must be at least 1");
    refuses(&mut good().up(&["--manifests", "/missing.yaml"]), "cannot read /missing.yaml");
    refuses(&mut House::new(&[]).up(&[]), "holds no file that ends in .yaml");
    refuses(&mut House::new(&[Function::new(HOSTILE).misspelt("imago")]).up(&[]), "imago");
    let wrong = [Function::new("first").concurrency(5000), Function::new("second").timeout_seconds(5000)];
    for complaint in ["default/first: expected 0 <= 5000 <= 1000", "default/second: expected 0 <= 5000 <= 600"] {
        refuses(&mut House::new(&wrong).up(&[]), complaint);
    }

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port();
    for (option, value, what) in [
        ("--ingress", address.clone(), "the ingress"),
        ("--expose", format!("default/hostile={address}"), "function `hostile`"),
    ] {
        let house = good();
        let mut command = program(&["up", "--state"]);
        command.arg(house.folder.path().join("state")).env("FOVEA_COMPONENTS", components());
        command.args(["--admin", &house.admin.to_string()]);
        if option != "--ingress" {
            command.args(["--ingress", "127.0.0.1:0"]);
        }
        command.args([option, &value]);
        refuses(&mut command, &format!("{what} cannot listen at {address}: port {port} is taken by another program"));
    }
}

#[tokio::test]
async fn a_container_answers_http_1_and_http_2_at_one_port() {
    let mut running = Running::start(serve(&["--revision", "classify-00007"]).env("FOVEA_MAX_LOG", "1KiB"));
    let address = running.address("classify-00007");
    let first = get(address, "/");
    is_ok(&first, "well behaved");
    assert!(first.contains("x-fovea-revision: classify-00007\r\n"), "{first}");
    for name in ["queue;dur=", "sandbox;dur=", "total;dur="] {
        assert!(first.contains(name), "{first}");
    }

    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        || http::Request::get(format!("http://{address}/requests")).body(Empty::<bytes::Bytes>::new()).unwrap();
    // Side by side on one connection.
    let (one, two) = (sender.send_request(request()), sender.send_request(request()));
    for answer in [one.await.unwrap(), two.await.unwrap()] {
        assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 200));
        assert_eq!(answer.headers()["x-fovea-revision"], "classify-00007");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "1");
    }
}

#[test]
fn a_container_lets_requests_finish_when_told_to_stop_and_logs_json() {
    let mut running = Running::start(&mut serve(&["--log-format", "json", "--max-log", "1KiB", "--env", "ONLY=this"]));
    let address = running.address("function");
    is_ok(&get(address, "/flood"), "flooded");
    assert!(get(address, "/sandbox").contains("\nenv ONLY=this\n"));
    assert!(get(address, "/trap").starts_with("HTTP/1.1 500 "));
    let slow = ask(address, "localhost", "/wait?1500");
    // Its request has to get there first.
    thread::sleep(Duration::from_millis(300));
    running.terminate();
    is_ok(&answer(slow), "waited");
    assert!(running.ended().success());
    assert!(TcpStream::connect(address).is_err());

    let log = running.log();
    let lines = running.log_lines();
    let guest: Vec<&Value> = lines.iter().filter(|line| line["target"] == "guest").collect();
    assert!(guest.iter().any(|line| line["line"] == "line 0 of a flood that nobody wants to read"), "{log}");
    let dropped = guest.iter().find(|line| line["dropped_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    assert!(dropped.is_some_and(|line| line["function"] == "function"), "{log}");
    let flood: usize = guest.iter().filter_map(|line| line["line"].as_str()).map(str::len).sum();
    assert!(flood < 4096, "{log}");
}

#[test]
fn a_containers_time_is_limited_and_its_sandboxes_shared_as_told() {
    let mut running = Running::start(&mut serve(&["--timeout", "2s", "--max-requests", "2", "--memory", "64MiB"]));
    let address = running.address("function");
    let answers: Vec<String> = (0..40).map(|_| get(address, "/requests")).collect();
    assert!(answers.iter().all(|answer| answer.ends_with("\r\n\r\n1") || answer.ends_with("\r\n\r\n2")), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.ends_with('2')), "no sandbox was used twice");
    let late = get(address, "/spin");
    assert!(late.starts_with("HTTP/1.1 504 ") && late.contains("no answer within 2s"), "{late}");
    let hog = get(address, "/hog");
    assert!(hog.starts_with("HTTP/1.1 500 ") && hog.contains("more memory than the 64.0 MiB"), "{hog}");
    is_ok(&get(address, "/"), "well behaved");
}

#[test]
fn a_container_can_be_reached_only_once_it_is_ready() {
    let registry = Registry::with("one");
    let cold = tempfile::tempdir().unwrap();
    let address = free_address();
    let mount = format!("{}:/model", registry.current().display());
    let mut command = program(&["serve", "--port", &address.port().to_string(), "--mount", &mount]);
    command.args(["--log-format", "json"]).env("FOVEA_COMPONENT", guest()).env("FOVEA_CACHE", cold.path());
    let mut running = Running::start(&mut command);
    let deadline = Instant::now() + PATIENCE;
    let mut refused = 0;
    while TcpStream::connect(address).is_err() {
        refused += 1;
        assert!(Instant::now() < deadline, "{}", running.log());
        thread::sleep(Duration::from_millis(5));
    }
    assert!(refused > 0, "baking takes longer than starting a process");
    let asked = Instant::now();
    is_ok(&get(address, "/baked"), "baked");
    assert!(asked.elapsed() < Duration::from_secs(1));
    running.says("ready: function at ");
    // What bakes is another process, and logs as this one does.
    assert!(running.log_lines().iter().any(|line| line["message"] == "baked"), "{}", running.log());

    // One that never gets ready is never reached.
    registry.publish("trap");
    refuses(&mut serve(&["--mount", &mount]), "cannot bake the component");
}

#[test]
fn a_container_takes_over_what_was_baked_under_the_key_it_is_given() {
    let (registry, folder) = (Registry::with("one"), tempfile::tempdir().unwrap());
    let [key, other, artefacts] = ["key", "other", "artefacts"].map(|name| folder.path().join(name));
    fs::write(&key, [7; 32]).unwrap();
    fs::write(&other, [8; 32]).unwrap();
    let told = |command: &mut Command, key: &Path| {
        command.env("FOVEA_COMPONENT", guest()).env("FOVEA_MODEL_PATH", registry.current());
        command.env("FOVEA_ARTEFACTS", &artefacts).env("FOVEA_ARTEFACT_KEY_FILE", key);
    };
    let bake = || {
        let mut command = program(&["bake"]);
        told(&mut command, &key);
        let output = command.stderr(Stdio::piped()).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        (String::from_utf8(output.stdout).unwrap(), log)
    };
    let (name, log) = bake();
    assert!(log.contains("baked") && artefacts.join(name.trim()).is_dir(), "{name}{log}");
    assert_eq!(bake(), (name, String::new()), "it was there");

    for (key, is_taken_over) in [(&key, true), (&other, false)] {
        let cold = tempfile::tempdir().unwrap();
        let mut command = program(&["serve", "--port", "0"]);
        told(&mut command, key);
        let mut running = Running::start(command.env("FOVEA_CACHE", cold.path()));
        let address = running.address("function");
        is_ok(&get(address, "/baked"), "baked");
        is_ok(&get(address, "/version"), "one");
        assert_eq!(!running.log().contains("baked"), is_taken_over, "{}", running.log());
    }

    fs::remove_file(registry.current()).unwrap();
    let mut command = program(&["serve", "--port", "0"]);
    told(&mut command, &key);
    let mut running = Running::start(&mut command);
    let address = running.address("function");
    is_ok(&get(address, "/"), "well behaved");
    assert!(running.log().contains("there is no model yet"), "{}", running.log());

    told(&mut command, &folder.path().join("missing"));
    refuses(&mut command, "missing");
    fs::write(&key, "short").unwrap();
    told(&mut command, &key);
    refuses(&mut command, "a key of 5 bytes is too short");
}

/// Everything below a folder, with its content.
fn contents(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

fn set_writable(folder: &Path, writable: bool) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            set_writable(&path, writable);
        } else {
            fs::set_permissions(path, fs::Permissions::from_mode(if writable { 0o600 } else { 0o400 })).unwrap();
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(if writable { 0o700 } else { 0o500 })).unwrap();
}

#[test]
fn a_containers_cache_may_be_read_only_once_it_is_filled() {
    let filled = tempfile::tempdir().unwrap();
    let cached = || {
        let mut command = serve(&[]);
        command.env("FOVEA_CACHE", filled.path());
        command
    };
    let mut running = Running::start(&mut cached());
    is_ok(&get(running.address("function"), "/"), "well behaved");
    drop(running);
    let before = contents(filled.path());
    assert!(before.len() >= 4, "{:?}", before.keys());
    set_writable(filled.path(), false);

    let mut running = Running::start(&mut cached());
    is_ok(&get(running.address("function"), "/"), "well behaved");
    assert!(!running.log().contains("baked"), "{}", running.log());
    drop(running);
    assert!(contents(filled.path()) == before, "something was written");
    set_writable(filled.path(), true);
}

#[test]
fn a_container_refuses_what_it_does_not_understand_before_it_listens() {
    refuses(&mut program(&["serve"]), "--component");
    refuses(&mut program(&[]), "Usage:");
    refuses(&mut serve(&["--max-requests", "0"]), "--max-requests must be at least 1");
    refuses(&mut serve(&["--mount", "/model"]), "expected FOLDER:/PATH");
    refuses(&mut serve(&["--env", "=x"]), "expected KEY=VALUE");
    refuses(&mut serve(&["--memory", "much"]), "--memory");
    refuses(serve(&[]).env("FOVEA_LOG", "chatty=very"), "FOVEA_LOG is `chatty=very`; expected levels such as info");
    refuses(&mut serve(&["--component", "/missing.wasm"]), "cannot read component /missing.wasm");
    refuses(&mut serve(&["--mount", "/missing:/model"]), "cannot look at /missing, the directory to mount");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = program(&["serve", "--port", &port]);
    refuses(command.env("FOVEA_COMPONENT", guest()), &format!("port {port} is taken by another program"));
}
