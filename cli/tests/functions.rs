//! `fovea status`, `watch`, `url`, `traffic` and `apply` as processes, against a small admin port.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use api::{
    ErrorBody, ErrorCode, ErrorDetail,
    functions::{Activity, Decision, Phase, RevisionStatus, ServiceStatus, Status, TrafficShare, TrafficTarget},
};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(30);

/// An admin port that serves a [`Status`], and remembers what it was given.
struct Runtime {
    url: String,
    status: Arc<Mutex<Status>>,
    applied: Arc<Mutex<Vec<String>>>,
    /// Ends the server with it.
    _tokio: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Shared {
    status: Arc<Mutex<Status>>,
    applied: Arc<Mutex<Vec<String>>>,
}

impl Runtime {
    fn start(status: Status) -> Self {
        let tokio = tokio::runtime::Runtime::new().unwrap();
        let listener = tokio.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Shared { status: Arc::new(Mutex::new(status)), applied: Arc::default() };
        let Shared { status, applied } = shared.clone();
        let app = Router::new()
            .route(
                "/admin/status",
                get(async |State(shared): State<Shared>| Json(shared.status.lock().unwrap().clone())),
            )
            .route("/admin/services/{namespace}/{name}/traffic", put(set_traffic))
            .route("/admin/apply", post(apply))
            .with_state(shared);
        tokio.spawn(async { axum::serve(listener, app).await });
        Self { url, status, applied, _tokio: tokio }
    }

