//! `fovea dataset add` and `fovea dataset sample`: pictures on this machine become a dataset.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use api::{
    Background, Filter, Fit,
    dataset::{ClassCount, DatasetManifest, Split},
};
use clap::{Args, ValueEnum};
use ingest::{FunctionClient, Ingest, Native, Options, Outcome, Preprocess, Progress, Source, Stage, fashion_mnist};
use serde::de::DeserializeOwned;
use serde_json::json;
use store::Volumes;
use tokio::sync::watch;

/// Files shown for each reason to leave files out.
const EXAMPLES: usize = 3;

/// What `fovea dataset add` can be told.
#[derive(Args)]
pub struct Add {
    /// Folder, ZIP or tar file with a folder per class, or with such folders inside train/, val/ and test/
    path: PathBuf,
    #[command(flatten)]
    choices: Choices,
}

/// What `fovea dataset sample` can be told.
#[derive(Args)]
pub struct Sample {
    /// Which
    sample: SampleName,
    /// Training pictures per class, and a sixth of that for testing; all when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_class: Option<u32>,
    /// Folder with the sample's files, where it is not the package's
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    #[command(flatten)]
    choices: Choices,
}

#[derive(Clone, Copy, ValueEnum)]
enum SampleName {
    /// 70,000 gray pictures of clothes, 28 × 28 pixels, ten classes; from Debian's dataset-fashion-mnist
    FashionMnist,
}

#[derive(Args)]
struct Choices {
    /// Name of the dataset; the path's own when absent
    #[arg(long)]
    name: Option<String>,
    /// Pixels, like 96 or 128x96; follows the pictures when absent
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<(u32, u32)>,
    /// How pictures are brought to the size: stretch, cover or contain
    #[arg(long, default_value = "stretch", value_parser = parse::<Fit>)]
    fit: Fit,
    /// Resampling filter: bilinear, catmull_rom or lanczos3
    #[arg(long, default_value = "bilinear", value_parser = parse::<Filter>)]
    filter: Filter,
    /// Behind transparent pixels and around contained ones
    #[arg(long, default_value = "#ffffff", value_name = "COLOUR")]
    background: Background,
    /// Have the preprocess function at this URL do the work, not this process
    #[arg(long, value_name = "URL")]
    preprocess_url: Option<String>,
    /// Print what came out as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `fovea dataset add`.
pub fn add(options: Add, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    let Add { path, choices } = options;
    let source = if path.is_dir() {
        Source::Folder(path)
    } else {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Source::Archive { path, name }
    };
    make(source, choices, volumes, out)
}

/// Runs `fovea dataset sample`.
pub fn sample(options: Sample, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    let SampleName::FashionMnist = options.sample;
    let dir = options.from.as_deref().unwrap_or(Path::new(fashion_mnist::DEBIAN_DIR));
    fashion_mnist::ensure_installed(dir)?;
    let source = fashion_mnist::load(dir, options.per_class.map(|n| n as usize))?;
    make(source, options.choices, volumes, out)
}

fn make(source: Source, choices: Choices, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    let Choices { name, size, fit, filter, background, preprocess_url, json } = choices;
    let options = Options { name, size, fit, filter, background };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let outcome = match preprocess_url {
        None => runtime.block_on(ingest(Native::default(), source, options, volumes)),
        Some(url) => {
            let client = FunctionClient::new(&url, reqwest::Client::new())?;
            runtime.block_on(ingest(client, source, options, volumes))
        }
    }?;
    if json { print_json(&outcome, out) } else { print(&outcome, out) }
}

async fn ingest(preprocess: impl Preprocess, source: Source, options: Options, volumes: &Volumes) -> Result<Outcome> {
    let ingest = Ingest::new(volumes.clone(), preprocess);
    let progress = watch::Sender::new(Progress::default());
    let bar = io::stderr().is_terminal().then(|| tokio::spawn(show(progress.subscribe())));
    let outcome = tokio::select! {
        outcome = ingest.run(source, options, progress) => outcome.map_err(anyhow::Error::from),
        interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
            Ok(()) => anyhow!("interrupted; nothing was added"),
            Err(e) => anyhow!(e).context("cannot listen for Ctrl-C"),
        }),
    };
    if let Some(bar) = bar {
        bar.await.context("the progress display failed")?;
    }
    outcome
}

