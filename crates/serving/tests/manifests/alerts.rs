//! Alerts: read strictly, for there is no schema of theirs here, and each explained to whom it wakes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alert {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    for_: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[test]
fn every_alert_is_explained() {
    let text = fs::read_to_string(knative().join("components/monitoring/alerts.yaml")).unwrap();
    let objects = objects(&text);
    let spec: Spec = serde_json::from_value(find(&objects, "PrometheusRule fovea")["spec"].clone()).unwrap();
    let operations = fs::read_to_string(knative().join("../docs/operations.md")).unwrap();
    let alerts: Vec<Alert> =
        spec.groups.into_iter().inspect(|group| assert_eq!(group.name, "fovea")).flat_map(|g| g.rules).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        let Alert { alert, expr, for_, labels, annotations } = alert;
        assert!(operations.contains(&format!("`{alert}`")), "docs/operations.md does not say what {alert} means");
        assert!(["critical", "warning"].contains(&labels["severity"].as_str()), "{alert}");
        assert!(!annotations["summary"].is_empty() && expr.contains("ml-app"), "{alert}");
        assert!(for_.is_none_or(|time| time.ends_with('m')), "{alert}");
    }
}
