//! Beginning and end of serving.

use std::{fs, future::pending, io::ErrorKind, time::Duration};

use api::functions::Phase;
use runtime::{Drained, Ingress, RuntimeError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    bench::{Bench, HOSTILE, PATIENCE, Setup, service},
    function::Function,
};

async fn serve() -> Bench {
    Setup::of(Function::new(HOSTILE)).start().await
}

/// What comes back for these bytes until the connection ends.
async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn draining_lets_requests_in_flight_finish() {
    let bench = serve().await;
    let slow = bench.spawn_get("/busy?1000");
    bench.until_running(1).await;
    let address = bench.at;
    assert_eq!(bench.stop().await, Drained { cut: 0 });
    slow.await.unwrap().is_ok("done");
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn draining_has_a_deadline() {
    let function = Function::new(HOSTILE).timeout_seconds(600);
    let bench = Setup::of(function).drain(Duration::from_millis(200)).start().await;
    let spinner = bench.spawn_get("/spin");
    bench.until_running(1).await;
    assert_eq!(bench.stop().await, Drained { cut: 1 });
    assert!(spinner.await.unwrap_err().is_panic(), "the connection was cut");
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_draining() {
    let bench = serve().await;
    let mut idle = TcpStream::connect(bench.at).await.unwrap();
    bench.get("/").await.is_ok("well behaved");
    assert_eq!(bench.stop().await, Drained { cut: 0 });
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn garbage_is_a_400_and_the_server_lives_on() {
    let bench = serve().await;
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let answer = raw(bench.at, garbage).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn hosts_are_told_apart_however_they_are_written() {
    let bench = serve().await;
    let close = "connection: close\r\n\r\n";
    for (head, is_there) in [
        (format!("GET / HTTP/1.1\r\nhost: hostile.default.localhost\r\n{close}"), true),
        (format!("GET / HTTP/1.1\r\nhost: Hostile.Default.LocalHost:8083\r\n{close}"), true),
        (format!("GET / HTTP/1.1\r\nhost: hostile.default.svc.cluster.local\r\n{close}"), true),
        (format!("GET http://hostile.default.localhost/ HTTP/1.1\r\nhost: hostile.default.localhost\r\n{close}"), true),
        ("GET / HTTP/1.0\r\nhost: hostile.default.localhost\r\n\r\n".to_owned(), true),
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\n{close}"), false),
        (format!("GET / HTTP/1.1\r\nhost: other.default.localhost\r\n{close}"), false),
        (format!("GET / HTTP/1.1\r\nhost: \u{7f}\r\n{close}"), false),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), false),
    ] {
        let answer = raw(bench.at, &head).await;
        assert_eq!(answer.contains(" 200 OK") && answer.ends_with("well behaved"), is_there, "{head}\n{answer}");
        assert!(answer.starts_with("HTTP/1."), "{answer}");
    }
}

#[tokio::test]
async fn at_its_own_port_a_function_is_served_whatever_the_host() {
    let functions = [Function::new(HOSTILE), Function::new("other")].map(|function| function.to_string());
    let bench = Setup::of(functions.concat()).start().await;
    let listener = runtime::bind("the function", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Ingress::of_service(&bench.control, "default", HOSTILE).serve(listener, pending(), PATIENCE));
    for (head, revision) in [
        ("GET / HTTP/1.0\r\n\r\n", "hostile-00001"),
        ("GET / HTTP/1.0\r\nhost: localhost:8081\r\n\r\n", "hostile-00001"),
        ("GET / HTTP/1.0\r\nhost: other.default.localhost\r\n\r\n", "other-00001"),
    ] {
        let answer = raw(address, head).await;
        assert!(answer.contains(" 200 OK") && answer.ends_with("well behaved"), "{answer}");
        assert!(answer.contains(&format!("x-fovea-revision: {revision}\r\n")), "{answer}");
    }

    let listener = runtime::bind("the function", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Ingress::of_service(&bench.control, "default", "absent").serve(listener, pending(), PATIENCE));
    let answer = raw(address, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains(" 503 ") && answer.ends_with("this function cannot serve yet\n"), "{answer}");
}

#[tokio::test]
async fn head_has_no_body() {
    let bench = serve().await;
    let head = "HEAD / HTTP/1.1\r\nhost: hostile.default.localhost\r\nconnection: close\r\n\r\n";
    let answer = raw(bench.at, head).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_remedy() {
    let bench = serve().await;
    let error = runtime::bind("function `late`", bench.at).await.unwrap_err();
    assert!(matches!(error, RuntimeError::PortTaken { .. }));
    let port = bench.at.port();
    assert_eq!(
        error.to_string(),
        format!(
            "function `late` cannot listen at 127.0.0.1:{port}: port {port} is taken by another program; \
             stop that program or choose another port"
        )
    );
}

#[tokio::test]
async fn a_component_that_is_missing_or_none_fails_its_revision_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("garbage.wasm"), "garbage").unwrap();
    fs::write(folder.path().join("empty.wasm"), b"\0asm\x0d\0\x01\0").unwrap();
    let reasons = [
        ("missing", "cannot read component"),
        ("garbage", "as a WebAssembly component"),
        ("empty", "must import nothing but standard WASI interfaces and export wasi:http/handler"),
    ];
    let functions = reasons.map(|(name, _)| Function::new(name).annotated("fovea.dev/component", name).to_string());
    let bench = Setup::of(functions.concat()).components(folder.path()).begin().await;
    let all_failed = |status: &api::functions::Status| {
        status.services.iter().all(|service| service.revisions[0].phase == Phase::Failed)
    };
    let status = bench.until(all_failed).await;
    for (name, reason) in reasons {
        let said = service(&status, name).revisions[0].reason.clone().unwrap();
        assert!(said.contains(reason), "{said}");
        assert_eq!(bench.function(name).get("/").await.status, 404, "as in a cluster, nothing leads to it yet");
    }
}