/// Shows progress in one line of the terminal until there is no more.
async fn show(mut progress: watch::Receiver<Progress>) {
    while progress.changed().await.is_ok() {
        let Progress { stage, done, total } = *progress.borrow_and_update();
        let doing = match stage {
            Stage::Unpack => "reading files",
            Stage::Measure => "looking at picture sizes",
            Stage::Process => "processing pictures",
            Stage::Compare => "looking for near duplicates",
            Stage::Publish => "writing the dataset",
        };
        let share = (done * 100).checked_div(total).map(|percent| format!(" {percent} %")).unwrap_or_default();
        // A terminal that is gone is no reason to stop.
        let _ = write!(io::stderr(), "\r\x1b[K{doing}{share}");
    }
    let _ = write!(io::stderr(), "\r\x1b[K");
}

fn print_json(outcome: &Outcome, out: &mut impl Write) -> Result<()> {
    let value = json!({
        "dataset": outcome.published.dataset.manifest.id,
        "existed": outcome.published.existed,
        "files": outcome.files,
        "rejected": outcome.rejected,
        "near_duplicates": outcome.near_duplicates,
        "manifest": outcome.published.dataset.manifest,
    });
    writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
    Ok(())
}

fn print(outcome: &Outcome, out: &mut impl Write) -> Result<()> {
    let DatasetManifest { id, name, pictures, classes, preprocess, .. } = &outcome.published.dataset.manifest;
    let existed = if outcome.published.existed { "  (was there already)" } else { "" };
    writeln!(out, "{id}  {name}{existed}")?;
    writeln!(
        out,
        "{pictures} pictures of {} × {} pixels in {} classes",
        preprocess.width,
        preprocess.height,
        classes.len()
    )?;
    print_classes(classes, out)?;
    if !outcome.near_duplicates.is_empty() {
        let groups = outcome.near_duplicates.len();
        let suspects = outcome.near_duplicates.iter().filter(|group| group.several_labels).count();
        writeln!(out, "look-alikes, each group in one split: {groups}, {suspects} of them under several labels")?;
    }
    if !outcome.rejected.is_empty() {
        writeln!(out, "left out: {} of {} files", outcome.rejected.len(), outcome.files)?;
    }
    let mut reasons: Vec<_> = outcome.rejected.iter().map(|file| file.reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        let files: Vec<_> = outcome.rejected.iter().filter(|file| file.reason == reason).collect();
        let reason = serde_json::to_value(reason)?;
        writeln!(out, "  {}: {}", reason.as_str().unwrap_or_default().replace('_', " "), files.len())?;
        for file in files.iter().take(EXAMPLES) {
            writeln!(out, "    {}: {}", file.name, file.message)?;
        }
        if files.len() > EXAMPLES {
            writeln!(out, "    … and {} more; --json lists them all", files.len() - EXAMPLES)?;
        }
    }
    Ok(())
}

/// Classes × splits.
fn print_classes(classes: &[ClassCount], out: &mut impl Write) -> Result<()> {
    let widest = classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0);
    write!(out, "  {:widest$}", "")?;
    for split in Split::ALL {
        write!(out, "  {:>10}", split.name())?;
    }
    writeln!(out)?;
    for class in classes {
        write!(out, "  {:widest$}", class.name)?;
        for split in Split::ALL {
            write!(out, "  {:>10}", class.of(split))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Reads a value as it stands in JSON.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

fn parse_size(text: &str) -> Result<(u32, u32)> {
    let (width, height) = text.split_once(['x', '×']).unwrap_or((text, text));
    let (Ok(width), Ok(height)) = (width.parse(), height.parse()) else {
        bail!("expected pixels like 96 or 128x96");
    };
    Ok((width, height))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_size_is_one_number_or_two() {
        assert_eq!(parse_size("96").unwrap(), (96, 96));
        assert_eq!(parse_size("128x96").unwrap(), (128, 96));
        for wrong in ["", "x", "96x", "-1", "96x96x96", "big"] {
            assert!(parse_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_wrong_choice_is_told_the_right_ones() {
        assert_eq!(parse::<Fit>("contain").unwrap(), Fit::Contain);
        let told = parse::<Fit>("squeeze").unwrap_err();
        assert!(told.contains("stretch") && told.contains("cover") && told.contains("contain"), "{told}");
    }
}
