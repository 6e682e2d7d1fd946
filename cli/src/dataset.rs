//! `fovea dataset`: what datasets there are and what is in them; how they are made stands in `add`.

use std::io::Write;

use anyhow::Result;
use api::dataset::{DatasetManifest, Split};
use clap::Subcommand;
use store::Volumes;

use crate::{add, existing};

/// What can be done with datasets.
#[derive(Subcommand)]
pub enum Command {
    /// Make a dataset of a folder or an archive of pictures
    Add(Box<add::Add>),
    /// Make a dataset of a sample, to have something real to try
    Sample(Box<add::Sample>),
    /// List datasets, newest first
    List {
        /// Print their manifests as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one dataset: classes, splits, where it came from, what was left out and why
    Show {
        /// As `fovea dataset list` prints it
        id: String,
        /// Print its manifest as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of them.
pub fn run(command: Command, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    match command {
        Command::Add(options) => add::add(*options, volumes, out),
        Command::Sample(options) => add::sample(*options, volumes, out),
        Command::List { json } => list(existing(volumes)?, json, out),
        Command::Show { id, json } => show(existing(volumes)?, &id, json, out),
    }
}

fn list(volumes: &Volumes, json: bool, out: &mut impl Write) -> Result<()> {
    let datasets = volumes.datasets()?;
    if json {
        let manifests: Vec<_> = datasets.iter().map(|dataset| &dataset.manifest).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&manifests)?)?;
        return Ok(());
    }
    if datasets.is_empty() {
        writeln!(out, "no datasets in {}", volumes.datasets_dir().display())?;
    }
    for dataset in datasets {
        let DatasetManifest { id, name, created, pictures, classes, .. } = dataset.manifest;
        writeln!(out, "{id}  {created}  {pictures} pictures  {} classes  {name}", classes.len())?;
    }
    Ok(())
}

fn show(volumes: &Volumes, id: &str, json: bool, out: &mut impl Write) -> Result<()> {
    let manifest = volumes.dataset(id)?.manifest;
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&manifest)?)?;
        return Ok(());
    }
    let spec = &manifest.preprocess;
    writeln!(out, "{}  {}", manifest.id, manifest.name)?;
    writeln!(out, "made      {} by {}", manifest.created, manifest.provenance.made_by)?;
    writeln!(out, "from      {}, {} files", manifest.provenance.source, manifest.provenance.files)?;
    writeln!(out, "pictures  {}, {}×{} pixels", manifest.pictures, spec.width, spec.height)?;
    let widest = manifest.classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0);
    for class in &manifest.classes {
        write!(out, "  {:widest$}", class.name)?;
        for split in Split::ALL {
            write!(out, "  {} {}", split.name(), class.of(split))?;
        }
        writeln!(out)?;
    }
    if !manifest.near_duplicates.is_empty() {
        writeln!(out, "look-alikes, each group in one split: {}", manifest.near_duplicates.len())?;
        for group in manifest.near_duplicates.iter().filter(|group| group.several_labels) {
            writeln!(out, "  under several labels: {}", group.names.join(", "))?;
        }
    }
    if !manifest.rejected.is_empty() {
        writeln!(out, "left out: {}", manifest.rejected.len())?;
        for file in &manifest.rejected {
            writeln!(out, "  {}: {}", file.name, file.message)?;
        }
    }
    Ok(())
}
