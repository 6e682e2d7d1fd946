//! What may be asked of training, its defaults and its ranges.

use serde::{Deserialize, Serialize};

/// Model family: what is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// A linear head over the frozen features of a backbone.
    Linear,
    /// One hidden layer and a linear head over the frozen features of a backbone.
    Mlp,
    /// The last stages of a backbone, trained on together with a linear head.
    FineTune,
    /// A small convolutional network of depthwise-separable convolutions, trained from scratch: fast in the function.
    SeparableCnn,
    /// A small convolutional network trained from scratch.
    Cnn,
}

impl Family {
    /// All of them, those with a backbone first.
    pub const ALL: [Self; 5] = [Self::Linear, Self::Mlp, Self::FineTune, Self::SeparableCnn, Self::Cnn];

    /// As written in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Mlp => "mlp",
            Self::FineTune => "fine_tune",
            Self::SeparableCnn => "separable_cnn",
            Self::Cnn => "cnn",
        }
    }

    /// Whether it begins with a pretrained backbone.
    pub const fn has_backbone(self) -> bool {
        matches!(self, Self::Linear | Self::Mlp | Self::FineTune)
    }
}

/// Random changes of training pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Augmentation {
    /// Pictures as they are.
    None,
    /// Mirrored left to right half of the time.
    Flip,
    /// Mirrored, and shifted by up to a tenth of the side.
    FlipShift,
    /// Besides, drawn larger or smaller by up to 15 %, with brightness and contrast changed by up to 20 %.
    Full,
}

impl Augmentation {
    /// All of them, the weakest first.
    pub const ALL: [Self; 4] = [Self::None, Self::Flip, Self::FlipShift, Self::Full];

    /// As written in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Flip => "flip",
            Self::FlipShift => "flip_shift",
            Self::Full => "full",
        }
    }
}

/// The backbone that is used unless another one is named.
pub const DEFAULT_BACKBONE: &str = "efficientnet-lite0";

/// Seconds that the search may take unless something else is asked for.
pub const DEFAULT_BUDGET_SECONDS: f64 = 60.0;

/// What the person asks for.
///
/// Without a family the trainer chooses one, and every other setting with it ("Auto"), within the budget; what is
/// stated besides is kept for every candidate. With a family, an absent field takes the family's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Hyperparameters {
    /// Absent: the trainer chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Seconds the search may take, refitting the best included; only without a family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_seconds: Option<f64>,
    /// Name of an installed backbone; only for families that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone: Option<String>,
    /// Passes over the train split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Pictures per step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    /// Peak of the cosine schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Decoupled weight decay (AdamW).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Share of activations dropped in front of the last layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Random changes of training pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augmentation: Option<Augmentation>,
    /// Probability mass that a target gives evenly to all classes; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// Mixup: parameter of the beta distribution that two pictures and their targets are mixed by; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
    /// Longest gradient over all weights together; 0 for any length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Decay per step of the running average of the weights that is kept in place of the last ones; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_average: Option<f64>,
    /// Units of the hidden layer; only for `mlp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_units: Option<u32>,
    /// Blocks of the backbone that are trained, counted from its end; only for `fine_tune`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_blocks: Option<u32>,
    /// Whether the published network looks at the mirrored picture too and averages both, at twice the cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirrored: Option<bool>,
    /// Seeds every random choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Epochs without a better validation loss (train loss where there is no validation split) before training
    /// stops and that epoch's weights are kept; 0 never stops early and keeps the last epoch's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// Side in pixels the network sees; the graph resamples the dataset's pictures to it. Smaller is faster in the
    /// function and mostly less accurate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<u32>,
}

/// Every setting of a fit, after defaults and checks. In files written before a setting existed it is off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Settings {
    /// What is trained.
    pub family: Family,
    /// Name of the backbone, where the family has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<String>,
    /// Passes over the train split.
    pub epochs: u32,
    /// Pictures per step.
    pub batch_size: u32,
    /// Peak of the cosine schedule.
    pub learning_rate: f64,
    /// Decoupled weight decay (AdamW).
    pub weight_decay: f64,
    /// Share of activations dropped in front of the last layer.
    pub dropout: f64,
    /// Random changes of training pictures.
    pub augmentation: Augmentation,
    /// Probability mass that a target gives evenly to all classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Parameter of mixup's beta distribution; 0 for no mixup.
    #[serde(default)]
    pub mixup: f64,
    /// Longest gradient over all weights together; 0 for any length.
    #[serde(default)]
    pub clip_norm: f64,
    /// Decay per step of the running average of the weights; 0 for no average.
    #[serde(default)]
    pub weight_average: f64,
    /// Units of the hidden layer of `mlp`; else 0.
    #[serde(default)]
    pub hidden_units: u32,
    /// Blocks of the backbone that `fine_tune` trains, counted from its end; else 0.
    #[serde(default)]
    pub trained_blocks: u32,
    /// Whether the published network looks at the mirrored picture too and averages both, at twice the cost.
    #[serde(default)]
    pub mirrored: bool,
    /// Seeds every random choice.
    pub seed: u64,
    /// Epochs without a better validation loss (train loss where there is no validation split) before training
    /// stops and that epoch's weights are kept; 0 never stops early and keeps the last epoch's.
    pub patience: u32,
    /// Side in pixels the network sees.
    pub input_size: u32,
}

