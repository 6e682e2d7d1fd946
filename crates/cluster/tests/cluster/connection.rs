//! The way to an API server: proxies that are named for others, and answers that are not there just now.

use std::{env, process::Command};

use axum::http::Method;
use cluster::{Cluster, ClusterError, connection::Source, functions::Functions};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::server::{SERVICES, Server};

/// Says to this program that it is the one with a proxy in its environment.
const CHILD: &str = "FOVEA_TEST_CHILD";

fn kubeconfig(server: &Server, change: impl FnOnce(&mut Value)) -> NamedTempFile {
    let mut kubeconfig: Value = serde_json::from_str(&server.kubeconfig()).unwrap();
    change(&mut kubeconfig);
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), kubeconfig.to_string()).unwrap();
    file
}

async fn connect(file: &NamedTempFile) -> Result<Cluster, ClusterError> {
    Cluster::connect(Source { kubeconfig: Some(file.path()), ..Source::default() }).await
}

#[tokio::test]
async fn an_api_server_is_asked_directly_whatever_proxy_the_environment_names() {
    if env::var_os(CHILD).is_none() {
        // The environment of this very process is every test's.
        let name = "connection::an_api_server_is_asked_directly_whatever_proxy_the_environment_names";
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", name])
            .envs([(CHILD, "1"), ("HTTPS_PROXY", "http://127.0.0.1:1"), ("https_proxy", "http://127.0.0.1:1")])
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    let server = Server::start().await;
    let cluster = connect(&kubeconfig(&server, |_| {})).await.unwrap();
    assert_eq!(Functions::new(cluster).services().await.unwrap(), []);
}

#[tokio::test]
async fn a_proxy_that_the_kubeconfig_names_is_told_with_a_way_past_it() {
    let server = Server::start().await;
    let file = kubeconfig(&server, |kubeconfig| {
        kubeconfig["clusters"][0]["cluster"]["proxy-url"] = json!("http://me:secret@proxy.example:3128");
    });
    let error = connect(&file).await.unwrap_err().to_string();
    assert!(error.contains("through a proxy (proxy-url, proxy.example)") && error.contains("kubectl proxy"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_answer_just_now_is_asked_twice_more_and_not_for_minutes() {
    let server = Server::start().await;
    let functions = Functions::new(connect(&kubeconfig(&server, |_| {})).await.unwrap());
    server.refuse(Method::GET, SERVICES, 2, 503, "ServiceUnavailable", "etcd is away");
    assert_eq!(functions.services().await.unwrap(), []);
    let before = server.requests().len();
    server.refuse(Method::GET, SERVICES, u32::MAX, 429, "TooManyRequests", "try again later");
    let error = functions.services().await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert_eq!(server.requests().len() - before, 3);
}
