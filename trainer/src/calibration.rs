//! How far probabilities can be believed, and when a model should say that it is unsure.
//!
//! Everything is found on pictures that the network was not fitted on; which ones, and where their logits come from, is
//! the caller's business.

use api::{
    model::{Doubt, DoubtScore},
    train::Bin,
};

use crate::evaluate::predicted;

/// Bins of confidence that the expected calibration error is taken over.
pub const BINS: usize = 15;

/// What is looked at.
pub const SCORE: DoubtScore = DoubtScore::Energy;

/// Share of pictures of the model's own classes that may be marked as unsure.
pub const FALSE_ALARMS: f64 = 0.05;

/// Fewer pictures than this say nothing about one in twenty.
pub const LEAST_FOR_DOUBT: usize = 20;

/// Temperatures that are looked at, as natural logarithms.
const LOG_RANGE: (f64, f64) = (-3.0, 3.0);

/// Logits of pictures with their true classes.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// `[n, n_classes]`
    pub logits: &'a [f32],
    /// `[n]`
    pub labels: &'a [u32],
    /// Columns of the logits.
    pub n_classes: usize,
}

impl<'a> Labelled<'a> {
    fn rows(self) -> impl Iterator<Item = (&'a [f32], usize)> {
        self.logits.chunks_exact(self.n_classes).zip(self.labels.iter().map(|&label| label as usize))
    }
}

/// Probabilities of one picture: softmax of its logits divided by the temperature.
pub fn probabilities(logits: &[f32], temperature: f64) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scaled: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit - most) / temperature).exp()).collect();
    let sum: f64 = scaled.iter().sum();
    scaled.iter().map(|value| (value / sum) as f32).collect()
}

/// The temperature of the least cross-entropy; 1 where there are no pictures.
///
/// Targets give a little of their mass to the other classes, less the more pictures there are: otherwise a handful of
/// pictures that are all recognised would make the model certain of everything.
///
/// # Source
/// Guo et al., "On calibration of modern neural networks", 2017; the targets after Platt, "Probabilistic outputs for
/// support vector machines", 1999
pub fn temperature(of: Labelled) -> f64 {
    if of.labels.is_empty() || of.n_classes < 2 {
        return 1.0;
    }
    // The cross-entropy is convex in 1 / temperature, so it has one valley.
    golden_section(LOG_RANGE, |log| smoothed_cross_entropy(of, log.exp())).exp()
}

/// Mean cross-entropy after division by the temperature, against targets that spare something for the other classes.
fn smoothed_cross_entropy(of: Labelled, temperature: f64) -> f64 {
    let spared = 1.0 / (of.labels.len() as f64 + 2.0);
    let each = spared / (of.n_classes as f64 - 1.0);
    let losses = of.rows().map(|(logits, label)| {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scaled = |logit: f32| f64::from(logit - most) / temperature;
        let log_sum = logits.iter().map(|&logit| scaled(logit).exp()).sum::<f64>().ln();
        let target = |class: usize| if class == label { 1.0 - spared } else { each };
        logits.iter().enumerate().map(|(class, &logit)| target(class) * (log_sum - scaled(logit))).sum::<f64>()
    });
    losses.sum::<f64>() / of.labels.len() as f64
}

/// Where a function with one valley is least, to a thousandth.
///
/// # Source
/// Kiefer, "Sequential minimax search for a maximum", 1953
fn golden_section((mut low, mut high): (f64, f64), value: impl Fn(f64) -> f64) -> f64 {
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (value(left), value(right));
    while high - low > 1e-3 {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = value(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = value(right);
        }
    }
    f64::midpoint(low, high)
}

