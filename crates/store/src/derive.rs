//! A dataset made from another one by leaving pictures out. The other one stays as it is.

use std::collections::{BTreeSet, HashMap};

use api::dataset::{Derivation, NearDuplicates, PictureRecord, Provenance, Split};

use crate::{Dataset, DatasetInfo, Published, Result, StoreError, Volumes};

/// Train pictures that a class keeps at least: with fewer there is nothing to compare a choice of settings on.
const LEAST_OF_A_CLASS: u64 = 2;

/// Most paths named in one sentence.
const NAMED: usize = 3;

impl Volumes {
    /// Makes a dataset of the pictures of another one, all but those at the `removed` paths. What stays keeps its split.
    ///
    /// Its name is the other one's and how many were left out. The same pictures left out again are the same dataset.
    ///
    /// # Errors
    /// [`StoreError::Draft`] with a sentence if a path is of no picture, or if a class or a split would be too small.
    pub fn derive_dataset(&self, dataset: &Dataset, removed: &BTreeSet<String>, made_by: &str) -> Result<Published> {
        let records = dataset.pictures()?;
        check(dataset, &records, removed)?;
        let manifest = &dataset.manifest;
        let mut draft = self.draft_dataset(manifest.preprocess.clone())?;
        let mut rows = vec![];
        let mut records = records.into_iter();
        for split in Split::ALL {
            let pixels = dataset.pixels(split)?;
            for (row, record) in (0..pixels.len()).zip(records.by_ref()) {
                if !removed.contains(&record.name) {
                    rows.push((draft.push(pixels.image(row))?, record));
                }
            }
        }
        let info = DatasetInfo {
            name: self.derived_name(&manifest.name, removed.len())?,
            labels: dataset.labels(),
            split: manifest.split.clone(),
            provenance: Provenance {
                made_by: made_by.to_owned(),
                derived_from: Some(Derivation {
                    dataset: manifest.id.clone(),
                    removed: removed.iter().cloned().collect(),
                }),
                ..manifest.provenance.clone()
            },
            rejected: manifest.rejected.clone(),
            near_duplicates: remaining(&manifest.near_duplicates, &rows),
        };
        draft.publish(info, rows)
    }

    /// A name that tells how many pictures were left out in all, and that no dataset has yet.
    fn derived_name(&self, name: &str, n_removed: usize) -> Result<String> {
        let taken: BTreeSet<String> = self.datasets()?.into_iter().map(|dataset| dataset.manifest.name).collect();
        let (origin, n_before) = left_out_before(name).unwrap_or((name, 0));
        let n = n_before + n_removed;
        let mut derived = format!("{origin} ({n} left out)");
        let mut number = 2;
        while taken.contains(&derived) {
            derived = format!("{origin} ({n} left out, {number})");
            number += 1;
        }
        Ok(derived)
    }
}

/// The name without what a derivation has put behind it, and how many pictures that says were left out.
fn left_out_before(name: &str) -> Option<(&str, usize)> {
    let (origin, told) = name.strip_suffix(')')?.rsplit_once(" (")?;
    let (n, rest) = told.split_once(" left out")?;
    let is_derived = rest.is_empty() || rest.strip_prefix(", ").is_some_and(|number| number.parse::<usize>().is_ok());
    is_derived.then_some((origin, n.parse().ok()?))
}

fn check(dataset: &Dataset, records: &[PictureRecord], removed: &BTreeSet<String>) -> Result<()> {
    let wrong = |sentence: String| Err(StoreError::Draft(sentence));
    if removed.is_empty() {
        return wrong("no picture is named that is to be left out".into());
    }
    let known: BTreeSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
    let unknown: Vec<&String> = removed.iter().filter(|name| !known.contains(name.as_str())).collect();
    if !unknown.is_empty() {
        let named: Vec<String> = unknown.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
        let more = unknown.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return wrong(format!("dataset {} has no picture {}{more}", dataset.manifest.id, named.join(", ")));
    }
    let classes = &dataset.manifest.classes;
    let mut left = vec![[0u64; 3]; classes.len()];
    for record in records.iter().filter(|record| !removed.contains(&record.name)) {
        left[record.label as usize][record.split as usize] += 1;
    }
    for (class, left) in classes.iter().zip(&left) {
        let left = left[Split::Train as usize];
        if left < LEAST_OF_A_CLASS && left < class.train {
            return wrong(format!(
                "class {:?} would have {left} of {} train pictures left; expected {LEAST_OF_A_CLASS} or more: leave fewer out, \
                 or upload more of it",
                class.name, class.train
            ));
        }
    }
    for split in Split::ALL {
        let before: u64 = classes.iter().map(|class| class.of(split)).sum();
        let left: u64 = left.iter().map(|class| class[split as usize]).sum();
        if before > 0 && left == 0 {
            return wrong(format!("the {} split would have none of its {before} pictures left", split.name()));
        }
    }
    Ok(())
}

/// The groups of lookalikes of which two or more are left.
fn remaining(groups: &[NearDuplicates], rows: &[(usize, PictureRecord)]) -> Vec<NearDuplicates> {
    let labels: HashMap<&str, u32> = rows.iter().map(|(_, record)| (record.name.as_str(), record.label)).collect();
    let left = groups.iter().filter_map(|group| {
        let names: Vec<String> =
            group.names.iter().filter(|name| labels.contains_key(name.as_str())).cloned().collect();
        let several_labels = names.iter().map(|name| labels[name.as_str()]).collect::<BTreeSet<_>>().len() > 1;
        (names.len() > 1).then_some(NearDuplicates { names, several_labels })
    });
    left.collect()
}

#[cfg(test)]
mod tests {
    use super::left_out_before;

    #[test]
    fn a_derived_name_is_told_from_one_that_only_looks_like_it() {
        assert_eq!(left_out_before("pets (3 left out)"), Some(("pets", 3)));
        assert_eq!(left_out_before("pets (12 left out, 2)"), Some(("pets", 12)));
        for other in ["pets", "pets (2024)", "pets (many left out)", "(3 left out)", "pets (3 left out, of 9)"] {
            assert_eq!(left_out_before(other), None, "{other}");
        }
    }
}
