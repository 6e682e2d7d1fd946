//! `fovea`: starts everything on one machine, trains and tries models, and looks after what lies on the volumes.
//!
//! Commands print and translate; datasets, runs and models are the store's business, pictures the ingest's, networks the
//! predictor's and the trainer's, functions the runtime's, publishing the web service's, and what a cluster lacks the
//! cluster crate's.

mod add;
mod admin;
mod apply;
mod backbone;
mod bar;
mod changes;
mod classify;
mod compare;
mod dataset;
mod doctor;
mod evaluate;
mod installed;
mod models;
mod pick;
mod ports;
mod predict;
mod publish;
mod ready;
mod runs;
mod screen;
mod signals;
mod status;
mod supervisor;
mod table;
mod traffic;
mod train;
mod up;
mod url;
mod verify;
mod view;
mod watch;
mod words;

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand, value_parser};
use store::Volumes;

/// Image classifiers as functions that wake in milliseconds.
#[derive(Parser)]
#[command(name = "fovea", version, arg_required_else_help = true)]
struct Cli {
    /// Folder of datasets, runs and models
    #[arg(long, env = "FOVEA_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,

    /// Volume 1 (datasets), where it is not the data folder
    #[arg(long, global = true, env = "FOVEA_VOLUME1", value_name = "DIR")]
    volume1: Option<PathBuf>,

    /// Volume 2 (runs and models), where it is not the data folder
    #[arg(long, global = true, env = "FOVEA_VOLUME2", value_name = "DIR")]
    volume2: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the page and both functions, and keep them running until Ctrl-C
    Up(up::Options),
    /// Make datasets and look at them
    #[command(subcommand)]
    Dataset(dataset::Command),
    /// Train a model on a dataset and watch it
    Train(Box<train::Options>),
    /// List runs, newest first, or show one with what came out
    Runs(runs::Options),
    /// Put two runs side by side
    Compare(compare::Options),
    /// Classify picture files
    Predict(predict::Options),
    /// See how well a model does on labelled pictures that were kept apart
    Evaluate(evaluate::Options),
    /// Pretrained networks that models can be built on
    #[command(subcommand)]
    Backbone(backbone::Command),
    /// List model versions, newest first
    Models(models::Options),
    /// Read every published dataset and model and compare it with its manifest
    Verify(verify::Options),
    /// Show the functions as they are: traffic, revisions, instances, the autoscaler's decisions
    Status(status::Options),
    /// Follow the functions live until Ctrl-C; a line per change where the output is no terminal
    Watch(watch::Options),
    /// Print where a function is called, or all are
    Url(url::Options),
    /// Share a function's requests out among its revisions
    Traffic(traffic::Options),
    /// Give a version of a model requests: all of them, or a canary's part
    Publish(publish::Options),
    /// Examine a Kubernetes cluster: what Fovea needs and it lacks, with the commands that mend it
    Doctor(doctor::Options),
    /// Give the runtime Knative manifests
    Apply(apply::Options),
}

/// Id of the data folder's flag where it stands after the command.
const DATA_AFTER: &str = "data_after";

impl Cli {
    /// The command line. The data folder may stand before or after the command; `evaluate` has a `--data` of its own, so
    /// there it stands before.
    fn line() -> clap::Command {
        let after = Arg::new(DATA_AFTER).long("data").value_name("DIR").value_parser(value_parser!(PathBuf));
        let after = after.global(true).help("Folder of datasets, runs and models [env: FOVEA_DATA=]");
        <Self as CommandFactory>::command().mut_subcommands(|command| match command.get_name() {
            "evaluate" => command,
            _ => command.arg(after.clone()),
        })
    }

    fn read(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let matches = Self::line().try_get_matches_from(words)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        let after = matches.subcommand().and_then(|(_, of_command)| of_command.try_get_one(DATA_AFTER).ok()?);
        if let Some(data) = after {
            cli.data = PathBuf::clone(data);
        }
        Ok(cli)
    }
}

