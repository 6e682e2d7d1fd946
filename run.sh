#!/usr/bin/env bash
# Fovea on minikube: sets everything up in a cluster of its own, and looks after it.
#
#   ./run.sh            sets up, then shows a menu
#   ./run.sh COMMAND    up, watch, status, url, logs, doctor, down
#
# Every step may be repeated: what is there already is left as it is. Only the minikube profile `fovea` is touched
# (FOVEA_PROFILE names another), never the cluster that kubectl is set to. `down` deletes a profile only if this script
# made it.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
self=$root/$(basename "${BASH_SOURCE[0]}")
work=$root/target/run
profile=${FOVEA_PROFILE:-fovea}
cpus=${FOVEA_CPUS:-4}
memory=${FOVEA_MEMORY_MB:-8192}
patience=${FOVEA_PATIENCE:-600} # seconds that anything may take to become ready

readonly knative=1.23.0
readonly kubernetes_minimum=34 # minor version that this Knative needs
readonly knative_url=https://github.com/knative/serving/releases/download/knative-v$knative
readonly kourier_url=https://github.com/knative-extensions/net-kourier/releases/download/knative-v$knative
readonly namespace=ml-app
readonly images=(preprocess inference web trainer)
readonly functions=(preprocess inference)
readonly volumes=/data/fovea
readonly user=65532

# Tells that this script made the profile, and so may delete it.
mark=${XDG_STATE_HOME:-$HOME/.local/state}/fovea/profiles/$profile

