//! `predictions.jsonl`: a line for every picture of the dataset, written as it goes, published by a rename.
//!
//! A picture that the published network was fitted on is told as models took it that were not, where there are such:
//! what a network says about pictures that it knows by heart tells nothing. The line says which of both it is.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use api::train::PicturePrediction;

use crate::{Result, TrainerError};

/// Name of the file in a run's folder.
pub const FILE: &str = "predictions.jsonl";

/// Puts lines aside until all are there.
#[derive(Debug)]
pub struct Writer {
    aside: PathBuf,
    target: PathBuf,
    out: BufWriter<File>,
}

impl Writer {
    /// Begins the file of a run; what an earlier attempt left is overwritten.
    ///
    /// # Errors
    /// `Store` if the folder takes no file
    pub fn new(run: &Path) -> Result<Self> {
        let aside = run.join(format!(".{FILE}"));
        let file = File::create(&aside).map_err(TrainerError::write(&aside))?;
        Ok(Self { out: BufWriter::new(file), target: run.join(FILE), aside })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// `Store` if the volume is full
    pub fn line(&mut self, prediction: &PicturePrediction) -> Result<()> {
        let line = serde_json::to_string(prediction).expect("plain data serialises");
        writeln!(self.out, "{line}").map_err(TrainerError::write(&self.aside))
    }

    /// Flushes the file and gives it its name.
    ///
    /// # Errors
    /// `Store` if the volume is full
    pub fn publish(self) -> Result<()> {
        let wrong = || TrainerError::write(&self.target);
        let file = self.out.into_inner().map_err(|error| wrong()(error.into_error()))?;
        file.sync_all().map_err(wrong())?;
        fs::rename(&self.aside, &self.target).map_err(wrong())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use api::dataset::Split;

    use super::*;

    #[test]
    fn nothing_has_the_name_before_every_line_is_there() {
        let run = tempfile::tempdir().unwrap();
        let line = |row| PicturePrediction {
            split: Split::Train,
            row,
            name: format!("a/{row}.png"),
            label: 0,
            predicted: 1,
            probabilities: vec![0.25, 0.75],
            unsure: false,
            held_out: true,
        };
        let mut writer = Writer::new(run.path()).unwrap();
        writer.line(&line(0)).unwrap();
        assert!(!run.path().join(FILE).exists());
        drop(writer);
        let mut writer = Writer::new(run.path()).unwrap();
        writer.line(&line(0)).unwrap();
        writer.line(&line(1)).unwrap();
        writer.publish().unwrap();
        let text = fs::read_to_string(run.path().join(FILE)).unwrap();
        let lines: Vec<PicturePrediction> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, [line(0), line(1)]);
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 1, "nothing is left aside");
    }
}
