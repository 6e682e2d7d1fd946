//! Which class and which split the folders of an upload say.
//!
//! Folders that wrap everything are passed over. What follows is either a folder per split with class folders inside,
//! or class folders at once; folders below a class folder belong to that class.

use std::collections::BTreeSet;

use api::dataset::{RejectReason, Rejected, Split};

use crate::{
    IngestError, Limits, Result,
    collect::{Content, Found},
};

/// Said when the folders make no sense.
const EXPECTED: &str = "expected a folder per class with its pictures inside, like cats/1.png and dogs/1.png, \
                        or the same inside train/ and test/";

/// A file with its class.
#[derive(Clone, Debug)]
pub(crate) struct Labelled {
    /// Path inside the upload.
    pub name: String,
    /// Class.
    pub label: String,
    /// Split, where the upload brings one.
    pub split: Option<Split>,
    /// Where its bytes are.
    pub content: Content,
    /// SHA-256 of the bytes, 64 hex digits.
    pub content_hash: String,
}

/// Reads the folders of a dataset in the making.
///
/// # Errors
/// [`IngestError::Layout`] unless there are two classes or more, [`IngestError::TooLarge`] if there are too many.
pub(crate) fn assign(files: Vec<Found>, limits: &Limits, rejected: &mut Vec<Rejected>) -> Result<Vec<Labelled>> {
    let labelled = read(files, rejected);
    check_classes(&labelled, limits)?;
    Ok(labelled)
}

/// Reads the folders, whatever classes they make.
pub(crate) fn read(files: Vec<Found>, rejected: &mut Vec<Rejected>) -> Vec<Labelled> {
    let (told, filed): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.label.is_some());
    let folders = Folders::of(&filed);
    let mut labelled = vec![];
    for file in filed {
        match folders.place(&file.path.folders) {
            Ok((split, label)) => labelled.push(Labelled {
                label: label.to_owned(),
                split,
                name: file.path.shown,
                content: file.content,
                content_hash: file.content_hash,
            }),
            Err(why) => rejected.push(Rejected {
                name: file.path.shown,
                label: None,
                reason: RejectReason::Stray,
                message: why.to_owned(),
            }),
        }
    }
    labelled.extend(told.into_iter().map(|file| Labelled {
        label: crate::path::printable(file.label.as_deref().unwrap_or_default()).trim().to_owned(),
        split: file.split,
        name: file.path.shown,
        content: file.content,
        content_hash: file.content_hash,
    }));
    labelled
}

/// What the folders of an upload mean.
struct Folders {
    /// Folders around everything.
    wrapping: usize,
    /// Whether a folder per split comes next.
    by_split: bool,
}

impl Folders {
    fn of(files: &[Found]) -> Self {
        let mut wrapping = 0;
        loop {
            let here: Vec<&[String]> =
                files.iter().filter_map(|file| file.path.folders.get(wrapping..)).filter(|f| !f.is_empty()).collect();
            let splits: BTreeSet<Split> =
                here.iter().filter(|folders| folders.len() > 1).filter_map(|folders| split_of(&folders[0])).collect();
            if splits.len() > 1 {
                return Self { wrapping, by_split: true };
            }
            let names: BTreeSet<&String> = here.iter().map(|folders| &folders[0]).collect();
            let has_subfolders = here.iter().any(|folders| folders.len() > 1);
            if names.len() != 1 || !has_subfolders {
                return Self { wrapping, by_split: false };
            }
            wrapping += 1;
        }
    }

    /// Split and class of a file in these folders, or why it has none.
    fn place<'a>(&self, folders: &'a [String]) -> Result<(Option<Split>, &'a str), &'static str> {
        let inner = folders.get(self.wrapping..).unwrap_or_default();
        if !self.by_split {
            return inner.first().map(|label| (None, label.as_str())).ok_or("not inside a class folder");
        }
        match inner {
            [first, label, ..] => match split_of(first) {
                Some(split) => Ok((Some(split), label)),
                None => Err("beside the folders of the splits"),
            },
            _ => Err("not inside a class folder of a split"),
        }
    }
}

fn split_of(folder: &str) -> Option<Split> {
    match folder.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "val" | "valid" | "validation" => Some(Split::Validation),
        "test" | "testing" => Some(Split::Test),
        _ => None,
    }
}

