//! `run.sh` with stand-ins for docker, minikube, kubectl and cargo, which remember what happened to them and write down
//! how they were called.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const MINIKUBE: &str = r#"
case "$*" in
  status*) if [ -e "$STATE/running" ]; then echo Running/Running; else echo '* Profile "fovea" not found.'; exit 85; fi ;;
  "profile list"*) [ -e "$STATE/profile" ] && echo '{"invalid": [], "valid": [{"Name": "fovea"}]}' ;;
  start*) touch "$STATE/running" "$STATE/profile" ;;
  delete*) rm -f "$STATE/running" "$STATE/profile" ;;
  "image ls"*) [ ! -e "$STATE/images" ] || cat "$STATE/images" ;;
  "image load"*) [ -e "$STATE/full" ] || echo "$5" >>"$STATE/images" ;;
  ip*) echo 192.0.2.7 ;;
esac
"#;

const KUBECTL: &str = r#"
case "$*" in
  kustomize*) cat "$2/kustomization.yaml" ;;
  *"get --raw /version"*) printf '{\n  "major": "1",\n  "minor": "%s+"\n}\n' "$(cat "$STATE/minor")" ;;
  *"get deployment"*) [ ! -e "$STATE/knative" ] || printf 1.23.0 ;;
  *"apply --filename"*kourier.yaml*) touch "$STATE/knative" ;;
  *"get secret artefact-key"*) [ ! -e "$STATE/key" ] || echo secret/artefact-key ;;
  *"create secret generic artefact-key"*) cat >"$STATE/key" ;;
  *'=="Ready")].status'*) echo True ;;
  *FOVEA_MODEL_PATH*) [ ! -e "$STATE/published" ] || cat "$STATE/published" ;;
  *"apply --server-side"*manifests.yaml*)
    if [ -e "$STATE/refuses" ]; then rm "$STATE/refuses"; echo 'admission webhook denied the request' >&2; exit 1; fi ;;
  *"service web"*nodePort*) printf 30005 ;;
  *"service kourier"*nodePort*) printf 31080 ;;
  *status.url*) printf http://inference.ml-app.fovea.test ;;
esac
"#;

const DOCKER: &str = r#"
case "$*" in
  info) [ ! -e "$STATE/no-engine" ] ;;
  "image inspect"*) echo "sha256:$(printf '%064d' 0 | tr 0 "$(cat "$STATE/digit")")" ;;
esac
"#;

/// What of the system the script needs.
const SYSTEM: [&str; 13] =
    ["bash", "basename", "cat", "dirname", "grep", "head", "mkdir", "printf", "rm", "sed", "sleep", "touch", "tr"];

/// A checkout, a machine and what its programs remember.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
        for folder in ["bin", "state", "checkout", "home"] {
            fs::create_dir(machine.at(folder)).expect("a folder");
        }
        for name in ["run.sh", "Cargo.toml"] {
            fs::copy(checkout.join(name), machine.at("checkout").join(name)).expect("a file");
        }
        symlink(checkout.join("knative"), machine.at("checkout/knative")).expect("a link");
        for name in SYSTEM.iter().chain(&["uname"]) {
            let program = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
            let program = program.iter().find(|program| program.is_file()).unwrap_or_else(|| panic!("no {name}"));
            symlink(program, machine.at("bin").join(name)).expect("a link");
        }
        for (name, script) in [("minikube", MINIKUBE), ("kubectl", KUBECTL), ("docker", DOCKER), ("cargo", "")] {
            let program = machine.at("bin").join(name);
            let script = format!("#!/bin/sh\necho \"{name} $*\" >>\"$STATE/calls\"\n{script}");
            fs::write(&program, script).expect("a script");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it becomes executable");
        }
        machine.remember("minor", "36");
        machine.remember("digit", "a");
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn remember(&self, what: &str, text: &str) {
        fs::write(self.at("state").join(what), text).expect("a file");
    }

    fn without(self, program: &str) -> Self {
        fs::remove_file(self.at("bin").join(program)).expect("it was there");
        self
    }

    fn run(&self, arguments: &[&str], input: Stdio) -> Output {
        let mut command = Command::new(self.at("bin/bash"));
        command.arg(self.at("checkout/run.sh")).args(arguments).stdin(input).env_clear();
        command.env("PATH", self.at("bin")).env("STATE", self.at("state")).env("HOME", self.at("home"));
        command.env("FOVEA_PATIENCE", "20").output().expect("bash starts")
    }

    /// What a command that works prints.
    #[track_caller]
    fn works(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments, Stdio::null());
        let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(said.status.success(), "{out}{err}");
        out.into_owned()
    }

    /// What a command that fails complains of.
    #[track_caller]
    fn fails(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments, Stdio::null());
        assert!(!said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
        String::from_utf8_lossy(&said.stderr).into_owned()
    }

    /// The calls since the last time.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.at("state/calls")).unwrap_or_default();
        self.remember("calls", "");
        calls.lines().map(str::to_owned).collect()
    }

    fn kustomization(&self) -> String {
        fs::read_to_string(self.at("checkout/target/run/kustomization.yaml")).expect("it was written")
    }
}

