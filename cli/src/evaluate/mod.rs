//! `fovea evaluate`: how well a version does on labelled pictures that somebody kept apart.

mod pictures;
mod score;

use std::{io::Write, num::NonZeroUsize, process::ExitCode, time::Instant};

use anyhow::{Result, anyhow};
use api::{dataset::Split, model::ModelManifest, train::ClassMetrics};
use clap::Args;
use predictor::Answer;
use serde::Serialize;
use store::Volumes;

use self::{
    pictures::{Labelled, Pictures, fitted_on},
    score::Score,
};
use crate::{
    bar::Bar,
    classify::Classifier,
    pick::{self, ModelName},
    screen,
    table::{Side, Table},
    words,
};

/// Files and mistakes shown before the rest is only counted.
const EXAMPLES: usize = 5;

/// What `fovea evaluate` can be told.
#[derive(Args)]
pub struct Options {
    /// Registry name of the model, and perhaps a version, like classifier@v3; the version in use when absent
    #[arg(long, env = "FOVEA_MODEL", default_value = "classifier", value_name = "NAME[@vN]")]
    model: ModelName,

    /// Folder, ZIP or tar file with a folder per class; or a dataset by its id, name or `latest`. The house's own data
    /// folder is named before the command: fovea --data VOLUMES evaluate --data PICTURES
    #[arg(long, value_name = "DIR")]
    data: String,

    /// Which split, where the data have several [default: test]
    #[arg(long, value_parser = words::split)]
    split: Option<Split>,

    /// Exit with code 1 if the accuracy is lower, such as 0.95
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_accuracy: Option<f64>,

    /// Pictures classified at once [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "expected a share from 0 to 1, such as 0.95".to_owned())
}

/// All that was found out.
#[derive(Serialize)]
struct Report {
    model: String,
    version: u32,
    data: String,
    labels: Vec<String>,
    #[serde(flatten)]
    score: Score,
    /// Pictures that the version was fitted or chosen on; null where its dataset is gone.
    seen: Option<u64>,
    /// Accuracy on the others; null where nothing is known of them, or there are none.
    accuracy_of_unseen: Option<f64>,
    /// Most confident first.
    mistakes: Vec<Mistake>,
    unreadable: Vec<Unreadable>,
    min_accuracy: Option<f64>,
    passed: bool,
    seconds: f64,
}

#[derive(Serialize)]
struct Mistake {
    name: String,
    label: String,
    prediction: String,
    confidence: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsure: Option<bool>,
}

#[derive(Serialize)]
struct Unreadable {
    name: String,
    message: String,
}

