//! The checked-in description of the REST interface.

use std::path::Path;

use crate::bench::Bench;

#[test]
fn the_checked_in_description_is_the_programs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    let mut generated = web::openapi().to_pretty_json().unwrap();
    generated.push('\n');
    assert!(checked_in == generated, "docs/openapi.json is out of date; `cargo xtask openapi` rewrites it");
}

#[tokio::test]
async fn every_described_path_is_served_and_the_description_too() {
    let bench = Bench::new();
    let served: serde_json::Value = bench.get("/api/openapi.json").await.json();
    assert_eq!(served, serde_json::to_value(web::openapi()).unwrap());
    let paths = served["paths"].as_object().unwrap();
    assert!(paths.len() >= 24, "{}", paths.len());
    for (path, operations) in paths {
        for method in operations.as_object().unwrap().keys() {
            let path = path.replace("{namespace}", "default");
            let path =
                path.replace("{id}", "1").replace("{file}", "1.png").replace("{name}", "m").replace("{version}", "1");
            let method = http::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer =
                bench.send(crate::bench::request(method, &path).body(axum::body::Body::empty()).unwrap()).await;
            let message = if answer.status.is_success() { String::new() } else { answer.error().message };
            assert!(!message.contains("nothing at this address") && !message.contains("method"), "{path}: {message}");
        }
    }
}
