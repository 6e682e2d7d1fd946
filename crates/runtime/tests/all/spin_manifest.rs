//! The `spin.toml` at the root describes the components that this house builds, and nothing more.

use std::{collections::BTreeMap, fs};

use serde::Deserialize;

use crate::bench::workspace;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    spin_manifest_version: u32,
    application: Application,
    trigger: Triggers,
    component: BTreeMap<String, Component>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Application {
    name: String,
    version: String,
    description: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Triggers {
    http: Vec<Trigger>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trigger {
    route: String,
    component: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Component {
    description: String,
    source: String,
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    files: Vec<File>,
    build: Build,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    source: String,
    destination: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    command: String,
    watch: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    package: Named,
    lib: Library,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Library {
    crate_type: Vec<String>,
}

fn manifest() -> Manifest {
    toml::from_str(&fs::read_to_string(workspace().join("spin.toml")).unwrap()).unwrap()
}

#[test]
fn both_functions_have_their_route_and_no_way_out() {
    let manifest = manifest();
    assert_eq!(manifest.spin_manifest_version, 2);
    assert_eq!(manifest.application.name, "fovea");
    assert_eq!(manifest.application.version, env!("CARGO_PKG_VERSION"));
    let route = |name: &str| Trigger { route: format!("/{name}/..."), component: name.to_owned() };
    assert_eq!(manifest.trigger.http, [route("preprocess"), route("inference")]);
    assert_eq!(manifest.component.keys().collect::<Vec<_>>(), ["inference", "preprocess"]);
    for component in manifest.component.values() {
        assert_eq!(component.allowed_outbound_hosts, [""; 0]);
    }
}

#[test]
fn sources_and_commands_are_those_of_the_packages() {
    for (name, component) in manifest().component {
        let folder = workspace().join("functions").join(&name);
        let package: Package = toml::from_str(&fs::read_to_string(folder.join("Cargo.toml")).unwrap()).unwrap();
        assert_eq!(package.package.name, name);
        assert_eq!(package.lib.crate_type[0], "cdylib");
        assert_eq!(component.source, format!("target/wasm32-wasip2/release/{name}.wasm"));
        assert_eq!(component.build.command, format!("cargo build --release --target wasm32-wasip2 -p {name}"));
        for pattern in component.build.watch {
            let folder = pattern.split("/**").next().unwrap();
            assert!(workspace().join(folder).exists(), "{pattern} watches nothing");
        }
    }
}

#[test]
fn only_inference_sees_files_and_only_its_model() {
    let mut components = manifest().component;
    let model = File { source: "data/models/classifier/current".into(), destination: "/model".into() };
    assert_eq!(components.remove("inference").unwrap().files, [model]);
    assert_eq!(components.remove("preprocess").unwrap().files, []);
}
