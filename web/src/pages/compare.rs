//! Two runs side by side.

use api::{
    compare::{Better, Comparison, Group, Row, Side, Unit, Value},
    train::{Augmentation, Family},
};
use askama::Template;

use super::Charts;
use crate::{chart::Figure, words};

/// `/compare`.
#[derive(Template)]
#[template(path = "compare.html")]
pub struct Compare {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// Runs to choose from, newest first: id and what people call it.
    pub runs: Vec<(String, String)>,
    /// Ids of those that are chosen; empty for none.
    pub chosen: [String; 2],
    /// What keeps them from being compared.
    pub problem: Option<String>,
    /// What is the same and what is not.
    pub comparison: Option<Comparison>,
    /// Curves of both.
    pub curves: Vec<Figure>,
    /// Where charts are saved from.
    pub charts: Charts,
}

/// Rows under one heading.
struct Rows<'a> {
    heading: &'static str,
    rows: Vec<&'a Row>,
}

impl Compare {
    /// Name of each field, its mark, and the id that is chosen.
    fn slots(&self) -> [(&'static str, &'static str, &String); 2] {
        [("a", "A", &self.chosen[0]), ("b", "B", &self.chosen[1])]
    }

    fn groups<'a>(&self, comparison: &'a Comparison) -> Vec<Rows<'a>> {
        let groups = Group::ALL.into_iter().map(|group| Rows {
            heading: group.heading(),
            rows: comparison.rows.iter().filter(|row| row.group == group).collect(),
        });
        groups.filter(|group| !group.rows.is_empty()).collect()
    }
}

fn sides(comparison: &Comparison) -> [(&'static str, &Side); 2] {
    [("A", &comparison.a), ("B", &comparison.b)]
}

/// What a row is about, for people.
fn what(row: &Row) -> String {
    if row.group == Group::Classes { row.what.clone() } else { words::figure(&row.what) }
}

/// A family or an augmentation in words; any other text as it is.
fn named(text: &str) -> String {
    let family = Family::ALL.into_iter().find(|family| family.name() == text).map(words::family_short);
    let change = || Augmentation::ALL.into_iter().find(|one| one.name() == text).map(words::augmentation);
    family.or_else(change).unwrap_or(text).to_owned()
}

fn value(value: &Option<Value>, unit: &Unit) -> String {
    match (value, unit) {
        (None, _) => "–".into(),
        (Some(Value::Text(text)), _) => named(text),
        (Some(Value::Number(n)), Unit::Share) => words::percent(n),
        (Some(Value::Number(n)), Unit::Seconds) => words::seconds(n),
        (Some(Value::Number(n)), Unit::Milliseconds) => words::milliseconds(n),
        (Some(Value::Number(n)), Unit::Bytes) => words::bytes(n.max(0.0) as u64),
        (Some(Value::Number(n)), Unit::None) if n.fract() == 0.0 && *n >= 0.0 => words::thousands(*n as u64),
        (Some(Value::Number(n)), Unit::None) if n.abs() < 1e-3 => n.to_string(),
        (Some(Value::Number(n)), Unit::None) => {
            let text = format!("{n:.4}");
            text.trim_end_matches('0').to_owned()
        }
    }
}

/// Which is the better one, and by how much; nothing where one of them is not known.
fn difference(row: &Row) -> String {
    let by = match row.group {
        Group::Figures | Group::Classes | Group::Cost => apart(row),
        Group::Settings | Group::Data | Group::Run => None,
    };
    let by = by.map(|apart| format!(" by {apart}")).unwrap_or_default();
    match row.better {
        Some(Better::A) => format!("A is better{by}"),
        Some(Better::B) => format!("B is better{by}"),
        None if row.differs => format!("differs{by}"),
        None if row.a == row.b => "same".into(),
        None => String::new(),
    }
}

/// How far apart two numbers are, where that can be told in a few digits.
fn apart(row: &Row) -> Option<String> {
    let (Some(Value::Number(a)), Some(Value::Number(b))) = (&row.a, &row.b) else { return None };
    let apart = (a - b).abs();
    let told = match row.unit {
        Unit::Share => format!("{:.1} points", 100.0 * apart),
        Unit::None if apart < 1e-3 => return None,
        _ => value(&Some(Value::Number(apart)), &row.unit),
    };
    told.contains(|digit: char| ('1'..='9').contains(&digit)).then_some(told)
}

fn is_better(row: &Row, which: Better) -> bool {
    row.better == Some(which)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(unit: Unit, a: f64, b: f64, better: Option<Better>) -> Row {
        let (a, b) = (Some(Value::Number(a)), Some(Value::Number(b)));
        Row { group: Group::Figures, what: "test_ece".into(), unit, differs: a != b, a, b, better }
    }

    #[test]
    fn a_difference_is_told_in_words_and_points() {
        let told = |unit, a, b, better| difference(&row(unit, a, b, better));
        assert_eq!(told(Unit::Share, 0.9, 0.925, Some(Better::B)), "B is better by 2.5 points");
        assert_eq!(told(Unit::Share, 0.925, 0.9, Some(Better::A)), "A is better by 2.5 points");
        assert_eq!(told(Unit::Share, 0.9, 0.9001, Some(Better::B)), "B is better", "never by 0.0 points");
        assert_eq!(told(Unit::None, 0.5, 0.75, Some(Better::A)), "A is better by 0.25");
        assert_eq!(told(Unit::None, 5e-4, 6e-4, None), "differs");
        assert_eq!(told(Unit::Seconds, 90.0, 30.0, Some(Better::B)), "B is better by 1 min 0 s");
        assert_eq!(told(Unit::None, 1.0, 2.0, None), "differs by 1");
        assert_eq!(told(Unit::Share, 0.5, 0.5, None), "same");
        let lacking = Row { b: None, differs: false, ..row(Unit::Share, 0.5, 0.5, None) };
        assert_eq!(difference(&lacking), "");
    }

    #[test]
    fn values_are_told_in_their_units() {
        let told = |unit, n| value(&Some(Value::Number(n)), &unit);
        assert_eq!(told(Unit::Share, 0.5), "50.0 %");
        assert_eq!(told(Unit::None, 0.25), "0.25");
        assert_eq!(told(Unit::None, 32.0), "32");
        assert_eq!(told(Unit::None, 0.0005), "0.0005");
        assert_eq!(told(Unit::Milliseconds, 4.0), "4.0 ms");
        assert_eq!(value(&None, &Unit::Share), "–");
    }
}
