//! `fovea verify`: reads all that was published and says what is not as its manifest says.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use store::{StoreError, Volumes};

/// What `fovea verify` can be told.
#[derive(Args)]
pub struct Options {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// What was found out about one published thing.
#[derive(Debug, Serialize)]
struct Finding {
    /// `dataset`, `model` or `backbone`.
    kind: &'static str,
    name: String,
    /// What is wrong; null where nothing is.
    problem: Option<String>,
}

/// Checks everything; the exit code tells whether all is well.
pub fn run(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<ExitCode> {
    let findings = findings(volumes)?;
    let wrong = findings.iter().filter(|finding| finding.problem.is_some()).count();
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        for Finding { kind, name, problem } in &findings {
            writeln!(out, "{kind} {name}: {}", problem.as_deref().unwrap_or("ok"))?;
        }
        writeln!(out, "{} checked, {wrong} wrong", findings.len())?;
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn findings(volumes: &Volumes) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for id in volumes.dataset_ids()? {
        let checked = volumes.dataset(&id).and_then(|dataset| dataset.verify());
        findings.push(Finding::new("dataset", id, checked));
    }
    for name in volumes.model_names()? {
        for version in volumes.version_numbers(&name)? {
            let checked = volumes.version(&name, version).and_then(|version| version.verify());
            findings.push(Finding::new("model", format!("{name} v{version}"), checked));
        }
        // A pointer is fine where it is not there, and where it leads to a version that is.
        let pointed = volumes.current(&name).and_then(|current| match current {
            Some(version) => volumes.version(&name, version).map(drop),
            None => Ok(()),
        });
        if pointed.is_err() {
            findings.push(Finding::new("model", format!("{name} current"), pointed));
        }
    }
    for own in volumes.backbones()? {
        findings.push(Finding::new("backbone", own.manifest.name.clone(), own.verify()));
    }
    Ok(findings)
}

impl Finding {
    fn new(kind: &'static str, name: String, checked: Result<(), StoreError>) -> Self {
        let problem = checked.err().map(|error| format!("{:#}", anyhow::Error::from(error)));
        Self { kind, name, problem }
    }
}