    fn fovea(&self, arguments: &[&str]) -> Output {
        fovea(&self.url, arguments).stdin(Stdio::null()).output().unwrap()
    }
}

/// Follows the wishes where they are 100 together.
async fn set_traffic(
    State(shared): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
    Json(targets): Json<Vec<TrafficTarget>>,
) -> Response {
    let sum: i64 = targets.iter().filter_map(|target| target.percent).sum();
    if sum != 100 {
        let message = format!("Traffic targets sum to {sum}, want 100: spec.traffic");
        return refuse(ErrorCode::Unprocessable, &message);
    }
    let mut status = shared.status.lock().unwrap();
    let service = status.services.iter_mut().find(|service| (&service.namespace, &service.name) == (&namespace, &name));
    let service = service.unwrap();
    let share = |target: &TrafficTarget| TrafficShare {
        revision: target.revision_name.clone().or_else(|| service.latest_ready.clone()).unwrap(),
        percent: u32::try_from(target.percent.unwrap()).unwrap(),
        latest: target.latest_revision.unwrap(),
        tag: target.tag.clone(),
        url: None,
    };
    service.traffic = targets.iter().map(share).collect();
    Json(service.clone()).into_response()
}

async fn apply(State(shared): State<Shared>, yaml: String) -> Response {
    if !yaml.contains("kind: Service") {
        return refuse(ErrorCode::Unprocessable, "missing field(s): kind");
    }
    shared.applied.lock().unwrap().push(yaml);
    StatusCode::OK.into_response()
}

fn refuse(code: ErrorCode, message: &str) -> Response {
    let body = ErrorBody::from(ErrorDetail::new(code, message));
    (StatusCode::from_u16(code.status()).unwrap(), Json(body)).into_response()
}

fn fovea(admin: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fovea"));
    command.args(arguments).env("FOVEA_ADMIN", admin);
    command
}

fn revision(name: &str) -> RevisionStatus {
    RevisionStatus {
        name: name.into(),
        phase: Phase::Ready,
        activity: Activity::Inactive,
        mode: "Proxy".into(),
        ..RevisionStatus::default()
    }
}

fn two_functions() -> Status {
    let service = |name: &str, port: u16| ServiceStatus {
        namespace: "default".into(),
        name: name.into(),
        url: format!("http://127.0.0.1:{port}/"),
        ready: true,
        latest_ready: Some(format!("{name}-00002")),
        traffic: vec![TrafficShare {
            revision: format!("{name}-00002"),
            percent: 100,
            latest: true,
            ..Default::default()
        }],
        revisions: vec![revision(&format!("{name}-00002")), revision(&format!("{name}-00001"))],
        ..ServiceStatus::default()
    };
    let services = vec![service("inference", 8082), service("preprocess", 8081)];
    Status { at_unix_ms: 1_000_000, resident_bytes: 1 << 20, services, ..Status::default() }
}

#[track_caller]
fn text(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap()
}

#[track_caller]
fn error(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn status_is_a_table_or_the_very_json_of_the_runtime() {
    let runtime = Runtime::start(two_functions());
    let output = runtime.fovea(&["status"]);
    let table = text(&output);
    assert!(table.starts_with("inference  ready  http://127.0.0.1:8082/\n  traffic  100% inference-00002 (latest)\n"));
    assert!(table.contains("  preprocess-00001  ready  inactive    0/0    0     0    0.00   0.00  Proxy\n"), "{table}");
    let json = runtime.fovea(&["status", "--json"]);
    assert_eq!(text(&json), serde_json::to_string(&two_functions()).unwrap() + "\n");
}

#[test]
fn urls_are_told_of_one_function_or_of_all() {
    let runtime = Runtime::start(two_functions());
    assert_eq!(text(&runtime.fovea(&["url", "inference"])), "http://127.0.0.1:8082/\n");
    assert_eq!(
        text(&runtime.fovea(&["url"])),
        "inference   http://127.0.0.1:8082/\npreprocess  http://127.0.0.1:8081/\n"
    );
    assert_eq!(
        error(&runtime.fovea(&["url", "other"])),
        "error: there is no function \"other\"; there are: inference, preprocess\n"
    );
}

#[test]
fn a_split_is_edited_and_its_outcome_told() {
    let runtime = Runtime::start(two_functions());
    let output = runtime.fovea(&["traffic", "inference", "latest=10", "inference-00001=90@old"]);
    assert_eq!(text(&output), "inference  10% inference-00002 (latest), 90% inference-00001 @old\n");
    assert_eq!(runtime.status.lock().unwrap().services[1], two_functions().services[1]);

    let output = runtime.fovea(&["traffic", "default/inference", "latest"]);
    assert_eq!(text(&output), "inference  100% inference-00002 (latest)\n");
}

#[test]
fn what_the_runtime_refuses_is_told_in_its_words() {
    let runtime = Runtime::start(two_functions());
    let refused = runtime.fovea(&["traffic", "inference", "latest=10", "inference-00001=80"]);
    assert_eq!(error(&refused), "error: Traffic targets sum to 90, want 100: spec.traffic\n");
    assert_eq!(*runtime.status.lock().unwrap(), two_functions());
}

#[test]
fn manifests_are_applied_from_a_file_or_from_standard_input() {
    let runtime = Runtime::start(Status::default());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.yaml");
    std::fs::write(&file, "kind: Service").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(text(&runtime.fovea(&["apply", file])), format!("applied {file}\n"));

    let mut child = fovea(&runtime.url, &["apply", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"metadata: {}").unwrap();
    let refused = child.wait_with_output().unwrap();
    assert_eq!(error(&refused), "error: missing field(s): kind\n");
    assert_eq!(*runtime.applied.lock().unwrap(), ["kind: Service"]);

    let missing = runtime.fovea(&["apply", "/nowhere/f.yaml"]);
    assert!(error(&missing).starts_with("error: cannot read /nowhere/f.yaml: "));
}

#[test]
fn where_no_runtime_answers_one_sentence_tells_the_remedy() {
    let url = "http://127.0.0.1:1";
    let sentence = format!(
        "error: nothing answers at {url}; start Fovea with `fovea up`, or name the runtime's admin port with --admin\n"
    );
    for arguments in [&["status"][..], &["status", "--json"], &["watch"], &["url"], &["traffic", "inference", "latest"]]
    {
        assert_eq!(error(&fovea(url, arguments).output().unwrap()), sentence, "{arguments:?}");
    }
    let runtime = Runtime::start(Status::default());
    let elsewhere = format!("{}/elsewhere", runtime.url);
    assert_eq!(
        error(&fovea(url, &["status", "--admin", &elsewhere]).output().unwrap()),
        format!("error: {elsewhere} answered 404 Not Found; is it the runtime's admin port?\n")
    );
}

/// Lines of a stream as they come.
fn lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

/// `fovea watch`; it does not outlive a test that fails.
struct Watching(Child);

impl Watching {
    /// Ctrl-C, and whether that is a good end.
    fn interrupt(&mut self) -> bool {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
        self.0.wait().unwrap().success()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn watch_prints_a_line_per_change_where_nobody_looks_at_a_screen() {
    let runtime = Runtime::start(two_functions());
    let mut watching = Watching(fovea(&runtime.url, &["watch"]).stdout(Stdio::piped()).spawn().unwrap());
    let told = lines(watching.0.stdout.take().unwrap());
    let first: Vec<_> = (0..10).map(|_| told.recv_timeout(SOON).unwrap()).collect();
    assert_eq!(first[0], "1970-01-01T00:16:40.000Z inference is at http://127.0.0.1:8082/");
    assert_eq!(first[9], "1970-01-01T00:16:40.000Z preprocess-00002 is ready, inactive, 0/0 instances ready");

    {
        let mut status = runtime.status.lock().unwrap();
        status.at_unix_ms += 5;
        let revision = &mut status.services[0].revisions[0];
        (revision.ready, revision.desired, revision.activity) = (1, 1, Activity::Active);
        (revision.cold_starts, revision.last_cold_start_ms) = (1, Some(3.5));
        let reason = "a request waits".to_owned();
        revision.decisions = vec![Decision { at_unix_ms: 1_000_001, desired: 1, ready: 0, reason }];
    }
    let changes: Vec<_> = (0..3).map(|_| told.recv_timeout(SOON).unwrap()).collect();
    assert_eq!(
        changes,
        [
            "1970-01-01T00:16:40.001Z inference-00002 0 -> 1: a request waits",
            "1970-01-01T00:16:40.005Z inference-00002 1 cold start, 3.5 ms",
            "1970-01-01T00:16:40.005Z inference-00002 is active, 1/1 instances ready",
        ]
    );
    assert!(watching.interrupt());
    assert_eq!(told.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn watch_draws_in_place_on_a_terminal_and_gives_it_back_on_ctrl_c() {
    let runtime = Runtime::start(two_functions());
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let other_end = OwnedFd::from(File::options().read(true).write(true).open(name).unwrap());
    let mut watching = Watching(fovea(&runtime.url, &["watch"]).stdout(other_end).spawn().unwrap());

    let (sender, told) = mpsc::channel();
    thread::spawn(move || {
        let mut terminal = File::from(terminal);
        let mut some = [0; 4096];
        // A terminal whose other end is closed cannot be read any more.
        while let Ok(n) = terminal.read(&mut some) {
            if sender.send(some[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut shown = String::new();
    let mut until = |text: &str| {
        while !shown.contains(text) {
            shown.push_str(&String::from_utf8_lossy(&told.recv_timeout(SOON).expect(text)));
        }
        std::mem::take(&mut shown)
    };
    let first = until("preprocess-00001");
    assert!(first.starts_with("\x1b[?1049h\x1b[?25l"), "{first:?}");
    runtime.status.lock().unwrap().services[0].revisions[0].phase = Phase::Failed;
    let second = until("inference-00002 is failed");
    assert!(!second.contains("\x1b[2J"), "nothing is blanked before it is drawn: {second:?}");

    assert!(watching.interrupt());
    assert!(until("\x1b[?1049l").ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l"));
}
