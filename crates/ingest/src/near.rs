//! Pictures that look alike: resized, recompressed or otherwise hardly changed copies.
//!
//! Two pictures are near if their perceptual hashes differ in at most [`MAX_BITS`] bits, their colours averaged over
//! an 8 × 8 grid in at most [`GRID_SHARE`] of the paler one's contrast, and their processed pixels in at most
//! [`MAX_PIXEL_DIFFERENCE`] (means of absolute differences). Being near is passed on: groups are the connected sets.
//!
//! The bounds were chosen on real pictures. Of small photographs that were enlarged and reduced again they find all, of
//! those saved anew as JPEG 92 % at quality 90 and 57 % at quality 75, none of unrelated ones. Of Fashion-MNIST, where
//! clothes of a kind look much alike, they group 121 of 70,000 pictures, at most six together, all of one class. A bound
//! without the contrast groups dark sandals by the dozens.

use crate::{Result, Stage, reporter::Reporter};

/// Bits in which perceptual hashes of near pictures may differ.
const MAX_BITS: u32 = 4;
/// Bands of the 64 bits: with one more than [`MAX_BITS`], near hashes agree in at least one of them.
const BANDS: u32 = MAX_BITS + 1;
/// Mean absolute difference of near pictures' grids, as a share of the lesser contrast …
const GRID_SHARE: f32 = 0.06;
/// … but not below this, for rounding alone makes a difference …
const MIN_GRID_DIFFERENCE: f32 = 1.0;
/// … and not above this, of 255.
const MAX_GRID_DIFFERENCE: f32 = 2.5;
/// Mean absolute difference of near pictures' pixels, of 255.
const MAX_PIXEL_DIFFERENCE: f32 = 12.0;
/// Cells of the grid in each direction.
const GRID: usize = 8;
/// Pictures of one band, nearest in brightness, that a picture is compared with. A set of tens of thousands of
/// pictures with one perceptual hash is no real one; it costs time in proportion to its size, not to its square.
const MAX_COMPARISONS: usize = 2048;

/// What is kept of a picture to find those that look like it.
#[derive(Clone, Debug)]
pub(crate) struct Print {
    /// Perceptual hash.
    pub hash: u64,
    /// Mean of the grid, 0..=255.
    mean: f32,
    /// Mean absolute difference of the grid's cells from the mean colour, 0..=255.
    contrast: f32,
    /// Colours averaged over the grid's cells.
    grid: Box<[u8]>,
}

impl Print {
    /// # Shapes
    /// `pixels`: `[height, width, 3]`
    pub fn new(hash: u64, pixels: &[u8], width: usize, height: usize) -> Self {
        let (columns, rows) = (GRID.min(width), GRID.min(height));
        let mut sums = vec![[0u32; 4]; columns * rows];
        for (y, line) in pixels.chunks_exact(width * 3).enumerate() {
            for (x, pixel) in line.chunks_exact(3).enumerate() {
                let sum = &mut sums[y * rows / height * columns + x * columns / width];
                for (sum, value) in sum.iter_mut().zip([pixel[0], pixel[1], pixel[2], 1]) {
                    *sum += u32::from(value);
                }
            }
        }
        let grid: Box<[u8]> =
            sums.iter().flat_map(|&[r, g, b, n]| [r, g, b].map(|sum| ((sum + n / 2) / n) as u8)).collect();
        let n = grid.len() as f32;
        let mean_of =
            |channel: usize| grid.iter().skip(channel).step_by(3).map(|v| f32::from(*v)).sum::<f32>() * 3.0 / n;
        let color = [0, 1, 2].map(mean_of);
        let contrast =
            grid.iter().zip(color.iter().cycle()).map(|(v, mean)| (f32::from(*v) - mean).abs()).sum::<f32>() / n;
        Self { hash, mean: color.iter().sum::<f32>() / 3.0, contrast, grid }
    }

    /// Whether both may be near, as far as prints tell.
    fn resembles(&self, other: &Self) -> bool {
        let most = (GRID_SHARE * self.contrast.min(other.contrast)).clamp(MIN_GRID_DIFFERENCE, MAX_GRID_DIFFERENCE);
        (self.hash ^ other.hash).count_ones() <= MAX_BITS && mean_difference(&self.grid, &other.grid) <= most
    }
}

/// Groups the pictures: for each its group, named by the smallest index in it.
///
/// `pixels` reads a picture's processed pixels. Blocks.
pub(crate) fn groups(
    prints: &[&Print],
    mut pixels: impl FnMut(usize, &mut Vec<u8>) -> Result<()>,
    reporter: &Reporter,
) -> Result<Vec<usize>> {
    let mut union = Union::new(prints.len());
    let mut order: Vec<usize> = (0..prints.len()).collect();
    let (mut a, mut b) = (vec![], vec![]);
    let total = u64::from(BANDS) * prints.len() as u64;
    for band in 0..BANDS {
        let key = |at: usize| (band_of(prints[at].hash, band), prints[at].mean);
        order.sort_unstable_by(|&x, &y| {
            let ((band_x, mean_x), (band_y, mean_y)) = (key(x), key(y));
            band_x.cmp(&band_y).then(mean_x.total_cmp(&mean_y)).then(x.cmp(&y))
        });
        for (at, &one) in order.iter().enumerate() {
            reporter.tell(Stage::Compare, u64::from(band) * prints.len() as u64 + at as u64, total)?;
            let (one_band, one_mean) = key(one);
            let others = order[at + 1..].iter().take(MAX_COMPARISONS).copied();
            let mut loaded = false;
            for other in others.take_while(|&other| {
                let (band, mean) = key(other);
                band == one_band && mean - one_mean <= MAX_GRID_DIFFERENCE
            }) {
                let (x, y) = (prints[one], prints[other]);
                // Hashes that agree in several bands meet once, in the first.
                let met = (0..band).any(|band| band_of(x.hash, band) == band_of(y.hash, band));
                if met || !x.resembles(y) || union.find(one) == union.find(other) {
                    continue;
                }
                if !loaded {
                    pixels(one, &mut a)?;
                    loaded = true;
                }
                pixels(other, &mut b)?;
                if mean_difference(&a, &b) <= MAX_PIXEL_DIFFERENCE {
                    union.join(one, other);
                }
            }
        }
    }
    reporter.tell(Stage::Compare, total, total)?;
    Ok((0..prints.len()).map(|at| union.find(at)).collect())
}

/// Bits of one of [`BANDS`] bands that share the 64 bits out among themselves.
fn band_of(hash: u64, band: u32) -> u64 {
    let (from, to) = (64 * band / BANDS, 64 * (band + 1) / BANDS);
    hash >> from & ((1 << (to - from)) - 1)
}

fn mean_difference(a: &[u8], b: &[u8]) -> f32 {
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f32 / a.len().max(1) as f32
}

/// Disjoint sets, each named by its smallest member.
struct Union(Vec<usize>);

impl Union {
    fn new(n: usize) -> Self {
        Self((0..n).collect())
    }

    fn find(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }
}
