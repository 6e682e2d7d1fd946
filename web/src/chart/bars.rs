//! Stacked bars, one beneath the other.

use askama::Template;

use super::{Frame, shortened, text_width};

const WIDTH: f64 = 360.0;
const NAMES: f64 = 116.0;
const NUMBERS: f64 = 46.0;
const ROW: f64 = 24.0;
const TOP: f64 = 30.0;
const LONGEST_NAME: usize = 16;

/// A drawing of parts that add up, in the looks `a`, `b`, `c`.
#[derive(Clone, Debug, PartialEq, Template)]
#[template(path = "chart/bars.svg", escape = "html")]
pub struct Bars {
    pub(super) frame: Frame,
    parts: Vec<(&'static str, &'static str, f64)>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    name: String,
    full_name: String,
    y: f64,
    /// Look, left edge and width.
    parts: Vec<(&'static str, f64, f64)>,
    total: u64,
    end: f64,
}

impl Bars {
    /// Of rows with their name and as many counts as there are `parts`.
    pub fn new(
        id: &'static str,
        title: &str,
        description: String,
        parts: [&'static str; 3],
        rows: &[(&str, [u64; 3])],
    ) -> Self {
        let largest = rows.iter().map(|(_, counts)| counts.iter().sum::<u64>()).max().unwrap_or(0).max(1) as f64;
        let scale = (WIDTH - NAMES - NUMBERS) / largest;
        let row = |(n, (name, counts)): (usize, &(&str, [u64; 3]))| {
            let mut left = NAMES;
            let mut drawn = vec![];
            for (look, count) in ["a", "b", "c"].into_iter().zip(counts) {
                let width = *count as f64 * scale;
                if *count > 0 {
                    drawn.push((look, left, (width - 1.0).max(0.5)));
                }
                left += width;
            }
            Row {
                name: shortened(name, LONGEST_NAME),
                full_name: (*name).to_owned(),
                y: TOP + n as f64 * ROW,
                parts: drawn,
                total: counts.iter().sum(),
                end: left + 6.0,
            }
        };
        let mut at = NAMES;
        let legend = ["a", "b", "c"].into_iter().zip(parts).map(|(look, name)| {
            let entry = (look, name, at);
            at += 30.0 + text_width(name);
            entry
        });
        Self {
            parts: legend.collect(),
            rows: rows.iter().enumerate().map(row).collect(),
            frame: Frame {
                id,
                title: title.to_owned(),
                description,
                width: WIDTH,
                height: TOP + rows.len() as f64 * ROW + 4.0,
                alone: false,
            },
        }
    }
}

/// Colour of a part on white.
fn colour(look: &str) -> &'static str {
    match look {
        "a" => "#0f766e",
        "b" => "#d98a3d",
        _ => "#b9aee3",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_row_fills_the_width_and_parts_follow_each_other() {
        let bars = Bars::new("x", "X", String::new(), ["p", "q", "r"], &[("one", [3, 0, 1]), ("two", [1, 0, 0])]);
        let parts = &bars.rows[0].parts;
        assert_eq!(parts.iter().map(|(look, ..)| *look).collect::<Vec<_>>(), ["a", "c"]);
        assert!((parts[1].1 - (NAMES + 0.75 * (WIDTH - NAMES - NUMBERS))).abs() < 1e-9, "{parts:?}");
        assert!((bars.rows[0].end - (WIDTH - NUMBERS + 6.0)).abs() < 1e-9);
        assert_eq!((bars.rows[0].total, bars.rows[1].total), (4, 1));
    }
}
