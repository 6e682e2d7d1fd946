//! What one file says of another.

use std::collections::BTreeSet;

use super::*;

/// Where the Secret with the key comes from is not in any file.
const MADE_ELSEWHERE: [&str; 1] = ["Secret artefact-key"];

fn config() -> Value {
    find(&written(), "ConfigMap app-config")["data"].clone()
}

#[test]
fn what_pods_refer_to_is_there() {
    for (place, objects) in all() {
        let present: BTreeSet<String> = objects.iter().map(name).collect();
        for object in &objects {
            let Some(pod) = pod(object) else { continue };
            let mut wanted = vec![format!("ServiceAccount {}", text(pod, "/serviceAccountName"))];
            for volume in pod["volumes"].as_array().into_iter().flatten() {
                for (pointer, kind) in [
                    ("/persistentVolumeClaim/claimName", "PersistentVolumeClaim"),
                    ("/secret/secretName", "Secret"),
                    ("/configMap/name", "ConfigMap"),
                ] {
                    wanted.extend(volume.pointer(pointer).map(|name| format!("{kind} {}", name.as_str().unwrap())));
                }
            }
            for source in containers(pod)[0]["envFrom"].as_array().into_iter().flatten() {
                wanted.push(format!("ConfigMap {}", text(source, "/configMapRef/name")));
            }
            for wanted in wanted.iter().filter(|wanted| !MADE_ELSEWHERE.contains(&wanted.as_str())) {
                assert!(present.contains(wanted), "{place}: {} refers to {wanted}", name(object));
            }
            let volumes = pod["volumes"].as_array().into_iter().flatten().map(|volume| &volume["name"]);
            let volumes: BTreeSet<String> = volumes.map(Value::to_string).collect();
            let mounts = containers(pod)[0]["volumeMounts"].as_array().into_iter().flatten();
            let mounted: BTreeSet<String> = mounts.map(|mount| mount["name"].to_string()).collect();
            assert_eq!(volumes, mounted, "{place}: {}", name(object));
        }
    }
}

#[test]
fn images_of_the_base_bear_this_workspaces_version() {
    let written = written();
    let images = written.iter().filter_map(pod).map(|pod| text(&containers(pod)[0], "/image"));
    let expected =
        ["inference", "preprocess", "trainer", "web"].map(|name| format!("fovea/{name}:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(images.collect::<BTreeSet<_>>(), expected.iter().map(String::as_str).collect());
}

#[test]
fn overlays_set_the_image_of_every_pod() {
    for (overlay, prefix) in
        [("overlays/minikube", "dev.local/fovea/"), ("overlays/production", "registry.example.com/fovea/")]
    {
        let Some(rendered) = render(overlay) else { return };
        for object in objects(&rendered) {
            let Some(pod) = pod(&object) else { continue };
            let image = text(&containers(pod)[0], "/image");
            assert!(image.starts_with(prefix), "{overlay}: {} has {image}", name(&object));
            assert_eq!(overlay == "overlays/minikube", containers(pod)[0]["imagePullPolicy"] == "Never");
        }
    }
}

#[test]
fn the_configuration_names_the_functions_and_the_places_of_the_volumes() {
    let config = config();
    let objects = written();
    for (key, function) in [("PREPROCESS_URL", "preprocess"), ("INFERENCE_URL", "inference")] {
        let service = find(&objects, &format!("Knative Service {function}"));
        let host = format!("http://{function}.{}.svc.cluster.local", text(service, "/metadata/namespace"));
        assert_eq!(config[key], host);
    }
    let web = pod(find(&objects, "Deployment web")).unwrap();
    let train = pod(find(&objects, "CronJob train")).unwrap();
    for (key, volume, flag) in [("FOVEA_VOLUME1", "data", "--datasets"), ("FOVEA_VOLUME2", "models", "--models")] {
        let place = config[key].as_str().unwrap();
        for pod in [web, train] {
            let mounts = containers(pod)[0]["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["name"] == volume).unwrap();
            assert_eq!(mount["mountPath"], place);
        }
        let arguments = containers(train)[0]["args"].as_array().unwrap();
        assert!(arguments.contains(&format!("{flag}={place}").into()), "{flag}");
    }
    let models = format!("{}/models/{}", text(&config, "/FOVEA_VOLUME2"), text(&config, "/FOVEA_MODEL"));
    assert_eq!(config["MODEL_SAVE_PATH"], models);
    assert_eq!(config["MODEL_PATH"], format!("{models}/current/model.onnx"));
}

/// What inference opens and who bakes for it open the same, and `run.sh` finds the path where it is.
#[test]
fn who_bakes_sees_what_the_function_sees() {
    let objects = written();
    let environment = |name: &str| containers(pod(find(&objects, name)).unwrap())[0]["env"].clone();
    let inference = environment("Knative Service inference");
    assert_eq!(inference, environment("CronJob bake"));
    assert_eq!(inference[0]["name"], "FOVEA_MODEL_PATH");
    let config = config();
    let current = format!("{}/models/{}/current", text(&config, "/FOVEA_VOLUME2"), text(&config, "/FOVEA_MODEL"));
    assert_eq!(inference[0]["value"], current);
    let mounts = |name: &str| -> BTreeSet<String> {
        let mounts = containers(pod(find(&objects, name)).unwrap())[0]["volumeMounts"].clone();
        mounts.as_array().unwrap().iter().map(|mount| format!("{} {}", mount["name"], mount["mountPath"])).collect()
    };
    assert_eq!(mounts("Knative Service inference"), mounts("CronJob bake"));
    assert_eq!(mounts("Knative Service inference"), mounts("Knative Service preprocess"));
}

#[test]
fn templates_of_jobs_never_run_by_themselves() {
    for (place, objects) in all() {
        for object in objects.iter().filter(|object| text(object, "/kind") == "CronJob") {
            let job = &object["spec"]["jobTemplate"]["spec"];
            assert_eq!(object["spec"]["suspend"], true, "{place}: {}", name(object));
            assert_eq!(job["backoffLimit"], 0, "what failed is not tried again");
            assert!(job["activeDeadlineSeconds"].is_u64() && job["ttlSecondsAfterFinished"].is_u64(), "every Job ends");
            assert_eq!(job["template"]["spec"]["restartPolicy"], "Never");
        }
    }
}

#[test]
fn a_pod_has_room_beside_its_sandbox() {
    let written = written();
    let Some(rendered) = render("base") else { return };
    let rendered = objects(&rendered);
    let limit = |objects: &[Value], name: &str| -> u64 {
        let limit = &containers(pod(find(objects, name)).unwrap())[0]["resources"]["limits"]["memory"];
        let limit = limit.as_str().unwrap();
        let (number, unit) = limit.split_at(limit.len() - 2);
        number.parse::<u64>().unwrap() * if unit == "Gi" { 1024 } else { 1 }
    };
    for function in ["Knative Service preprocess", "Knative Service inference"] {
        let (sandbox, pod) = (limit(&written, function), limit(&rendered, function));
        assert!(pod >= sandbox + 256, "{function}: {pod} MiB for a sandbox of {sandbox} MiB and the runtime");
    }
}
