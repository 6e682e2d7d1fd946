//! `fovea models`: the registry's versions.

use std::io::Write;

use anyhow::Result;
use api::model::ModelManifest;
use clap::Args;
use serde::Serialize;
use store::Volumes;

/// What `fovea models` can be told.
#[derive(Args)]
pub struct Options {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// A version and whether it is the one in use.
#[derive(Serialize)]
struct Listed {
    current: bool,
    #[serde(flatten)]
    manifest: ModelManifest,
}

/// Lists every version of every model.
pub fn run(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    let mut all = Vec::new();
    for name in volumes.model_names()? {
        let current = volumes.current(&name)?;
        all.extend(
            volumes.versions(&name)?.into_iter().map(|version| Listed {
                current: current == Some(version.manifest.version),
                manifest: version.manifest,
            }),
        );
    }
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    if all.is_empty() {
        writeln!(out, "no models in {}", volumes.models_dir().display())?;
    }
    for Listed { current, manifest } in all {
        let ModelManifest { name, version, created, dataset, labels, metrics, .. } = manifest;
        let test = metrics.test_accuracy.map_or_else(String::new, |ratio| format!("  test accuracy {ratio:.3}"));
        let mark = if current { "  current" } else { "" };
        writeln!(out, "{name} v{version}  {created}  {dataset}  {}{test}{mark}", labels.join(", "))?;
    }
    Ok(())
}
