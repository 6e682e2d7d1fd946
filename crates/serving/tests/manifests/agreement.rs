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

#[test]
fn in_production_the_web_answers_by_the_names_that_the_configuration_gives_it() {
    let Some(rendered) = render("overlays/production") else { return };
    let objects = objects(&rendered);
    let config = &find(&objects, "ConfigMap app-config")["data"];
    let hosts: BTreeSet<&str> = text(config, "/FOVEA_HOSTS").split(',').collect();
    let urls = config.as_object().unwrap().values().filter_map(|value| value.as_str()?.strip_prefix("http://web."));
    let named = urls.map(|rest| format!("web.{}", rest.split('/').next().unwrap())).collect::<BTreeSet<_>>();
    assert!(!named.is_empty() && named.iter().all(|name| hosts.contains(name.as_str())), "{named:?} in {hosts:?}");
    let ingress = find(&objects, "Ingress web");
    assert!(hosts.contains(text(ingress, "/spec/rules/0/host")), "{hosts:?}");
}

#[test]
fn in_production_the_ingress_takes_what_the_web_takes() {
    let Some(rendered) = render("overlays/production") else { return };
    let objects = objects(&rendered);
    let size = &find(&objects, "Ingress web")["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"];
    let limit = find(&objects, "ConfigMap app-config")["data"].get("FOVEA_UPLOAD_LIMIT").cloned();
    assert_eq!((size, limit), (&"4g".into(), None), "the web's own limit is 4 GiB");
}

#[test]
fn a_name_that_a_function_is_mapped_to_is_given_to_its_namespace() {
    let Some(rendered) = render("overlays/production") else { return };
    let objects = objects(&rendered);
    let mappings: Vec<_> = objects.iter().filter(|object| text(object, "/kind") == "DomainMapping").collect();
    assert!(!mappings.is_empty());
    for mapping in mappings {
        let claim = find(&objects, &format!("ClusterDomainClaim {}", text(mapping, "/metadata/name")));
        assert_eq!(claim["apiVersion"], "networking.internal.knative.dev/v1alpha1");
        assert_eq!(claim["spec"], serde_json::json!({"namespace": mapping["metadata"]["namespace"]}));
        assert!(claim["metadata"]["namespace"].is_null(), "it is the cluster's");
    }
}

#[test]
fn ciliums_policy_lets_the_web_and_nobody_else_ask_the_api_server() {
    let text = fs::read_to_string(knative().join("components/cilium/network.yaml")).unwrap();
    let [policy] = <[Value; 1]>::try_from(objects(&text)).unwrap();
    assert_eq!((&policy["apiVersion"], &policy["kind"]), (&"cilium.io/v2".into(), &"CiliumNetworkPolicy".into()));
    let written = written();
    let web = find(&written, "Deployment web");
    assert_eq!(policy["metadata"]["namespace"], web["metadata"]["namespace"]);
    let egress = serde_json::json!([{"toEntities": ["kube-apiserver"]}]);
    assert_eq!(policy["spec"], serde_json::json!({"endpointSelector": web["spec"]["selector"], "egress": egress}));
}
