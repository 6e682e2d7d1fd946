//! The program itself, as a process.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{cache, hostile_guest};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fovea-runtime"));
    command.env("FOVEA_CACHE", cache()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn hostile(name: &str, listen: &str) -> String {
    format!("name={name},component={},listen={listen},concurrency=1", hostile_guest().display())
}

/// A running program that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Refused arguments: the exit code is not zero and the complaint is this one.
#[track_caller]
fn refuses(arguments: &[&str], complaint: &str) {
    let output = program().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(complaint), "{said}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn it_says_when_it_is_ready_answers_and_stops_when_told() {
    let mut child = Running(
        program()
            .args(["--function", &hostile("first", "127.0.0.1:0"), "--function", &hostile("second", "127.0.0.1:0")])
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    for name in ["first", "second"] {
        let line = lines.next().unwrap().unwrap();
        let rest = line.strip_prefix(&format!("ready: {name} at http://")).unwrap_or_else(|| panic!("{line}"));
        let (address, revision) = rest.split_once(' ').unwrap();
        assert_eq!(revision, format!("({name}-1)"));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("well behaved"), "{answer}");
    }
    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    assert!(child.0.wait().unwrap().success());
    let mut log = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    for expected in ["answered", "method=GET", "path=\"/\"", "status=200", "function=\"first\"", "stopping"] {
        assert!(log.contains(expected), "{expected} is not in the log:\n{log}");
    }
}

#[test]
fn what_it_does_not_understand_it_refuses_before_it_listens() {
    refuses(&[], "--function");
    refuses(&["--function", "name=a,component=a.wasm,listen=127.0.0.1:0,colour=red"], "unknown key `colour`");
    let (one, two) = (hostile("same", "127.0.0.1:0"), hostile("other", "127.0.0.1:9"));
    refuses(&["--function", &one, "--function", &one], "two functions are named `same`");
    let three = hostile("third", "127.0.0.1:9");
    refuses(&["--function", &two, "--function", &three], "`other` and `third` both listen at 127.0.0.1:9");
    refuses(&["--function", &one, "--compute-threads", "0"], "at least 1");
    refuses(
        &["--function", "name=a,component=/missing.wasm,listen=127.0.0.1:0"],
        "cannot read component /missing.wasm",
    );
}
