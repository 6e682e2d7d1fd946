//! `manifest.json` and `pictures.jsonl` of a dataset.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{PreprocessSpec, preprocess::Facts};

/// Version of the manifest's layout.
pub const SCHEMA: u32 = 1;

/// The part of a dataset a picture belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Fits the weights.
    Train,
    /// Chooses when to stop and which settings to keep.
    Validation,
    /// Used once, after training.
    Test,
}

impl Split {
    /// In the order of rows and tensors.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// As written in tensor names and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// What a dataset is and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DatasetManifest {
    /// Layout version, see [`SCHEMA`].
    pub schema: u32,
    /// `ds-` and the first 16 hex digits of the identity's SHA-256; the same pictures under the same labels with
    /// the same spec and splits have the same id.
    pub id: String,
    /// Human name, from the upload.
    pub name: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// In class-index order, sorted by name.
    pub classes: Vec<ClassCount>,
    /// Pictures in all splits together.
    pub pictures: u64,
    /// How every picture was processed.
    pub preprocess: PreprocessSpec,
    /// How the split was decided.
    pub split: SplitPolicy,
    /// Where the pictures came from.
    pub provenance: Provenance,
    /// Every file that is not in the dataset, with its reason.
    pub rejected: Vec<Rejected>,
    /// Groups of pictures that look alike; each group lies in one split.
    pub near_duplicates: Vec<NearDuplicates>,
    /// Every other file of the dataset.
    pub files: BTreeMap<String, FileDigest>,
}

/// A class and how many pictures it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClassCount {
    /// Label.
    pub name: String,
    /// Pictures in the train split.
    pub train: u64,
    /// Pictures in the validation split.
    pub validation: u64,
    /// Pictures in the test split.
    pub test: u64,
}

impl ClassCount {
    /// Pictures of one split.
    pub fn of(&self, split: Split) -> u64 {
        match split {
            Split::Train => self.train,
            Split::Validation => self.validation,
            Split::Test => self.test,
        }
    }

    /// Pictures of all splits.
    pub fn total(&self) -> u64 {
        self.train + self.validation + self.test
    }
}

/// How pictures were put into splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SplitPolicy {
    /// Splits the upload brought along and that were kept.
    pub given: Vec<Split>,
    /// Share of a class put into validation where it was not given, 0..=1.
    pub validation_ratio: f64,
    /// Share of a class put into test where it was not given, 0..=1.
    pub test_ratio: f64,
}

/// Where a dataset came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Provenance {
    /// Name of the archive or folder, without its path.
    pub source: String,
    /// Files that arrived, rejected ones included.
    pub files: u64,
    /// Program and version that made the dataset.
    pub made_by: String,
    /// The dataset that this one was made from by leaving pictures out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived_from: Option<Derivation>,
}

/// How a dataset came of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Derivation {
    /// Id of the other one.
    pub dataset: String,
    /// Paths of the pictures that were left out.
    pub removed: Vec<String>,
}

/// A file that is not in the dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rejected {
    /// Path inside the upload.
    pub name: String,
    /// Label it was filed under, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Why, for programs.
    pub reason: RejectReason,
    /// Why, for people.
    pub message: String,
}

/// Why a file is not in a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Not inside a class folder, or a file that operating systems leave behind.
    Stray,
    /// A path that leads out of the archive, or an entry that is no regular file.
    UnsafePath,
    /// No picture, or of a format that is not supported.
    UnsupportedFormat,
    /// Broken or cut off.
    Undecodable,
    /// More bytes or pixels than allowed.
    TooLarge,
    /// Fewer pixels than allowed.
    TooSmall,
    /// The preprocess function fails at it time and again, alone too, while it answers for other pictures.
    ProcessingFailed,
    /// The same picture is already in the dataset under the same label.
    Duplicate,
    /// The same picture lies under several labels, so none can be trusted.
    ConflictingLabels,
    /// Looks like a picture of another split that the upload itself gave.
    Leak,
}

/// Pictures that look alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NearDuplicates {
    /// Paths inside the upload.
    pub names: Vec<String>,
    /// Whether they lie under more than one label: a suspected mislabel.
    pub several_labels: bool,
}

/// Length and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileDigest {
    /// Length.
    pub bytes: u64,
    /// SHA-256, 64 hex digits.
    pub sha256: String,
}

/// One line of `pictures.jsonl`; lines stand in the order of rows, train first, then validation, then test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PictureRecord {
    /// Path inside the upload.
    pub name: String,
    /// Class index.
    pub label: u32,
    /// The part it belongs to.
    pub split: Split,
    /// Facts about the original.
    #[serde(flatten)]
    pub facts: Facts,
}
