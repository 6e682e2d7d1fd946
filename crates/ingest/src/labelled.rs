//! Pictures with their labels as a folder or an archive has them: every one, neither cleaned nor split nor decoded.

use std::fs;

use api::dataset::{Rejected, Split};
use bytes::Bytes;
use store::{Staging, Volumes};
use tokio::sync::watch;

use crate::{
    IngestError, Limits, Progress, Result, Source,
    collect::{self, Content},
    layout,
    reporter::Reporter,
};

/// What a source holds.
#[derive(Debug)]
pub struct LabelledPictures {
    /// Files in class folders, by name.
    pub pictures: Vec<LabelledPicture>,
    /// Files that are not looked at, and why.
    pub rejected: Vec<Rejected>,
    /// Holds what was unpacked.
    _staging: Option<Staging>,
}

/// A file in a class folder; it may be no picture.
#[derive(Clone, Debug)]
pub struct LabelledPicture {
    /// Path inside the source.
    pub name: String,
    /// Its class.
    pub label: String,
    /// Its split, where the source brings one.
    pub split: Option<Split>,
    /// SHA-256 of its bytes, 64 hex digits.
    pub content_hash: String,
    content: Content,
}

impl LabelledPictures {
    /// Finds and hashes every file. Blocks. What lies in an archive is unpacked into volume 1's staging folder, and is
    /// gone when this is dropped.
    ///
    /// # Errors
    /// If the source cannot be read or exceeds the limits
    pub fn find(source: Source, volumes: &Volumes, limits: &Limits) -> Result<Self> {
        let (reporter, _cancel) = Reporter::new(watch::Sender::new(Progress::default()));
        let found = collect::collect(source, volumes, limits, &reporter)?;
        let mut rejected = found.rejected;
        let labelled = layout::read(found.files, &mut rejected).into_iter();
        let mut pictures: Vec<_> = labelled
            .map(|file| LabelledPicture {
                name: file.name,
                label: file.label,
                split: file.split,
                content_hash: file.content_hash,
                content: file.content,
            })
            .collect();
        pictures.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { pictures, rejected, _staging: found.staging })
    }
}

impl LabelledPicture {
    /// The file's bytes. Blocks.
    ///
    /// # Errors
    /// `Read` if it has gone or cannot be read
    pub fn bytes(&self) -> Result<Bytes> {
        match &self.content {
            Content::Memory(bytes) => Ok(bytes.clone()),
            Content::File(path) => fs::read(path).map(Bytes::from).map_err(IngestError::read(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn one_class_and_pictures_that_are_there_twice_are_all_found_in_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "a.png"] {
            fs::create_dir_all(folder.path().join("set/test/ship")).unwrap();
            fs::write(folder.path().join("set/test/ship").join(name), "the same").unwrap();
        }
        fs::create_dir_all(folder.path().join("set/train/ship")).unwrap();
        fs::write(folder.path().join("set/train/ship/c.png"), "another").unwrap();
        fs::write(folder.path().join("set/readme"), "stray").unwrap();
        let volumes = Volumes::under(folder.path().join("data"));
        let source = Source::Folder(folder.path().join("set"));
        let found = LabelledPictures::find(source, &volumes, &Limits::default()).unwrap();
        let told: Vec<_> = found.pictures.iter().map(|p| (p.name.as_str(), p.label.as_str(), p.split)).collect();
        let expected = [
            ("test/ship/a.png", "ship", Some(Split::Test)),
            ("test/ship/b.png", "ship", Some(Split::Test)),
            ("train/ship/c.png", "ship", Some(Split::Train)),
        ];
        assert_eq!(told, expected);
        assert_eq!(found.pictures[0].content_hash, found.pictures[1].content_hash);
        assert_eq!(found.pictures[2].bytes().unwrap(), "another");
        assert_eq!(found.rejected.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["readme"]);
    }
}
