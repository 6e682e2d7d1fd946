//! The pictures that a model is evaluated on: a labelled folder, an archive, or a dataset's split.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail, ensure};
use api::{
    ErrorDetail,
    dataset::{Rejected, Split},
    model::ModelManifest,
};
use ingest::{LabelledPicture, LabelledPictures, Limits, Source};
use predictor::Answer;
use store::{Dataset, Pixels, Volumes};

use crate::{classify::Classifier, pick};

/// Labelled pictures.
pub struct Pictures {
    /// Where they come from, for people.
    pub source: String,
    /// One entry a picture.
    pub labels: Vec<Labelled>,
    /// Files that are no pictures of a class.
    pub rejected: Vec<Rejected>,
    content: Content,
}

/// One of them.
pub struct Labelled {
    /// Path inside the source.
    pub name: String,
    /// Its class, as an index of the model's labels.
    pub class: usize,
    /// SHA-256 of the file, 64 hex digits.
    pub content_hash: String,
}

enum Content {
    Files(LabelledPictures, Vec<usize>),
    Rows(Pixels),
}

impl Pictures {
    /// Finds them: `data` is a path, or else a dataset.
    ///
    /// # Errors
    /// If there are none, or a label is none of the model's
    pub fn find(volumes: &Volumes, data: &str, split: Option<Split>, model: &ModelManifest) -> Result<Self> {
        let path = Path::new(data);
        if path.exists() {
            Self::in_path(volumes, path, split, model)
        } else {
            Self::of_dataset(volumes, data, split, model)
        }
    }

    fn in_path(volumes: &Volumes, path: &Path, split: Option<Split>, model: &ModelManifest) -> Result<Self> {
        let source = match path.is_dir() {
            true => Source::Folder(path.to_owned()),
            false => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Source::Archive { path: path.to_owned(), name }
            }
        };
        let found = LabelledPictures::find(source, volumes, &Limits::default())
            .with_context(|| format!("cannot evaluate on {}", path.display()))?;
        let (chosen, split) = of_split(&found.pictures, split)?;
        let told = split.map(|split| format!(", its {} split", split.name())).unwrap_or_default();
        ensure!(
            !chosen.is_empty(),
            "{}{told} has no pictures in class folders; expected a folder per class, like {}/1.png",
            path.display(),
            model.labels.first().map_or("ship", String::as_str)
        );
        let classes = classes(chosen.iter().map(|n| found.pictures[*n].label.as_str()), model)?;
        let labels = chosen.iter().zip(classes).map(|(n, class)| {
            let LabelledPicture { name, content_hash, .. } = &found.pictures[*n];
            Labelled { name: name.clone(), class, content_hash: content_hash.clone() }
        });
        let labels = labels.collect();
        let (source, rejected) = (format!("{}{told}", path.display()), found.rejected.clone());
        Ok(Self { source, labels, rejected, content: Content::Files(found, chosen) })
    }

    fn of_dataset(volumes: &Volumes, asked: &str, split: Option<Split>, model: &ModelManifest) -> Result<Self> {
        let dataset = pick::dataset(volumes, asked)
            .with_context(|| format!("{asked} is neither a folder or an archive nor a dataset"))?;
        let id = dataset.manifest.id.clone();
        ensure!(
            dataset.manifest.preprocess == model.preprocess,
            "the pictures of {id} are processed in another way than {} v{} asks for; evaluate on the folder or archive \
             that they came from",
            model.name,
            model.version
        );
        let split = split.unwrap_or(Split::Test);
        let pixels = dataset.pixels(split)?;
        ensure!(!pixels.is_empty(), "the {} split of {id} is empty; choose another one with --split", split.name());
        let names = dataset.labels();
        let labels = pixels.labels().iter().map(|label| names.get(*label as usize).map_or("", String::as_str));
        let classes = classes(labels, model)?;
        let records = dataset.pictures()?;
        let of_split = records.into_iter().filter(|record| record.split == split);
        let labels = of_split.zip(classes).map(|(record, class)| Labelled {
            name: record.name,
            class,
            content_hash: record.facts.content_hash,
        });
        let source = format!("{id} {}, its {} split", dataset.manifest.name, split.name());
        Ok(Self { source, labels: labels.collect(), rejected: vec![], content: Content::Rows(pixels) })
    }

    /// What the model says about one of them.
    pub fn ask(&self, classifier: &Classifier, n: usize, top_k: usize) -> Result<Answer, ErrorDetail> {
        match &self.content {
            Content::Rows(pixels) => classifier.pixels(pixels.image(n), top_k),
            Content::Files(found, chosen) => {
                let bytes = found.pictures[chosen[n]].bytes().map_err(|error| error.detail())?;
                classifier.file(&bytes, top_k)
            }
        }
    }
}

/// Rows of the split that is asked for; without one, those of the test split where the source brings splits, else all.
fn of_split(pictures: &[LabelledPicture], asked: Option<Split>) -> Result<(Vec<usize>, Option<Split>)> {
    let has_splits = pictures.iter().any(|picture| picture.split.is_some());
    let split = match asked {
        Some(split) if !has_splits => bail!(
            "there is no {} split here; leave --split out to evaluate on all pictures, or put the classes into folders \
             named train, val and test",
            split.name()
        ),
        None if !has_splits => return Ok(((0..pictures.len()).collect(), None)),
        asked => asked.unwrap_or(Split::Test),
    };
    Ok(((0..pictures.len()).filter(|n| pictures[*n].split == Some(split)).collect(), Some(split)))
}

/// Labels as indices of the model's.
fn classes<'a>(labels: impl Iterator<Item = &'a str>, model: &ModelManifest) -> Result<Vec<usize>> {
    let mut unknown = BTreeSet::new();
    let mut classes = vec![];
    for label in labels {
        match model.labels.iter().position(|known| known == label) {
            Some(class) => classes.push(class),
            None => drop(unknown.insert(label)),
        }
    }
    let named: Vec<_> = unknown.into_iter().collect();
    ensure!(
        named.is_empty(),
        "{} v{} does not know {}; it knows {}",
        model.name,
        model.version,
        named.join(", "),
        model.labels.join(", ")
    );
    Ok(classes)
}

/// Hashes of the pictures that a version was fitted or chosen on, where its dataset is still there.
pub fn fitted_on(volumes: &Volumes, model: &ModelManifest) -> Option<BTreeSet<String>> {
    let records = volumes.dataset(&model.dataset).and_then(|dataset: Dataset| dataset.pictures()).ok()?;
    let fitted = records.into_iter().filter(|record| record.split != Split::Test);
    Some(fitted.map(|record| record.facts.content_hash).collect())
}
