//! A dataset's splits, mapped: those that may be learnt from, and the test split beside them.

use api::dataset::{PictureRecord, Split};
use store::{Dataset, Pixels};

use crate::{Result, data::Pictures, folds};

/// The dataset's pictures with their records.
#[derive(Clone, Debug)]
pub struct Splits {
    pixels: [Pixels; 3],
    records: Vec<PictureRecord>,
    height: u32,
    width: u32,
}

impl Splits {
    /// Maps a dataset.
    ///
    /// # Errors
    /// `Store` if it cannot be read
    pub fn open(dataset: &Dataset) -> Result<Self> {
        let [train, validation, test] = Split::ALL.map(|split| dataset.pixels(split));
        let spec = &dataset.manifest.preprocess;
        let pixels = [train?, validation?, test?];
        Ok(Self { pixels, records: dataset.pictures()?, height: spec.height, width: spec.width })
    }

    /// Those that may be learnt from: the train split, then the validation split.
    pub fn pool(&self) -> Pictures<'_> {
        let [train, validation, _] = &self.pixels;
        let pictures = Pictures::new(self.height, self.width).with(train.images(), train.labels());
        pictures.with(validation.images(), validation.labels())
    }

    /// The test split.
    pub fn test(&self) -> Pictures<'_> {
        let [_, _, test] = &self.pixels;
        Pictures::new(self.height, self.width).with(test.images(), test.labels())
    }

    /// Pictures of the train split.
    pub fn n_train(&self) -> usize {
        self.pixels[0].len()
    }

    /// Pictures of train and validation split.
    pub fn n_pool(&self) -> usize {
        self.pixels[0].len() + self.pixels[1].len()
    }

    /// Records in the order of rows: the pool's, then the test split's.
    pub fn records(&self) -> (&[PictureRecord], &[PictureRecord]) {
        self.records.split_at(self.n_pool())
    }

    /// The group of each row of the pool: lookalikes are of the same.
    pub fn groups(&self, dataset: &Dataset) -> Vec<usize> {
        let lookalikes: Vec<Vec<String>> =
            dataset.manifest.near_duplicates.iter().map(|group| group.names.clone()).collect();
        folds::groups(self.records().0.iter().map(|record| record.name.as_str()), &lookalikes)
    }

    /// Split and row in it of a row of the pool.
    pub fn place(&self, row: usize) -> (Split, u64) {
        match row.checked_sub(self.n_train()) {
            None => (Split::Train, row as u64),
            Some(row) => (Split::Validation, row as u64),
        }
    }
}
