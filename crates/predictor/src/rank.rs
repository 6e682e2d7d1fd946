//! Logits → probabilities → ranked labels. No engine, no model.

use std::cmp::Ordering;

use api::predict::Ranked;

use crate::PredictorError;

/// Ranks labels by softmax.
///
/// # Shapes
/// - `logits`: `[n_classes]`, in the order of `labels`
/// - result: `min(top_k, n_classes)`, highest probability first; equal logits in class-index order
///
/// # Units
/// probability in 0..=1, over all labels and not only the ranked ones
///
/// # Errors
/// `Labels` if the lengths differ or are 0, `NotFinite` for a logit that is infinite or not a number
pub fn rank(logits: &[f32], labels: &[String], top_k: usize) -> Result<Vec<Ranked>, PredictorError> {
    if logits.len() != labels.len() || logits.is_empty() {
        return Err(PredictorError::Labels { logits: logits.len(), labels: labels.len() });
    }
    if let Some((label, &value)) = labels.iter().zip(logits).find(|(_, logit)| !logit.is_finite()) {
        return Err(PredictorError::NotFinite { label: label.clone(), value });
    }
    // Softmax does not change when all logits are shifted; with the largest at 0 no exponential overflows.
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| f64::from(logit - largest).exp();
    let sum: f64 = logits.iter().map(|&logit| weight(logit)).sum();

    let mut order: Vec<usize> = (0..logits.len()).collect();
    // A stable sort keeps equal logits in class-index order; by logits, because far probabilities round to 0 alike.
    order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap_or(Ordering::Equal));
    Ok(order
        .into_iter()
        .take(top_k)
        .map(|index| Ranked { label: labels[index].clone(), probability: (weight(logits[index]) / sum) as f32 })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn labels(n: usize) -> Vec<String> {
        (0..n).map(|index| format!("class {index}")).collect()
    }

    #[track_caller]
    fn check(logits: &[f32], top_k: usize, expected: &[(usize, f32)]) {
        let labels = labels(logits.len());
        let ranked = rank(logits, &labels, top_k).unwrap();
        assert_eq!(ranked.len(), expected.len());
        for (got, &(index, probability)) in ranked.iter().zip(expected) {
            assert_eq!(got.label, labels[index]);
            assert!((got.probability - probability).abs() < 1e-6, "{got:?} is not {probability}");
        }
    }

    #[test]
    fn probabilities_are_the_softmax_highest_first() {
        // e^0 : e^ln2 : e^ln5 = 1 : 2 : 5
        check(&[0.0, 2f32.ln(), 5f32.ln()], 3, &[(2, 0.625), (1, 0.25), (0, 0.125)]);
    }

    #[test]
    fn probabilities_are_over_all_labels_when_few_are_ranked() {
        check(&[0.0, 2f32.ln(), 5f32.ln()], 1, &[(2, 0.625)]);
        check(&[0.0, 1.0], 0, &[]);
        check(&[0.0], 9, &[(0, 1.0)]);
    }

    #[test]
    fn equal_logits_rank_by_class_index() {
        check(&[1.0, 3.0, 1.0, 3.0], 4, &[(1, 0.440_398_5), (3, 0.440_398_5), (0, 0.059_601_46), (2, 0.059_601_46)]);
        check(&[0.0, -0.0], 2, &[(0, 0.5), (1, 0.5)]);
    }

    #[test]
    fn huge_logits_neither_overflow_nor_lose_their_order() {
        check(&[f32::MAX, f32::MIN, 0.0], 3, &[(0, 1.0), (2, 0.0), (1, 0.0)]);
        check(&[-1e30, -1e30], 2, &[(0, 0.5), (1, 0.5)]);
    }

    #[test]
    fn a_logit_that_is_not_finite_is_an_error_that_names_its_label() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = rank(&[0.0, value], &labels(2), 1).expect_err("no probability follows");
            assert!(matches!(&error, PredictorError::NotFinite { label, .. } if label == "class 1"), "{error}");
        }
    }

    #[test]
    fn logits_without_labels_are_refused() {
        assert!(matches!(rank(&[1.0], &labels(2), 1), Err(PredictorError::Labels { logits: 1, labels: 2 })));
        assert!(matches!(rank(&[], &[], 1), Err(PredictorError::Labels { logits: 0, labels: 0 })));
    }
}
