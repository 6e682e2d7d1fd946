//! Ways into a cluster that only `kubectl` opens. A script stands in for it, so time is real; nothing waits.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::Method;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, header};
use serde_json::json;
use tempfile::TempDir;
use verify::{
    gateway::Gateway,
    kubectl::Kubectl,
    run::{Http, Run},
    web::{Share, Web},
};

use crate::{
    web::proxy,
    world::{World, inside, rendered},
};

/// A script cannot be run while a process that another test forks still holds it open for writing.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A `kubectl` that forwards a port and ends at once, and the file with what it was told.
fn kubectl(folder: &TempDir) -> (Kubectl, PathBuf) {
    // Nothing else forks after that.
    rendered();
    let (program, told) = (folder.path().join("kubectl"), folder.path().join("told"));
    let text =
        format!("#!/bin/sh\necho \"$*\" >> {}\necho 'Forwarding from 127.0.0.1:40123 -> 8080'\n", told.display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (Kubectl::program(program, None, None), told)
}

/// Answers everything with this, and remembers by which address and host it was asked.
struct Answers(&'static str, Arc<Mutex<Vec<String>>>);

impl Http for Answers {
    fn send(&self, request: Request<Bytes>, _: Duration) -> BoxFuture<'_, Result<Response<Bytes>, String>> {
        let host = request.headers().get(header::HOST).map(|host| format!(" for {}", host.to_str().unwrap()));
        self.1.lock().unwrap().push(format!("{}{}", request.uri(), host.unwrap_or_default()));
        Box::pin(async { Ok(Response::new(self.0.into())) })
    }
}

fn run(world: &World, kubectl: Kubectl, answer: &'static str) -> (Run, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let run = world.run(&[]);
    (Run { kubectl, http: Box::new(Answers(answer, asked.clone())), ..run }, asked)
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_host_inside_the_cluster_is_called_by_the_gateways_inner_door_and_again_when_that_has_shut() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let (world, folder) = (World::new(None), tempfile::tempdir().unwrap());
    world.server.put("/api/v1/namespaces/kourier-system/services", json!({"metadata": {"name": "kourier-internal"}}));
    let (kubectl, told) = kubectl(&folder);
    let answer = r#"{"function":"fovea inference","routes":[],"model":{"name":"classifier","version":3,"labels":[]}}"#;
    let (run, asked) = run(&world, kubectl, answer);
    let gateway = Gateway::find(&run, "http://inference.other.svc.cluster.local").await.unwrap();
    assert_eq!(asked.lock().unwrap()[1], "http://127.0.0.1:40123/ for inference.other.svc.cluster.local");
    // The script has ended by itself, which is seen sooner or later.
    while lines(&told).len() < 2 {
        assert_eq!(gateway.version().await.unwrap(), 3);
    }
    let expected = "--namespace kourier-system port-forward --address 127.0.0.1 service/kourier-internal :80";
    assert!(lines(&told).iter().all(|line| line == expected), "{:?}", lines(&told));
}

#[tokio::test]
async fn a_web_that_the_api_server_does_not_reach_is_asked_by_a_forwarded_port() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let (world, folder) = (World::new(None), tempfile::tempdir().unwrap());
    let message = "error trying to reach service: dial tcp 10.0.3.4:8080: i/o timeout";
    world.server.refuse(Method::GET, &proxy(), u32::MAX, 503, "ServiceUnavailable", message);
    let (kubectl, told) = kubectl(&folder);
    let (run, asked) = run(&world, kubectl, r#"{"shares":[{"version":1,"percent":100}]}"#);
    let web = Web::new(&run);
    web.reach().await.unwrap();
    assert_eq!(web.model("classifier").await.unwrap().shares, [Share { version: 1, percent: 100 }]);
    assert_eq!(asked.lock().unwrap()[1], "http://127.0.0.1:40123/api/models/classifier");
    let expected = "--namespace other port-forward --address 127.0.0.1 service/web :80";
    assert!(lines(&told).iter().all(|line| line == expected), "{:?}", lines(&told));
    assert!(world.told.borrow().iter().any(|line| line.contains(message)), "{:?}", world.told.borrow());
    assert!(world.server.names(&inside("", "pods")).is_empty());
}
