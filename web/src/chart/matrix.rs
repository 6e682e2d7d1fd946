//! A matrix of counts as shaded cells.

use askama::Template;

use super::{Frame, shortened};

const CELL: f64 = 44.0;
const NAMES: f64 = 130.0;
const HEADS: f64 = 96.0;
const LONGEST_NAME: usize = 16;

/// A drawing; rows are true classes, columns predicted ones.
#[derive(Clone, Debug, PartialEq, Template)]
#[template(path = "chart/matrix.svg", escape = "html")]
pub struct Matrix {
    pub(super) frame: Frame,
    heads: Vec<(f64, String)>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    y: f64,
    name: String,
    cells: Vec<MatrixCell>,
}

#[derive(Clone, Debug, PartialEq)]
struct MatrixCell {
    x: f64,
    count: u64,
    colour: &'static str,
    /// Share of the row, 0..=1.
    opacity: String,
    /// Whether the row's class is the column's.
    is_hit: bool,
}

impl Matrix {
    /// Of `counts[true][predicted]`.
    pub fn new(id: &'static str, title: &str, description: String, labels: &[String], counts: &[Vec<u64>]) -> Self {
        let row = |(n, counts): (usize, &Vec<u64>)| {
            let whole = counts.iter().sum::<u64>().max(1) as f64;
            let cell = |(m, &count): (usize, &u64)| MatrixCell {
                x: NAMES + m as f64 * CELL,
                count,
                colour: if n == m { "#0f766e" } else { "#b45309" },
                opacity: format!("{:.2}", 0.6 * count as f64 / whole),
                is_hit: n == m,
            };
            Row {
                y: HEADS + n as f64 * CELL,
                name: labels.get(n).map(|label| shortened(label, LONGEST_NAME)).unwrap_or_default(),
                cells: counts.iter().enumerate().map(cell).collect(),
            }
        };
        let head = |(n, label): (usize, &String)| (NAMES + (n as f64 + 0.5) * CELL, shortened(label, LONGEST_NAME));
        let side = labels.len() as f64 * CELL;
        Self {
            heads: labels.iter().enumerate().map(head).collect(),
            rows: counts.iter().enumerate().map(row).collect(),
            frame: Frame {
                id,
                title: title.to_owned(),
                description,
                // Slanted names of columns lean out on the right.
                width: NAMES + side + 70.0,
                height: HEADS + side + 8.0,
                alone: false,
            },
        }
    }
}
