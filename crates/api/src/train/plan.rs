//! From what is asked for to what a run is to do: defaults, ranges, and whether it goes with the backbones that are there.

use super::{BUDGET_RANGE, DEFAULT_BUDGET_SECONDS, Family, Hyperparameters, Settings, settings::outside};
use crate::backbone::{Installed, Sides};

/// What a run is to do, after defaults and checks.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Find the best family and settings.
    Auto(Search),
    /// Fit these settings.
    Manual(Settings),
}

/// What a search is bound by.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// Refitting the best included.
    pub budget_seconds: f64,
    /// Seeds every random choice.
    pub seed: u64,
    /// What is stated for every candidate; its family is absent.
    pub stated: Hyperparameters,
}

impl Hyperparameters {
    /// Fills in defaults and checks every value, so that no run is made that cannot begin.
    ///
    /// `backbones` are those that are installed, `picture_side` is the longer side of the dataset's pictures in pixels. A
    /// backbone that sees one side only is asked at that side unless another one is stated.
    ///
    /// # Errors
    /// One sentence for each value out of its range, naming the range; and for each that does not go with the family or
    /// the backbone
    pub fn resolve(&self, backbones: &[Installed], picture_side: u32) -> Result<Plan, Vec<String>> {
        let mut wrong = vec![];
        let seed = self.seed.unwrap_or(1);
        let plan = match self.family {
            Some(family) => {
                if self.budget_seconds.is_some() {
                    wrong.push("budget_seconds is for the search; leave it out, or leave the family out".to_owned());
                }
                let mut settings = self.settings(family, picture_side);
                let backbone = backbones.iter().find(|known| settings.backbone.as_ref() == Some(&known.name));
                if let (Some(Sides::Only(side)), None) = (backbone.map(|known| known.sides), self.input_size) {
                    settings.input_size = side;
                }
                wrong.extend(settings.out_of_range());
                wrong.extend(backbone.and_then(|known| known.unseen(settings.input_size)));
                if family == Family::FineTune {
                    wrong.extend(backbone.and_then(Installed::untrainable));
                }
                wrong.extend(settings.empty_part());
                Plan::Manual(settings)
            }
            None => {
                let budget_seconds = self.budget_seconds.unwrap_or(DEFAULT_BUDGET_SECONDS);
                wrong.extend(outside("budget_seconds", budget_seconds, BUDGET_RANGE.0, BUDGET_RANGE.1));
                // The family's own defaults are in range, so what is found here is what was stated.
                wrong.extend(self.settings(Family::Cnn, picture_side).out_of_range());
                let backbone = backbones.iter().find(|known| self.backbone.as_ref() == Some(&known.name));
                wrong.extend(backbone.zip(self.input_size).and_then(|(known, side)| known.unseen(side)));
                let of = |family| self.settings(family, picture_side).empty_part();
                wrong.extend([Family::Mlp, Family::FineTune].into_iter().filter_map(of));
                Plan::Auto(Search { budget_seconds, seed, stated: self.clone() })
            }
        };
        wrong.extend(self.wrong_backbone(backbones));
        if wrong.is_empty() { Ok(plan) } else { Err(wrong) }
    }

