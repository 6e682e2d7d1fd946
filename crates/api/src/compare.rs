//! Two runs side by side, as data. Where what is compared lies, and how it is shown, is others' business.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    dataset::{ClassCount, Split},
    train::{CandidateState, Results, RunSpec, RunState, Settings},
};

/// What is known of one of the runs.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// What was asked for.
    pub spec: &'a RunSpec,
    /// What people call it; empty for nothing.
    pub name: &'a str,
    /// Where it stands.
    pub state: RunState,
    /// What came out, once it has succeeded.
    pub results: Option<&'a Results>,
    /// Pictures of its dataset by class and split, where the dataset is still there.
    pub classes: Option<&'a [ClassCount]>,
}

/// Two runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Comparison {
    /// The first.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// What to keep in mind, one sentence each.
    pub notes: Vec<String>,
    /// What is known of both or of one; in groups, each group's rows together.
    pub rows: Vec<Row>,
}

/// One of two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Side {
    /// Id of the run.
    pub run: String,
    /// What people call it; empty for nothing.
    pub name: String,
    /// Id of its dataset.
    pub dataset: String,
    /// Where it stands.
    pub state: RunState,
}

/// One thing about both runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Row {
    /// What it belongs to.
    pub group: Group,
    /// What it is: the name of a field of the run, its settings or its results, or a label.
    pub what: String,
    /// What its numbers count.
    pub unit: Unit,
    /// Of the first; null where it has none.
    pub a: Option<Value>,
    /// Of the second.
    pub b: Option<Value>,
    /// Whether they are not the same; not where one is not known, as before a run has results.
    pub differs: bool,
    /// Which is the better one, where one is.
    pub better: Option<Better>,
}

/// What a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Dataset, model, what was asked for.
    Run,
    /// Pictures of the dataset.
    Data,
    /// Settings of the final fit.
    Settings,
    /// Accuracies, losses, calibration.
    Figures,
    /// Weights, bytes, milliseconds.
    Cost,
    /// F1 of each class on the test split.
    Classes,
}

impl Group {
    /// All of them, the most telling first.
    pub const ALL: [Self; 6] = [Self::Figures, Self::Classes, Self::Cost, Self::Settings, Self::Data, Self::Run];

    /// What stands above its rows.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Figures => "Figures",
            Self::Classes => "F1 by class",
            Self::Cost => "Cost",
            Self::Settings => "Settings",
            Self::Data => "Pictures",
            Self::Run => "What was asked for",
        }
    }
}

/// What the numbers of a row count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nothing but themselves, or the row has texts.
    None,
    /// 0..=1.
    Share,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
}

/// One run's part of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// The better one of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The first.
    A,
    /// The second.
    B,
}

/// Which end of a row's numbers is the better one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Neither,
    More,
    Less,
}

/// Puts two runs side by side.
pub fn compare(a: Compared<'_>, b: Compared<'_>) -> Comparison {
    let mut rows = Rows { sides: [a, b], rows: vec![] };
    rows.run();
    rows.data();
    rows.settings();
    rows.figures();
    rows.cost();
    rows.classes();
    Comparison { a: side(a), b: side(b), notes: notes(a, b), rows: rows.rows }
}

fn side(run: Compared<'_>) -> Side {
    Side { run: run.spec.run.clone(), name: run.name.to_owned(), dataset: run.spec.dataset.clone(), state: run.state }
}

fn notes(a: Compared<'_>, b: Compared<'_>) -> Vec<String> {
    let mut notes = vec![];
    for (which, run) in [("first", a), ("second", b)] {
        if run.results.is_none() {
            notes.push(format!("The {which} run has no results, so only what was asked for is compared."));
        }
    }
    let (Some(of_a), Some(of_b)) = (a.results, b.results) else { return notes };
    if a.spec.dataset != b.spec.dataset {
        notes.push("The runs have different datasets: their figures are not of the same pictures.".into());
        return notes;
    }
    let pictures: u64 = of_a.confusion_matrix.iter().flatten().sum();
    if let (Some(first), Some(second)) = (of_a.test_accuracy, of_b.test_accuracy)
        && pictures > 0
    {
        let apart = ((first - second).abs() * pictures as f64).round() as u64;
        notes.push(match apart {
            0 => format!("Both are right about as many of the {pictures} test pictures."),
            1 => format!("Their test accuracies are 1 of {pictures} test pictures apart."),
            _ => format!("Their test accuracies are {apart} of {pictures} test pictures apart."),
        });
    }
    let (basis_a, basis_b) = (Basis::of(of_a), Basis::of(of_b));
    if basis_a != basis_b {
        notes.push(format!(
            "Their validation figures are not of the same pictures, so neither is the better one: those of the first run \
             are of {basis_a}, those of the second of {basis_b}."
        ));
    }
    notes
}

