//! The page of a dataset.

use api::dataset::{DatasetManifest, RejectReason, Rejected};
use askama::Template;

use super::{Charts, ShownSuspect};
use crate::{chart::Figure, form::Form};

/// `/datasets/{id}`.
#[derive(Template)]
#[template(path = "dataset.html")]
pub struct Dataset {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// The manifest.
    pub m: DatasetManifest,
    /// A few pictures of each class.
    pub samples: Vec<Sample>,
    /// Rejected files by reason.
    pub rejects: Vec<Rejects>,
    /// How many pictures each class has.
    pub balance: Figure,
    /// What is to be said of classes of very different sizes.
    pub imbalance: Option<String>,
    /// Where charts are saved from.
    pub charts: Charts,
    /// Groups of pictures that look alike, some of them.
    pub lookalikes: Vec<Lookalikes>,
    /// The newest run whose models doubt labels, and what they doubt.
    pub doubted: Option<Doubted>,
    /// The dataset that this one was made of: its name, where it is still there.
    pub origin_name: Option<String>,
    /// Datasets that were made of this one: id and name, newest first.
    pub children: Vec<(String, String)>,
    /// Versions in use that were made from it.
    pub in_use: Vec<String>,
    /// What it takes on the disk.
    pub bytes: u64,
    /// Settings of a run.
    pub form: Form,
    /// Whether the settings are shown from the start.
    pub form_open: bool,
}

/// What models doubt.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubted {
    /// Id of the run that they came of.
    pub by: String,
    /// The surest.
    pub suspects: Vec<ShownSuspect>,
    /// How many there are in all.
    pub total: usize,
}

/// Pictures that look alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookalikes {
    /// Whether they lie under more than one label.
    pub several_labels: bool,
    /// The pictures.
    pub pictures: Vec<Lookalike>,
}

/// A picture that looks like others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookalike {
    /// Where its pixels are.
    pub url: String,
    /// Path inside the upload.
    pub name: String,
    /// Its label.
    pub label: String,
}

/// Rows of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its label.
    pub label: String,
    /// Rows over all splits.
    pub rows: Vec<u64>,
}

/// Files rejected for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejects {
    /// Why.
    pub reason: RejectReason,
    /// Which.
    pub files: Vec<Rejected>,
}

impl Rejects {
    /// Rejected files by reason.
    pub fn by_reason(rejected: &[Rejected]) -> Vec<Self> {
        let mut groups = std::collections::BTreeMap::<_, Vec<_>>::new();
        for file in rejected {
            groups.entry(file.reason).or_default().push(file.clone());
        }
        groups.into_iter().map(|(reason, files)| Self { reason, files }).collect()
    }
}

impl Dataset {
    /// Suspects in all, shown or not.
    fn n_suspects(&self) -> usize {
        self.doubted.as_ref().map_or(0, |doubted| doubted.total)
    }

    /// The dataset that suspects can be left out of.
    fn derivable(&self) -> Option<&str> {
        Some(&self.m.id)
    }
}