/// Pictures in equal bins of confidence, empty ones left out.
pub fn bins(of: Labelled, temperature: f64) -> Vec<Bin> {
    let mut sums = [(0u64, 0f64, 0u64); BINS];
    for (logits, label) in of.rows() {
        let class = predicted(logits);
        let confidence = f64::from(probabilities(logits, temperature)[class]);
        let bin = &mut sums[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += 1;
        bin.1 += confidence;
        bin.2 += u64::from(class == label);
    }
    let filled = sums.iter().enumerate().filter(|(_, (count, ..))| *count > 0);
    filled
        .map(|(index, &(count, confidence, right))| Bin {
            from: index as f64 / BINS as f64,
            confidence: confidence / count as f64,
            accuracy: right as f64 / count as f64,
            count,
        })
        .collect()
}

/// Expected calibration error: how far confidence and accuracy are apart in a bin, averaged over pictures; 0..=1.
///
/// # Source
/// Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", 2015
pub fn expected_error(bins: &[Bin]) -> f64 {
    let n: u64 = bins.iter().map(|bin| bin.count).sum();
    let error = |bin: &Bin| (bin.confidence - bin.accuracy).abs() * bin.count as f64;
    if n == 0 { 0.0 } else { bins.iter().map(error).sum::<f64>() / n as f64 }
}

/// The score below which an answer is marked, so that [`FALSE_ALARMS`] of these pictures are; nothing where there are
/// fewer than [`LEAST_FOR_DOUBT`].
///
/// # Shapes
/// `logits`: `[n, n_classes]`, as published
pub fn doubt(logits: &[f32], n_classes: usize, score: DoubtScore) -> Option<Doubt> {
    let mut scores: Vec<f32> = logits.chunks_exact(n_classes).map(|row| score.of(row)).collect();
    if scores.len() < LEAST_FOR_DOUBT {
        return None;
    }
    scores.sort_by(f32::total_cmp);
    let unsure_below = scores[(scores.len() as f64 * FALSE_ALARMS) as usize];
    let marked = scores.partition_point(|&score| score < unsure_below);
    Some(Doubt { score, unsure_below, false_alarms: marked as f32 / scores.len() as f32 })
}

/// Whether an answer is marked as unsure.
///
/// # Shapes
/// `logits`: of one picture, as published
pub fn is_unsure(doubt: &Doubt, logits: &[f32]) -> bool {
    doubt.score.of(logits) < doubt.unsure_below
}

/// Divides logits by the temperature, as the published network does.
pub fn calibrated(logits: &[f32], temperature: f64) -> Vec<f32> {
    logits.iter().map(|&logit| (f64::from(logit) / temperature) as f32).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use rand::RngExt;

    use super::*;
    use crate::random::{Purpose, generator};

    /// Pictures whose classes are drawn from the probabilities that the logits stand for.
    fn honest(n: usize) -> (Vec<f32>, Vec<u32>) {
        let mut random = generator(1, Purpose::Order, 0);
        let logits: Vec<f32> = (0..n * 3).map(|_| random.random_range(-3.0..3.0)).collect();
        let draw = |row: &[f32]| {
            let mut rest = random.random::<f32>();
            let probabilities = probabilities(row, 1.0);
            let class = probabilities.iter().position(|p| {
                rest -= p;
                rest < 0.0
            });
            class.unwrap_or(2) as u32
        };
        let labels = logits.chunks(3).map(draw).collect();
        (logits, labels)
    }

    #[test]
    fn the_temperature_undoes_an_exaggeration() {
        let (honest, labels) = honest(4000);
        for factor in [0.4f32, 1.0, 3.0] {
            let logits: Vec<f32> = honest.iter().map(|logit| logit * factor).collect();
            let of = Labelled { logits: &logits, labels: &labels, n_classes: 3 };
            let found = temperature(of);
            assert!((found / f64::from(factor) - 1.0).abs() < 0.06, "{found} for a factor of {factor}");
            let (before, after) = (expected_error(&bins(of, 1.0)), expected_error(&bins(of, found)));
            assert!(after < 0.025, "the error is {after} at the temperature {found}");
            assert!(factor == 1.0 || before > 4.0 * after, "it was {before} and is {after}");
        }
    }

    #[test]
    fn pictures_that_are_all_recognised_do_not_make_a_model_certain() {
        let logits: Vec<f32> = (0..40).flat_map(|_| [4.0, 0.0]).collect();
        let found = temperature(Labelled { logits: &logits, labels: &[0; 40], n_classes: 2 });
        let confidence = probabilities(&logits[..2], found)[0];
        assert!((f64::from(confidence) - 41.0 / 42.0).abs() < 1e-3, "{confidence} after 40 pictures");
        assert_eq!(temperature(Labelled { logits: &[], labels: &[], n_classes: 2 }), 1.0);
    }

    #[test]
    fn bins_hold_every_picture_once_and_their_error_is_weighted_by_pictures() {
        let half = 0.0;
        let sure = 50.0;
        let logits = [half, 0.0, half, 0.0, sure, 0.0, sure, 0.0];
        let found = bins(Labelled { logits: &logits, labels: &[0, 1, 1, 0], n_classes: 2 }, 1.0);
        let figures: Vec<_> = found.iter().map(|bin| (bin.count, bin.confidence, bin.accuracy)).collect();
        assert_eq!(figures, [(2, 0.5, 0.5), (2, 1.0, 0.5)]);
        assert!((found[0].from - 7.0 / 15.0).abs() < 1e-12);
        assert_eq!(expected_error(&found), 0.25);
        assert_eq!(expected_error(&[]), 0.0);
    }

    #[test]
    fn one_picture_in_twenty_is_marked_by_either_score() {
        let (logits, _) = honest(400);
        for score in [DoubtScore::Confidence, DoubtScore::Energy] {
            let doubt = doubt(&logits, 3, score).unwrap();
            let marked = logits.chunks(3).filter(|row| is_unsure(&doubt, row)).count();
            assert_eq!(marked, 20, "by {score:?}");
            assert_eq!(doubt.false_alarms, 0.05);
        }
        assert_eq!(doubt(&logits[..19 * 3], 3, DoubtScore::Energy), None);
        let equal = doubt(&[1.0; 60], 3, DoubtScore::Confidence).unwrap();
        assert_eq!(equal.false_alarms, 0.0, "pictures that are all alike are not all marked");
    }

    #[test]
    fn dividing_logits_is_what_the_temperature_does() {
        let logits = [3.0, -1.0, 0.5];
        let (a, b) = (probabilities(&calibrated(&logits, 2.5), 1.0), probabilities(&logits, 2.5));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} and {b:?}");
    }
}
