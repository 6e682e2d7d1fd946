//! From answers to figures; reads and prints nothing.

use api::{
    interval::wilson,
    train::{ClassMetrics, per_class},
};
use predictor::Answer;
use serde::Serialize;

/// Figures over pictures that could be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// How many.
    pub pictures: u64,
    /// Of them, those classified rightly.
    pub right: u64,
    /// Their share, 0..=1.
    pub accuracy: f64,
    /// Where the accuracy on all such pictures lies with 95 % confidence, as far as these were drawn from them at random.
    pub accuracy_interval: [f64; 2],
    /// Mean cross-entropy.
    pub loss: f64,
    /// Those that the model says it is unsure about; null where it cannot tell.
    pub unsure: Option<u64>,
    /// Accuracy on the others, 0..=1; null where the model cannot tell, or is unsure about all.
    pub accuracy_of_sure: Option<f64>,
    /// In class-index order.
    pub per_class: Vec<ClassMetrics>,
    /// Row = true class, column = predicted class.
    pub confusion_matrix: Vec<Vec<u64>>,
}

impl Score {
    /// Figures of answers with every label ranked; nothing where there are none.
    ///
    /// `answers`: true class as an index of `labels`, and what the model says.
    pub fn of<'a>(answers: impl Iterator<Item = (usize, &'a Answer)>, labels: &[String]) -> Option<Self> {
        let mut confusion_matrix = vec![vec![0; labels.len()]; labels.len()];
        let (mut pictures, mut right, mut loss) = (0, 0, 0.0);
        let (mut sure, mut sure_and_right, mut unsure) = (0, 0, None);
        for (class, answer) in answers {
            let best = answer.ranked.first()?;
            let predicted = labels.iter().position(|label| *label == best.label)?;
            let of_truth = answer.ranked.iter().find(|ranked| ranked.label == labels[class]);
            // A probability that is rounded to nothing is still not impossible.
            loss -= f64::from(of_truth.map_or(0.0, |ranked| ranked.probability).max(f32::MIN_POSITIVE)).ln();
            confusion_matrix[class][predicted] += 1;
            pictures += 1;
            let is_right = u64::from(class == predicted);
            right += is_right;
            if let Some(is_unsure) = answer.unsure {
                *unsure.get_or_insert(0) += u64::from(is_unsure);
                if !is_unsure {
                    sure += 1;
                    sure_and_right += is_right;
                }
            }
        }
        (pictures > 0).then(|| Self {
            pictures,
            right,
            accuracy: right as f64 / pictures as f64,
            accuracy_interval: wilson(right, pictures),
            loss: loss / pictures as f64,
            unsure,
            accuracy_of_sure: (sure > 0).then(|| sure_and_right as f64 / sure as f64),
            per_class: per_class(&confusion_matrix, labels),
            confusion_matrix,
        })
    }
}

#[cfg(test)]
mod tests {
    use api::predict::Ranked;

    use super::*;

    fn answer(ship: f32, unsure: Option<bool>) -> Answer {
        let mut ranked = vec![
            Ranked { label: "ship".into(), probability: ship },
            Ranked { label: "truck".into(), probability: 1.0 - ship },
        ];
        ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        Answer { ranked, unsure }
    }

    #[test]
    fn figures_of_a_known_case() {
        let labels = ["ship".to_owned(), "truck".to_owned()];
        let answers = [
            (0, answer(0.75, Some(false))),
            (0, answer(0.25, Some(true))),
            (1, answer(0.25, Some(false))),
            (1, answer(1.0, Some(false))),
        ];
        let score = Score::of(answers.iter().map(|(class, answer)| (*class, answer)), &labels).expect("four pictures");
        assert_eq!((score.pictures, score.right, score.accuracy), (4, 2, 0.5));
        assert_eq!(score.confusion_matrix, [[1, 1], [1, 1]]);
        assert_eq!((score.unsure, score.accuracy_of_sure), (Some(1), Some(2.0 / 3.0)));
        let tiny = -f64::from(f32::MIN_POSITIVE).ln();
        let expected = (-(0.75f64.ln()) * 2.0 - 0.25f64.ln() + tiny) / 4.0;
        assert!((score.loss - expected).abs() < 1e-6, "{} instead of {expected}", score.loss);
        assert_eq!(score.per_class[0].support, 2);
        assert_eq!(Score::of(std::iter::empty(), &labels), None);
    }

    #[test]
    fn a_model_that_cannot_tell_is_not_counted_as_sure() {
        let labels = ["ship".to_owned(), "truck".to_owned()];
        let known = answer(0.75, None);
        let score = Score::of([(0, &known)].into_iter(), &labels).expect("one picture");
        assert_eq!((score.unsure, score.accuracy_of_sure), (None, None));
    }
}
