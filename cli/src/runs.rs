//! `fovea runs`: every run, or one of them with what came out.

use std::io::Write;

use anyhow::Result;
use api::train::{Calibration, Examined, ORDER, Results, RunLabel, RunSpec, RunStatus, Validated};
use clap::Args;
use serde::Serialize;
use store::{Run, Volumes};

use crate::{
    evaluate, pick, screen,
    table::{Side, Table},
    view, words,
};

/// Candidates shown before the rest is only counted.
const CANDIDATES: usize = 10;

/// What `fovea runs` can be told.
#[derive(Args)]
pub struct Options {
    /// One run by its id, the beginning of its id, its name, or `latest`; all when absent
    id: Option<String>,

    /// Print JSON: an array of all runs, or one object with its results
    #[arg(long)]
    json: bool,
}

/// What is known of a run without its results.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    spec: RunSpec,
    status: RunStatus,
    label: RunLabel,
    /// 0..=1, once there is one.
    test_accuracy: Option<f64>,
    bytes: u64,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    listed: Listed,
    results: Option<Results>,
}

/// Lists all runs or shows one.
pub fn run(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    match &options.id {
        Some(id) => {
            let run = pick::run(volumes, id)?;
            if !options.json {
                return describe(&run, volumes, out);
            }
            let results = run.results()?;
            let shown = Shown { listed: listed(&run, results.as_ref())?, results };
            Ok(writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?)
        }
        None => list(volumes, options.json, out),
    }
}

fn listed(run: &Run, results: Option<&Results>) -> Result<Listed> {
    Ok(Listed {
        spec: run.spec.clone(),
        status: run.status()?,
        label: run.label()?,
        test_accuracy: results.and_then(|results| results.test_accuracy),
        bytes: run.bytes(),
    })
}

fn list(volumes: &Volumes, json: bool, out: &mut impl Write) -> Result<()> {
    // A run that cannot be read is no reason to show none.
    let all: Vec<Listed> =
        volumes.runs()?.iter().filter_map(|run| listed(run, run.results().ok().flatten().as_ref()).ok()).collect();
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?);
    }
    if all.is_empty() {
        return Ok(writeln!(out, "no runs in {}", volumes.runs_dir().display())?);
    }
    let columns = [
        ("RUN", Side::Left),
        ("STATE", Side::Left),
        ("DATASET", Side::Left),
        ("ASKED FOR", Side::Left),
        ("VERSION", Side::Left),
        ("TEST", Side::Right),
        ("SIZE", Side::Right),
        ("NAME", Side::Left),
    ];
    let mut table = Table::new(columns);
    for Listed { spec, status, label, test_accuracy, bytes } in all {
        let version = status.version.map_or("-".to_owned(), |version| format!("{} v{version}", spec.model));
        let asked = spec.hyperparameters.family.map_or("auto", |family| family.name());
        table.row([
            spec.run,
            status.state.name().to_owned(),
            spec.dataset,
            asked.to_owned(),
            version,
            words::ratio(test_accuracy),
            words::bytes(bytes),
            label.name,
        ]);
    }
    Ok(table.print(out)?)
}

/// Prints one run and what came out.
pub fn describe(run: &Run, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    let (status, label) = (run.status()?, run.label()?);
    let mut lines = vec![];
    let columns = screen::columns();
    let mut fact = |what: &str, text: &str| view::wrap(&format!("{what:<11} {text}"), 0, columns, &mut lines);
    let name = if label.name.is_empty() { String::new() } else { format!("  {}", label.name) };
    fact("run", &format!("{}  {}{name}", run.id(), status.state.name()));
    if let Some(reason) = &status.reason {
        fact("why", reason);
    }
    fact("dataset", &run.spec.dataset);
    let in_use = status.version.is_some() && volumes.current(&run.spec.model)? == status.version;
    if let Some(version) = status.version {
        fact("model", &format!("{} v{version}{}", run.spec.model, if in_use { ", in use" } else { ", not in use" }));
    }
    if !label.notes.is_empty() {
        fact("notes", &label.notes);
    }
    let Some(results) = run.results()? else { return print(&lines, out) };
    for (what, text) in facts(&results) {
        fact(what, &text);
    }
    let held_back = results.promotion.as_ref().is_some_and(|gate| !gate.promoted);
    if let Some(version) = status.version.filter(|_| held_back && !in_use) {
        fact("", &format!("`fovea publish {} v{version}` puts it into use all the same", run.spec.model));
    }
    for note in &results.notes {
        fact("note", note);
    }
    print(&lines, out)?;
    if !results.leaderboard.is_empty() {
        writeln!(out)?;
        leaderboard(&results).print(out)?;
        let told = format!(
            "{ORDER} 95 % is where an accuracy lies with as much confidence, WORK multiply-adds for a picture."
        );
        let mut lines = vec![];
        view::wrap(&told, 2, columns, &mut lines);
        print(&lines, out)?;
        if let more @ 1.. = results.leaderboard.len().saturating_sub(CANDIDATES) {
            writeln!(out, "  … and {more} more; --json lists them all")?;
        }
    }
    if !results.per_class.is_empty() {
        writeln!(out)?;
        evaluate::per_class(&results.per_class).print(out)?;
    }
    Ok(())
}