/// Whose answers a run's validation figures are of.
#[derive(PartialEq, Eq)]
enum Basis {
    /// Of the validation split, by the weights that were kept.
    Split,
    /// Of a search's trials: parts of a cross-validation, and rounds.
    Trials { folds: u32, rounds: u32 },
}

impl Basis {
    fn of(results: &Results) -> Self {
        let kept = results.curves.iter().find(|epoch| epoch.epoch == results.best_epoch);
        let chosen = results.leaderboard.iter().find(|one| one.state == CandidateState::Chosen);
        match (kept.and_then(|epoch| epoch.val_accuracy), chosen) {
            (None, Some(chosen)) => Self::Trials { folds: chosen.folds, rounds: chosen.rounds },
            _ => Self::Split,
        }
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split => f.write_str("the validation split"),
            Self::Trials { folds: 0, rounds } => write!(f, "the validation split after round {rounds} of a search"),
            Self::Trials { folds: 1, .. } => f.write_str("1 part of a cross-validation"),
            Self::Trials { folds, rounds } => write!(f, "{folds} parts of a cross-validation (round {rounds})"),
        }
    }
}

struct Rows<'a> {
    sides: [Compared<'a>; 2],
    rows: Vec<Row>,
}

impl Rows<'_> {
    /// Adds a row, unless neither run has anything to say.
    fn add(&mut self, group: Group, what: &str, unit: Unit, wish: Wish, of: impl Fn(&Compared<'_>) -> Option<Value>) {
        let [a, b] = self.sides.each_ref().map(of);
        if a.is_none() && b.is_none() {
            return;
        }
        let differs = a != b && self.sides.iter().all(|run| knows(run, group, what));
        let better = match (&a, &b, wish) {
            (Some(Value::Number(a)), Some(Value::Number(b)), Wish::More | Wish::Less) if differs => {
                Some(if (a > b) == (wish == Wish::More) { Better::A } else { Better::B })
            }
            _ => None,
        };
        self.rows.push(Row { group, what: what.to_owned(), unit, a, b, differs, better });
    }

    fn run(&mut self) {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let mut add = |what: &str, of: &dyn Fn(&Compared<'_>) -> Option<Value>| {
            self.add(Group::Run, what, Unit::None, Wish::Neither, of);
        };
        add("dataset", &|run| text(&run.spec.dataset));
        add("model", &|run| text(&run.spec.model));
        add("asked_for", &|run| text(run.spec.hyperparameters.family.map_or("auto", |family| family.name())));
        add("made_by", &|run| text(&run.results?.made_by));
        self.add(Group::Run, "budget_seconds", Unit::Seconds, Wish::Neither, |run| {
            run.spec.hyperparameters.budget_seconds.map(Value::Number)
        });
        self.add(Group::Run, "candidates", Unit::None, Wish::Neither, |run| {
            run.results.map(|results| Value::Number(results.leaderboard.len() as f64))
        });
    }

    fn data(&mut self) {
        for split in Split::ALL {
            self.add(Group::Data, split.name(), Unit::None, Wish::Neither, |run| {
                Some(Value::Number(run.classes?.iter().map(|class| class.of(split)).sum::<u64>() as f64))
            });
        }
        self.add(Group::Data, "classes", Unit::None, Wish::Neither, |run| {
            Some(Value::Number(run.classes?.len() as f64))
        });
    }

    fn settings(&mut self) {
        let [a, b] =
            self.sides.map(|run| run.results.map_or_else(Vec::new, |results| setting_values(&results.settings)));
        let names = if a.is_empty() { &b } else { &a };
        for (what, _) in names {
            let value = |values: &[(&str, Option<Value>)]| values.iter().find(|(name, _)| name == what)?.1.clone();
            let (a, b) = (value(&a), value(&b));
            if a.is_some() || b.is_some() {
                let differs = a != b && self.sides.iter().all(|run| knows(run, Group::Settings, what));
                let what = (*what).to_owned();
                self.rows.push(Row { group: Group::Settings, what, unit: Unit::None, a, b, differs, better: None });
            }
        }
    }

    fn figures(&mut self) {
        type Figure = fn(&Results) -> Option<f64>;
        let comparable = self.sides[0].spec.dataset == self.sides[1].spec.dataset;
        let figures: [(&str, Unit, Wish, Figure); 9] = [
            ("test_accuracy", Unit::Share, Wish::More, |r| r.test_accuracy),
            ("test_loss", Unit::None, Wish::Less, |r| r.test_loss),
            ("val_accuracy", Unit::Share, Wish::More, |r| r.val_accuracy),
            ("val_loss", Unit::None, Wish::Less, |r| r.val_loss),
            ("accuracy", Unit::Share, Wish::Neither, |r| Some(r.accuracy)),
            ("loss", Unit::None, Wish::Neither, |r| Some(r.loss)),
            ("test_ece", Unit::Share, Wish::Less, |r| r.calibration.as_ref()?.test_ece),
            ("test_unsure", Unit::Share, Wish::Neither, |r| r.calibration.as_ref()?.test_unsure),
            ("temperature", Unit::None, Wish::Neither, |r| Some(r.calibration.as_ref()?.temperature)),
        ];
        let same_basis = match self.sides.map(|run| run.results.map(Basis::of)) {
            [Some(a), Some(b)] => a == b,
            _ => false,
        };
        for (what, unit, wish, figure) in figures {
            let comparable = comparable && (same_basis || !what.starts_with("val_"));
            let wish = if comparable { wish } else { Wish::Neither };
            self.add(Group::Figures, what, unit, wish, |run| run.results.and_then(figure).map(Value::Number));
        }
    }

    fn cost(&mut self) {
        type Figure = fn(&Results) -> Option<f64>;
        let figures: [(&str, Unit, Wish, Figure); 6] = [
            ("seconds", Unit::Seconds, Wish::Less, |r| r.curves.last().map(|epoch| epoch.seconds)),
            ("epochs", Unit::None, Wish::Neither, |r| Some(r.curves.len() as f64)),
            ("best_epoch", Unit::None, Wish::Neither, |r| Some(f64::from(r.best_epoch))),
            ("parameters", Unit::None, Wish::Less, |r| Some(r.parameters as f64)),
            ("model_bytes", Unit::Bytes, Wish::Less, |r| (r.model_bytes > 0).then_some(r.model_bytes as f64)),
            ("milliseconds_per_picture", Unit::Milliseconds, Wish::Less, |r| r.milliseconds_per_picture),
        ];
        for (what, unit, wish, figure) in figures {
            self.add(Group::Cost, what, unit, wish, |run| run.results.and_then(figure).map(Value::Number));
        }
    }

    fn classes(&mut self) {
        let comparable = self.sides[0].spec.dataset == self.sides[1].spec.dataset;
        let wish = if comparable { Wish::More } else { Wish::Neither };
        let mut labels: Vec<String> = vec![];
        for label in self.sides.iter().filter_map(|run| run.results).flat_map(|results| &results.labels) {
            if !labels.contains(label) {
                labels.push(label.clone());
            }
        }
        for label in labels {
            self.add(Group::Classes, &label, Unit::Share, wish, |run| {
                run.results?.per_class.iter().find(|class| class.label == label)?.f1.map(Value::Number)
            });
        }
    }
}

