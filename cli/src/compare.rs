//! `fovea compare`: two runs side by side, what differs marked.

use std::io::Write;

use anyhow::Result;
use api::{
    compare::{Better, Compared, Comparison, Group, Row, Unit, Value, compare},
    train::{Results, RunState},
};
use clap::Args;
use store::{Run, Volumes};

use crate::{
    pick, screen,
    table::{Side, Table},
    view, words,
};

/// What `fovea compare` can be told.
#[derive(Args)]
pub struct Options {
    /// A run by its id, the beginning of its id, its name, or `latest`
    a: String,
    /// The other one
    b: String,

    /// Only what differs
    #[arg(long)]
    differences: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Puts two runs side by side.
pub fn run(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    let a = Known::of(volumes, pick::run(volumes, &options.a)?)?;
    let b = Known::of(volumes, pick::run(volumes, &options.b)?)?;
    let mut comparison = compare(a.compared(), b.compared());
    if options.differences {
        comparison.rows.retain(|row| row.differs);
    }
    if options.json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&comparison)?)?);
    }
    print(&comparison, screen::columns(), out)
}

/// All that is known of a run.
struct Known {
    run: Run,
    name: String,
    state: api::train::RunState,
    results: Option<Results>,
    classes: Option<Vec<api::dataset::ClassCount>>,
}

impl Known {
    fn of(volumes: &Volumes, run: Run) -> Result<Self> {
        let classes = volumes.dataset(&run.spec.dataset).ok().map(|dataset| dataset.manifest.classes);
        Ok(Self { name: run.label()?.name, state: run.status()?.state, results: run.results()?, classes, run })
    }

    fn compared(&self) -> Compared<'_> {
        Compared {
            spec: &self.run.spec,
            name: &self.name,
            state: self.state,
            results: self.results.as_ref(),
            classes: self.classes.as_deref(),
        }
    }
}

fn print(comparison: &Comparison, columns: usize, out: &mut impl Write) -> Result<()> {
    let Comparison { a, b, notes, rows } = comparison;
    let mut table = Table::new([("", Side::Left), ("", Side::Left), ("A", Side::Right), ("B", Side::Right)]);
    let empty = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
    table.row([mark(a.run != b.run, None), "run".into(), a.run.clone(), b.run.clone()]);
    table.row([mark(a.name != b.name, None), "name".into(), empty(&a.name), empty(&b.name)]);
    let states = [a.state, b.state].map(RunState::name);
    table.row([mark(a.state != b.state, None), "state".into(), states[0].into(), states[1].into()]);
    for group in Group::ALL {
        let mut rows = rows.iter().filter(|row| row.group == group).peekable();
        if rows.peek().is_some() {
            table.row([String::new(), group.heading().to_uppercase(), String::new(), String::new()]);
        }
        for Row { what, unit, a, b, differs, better, .. } in rows {
            let what = if group == Group::Classes { what.clone() } else { what.replace('_', " ") };
            table.row([mark(*differs, *better), format!("  {what}"), value(a, *unit), value(b, *unit)]);
        }
    }
    table.print(out)?;
    writeln!(out)?;
    writeln!(out, "* differs; a or b: that one is better")?;
    let mut lines = vec![];
    notes.iter().for_each(|note| view::wrap(note, 0, columns, &mut lines));
    Ok(lines.iter().try_for_each(|line| writeln!(out, "{line}"))?)
}

fn mark(differs: bool, better: Option<Better>) -> String {
    match better {
        Some(Better::A) => "a",
        Some(Better::B) => "b",
        None if differs => "*",
        None => "",
    }
    .to_owned()
}

fn value(value: &Option<Value>, unit: Unit) -> String {
    match (value, unit) {
        (None, _) => "-".to_owned(),
        (Some(Value::Text(text)), _) => text.clone(),
        (Some(Value::Number(n)), Unit::Share) => format!("{n:.3}"),
        (Some(Value::Number(n)), Unit::Seconds) => words::seconds(*n),
        (Some(Value::Number(n)), Unit::Milliseconds) => format!("{n:.1} ms"),
        // A count of bytes is whole and not negative.
        (Some(Value::Number(n)), Unit::Bytes) => words::bytes(*n as u64),
        (Some(Value::Number(n)), Unit::None) if n.fract() == 0.0 => format!("{n}"),
        (Some(Value::Number(n)), Unit::None) if n.abs() < 0.001 => format!("{n:e}"),
        (Some(Value::Number(n)), Unit::None) => {
            let text = format!("{n:.4}");
            text.trim_end_matches('0').to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_say_something() {
        let shown = |n, unit| value(&Some(Value::Number(n)), unit);
        assert_eq!([0.0, 30.0, 0.25, 0.123_456].map(|n| shown(n, Unit::None)), ["0", "30", "0.25", "0.1235"]);
        assert_eq!(shown(0.0005, Unit::None), "5e-4");
        assert_eq!(shown(0.9375, Unit::Share), "0.938");
        assert_eq!(shown(14_200_000.0, Unit::Bytes), "14.2 MB");
        assert_eq!(shown(90.0, Unit::Seconds), "1 min 30 s");
        assert_eq!(value(&None, Unit::Share), "-");
    }
}
