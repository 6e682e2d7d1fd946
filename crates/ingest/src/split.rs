//! Which pictures train, which validate, which test.
//!
//! The rule: the groups of a class stand in the order of their smallest content hash. The test split is filled with
//! groups from the front until it has its share, passing over groups that are too large for what is left of it; then
//! the validation split likewise; all else trains. Content hashes are as good as random and belong to the pictures, so
//! the same pictures always fall the same way, whatever they are called and however they came.

use api::dataset::Split;

/// Share of a class that validates, where the upload does not say.
pub const VALIDATION_RATIO: f64 = 0.15;
/// Share of a class that tests, where the upload does not say.
pub const TEST_RATIO: f64 = 0.15;

/// Splits that are cut out of the pictures that would else train, with their shares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cuts {
    /// Splits the upload brought.
    pub given: Vec<Split>,
    /// 0 if validation is given.
    pub validation_ratio: f64,
    /// 0 if test is given.
    pub test_ratio: f64,
}

impl Cuts {
    /// For an upload that brings these splits.
    pub fn beside(given: &[Split]) -> Self {
        let unless = |split, ratio| if given.contains(&split) { 0.0 } else { ratio };
        Self {
            given: given.to_vec(),
            validation_ratio: unless(Split::Validation, VALIDATION_RATIO),
            test_ratio: unless(Split::Test, TEST_RATIO),
        }
    }

    /// Cuts one class whose groups have these sizes, in the order of their smallest content hash.
    ///
    /// A class of three groups or more gets at least one group into every split that is cut; one of fewer groups than
    /// splits trains whole.
    pub fn cut(&self, sizes: &[usize]) -> Vec<Split> {
        let wanted = [(Split::Test, self.test_ratio), (Split::Validation, self.validation_ratio)];
        let wanted: Vec<_> = wanted.into_iter().filter(|(_, ratio)| *ratio > 0.0).collect();
        let mut splits = vec![Split::Train; sizes.len()];
        if sizes.len() <= wanted.len() {
            return splits;
        }
        let pictures: usize = sizes.iter().sum();
        let mut training = sizes.len();
        for (done, (split, ratio)) in wanted.iter().enumerate() {
            // Every split still to come needs a group, and so does training.
            let kept = wanted.len() - done;
            let mut room = (pictures as f64 * ratio).round() as usize;
            let before = training;
            for (at, size) in sizes.iter().enumerate() {
                if training > kept && splits[at] == Split::Train && *size <= room {
                    splits[at] = *split;
                    room -= size;
                    training -= 1;
                }
            }
            if training == before
                && let Some(smallest) = smallest_training(sizes, &splits)
            {
                splits[smallest] = *split;
                training -= 1;
            }
        }
        splits
    }
}

fn smallest_training(sizes: &[usize], splits: &[Split]) -> Option<usize> {
    (0..sizes.len()).filter(|&at| splits[at] == Split::Train).min_by_key(|&at| sizes[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(given: &[Split], sizes: &[usize]) -> [usize; 3] {
        let splits = Cuts::beside(given).cut(sizes);
        Split::ALL.map(|split| sizes.iter().zip(&splits).filter(|(_, s)| **s == split).map(|(n, _)| n).sum())
    }

    #[test]
    fn shares_are_cut_by_counts() {
        assert_eq!(cut(&[], &[1; 100]), [70, 15, 15]);
        assert_eq!(cut(&[], &[1; 50]), [34, 8, 8]);
        assert_eq!(cut(&[], &[1; 3]), [1, 1, 1]);
        assert_eq!(cut(&[], &[1; 4]), [2, 1, 1]);
        assert_eq!(cut(&[Split::Train, Split::Test], &[1; 100]), [85, 15, 0]);
        assert_eq!(cut(&[Split::Train, Split::Validation], &[1; 100]), [85, 0, 15]);
        assert_eq!(cut(&Split::ALL, &[1; 100]), [100, 0, 0]);
    }

    #[test]
    fn few_groups_train_whole() {
        assert_eq!(cut(&[], &[1, 1]), [2, 0, 0]);
        assert_eq!(cut(&[], &[7]), [7, 0, 0]);
        assert_eq!(cut(&[], &[]), [0, 0, 0]);
        assert_eq!(cut(&[Split::Train, Split::Test], &[1]), [1, 0, 0]);
        assert_eq!(cut(&[Split::Train, Split::Test], &[1, 1]), [1, 1, 0]);
    }

    #[test]
    fn a_large_group_trains_wherever_its_hash_stands() {
        let mut sizes = vec![1; 51];
        for at in [0, 25, 50] {
            sizes[at] = 50;
            assert_eq!(cut(&[], &sizes), [70, 15, 15]);
            sizes[at] = 1;
        }
        assert_eq!(cut(&[], &[5, 5, 5]), [5, 5, 5], "every split gets a group, even one above its share");
    }

    #[test]
    fn every_split_gets_a_group_and_none_of_several_exceeds_its_share() {
        let mut random = 1u64;
        for _ in 0..2000 {
            let mut next = |below: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % below
            };
            let n = 3 + next(40);
            let largest = 1 + next(30);
            let sizes: Vec<usize> = (0..n).map(|_| 1 + next(largest) as usize).collect();
            let splits = Cuts::beside(&[]).cut(&sizes);
            let all: usize = sizes.iter().sum();
            for split in Split::ALL {
                let of: Vec<usize> = (0..sizes.len()).filter(|&at| splits[at] == split).map(|at| sizes[at]).collect();
                assert!(!of.is_empty(), "{sizes:?} leaves {split:?} empty");
                let share = (all as f64 * 0.15).round() as usize;
                let fits = split == Split::Train || of.len() == 1 || of.iter().sum::<usize>() <= share;
                assert!(fits, "{sizes:?} {split:?}");
            }
        }
        assert_eq!(cut(&[], &[1, 1, 100]), [100, 1, 1]);
    }
}
