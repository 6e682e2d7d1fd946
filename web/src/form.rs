//! The form of a run's settings: fields with their defaults and ranges, and the way back from what was typed.

use std::collections::HashMap;

use api::{
    ErrorCode,
    backbone::Installed,
    train::{Augmentation, BUDGET_RANGE, Family, Hyperparameters, RANGES, Settings},
};

use serde_json::Value;

use crate::{
    error::{Result, WebError},
    words,
};

const BUDGET: &str = "budget_seconds";
const BUDGET_LABEL: &str = "Time for the search in seconds";

/// What is chosen where nothing is.
const DEFAULT: &str = "default (with Auto: searched for)";

/// What was typed, by field.
pub type Typed = HashMap<String, String>;

/// The form as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// Seconds that a search may take.
    pub budget: Number,
    /// Choices of the family, none first: the search chooses.
    pub families: Vec<Choice>,
    /// Choices of the backbone.
    pub backbones: Vec<Choice>,
    /// Choices of the augmentation.
    pub augmentations: Vec<Choice>,
    /// Whether the mirrored picture is looked at too.
    pub mirrored: Vec<Choice>,
    /// Everything else that is a number.
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
    pub value: String,
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
    /// Name of the only family that it is for, if it is not for all.
    pub only: Option<&'static str>,
    /// What is worth knowing beside its name.
    pub hint: Option<&'static str>,
    /// Each family with its default.
    pub defaults: Vec<(Family, String)>,
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
    "Longest gradient (gradient clipping; 0: any)",
    "Average of weights (EMA; 0: none)",
    "Hidden units",
    "Trained blocks",
    "Seed",
    "Patience (0: never stop early)",
    "Input size in pixels",
];