/// Whether a run can have anything to say about a row by now.
fn knows(run: &Compared<'_>, group: Group, what: &str) -> bool {
    match group {
        Group::Run => run.results.is_some() || !matches!(what, "made_by" | "candidates"),
        Group::Data => run.classes.is_some(),
        Group::Settings | Group::Figures | Group::Cost | Group::Classes => run.results.is_some(),
    }
}

/// Every setting with its value, those that say most first; `None` where the family has no such thing.
fn setting_values(settings: &Settings) -> Vec<(&'static str, Option<Value>)> {
    let Settings {
        family,
        backbone,
        epochs,
        batch_size,
        learning_rate,
        weight_decay,
        dropout,
        augmentation,
        mirrored,
        label_smoothing,
        mixup,
        clip_norm,
        weight_average,
        hidden_units,
        trained_blocks,
        seed,
        patience,
        input_size,
    } = settings;
    let number = |value: f64| Some(Value::Number(value));
    let unless_none = |count: u32| (count > 0).then_some(Value::Number(f64::from(count)));
    let text = |value: &str| Some(Value::Text(value.to_owned()));
    vec![
        ("family", text(family.name())),
        ("backbone", backbone.as_deref().and_then(text)),
        ("input_size", number(f64::from(*input_size))),
        ("hidden_units", unless_none(*hidden_units)),
        ("trained_blocks", unless_none(*trained_blocks)),
        ("epochs", number(f64::from(*epochs))),
        ("batch_size", number(f64::from(*batch_size))),
        ("learning_rate", number(*learning_rate)),
        ("weight_decay", number(*weight_decay)),
        ("dropout", number(*dropout)),
        ("augmentation", text(augmentation.name())),
        ("mirrored", text(if *mirrored { "yes" } else { "no" })),
        ("label_smoothing", number(*label_smoothing)),
        ("mixup", number(*mixup)),
        ("clip_norm", number(*clip_norm)),
        ("weight_average", number(*weight_average)),
        ("patience", number(f64::from(*patience))),
        ("seed", number(*seed as f64)),
    ]
}

#[cfg(test)]
mod tests;
