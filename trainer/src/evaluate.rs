//! From logits and true classes to figures: loss, accuracy, confusion, precision, recall.
//!
//! How logits come about is not known here.

pub use api::train::per_class;

/// Figures over some pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share classified rightly, 0..=1.
    pub accuracy: f64,
    /// Row = true class, column = predicted class.
    pub confusion: Vec<Vec<u64>>,
}

impl Evaluation {
    /// Figures over pictures; nothing where there are none.
    ///
    /// # Shapes
    /// - `logits`: `[n, n_classes]`
    /// - `labels`: `[n]`
    pub fn of(logits: &[f32], labels: &[u32], n_classes: usize) -> Option<Self> {
        debug_assert_eq!(logits.len(), labels.len() * n_classes);
        if labels.is_empty() {
            return None;
        }
        let mut loss = 0.0;
        let mut confusion = empty_confusion(n_classes);
        for (row, &label) in logits.chunks_exact(n_classes).zip(labels) {
            loss += cross_entropy(row, label as usize);
            confusion[label as usize][predicted(row)] += 1;
        }
        let right: u64 = (0..n_classes).map(|c| confusion[c][c]).sum();
        let n = labels.len() as f64;
        Some(Self { loss: loss / n, accuracy: right as f64 / n, confusion })
    }
}

/// A confusion matrix of no pictures.
pub fn empty_confusion(n_classes: usize) -> Vec<Vec<u64>> {
    vec![vec![0; n_classes]; n_classes]
}

/// Index of the largest logit; of equal ones the first.
pub fn predicted(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}

/// Negative logarithm of the probability of the true class.
pub fn cross_entropy(row: &[f32], label: usize) -> f64 {
    let most = row.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    let sum: f64 = row.iter().map(|&x| f64::from(x - most).exp()).sum();
    sum.ln() - f64::from(row[label] - most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_known_case() {
        let logits = [2.0, 0.0, 0.0, 1.0, 0.0, 3.0, 5.0, 5.0];
        let evaluation = Evaluation::of(&logits, &[0, 0, 1, 1], 2).expect("four pictures");
        assert_eq!(evaluation.confusion, [[1, 1], [1, 1]]);
        assert_eq!(evaluation.accuracy, 0.5);
        let expected = [(-2f64).exp().ln_1p(), 1f64.exp().ln_1p(), (-3f64).exp().ln_1p(), 2f64.ln()];
        assert!((evaluation.loss - expected.iter().sum::<f64>() / 4.0).abs() < 1e-6);
        assert_eq!(Evaluation::of(&[], &[], 2), None);
    }

    #[test]
    fn large_logits_do_not_overflow_the_loss() {
        let evaluation = Evaluation::of(&[1000.0, -1000.0], &[1], 2).expect("one picture");
        assert!((evaluation.loss - 2000.0).abs() < 1e-9);
    }
}
