//! Axes: which round numbers stand beside them, and where.

use std::borrow::Borrow;

/// An axis from `least` on in `n` equal steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// What is told along it, with its unit.
    pub label: &'static str,
    /// Value at its beginning.
    pub least: f64,
    /// From mark to mark.
    pub step: f64,
    /// How many steps.
    pub n: u32,
    /// How values are told.
    pub kind: Kind,
}

/// How values are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A share of 1 as a percentage.
    Percent,
    /// A number.
    Number,
}

impl Scale {
    /// Value at its end.
    pub fn most(&self) -> f64 {
        self.least + f64::from(self.n) * self.step
    }

    /// Where a value lies: 0 at the beginning, 1 at the end.
    pub fn at(&self, value: f64) -> f64 {
        ((value - self.least) / (self.most() - self.least)).clamp(0.0, 1.0)
    }

    /// Every mark: its place and its text.
    pub fn marks(&self) -> Vec<(f64, String)> {
        let value = |n: u32| self.least + f64::from(n) * self.step;
        (0..=self.n).map(|n| (self.at(value(n)), self.text(value(n)))).collect()
    }

    /// A value as it stands beside the axis.
    fn text(&self, value: f64) -> String {
        match self.kind {
            Kind::Percent => format!("{:.*}", decimals(100.0 * self.step), 100.0 * value),
            Kind::Number if value == 0.0 => "0".to_owned(),
            Kind::Number if self.step < 1e-3 => scientific(value),
            Kind::Number => format!("{value:.*}", decimals(self.step)),
        }
    }

    /// Shares of 1: all of them, or their upper part where nothing lies lower.
    pub fn shares(label: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let lowest = values.filter(|value| value.is_finite()).fold(1.0, f64::min);
        let (least, step, n) = match lowest {
            _ if lowest >= 0.8 => (0.8, 0.05, 4),
            _ if lowest >= 0.5 => (0.5, 0.1, 5),
            _ => (0.0, 0.25, 4),
        };
        Self { label, least, step, n, kind: Kind::Percent }
    }

    /// From 0 to a round number above every value.
    pub fn from_zero(label: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let highest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        Self { label, least: 0.0, step: nice_step(highest / 4.0), n: 4, kind: Kind::Number }
    }

    /// Counted from 1, with few whole marks.
    pub fn counted(label: &'static str, most: u32) -> Self {
        let gaps = most.max(2) - 1;
        let n = [4, 3, 2].into_iter().find(|n| gaps.is_multiple_of(*n)).unwrap_or(1);
        Self { label, least: 1.0, step: f64::from(gaps / n), n, kind: Kind::Number }
    }
}

/// `0.0005` as `5e-4`, with at most three digits.
pub fn scientific(value: impl Borrow<f64>) -> String {
    let value = *value.borrow();
    let text = format!("{value:.2e}");
    match text.split_once('e') {
        Some((digits, power)) => format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.')),
        None => text,
    }
}

/// The least round number that is not below `least`.
pub fn nice_step(least: f64) -> f64 {
    let least = if least.is_finite() && least > 1e-9 { least } else { 0.25 };
    let power = 10f64.powf(least.log10().floor());
    let factors = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0, 10.0];
    factors.into_iter().map(|factor| factor * power).find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// Digits after the point that a step of this size needs.
fn decimals(step: f64) -> usize {
    (0..9u8)
        .find(|n| {
            let scaled = step * 10f64.powi(i32::from(*n));
            (scaled - scaled.round()).abs() < 1e-6
        })
        .map_or(9, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<String> {
        scale.marks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn the_scale_reaches_above_the_highest_value_in_round_steps() {
        for (least, step) in [(0.31, 0.4), (0.2, 0.2), (0.21, 0.25), (0.0, 0.25), (9.0, 10.0), (0.012, 0.015)] {
            assert!((nice_step(least) - step).abs() < 1e-9, "{least} gave {}", nice_step(least));
        }
        assert_eq!([decimals(0.25), decimals(0.02), decimals(5.0), decimals(0.3)], [2, 2, 0, 1]);
        assert_eq!(texts(&Scale::from_zero("", [0.7, f64::NAN].into_iter())), ["0", "0.2", "0.4", "0.6", "0.8"]);
        let rates = Scale::from_zero("", [4e-4].into_iter());
        assert_eq!(texts(&rates), ["0", "1e-4", "2e-4", "3e-4", "4e-4"]);
    }

    #[test]
    fn shares_that_all_are_high_are_shown_enlarged() {
        assert_eq!(texts(&Scale::shares("", [0.3, 0.9].into_iter())), ["0", "25", "50", "75", "100"]);
        assert_eq!(texts(&Scale::shares("", [0.6].into_iter())), ["50", "60", "70", "80", "90", "100"]);
        assert_eq!(texts(&Scale::shares("", [0.93, 1.0].into_iter())), ["80", "85", "90", "95", "100"]);
        assert_eq!(texts(&Scale::shares("", [].into_iter())).len(), 5);
    }

    #[test]
    fn counts_have_whole_marks_from_one_to_the_last() {
        for (most, marks) in [(1, vec!["1", "2"]), (13, vec!["1", "4", "7", "10", "13"]), (12, vec!["1", "12"])] {
            assert_eq!(texts(&Scale::counted("", most)), marks);
        }
    }

    #[test]
    fn a_value_outside_stays_at_the_edge() {
        let scale = Scale { label: "", least: 0.5, step: 0.1, n: 5, kind: Kind::Percent };
        assert_eq!([scale.at(0.0), scale.at(0.75), scale.at(2.0)], [0.0, 0.5, 1.0]);
    }
}
