//! What the service is told: flags that mirror environment variables, checked before anything is opened.
//!
//! Nothing here touches the network or the volumes beyond looking whether a path is there.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use api::backbone::{BUILT_IN, BuiltIn, FETCHED};
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use reqwest::Url;
use store::Volumes;

use crate::retention::Keep;

/// The web service: uploads, pages and REST of Fovea.
#[derive(Debug, Parser)]
#[command(name = "fovea-web", version, about)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What the program does instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the OpenAPI description of the REST interface as JSON
    Openapi,
}

/// What runs training and the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineKind {
    /// This machine: trainers as processes, functions in the embedded runtime
    Local,
    /// The Kubernetes cluster around this pod: trainers as Jobs, functions in Knative
    Kubernetes,
}

/// Flags of the service.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Address and port to listen on; loopback unless told otherwise
    #[arg(long, env = "FOVEA_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Folder of both volumes
    #[arg(long, env = "FOVEA_DATA", default_value = "data")]
    pub data: PathBuf,
    /// Volume 1 (datasets), where it is not the data folder
    #[arg(long, env = "FOVEA_VOLUME1")]
    pub volume1: Option<PathBuf>,
    /// Volume 2 (runs and models), where it is not the data folder
    #[arg(long, env = "FOVEA_VOLUME2")]
    pub volume2: Option<PathBuf>,
    /// URL of the preprocess function
    #[arg(long, env = "PREPROCESS_URL", default_value = "http://127.0.0.1:8081")]
    pub preprocess_url: String,
    /// URL of the inference function
    #[arg(long, env = "INFERENCE_URL", default_value = "http://127.0.0.1:8082")]
    pub inference_url: String,
    /// What runs training and the functions
    #[arg(long, env = "FOVEA_ENGINE", value_enum, default_value_t = EngineKind::Local)]
    pub engine: EngineKind,
    /// In a cluster: the namespace of the Jobs and functions; the pod's own when absent
    #[arg(long, env = "FOVEA_NAMESPACE")]
    pub namespace: Option<String>,
    /// In a cluster: the Knative Service that versions are published to
    #[arg(long, env = "FOVEA_INFERENCE_FUNCTION", default_value = "inference")]
    pub inference_function: String,
    /// URL of the admin port of the functions' runtime, such as http://127.0.0.1:8084; without it, the page of the
    /// functions stays empty
    #[arg(long = "admin", env = "FOVEA_ADMIN")]
    pub admin_url: Option<String>,
    /// On this machine: the trainer's program; by default `fovea-trainer` beside this program
    #[arg(long, env = "FOVEA_TRAINER")]
    pub trainer: Option<PathBuf>,
    /// On this machine: how many trainers work at once, each on all cores; further runs wait
    #[arg(long, env = "FOVEA_TRAINERS", default_value_t = 1)]
    pub trainers: usize,
    /// Registry name that runs publish under unless they name another
    #[arg(long, env = "FOVEA_MODEL", default_value = "classifier")]
    pub model: String,
    /// On this machine: folder of the backbones' weights; decides which are offered. In a cluster the trainer's image has
    /// them
    #[arg(long, env = "FOVEA_BACKBONES")]
    pub backbones: Option<PathBuf>,
    /// How many runs that have ended are kept; older ones are deleted, but not those of a version in use. All when absent
    #[arg(long, env = "FOVEA_KEEP_RUNS")]
    pub keep_runs: Option<usize>,
    /// How many versions of each model are kept; older ones are deleted, but none that is in use, gets requests, or was in
    /// use before. All when absent
    #[arg(long, env = "FOVEA_KEEP_VERSIONS")]
    pub keep_versions: Option<usize>,
    /// Largest upload, such as 4GiB
    #[arg(long, env = "FOVEA_UPLOAD_LIMIT", default_value = "4GiB")]
    pub upload_limit: ByteSize,
    /// Largest request of pictures to classify, such as 64MiB
    #[arg(long, env = "FOVEA_PREDICT_LIMIT", default_value = "64MiB")]
    pub predict_limit: ByteSize,
    /// Host name under which browsers may reach the service; repeat for several. Loopback names always may.
    #[arg(long = "host", env = "FOVEA_HOSTS", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Seconds that running trainers and requests get to end when the service stops
    #[arg(long, env = "FOVEA_DRAIN_SECONDS", default_value_t = 20)]
    pub drain_seconds: u64,
}