/// Where in the calls each of these stands first; they must come in this order.
#[track_caller]
fn check_order(calls: &[String], parts: &[&str]) {
    let mut last = 0;
    for part in parts {
        let rest = calls[last..].iter().position(|call| call.contains(part));
        last += rest.unwrap_or_else(|| panic!("no {part:?} after {:?} in\n{}", calls[last], calls.join("\n")));
    }
}

#[test]
fn a_fresh_machine_is_set_up_in_an_order_that_works() {
    let machine = Machine::new();
    let said = machine.works(&["up"]);
    check_order(
        &machine.calls(),
        &[
            "minikube start --profile fovea --driver docker --keep-context",
            "serving-crds.yaml",
            "wait --for condition=Established",
            "serving-core.yaml",
            "kourier.yaml",
            "--namespace knative-serving wait --for condition=Available",
            "--namespace kourier-system wait --for condition=Available",
            "overlays/minikube/knative",
            "cargo xtask images --builder docker --registry dev.local",
            "image load --profile fovea dev.local/fovea/trainer:0.1.0-aaaaaaaaaaaa",
            "knative/base/namespace.yaml",
            "create secret generic artefact-key",
            "ssh --profile fovea -- sudo install -d -o 65532 -g 65532",
            "kubectl kustomize",
            "--filename",
            "rollout status deployment/web",
        ],
    );
    assert_eq!(fs::read(machine.at("state/key")).expect("a key").len(), 32);
    assert!(said.contains("http://192.0.2.7:30005/"), "{said}");
    assert!(said.contains("-H 'Host: inference.ml-app.fovea.test' 'http://192.0.2.7:31080/predict"), "{said}");
}

#[test]
fn a_second_time_makes_nothing_twice() {
    let machine = Machine::new();
    machine.works(&["up"]);
    let key = fs::read(machine.at("state/key")).expect("a key");
    machine.calls();
    machine.works(&["up"]);
    let calls = machine.calls();
    for made in ["minikube start", "serving-core.yaml", "image load", "create secret"] {
        assert!(!calls.iter().any(|call| call.contains(made)), "{made} in\n{}", calls.join("\n"));
    }
    assert_eq!(fs::read(machine.at("state/key")).expect("a key"), key);
}

#[test]
fn only_the_own_profile_is_ever_spoken_to() {
    let machine = Machine::new();
    machine.works(&["up"]);
    for command in ["status", "url", "logs", "watch"] {
        machine.works(&[command]);
    }
    machine.works(&["down", "--yes"]);
    let calls = machine.calls();
    for call in &calls {
        let is_own = match call.split(' ').next() {
            Some("kubectl") => call.contains(" --context fovea ") || call.starts_with("kubectl kustomize "),
            Some("minikube") => call.contains(" --profile fovea") || call.starts_with("minikube profile list"),
            _ => true,
        };
        assert!(is_own, "{call}");
    }
    assert_eq!(calls.last().map(String::as_str), Some("minikube delete --profile fovea"));
}

#[test]
fn a_new_image_gets_a_new_tag_and_a_published_version_stays() {
    let machine = Machine::new();
    machine.works(&["up"]);
    assert!(machine.kustomization().contains("newTag: 0.1.0-aaaaaaaaaaaa"), "{}", machine.kustomization());
    machine.remember("digit", "b");
    machine.remember("published", "/models/models/classifier/v3");
    machine.works(&["up"]);
    let kustomization = machine.kustomization();
    assert!(kustomization.contains("newTag: 0.1.0-bbbbbbbbbbbb"), "{kustomization}");

    let Ok(real) = Command::new("kubectl").arg("kustomize").arg(machine.at("checkout/target/run")).output() else {
        println!("skipped: there is no kubectl to render what run.sh applies");
        return;
    };
    let rendered = String::from_utf8_lossy(&real.stdout);
    assert!(real.status.success(), "{}", String::from_utf8_lossy(&real.stderr));
    for part in [
        "image: dev.local/fovea/web:0.1.0-bbbbbbbbbbbb",
        "image: dev.local/fovea/trainer:0.1.0-bbbbbbbbbbbb",
        "value: /models/models/classifier/v3",
    ] {
        assert!(rendered.contains(part), "no {part} in {rendered}");
    }
}

