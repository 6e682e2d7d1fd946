//! What a fit costs, in seconds of a reference machine, worked out from the arithmetic that it does.
//!
//! The search plans with these and not with measured seconds, so that the same data, budget and seed lead to the same
//! trials everywhere and always. A faster machine ends before its budget; on a slower one the emergency brake helps.

use api::train::{Family, Settings};

use crate::{export::CHECKED_PICTURES, family::Work};

/// Multiply-adds a second of a network that only answers. The reference machine has two cores of about 2022.
pub const ANSWERING_RATE: f64 = 60e9;

/// Multiply-adds a second of a network that is trained, gradients counted. Small convolutions cannot fill the cores, and
/// depthwise ones move more than they multiply.
pub fn training_rate(family: Family) -> f64 {
    match family {
        Family::Linear | Family::Mlp | Family::FineTune => 65e9,
        Family::Cnn => 45e9,
        Family::SeparableCnn => 28e9,
    }
}

/// Multiply-adds a second of native tract, which engines are compared with.
const CHECKING_RATE: f64 = 8e9;

/// What a step takes however small it is.
const STEP_SECONDS: f64 = 6e-4;

/// What a step takes for each weight that it moves, however few pictures it sees.
const WEIGHT_SECONDS: f64 = 3.5e-9;

/// What a fit takes before its first step, while graphs are prepared.
const START_SECONDS: f64 = 0.1;

/// What one fit takes on the reference machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Names the features that are computed beforehand and shared by all fits that name the same ones.
    pub features: Option<String>,
    /// Seconds of computing them.
    pub features_seconds: f64,
    /// Seconds of the fit alone.
    pub fit_seconds: f64,
    /// Seconds of what follows the final fit: asking the network about the pictures, and comparing engines.
    pub after_seconds: f64,
    /// Multiply-adds of one answer of the published network.
    pub per_picture: u64,
}

impl Cost {
    /// From the arithmetic of a fit on so many pictures.
    pub fn new(settings: &Settings, pictures: usize, work: Work) -> Self {
        let Work { features, fit, weights, answers, per_picture } = work;
        let steps = f64::from(settings.epochs) * pictures.div_ceil(settings.batch_size.max(1) as usize) as f64;
        let step = STEP_SECONDS + weights as f64 * WEIGHT_SECONDS;
        let shared = || {
            let Settings { backbone, input_size, trained_blocks, augmentation, .. } = settings;
            format!("{} {input_size} {trained_blocks} {augmentation:?}", backbone.as_deref().unwrap_or_default())
        };
        Self {
            features: (features > 0).then(shared),
            features_seconds: features as f64 / ANSWERING_RATE,
            fit_seconds: START_SECONDS + steps * step + fit as f64 / training_rate(settings.family),
            after_seconds: answers as f64 / ANSWERING_RATE
                + CHECKED_PICTURES as f64 * per_picture as f64 / CHECKING_RATE,
            per_picture,
        }
    }

    /// Seconds of the final fit and of what follows it.
    pub fn final_seconds(&self) -> f64 {
        self.fit_seconds + self.after_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fit_costs_what_its_arithmetic_and_its_steps_take() {
        let settings = Settings { epochs: 10, batch_size: 32, ..Settings::defaults(Family::Linear, 32) };
        let work = Work {
            features: 120_000_000_000,
            fit: 65_000_000_000,
            weights: 40_000,
            answers: 30_000_000_000,
            per_picture: 400_000_000,
        };
        let cost = Cost::new(&settings, 330, work);
        assert_eq!((cost.features_seconds, cost.per_picture), (2.0, 400_000_000));
        assert!((cost.after_seconds - (0.5 + 16.0 * 0.05)).abs() < 1e-9, "{}", cost.after_seconds);
        let expected = 0.1 + 110.0 * (6e-4 + 1.4e-4) + 1.0;
        assert!((cost.fit_seconds - expected).abs() < 1e-9, "{} instead of {expected}", cost.fit_seconds);
    }

    #[test]
    fn heads_on_the_same_frozen_network_share_features_and_others_do_not() {
        let linear = Settings::defaults(Family::Linear, 32);
        let work = |features| Work { features, fit: 1, weights: 1, answers: 1, per_picture: 1 };
        let named = |settings: &Settings| Cost::new(settings, 100, work(1)).features;
        assert_eq!(named(&linear), named(&Settings { weight_decay: 0.3, ..linear.clone() }));
        assert_eq!(named(&linear), named(&Settings::defaults(Family::Mlp, 32)));
        assert_ne!(named(&linear), named(&Settings { input_size: 160, ..linear.clone() }));
        assert_ne!(named(&linear), named(&Settings { trained_blocks: 3, ..linear.clone() }));
        assert_eq!(Cost::new(&linear, 100, work(0)).features, None);
    }
}
