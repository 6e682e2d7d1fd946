//! `predictions.jsonl` of a run: what the published network says about each picture of the dataset.
//!
//! Written once, read line by line, for a dataset may have more pictures than fit into memory.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Lines, Write},
    path::PathBuf,
};

use api::train::PicturePrediction;

use crate::{Result, Run, StoreError, atomic, run::optional};

const PREDICTIONS: &str = "predictions.jsonl";

/// A run's predictions in the order of rows: train, validation, test.
#[derive(Debug)]
pub struct Predictions {
    path: PathBuf,
    lines: Lines<BufReader<File>>,
}

impl Run {
    /// Its predictions; `None` where there are none, because it has not succeeded or is from before they were kept.
    pub fn predictions(&self) -> Result<Option<Predictions>> {
        let path = self.dir.join(PREDICTIONS);
        let file = optional(File::open(&path).map_err(StoreError::read(&path)))?;
        Ok(file.map(|file| Predictions { path, lines: BufReader::new(file).lines() }))
    }

    /// Publishes its predictions.
    ///
    /// # Errors
    /// The first error that comes instead of a prediction; nothing is published then.
    pub fn write_predictions<E: From<StoreError>>(
        &self,
        predictions: impl IntoIterator<Item = Result<PicturePrediction, E>>,
    ) -> Result<(), E> {
        let path = self.dir.join(PREDICTIONS);
        let wrong = || StoreError::write(&path);
        let aside = tempfile::Builder::new().prefix(".tmp-").tempfile_in(&self.dir).map_err(wrong())?;
        let mut out = BufWriter::new(aside);
        for prediction in predictions {
            serde_json::to_writer(&mut out, &prediction?).map_err(|e| wrong()(e.into()))?;
            out.write_all(b"\n").map_err(wrong())?;
        }
        let aside = out.into_inner().map_err(|e| wrong()(e.into_error()))?;
        aside.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(wrong())?;
        aside.as_file().sync_all().map_err(wrong())?;
        aside.persist(&path).map_err(|e| wrong()(e.error))?;
        Ok(atomic::sync_dir(&self.dir)?)
    }
}

impl Iterator for Predictions {
    type Item = Result<PicturePrediction>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?.map_err(StoreError::read(&self.path));
        Some(line.and_then(|line| {
            let wrong = |source| StoreError::Parse { path: self.path.clone(), what: "prediction", source };
            serde_json::from_str(&line).map_err(wrong)
        }))
    }
}
