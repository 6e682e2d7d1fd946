//! `fovea predict`: what a version says about picture files, without any server.

use std::{fs, io::Write, num::NonZeroUsize, path::PathBuf, process::ExitCode};

use anyhow::Result;
use api::{
    ErrorCode, ErrorDetail,
    predict::{DEFAULT_TOP_K, Prediction},
};
use clap::Args;
use predictor::Answer;
use store::Volumes;

use crate::{
    bar::Bar,
    classify::Classifier,
    pick::{self, ModelName},
    table::{Side, Table},
    words,
};

/// What `fovea predict` can be told.
#[derive(Args)]
pub struct Options {
    /// Picture files
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,

    /// Registry name of the model, and perhaps a version, like classifier@v3; the version in use when absent
    #[arg(long, env = "FOVEA_MODEL", default_value = "classifier", value_name = "NAME[@vN]")]
    model: ModelName,

    /// Labels to rank for each picture
    #[arg(long, default_value_t = DEFAULT_TOP_K, value_name = "N")]
    top_k: usize,

    /// Pictures classified at once [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Print a JSON array, each entry as the inference function answers
    #[arg(long)]
    json: bool,
}

/// Classifies every file; the exit code tells whether all could be.
pub fn run(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<ExitCode> {
    let version = pick::version(volumes, &options.model)?;
    let classifier = Classifier::load(&version, options.threads)?;
    let bar = Bar::new("classifying", options.files.len());
    let predictions = classifier.each(options.files.len(), &bar, |n| {
        let file = &options.files[n];
        let answer = read(file).and_then(|bytes| classifier.file(&bytes, options.top_k.max(1)));
        prediction(file.display().to_string(), answer, options.top_k)
    });
    drop(bar);
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&predictions)?)?;
    } else {
        print(&predictions, out)?;
    }
    let failed = predictions.iter().any(|prediction| prediction.error.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(file: &PathBuf) -> Result<Vec<u8>, ErrorDetail> {
    fs::read(file).map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorCode::NotFound,
            _ => ErrorCode::BadRequest,
        };
        ErrorDetail::new(code, format!("cannot read the file: {error}"))
    })
}

fn prediction(name: String, answer: Result<Answer, ErrorDetail>, top_k: usize) -> Prediction {
    let name = Some(name);
    match answer {
        Err(error) => Prediction { name, error: Some(error), ..Prediction::default() },
        Ok(Answer { ranked, unsure }) => Prediction {
            name,
            prediction: ranked.first().map(|best| best.label.clone()),
            confidence: ranked.first().map(|best| best.probability),
            unsure,
            top_k: ranked.into_iter().take(top_k).collect(),
            ..Prediction::default()
        },
    }
}

fn print(predictions: &[Prediction], out: &mut impl Write) -> Result<()> {
    let columns = [("FILE", Side::Left), ("LABEL", Side::Left), ("CONFIDENCE", Side::Right), ("", Side::Left)];
    let mut table = Table::new(columns);
    for prediction in predictions {
        let name = prediction.name.clone().unwrap_or_default();
        let Some(label) = prediction.prediction.clone() else {
            let why = prediction.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
            table.row([name, "-".into(), "-".into(), why]);
            continue;
        };
        let others = prediction.top_k.iter().skip(1).map(|r| format!("{} {:.3}", r.label, r.probability));
        let unsure = (prediction.unsure == Some(true)).then(|| "unsure".to_owned());
        let rest: Vec<_> = unsure.into_iter().chain(others).collect();
        table.row([name, label, words::ratio(prediction.confidence.map(f64::from)), rest.join(", ")]);
    }
    Ok(table.print(out)?)
}