/// Every setting, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where everything lies.
    pub volumes: Volumes,
    /// The preprocess function.
    pub preprocess_url: Url,
    /// The inference function.
    pub inference_url: Url,
    /// What runs training and the functions.
    pub engine: EngineKind,
    /// In a cluster: the namespace, if it is not the pod's own.
    pub namespace: Option<String>,
    /// In a cluster: the Knative Service that versions are published to.
    pub inference_function: String,
    /// The admin port of the functions' runtime.
    pub admin_url: Option<Url>,
    /// The trainer's program, where trainers are processes.
    pub trainer: PathBuf,
    /// Trainers at once, 1 or more.
    pub trainers: usize,
    /// Registry name unless a run names another.
    pub model: String,
    /// Names of the backbones that come with the trainer; people may have added others.
    pub backbones: Vec<String>,
    /// What is kept of what nobody uses.
    pub keep: Keep,
    /// Largest upload in bytes.
    pub upload_limit_bytes: u64,
    /// Largest request of pictures to classify in bytes.
    pub predict_limit_bytes: u64,
    /// Lower-case host names under which browsers may reach the service, beside loopback's.
    pub hosts: Vec<String>,
    /// What running trainers and requests get to end when the service stops.
    pub drain: Duration,
}

/// What is wrong with a flag or an environment variable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A URL that cannot be asked.
    #[error("{flag} is {value:?}; expected a URL like http://127.0.0.1:8081")]
    Url {
        /// Which flag.
        flag: &'static str,
        /// As given.
        value: String,
    },
    /// A number out of its range.
    #[error("{flag} is {value}; expected {expected}")]
    Range {
        /// Which flag.
        flag: &'static str,
        /// As given.
        value: String,
        /// What may be given.
        expected: &'static str,
    },
    /// A name that cannot be a model's.
    #[error("--model cannot be used")]
    Model(#[source] store::StoreError),
    /// The trainer is not where it should be.
    #[error("there is no trainer at {0}; build it, or name its program with --trainer")]
    Trainer(PathBuf),
    /// The program does not know its own path, so it cannot look beside itself.
    #[error("cannot tell where this program lies; name the trainer's program with --trainer")]
    OwnPath(#[source] std::io::Error),
}

impl ServeArgs {
    /// Checks every flag.
    ///
    /// # Errors
    /// The first flag that is wrong, with what was expected.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let at_least_one = |flag, n: u64| match n {
            0 => Err(ConfigError::Range { flag, value: "0".into(), expected: "1 or more" }),
            n => Ok(n),
        };
        at_least_one("--trainers", self.trainers as u64)?;
        store::check_name("model", &self.model).map_err(ConfigError::Model)?;
        let trainer = match self.trainer {
            Some(path) => path,
            None => env::current_exe().map_err(ConfigError::OwnPath)?.with_file_name("fovea-trainer"),
        };
        let is_local = self.engine == EngineKind::Local;
        if is_local && !trainer.is_file() {
            return Err(ConfigError::Trainer(trainer));
        }
        let keep = Keep { runs: self.keep_runs, versions: self.keep_versions };
        for (flag, kept) in [("--keep-runs", keep.runs), ("--keep-versions", keep.versions)] {
            at_least_one(flag, kept.map_or(1, |n| n as u64))?;
        }
        Ok(Config {
            listen: self.listen,
            volumes: Volumes::new(
                self.volume1.unwrap_or_else(|| self.data.clone()),
                self.volume2.unwrap_or_else(|| self.data.clone()),
            ),
            preprocess_url: base_url("--preprocess-url", &self.preprocess_url)?,
            inference_url: base_url("--inference-url", &self.inference_url)?,
            admin_url: self.admin_url.as_deref().map(|url| base_url("--admin", url)).transpose()?,
            engine: self.engine,
            namespace: self.namespace.filter(|namespace| !namespace.is_empty()),
            inference_function: self.inference_function,
            trainer,
            trainers: self.trainers,
            model: self.model,
            backbones: if is_local { installed(self.backbones.as_deref()) } else { FETCHED.map(str::to_owned).into() },
            keep,
            upload_limit_bytes: at_least_one("--upload-limit", self.upload_limit.as_u64())?,
            predict_limit_bytes: at_least_one("--predict-limit", self.predict_limit.as_u64())?,
            hosts: self.hosts.iter().map(|host| host.trim().to_ascii_lowercase()).filter(|h| !h.is_empty()).collect(),
            drain: Duration::from_secs(self.drain_seconds),
        })
    }
}

