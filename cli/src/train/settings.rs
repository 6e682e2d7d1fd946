//! Every setting of training as a flag.

use std::time::Duration;

use anyhow::Result;
use api::train::{Augmentation, Family, Hyperparameters};
use clap::Args;
use serde::de::DeserializeOwned;

/// What is asked of training; what is left out takes its default.
#[derive(Args)]
pub struct Settings {
    /// Seconds or a duration such as 60s or 5m: the trainer tries families and settings for so long and takes the best.
    /// This is what it does without --family, too
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "family")]
    auto: Option<Duration>,
    /// Train just this: linear, mlp, fine_tune, separable_cnn or cnn
    #[arg(long, value_parser = choice::<Family>)]
    family: Option<Family>,
    /// Name of an installed backbone; `fovea backbone list` lists them
    #[arg(long, value_name = "NAME")]
    backbone: Option<String>,
    /// Passes over the train split
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Pictures per step
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// Peak of the cosine schedule
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Decoupled weight decay
    #[arg(long, value_name = "RATE")]
    weight_decay: Option<f64>,
    /// Share of activations dropped in front of the last layer
    #[arg(long, value_name = "SHARE")]
    dropout: Option<f64>,
    /// Random changes of training pictures: none, flip, flip_shift or full
    #[arg(long, value_parser = choice::<Augmentation>)]
    augmentation: Option<Augmentation>,
    /// Probability mass that a target gives evenly to all classes
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// Parameter of mixup's beta distribution; 0 for none
    #[arg(long, value_name = "ALPHA")]
    mixup: Option<f64>,
    /// Longest gradient over all weights together; 0 for any
    #[arg(long, value_name = "LENGTH")]
    clip_norm: Option<f64>,
    /// Decay per step of the running average of the weights; 0 for none
    #[arg(long, value_name = "DECAY")]
    weight_average: Option<f64>,
    /// Units of mlp's hidden layer
    #[arg(long, value_name = "N")]
    hidden_units: Option<u32>,
    /// Blocks of the backbone that fine_tune trains, from its end
    #[arg(long, value_name = "N")]
    trained_blocks: Option<u32>,
    /// Whether the published network looks at the mirrored picture too, at twice the cost: true or false
    #[arg(long, value_name = "BOOL")]
    mirrored: Option<bool>,
    /// Seeds every random choice
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Epochs without a better validation loss before training stops; 0 never stops early
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<u32>,
    /// Side in pixels that the network sees; smaller is faster and mostly less accurate
    #[arg(long, value_name = "PIXELS")]
    input_size: Option<u32>,
}

impl Settings {
    /// As the run's file has them.
    pub fn hyperparameters(&self) -> Hyperparameters {
        Hyperparameters {
            family: self.family,
            budget_seconds: self.auto.map(|budget| budget.as_secs_f64()),
            backbone: self.backbone.clone(),
            epochs: self.epochs,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            dropout: self.dropout,
            augmentation: self.augmentation,
            label_smoothing: self.label_smoothing,
            mixup: self.mixup,
            clip_norm: self.clip_norm,
            weight_average: self.weight_average,
            hidden_units: self.hidden_units,
            trained_blocks: self.trained_blocks,
            mirrored: self.mirrored,
            seed: self.seed,
            patience: self.patience,
            input_size: self.input_size,
        }
    }
}

/// Reads a value as it stands in JSON; dashes do for underscores.
fn choice<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.replace('-', "_").into()).map_err(|e| e.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let expected = |_| "expected seconds or a duration such as 60s or 5m".to_owned();
    seconds.map_or_else(|| humantime::parse_duration(text).map_err(expected), Ok)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    /// Values that JSON and flags write alike.
    #[test]
    fn every_setting_has_its_flag() {
        let asked = Hyperparameters {
            family: Some(Family::FineTune),
            budget_seconds: None,
            backbone: Some("mine".into()),
            epochs: Some(2),
            batch_size: Some(3),
            learning_rate: Some(0.25),
            weight_decay: Some(0.125),
            dropout: Some(0.5),
            augmentation: Some(Augmentation::FlipShift),
            label_smoothing: Some(0.0625),
            mixup: Some(0.75),
            clip_norm: Some(1.5),
            weight_average: Some(0.9),
            hidden_units: Some(4),
            trained_blocks: Some(5),
            mirrored: Some(true),
            seed: Some(6),
            patience: Some(7),
            input_size: Some(8),
        };
        let serde_json::Value::Object(fields) = serde_json::to_value(&asked).expect("plain data") else {
            panic!("settings are an object");
        };
        assert_eq!(fields.len(), 18, "every field but the budget");
        let flags = fields.iter().flat_map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            [format!("--{}", name.replace('_', "-")), value]
        });
        let line = Line::try_parse_from(["train".to_owned()].into_iter().chain(flags)).map_err(|e| e.to_string());
        assert_eq!(line.map(|line| line.settings.hyperparameters()), Ok(asked));
    }

    #[test]
    fn a_budget_is_seconds_or_a_duration_and_goes_without_a_family() {
        let read = |line: &[&str]| -> Result<_, String> {
            let line = Line::try_parse_from([&["train"], line].concat()).map_err(|e| e.to_string())?;
            Ok(line.settings.hyperparameters().budget_seconds)
        };
        for (text, seconds) in [("60s", 60.0), ("90", 90.0), ("1.5", 1.5), ("5m", 300.0)] {
            assert_eq!(read(&["--auto", text]), Ok(Some(seconds)), "{text}");
        }
        assert_eq!(read(&[]), Ok(None));
        let told = |line: &[&str]| read(line).expect_err("it is refused");
        assert!(told(&["--auto", "soon"]).contains("such as 60s or 5m"));
        assert!(told(&["--auto", "60s", "--family", "cnn"]).contains("cannot be used with"));
        assert!(told(&["--family", "forest"]).contains("separable_cnn"));
    }
}
