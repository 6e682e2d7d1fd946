//! Two runs side by side.

use api::{
    compare::{Better, Comparison, Group, Row, Side, Unit, Value},
    train::Family,
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

/// Groups and their headings, the most telling first.
const GROUPS: [(Group, &str); 6] = [
    (Group::Figures, "Figures"),
    (Group::Classes, "F1 by class"),
    (Group::Cost, "Cost"),
    (Group::Settings, "Settings"),
    (Group::Data, "Pictures"),
    (Group::Run, "What was asked for"),
];

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
        let groups = GROUPS.into_iter().map(|(group, heading)| Rows {
            heading,
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

fn value(value: &Option<Value>, unit: &Unit) -> String {
    match (value, unit) {
        (None, _) => "–".into(),
        (Some(Value::Text(text)), _) => match Family::ALL.into_iter().find(|family| family.name() == text) {
            Some(family) => words::family_short(family).to_owned(),
            None => text.clone(),
        },
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

/// How far apart two numbers are, with what it means in words.
fn difference(row: &Row) -> String {
    let apart = match (&row.a, &row.b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) if row.unit == Unit::Share => {
            format!("{:+.1} points", 100.0 * (b - a))
        }
        _ => String::new(),
    };
    match row.better {
        Some(Better::A) => format!("A is better {apart}"),
        Some(Better::B) => format!("B is better {apart}"),
        None if row.differs => format!("differs {apart}"),
        None => "same".into(),
    }
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
        assert_eq!(difference(&row(Unit::Share, 0.9, 0.925, Some(Better::B))), "B is better +2.5 points");
        assert_eq!(difference(&row(Unit::None, 1.0, 2.0, None)), "differs ");
        assert_eq!(difference(&row(Unit::Share, 0.5, 0.5, None)), "same");
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
