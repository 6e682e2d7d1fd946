//! What every request passes.

use api::ErrorCode;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::Value;

use crate::bench::{Bench, request};

fn post(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut builder = Request::builder().method(Method::POST).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn other_sites_pages_cannot_change_anything() {
    let bench = Bench::new();
    let own = ("host", "127.0.0.1:8080");
    for (headers, allowed) in [
        (&[own][..], true),
        (&[own, ("origin", "http://127.0.0.1:8080")], true),
        (&[own, ("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8080")], true),
        (&[own, ("sec-fetch-site", "none")], true),
        (&[own, ("origin", "https://evil.example")], false),
        (&[own, ("origin", "null")], false),
        (&[own, ("origin", "http://127.0.0.1:3000")], false),
        (&[own, ("sec-fetch-site", "cross-site")], false),
        (&[own, ("sec-fetch-site", "same-site")], false),
        (&[own, ("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8080")], false),
    ] {
        for path in ["/process_model", "/api/runs/1/cancel", "/api/predict", "/api/datasets"] {
            let answer = bench.send(post(path, headers)).await;
            assert_eq!(answer.status != StatusCode::FORBIDDEN, allowed, "{path} {headers:?}: {}", answer.text());
        }
    }
    let form = bench.send(post("/models/classifier/current", &[own, ("sec-fetch-site", "cross-site")])).await;
    assert_eq!(form.status, StatusCode::FORBIDDEN);
    assert!(form.text().contains("This request comes from another site&#39;s page"), "{}", form.text());
}

#[tokio::test]
async fn pages_may_be_opened_from_anywhere() {
    let bench = Bench::new();
    let linked = request(Method::GET, "/").header("sec-fetch-site", "cross-site").body(Body::empty()).unwrap();
    assert_eq!(bench.send(linked).await.status, StatusCode::OK);
}

#[tokio::test]
async fn foreign_host_names_are_refused_on_loopback() {
    let bench = Bench::with(|config| config.hosts = vec!["fovea.example".into()]);
    for (host, allowed) in [
        ("localhost:8080", true),
        ("LOCALHOST", true),
        ("app.localhost:8080", true),
        ("127.0.0.1:8080", true),
        ("[::1]:8080", true),
        ("fovea.example", true),
        ("evil.example:8080", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example", false),
    ] {
        let answer =
            bench.send(Request::get("/api/runs").header(header::HOST, host).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status == StatusCode::OK, allowed, "{host}");
        if !allowed {
            assert_eq!(answer.error().code, ErrorCode::Forbidden);
        }
    }
}

#[tokio::test]
async fn behind_a_public_address_any_name_is_served_unless_names_are_given() {
    let ask = async |bench: &Bench| {
        let request = Request::get("/").header(header::HOST, "any.example").body(Body::empty()).unwrap();
        bench.send(request).await.status
    };
    let listen = "0.0.0.0:8080".parse().unwrap();
    assert_eq!(ask(&Bench::with(|config| config.listen = listen)).await, StatusCode::OK);
    let named = Bench::with(|config| (config.listen, config.hosts) = (listen, vec!["other.example".into()]));
    assert_eq!(ask(&named).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn every_answer_carries_security_headers_and_an_id() {
    let bench = Bench::new();
    for path in ["/", "/api/runs", "/nowhere", "/assets/style.css"] {
        let answer = bench.get(path).await;
        let policy = answer.header(header::CONTENT_SECURITY_POLICY);
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(answer.header(header::REFERRER_POLICY), "same-origin");
        assert_eq!(answer.header("x-request-id").len(), 16);
    }
    let with_id = |id: &str| request(Method::GET, "/").header("x-request-id", id).body(Body::empty()).unwrap();
    assert_eq!(bench.send(with_id("trace-7.a")).await.header("x-request-id"), "trace-7.a");
    assert_eq!(bench.send(with_id("<script>")).await.header("x-request-id").len(), 16);
}

#[tokio::test]
async fn wrong_methods_say_which_are_right() {
    let bench = Bench::new();
    let answer = bench.send(request(Method::DELETE, "/api/runs").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.error().code, ErrorCode::MethodNotAllowed);
    let allowed = answer.header(header::ALLOW);
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    assert_eq!(bench.get("/process").await.error().code, ErrorCode::MethodNotAllowed);
}

#[tokio::test]
async fn probes_tell_whether_the_service_lives_and_can_work() {
    let bench = Bench::new();
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(bench.get(path).await.json::<Value>()["status"], "ok");
    }
    std::fs::remove_dir(bench.volumes.models_dir()).unwrap();
    let error = bench.get("/health/ready").await.error();
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::Unavailable, "volume 2 has no folder models; is it mounted?")
    );
    bench.state.stopping.cancel();
    assert_eq!(bench.get("/health/ready").await.error().message, "the service is stopping");
    assert_eq!(bench.get("/health/live").await.status, StatusCode::OK);
}
