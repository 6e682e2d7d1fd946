//! Numbers and names of the cluster's manifests that this service has defaults for: they must be the same.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use clap::Parser;
use web::config::{Cli, ServeArgs};

const APP_CONFIG: &str = include_str!("../../knative/base/app-config.yaml");
const DEPLOYMENT: &str = include_str!("../../knative/base/web.yaml");
const CONTAINERFILE: &str = include_str!("../../knative/images/web.Containerfile");

fn defaults() -> ServeArgs {
    Cli::try_parse_from(["fovea-web"]).unwrap().serve
}

/// The number after `key: `, where it stands first.
fn number(text: &str, key: &str) -> u64 {
    let (_, rest) = text.split_once(&format!("{key}: ")).unwrap_or_else(|| panic!("there is no {key}"));
    rest.lines().next().unwrap().parse().unwrap()
}

#[test]
fn the_port_is_the_one_that_the_service_listens_at() {
    let port = defaults().listen.port();
    assert_eq!(number(DEPLOYMENT, "containerPort"), u64::from(port));
    assert!(CONTAINERFILE.contains(&format!("FOVEA_LISTEN=0.0.0.0:{port}")), "{CONTAINERFILE}");
    assert!(CONTAINERFILE.contains(&format!("EXPOSE {port}")), "{CONTAINERFILE}");
}

#[test]
fn a_pod_that_stops_is_given_longer_than_its_requests() {
    let drain = defaults().drain_seconds;
    assert!(number(DEPLOYMENT, "terminationGracePeriodSeconds") > drain, "requests get {drain} s");
}

#[test]
fn the_model_has_the_same_name() {
    assert!(APP_CONFIG.contains(&format!("FOVEA_MODEL: {}\n", defaults().model)), "{APP_CONFIG}");
}