fn check_classes(files: &[Labelled], limits: &Limits) -> Result<()> {
    let classes: BTreeSet<&str> = files.iter().map(|file| file.label.as_str()).collect();
    if let Some(long) = classes.iter().find(|class| class.chars().nth(limits.class_name_chars).is_some()) {
        return Err(IngestError::Layout(format!(
            "the class name {:?} has more than {} characters",
            crate::path::shown(long),
            limits.class_name_chars
        )));
    }
    if classes.contains("") {
        return Err(IngestError::Layout("a class has no name; give its folder one".into()));
    }
    if classes.len() > limits.classes {
        return Err(IngestError::TooLarge(format!(
            "it has {} classes; at most {} are supported",
            classes.len(),
            limits.classes
        )));
    }
    match classes.into_iter().collect::<Vec<_>>()[..] {
        [] => Err(IngestError::Layout(format!("the upload has no pictures in class folders; {EXPECTED}"))),
        [only] => Err(IngestError::Layout(format!("the upload has one class, {only:?}; {EXPECTED}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::path::{FilePath, UploadPath};

    fn found(path: &str) -> Found {
        let UploadPath::File(path) = UploadPath::parse(path) else { panic!("{path:?} is no plain path") };
        Found { path, label: None, split: None, content: Content::Memory(Default::default()), content_hash: "".into() }
    }

    fn lay_out(paths: &[&str]) -> Result<(Vec<String>, Vec<String>)> {
        let mut rejected = vec![];
        let files = paths.iter().map(|path| found(path)).collect();
        let labelled = assign(files, &Limits::default(), &mut rejected)?;
        let told = |file: Labelled| match file.split {
            Some(split) => format!("{}:{}", split.name(), file.label),
            None => file.label,
        };
        Ok((labelled.into_iter().map(told).collect(), rejected.into_iter().map(|r| r.name).collect()))
    }

    #[track_caller]
    fn check(paths: &[&str], labels: &[&str], stray: &[&str]) {
        let (found, rejected) = lay_out(paths).unwrap();
        assert_eq!(found, labels, "labels");
        assert_eq!(rejected, stray, "stray files");
    }

    #[test]
    fn folders_say_class_and_split() {
        check(&["cat/1", "dog/1"], &["cat", "dog"], &[]);
        check(&["pets/cat/1", "pets/dog/1"], &["cat", "dog"], &[]);
        check(&["a/b/c/cat/1", "a/b/c/dog/1", "a/readme"], &["cat", "dog"], &["a/readme"]);
        check(&["readme", "cat/1", "dog/deep/er/1"], &["cat", "dog"], &["readme"]);
        check(&["cat/1", "dog/young/1", "dog/old/1"], &["cat", "dog", "dog"], &[]);
        check(&["train/cat/1", "test/dog/1"], &["train:cat", "test:dog"], &[]);
        check(
            &["d/Training/cat/1", "d/TEST/cat/2", "d/valid/dog/x/3", "d/labels.csv"],
            &["train:cat", "test:cat", "validation:dog"],
            &["d/labels.csv"],
        );
        check(
            &["train/cat/1", "val/dog/1", "docs/a/1", "train/loose.png"],
            &["train:cat", "validation:dog"],
            &["docs/a/1", "train/loose.png"],
        );
        check(&["train/cat/1", "train/dog/1"], &["cat", "dog"], &[]);
        check(&["train/1", "test/1", "plane/1"], &["train", "test", "plane"], &[]);
    }

    #[test]
    fn too_few_classes_are_told_what_was_expected() {
        for paths in [&["1", "2"][..], &["cat/1", "cat/2"], &[], &["train/cat/1", "test/cat/1"]] {
            let error = lay_out(paths).unwrap_err();
            assert!(error.to_string().contains("a folder per class"), "{error}");
            assert_eq!(error.detail().code, api::ErrorCode::Unprocessable);
        }
    }

    #[test]
    fn class_names_are_bounded_in_length_and_number() {
        let long = format!("{}/1", "x".repeat(101));
        assert!(lay_out(&[&long, "dog/1"]).unwrap_err().to_string().contains("more than 100 characters"));
        let many: Vec<_> = (0..1001).map(|n| format!("{n}/1")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(matches!(lay_out(&many), Err(IngestError::TooLarge(_))));
    }

    #[test]
    fn a_told_label_is_believed_and_trimmed() {
        let told = |label: &str| Found {
            label: Some(label.into()),
            path: FilePath { shown: "x/1.png".into(), folders: vec!["x".into()] },
            ..found("1")
        };
        let labelled = assign(vec![told(" cat\n"), told("dog")], &Limits::default(), &mut vec![]).unwrap();
        assert_eq!(labelled.iter().map(|file| file.label.as_str()).collect::<Vec<_>>(), ["cat", "dog"]);
        assert!(assign(vec![told(" "), told("dog")], &Limits::default(), &mut vec![]).is_err());
    }
}