fn print(lines: &[String], out: &mut impl Write) -> Result<()> {
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(())
}

fn facts(results: &Results) -> Vec<(&'static str, String)> {
    let pictures: u64 = results.per_class.iter().map(|class| class.support).sum();
    let (train, validation) = (words::ratio(Some(results.accuracy)), words::ratio(results.val_accuracy));
    let on = results.validated.map_or_else(String::new, |Validated { pictures, folds }| {
        let pictures = words::count(pictures, "picture", "pictures");
        match folds {
            0 => format!(" of {pictures}"),
            folds => format!(" of {pictures} in {}", words::count(folds.into(), "fold", "folds")),
        }
    });
    let test = match results.test_accuracy {
        Some(test) => format!("test {test:.3} of {}", words::count(pictures, "picture", "pictures")),
        None => "test -".to_owned(),
    };
    let mut facts = vec![
        (
            "trained",
            format!(
                "{}, {} epochs, seed {}",
                words::settings(&results.settings),
                results.curves.len(),
                results.settings.seed
            ),
        ),
        ("accuracy", format!("{test}, validation {validation}{on}, train {train}")),
    ];
    facts.extend(results.choice.iter().map(|choice| ("choice", choice.clone())));
    facts.extend(results.promotion.iter().map(|gate| ("gate", gate.reason.clone())));
    if let Some(Calibration { ece_before, ece_after, test_ece, test_unsure, .. }) = &results.calibration {
        let test = test_ece.map(|ece| format!(", {ece:.3} on the test split")).unwrap_or_default();
        facts.push((
            "calibration",
            format!("expected calibration error {ece_before:.3} before, {ece_after:.3} after{test}"),
        ));
        facts.extend(test_unsure.map(|share| ("unsure", format!("about {:.1} % of the test split", share * 100.0))));
    }
    if !results.suspects.is_empty() {
        let n = words::count(results.suspects.len() as u64, "picture", "pictures");
        facts.push(("suspects", format!("{n} whose label is probably wrong; --json lists them")));
    }
    if let Some(Examined { pictures, of }) = results.examined {
        facts.push(("examined", format!("{pictures} of {of} pictures for a wrong label")));
    }
    if results.model_bytes > 0 {
        let time = results.milliseconds_per_picture.map(|ms| format!(", {ms:.1} ms a picture")).unwrap_or_default();
        facts.push(("cost", format!("{}{time}", words::bytes(results.model_bytes))));
    }
    facts
}

fn leaderboard(results: &Results) -> Table {
    let numbers = ["ROUNDS", "ACCURACY", "95 %", "LOSS", "WORK", "TIME"].map(|heading| (heading, Side::Right));
    let words_ = ["STATE", "SETTINGS"].map(|heading| (heading, Side::Left));
    let mut table = Table::new([("#", Side::Right)].into_iter().chain(numbers).chain(words_));
    for candidate in results.leaderboard.iter().take(CANDIDATES) {
        table.row([
            candidate.number.to_string(),
            candidate.rounds.to_string(),
            words::ratio(candidate.val_accuracy),
            words::interval(candidate.accuracy_interval()),
            words::ratio(candidate.val_loss),
            words::work(candidate.multiply_adds),
            words::seconds(candidate.seconds),
            candidate.state.name().to_owned(),
            words::settings(&candidate.settings),
        ]);
    }
    table
}
