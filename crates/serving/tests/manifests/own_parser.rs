//! The same files, read and admitted by this crate, whose rules are Knative's: what it refuses a cluster would refuse.

use serving::{Config, ManifestError, Manifests, admission::admit_new};

use super::*;

/// Admits every Service, under these settings.
fn admit(manifests: &Manifests, config: &Config) -> Result<(), String> {
    for manifest in &manifests.services {
        admit_new(manifest.service.clone(), config, None).map_err(|errors| errors.to_string())?;
    }
    Ok(())
}

/// The base as it is written, with the cluster's one flag.
fn base() -> Manifests {
    let mut manifests = Manifests::read(&knative().join("base")).unwrap();
    manifests.config = Manifests::read(&knative().join("features")).unwrap().config;
    manifests
}

#[test]
fn the_base_is_admitted_with_the_flags_of_features_and_not_without() {
    let base = base();
    let names: Vec<&str> = base.services.iter().map(|manifest| manifest.service.metadata.name.as_str()).collect();
    assert_eq!(names, ["inference", "preprocess"]);
    admit(&base, &base.config).unwrap();
    let refused = admit(&base, &Config::default()).unwrap_err();
    assert!(refused.contains("Persistent volume claim support is disabled"), "{refused}");
}

#[test]
fn every_overlay_with_functions_is_admitted_under_its_own_settings() {
    for overlay in ["overlays/minikube", "overlays/production"] {
        let Some(text) = render(overlay) else { return };
        let manifests = Manifests::parse(overlay, &text).unwrap();
        assert_eq!(manifests.services.len(), 2, "{overlay}");
        admit(&manifests, &manifests.config).unwrap();
    }
    let Some(spin) = render("overlays/spin") else { return };
    assert!(Manifests::parse("overlays/spin", &spin).unwrap().services.is_empty(), "there is no Knative to take them");
}

#[test]
fn functions_on_minikube_are_called_by_a_host_outside_the_cluster() {
    let Some(text) = render("overlays/minikube") else { return };
    let config = Manifests::parse("overlays/minikube", &text).unwrap().config;
    assert_eq!(config.domain, serving::config::DomainConfig::single("fovea.test"));
}

#[test]
fn a_misspelt_field_is_refused_here_as_well() {
    let text = fs::read_to_string(knative().join("base/inference.yaml")).unwrap();
    for (right, wrong) in [("readOnlyRootFilesystem", "readonlyRootFilesystem"), ("claimName", "claim")] {
        assert!(text.contains(right));
        let error = Manifests::parse("inference.yaml", &text.replace(right, wrong)).unwrap_err();
        let ManifestError::Invalid(problems) = error else { panic!("{error}") };
        assert!(problems[0].message.contains("unknown field \"spec.template.spec"), "{}", problems[0]);
    }
}

#[test]
fn no_function_pod_asks_for_a_flag_that_it_does_not_need() {
    let base = base();
    // What features/ turns on beyond Knative's own settings is one flag.
    let mut expected = Config::default();
    let flag = ("kubernetes.podspec-persistent-volume-claim".to_owned(), "enabled".to_owned());
    expected.set("config-features", &[flag].into()).unwrap();
    assert_eq!(base.config, expected);
}
