//! What a run's network says about the pictures of its dataset: the pictures behind a number.

use api::{dataset::Split, train::PicturePrediction};
use serde::Deserialize;
use store::{Dataset, Run};
use utoipa::ToSchema;

use crate::{
    error::{Result, WebError},
    pages::ShownPicture,
};

/// In which order predictions are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Those first whose own label is least probable.
    #[default]
    Worst,
    /// As their pictures lie in the dataset: train, validation, test.
    Row,
}

/// Which predictions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only of this part of the dataset.
    pub split: Option<Split>,
    /// Only of pictures with this label.
    pub label: Option<String>,
    /// Only of pictures that were taken for this.
    pub predicted: Option<String>,
    /// Only of pictures that were taken for something else.
    pub wrong: bool,
    /// Only of pictures that the model is unsure about.
    pub unsure: bool,
    /// In this order.
    pub order: Order,
    /// How many to pass over.
    pub offset: usize,
    /// How many to tell.
    pub limit: usize,
}

/// Some predictions, in the order that was wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// How many are wanted, those included that are not told.
    pub total: usize,
    /// These.
    pub predictions: Vec<PicturePrediction>,
}

/// Reads a run's predictions line by line; holds no more than twice what is asked for and passed over.
///
/// # Errors
/// `NotFound` for a label that is none of `labels`, and for a run without predictions.
pub fn select(run: &Run, labels: &[String], wanted: &Wanted) -> Result<Selected> {
    let index = |label: &Option<String>| match label {
        None => Ok(None),
        Some(name) => {
            let index = labels.iter().position(|label| label == name);
            let missing = || WebError::not_found(format!("run {:?} has no class {name:?}", run.id()));
            index.ok_or_else(missing).map(|index| Some(index as u32))
        }
    };
    let (label, predicted) = (index(&wanted.label)?, index(&wanted.predicted)?);
    let missing = || WebError::not_found(format!("run {:?} has no predictions", run.id()));
    let kept = wanted.offset.saturating_add(wanted.limit);
    let mut worst: Vec<PicturePrediction> = vec![];
    let mut total = 0;
    for prediction in run.predictions()?.ok_or_else(missing)? {
        let prediction = prediction?;
        let is_wanted = wanted.split.is_none_or(|split| prediction.split == split)
            && label.is_none_or(|label| prediction.label == label)
            && predicted.is_none_or(|predicted| prediction.predicted == predicted)
            && !(wanted.wrong && prediction.label == prediction.predicted)
            && (prediction.unsure || !wanted.unsure);
        if !is_wanted {
            continue;
        }
        total += 1;
        if wanted.order == Order::Row && worst.len() >= kept {
            continue;
        }
        worst.push(prediction);
        if wanted.order == Order::Worst && worst.len() >= kept.saturating_mul(2).max(64) {
            sort(&mut worst);
            worst.truncate(kept);
        }
    }
    if wanted.order == Order::Worst {
        sort(&mut worst);
    }
    let predictions = worst.into_iter().skip(wanted.offset).take(wanted.limit).collect();
    Ok(Selected { total, predictions })
}

/// The least probable label first; stable, so that rows of equal probability keep their order.
fn sort(predictions: &mut [PicturePrediction]) {
    predictions.sort_by(|a, b| probability(a, a.label).total_cmp(&probability(b, b.label)));
}

fn probability(prediction: &PicturePrediction, label: u32) -> f32 {
    prediction.probabilities.get(label as usize).copied().unwrap_or(0.0)
}

/// As a page shows it; without pixels where the dataset is gone.
pub fn shown(prediction: PicturePrediction, labels: &[String], dataset: Option<&Dataset>) -> ShownPicture {
    let label = |index: u32| labels.get(index as usize).cloned().unwrap_or_default();
    ShownPicture {
        url: dataset.map(|dataset| picture_url(dataset, prediction.split, prediction.row)),
        truth: label(prediction.label),
        predicted: label(prediction.predicted),
        probability: probability(&prediction, prediction.predicted),
        probability_of_truth: probability(&prediction, prediction.label),
        is_unsure: prediction.unsure,
        is_fitted: !prediction.held_out,
        name: prediction.name,
    }
}

/// Where the pixels of a row of a split are.
pub fn picture_url(dataset: &Dataset, split: Split, row: u64) -> String {
    let classes = &dataset.manifest.classes;
    let before = Split::ALL.into_iter().take_while(|other| *other != split);
    let first: u64 = before.map(|split| classes.iter().map(|class| class.of(split)).sum::<u64>()).sum();
    format!("/api/datasets/{}/pictures/{}.png", dataset.manifest.id, first + row)
}
