//! Parts of a dataset for cross-validation: each class spread evenly, lookalikes kept together.

use std::collections::HashMap;

use rand::seq::SliceRandom;

use crate::random::{Purpose, generator};

/// Rows to fit on, and rows outside them to ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Fitted on, in ascending order.
    pub train: Vec<usize>,
    /// Asked about, in ascending order.
    pub asked: Vec<usize>,
}

/// Cuts rows into `n_folds` parts; each part is asked about once, with a fit on all others.
///
/// Rows of the same group never lie in different parts. Every part has about the same share of every class. Classes
/// with fewer groups than parts are missing in some of them.
///
/// # Shapes
/// - `labels`: class index of each row
/// - `groups`: of each row; rows with the same number belong together
pub fn cross_validation(labels: &[u32], groups: &[usize], n_folds: usize, seed: u64) -> Vec<Fold> {
    let part_of = parts(labels, groups, n_folds, seed);
    (0..n_folds)
        .map(|part| {
            let (asked, train) = (0..labels.len()).partition(|&row| part_of[row] == part);
            Fold { train, asked }
        })
        .filter(|fold| !fold.asked.is_empty() && !fold.train.is_empty())
        .collect()
}

/// A share of the rows, of every class alike, with whole groups: the first of `1 / share` parts.
pub fn stratified_share(labels: &[u32], groups: &[usize], share: f64, seed: u64) -> Vec<usize> {
    let n_parts = (1.0 / share).round().max(1.0) as usize;
    let part_of = parts(labels, groups, n_parts, seed);
    (0..labels.len()).filter(|&row| part_of[row] == 0).collect()
}

/// The part that each row belongs to.
fn parts(labels: &[u32], groups: &[usize], n_parts: usize, seed: u64) -> Vec<usize> {
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    for (row, &group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(row);
    }
    let mut members: Vec<Vec<usize>> = members.into_values().collect();
    members.sort();
    members.shuffle(&mut generator(seed, Purpose::Folds, 0));
    // Large groups first: what is dealt last can still even out the parts.
    members.sort_by_key(|rows| std::cmp::Reverse(rows.len()));

    let n_classes = labels.iter().max().map_or(0, |&most| most as usize + 1);
    let mut of_class = vec![vec![0usize; n_parts]; n_classes];
    let mut in_all = vec![0usize; n_parts];
    let mut part_of = vec![0; labels.len()];
    for rows in members {
        let class = labels[rows[0]] as usize;
        let part = (0..n_parts).min_by_key(|&part| (of_class[class][part], in_all[part])).unwrap_or(0);
        for row in rows {
            part_of[row] = part;
            of_class[labels[row] as usize][part] += 1;
            in_all[part] += 1;
        }
    }
    part_of
}

/// Groups of rows by the names of lookalikes; a row without lookalikes is a group of its own.
pub fn groups<'a>(names: impl Iterator<Item = &'a str>, lookalikes: &[Vec<String>]) -> Vec<usize> {
    let group_of: HashMap<&str, usize> = lookalikes
        .iter()
        .enumerate()
        .flat_map(|(group, names)| names.iter().map(move |name| (name.as_str(), group)))
        .collect();
    names.enumerate().map(|(row, name)| group_of.get(name).copied().unwrap_or(lookalikes.len() + row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_asked_about_once_and_never_fitted_on_then() {
        let labels: Vec<u32> = (0..103).map(|row| row % 4).collect();
        let alone: Vec<usize> = (0..103).collect();
        let folds = cross_validation(&labels, &alone, 5, 1);
        let mut asked: Vec<usize> = folds.iter().flat_map(|fold| fold.asked.clone()).collect();
        asked.sort_unstable();
        assert_eq!(asked, alone);
        for fold in &folds {
            assert_eq!(fold.train.len() + fold.asked.len(), 103);
            assert!(fold.train.iter().all(|row| !fold.asked.contains(row)));
            for class in 0..4 {
                let n = fold.asked.iter().filter(|&&row| labels[row] == class).count();
                assert!((5..=6).contains(&n), "{n} of class {class} in one part");
            }
        }
    }

    #[test]
    fn lookalikes_stay_together() {
        let labels = vec![0; 40];
        let groups: Vec<usize> = (0..40).map(|row| row / 4).collect();
        for fold in cross_validation(&labels, &groups, 5, 3) {
            assert_eq!(fold.asked.len(), 8);
            assert!(fold.asked.iter().all(|&row| !fold.train.iter().any(|&other| groups[other] == groups[row])));
        }
    }

    #[test]
    fn a_seed_gives_the_same_parts_again_and_another_one_others() {
        let labels: Vec<u32> = (0..50).map(|row| row % 2).collect();
        let alone: Vec<usize> = (0..50).collect();
        assert_eq!(cross_validation(&labels, &alone, 5, 7), cross_validation(&labels, &alone, 5, 7));
        assert_ne!(cross_validation(&labels, &alone, 5, 7), cross_validation(&labels, &alone, 5, 8));
    }

    #[test]
    fn a_share_has_its_size_and_every_class() {
        let labels: Vec<u32> = (0..300).map(|row| row % 3).collect();
        let alone: Vec<usize> = (0..300).collect();
        let share = stratified_share(&labels, &alone, 0.2, 1);
        assert_eq!(share.len(), 60);
        assert!((0..3).all(|class| share.iter().filter(|&&row| labels[row] == class).count() == 20));
    }

    #[test]
    fn parts_without_pictures_are_left_out() {
        let folds = cross_validation(&[0, 1, 1], &[0, 1, 2], 5, 1);
        assert!(folds.iter().all(|fold| !fold.asked.is_empty()));
        assert_eq!(folds.iter().map(|fold| fold.asked.len()).sum::<usize>(), 3);
    }

    #[test]
    fn names_of_lookalikes_become_groups_of_rows() {
        let lookalikes = [vec!["b".to_owned(), "d".to_owned()]];
        let groups = groups(["a", "b", "c", "d"].into_iter(), &lookalikes);
        assert_eq!(groups[1], groups[3]);
        assert!(groups[0] != groups[1] && groups[0] != groups[2] && groups[2] != groups[1]);
    }
}
