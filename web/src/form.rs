//! The form of a run's settings: fields with their defaults and ranges, and the way back from what was typed.

use std::collections::HashMap;

use api::train::{Augmentation, Family, Hyperparameters, RANGES, Settings};

use crate::words;

/// What was typed, by field.
pub type Typed = HashMap<String, String>;

/// The form as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// Choices of the family.
    pub families: Vec<Choice>,
    /// Choices of the augmentation.
    pub augmentations: Vec<Choice>,
    /// Everything that is a number.
    pub numbers: Vec<Number>,
    /// Registry name to publish under.
    pub model: String,
    /// What is wrong and belongs to no number.
    pub errors: Vec<String>,
}

/// One choice of several.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// As sent; empty for the default.
    pub value: &'static str,
    /// As shown.
    pub text: String,
    /// Whether it is the present choice.
    pub chosen: bool,
}

/// A field for a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// Name as sent.
    pub name: &'static str,
    /// Name as shown.
    pub label: &'static str,
    /// Least allowed.
    pub least: f64,
    /// Most allowed.
    pub most: f64,
    /// `1` for whole numbers, else `any`.
    pub step: &'static str,
    /// As typed; empty for the default.
    pub value: String,
    /// The defaults, for people.
    pub hint: String,
    /// What is wrong with it.
    pub error: Option<String>,
}

const LABELS: [&str; RANGES.len()] = [
    "Epochs",
    "Batch size",
    "Learning rate",
    "Weight decay",
    "Dropout",
    "Label smoothing",
    "Mixup",
    "Longest gradient (0: any)",
    "Average of weights",
    "Hidden units",
    "Trained blocks",
    "Seed",
    "Patience (0: never stop early)",
    "Input size in pixels",
];

impl Form {
    /// The form with what was typed and what is wrong with it.
    ///
    /// A sentence of `wrong` that begins with a field's name is shown beside that field.
    pub fn new(backbones: &[String], picture_side: u32, default_model: &str, typed: &Typed, wrong: &[String]) -> Self {
        let backbone = !backbones.is_empty();
        let typed_of = |name: &str| typed.get(name).map(String::as_str).unwrap_or_default();
        let linear = Settings::defaults(Family::Linear, picture_side);
        let cnn = Settings::defaults(Family::Cnn, picture_side);
        let numbers: Vec<_> = RANGES
            .iter()
            .zip(LABELS)
            .map(|(&(name, least, most), label)| Number {
                name,
                label,
                least,
                most,
                step: if is_whole(name) { "1" } else { "any" },
                value: typed_of(name).to_owned(),
                hint: hint(backbone, &setting(&linear, name), &setting(&cnn, name)),
                error: wrong.iter().find(|sentence| concerns(sentence, name)).cloned(),
            })
            .collect();
        let default_family = words::family(if backbone { Family::Linear } else { Family::Cnn });
        let mut families = vec![Choice::new("", format!("default: {default_family}"), typed_of("family"))];
        for family in Family::ALL.into_iter().filter(|family| backbone || !family.has_backbone()) {
            families.push(Choice::new(family.name(), words::family(family).into(), typed_of("family")));
        }
        let (a, b) = (words::augmentation(linear.augmentation), words::augmentation(cnn.augmentation));
        let mut augmentations = vec![Choice::new("", hint(backbone, a, b), typed_of("augmentation"))];
        for (value, augmentation) in
            [("none", Augmentation::None), ("flip", Augmentation::Flip), ("flip_shift", Augmentation::FlipShift)]
        {
            augmentations.push(Choice::new(value, words::augmentation(augmentation).into(), typed_of("augmentation")));
        }
        let beside = |sentence: &&String| numbers.iter().any(|number| concerns(sentence, number.name));
        let errors = wrong.iter().filter(|sentence| !beside(sentence)).cloned().collect();
        let model = typed.get("model").cloned().unwrap_or_else(|| default_model.to_owned());
        Self { families, augmentations, numbers, model, errors }
    }
}

impl Choice {
    fn new(value: &'static str, text: String, typed: &str) -> Self {
        Self { value, text, chosen: value == typed }
    }
}

fn concerns(sentence: &str, name: &str) -> bool {
    sentence.strip_prefix(name).is_some_and(|rest| rest.starts_with(" is "))
}

fn is_whole(name: &str) -> bool {
    matches!(name, "epochs" | "batch_size" | "hidden_units" | "trained_blocks" | "seed" | "patience" | "input_size")
}

fn setting(settings: &Settings, name: &str) -> String {
    match name {
        "epochs" => settings.epochs.to_string(),
        "batch_size" => settings.batch_size.to_string(),
        "learning_rate" => settings.learning_rate.to_string(),
        "weight_decay" => settings.weight_decay.to_string(),
        "dropout" => settings.dropout.to_string(),
        "label_smoothing" => settings.label_smoothing.to_string(),
        "mixup" => settings.mixup.to_string(),
        "clip_norm" => settings.clip_norm.to_string(),
        "weight_average" => settings.weight_average.to_string(),
        "hidden_units" => settings.hidden_units.to_string(),
        "trained_blocks" => settings.trained_blocks.to_string(),
        "seed" => settings.seed.to_string(),
        "patience" => settings.patience.to_string(),
        _ => settings.input_size.to_string(),
    }
}