/// Inclusive range of a setting: name, least, most.
pub const RANGES: [(&str, f64, f64); 14] = [
    ("epochs", 1.0, 1000.0),
    ("batch_size", 1.0, 1024.0),
    ("learning_rate", 1e-6, 1.0),
    ("weight_decay", 0.0, 1.0),
    ("dropout", 0.0, 0.9),
    ("label_smoothing", 0.0, 0.5),
    ("mixup", 0.0, 2.0),
    ("clip_norm", 0.0, 1000.0),
    ("weight_average", 0.0, 0.9999),
    ("hidden_units", 0.0, 4096.0),
    ("trained_blocks", 0.0, 64.0),
    ("seed", 0.0, 4_294_967_295.0),
    ("patience", 0.0, 1000.0),
    ("input_size", 8.0, 512.0),
];

/// Inclusive range of a search's budget in seconds.
pub const BUDGET_RANGE: (f64, f64) = (5.0, 86_400.0);

impl Settings {
    /// The defaults of a family.
    ///
    /// `picture_side` is the longer side of the dataset's pictures in pixels; a CNN takes it as its input size up to
    /// 64, a backbone sees 224.
    pub fn defaults(family: Family, picture_side: u32) -> Self {
        let linear = Self {
            family,
            backbone: family.has_backbone().then(|| DEFAULT_BACKBONE.to_owned()),
            epochs: 60,
            batch_size: 32,
            learning_rate: 5e-4,
            weight_decay: 1e-2,
            dropout: 0.2,
            augmentation: Augmentation::Flip,
            label_smoothing: 0.0,
            mixup: 0.0,
            clip_norm: 0.0,
            weight_average: 0.0,
            hidden_units: 0,
            trained_blocks: 0,
            mirrored: false,
            seed: 1,
            patience: 15,
            input_size: 224,
        };
        match family {
            Family::Linear => linear,
            Family::Mlp => Self { hidden_units: 256, ..linear },
            Family::FineTune => Self {
                backbone: Some("efficientnet-lite1".to_owned()),
                epochs: 20,
                batch_size: 16,
                learning_rate: 2e-4,
                dropout: 0.0,
                augmentation: Augmentation::Full,
                label_smoothing: 0.1,
                mixup: 0.2,
                clip_norm: 1.0,
                trained_blocks: 6,
                mirrored: true,
                patience: 0,
                input_size: 192,
                ..linear
            },
            Family::SeparableCnn | Family::Cnn => Self {
                epochs: 30,
                learning_rate: 2e-3,
                dropout: 0.3,
                augmentation: Augmentation::FlipShift,
                patience: 8,
                input_size: picture_side.clamp(16, 64),
                ..linear
            },
        }
    }

    /// One sentence for each value out of its range.
    pub fn out_of_range(&self) -> Vec<String> {
        let values = [
            f64::from(self.epochs),
            f64::from(self.batch_size),
            self.learning_rate,
            self.weight_decay,
            self.dropout,
            self.label_smoothing,
            self.mixup,
            self.clip_norm,
            self.weight_average,
            f64::from(self.hidden_units),
            f64::from(self.trained_blocks),
            self.seed as f64,
            f64::from(self.patience),
            f64::from(self.input_size),
        ];
        let ranges = RANGES.iter().zip(values);
        ranges.filter_map(|((name, least, most), value)| outside(name, value, *least, *most)).collect()
    }
}

pub(super) fn outside(name: &str, value: f64, least: f64, most: f64) -> Option<String> {
    (!(least..=most).contains(&value)).then(|| format!("{name} is {value}; expected {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_ranges() {
        for family in Family::ALL {
            for side in [1, 28, 1024] {
                assert_eq!(Settings::defaults(family, side).out_of_range(), Vec::<String>::new());
            }
        }
    }
}