    /// The family's defaults with what is stated in their place.
    pub fn settings(&self, family: Family, picture_side: u32) -> Settings {
        let default = Settings::defaults(family, picture_side);
        Settings {
            family,
            backbone: if family.has_backbone() { self.backbone.clone().or(default.backbone) } else { None },
            epochs: self.epochs.unwrap_or(default.epochs),
            batch_size: self.batch_size.unwrap_or(default.batch_size),
            learning_rate: self.learning_rate.unwrap_or(default.learning_rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            dropout: self.dropout.unwrap_or(default.dropout),
            augmentation: self.augmentation.unwrap_or(default.augmentation),
            label_smoothing: self.label_smoothing.unwrap_or(default.label_smoothing),
            mixup: self.mixup.unwrap_or(default.mixup),
            clip_norm: self.clip_norm.unwrap_or(default.clip_norm),
            weight_average: self.weight_average.unwrap_or(default.weight_average),
            hidden_units: if family == Family::Mlp { self.hidden_units.unwrap_or(default.hidden_units) } else { 0 },
            trained_blocks: if family == Family::FineTune {
                self.trained_blocks.unwrap_or(default.trained_blocks)
            } else {
                0
            },
            mirrored: self.mirrored.unwrap_or(default.mirrored),
            seed: self.seed.unwrap_or(default.seed),
            patience: self.patience.unwrap_or(default.patience),
            input_size: self.input_size.unwrap_or(default.input_size),
        }
    }

    fn wrong_backbone(&self, installed: &[Installed]) -> Option<String> {
        let names = || installed.iter().map(|known| known.name.as_str()).collect::<Vec<_>>().join(", ");
        let known = || if installed.is_empty() { "none".to_owned() } else { names() };
        let is_there = |name: &String| installed.iter().any(|known| known.name == *name);
        match (self.family, &self.backbone) {
            (Some(family), Some(_)) if !family.has_backbone() => {
                Some(format!("backbone is given, but family {} has none", family.name()))
            }
            (_, Some(name)) if !is_there(name) => {
                Some(format!("backbone {name} is not installed; installed: {}", known()))
            }
            (Some(family), None) => {
                // The side of the pictures has no say in the backbone.
                let needed = Settings::defaults(family, 1).backbone.filter(|name| !is_there(name))?;
                Some(format!(
                    "family {} needs a backbone, and {needed} is not installed; installed: {}",
                    family.name(),
                    known()
                ))
            }
            _ => None,
        }
    }
}

impl Settings {
    /// Says if the part that the family is named for has no size.
    fn empty_part(&self) -> Option<String> {
        match self.family {
            Family::Mlp if self.hidden_units == 0 => {
                Some("hidden_units is 0; a head with a hidden layer has at least 1".to_owned())
            }
            Family::FineTune if self.trained_blocks == 0 => {
                Some("trained_blocks is 0; a fine-tuned backbone has at least 1".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backbone::BUILT_IN, train::DEFAULT_BACKBONE};

    /// The default backbone, one that sees 96 pixels only, and one that stays frozen and sees 32 or more.
    fn installed() -> Vec<Installed> {
        let own = |name: &str, sides| Installed { name: name.into(), sides, is_trainable: false };
        vec![Installed::from(&BUILT_IN[0]), own("mine", Sides::Only(96)), own("frozen", Sides::From(32))]
    }

    #[test]
    fn every_wrong_value_is_named_with_its_range() {
        let asked = Hyperparameters {
            epochs: Some(0),
            dropout: Some(1.5),
            learning_rate: Some(f64::NAN),
            ..Default::default()
        };
        let expected = [
            "epochs is 0; expected 1 to 1000",
            "learning_rate is NaN; expected 0.000001 to 1",
            "dropout is 1.5; expected 0 to 0.9",
        ];
        for family in [None, Some(Family::Linear)] {
            let wrong = Hyperparameters { family, ..asked.clone() }.resolve(&installed(), 32);
            assert_eq!(wrong.expect_err("three values are out of range"), expected);
        }
    }

    #[test]
    fn without_a_family_the_trainer_searches_and_keeps_what_is_stated() {
        let asked = Hyperparameters { epochs: Some(7), seed: Some(9), ..Default::default() };
        let Ok(Plan::Auto(search)) = asked.resolve(&[], 32) else { panic!("nothing is wrong with it") };
        assert_eq!((search.budget_seconds, search.seed), (DEFAULT_BUDGET_SECONDS, 9));
        assert_eq!(search.stated.settings(Family::Cnn, 32).epochs, 7);
        let asked = Hyperparameters { budget_seconds: Some(1.0), ..Default::default() };
        assert_eq!(asked.resolve(&[], 32).expect_err("too short"), ["budget_seconds is 1; expected 5 to 86400"]);
    }

    #[test]
    fn a_backbone_that_is_not_there_or_not_wanted_is_refused() {
        let of = |family, backbone: Option<&str>, installed: &[Installed]| {
            let asked = Hyperparameters { family, backbone: backbone.map(str::to_owned), ..Default::default() };
            asked.resolve(installed, 32).err().map(|wrong| wrong.join("; "))
        };
        assert_eq!(of(Some(Family::Linear), None, &installed()), None);
        assert_eq!(of(Some(Family::Cnn), None, &[]), None);
        assert_eq!(
            of(Some(Family::Linear), None, &[]).as_deref(),
            Some("family linear needs a backbone, and efficientnet-lite0 is not installed; installed: none")
        );
        assert_eq!(
            of(None, Some("other"), &installed()).as_deref(),
            Some("backbone other is not installed; installed: efficientnet-lite0, mine, frozen")
        );
        let given = of(Some(Family::Cnn), Some(DEFAULT_BACKBONE), &installed());
        assert_eq!(given.as_deref(), Some("backbone is given, but family cnn has none"));
    }

    #[test]
    fn a_backbone_of_one_side_is_asked_at_that_side_unless_another_one_is_stated() {
        let asked =
            Hyperparameters { family: Some(Family::Linear), backbone: Some("mine".into()), ..Default::default() };
        let Ok(Plan::Manual(settings)) = asked.resolve(&installed(), 32) else { panic!("nothing is wrong with it") };
        assert_eq!(settings.input_size, 96);
        let usual = Hyperparameters { backbone: None, ..asked.clone() };
        let Ok(Plan::Manual(settings)) = usual.resolve(&installed(), 32) else { panic!("nothing is wrong with it") };
        assert_eq!(settings.input_size, 224);
    }

    #[test]
    fn what_does_not_go_together_is_refused_before_there_is_a_run() {
        #[track_caller]
        fn check(asked: Hyperparameters, family: Option<Family>, backbone: &str, expected: Option<&str>) {
            let asked = Hyperparameters { family, backbone: Some(backbone.to_owned()), ..asked };
            let wrong = asked.resolve(&installed(), 32).err().map(|wrong| wrong.join("; "));
            assert_eq!(wrong.as_deref(), expected);
        }
        let side = |input_size| Hyperparameters { input_size: Some(input_size), ..Default::default() };
        let (linear, tuned) = (Some(Family::Linear), Some(Family::FineTune));
        check(side(96), linear, "mine", None);
        check(side(96), None, "mine", None);
        let other_side = "input_size is 128; backbone mine sees 96 pixels only";
        check(side(128), linear, "mine", Some(other_side));
        check(side(128), None, "mine", Some(other_side));
        check(side(31), linear, "frozen", Some("input_size is 31; backbone frozen sees at least 32 pixels"));
        check(side(32), linear, "frozen", None);
        let frozen = "backbone frozen can only be used frozen; choose family linear or mlp, or another backbone";
        check(side(64), tuned, "frozen", Some(frozen));
        check(side(64), tuned, DEFAULT_BACKBONE, None);

        let no_blocks = Hyperparameters { trained_blocks: Some(0), ..Default::default() };
        let none_trained = "trained_blocks is 0; a fine-tuned backbone has at least 1";
        check(no_blocks.clone(), tuned, DEFAULT_BACKBONE, Some(none_trained));
        check(no_blocks.clone(), None, DEFAULT_BACKBONE, Some(none_trained));
        check(no_blocks, linear, DEFAULT_BACKBONE, None);
        let no_units = Hyperparameters { hidden_units: Some(0), ..Default::default() };
        let none_hidden = "hidden_units is 0; a head with a hidden layer has at least 1";
        check(no_units.clone(), Some(Family::Mlp), DEFAULT_BACKBONE, Some(none_hidden));
        check(no_units, linear, DEFAULT_BACKBONE, None);
    }
}
