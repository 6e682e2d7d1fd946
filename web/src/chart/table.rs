//! Tables of what charts show, for pages and as CSV.

/// Columns and rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Heads of the columns; the first one names the rows.
    pub head: Vec<String>,
    /// Each as long as the head.
    pub rows: Vec<Vec<Cell>>,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// For people.
    pub shown: String,
    /// For programs.
    pub exact: String,
    /// Whether it is a number, to be set flush right.
    pub is_number: bool,
}

impl Cell {
    /// A name.
    pub fn text(text: impl Into<String>) -> Self {
        let shown = text.into();
        Self { exact: shown.clone(), shown, is_number: false }
    }

    /// A number and how it is shown.
    pub fn number(value: impl ToString, shown: impl Into<String>) -> Self {
        Self { shown: shown.into(), exact: value.to_string(), is_number: true }
    }

    /// A number and how it is shown, or a dash.
    pub fn maybe(value: Option<f64>, shown: impl Fn(f64) -> String) -> Self {
        match value {
            Some(value) => Self::number(value, shown(value)),
            None => Self { shown: "–".into(), exact: String::new(), is_number: true },
        }
    }

    /// A whole number.
    pub fn count(value: u64) -> Self {
        Self::number(value, value.to_string())
    }
}

impl Table {
    /// An empty one.
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&name| name.to_owned()).collect(), rows: vec![] }
    }

    /// Whether a column holds numbers.
    pub fn is_number(&self, column: &usize) -> bool {
        self.rows.first().and_then(|row| row.get(*column)).is_some_and(|cell| cell.is_number)
    }

    /// With the exact values.
    ///
    /// # Source
    /// RFC 4180
    pub fn csv(&self) -> String {
        let mut csv = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            csv.push_str(&cells.map(quoted).collect::<Vec<_>>().join(","));
            csv.push_str("\r\n");
        };
        line(&mut self.head.iter().map(String::as_str));
        for row in &self.rows {
            line(&mut row.iter().map(|cell| cell.exact.as_str()));
        }
        csv
    }
}

/// A text that a spreadsheet would take for a formula becomes one that it does not: labels and paths are other people's.
fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_holds_exact_values_and_no_formula() {
        let mut table = Table::new(&["class", "share"]);
        table.rows.push(vec![Cell::text("a, \"b\""), Cell::number(0.123_456, "12.3 %")]);
        table.rows.push(vec![Cell::text("=1+1"), Cell::maybe(None, |_| unreachable!())]);
        table.rows.push(vec![Cell::text("-x"), Cell::number(-0.5, "-50 %")]);
        assert_eq!(table.csv(), "class,share\r\n\"a, \"\"b\"\"\",0.123456\r\n'=1+1,\r\n'-x,-0.5\r\n");
        assert_eq!([table.is_number(&0), table.is_number(&1)], [false, true]);
    }
}
