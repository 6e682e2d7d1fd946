//! Which pictures stay: decided from what processing has shown, not from names or their order.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    ErrorCode, ErrorDetail,
    dataset::{NearDuplicates, RejectReason, Rejected, Split},
    preprocess::Facts,
};

use crate::{IngestError, layout::Labelled, near::Print};

/// Files with the same bytes.
#[derive(Debug)]
pub(crate) struct Distinct {
    /// SHA-256 of the bytes.
    pub content_hash: String,
    /// Every file with these bytes; one or more.
    pub copies: Vec<Labelled>,
}

/// What became of the bytes of a [`Distinct`].
#[derive(Debug)]
pub(crate) struct Seen {
    /// About the original.
    pub facts: Facts,
    /// Where its pixels are in the draft.
    pub row: usize,
    /// SHA-256 of the processed pixels.
    pub pixels_hash: [u8; 32],
    /// To find look-alikes by.
    pub print: Print,
}

/// A picture that stays.
#[derive(Debug)]
pub(crate) struct Kept {
    pub name: String,
    pub label: String,
    /// Split the upload gave it, if it gave any.
    pub split: Option<Split>,
    pub seen: Seen,
}

/// Puts files with the same bytes together, in the order of their content hashes.
pub(crate) fn distinct(files: Vec<Labelled>) -> Vec<Distinct> {
    let mut by_hash: BTreeMap<String, Vec<Labelled>> = BTreeMap::new();
    for file in files {
        by_hash.entry(file.content_hash.clone()).or_default().push(file);
    }
    by_hash.into_iter().map(|(content_hash, copies)| Distinct { content_hash, copies }).collect()
}

/// Leaves out every copy of a picture that could not be processed.
pub(crate) fn reject_unusable(distinct: Distinct, fault: &ErrorDetail, rejected: &mut Vec<Rejected>) {
    let reason = match fault.code {
        ErrorCode::UnsupportedFormat => RejectReason::UnsupportedFormat,
        ErrorCode::TooLarge => RejectReason::TooLarge,
        ErrorCode::TooSmall => RejectReason::TooSmall,
        _ => RejectReason::Undecodable,
    };
    rejected.extend(distinct.copies.into_iter().map(|file| reject(file, reason, &fault.message)));
}

/// Leaves out every copy of a picture at which preprocessing fails.
pub(crate) fn reject_failed(distinct: Distinct, fault: &IngestError, rejected: &mut Vec<Rejected>) {
    let told = match fault {
        IngestError::Function { problem, .. } => format!("the preprocess function {problem}"),
        other => other.to_string(),
    };
    let message = format!("preprocessing fails at this picture, though not at others: {told}");
    rejected.extend(distinct.copies.into_iter().map(|file| reject(file, RejectReason::ProcessingFailed, &message)));
}

/// Leaves out pictures that are the same, and all of them where their labels differ.
///
/// Pictures are the same if their bytes are, or their processed pixels. One copy stays: of the test split rather than
/// of validation rather than of train, then the one with the smallest content hash. The result is in the order of
/// content hashes.
pub(crate) fn unique(seen: Vec<(Distinct, Seen)>, rejected: &mut Vec<Rejected>) -> Vec<Kept> {
    let mut same: BTreeMap<[u8; 32], Vec<(Distinct, Seen)>> = BTreeMap::new();
    for (distinct, seen) in seen {
        same.entry(seen.pixels_hash).or_default().push((distinct, seen));
    }
    let mut kept: Vec<Kept> = same.into_values().filter_map(|same| one_of(same, rejected)).collect();
    kept.sort_by(|a, b| a.seen.facts.content_hash.cmp(&b.seen.facts.content_hash));
    kept
}

/// The copy that stays.
fn one_of(same: Vec<(Distinct, Seen)>, rejected: &mut Vec<Rejected>) -> Option<Kept> {
    let (mut files, mut seen) = (vec![], BTreeMap::new());
    for (distinct, facts) in same {
        files.extend(distinct.copies);
        seen.insert(distinct.content_hash, facts);
    }
    let labels: BTreeSet<String> = files.iter().map(|file| file.label.clone()).collect();
    if labels.len() > 1 {
        let labels: Vec<String> = labels.into_iter().map(|label| format!("{label:?}")).collect();
        let message = format!("the same picture lies under {}", labels.join(" and "));
        rejected.extend(files.into_iter().map(|file| reject(file, RejectReason::ConflictingLabels, &message)));
        return None;
    }
    files.sort_by(|a, b| (b.split, &a.content_hash, &a.name).cmp(&(a.split, &b.content_hash, &b.name)));
    let mut files = files.into_iter();
    let first = files.next()?;
    for file in files {
        let (reason, message) = if file.split == first.split {
            (RejectReason::Duplicate, format!("the same picture as {:?}", first.name))
        } else {
            (
                RejectReason::Leak,
                format!("the same picture as {:?} of the {} split", first.name, split_name(first.split)),
            )
        };
        rejected.push(reject(file, reason, &message));
    }
    let seen = seen.remove(&first.content_hash)?;
    Some(Kept { name: first.name, label: first.label, split: first.split, seen })
}

/// Leaves out pictures that look like one of a split that outranks theirs: test outranks validation outranks train.
///
/// `groups` names each picture's group of look-alikes; it is thinned out alongside.
pub(crate) fn reject_leaks(kept: Vec<Kept>, groups: &mut Vec<usize>, rejected: &mut Vec<Rejected>) -> Vec<Kept> {
    let mut highest: BTreeMap<usize, (Option<Split>, String)> = BTreeMap::new();
    for (picture, group) in kept.iter().zip(groups.iter()) {
        let best = highest.entry(*group).or_insert_with(|| (picture.split, picture.name.clone()));
        if picture.split > best.0 {
            *best = (picture.split, picture.name.clone());
        }
    }
    let (mut stay, mut groups_of_stay) = (vec![], vec![]);
    for (picture, group) in kept.into_iter().zip(groups.iter()) {
        let (split, name) = &highest[group];
        if picture.split == *split {
            stay.push(picture);
            groups_of_stay.push(*group);
        } else {
            rejected.push(Rejected {
                message: format!("looks like {name:?} of the {} split", split_name(*split)),
                name: picture.name,
                label: Some(picture.label),
                reason: RejectReason::Leak,
            });
        }
    }
    *groups = groups_of_stay;
    stay
}

/// The groups of two pictures and more.
pub(crate) fn near_duplicates(kept: &[Kept], groups: &[usize]) -> Vec<NearDuplicates> {
    let mut members: BTreeMap<usize, Vec<&Kept>> = BTreeMap::new();
    for (picture, group) in kept.iter().zip(groups) {
        members.entry(*group).or_default().push(picture);
    }
    members
        .into_values()
        .filter(|members| members.len() > 1)
        .map(|members| {
            let several_labels = members.iter().any(|picture| picture.label != members[0].label);
            let mut names: Vec<String> = members.into_iter().map(|picture| picture.name.clone()).collect();
            names.sort();
            NearDuplicates { names, several_labels }
        })
        .collect()
}

fn reject(file: Labelled, reason: RejectReason, message: &str) -> Rejected {
    Rejected { name: file.name, label: Some(file.label), reason, message: message.to_owned() }
}

fn split_name(split: Option<Split>) -> &'static str {
    split.map_or("other", Split::name)
}
