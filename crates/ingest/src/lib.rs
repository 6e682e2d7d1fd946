//! From an upload to a published dataset: unpack, process, clean, split, publish.
//!
//! Pictures are read file by file and their pixels go straight to the volume, so memory does not grow with the upload.
//! What a picture's bytes mean is decided elsewhere, by a [`Preprocess`]; how a dataset lies on the volume too, by
//! `store`.

mod archive;
mod clean;
mod collect;
mod error;
pub mod fashion_mnist;
mod labelled;
mod layout;
mod limits;
mod near;
mod path;
mod preprocess;
mod reporter;
mod room;
mod run;
mod split;
mod upload;

use api::{
    Background, Filter, Fit, PreprocessSpec,
    dataset::{NearDuplicates, Rejected, Split},
};
use bytes::Bytes;
use serde::Serialize;
use std::path::PathBuf;
use store::{Published, Volumes};

pub use error::IngestError;
pub use imaging::Probe;
pub use labelled::{LabelledPicture, LabelledPictures};
pub use limits::Limits;
pub use preprocess::{FunctionClient, Native, Patience, Preprocess, Processed, Refusal};
pub use split::{TEST_RATIO, VALIDATION_RATIO};
pub use upload::Upload;

/// Result of this crate.
pub type Result<T, E = IngestError> = std::result::Result<T, E>;

/// Where the pictures come from.
#[derive(Debug)]
pub enum Source {
    /// A ZIP or tar file (gzipped or not, recognised by content) with a folder per class. It stays where it is.
    Archive {
        /// The file.
        path: PathBuf,
        /// Its name as given by whoever sent it.
        name: String,
    },
    /// A folder with a folder per class. It is read in place.
    Folder(PathBuf),
    /// Files received one by one.
    Upload(Upload),
    /// Pictures that are in memory already; for samples and small sets.
    Memory {
        /// Name of the set.
        name: String,
        /// The pictures.
        pictures: Vec<Picture>,
    },
}

/// A picture in memory.
#[derive(Clone, Debug)]
pub struct Picture {
    /// A path to know it by.
    pub name: String,
    /// Its class.
    pub label: String,
    /// Its split, if it has one already.
    pub split: Option<Split>,
    /// The encoded picture.
    pub bytes: Bytes,
}

/// What the caller may choose about one dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Human name of the dataset; the upload's own name when absent.
    pub name: Option<String>,
    /// Width and height in pixels; chosen from the pictures when absent.
    pub size: Option<(u32, u32)>,
    /// How pictures are brought to that size.
    pub fit: Fit,
    /// Resampling filter.
    pub filter: Filter,
    /// Behind transparent pixels and around contained ones.
    pub background: Background,
}

/// What an ingest is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading and hashing files.
    #[default]
    Unpack,
    /// Looking at picture sizes.
    Measure,
    /// Processing pictures.
    Process,
    /// Looking for near duplicates.
    Compare,
    /// Writing the dataset.
    Publish,
}

/// How far an ingest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// Units of this stage done.
    pub done: u64,
    /// Units of this stage in all; 0 while that is not known.
    pub total: u64,
}

/// What came of an upload.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The dataset, and whether it was there before.
    pub published: Published,
    /// Files that arrived, rejected ones included.
    pub files: u64,
    /// Every file of this upload that is not in the dataset, with its reason.
    pub rejected: Vec<Rejected>,
    /// Pictures of this upload that look alike.
    pub near_duplicates: Vec<NearDuplicates>,
}

/// Makes datasets on the volumes; one serves any number of uploads, also at once.
#[derive(Clone, Debug)]
pub struct Ingest<P> {
    /// Where datasets go.
    pub volumes: Volumes,
    /// Who processes the pictures.
    pub preprocess: P,
    /// Bounds on each upload.
    pub limits: Limits,
    /// Pictures in work at the same time.
    pub concurrency: usize,
}

impl<P: Preprocess> Ingest<P> {
    /// With default limits and concurrency.
    pub fn new(volumes: Volumes, preprocess: P) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { volumes, preprocess, limits: Limits::default(), concurrency: (2 * cores).clamp(4, 32) }
    }
}

impl Options {
    /// How pictures are processed; a square of `side` where no size was asked for.
    fn spec(&self, side: u32) -> PreprocessSpec {
        let (width, height) = self.size.unwrap_or((side, side));
        let Self { fit, filter, background, .. } = *self;
        PreprocessSpec { width, height, fit, filter, background, ..PreprocessSpec::square(side) }
    }
}