fn main() -> ExitCode {
    let cli = Cli::read(env::args_os()).unwrap_or_else(|error| error.exit());
    let mut out = io::stdout().lock();
    match run(cli, &mut out).and_then(|code| out.flush().map(|()| code).map_err(Into::into)) {
        Ok(code) => code,
        Err(error) if reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done where even this cannot be written.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, out: &mut impl Write) -> Result<ExitCode> {
    let volumes = Volumes::new(
        absolute("--volume1", cli.volume1.as_ref().unwrap_or(&cli.data))?,
        absolute("--volume2", cli.volume2.as_ref().unwrap_or(&cli.data))?,
    );
    match cli.command {
        Command::Up(options) => up::run(&options, &volumes, out)?,
        Command::Dataset(command) => dataset::run(command, &volumes, out)?,
        Command::Train(options) => return train::run(&options, existing(&volumes)?, out),
        Command::Runs(options) => runs::run(&options, existing(&volumes)?, out)?,
        Command::Compare(options) => compare::run(&options, existing(&volumes)?, out)?,
        Command::Predict(options) => return predict::run(&options, existing(&volumes)?, out),
        Command::Evaluate(options) => return evaluate::run(&options, existing(&volumes)?, out),
        Command::Backbone(command) => backbone::run(command, &volumes, out)?,
        Command::Models(options) => models::run(&options, existing(&volumes)?, out)?,
        Command::Verify(options) => return verify::run(&options, existing(&volumes)?, out),
        Command::Status(options) => status::run(&options, out)?,
        Command::Watch(options) => watch::run(&options, out)?,
        Command::Url(options) => url::run(&options, out)?,
        Command::Traffic(options) => traffic::run(&options, out)?,
        Command::Publish(options) => publish::run(&options, &volumes, out)?,
        Command::Doctor(options) => return doctor::run(&options, out),
        Command::Apply(options) => apply::run(&options, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn absolute(flag: &str, folder: &Path) -> Result<PathBuf> {
    std::path::absolute(folder).with_context(|| format!("{flag} is no usable path"))
}

/// Volumes that are there: a mistyped one must not look like an empty one.
fn existing(volumes: &Volumes) -> Result<&Volumes> {
    for folder in [volumes.volume1(), volumes.volume2()] {
        ensure!(
            folder.is_dir(),
            "there is no folder {}; name the right one with --data, or let `fovea up` make it",
            folder.display()
        );
    }
    Ok(volumes)
}

/// Whether the output went into a pipe whose reader has seen enough.
fn reader_is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::line().debug_assert();
    }

    #[test]
    fn wrong_arguments_are_told_by_name() {
        for (line, named) in [
            (&["fovea", "upp"][..], "'upp'"),
            (&["fovea", "up", "--port", "0"], "--port"),
            (&["fovea", "up", "--port", "70000"], "70000"),
            (&["fovea", "up", "--host", "localhost:1"], "--host"),
            (&["fovea", "dataset", "show"], "<ID>"),
            (&["fovea", "verify", "--prot"], "--prot"),
            (&["fovea", "status", "--admin", "localhost"], "expected a URL like http://127.0.0.1:8084"),
            (&["fovea", "train"], "--dataset"),
            (&["fovea", "predict"], "<FILES>"),
            (&["fovea", "predict", "a.png", "--model", "a@b"], "like classifier or classifier@v3"),
            (&["fovea", "evaluate", "--data", "d", "--min-accuracy", "95"], "such as 0.95"),
            (&["fovea", "backbone", "add", "n.onnx", "--name", "n"], "--licence"),
            (&["fovea", "publish", "classifier", "latest"], "expected a version like 3 or v3"),
            (&["fovea", "publish", "classifier", "3", "--canary", "0"], "--canary"),
            (&["fovea", "traffic", "inference"], "<REVISION=PERCENT[@TAG]>"),
            (&["fovea", "traffic", "inference", "latest=all"], "\"all\" is no percentage"),
        ] {
            let error = Cli::read(line).err().expect("refused").to_string();
            assert!(error.contains(named), "{line:?}: {error}");
        }
    }

    #[test]
    fn data_may_stand_before_or_after_the_command() {
        for line in [
            &["fovea", "--data", "/d", "verify"][..],
            &["fovea", "verify", "--data", "/d"],
            &["fovea", "dataset", "--data", "/d", "list"],
            &["fovea", "dataset", "list", "--data", "/d"],
            &["fovea", "--data", "/d", "evaluate", "--data", "/pictures"],
        ] {
            assert_eq!(Cli::read(line).expect("accepted").data, Path::new("/d"), "{line:?}");
        }
    }

    #[test]
    fn a_data_folder_that_is_not_there_is_no_empty_one() {
        let error = existing(&Volumes::under("/nowhere/data")).expect_err("it is not there").to_string();
        assert!(error.contains("/nowhere/data") && error.contains("--data"), "{error}");
    }
}