#[test]
fn what_is_refused_for_a_moment_is_tried_again() {
    let machine = Machine::new();
    machine.remember("refuses", "");
    machine.works(&["up"]);
    let applied = machine.calls().into_iter().filter(|call| call.contains("run/manifests.yaml")).count();
    assert_eq!(applied, 2);
}

#[test]
fn each_missing_program_is_named_with_its_remedy() {
    for (program, sentence) in [
        ("docker", "docker is not installed; see https://"),
        ("minikube", "minikube is not installed; see https://"),
        ("kubectl", "kubectl is not installed; see https://"),
        ("cargo", "cargo is not installed; install Rust with rustup"),
    ] {
        let machine = Machine::new().without(program);
        let complaint = machine.fails(&["up"]);
        assert!(complaint.starts_with(&format!("error: {sentence}")) && complaint.lines().count() == 1, "{complaint}");
        assert!(!machine.calls().iter().any(|call| call.starts_with("minikube")), "nothing is begun");
    }
    let nothing = Machine::new().without("docker").without("minikube").without("kubectl");
    assert_eq!(nothing.fails(&["up"]).lines().count(), 3, "all at once");
}

#[test]
fn what_cannot_go_on_says_what_to_do() {
    let machine = Machine::new();
    machine.remember("no-engine", "");
    assert!(machine.fails(&["up"]).contains("docker's engine does not answer; start it"));

    let machine = Machine::new();
    machine.remember("minor", "33");
    let complaint = machine.fails(&["up"]);
    assert!(complaint.contains("Kubernetes 1.33, and Knative 1.23.0 needs 1.34 or newer"), "{complaint}");

    let machine = Machine::new();
    machine.remember("full", "");
    let complaint = machine.fails(&["up"]);
    assert!(complaint.contains("did not load dev.local/fovea/preprocess:0.1.0-aaaaaaaaaaaa"), "{complaint}");

    let complaint = Machine::new().fails(&["status"]);
    assert_eq!(complaint, "error: the cluster fovea does not run; start it with ./run.sh up\n");
    let machine = Machine::new();
    machine.works(&["up"]);
    let complaint = machine.fails(&["doctor"]);
    assert!(complaint.contains("run: cargo build --release --package cli"), "{complaint}");
    assert!(machine.fails(&["logs", "webs"]).contains("nothing called webs; expected web, preprocess"));
    assert!(machine.fails(&["destroy"]).contains("there is no command destroy"));
}

#[test]
fn nothing_is_deleted_unasked() {
    let machine = Machine::new();
    machine.works(&["up"]);
    machine.calls();
    assert!(machine.fails(&["down"]).contains("say ./run.sh down --yes"));
    assert!(!machine.calls().iter().any(|call| call.contains("delete")));
}

#[test]
fn a_profile_that_was_there_before_is_never_deleted() {
    let machine = Machine::new();
    machine.remember("profile", "");
    machine.works(&["up"]);
    machine.works(&["down", "--yes"]);
    let calls = machine.calls();
    assert!(calls.iter().any(|call| call.ends_with("delete --ignore-not-found namespace ml-app")));
    assert!(!calls.iter().any(|call| call.starts_with("minikube delete")), "{}", calls.join("\n"));
}

#[test]
fn the_menu_does_as_it_says_until_it_is_left() {
    let machine = Machine::new();
    fs::write(machine.at("choices"), "2\n9\n3\n4\n2\n").expect("a file");
    let choices = fs::File::open(machine.at("choices")).expect("a file");
    let said = machine.run(&[], choices.into());
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(text.matches("4) exit").count(), 4, "{text}");
    assert!(text.contains("please choose 1 to 7"), "{text}");
    assert_eq!(text.matches("http://192.0.2.7:30005/").count(), 2, "after setting up, and when asked: {text}");
    assert_eq!(machine.calls().iter().filter(|call| call.contains("get pods,services")).count(), 1);
}

#[test]
fn shellcheck_finds_nothing() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../run.sh");
    let Ok(said) = Command::new("shellcheck").arg(script).output() else {
        println!("skipped: there is no shellcheck to read run.sh");
        return;
    };
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}
