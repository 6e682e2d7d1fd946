//! Images of functions without a model are baked once each.

use cluster::image::ImageBaker;
use serde_json::json;

use crate::{
    server::{JOBS, SERVICES, Server},
    stage::{inference, templates},
};

fn preprocess(server: &Server, image: &str) {
    let containers = json!([{"image": image}]);
    let service =
        json!({"metadata": {"name": "preprocess"}, "spec": {"template": {"spec": {"containers": containers}}}});
    server.put(SERVICES, service);
}

#[tokio::test]
async fn each_image_of_a_function_without_a_model_is_baked_once_and_by_one_replica() {
    let server = Server::start().await;
    templates(&server);
    preprocess(&server, "fovea/preprocess:1");
    let replicas = [0, 1].map(|_| ImageBaker::new(server.cluster(), "preprocess"));
    assert!(replicas[0].step().await.unwrap());
    for replica in &replicas {
        assert!(!replica.step().await.unwrap());
    }
    let names = server.names(JOBS);
    assert_eq!(names.len(), 1, "{names:?}");
    let job = server.get(JOBS, &names[0]).unwrap();
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "fovea/preprocess:1");
    assert!(container["env"].as_array().is_none_or(Vec::is_empty), "it has no model: {container}");

    server.edit(SERVICES, "preprocess", |service| {
        service["spec"]["template"]["spec"]["containers"][0]["image"] = json!("fovea/preprocess:2");
    });
    assert!(replicas[0].step().await.unwrap());
    assert_eq!(server.names(JOBS).len(), 2);
}

#[tokio::test]
async fn a_function_with_a_model_is_left_to_its_publisher() {
    let server = Server::start().await;
    templates(&server);
    inference(&server);
    assert!(!ImageBaker::new(server.cluster(), "inference").step().await.unwrap());
    assert!(server.names(JOBS).is_empty());
    assert!(ImageBaker::new(server.cluster(), "absent").step().await.is_err());
}
