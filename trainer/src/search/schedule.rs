//! On which pictures candidates are tried, round by round: each round of the halving adds trials.

use crate::folds::{Fold, cross_validation, stratified_share};

/// With more pictures than this, one held-out part tells candidates apart well enough.
pub const MOST_FOR_CROSS_VALIDATION: usize = 3000;

/// Parts of the cross-validation, if every class has that many pictures.
const N_FOLDS: usize = 5;

/// Pictures that candidates are asked about where there are many.
const MOST_ASKED: usize = 2000;

/// Shares of the pictures that candidates are fitted on, round by round, where there are many.
const SHARES: [f64; 2] = [0.125, 0.25];

/// Fewer pictures than this are not fitted on in any round, if there are as many.
const LEAST_FITTED: usize = 1000;

/// The trials of every round.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Per round, the trials that it adds.
    pub rounds: Vec<Vec<Fold>>,
    /// Whether trials are parts of one cross-validation, which later rounds complete; else each round stands for itself.
    pub cross_validated: bool,
}

impl Schedule {
    /// The schedule for a pool of pictures: the train split's rows, then the validation split's.
    ///
    /// Where there are few, they are cross-validated together; where there are many, the validation split is asked
    /// about, or a part of the train split where there is none.
    ///
    /// # Shapes
    /// - `labels`, `groups`: of each row of the pool
    pub fn new(labels: &[u32], groups: &[usize], n_train: usize, seed: u64) -> Self {
        if labels.len() <= MOST_FOR_CROSS_VALIDATION {
            return Self::few(labels, groups, seed);
        }
        let (train, asked) = if n_train < labels.len() {
            ((0..n_train).collect::<Vec<_>>(), (n_train..labels.len()).collect::<Vec<_>>())
        } else {
            let asked = stratified_share(labels, groups, 0.15, seed);
            ((0..n_train).filter(|row| asked.binary_search(row).is_err()).collect(), asked)
        };
        Self::many(labels, groups, &train, &asked, seed)
    }

    fn few(labels: &[u32], groups: &[usize], seed: u64) -> Self {
        let n_classes = labels.iter().max().map_or(0, |&most| most as usize + 1);
        let mut of_class = vec![0; n_classes];
        for &label in labels {
            of_class[label as usize] += 1;
        }
        let least = of_class.into_iter().filter(|&n| n > 0).min().unwrap_or(0);
        let folds = cross_validation(labels, groups, least.clamp(2, N_FOLDS), seed);
        let mut folds = folds.into_iter();
        let rounds = [1, 2, N_FOLDS].map(|n| folds.by_ref().take(n).collect::<Vec<_>>());
        Self { rounds: rounds.into_iter().filter(|round| !round.is_empty()).collect(), cross_validated: true }
    }

    fn many(labels: &[u32], groups: &[usize], train: &[usize], asked: &[usize], seed: u64) -> Self {
        let share = |rows: &[usize], share: f64| -> Vec<usize> {
            if share >= 1.0 {
                return rows.to_vec();
            }
            let labels: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
            let groups: Vec<usize> = rows.iter().map(|&row| groups[row]).collect();
            stratified_share(&labels, &groups, share, seed).into_iter().map(|at| rows[at]).collect()
        };
        let asked = share(asked, MOST_ASKED as f64 / asked.len() as f64);
        let least = LEAST_FITTED as f64 / train.len() as f64;
        let rounds = SHARES.map(|of| vec![Fold { train: share(train, of.max(least)), asked: asked.clone() }]);
        Self { rounds: rounds.into(), cross_validated: false }
    }

    /// Parts of the cross-validation; 0 where there is none.
    pub fn n_folds(&self) -> u32 {
        if self.cross_validated { self.rounds.iter().map(Vec::len).sum::<usize>() as u32 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(n: usize) -> (Vec<u32>, Vec<usize>) {
        ((0..n).map(|row| (row % 4) as u32).collect(), (0..n).collect())
    }

    #[test]
    fn few_pictures_are_cross_validated_a_part_then_three_then_all() {
        let (labels, groups) = pool(168);
        let schedule = Schedule::new(&labels, &groups, 136, 1);
        assert!(schedule.cross_validated);
        assert_eq!(schedule.rounds.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 2]);
        let asked: usize = schedule.rounds.iter().flatten().map(|fold| fold.asked.len()).sum();
        assert_eq!((asked, schedule.n_folds()), (168, 5));
    }

    #[test]
    fn a_class_of_two_pictures_is_cut_into_two_parts() {
        let labels: Vec<u32> = (0..20).map(|row| u32::from(row < 2)).collect();
        let schedule = Schedule::new(&labels, &(0..20).collect::<Vec<_>>(), 20, 1);
        assert_eq!(schedule.n_folds(), 2);
        for fold in schedule.rounds.iter().flatten() {
            assert!((0..2).any(|row| fold.train.contains(&row)));
        }
    }

    #[test]
    fn many_pictures_are_asked_about_on_the_validation_split_alone() {
        let (labels, groups) = pool(12_000);
        let schedule = Schedule::new(&labels, &groups, 9000, 1);
        assert!(!schedule.cross_validated && schedule.n_folds() == 0);
        let sizes: Vec<_> = schedule.rounds.iter().flatten().map(|fold| (fold.train.len(), fold.asked.len())).collect();
        assert_eq!(sizes, [(1125, 1500), (2250, 1500)]);
        for fold in schedule.rounds.iter().flatten() {
            assert!(fold.train.iter().all(|&row| row < 9000) && fold.asked.iter().all(|&row| row >= 9000));
        }
    }

    #[test]
    fn without_a_validation_split_a_part_of_many_train_pictures_is_held_out() {
        let (labels, groups) = pool(10_000);
        let schedule = Schedule::new(&labels, &groups, 10_000, 1);
        for fold in schedule.rounds.iter().flatten() {
            assert!(fold.train.iter().all(|row| !fold.asked.contains(row)));
            assert!((1000..2000).contains(&fold.asked.len()), "{}", fold.asked.len());
        }
    }
}