impl Form {
    /// The form with what was typed and what is wrong with it.
    ///
    /// A sentence of `wrong` that begins with a number's name is shown beside that number.
    pub fn new(
        backbones: &[Installed],
        picture_side: u32,
        default_model: &str,
        typed: &Typed,
        wrong: &[String],
    ) -> Self {
        let typed_of = |name: &str| typed.get(name).map(String::as_str).unwrap_or_default();
        let offered: Vec<_> =
            Family::ALL.into_iter().filter(|family| !backbones.is_empty() || !family.has_backbone()).collect();
        let error_of = |name: &str| wrong.iter().find(|sentence| concerns(sentence, name)).map(|one| by_label(one));
        let number = |(&(name, least, most), label): (&(&'static str, f64, f64), &'static str)| Number {
            name,
            label,
            least,
            most,
            step: if is_whole(name) { "1" } else { "any" },
            value: typed_of(name).to_owned(),
            only: only(name).map(Family::name),
            defaults: offered
                .iter()
                .filter(|family| only(name).is_none_or(|only| only == **family))
                .map(|family| (*family, setting(&Settings::defaults(*family, picture_side), name)))
                .collect(),
            hint: (name == "input_size").then_some("smaller is faster, and the network sees less detail"),
            error: error_of(name),
        };
        let numbers: Vec<_> = RANGES.iter().zip(LABELS).map(number).collect();
        let budget = Number {
            name: BUDGET,
            label: BUDGET_LABEL,
            least: BUDGET_RANGE.0,
            most: BUDGET_RANGE.1,
            step: "any",
            value: typed_of(BUDGET).to_owned(),
            only: None,
            hint: None,
            defaults: vec![],
            error: error_of(BUDGET),
        };
        let families = offered.iter().map(|f| Choice::new(f.name(), words::family(f), typed_of("family")));
        let backbone = |known: &Installed| Choice::new(&known.name, &known.name, typed_of("backbone"));
        let change = |one: Augmentation| Choice::new(one.name(), words::augmentation(one), typed_of("augmentation"));
        let beside = |sentence: &&String| numbers.iter().chain([&budget]).any(|number| concerns(sentence, number.name));
        Self {
            families: [Choice::new("", "Auto: search for the best", typed_of("family"))]
                .into_iter()
                .chain(families)
                .collect(),
            backbones: [Choice::new("", DEFAULT, typed_of("backbone"))]
                .into_iter()
                .chain(backbones.iter().map(backbone))
                .collect(),
            augmentations: [Choice::new("", DEFAULT, typed_of("augmentation"))]
                .into_iter()
                .chain(Augmentation::ALL.map(change))
                .collect(),
            mirrored: [("", DEFAULT), ("yes", "yes, at twice the cost"), ("no", "no")]
                .map(|(value, text)| Choice::new(value, text, typed_of("mirrored")))
                .into(),
            model: typed.get("model").cloned().unwrap_or_else(|| default_model.to_owned()),
            errors: wrong.iter().filter(|sentence| !beside(sentence)).map(|one| by_label(one)).collect(),
            numbers,
            budget,
        }
    }
}

impl Choice {
    fn new(value: &str, text: &str, typed: &str) -> Self {
        Self { value: value.to_owned(), text: text.to_owned(), chosen: value == typed }
    }
}

/// A sentence that begins with the name of a field, with the field's label in its place.
fn by_label(sentence: &str) -> String {
    let Some((name, rest)) = sentence.split_once(' ') else { return sentence.to_owned() };
    let numbers = RANGES.iter().map(|(name, ..)| *name).zip(LABELS);
    let others = [
        (BUDGET, BUDGET_LABEL),
        ("family", "Family"),
        ("backbone", "Backbone"),
        ("augmentation", "Random changes"),
        ("mirrored", "Look at the mirrored picture too"),
        ("model", "Publish as"),
    ];
    match numbers.chain(others).find(|(known, _)| *known == name) {
        // What stands in brackets explains the label, not the mistake.
        Some((_, label)) => format!("{} {rest}", label.split(" (").next().unwrap_or(label)),
        None => sentence.to_owned(),
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

/// The only family that has this setting.
fn only(name: &str) -> Option<Family> {
    match name {
        "hidden_units" => Some(Family::Mlp),
        "trained_blocks" => Some(Family::FineTune),
        _ => None,
    }
}

/// What was typed as hyperparameters, and one sentence for each field that cannot be read. Those fields, like empty
/// ones, take the default. What is not for the chosen family, which the page hides, is passed over.
pub fn parse(typed: &Typed) -> (Hyperparameters, Vec<String>) {
    let mut wrong = vec![];
    let family = choice(typed, "family", &Family::ALL.map(|family| (family.name(), family)), &mut wrong);
    let has_backbone = family.is_none_or(Family::has_backbone);
    let asked = Hyperparameters {
        family,
        budget_seconds: if family.is_none() { number(typed, BUDGET, &mut wrong) } else { None },
        backbone: filled(typed, "backbone").filter(|_| has_backbone).map(str::to_owned),
        augmentation: choice(typed, "augmentation", &Augmentation::ALL.map(|one| (one.name(), one)), &mut wrong),
        epochs: number(typed, "epochs", &mut wrong),
        batch_size: number(typed, "batch_size", &mut wrong),
        learning_rate: number(typed, "learning_rate", &mut wrong),
        weight_decay: number(typed, "weight_decay", &mut wrong),
        dropout: number(typed, "dropout", &mut wrong),
        label_smoothing: number(typed, "label_smoothing", &mut wrong),
        mixup: number(typed, "mixup", &mut wrong),
        clip_norm: number(typed, "clip_norm", &mut wrong),
        weight_average: number(typed, "weight_average", &mut wrong),
        hidden_units: number(typed, "hidden_units", &mut wrong),
        trained_blocks: number(typed, "trained_blocks", &mut wrong),
        mirrored: choice(typed, "mirrored", &[("yes", true), ("no", false)], &mut wrong),
        seed: number(typed, "seed", &mut wrong),
        patience: number(typed, "patience", &mut wrong),
        input_size: number(typed, "input_size", &mut wrong),
    };
    (asked, wrong)
}

/// The form as somebody would have filled it in who asked for this; the way back from [`parse`].
pub fn typed(asked: &Hyperparameters, model: &str) -> Typed {
    let fields = serde_json::to_value(asked).ok().and_then(|asked| asked.as_object().cloned()).unwrap_or_default();
    let fields = fields.into_iter().map(|(name, value)| match value {
        Value::String(text) => (name, text),
        Value::Bool(yes) => (name, if yes { "yes" } else { "no" }.to_owned()),
        // Whole seconds without a fraction, as people type them.
        number => (name, number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string())),
    });
    fields.chain([("model".to_owned(), model.to_owned())]).collect()
}

/// Whether more is filled in than the time for a search and the name to publish under.
pub fn has_settings(typed: &Typed) -> bool {
    typed.keys().any(|name| name != BUDGET && name != "model" && filled(typed, name).is_some())
}

/// Whether the box beside a question of no return is ticked.
///
/// # Errors
/// `Unprocessable` if it is not.
pub fn confirmed(typed: &Typed) -> Result<()> {
    match filled(typed, "sure") {
        Some(_) => Ok(()),
        None => Err(WebError::refused(ErrorCode::Unprocessable, "nothing is deleted unless the box is ticked")),
    }
}

fn filled<'a>(typed: &'a Typed, name: &str) -> Option<&'a str> {
    typed.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn number<T: std::str::FromStr>(typed: &Typed, name: &str, wrong: &mut Vec<String>) -> Option<T> {
    let value = filled(typed, name)?;
    let parsed = value.parse().ok();
    if parsed.is_none() {
        let kind = if is_whole(name) { "a whole number" } else { "a number" };
        let budget = (BUDGET, BUDGET_RANGE.0, BUDGET_RANGE.1);
        let range = RANGES.iter().chain([&budget]).find(|(range, ..)| *range == name);
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
    use api::{backbone::BuiltIn, train::DEFAULT_BACKBONE};

    use super::*;

    fn usual() -> Vec<Installed> {
        BuiltIn::named(DEFAULT_BACKBONE).into_iter().map(Installed::from).collect()
    }

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
        let form = Form::new(&usual(), 32, "classifier", &typed, &wrong);
        let beside = form.numbers[0].error.as_deref();
        assert_eq!(beside, Some("Epochs is \"many\"; expected a whole number from 1 to 1000"));
        assert_eq!(form.numbers[0].value, "many");
        assert_eq!(form.errors, ["Family is \"forest\"; expected linear or mlp or fine_tune or separable_cnn or cnn"]);
    }

    #[test]
    fn mistakes_are_told_by_the_labels_of_their_fields() {
        assert_eq!(by_label("budget_seconds is 1; expected 5"), "Time for the search in seconds is 1; expected 5");
        assert_eq!(by_label("clip_norm is -1; expected 0"), "Longest gradient is -1; expected 0");
        assert_eq!(by_label("there is no backbone \"x\""), "there is no backbone \"x\"");
    }

    #[test]
    fn what_was_asked_for_fills_in_a_form_that_asks_for_it_again() {
        let asked = Hyperparameters {
            family: Some(Family::FineTune),
            backbone: Some("mine".into()),
            epochs: Some(7),
            learning_rate: Some(5e-4),
            augmentation: Some(Augmentation::FlipShift),
            mirrored: Some(false),
            trained_blocks: Some(3),
            ..Hyperparameters::default()
        };
        assert_eq!(parse(&super::typed(&asked, "pets")), (asked.clone(), vec![]));
        let search = Hyperparameters { budget_seconds: Some(300.0), ..Hyperparameters::default() };
        assert_eq!(parse(&super::typed(&search, "pets")), (search.clone(), vec![]));
        assert!(has_settings(&super::typed(&asked, "pets")) && !has_settings(&super::typed(&search, "pets")));
    }

    #[test]
    fn a_search_has_a_budget_and_a_family_has_none() {
        let asked = |fields: &[(&str, &str)]| parse(&typed(fields)).0;
        assert_eq!(asked(&[("budget_seconds", "60.5")]).budget_seconds, Some(60.5));
        let cnn = asked(&[("family", "cnn"), ("budget_seconds", "60"), ("backbone", "mine")]);
        assert_eq!((cnn.budget_seconds, cnn.backbone), (None, None));
        assert_eq!(asked(&[("family", "mlp"), ("backbone", "mine")]).backbone.as_deref(), Some("mine"));
        let (_, wrong) = parse(&typed(&[("budget_seconds", "long")]));
        assert_eq!(wrong, ["budget_seconds is \"long\"; expected a number from 5 to 86400"]);
    }

    #[test]
    fn every_family_shows_its_own_defaults() {
        let form = Form::new(&usual(), 32, "classifier", &Typed::new(), &[]);
        let defaults = |name: &str| &form.numbers.iter().find(|number| number.name == name).expect("a field").defaults;
        assert_eq!(defaults("epochs").len(), Family::ALL.len());
        assert_eq!(defaults("hidden_units"), &[(Family::Mlp, "256".to_owned())]);
        assert!(defaults("input_size").contains(&(Family::Cnn, "32".to_owned())));
    }

    #[test]
    fn linear_is_offered_only_with_a_backbone() {
        let offered = |backbones: &[Installed]| {
            let form = Form::new(backbones, 32, "classifier", &Typed::new(), &[]);
            form.families.into_iter().map(|choice| choice.value).collect::<Vec<_>>()
        };
        assert_eq!(offered(&usual()), ["", "linear", "mlp", "fine_tune", "separable_cnn", "cnn"]);
        assert_eq!(offered(&[]), ["", "separable_cnn", "cnn"]);
    }
}
