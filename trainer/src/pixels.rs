//! From a dataset's pixels to a network's input, inside the graph: layout, numbers, size.
//!
//! Because this part is in every graph (training, evaluation, export), serving sees exactly what training saw.
//! Decoding and orienting pictures is not done here.

use api::model::INPUT;

use crate::{
    graph::{Builder, Value},
    onnx::Element,
};

/// How the u8 pixels of a dataset become a network's input.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelInput {
    /// Height of the dataset's pictures in pixels.
    pub height: u32,
    /// Width of the dataset's pictures in pixels.
    pub width: u32,
    /// Side in pixels of the square the network sees.
    pub size: u32,
    /// Per channel: subtracted from the 0..=255 value.
    pub mean: [f32; 3],
    /// Per channel: divides what is left.
    pub deviation: [f32; 3],
}

impl PixelInput {
    /// Shape per picture of the network's input.
    pub fn output(&self) -> Vec<i64> {
        vec![3, i64::from(self.size), i64::from(self.size)]
    }

    /// Declares the graph's input for `n` pictures, which may be [`BATCH`](crate::onnx::BATCH), and appends what turns it
    /// into the network's input.
    ///
    /// # Shapes
    /// - `images`: u8 `[n, height, width, 3]`
    /// - result: f32 `[n, 3, size, size]`
    pub fn append(&self, graph: &mut Builder, n: i64) -> Value {
        let images = graph.input(INPUT, Element::U8, &[n, i64::from(self.height), i64::from(self.width), 3]);
        let planes = graph.transpose(&images, &[0, 3, 1, 2]);
        let values = graph.cast(&planes, Element::F32);
        let mean = graph.constant("pixels.mean", &[1, 3, 1, 1], &self.mean);
        let scale = graph.constant("pixels.scale", &[1, 3, 1, 1], &self.deviation.map(|d| 1.0 / d));
        let centred = graph.sub(&values, &mean);
        let mut x = graph.mul(&centred, &scale);
        let size = i64::from(self.size);
        if self.width != self.size {
            let columns = transposed(&resampling_matrix(self.width, self.size), self.width as usize);
            let columns = graph.constant("pixels.columns", &[i64::from(self.width), size], &columns);
            x = graph.matmul(&x, &columns);
        }
        if self.height != self.size {
            let rows = resampling_matrix(self.height, self.size);
            let rows = graph.constant("pixels.rows", &[size, i64::from(self.height)], &rows);
            x = graph.matmul(&rows, &x);
        }
        x
    }
}

/// Weights that resample a line of `from` pixels to `to` pixels: cubic kernel with a = -0.5, widened when shrinking so
/// that it is antialiased, renormalised where it hangs over an edge.
///
/// # Shapes
/// result: `[to, from]`, every row sums to 1
///
/// # Source
/// Keys, "Cubic convolution interpolation for digital image processing", 1981
pub fn resampling_matrix(from: u32, to: u32) -> Vec<f32> {
    let (from, to) = (from as usize, to as usize);
    let scale = from as f64 / to as f64;
    let widening = scale.max(1.0);
    let mut matrix = Vec::with_capacity(from * to);
    for row in 0..to {
        let centre = (row as f64 + 0.5) * scale - 0.5;
        let weights: Vec<f64> = (0..from).map(|column| cubic((column as f64 - centre) / widening)).collect();
        let sum: f64 = weights.iter().sum();
        matrix.extend(weights.iter().map(|w| (w / sum) as f32));
    }
    matrix
}

/// How much a pixel this far away gives to a place: nothing from 2 pixels on.
pub fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        A * (((x - 5.0) * x + 8.0) * x - 4.0)
    } else {
        0.0
    }
}

/// The transpose of a matrix with this many columns.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(matrix: &[f32], line: &[f32]) -> Vec<f32> {
        matrix.chunks(line.len()).map(|row| row.iter().zip(line).map(|(w, x)| w * x).sum()).collect()
    }

    #[test]
    fn rows_sum_to_one() {
        for (from, to) in [(32, 224), (224, 32), (28, 28), (1, 8), (37, 64), (100, 96), (1024, 8)] {
            for row in resampling_matrix(from, to).chunks(from as usize) {
                let sum: f32 = row.iter().sum();
                assert!((sum - 1.0).abs() < 1e-5, "{from} to {to}: a row sums to {sum}");
            }
        }
    }

    #[test]
    fn the_same_size_is_the_identity() {
        let matrix = resampling_matrix(5, 5);
        let identity: Vec<f32> = (0..25).map(|i| if i % 6 == 0 { 1.0 } else { 0.0 }).collect();
        for (got, expected) in matrix.iter().zip(&identity) {
            assert!((got - expected).abs() < 1e-7);
        }
    }

    #[test]
    fn doubling_gives_the_cubic_kernels_known_weights() {
        let matrix = resampling_matrix(8, 16);
        // Output pixel 6 has its centre at input 2.75: distances 1.75, 0.75, 0.25 and 1.25.
        let expected = [-0.0234375, 0.2265625, 0.8671875, -0.0703125];
        let row = &matrix[6 * 8..7 * 8];
        assert_eq!(row[0], 0.0);
        for (got, expected) in row[1..5].iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{row:?}");
        }
    }

    #[test]
    fn a_ramp_stays_a_ramp_away_from_the_edges() {
        let ramp: Vec<f32> = (0..40).map(|x| x as f32).collect();
        for to in [90_u32, 17] {
            let out = apply(&resampling_matrix(40, to), &ramp);
            let scale = 40.0 / to as f32;
            let margin = (2.0 * scale.max(1.0) / scale).ceil() as usize + 1;
            for (i, value) in out.iter().enumerate().take(to as usize - margin).skip(margin) {
                let expected = (i as f32 + 0.5) * scale - 0.5;
                assert!((value - expected).abs() < 0.06 * scale, "pixel {i} of {to} is {value}, not {expected}");
            }
        }
    }

    #[test]
    fn shrinking_averages_instead_of_skipping() {
        let stripes: Vec<f32> = (0..64).map(|x| if x % 2 == 0 { 0.0 } else { 255.0 }).collect();
        let grey = apply(&resampling_matrix(64, 16), &stripes);
        // The kernel hangs over the edge for the first two pixels and the last two.
        for value in &grey[2..14] {
            assert!((value - 127.5).abs() < 1.0, "stripes became {value}, not grey");
        }
    }
}
