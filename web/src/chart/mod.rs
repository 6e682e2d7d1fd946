//! Charts as SVG and as tables: drawn here, so that a page shows the same chart live, finished, printed and saved.
//!
//! Colours are presentation attributes, which the page's style overrules: a chart that is saved stands alone, one in a
//! page follows its dark mode. No series is told apart by its colour alone.

mod balance;
mod bars;
mod best;
mod calibration;
mod comparison;
mod confusion;
mod curves;
mod matrix;
mod plot;
mod scale;
mod search;
mod table;

use askama::Template;

pub use balance::{classes, imbalance};
pub use best::best;
pub use calibration::reliability;
pub use comparison::{compared, side_by_side};
pub use confusion::{confusion, per_class};
pub use curves::{curves, epochs};
pub use scale::scientific;
pub use search::{by_resolution, by_work, search};
pub use table::{Cell, Table};

use self::{bars::Bars, matrix::Matrix, plot::Plot};

/// A chart with its title, its table and the address of its downloads.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name in addresses and ids.
    pub id: &'static str,
    /// Heading.
    pub title: String,
    drawing: Option<Drawing>,
    /// The same as figures.
    pub table: Table,
    /// Whether the table is shown beneath the chart; several charts may share one that is shown elsewhere.
    pub has_own_table: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Drawing {
    Plot(Box<Plot>),
    Bars(Bars),
    Matrix(Matrix),
}

/// What every drawing has.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    id: &'static str,
    title: String,
    /// What is to be seen, for those who do not see it.
    description: String,
    width: f64,
    height: f64,
    /// Whether it is a file of its own, with title and background.
    alone: bool,
}

impl Drawing {
    fn render(&self, alone: bool) -> askama::Result<String> {
        let mut drawing = self.clone();
        match &mut drawing {
            Self::Plot(plot) => {
                plot.frame.alone = alone;
                plot.render()
            }
            Self::Bars(bars) => {
                bars.frame.alone = alone;
                bars.render()
            }
            Self::Matrix(matrix) => {
                matrix.frame.alone = alone;
                matrix.render()
            }
        }
    }
}

impl Figure {
    /// Whether there is more than a table.
    pub fn is_drawn(&self) -> bool {
        self.drawing.is_some()
    }

    /// As part of a page.
    ///
    /// # Errors
    /// If it cannot be rendered.
    pub fn inline(&self) -> askama::Result<String> {
        self.drawing.as_ref().map_or_else(|| Ok(String::new()), |drawing| drawing.render(false))
    }

    /// As a file of its own; none where there is only a table.
    ///
    /// # Errors
    /// If it cannot be rendered.
    pub fn alone(&self) -> askama::Result<Option<String>> {
        self.drawing.as_ref().map(|drawing| drawing.render(true)).transpose()
    }
}

/// Width of a text of the drawings' size, roughly: fonts differ.
fn text_width(text: &str) -> f64 {
    6.6 * text.chars().count() as f64
}

/// `text`, shortened to so many letters.
fn shortened(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let kept: String = text.chars().take(letters.saturating_sub(1)).collect();
    format!("{kept}…")
}
