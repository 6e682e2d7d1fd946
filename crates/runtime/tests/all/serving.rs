//! Beginning and end of serving.

use std::{io::ErrorKind, time::Duration};

use runtime::{Drained, FunctionSpec, Runtime, RuntimeError, Settings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::bench::{Bench, PATIENCE, cache, hostile_guest};

#[tokio::test]
async fn draining_lets_requests_in_flight_finish() {
    let bench = Bench::serve("").await;
    let slow = bench.spawn_get("/busy?1000");
    bench.until_idle(0).await;
    let address = bench.address().to_owned();
    assert_eq!(bench.drained().await, Drained { cut: 0 });
    slow.await.unwrap().is_ok("done");
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn draining_has_a_deadline() {
    let bench = Bench::serve_draining(",timeout=1h", Duration::from_millis(200)).await;
    let spinner = bench.spawn_get("/spin");
    bench.until_idle(0).await;
    assert_eq!(bench.drained().await, Drained { cut: 1 });
    assert!(spinner.await.unwrap_err().is_panic(), "the connection was cut");
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_draining() {
    let bench = Bench::serve_draining("", PATIENCE).await;
    let mut idle = TcpStream::connect(bench.address()).await.unwrap();
    bench.get("/").await.is_ok("well behaved");
    assert_eq!(bench.drained().await, Drained { cut: 0 });
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn garbage_is_a_400_and_the_server_lives_on() {
    let bench = Bench::serve("").await;
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = TcpStream::connect(bench.address()).await.unwrap();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    }
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn odd_but_valid_requests_reach_the_guest() {
    let bench = Bench::serve("").await;
    for head in
        ["GET / HTTP/1.0\r\n\r\n", "GET http://example.org/ HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(bench.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1."), "{answer}");
        assert!(answer.contains(" 200 OK") && answer.ends_with("well behaved"), "{answer}");
    }
    let head = bench.client.head(bench.url("/")).send().await.unwrap();
    assert_eq!(head.status().as_u16(), 200);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_remedy() {
    let bench = Bench::serve("").await;
    let spec = FunctionSpec::new("late", hostile_guest(), bench.address().parse().unwrap());
    let error = runtime::bind(&spec).await.unwrap_err();
    assert!(matches!(error, RuntimeError::PortTaken { .. }));
    let port = spec.listen.port();
    assert_eq!(
        error.to_string(),
        format!(
            "function `late` cannot listen at 127.0.0.1:{port}: port {port} is taken by another program; \
             stop that program or choose another port with listen="
        )
    );
}

#[tokio::test]
async fn a_component_that_is_missing_or_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new(&Settings::new(cache())).unwrap();
    let load = |path: std::path::PathBuf| {
        let spec = FunctionSpec::new("none", path, "127.0.0.1:0".parse().unwrap());
        let loaded = runtime.load(spec);
        async move { loaded.await.map(drop).unwrap_err() }
    };
    assert!(matches!(load(dir.path().join("missing.wasm")).await, RuntimeError::ReadComponent { .. }));

    let garbage = dir.path().join("garbage.wasm");
    std::fs::write(&garbage, "garbage").unwrap();
    assert!(matches!(load(garbage).await, RuntimeError::Compile { .. }));

    let empty = dir.path().join("empty.wasm");
    std::fs::write(&empty, b"\0asm\x0d\0\x01\0").unwrap();
    assert!(matches!(load(empty).await, RuntimeError::Link { .. }));
}
