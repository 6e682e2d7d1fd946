//! What a run can be told.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, ValueEnum};

/// Verifies Fovea in a cluster with Knative Serving and Kourier: installs it into a namespace of its own, trains,
/// predicts, scales, publishes, and removes everything again.
#[derive(Clone, Debug, Parser)]
#[command(name = "fovea-verify-cluster", version, about)]
pub struct Options {
    /// The kubeconfig of the cluster [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Namespace to make; there must be none of this name [default: fovea-verify- and the run's id]
    #[arg(long, value_name = "NAME", value_parser = namespace)]
    pub namespace: Option<String>,

    /// Where Kourier's gateway is reached, such as 192.168.49.2:31080 [default: what its Service says, else a
    /// port-forward]
    #[arg(long, value_name = "ADDR", value_parser = gateway)]
    pub gateway: Option<String>,

    /// What to install
    #[command(flatten)]
    pub install: Install,

    /// How long things may take
    #[command(flatten)]
    pub patience: Patience,

    /// Requests by which the canary's part is measured
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub split_requests: u32,

    /// Clients of the burst, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub burst_clients: u32,

    /// Leave everything in the cluster, to be looked at
    #[arg(long)]
    pub keep: bool,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is installed: the base's manifests, with these changes.
#[derive(Clone, Debug, Args)]
pub struct Install {
    /// Folder of the manifests
    #[arg(long, value_name = "FOLDER", overrides_with = "manifests", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../knative/base"))]
    pub manifests: PathBuf,

    /// What the images' names begin with, such as registry.example.com, localhost:5001 or kind.local: R/fovea/web, …
    /// [default: as the manifests have it]
    #[arg(long, value_name = "R")]
    pub registry: Option<String>,

    /// Secret of docker's kind by which nodes and Knative pull the images, as NAME of namespace default or as
    /// NAMESPACE/NAME; it is copied
    #[arg(long, value_name = "NAME", value_parser = pull_secret)]
    pub pull_secret: Option<PullSecret>,

    /// Tag of the images
    #[arg(long, value_name = "TAG", default_value = env!("CARGO_PKG_VERSION"))]
    pub tag: String,

    /// When nodes pull images [default: Kubernetes' own, which is to pull what is not there]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub pull_policy: Option<PullPolicy>,

    /// Storage class of the volumes [default: the cluster's]
    #[arg(long, value_name = "NAME")]
    pub storage_class: Option<String>,

    /// Access mode of the volumes [default: ReadWriteOnce where there is one node, or the storage class is known to
    /// offer nothing else; else ReadWriteMany]. Disks that are attached to one node at a time need --node, too
    #[arg(long, value_enum, value_name = "MODE")]
    pub access_mode: Option<AccessMode>,

    /// Node that everything runs on which mounts a volume; Knative must allow node selectors
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

/// A Secret by which images are pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSecret {
    /// Where it is.
    pub namespace: String,
    /// Its name there, and that of the copy.
    pub name: String,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// For every pod
    Always,
    /// Where it is not there
    IfNotPresent,
    /// Never: it was loaded into the nodes
    Never,
}

impl PullPolicy {
    /// As manifests spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// How many nodes may mount a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum AccessMode {
    /// One
    ReadWriteOnce,
    /// All
    ReadWriteMany,
}

impl AccessMode {
    /// As manifests spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}

/// How long things may take, such as `90s` or `10m`. Generous, for a slow machine that pulls every image.
#[derive(Clone, Copy, Debug, Args)]
pub struct Patience {
    /// Until the web and both functions are ready
    #[arg(long = "ready-within", value_name = "TIME", default_value = "15m", value_parser = humantime::parse_duration)]
    pub ready: Duration,

    /// Until a data set is made, and until a run has trained
    #[arg(long = "train-within", value_name = "TIME", default_value = "20m", value_parser = humantime::parse_duration)]
    pub train: Duration,

    /// Until a version is baked and has its part of the requests
    #[arg(long = "publish-within", value_name = "TIME", default_value = "15m", value_parser = humantime::parse_duration)]
    pub publish: Duration,

    /// Until no pod is left
    #[arg(long = "zero-within", value_name = "TIME", default_value = "6m", value_parser = humantime::parse_duration)]
    pub zero: Duration,

    /// Until a burst has brought a second pod
    #[arg(long = "burst-within", value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    pub burst: Duration,

    /// Until a request is answered
    #[arg(long = "answer-within", value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    pub answer: Duration,

    /// Until everything is removed
    #[arg(long = "clean-within", value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub clean: Duration,
}

/// A DNS label, for it becomes part of host names.
fn namespace(text: &str) -> Result<String, &'static str> {
    let fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label =
        (1..=63).contains(&text.len()) && text.bytes().all(fit) && !text.starts_with('-') && !text.ends_with('-');
    match is_label {
        true => Ok(text.to_owned()),
        false => Err("expected at most 63 lower-case letters, digits and hyphens"),
    }
}

fn pull_secret(text: &str) -> Result<PullSecret, &'static str> {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err("expected NAME or NAMESPACE/NAME");
    }
    Ok(PullSecret { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// An address as a URL without a slash at its end.
fn gateway(text: &str) -> Result<String, &'static str> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let parsed = reqwest::Url::parse(&url).ok().filter(|url| url.scheme() == "http" && url.path() == "/");
    parsed
        .map(|_| url.trim_end_matches('/').to_owned())
        .ok_or("expected an address like 192.168.49.2:31080, of plain HTTP")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from(["fovea-verify-cluster"].iter().chain(arguments))
    }

    #[test]
    fn nothing_need_be_told() {
        let options = parse(&[]).unwrap();
        assert!(options.install.manifests.join("kustomization.yaml").is_file());
        assert_eq!(options.install.tag, env!("CARGO_PKG_VERSION"));
        assert!(!options.keep && options.namespace.is_none());
        // The caller of this program names the checkout's own first.
        let options = parse(&["--manifests", "own", "--manifests", "mine"]).unwrap();
        assert_eq!(options.install.manifests.to_str(), Some("mine"));
    }

    #[test]
    fn a_gateway_is_an_address_with_or_without_a_scheme() {
        for (given, expected) in [
            ("10.0.0.7", Ok("http://10.0.0.7")),
            ("gateway.example:8080/", Ok("http://gateway.example:8080")),
            ("http://[::1]:80", Ok("http://[::1]:80")),
            ("https://10.0.0.7", Err(())),
            ("10.0.0.7/path", Err(())),
        ] {
            assert_eq!(gateway(given).map_err(drop), expected.map(str::to_owned), "{given}");
        }
    }

    #[test]
    fn a_pull_secret_is_of_the_namespace_default_or_of_the_one_that_is_named() {
        let secret = |namespace: &str, name: &str| PullSecret { namespace: namespace.into(), name: name.into() };
        assert_eq!(pull_secret("regcred"), Ok(secret("default", "regcred")));
        assert_eq!(pull_secret("team/regcred"), Ok(secret("team", "regcred")));
        assert!(["", "/regcred", "team/", "a/b/c"].into_iter().all(|text| pull_secret(text).is_err()));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (arguments, told) in [
            (["--namespace", "Ml_App"], "--namespace"),
            (["--access-mode", "ReadOnlyMany"], "--access-mode"),
            (["--zero-within", "6"], "--zero-within"),
            (["--split-requests", "10"], "--split-requests"),
        ] {
            assert!(parse(&arguments).unwrap_err().to_string().contains(told), "{arguments:?}");
        }
    }
}
