//! The registry over REST.

use api::ErrorCode;
use axum::body::Body;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::bench::{Answer, Bench, request};

async fn put(bench: &Bench, path: &str, body: &Value) -> Answer {
    let request = request(Method::PUT, path).header(header::CONTENT_TYPE, "application/json");
    bench.send(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn versions_are_listed_put_into_use_and_downloaded() {
    let bench = Bench::new();
    assert_eq!(bench.get("/api/models").await.json::<Value>(), json!([]));
    let dataset = bench.dataset();
    bench.model(&dataset);
    bench.model(&dataset);
    let model: Value = bench.get("/api/models/classifier").await.json();
    assert_eq!(model["current"], Value::Null);
    assert_eq!((&model["versions"][0]["version"], &model["versions"][1]["version"]), (&2.into(), &1.into()));

    let set = put(&bench, "/api/models/classifier/current", &json!({"version": 2})).await;
    assert_eq!(
        (set.status, set.json::<Value>()),
        (StatusCode::OK, json!({"name": "classifier", "version": 2, "percent": 100}))
    );
    assert_eq!(bench.get("/api/models").await.json::<Value>()[0]["current"], 2);
    assert_eq!(bench.get("/api/models/classifier/1").await.json::<Value>()["version"], 1);

    let network = bench.get("/api/models/classifier/1/model.onnx").await;
    assert_eq!(network.text(), "not really a network");
    assert_eq!(network.header(header::CONTENT_DISPOSITION), "attachment; filename=\"classifier-v1.onnx\"");
}

#[tokio::test]
async fn what_is_not_in_the_registry_is_not_found() {
    let bench = Bench::new();
    bench.model(&bench.dataset());
    for path in ["/other", "/classifier/2", "/classifier/2/model.onnx"] {
        assert_eq!(bench.get(&format!("/api/models{path}")).await.error().code, ErrorCode::NotFound, "{path}");
    }
    let set = put(&bench, "/api/models/classifier/current", &json!({"version": 7})).await;
    assert_eq!(set.error().code, ErrorCode::NotFound);
    assert_eq!(bench.volumes.current("classifier").unwrap(), None);
    assert_eq!(bench.get("/api/models/classifier/one").await.error().code, ErrorCode::BadRequest);
    assert_eq!(bench.get("/api/models/..%2f/1").await.error().code, ErrorCode::Unprocessable);
}