fn hint(backbone: bool, linear: &str, cnn: &str) -> String {
    match (backbone, linear == cnn) {
        (true, false) => format!("default: {linear} (linear), {cnn} (CNN)"),
        _ => format!("default: {cnn}"),
    }
}

/// What was typed as hyperparameters, and one sentence for each field that cannot be read. Those fields, like empty
/// ones, take the default.
pub fn parse(typed: &Typed) -> (Hyperparameters, Vec<String>) {
    let mut wrong = vec![];
    let mut asked = Hyperparameters {
        family: choice(typed, "family", &Family::ALL.map(|family| (family.name(), family)), &mut wrong),
        augmentation: choice(
            typed,
            "augmentation",
            &[("none", Augmentation::None), ("flip", Augmentation::Flip), ("flip_shift", Augmentation::FlipShift)],
            &mut wrong,
        ),
        ..Hyperparameters::default()
    };
    asked.epochs = number(typed, "epochs", &mut wrong);
    asked.batch_size = number(typed, "batch_size", &mut wrong);
    asked.learning_rate = number(typed, "learning_rate", &mut wrong);
    asked.weight_decay = number(typed, "weight_decay", &mut wrong);
    asked.dropout = number(typed, "dropout", &mut wrong);
    asked.label_smoothing = number(typed, "label_smoothing", &mut wrong);
    asked.mixup = number(typed, "mixup", &mut wrong);
    asked.clip_norm = number(typed, "clip_norm", &mut wrong);
    asked.weight_average = number(typed, "weight_average", &mut wrong);
    asked.hidden_units = number(typed, "hidden_units", &mut wrong);
    asked.trained_blocks = number(typed, "trained_blocks", &mut wrong);
    asked.seed = number(typed, "seed", &mut wrong);
    asked.patience = number(typed, "patience", &mut wrong);
    asked.input_size = number(typed, "input_size", &mut wrong);
    (asked, wrong)
}

fn filled<'a>(typed: &'a Typed, name: &str) -> Option<&'a str> {
    typed.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn number<T: std::str::FromStr>(typed: &Typed, name: &str, wrong: &mut Vec<String>) -> Option<T> {
    let value = filled(typed, name)?;
    let parsed = value.parse().ok();
    if parsed.is_none() {
        let kind = if is_whole(name) { "a whole number" } else { "a number" };
        let range = RANGES.iter().find(|(range, ..)| *range == name);
        let range = range.map(|(_, least, most)| format!(" from {least} to {most}")).unwrap_or_default();
        wrong.push(format!("{name} is {value:?}; expected {kind}{range}"));
    }
    parsed
}

fn choice<T: Copy>(typed: &Typed, name: &str, choices: &[(&str, T)], wrong: &mut Vec<String>) -> Option<T> {
    let value = filled(typed, name)?;
    let chosen = choices.iter().find(|(choice, _)| *choice == value).map(|(_, chosen)| *chosen);
    if chosen.is_none() {
        let names = choices.iter().map(|(choice, _)| *choice).collect::<Vec<_>>().join(" or ");
        wrong.push(format!("{name} is {value:?}; expected {names}"));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use api::train::DEFAULT_BACKBONE;

    use super::*;

    fn typed(fields: &[(&str, &str)]) -> Typed {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_empty_form_asks_for_the_defaults() {
        assert_eq!(parse(&typed(&[("epochs", ""), ("family", " ")])), (Hyperparameters::default(), vec![]));
    }

    #[test]
    fn every_number_of_the_form_arrives() {
        let fields = RANGES.map(|(name, least, _)| (name, least.to_string()));
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (asked, wrong) = parse(&typed(&fields));
        assert_eq!(wrong, Vec::<String>::new());
        let settings = asked.settings(Family::Linear, 32);
        for (name, least, _) in RANGES {
            assert_eq!(setting(&settings, name), least.to_string(), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_beside_its_field() {
        let typed = typed(&[("epochs", "many"), ("family", "forest")]);
        let (_, wrong) = parse(&typed);
        assert_eq!(
            wrong,
            [
                "family is \"forest\"; expected linear or mlp or fine_tune or separable_cnn or cnn",
                "epochs is \"many\"; expected a whole number from 1 to 1000"
            ]
        );
        let form = Form::new(&[DEFAULT_BACKBONE.to_owned()], 32, "classifier", &typed, &wrong);
        assert_eq!(form.numbers[0].error.as_ref(), Some(&wrong[1]));
        assert_eq!(form.numbers[0].value, "many");
        assert_eq!(form.errors, wrong[..1]);
    }

    #[test]
    fn linear_is_offered_only_with_a_backbone() {
        let offered = |backbones: &[String]| {
            let form = Form::new(backbones, 32, "classifier", &Typed::new(), &[]);
            form.families.iter().map(|choice| choice.value).collect::<Vec<_>>()
        };
        assert_eq!(offered(&[DEFAULT_BACKBONE.to_owned()]), ["", "linear", "mlp", "fine_tune", "separable_cnn", "cnn"]);
        assert_eq!(offered(&[]), ["", "separable_cnn", "cnn"]);
    }
}