say() { printf '%s\n' "$*"; }
step() { printf '==> %s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Nothing here ever speaks to another cluster.
kube() { kubectl --context "$profile" "$@"; }
apply() { kube apply --server-side --force-conflicts --field-manager=fovea "$@" >/dev/null; }

# Runs a command until it works: what has just been installed refuses for a while.
insist() {
  local deadline=$((SECONDS + patience)) said
  until said=$("$@" 2>&1); do
    if ((SECONDS >= deadline)); then
      fail "this has not worked for $patience s: $*; the last answer was: $said"
    fi
    sleep 2
  done
}

check_tools() {
  local problems=()
  if ! command -v docker >/dev/null; then
    problems+=("docker is not installed; see https://docs.docker.com/engine/install")
  elif ! docker info >/dev/null 2>&1; then
    problems+=("docker's engine does not answer; start it (sudo systemctl start docker, or Docker Desktop) and see that you may use it (sudo usermod -aG docker \$USER, then log in again)")
  fi
  command -v minikube >/dev/null ||
    problems+=("minikube is not installed; see https://minikube.sigs.k8s.io/docs/start")
  command -v kubectl >/dev/null ||
    problems+=("kubectl is not installed; see https://kubernetes.io/docs/tasks/tools")
  if [[ ${1:-} == building ]] && ! command -v cargo >/dev/null; then
    problems+=("cargo is not installed; install Rust with rustup, see https://rustup.rs")
  fi
  if ((${#problems[@]})); then
    printf 'error: %s\n' "${problems[@]}" >&2
    exit 1
  fi
}

# Such as Running/Running; nothing where there is no such profile, of which minikube speaks in sentences.
profile_state() {
  local state
  state=$(minikube status --profile "$profile" --format '{{.Host}}/{{.APIServer}}' 2>/dev/null || true)
  [[ ! $state =~ ^[A-Za-z]+/[A-Za-z]*$ ]] || printf '%s' "$state"
}

check_cluster() {
  check_tools
  [[ $(profile_state) == Running/Running ]] || fail "the cluster $profile does not run; start it with ./run.sh up"
}

start_cluster() {
  if [[ $(profile_state) == Running/Running ]]; then
    step "the minikube profile $profile runs already"
    return
  fi
  local profiles
  profiles=$(minikube profile list --output json 2>/dev/null || true)
  if [[ ${profiles//[[:space:]]/} != *"\"Name\":\"$profile\""* ]]; then
    mkdir -p "$(dirname "$mark")"
    : >"$mark"
  fi
  step "starting the minikube profile $profile ($cpus CPUs, $memory MB); the first time takes minutes"
  minikube start --profile "$profile" --driver docker --keep-context --cpus "$cpus" --memory "$memory" ||
    fail "minikube could not start the profile $profile; what it said stands above (fewer resources: FOVEA_CPUS=2 FOVEA_MEMORY_MB=6144 ./run.sh up)"
}

check_kubernetes() {
  local minor
  minor=$(kube get --raw /version | sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p')
  if ((${minor:-0} < kubernetes_minimum)); then
    fail "the cluster runs Kubernetes 1.${minor:-?}, and Knative $knative needs 1.$kubernetes_minimum or newer; update minikube, then ./run.sh down and ./run.sh up"
  fi
}

installed_version() {
  kube --namespace knative-serving get deployment "$1" --ignore-not-found \
    --output 'jsonpath={.metadata.labels.app\.kubernetes\.io/version}' 2>/dev/null || true
}

install_knative() {
  if [[ $(installed_version controller) == "$knative" && $(installed_version net-kourier-controller) == "$knative" ]]; then
    step "Knative $knative is installed already"
  else
    step "installing Knative Serving $knative and Kourier"
    local file
    for file in "$knative_url/serving-crds.yaml" "$knative_url/serving-core.yaml" "$kourier_url/kourier.yaml"; do
      # A machine without network may have the three files in a folder.
      [[ -z ${FOVEA_KNATIVE_MANIFESTS:-} ]] || file=$FOVEA_KNATIVE_MANIFESTS/${file##*/}
      kube apply --filename "$file" >/dev/null ||
        fail "$file could not be applied; without network, put serving-crds.yaml, serving-core.yaml and kourier.yaml into a folder and name it with FOVEA_KNATIVE_MANIFESTS"
      if [[ $file == *serving-crds.yaml ]]; then
        kube wait --for condition=Established --timeout 60s crd --selector app.kubernetes.io/name=knative-serving >/dev/null
      fi
    done
  fi
  wait_for_deployments knative-serving
  wait_for_deployments kourier-system
  step "telling Knative what the functions need"
  insist apply --kustomize "$root/knative/overlays/minikube/knative"
}

wait_for_deployments() {
  step "waiting for $1"
  kube --namespace "$1" wait --for condition=Available --timeout "${patience}s" deployment --all ||
    fail "not all of $1 became available within $patience s; see: kubectl --context $profile --namespace $1 get pods"
}

# Builds the images and gives each a tag that changes with its content, so that a new image is a new revision and an
# old one stays what it was.
load_images() {
  local version present image id reference
  step "building the images"
  (cd "$root" && cargo xtask images --builder docker --registry dev.local)
  version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  present=$(minikube image ls --profile "$profile")
  mkdir -p "$work"
  : >"$work/images.yaml"
  for image in "${images[@]}"; do
    id=$(docker image inspect --format '{{.Id}}' "dev.local/fovea/$image:$version")
    id=${id#sha256:}
    reference=dev.local/fovea/$image:$version-${id:0:12}
    if ! grep -qF "$reference" <<<"$present"; then
      step "loading $reference"
      docker tag "dev.local/fovea/$image:$version" "$reference"
      minikube image load --profile "$profile" "$reference"
      # It has been known to fail without a word.
      minikube image ls --profile "$profile" >"$work/loaded"
      grep -qF "$reference" "$work/loaded" || fail "minikube did not load $reference; is its disk full (minikube --profile $profile ssh -- df -h)?"
    fi
    printf '  - name: dev.local/fovea/%s\n    newTag: %s\n' "$image" "${reference##*:}" >>"$work/images.yaml"
  done
}

# What must be there before any pod: the namespace, the key, and the folders, whose owner Kubernetes would not set.
prepare_namespace() {
  step "preparing the namespace $namespace"
  apply --filename "$root/knative/base/namespace.yaml"
  if [[ -z $(kube --namespace "$namespace" get secret artefact-key --ignore-not-found --output name) ]]; then
    head -c 32 /dev/urandom | kube --namespace "$namespace" create secret generic artefact-key --from-file=key=/dev/stdin >/dev/null
  fi
  minikube ssh --profile "$profile" -- sudo install -d -o "$user" -g "$user" -m 0770 "$volumes" "$volumes/data" "$volumes/models"
}

# The overlay with the images' tags, and with the version that is published now.
apply_overlay() {
  local published
  {
    printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n'
    printf 'resources:\n  - ../../knative/overlays/minikube\nimages:\n'
    cat "$work/images.yaml"
  } >"$work/kustomization.yaml"
  published=$(kube --namespace "$namespace" get services.serving.knative.dev inference --ignore-not-found \
    --output 'jsonpath={.spec.template.spec.containers[0].env[?(@.name=="FOVEA_MODEL_PATH")].value}' 2>/dev/null || true)
  if [[ -n $published ]]; then
    cat >>"$work/kustomization.yaml" <<PATCH
patches:
  - target:
      group: serving.knative.dev
      kind: Service
      name: inference
    patch: |-
      - op: test
        path: /spec/template/spec/containers/0/env/0/name
        value: FOVEA_MODEL_PATH
      - op: replace
        path: /spec/template/spec/containers/0/env/0/value
        value: $published
PATCH
  fi
  step "applying the manifests"
  kubectl kustomize "$work" >"$work/manifests.yaml"
  # Knative's own checks take a moment to hear of a changed setting.
  insist apply --filename "$work/manifests.yaml"
}

is_ready() {
  kube --namespace "$namespace" get services.serving.knative.dev "$1" \
    --output 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null
}

why_not_ready() {
  kube --namespace "$namespace" get services.serving.knative.dev "$1" \
    --output 'jsonpath={.status.conditions[?(@.type=="Ready")].message}' 2>/dev/null || true
}

wait_until_ready() {
  local function deadline=$((SECONDS + patience)) reason last
  step "waiting for the web"
  kube --namespace "$namespace" rollout status deployment/web --timeout "${patience}s" ||
    fail "the web is not ready; see ./run.sh status and ./run.sh logs web"
  for function in "${functions[@]}"; do
    step "waiting for $function; the first time it is compiled for this machine"
    last=
    until [[ $(is_ready "$function") == True ]]; do
      reason=$(why_not_ready "$function")
      if [[ -n $reason && $reason != "$last" ]]; then
        say "    $reason"
        last=$reason
      fi
      ((SECONDS < deadline)) || fail "$function is not ready after $patience s: ${reason:-no reason was told}; see ./run.sh logs $function"
      sleep 2
    done
  done
}

up() {
  check_tools building
  start_cluster
  check_kubernetes
  install_knative
  load_images
  prepare_namespace
  apply_overlay
  wait_until_ready
  url
}

watch() {
  check_cluster
  say "Ctrl-C ends this."
  # Ctrl-C is meant for kubectl.
  trap : INT
  kube --namespace "$namespace" get pods --watch || true
  trap - INT
}

status() {
  check_cluster
  kube --namespace "$namespace" get pods,services.serving.knative.dev,revisions.serving.knative.dev,jobs,persistentvolumeclaims
}

url() {
  check_cluster
  local node port gateway host
  node=$(minikube ip --profile "$profile")
  port=$(kube --namespace "$namespace" get service web --output 'jsonpath={.spec.ports[0].nodePort}')
  gateway=$(kube --namespace kourier-system get service kourier --output 'jsonpath={.spec.ports[?(@.name=="http2")].nodePort}')
  host=$(kube --namespace "$namespace" get services.serving.knative.dev inference --output 'jsonpath={.status.url}')
  say ""
  say "page       http://$node:$port/"
  say "inference  curl --data-binary @ship.png -H 'Content-Type: image/png' -H 'Host: ${host#*://}' 'http://$node:$gateway/predict?include_images=false'"
  if [[ $(uname -s) != Linux ]]; then
    say "Where these addresses cannot be reached: minikube --profile $profile --namespace $namespace service web"
  fi
}

logs() {
  check_cluster
  local what
  (($#)) || set -- web "${functions[@]}" trainer bake
  for what in "$@"; do
    case $what in
      web) kube --namespace "$namespace" logs --prefix --tail 100 --selector app.kubernetes.io/name=web ;;
      preprocess | inference)
        kube --namespace "$namespace" logs --prefix --tail 100 --container user-container --selector "serving.knative.dev/service=$what"
        ;;
      trainer | bake) kube --namespace "$namespace" logs --prefix --tail 100 --selector "app.kubernetes.io/name=$what" ;;
      *) fail "there is nothing called $what; expected web, preprocess, inference, trainer or bake" ;;
    esac
  done
}

doctor() {
  check_cluster
  local fovea=${CARGO_TARGET_DIR:-$root/target}/release/fovea
  [[ -x $fovea ]] || fail "$fovea is not built; run: cargo build --release --package cli"
  "$fovea" doctor --context "$profile" --namespace "$namespace" "$@"
}

# Asks before anything is lost.
confirmed() {
  [[ ${1:-} == --yes ]] && return
  [[ -t 0 ]] || fail "nobody is there to ask; say ./run.sh down --yes"
  local answer
  read -r -p "$question [y/N] " answer
  [[ $answer == [yY]* ]]
}

down() {
  check_tools
  local question
  if [[ -z $(profile_state) ]]; then
    say "there is no minikube profile $profile"
    rm -f "$mark"
  elif [[ -e $mark ]]; then
    question="Delete the minikube profile $profile with all datasets, runs and models in it?"
    confirmed "$@" || return 0
    minikube delete --profile "$profile"
    rm -f "$mark"
  else
    check_cluster
    question="The profile $profile was there before Fovea and stays. Delete the namespace $namespace in it, with all Jobs and functions? (Datasets and models stay on the node under $volumes.)"
    confirmed "$@" || return 0
    kube delete --ignore-not-found namespace "$namespace"
    kube delete --ignore-not-found persistentvolume fovea-data fovea-models
    kube --namespace kourier-system delete --ignore-not-found networkpolicy fovea-internal-gateway
  fi
}

menu() {
  local choice
  while true; do
    cat <<'MENU'

  1) watch the pods live
  2) their status, once
  3) the application's URL
  4) exit
  5) logs
  6) doctor: what the cluster lacks
  7) tear down
MENU
    read -r -p "> " choice || return 0
    # What goes wrong in one of them ends that one.
    case $choice in
      1) "$self" watch || true ;;
      2) "$self" status || true ;;
      3) "$self" url || true ;;
      4 | q) return 0 ;;
      5) "$self" logs || true ;;
      6) "$self" doctor || true ;;
      7) "$self" down || true ;;
      *) say "please choose 1 to 7" ;;
    esac
  done
}

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

command=${1:-}
(($# == 0)) || shift
case $command in
  "")
    up
    menu
    ;;
  up | watch | status | url | logs | doctor | down) "$command" "$@" ;;
  -h | --help | help) usage ;;
  *)
    usage >&2
    fail "there is no command $command"
    ;;
esac
