//! Pictures whose label is probably wrong, by what models say that were not fitted on them.
//!
//! Test pictures are never looked at here: leaving out those that a model gets wrong would make its figures better
//! without making it better.

use crate::evaluate::predicted;

/// Most suspects that are told.
pub const MOST: usize = 200;

/// A row whose label is probably wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Doubtful {
    /// Position among the rows that were given.
    pub row: usize,
    /// Class index that it probably should have.
    pub suggested: u32,
    /// Probability of that class, 0..=1.
    pub probability: f32,
}

/// Rows whose label the probabilities confidently contradict, the surest first, at most [`MOST`].
///
/// A class counts as confidently recognised where its probability reaches the mean that it has among the rows labelled
/// so; a row is doubtful if a class other than its label is recognised so and is its most probable one.
///
/// # Shapes
/// - `probabilities`: `[n, n_classes]`, of models that were not fitted on the row
/// - `labels`: `[n]`
///
/// # Source
/// Northcutt et al., "Confident learning: estimating uncertainty in dataset labels", 2021
pub fn find(probabilities: &[f32], labels: &[u32], n_classes: usize) -> Vec<Doubtful> {
    let thresholds = self_confidence(probabilities, labels, n_classes);
    let rows = probabilities.chunks_exact(n_classes).zip(labels).enumerate();
    let mut found: Vec<(f32, Doubtful)> = rows
        .filter_map(|(row, (probabilities, &label))| {
            let suggested = predicted(probabilities);
            let probability = probabilities[suggested];
            let contradicts = suggested != label as usize && probability >= thresholds[suggested]?;
            let margin = probability - probabilities[label as usize];
            contradicts.then_some((margin, Doubtful { row, suggested: suggested as u32, probability }))
        })
        .collect();
    found.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.row.cmp(&y.row)));
    found.truncate(MOST);
    found.into_iter().map(|(_, doubtful)| doubtful).collect()
}

/// Mean probability of each class among the rows that are labelled so; nothing where there are none.
fn self_confidence(probabilities: &[f32], labels: &[u32], n_classes: usize) -> Vec<Option<f32>> {
    let mut sums = vec![(0f64, 0u32); n_classes];
    for (probabilities, &label) in probabilities.chunks_exact(n_classes).zip(labels) {
        let (sum, count) = &mut sums[label as usize];
        *sum += f64::from(probabilities[label as usize]);
        *count += 1;
    }
    sums.into_iter().map(|(sum, count)| (count > 0).then(|| (sum / f64::from(count)) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_confidently_contradicted_are_found_the_surest_first() {
        #[rustfmt::skip]
        let probabilities = [
            0.9, 0.1,
            0.8, 0.2,
            0.05, 0.95, // labelled 0
            0.3, 0.7,
            0.1, 0.9,
            0.98, 0.02, // labelled 1
            0.48, 0.52, // labelled 0, and not confidently
        ];
        let found = find(&probabilities, &[0, 0, 0, 1, 1, 1, 0], 2);
        let rows: Vec<_> = found.iter().map(|doubtful| (doubtful.row, doubtful.suggested)).collect();
        assert_eq!(rows, [(5, 0), (2, 1)]);
        assert_eq!(found[0].probability, 0.98);
    }

    #[test]
    fn a_class_that_is_hard_to_recognise_asks_for_less() {
        // Class 1 is never surer than 0.6 of itself; class 0 is always sure.
        let probabilities = [0.99, 0.01, 0.4, 0.6, 0.42, 0.58, 0.39, 0.61];
        let found = find(&probabilities, &[0, 1, 1, 0], 2);
        assert_eq!(found.iter().map(|doubtful| doubtful.row).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn only_the_surest_are_told() {
        let n = MOST as u32 + 50;
        let wrong = (0..n).flat_map(|row| [0.1, 0.9 + row as f32 * 1e-5]);
        let right = (0..n).flat_map(|_| [0.9, 0.1]).chain((0..n).flat_map(|_| [0.2, 0.8]));
        let probabilities: Vec<f32> = wrong.chain(right).collect();
        let labels: Vec<u32> = (0..3 * n).map(|row| u32::from(row >= 2 * n)).collect();
        let found = find(&probabilities, &labels, 2);
        assert_eq!(found.len(), MOST);
        assert_eq!(found[0].row, n as usize - 1);
    }

    #[test]
    fn a_class_that_no_row_has_is_never_suggested() {
        assert_eq!(find(&[0.1, 0.9, 0.2, 0.8], &[0, 0], 2), []);
    }
}
