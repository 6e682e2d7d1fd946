//! `fovea up` as a process: how it fails and how it ends, with scripts in place of the servers.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A script cannot be run while a process forked elsewhere still holds it open for writing: writing and forking take
/// turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f`, and fails the test where it takes too long.
fn in_time<T: Send + 'static>(what: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(f()));
    result.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("it took too long {what}"))
}

/// A script that lives until it is killed, and a named pipe that it holds open for as long.
struct LongLived {
    script: String,
    pipe: PathBuf,
}

impl LongLived {
    /// `first`: what the script does before it settles down; descriptor 3 is the pipe.
    fn new(pipe: PathBuf, first: &str) -> Self {
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("a named pipe");
        Self { script: format!("exec 3>{}\n{first}\necho up >&3\nexec sleep 1000", pipe.display()), pipe }
    }

    fn wait_until_up(&self) -> BufReader<File> {
        let pipe = self.pipe.clone();
        in_time("to start", move || {
            let mut pipe = BufReader::new(File::open(pipe).expect("a pipe"));
            let mut line = String::new();
            pipe.read_line(&mut line).expect("a line");
            assert_eq!(line, "up\n");
            pipe
        })
    }
}

/// Waits for the end of every process that holds the other end open.
fn wait_until_gone(mut pipe: BufReader<File>) {
    in_time("to end", move || pipe.read_to_end(&mut Vec::new()).expect("an end"));
}

/// A target folder with the real `fovea`, and scripts beside it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        let components = place.path("wasm32-wasip2/release");
        fs::create_dir_all(&components).expect("a folder");
        for name in ["preprocess.wasm", "inference.wasm"] {
            fs::write(components.join(name), "").expect("a file");
        }
        fs::create_dir_all(place.path("release")).expect("a folder");
        let _turn = turn();
        fs::copy(env!("CARGO_BIN_EXE_fovea"), place.path("release/fovea")).expect("a copy");
        place
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    fn write_programs(&self, runtime: &str, web: &str) {
        let _turn = turn();
        for (name, script) in [("fovea-runtime", runtime), ("fovea-web", web), ("fovea-trainer", "exit 1")] {
            let path = self.path("release").join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a script that runs");
        }
    }

    /// `fovea up` with these ports: page, preprocess, inference; the two others are free ones.
    fn up(&self, ports: [u16; 3]) -> Child {
        let mut command = Command::new(self.path("release/fovea"));
        command.arg("up").arg("--data").arg(self.path("data"));
        let [ingress, admin, _] = free_ports();
        let flags = ["--port", "--preprocess-port", "--inference-port", "--ingress-port", "--admin-port"];
        for (flag, port) in flags.into_iter().zip(ports.into_iter().chain([ingress, admin])) {
            command.arg(flag).arg(port.to_string());
        }
        command.env("RUST_BACKTRACE", "1").env_remove("FOVEA_COMPONENTS").env_remove("FOVEA_HOST");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let _turn = turn();
        command.spawn().expect("fovea runs")
    }
}

fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("an address").port())
}

fn end(child: Child) -> Output {
    in_time("to end", move || child.wait_with_output().expect("it ran"))
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

#[track_caller]
fn check_one_sentence(output: &Output, sentence: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(sentence), "{said}");
    assert!(!said.contains("stack backtrace"), "{said}");
}

fn two_servers(place: &Place, first_of_web: &str) -> [LongLived; 2] {
    let runtime = LongLived::new(place.path("runtime"), "");
    let web = LongLived::new(place.path("web"), first_of_web);
    place.write_programs(&runtime.script, &web.script);
    [runtime, web]
}

/// Starts both servers, sends `fovea` alone a signal, and waits until nothing of them is left.
fn everything_ends_after(sent: Signal, first_of_web: &str) -> Output {
    let place = Place::new();
    let servers = two_servers(&place, first_of_web);
    let fovea = place.up(free_ports());
    let pipes = servers.each_ref().map(LongLived::wait_until_up);
    signal(&fovea, sent);
    pipes.into_iter().for_each(wait_until_gone);
    end(fovea)
}

#[test]
fn ctrl_c_and_a_polite_kill_end_both_servers() {
    for sent in [Signal::INT, Signal::TERM, Signal::HUP] {
        let output = everything_ends_after(sent, "");
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_killed_supervisor_leaves_no_server_behind() {
    let output = everything_ends_after(Signal::KILL, "");
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn what_a_server_started_in_another_session_ends_too() {
    let output = everything_ends_after(Signal::INT, "setsid sleep 1000 &");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_server_that_cannot_start_ends_everything_with_one_sentence() {
    let place = Place::new();
    let runtime = LongLived::new(place.path("runtime"), "");
    // The web service fails once the runtime is up, so that there is something to end.
    let web = LongLived::new(place.path("web"), "echo 'no such option' >&2\necho up >&3\nexit 3");
    place.write_programs(&runtime.script, &web.script);
    let fovea = place.up(free_ports());
    let pipe = runtime.wait_until_up();
    web.wait_until_up();
    wait_until_gone(pipe);
    let output = end(fovea);
    check_one_sentence(&output, "fovea-web ended while starting (exit status: 3)");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no such option"), "{output:?}");
}

#[test]
fn a_taken_port_is_told_before_anything_starts() {
    let place = Place::new();
    place.write_programs("exit 1", "exit 1");
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("an address").port();
    let [page, preprocess, _] = free_ports();
    let output = end(place.up([page, preprocess, taken]));
    check_one_sentence(&output, &format!("port {taken} on 127.0.0.1 is taken; stop what uses it"));
}

#[test]
fn what_was_not_built_is_told_before_anything_starts() {
    let place = Place::new();
    let output = end(place.up(free_ports()));
    check_one_sentence(&output, "fovea-runtime is not in");
}

#[test]
fn a_data_folder_that_cannot_be_made_is_told_with_its_path() {
    let place = Place::new();
    place.write_programs("exit 1", "exit 1");
    fs::write(place.path("data"), "a file is in the way").expect("a file");
    let output = end(place.up(free_ports()));
    check_one_sentence(
        &output,
        &format!("name a writable folder with --data: cannot write {}", place.path("data").display()),
    );
}
