//! `fovea publish` over volumes that no page serves, as a process.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{net::TcpListener, process::Output};

use common::{fovea, publish, volumes};
use store::Volumes;

/// A port of this machine where nothing listens.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

fn publishes(volumes: &Volumes, arguments: &[&str]) -> Output {
    let mut command = fovea(volumes, &[&["publish", "classifier"], arguments].concat());
    command.env_remove("FOVEA_PAGE").env("FOVEA_PORT", free_port()).output().unwrap()
}

#[test]
fn a_version_is_put_into_use_where_nothing_runs() {
    let (_folder, volumes) = volumes();
    publish(&volumes, "classifier", "ds-0", None);
    publish(&volumes, "classifier", "ds-0", None);
    let output = publishes(&volumes, &["v1"]);
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success() && said.starts_with("classifier v1 is in use in "), "{output:?}");
    assert_eq!(volumes.current("classifier").unwrap(), Some(1));
    for (arguments, sentence) in
        [(&["v2", "--canary", "10"][..], "leave --canary out"), (&["v9"], "nothing answers at http://127.0.0.1:")]
    {
        let output = publishes(&volumes, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(sentence), "{error}");
    }
    assert_eq!(volumes.current("classifier").unwrap(), Some(1));
}

#[test]
fn where_a_page_serves_the_volumes_it_is_asked_and_nothing_is_changed_behind_its_back() {
    let (_folder, volumes) = volumes();
    publish(&volumes, "classifier", "ds-0", None);
    publish(&volumes, "classifier", "ds-0", None);
    let address = format!("http://127.0.0.1:{}/", free_port());
    let serving = volumes.serve(&address).unwrap();
    let output = publishes(&volumes, &["v1"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains(&format!("({address}) and has to be asked")), "{error}");
    assert_eq!(volumes.current("classifier").unwrap(), Some(2));
    drop(serving);
    assert!(publishes(&volumes, &["v1"]).status.success());
    assert_eq!(volumes.current("classifier").unwrap(), Some(1));
}