/// Evaluates; the exit code tells whether the accuracy is as high as was asked for.
pub fn run(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<ExitCode> {
    let version = pick::version(volumes, &options.model)?;
    let classifier = Classifier::load(&version, options.threads)?;
    let pictures = Pictures::find(volumes, &options.data, options.split, &version.manifest)?;

    let started = Instant::now();
    let n_labels = version.manifest.labels.len();
    let bar = Bar::new("evaluating", pictures.labels.len());
    let answers = classifier.each(pictures.labels.len(), &bar, |n| pictures.ask(&classifier, n, n_labels));
    drop(bar);
    let seconds = started.elapsed().as_secs_f64();

    let mut read = vec![];
    let mut unreadable: Vec<_> =
        pictures.rejected.iter().map(|f| Unreadable { name: f.name.clone(), message: f.message.clone() }).collect();
    for (picture, answer) in pictures.labels.iter().zip(&answers) {
        match answer {
            Ok(answer) => read.push((picture, answer)),
            Err(error) => unreadable.push(Unreadable { name: picture.name.clone(), message: error.message.clone() }),
        }
    }
    let labels = &version.manifest.labels;
    let scored = Score::of(read.iter().map(|(picture, answer)| (picture.class, *answer)), labels);
    let score = scored.ok_or_else(|| match unreadable.first() {
        Some(first) => anyhow!("no picture could be read; {}: {}", first.name, first.message),
        None => anyhow!("{} has no pictures", pictures.source),
    })?;
    let (seen, accuracy_of_unseen) = unseen(volumes, &version.manifest, &read);
    let report = Report {
        model: version.manifest.name.clone(),
        version: version.manifest.version,
        data: pictures.source.clone(),
        labels: labels.clone(),
        seen,
        accuracy_of_unseen,
        mistakes: mistakes(&read, labels),
        unreadable,
        min_accuracy: options.min_accuracy,
        passed: options.min_accuracy.is_none_or(|least| score.accuracy >= least),
        score,
        seconds,
    };
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&report, screen::columns(), out)?;
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many pictures the version knows already, and its accuracy on the others.
fn unseen(volumes: &Volumes, model: &ModelManifest, read: &[(&Labelled, &Answer)]) -> (Option<u64>, Option<f64>) {
    let Some(known) = fitted_on(volumes, model) else { return (None, None) };
    let (seen, unseen): (Vec<_>, Vec<_>) =
        read.iter().copied().partition(|(picture, _)| known.contains(&picture.content_hash));
    let score = Score::of(unseen.into_iter().map(|(picture, answer)| (picture.class, answer)), &model.labels);
    (Some(seen.len() as u64), score.map(|score| score.accuracy))
}

fn mistakes(read: &[(&Labelled, &Answer)], labels: &[String]) -> Vec<Mistake> {
    let mistake = |(picture, answer): &(&Labelled, &Answer)| {
        let best = answer.ranked.first().filter(|best| best.label != labels[picture.class])?;
        Some(Mistake {
            name: picture.name.clone(),
            label: labels[picture.class].clone(),
            prediction: best.label.clone(),
            confidence: best.probability,
            unsure: answer.unsure,
        })
    };
    let mut mistakes: Vec<_> = read.iter().filter_map(mistake).collect();
    mistakes.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    mistakes
}

fn print(report: &Report, columns: usize, out: &mut impl Write) -> Result<()> {
    let Report { model, version, data, labels, score, unreadable, mistakes, .. } = report;
    let Score { pictures, right, accuracy, accuracy_interval: [least, most], loss, .. } = score;
    writeln!(out, "{model} v{version} on {data}")?;
    writeln!(out, "accuracy  {accuracy:.3}  {right} of {pictures} right; 95 % interval {least:.3} to {most:.3}")?;
    writeln!(out, "loss      {loss:.3}")?;
    if let Some(unsure) = score.unsure {
        let of_sure = words::ratio(score.accuracy_of_sure);
        writeln!(out, "unsure    {unsure} of {pictures}; accuracy of the others {of_sure}")?;
    }
    let rate = *pictures as f64 / report.seconds.max(1e-9);
    writeln!(out, "time      {}, {rate:.1} pictures per second", words::seconds(report.seconds))?;
    if let Some(seen @ 1..) = report.seen {
        let others = report.accuracy_of_unseen.map_or("there are no others".to_owned(), |accuracy| {
            format!("the accuracy on the others is {accuracy:.3}")
        });
        writeln!(out, "note      {seen} of them are of the pictures that this version was fitted on; {others}")?;
    }
    writeln!(out)?;
    per_class(&score.per_class).print(out)?;
    writeln!(out)?;
    let matrix = confusion(score, labels);
    if matrix.width() <= columns {
        writeln!(out, "true class down, predicted class across")?;
        matrix.print(out)?;
    } else {
        writeln!(out, "most frequent confusions; --json has the whole matrix")?;
        confusions(score, labels).print(out)?;
    }
    if !mistakes.is_empty() {
        writeln!(out)?;
        writeln!(out, "wrong and most confident, {} of {}", mistakes.len().min(EXAMPLES), mistakes.len())?;
        for Mistake { name, label, prediction, confidence, unsure } in mistakes.iter().take(EXAMPLES) {
            let unsure = if *unsure == Some(true) { ", unsure" } else { "" };
            writeln!(out, "  {name}: {label}, taken for {prediction} with {confidence:.3}{unsure}")?;
        }
    }
    if !unreadable.is_empty() {
        writeln!(out)?;
        writeln!(out, "not readable, and not counted: {}", unreadable.len())?;
        for Unreadable { name, message } in unreadable.iter().take(EXAMPLES) {
            writeln!(out, "  {name}: {message}")?;
        }
        if unreadable.len() > EXAMPLES {
            writeln!(out, "  … and {} more; --json lists them all", unreadable.len() - EXAMPLES)?;
        }
    }
    if let Some(least) = report.min_accuracy {
        writeln!(out)?;
        // As many digits as it takes to tell them apart.
        let relation = if report.passed { "at least" } else { "below" };
        writeln!(
            out,
            "{}: accuracy {accuracy} is {relation} {least}",
            if report.passed { "passed" } else { "failed" }
        )?;
    }
    Ok(())
}

/// Precision, recall, F1 and support of every class.
pub fn per_class(classes: &[ClassMetrics]) -> Table {
    let numbers = ["PRECISION", "RECALL", "F1", "PICTURES"].map(|heading| (heading, Side::Right));
    let mut table = Table::new([("CLASS", Side::Left)].into_iter().chain(numbers));
    for class in classes {
        let [precision, recall, f1] = [class.precision, class.recall, class.f1].map(words::ratio);
        table.row([class.label.clone(), precision, recall, f1, class.support.to_string()]);
    }
    table
}

fn confusion(score: &Score, labels: &[String]) -> Table {
    let columns = labels.iter().map(|label| (label.as_str(), Side::Right));
    let mut table = Table::new([("", Side::Left)].into_iter().chain(columns));
    for (label, row) in labels.iter().zip(&score.confusion_matrix) {
        table.row([label.clone()].into_iter().chain(row.iter().map(u64::to_string)));
    }
    table
}

/// The cells beside the diagonal that count most.
fn confusions(score: &Score, labels: &[String]) -> Table {
    let mut cells: Vec<(u64, usize, usize)> = vec![];
    for (class, row) in score.confusion_matrix.iter().enumerate() {
        cells.extend(row.iter().enumerate().filter(|(c, n)| *c != class && **n > 0).map(|(c, n)| (*n, class, c)));
    }
    cells.sort_by_key(|(n, ..)| std::cmp::Reverse(*n));
    let mut table = Table::new([("CLASS", Side::Left), ("TAKEN FOR", Side::Left), ("PICTURES", Side::Right)]);
    for (n, class, predicted) in cells.into_iter().take(2 * EXAMPLES) {
        table.row([labels[class].clone(), labels[predicted].clone(), n.to_string()]);
    }
    table
}
