//! What the outputs of a convolution look at.

use std::ops::Range;

use ort::{Error, Result, operator::KernelContext};

/// Side of the kernel: int.
pub const KERNEL: &str = "kernel";
/// Step between outputs: int.
pub const STRIDE: &str = "stride";
/// Zeros above and to the left of what goes in: two ints. As many follow below and to the right as the outputs need.
pub const PADDING: &str = "padding";
/// Height and width of what goes in: two ints.
pub const SIDES: &str = "sides";

/// A convolution's attributes.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub kernel: usize,
    pub stride: usize,
    pub padding: [usize; 2],
}

/// Where one axis' inputs and outputs meet: of each output, or of each input, the kernel's places through which it looks or
/// is looked at, and what lies at the other end.
pub type Meetings = Vec<Vec<(usize, usize)>>;

impl Window {
    pub fn of(context: &KernelContext) -> Result<Self> {
        let window =
            Self { kernel: int(context, KERNEL)?, stride: int(context, STRIDE)?, padding: ints(context, PADDING)? };
        if window.kernel == 0 || window.stride == 0 {
            return Err(Error::new("a kernel and its stride are one at least"));
        }
        Ok(window)
    }

    /// What each output along an axis looks at.
    pub fn looks(&self, axis: usize, inputs: usize, outputs: usize) -> Meetings {
        let of = |output: usize| {
            let places = 0..self.kernel;
            let at = |place: usize| (output * self.stride + place).checked_sub(self.padding[axis]);
            places.filter_map(|place| at(place).filter(|&input| input < inputs).map(|input| (place, input))).collect()
        };
        (0..outputs).map(of).collect()
    }

    /// What looks at each input along an axis.
    pub fn seen(&self, axis: usize, inputs: usize, outputs: usize) -> Meetings {
        let mut seen = vec![vec![]; inputs];
        for (output, looks) in self.looks(axis, inputs, outputs).into_iter().enumerate() {
            for (place, input) in looks {
                seen[input].push((place, output));
            }
        }
        seen
    }

    /// The outputs along an axis that look at an input through this place of the kernel.
    pub fn through(&self, axis: usize, place: usize, inputs: usize, outputs: usize) -> Range<usize> {
        let padding = self.padding[axis];
        let first = padding.saturating_sub(place).div_ceil(self.stride);
        let end = (inputs + padding).saturating_sub(place).div_ceil(self.stride).min(outputs);
        first..end.max(first)
    }
}

pub fn int(context: &KernelContext, name: &str) -> Result<usize> {
    let int = context.get::<i64>(name).and_then(|int| usize::try_from(int).ok());
    int.ok_or_else(|| Error::new(format!("attribute {name} is missing")))
}

pub fn ints<const N: usize>(context: &KernelContext, name: &str) -> Result<[usize; N]> {
    let ints = context.get::<Vec<i64>>(name).unwrap_or_default();
    let ints: Option<Vec<usize>> = ints.into_iter().map(|int| usize::try_from(int).ok()).collect();
    ints.and_then(|ints| ints.try_into().ok()).ok_or_else(|| Error::new(format!("attribute {name} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_and_outputs_meet_alike_from_all_sides() {
        let mut met = 0;
        for (kernel, stride, padding) in [(3, 1, 1), (3, 2, 0), (3, 2, 1), (5, 1, 2), (5, 2, 1), (1, 2, 0), (5, 2, 2)] {
            let window = Window { kernel, stride, padding: [padding, 9] };
            for inputs in 1..8_usize {
                let outputs = inputs.div_ceil(stride);
                let all = |meetings: Meetings| {
                    meetings.into_iter().enumerate().flat_map(|(at, met)| met.into_iter().map(move |(p, o)| (p, at, o)))
                };
                let mut looks: Vec<_> = all(window.looks(0, inputs, outputs)).collect();
                let mut seen: Vec<_> = all(window.seen(0, inputs, outputs)).map(|(p, i, o)| (p, o, i)).collect();
                let through = |place| {
                    let outputs = window.through(0, place, inputs, outputs);
                    outputs.map(move |output| (place, output, output * stride + place - padding))
                };
                let through: Vec<_> = (0..kernel).flat_map(through).collect();
                looks.sort_unstable();
                seen.sort_unstable();
                assert_eq!(looks, seen, "{window:?} over {inputs}");
                assert_eq!(looks, through, "{window:?} over {inputs}");
                assert!(looks.iter().all(|&(place, output, input)| output * stride + place == input + padding));
                met += looks.len();
            }
        }
        assert!(met > 300);
    }
}