/// Names of the known backbones whose weights lie in a folder.
fn installed(folder: Option<&Path>) -> Vec<String> {
    let lies_there = |known: &&BuiltIn| folder.is_some_and(|folder| folder.join(known.file).is_file());
    BUILT_IN.iter().filter(lies_there).map(|known| known.name.to_owned()).collect()
}

/// A base URL; its path ends in a slash, so that joining appends to it.
fn base_url(flag: &'static str, value: &str) -> Result<Url, ConfigError> {
    let wrong = || ConfigError::Url { flag, value: value.to_owned() };
    let mut url = Url::parse(value).map_err(|_| wrong())?;
    if url.scheme() != "http" || !url.has_host() {
        return Err(wrong());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn args(flags: &[&str]) -> ServeArgs {
        let this_program = env::current_exe().unwrap();
        let trainer = ["fovea-web", "--trainer", this_program.to_str().unwrap()];
        Cli::try_parse_from(trainer.iter().chain(flags)).unwrap().serve
    }

    #[test]
    fn defaults_are_loopback_and_one_folder() {
        let config = args(&[]).validate().unwrap();
        assert!(config.listen.ip().is_loopback());
        assert_eq!(config.volumes, Volumes::under("data"));
        assert_eq!(config.upload_limit_bytes, 4 << 30);
    }

    #[test]
    fn runs_follow_one_another_unless_more_trainers_are_asked_for() {
        assert_eq!(args(&[]).validate().unwrap().trainers, 1);
        assert_eq!(args(&["--trainers", "3"]).validate().unwrap().trainers, 3);
    }

    #[test]
    fn each_volume_may_lie_elsewhere() {
        let config = args(&["--data", "d", "--volume2", "m"]).validate().unwrap();
        assert_eq!(config.volumes, Volumes::new("d", "m"));
    }

    #[test]
    fn a_functions_url_keeps_its_path() {
        let config = args(&["--inference-url", "http://gateway/ml/inference"]).validate().unwrap();
        assert_eq!(config.inference_url.join("predict").unwrap().as_str(), "http://gateway/ml/inference/predict");
    }

    #[test]
    fn the_backbones_are_those_whose_weights_lie_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let offered = || args(&["--backbones", folder.path().to_str().unwrap()]).validate().unwrap().backbones;
        assert!(offered().is_empty());
        std::fs::write(folder.path().join(BUILT_IN[0].file), b"weights").unwrap();
        assert_eq!(offered(), [BUILT_IN[0].name]);
        assert!(installed(None).is_empty());
    }

    #[test]
    fn wrong_settings_are_named() {
        for (flags, sentence) in [
            (
                ["--preprocess-url", "localhost:8081"],
                "--preprocess-url is \"localhost:8081\"; expected a URL like http://127.0.0.1:8081",
            ),
            (["--admin", "8084"], "--admin is \"8084\"; expected a URL like http://127.0.0.1:8081"),
            (["--trainers", "0"], "--trainers is 0; expected 1 or more"),
            (["--keep-versions", "0"], "--keep-versions is 0; expected 1 or more"),
            (["--model", "../x"], "--model cannot be used"),
            (
                ["--trainer", "/nowhere/trainer"],
                "there is no trainer at /nowhere/trainer; build it, or name its program with --trainer",
            ),
        ] {
            let args = match flags[0] {
                "--trainer" => Cli::try_parse_from(["fovea-web", flags[0], flags[1]]).unwrap().serve,
                _ => args(&flags),
            };
            assert_eq!(args.validate().unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn a_cluster_needs_no_program_of_ours() {
        let flags = ["fovea-web", "--engine", "kubernetes", "--trainer", "/nowhere/trainer"];
        let config = Cli::try_parse_from(flags).unwrap().serve.validate().unwrap();
        assert_eq!((config.engine, config.inference_function.as_str()), (EngineKind::Kubernetes, "inference"));
        assert_eq!(config.backbones, FETCHED, "the trainer's image has them");
        assert!(FETCHED.iter().all(|name| BUILT_IN.iter().any(|known| known.name == *name)));
        assert!(Cli::try_parse_from(["fovea-web", "--engine", "docker"]).is_err());
    }

    #[test]
    fn unknown_flags_are_refused() {
        assert!(Cli::try_parse_from(["fovea-web", "--volume3", "x"]).is_err());
    }
}
