//! The version in use, asked about the test pictures that it was not fitted on.

use std::collections::HashSet;

use api::dataset::{PictureRecord, Split};
use store::{Dataset, ModelVersion, Volumes};

use crate::{
    Result,
    data::Pictures,
    engine::Engine,
    evaluate::predicted,
    export::Runner,
    monitor::Monitor,
    pixels::PixelInput,
    promotion::{Counts, Present},
};

/// What is needed to ask it.
#[derive(Clone, Copy)]
pub struct Rival<'a> {
    /// Where versions and datasets lie.
    pub volumes: &'a Volumes,
    /// Registry name.
    pub model: &'a str,
    /// The dataset of the run.
    pub dataset: &'a Dataset,
    /// Records of its test split.
    pub records: &'a [PictureRecord],
    /// Its test split.
    pub test: &'a Pictures<'a>,
    /// Runs the network.
    pub engine: &'a Engine,
    /// The new version's; sets how many pictures run at once.
    pub pixels: &'a PixelInput,
}

impl Rival<'_> {
    /// Asks the version in use, and counts what it and the new version recognise.
    ///
    /// # Shapes
    /// `new_logits`: of the new version for the whole test split, `[n, n_classes]`
    ///
    /// # Errors
    /// `Cancelled`; a version in use that cannot be asked is [`Present::Incomparable`]
    pub fn ask(&self, new_logits: &[f32], monitor: &mut Monitor) -> Result<Present> {
        let Some(number) = self.volumes.current(self.model)? else { return Ok(Present::None) };
        let incomparable = |because: String| Ok(Present::Incomparable { version: number, because });
        let version = match self.volumes.version(self.model, number) {
            Ok(version) => version,
            Err(error) => return incomparable(format!("it cannot be read ({error})")),
        };
        if version.manifest.labels != self.dataset.labels() {
            return incomparable("its labels are others".into());
        }
        if version.manifest.preprocess != self.dataset.manifest.preprocess {
            return incomparable("its pictures are processed in another way".into());
        }
        let Some(known) = self.known_to(&version)? else {
            return incomparable(format!("the dataset that it was fitted on, {}, is gone", version.manifest.dataset));
        };
        let is_unseen = |row: &usize| !known.contains(&self.records[*row].facts.content_hash);
        let rows: Vec<usize> = (0..self.test.len()).filter(is_unseen).collect();
        let onnx = match std::fs::read(version.onnx()) {
            Ok(onnx) => onnx,
            Err(error) => return incomparable(format!("its network cannot be read ({error})")),
        };
        let logits = match self.logits(&onnx, &rows, monitor) {
            Ok(logits) => logits,
            Err(error) if crate::search::ends_the_run(&error) => return Err(error),
            Err(error) => return incomparable(format!("it does not run ({})", error.sentence())),
        };
        let n_classes = version.manifest.labels.len();
        let is_right = |row: &usize, logits: &[f32]| predicted(logits) == self.test.labels()[*row] as usize;
        let answers = rows.iter().zip(logits.chunks_exact(n_classes));
        let present_right = answers.filter(|(row, logits)| is_right(row, logits)).count();
        let new_right = rows.iter().filter(|&row| is_right(row, &new_logits[row * n_classes..][..n_classes])).count();
        Ok(Present::Compared { version: number, counts: Counts { pictures: rows.len(), present_right, new_right } })
    }

    /// Hashes of the pictures that it was fitted on or chosen by; nothing if nobody knows them any more.
    fn known_to(&self, version: &ModelVersion) -> Result<Option<HashSet<String>>> {
        let of = &version.manifest.dataset;
        if *of == self.dataset.manifest.id {
            return Ok(Some(HashSet::new()));
        }
        let Ok(records) = self.volumes.dataset(of).and_then(|dataset| dataset.pictures()) else { return Ok(None) };
        let learnt = records.into_iter().filter(|record| record.split != Split::Test);
        Ok(Some(learnt.map(|record| record.facts.content_hash).collect()))
    }

    fn logits(&self, onnx: &[u8], rows: &[usize], monitor: &mut Monitor) -> Result<Vec<f32>> {
        let mut runner = Runner::new(self.engine, onnx, self.pixels)?;
        runner.logits(self.test, rows, |done| monitor.stage("compare", done, rows.len()))
    }
}
