//! Tables of text: columns of one width each, words to the left and numbers to the right.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

const INDENT: &str = "  ";

/// On which side the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under headings.
#[derive(Clone, Debug)]
pub struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns and no rows.
    pub fn new<H: AsRef<str>>(columns: impl IntoIterator<Item = (H, Side)>) -> Self {
        let (headings, sides): (Vec<_>, _) = columns.into_iter().map(|(h, side)| (clean(h.as_ref()), side)).unzip();
        Self { sides, rows: vec![headings] }
    }

    /// Adds a row; as many cells as there are columns.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell.into())).collect());
    }

    /// The headings and every row, each in one line.
    pub fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.sides.len()).map(width).collect();
        self.rows.iter().map(|row| line(row, &self.sides, &widths)).collect()
    }

    /// Columns of the screen that the widest line takes.
    pub fn width(&self) -> usize {
        self.lines().iter().map(|line| line.width()).max().unwrap_or(0)
    }

    /// Prints all lines.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        self.lines().iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

fn line(row: &[String], sides: &[Side], widths: &[usize]) -> String {
    let mut line = String::new();
    for ((cell, side), width) in row.iter().zip(sides).zip(widths) {
        // Wide characters take two columns, so that `format!` would count wrongly.
        let space = " ".repeat(width.saturating_sub(cell.width()));
        line.push_str(INDENT);
        match side {
            Side::Left => line.extend([cell, &space[..]]),
            Side::Right => line.extend([&space[..], cell]),
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// Foreign texts must not move the cursor.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_to_the_left_and_numbers_to_the_right() {
        let mut table = Table::new([("CLASS", Side::Left), ("N", Side::Right), ("NOTE", Side::Left)]);
        table.row(["ship", "12", ""]);
        table.row(["船", "3", "wide\u{1b}[2J\n"]);
        assert_eq!(table.lines(), ["  CLASS   N  NOTE", "  ship   12", "  船      3  wide[2J"]);
        assert_eq!(table.width(), 20);
    }
}
