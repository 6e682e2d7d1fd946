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

/// Answers by what it is asked, and remembers by which address and for which host.
struct Answers(fn(&[String]) -> Result<Response<Bytes>, String>, Arc<Mutex<Vec<String>>>);

impl Http for Answers {
    fn send(&self, request: Request<Bytes>, _: Duration) -> BoxFuture<'_, Result<Response<Bytes>, String>> {
        let host = request.headers().get(header::HOST).map(|host| format!(" for {}", host.to_str().unwrap()));
        let mut asked = self.1.lock().unwrap();
        asked.push(format!("{}{}", request.uri(), host.unwrap_or_default()));
        let answer = self.0(&asked);
        Box::pin(async { answer })
    }
}

const INFO: &str =
    r#"{"function":"fovea inference","routes":[],"model":{"name":"classifier","version":3,"labels":[]}}"#;

fn run(
    world: &World,
    flags: &[&str],
    kubectl: Kubectl,
    answer: fn(&[String]) -> Result<Response<Bytes>, String>,
) -> (Run, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let run = world.run(flags);
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
    let (run, asked) = run(&world, &[], kubectl, |_| Ok(Response::new(INFO.into())));
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
async fn where_a_gateway_that_was_told_knows_no_host_inside_the_cluster_its_inner_door_is_used() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let (world, folder) = (World::new(None), tempfile::tempdir().unwrap());
    world.server.put("/api/v1/namespaces/knative-serving/services", json!({"metadata": {"name": "kourier-internal"}}));
    let (kubectl, told) = kubectl(&folder);
    let (run, _) = run(&world, &["--gateway", "10.1.2.3"], kubectl, |asked| {
        let is_inner = asked.last().unwrap().starts_with("http://127.0.0.1:40123/");
        let answer = Response::builder().status(if is_inner { 200 } else { 404 });
        Ok(answer.body(INFO.into()).unwrap())
    });
    let gateway = Gateway::find(&run, "http://inference.other.svc.cluster.local").await.unwrap();
    assert_eq!(gateway.version().await.unwrap(), 3);
    assert!(lines(&told)[0].ends_with("--address 127.0.0.1 service/kourier-internal :80"), "{:?}", lines(&told));
    assert!(lines(&told)[0].starts_with("--namespace knative-serving "), "where the operator puts it");
    let told = world.told.borrow();
    assert!(told.iter().any(|line| line.starts_with("  not by http://10.1.2.3: 404")), "{told:#?}");
}

#[tokio::test]
async fn a_connection_that_breaks_with_a_forwarded_port_is_made_again_and_one_that_breaks_twice_is_told() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let (world, folder) = (World::new(None), tempfile::tempdir().unwrap());
    world.server.put("/api/v1/namespaces/kourier-system/services", json!({"metadata": {"name": "kourier-internal"}}));
    let (kubectl, _) = kubectl(&folder);
    // The third request breaks, and everything from the fifth on.
    let (run, asked) = run(&world, &[], kubectl, |asked| match asked.len() {
        3 | 5.. => Err("connection reset by peer".to_owned()),
        _ => Ok(Response::new(INFO.into())),
    });
    let gateway = Gateway::find(&run, "http://inference.other.svc.cluster.local").await.unwrap();
    assert_eq!(gateway.version().await.unwrap(), 3);
    assert_eq!(asked.lock().unwrap().len(), 4, "once more");
    assert_eq!(gateway.version().await.unwrap_err(), "connection reset by peer");
    assert_eq!(asked.lock().unwrap().len(), 6, "and not again and again");
}

#[tokio::test]
async fn a_web_that_the_api_server_does_not_reach_is_asked_by_a_forwarded_port() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let (world, folder) = (World::new(None), tempfile::tempdir().unwrap());
    let message = "error trying to reach service: dial tcp 10.0.3.4:8080: i/o timeout";
    world.server.refuse(Method::GET, &proxy(), u32::MAX, 503, "ServiceUnavailable", message);
    let (kubectl, told) = kubectl(&folder);
    let answer = |_: &[String]| Ok(Response::new(r#"{"shares":[{"version":1,"percent":100}]}"#.into()));
    let (run, asked) = run(&world, &[], kubectl, answer);
    let web = Web::new(&run);
    web.reach().await.unwrap();
    assert_eq!(web.model("classifier").await.unwrap().shares, [Share { version: 1, percent: 100 }]);
    assert_eq!(asked.lock().unwrap()[1], "http://127.0.0.1:40123/api/models/classifier");
    let expected = "--namespace other port-forward --address 127.0.0.1 service/web :80";
    assert!(lines(&told).iter().all(|line| line == expected), "{:?}", lines(&told));
    assert!(world.told.borrow().iter().any(|line| line.contains(message)), "{:?}", world.told.borrow());
    assert!(world.server.names(&inside("", "pods")).is_empty());
}
