//! What training reads: pictures as pixels or as features, in batches, changed at random if asked.
//!
//! Datasets lie on a volume and are mapped by `store`; nothing here writes.

use api::train::Augmentation;
use rand::RngExt;
use rand_pcg::Pcg64;
use store::Dataset;

use crate::{Result, TrainerError, engine::Inputs, model::Feed};

/// Labelled examples of one split.
pub trait Samples {
    /// Class index of each example.
    fn labels(&self) -> &[u32];

    /// The chosen examples; changed at random where there is a generator.
    fn batch(&self, rows: &[usize], random: Option<&mut Pcg64>) -> Batch;

    /// Number of examples.
    fn len(&self) -> usize {
        self.labels().len()
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.labels().is_empty()
    }
}

/// Examples on their way into a graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Batch {
    /// u8 `[n, height, width, 3]`.
    Pixels {
        /// Shape.
        dims: [i64; 4],
        /// Values.
        values: Vec<u8>,
    },
    /// f32 `[n, shape of the features…]`.
    Features {
        /// Shape.
        dims: Vec<i64>,
        /// Values.
        values: Vec<f32>,
    },
}

impl Batch {
    /// Adds the batch to a graph's inputs.
    pub fn feed<'a>(&'a self, inputs: &mut Inputs<'a>) -> Result<()> {
        match self {
            Self::Pixels { dims, values } => inputs.tensor(api::model::INPUT, dims, values),
            Self::Features { dims, values } => inputs.tensor(Feed::FEATURES, dims, values),
        }
    }
}

/// How one picture is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Mirror left to right.
    pub flip: bool,
    /// Move right by this many pixels, then repeat the edge.
    pub right: i64,
    /// Move down by this many pixels, then repeat the edge.
    pub down: i64,
}

impl Change {
    /// A change as the augmentation allows it, for pictures of this size.
    pub fn random(augmentation: Augmentation, height: u32, width: u32, random: &mut Pcg64) -> Self {
        let mut shift = |side: u32| {
            let most = i64::from(side / 10);
            random.random_range(-most..=most)
        };
        match augmentation {
            Augmentation::None => Self::default(),
            Augmentation::Flip => Self { flip: random.random_bool(0.5), ..Self::default() },
            Augmentation::FlipShift => {
                let (right, down) = (shift(width), shift(height));
                Self { flip: random.random_bool(0.5), right, down }
            }
        }
    }

    /// Appends the changed picture to `out`.
    ///
    /// # Shapes
    /// `picture`: `[height, width, 3]`
    fn apply(self, picture: &[u8], height: u32, width: u32, out: &mut Vec<u8>) {
        if self == Self::default() {
            out.extend_from_slice(picture);
            return;
        }
        let (height, width) = (i64::from(height), i64::from(width));
        for y in 0..height {
            let row = (y - self.down).clamp(0, height - 1) * width;
            for x in 0..width {
                let from = (x - self.right).clamp(0, width - 1);
                let from = if self.flip { width - 1 - from } else { from };
                let at = (row + from) as usize * 3;
                out.extend_from_slice(&picture[at..at + 3]);
            }
        }
    }
}

/// Pictures as they lie in the dataset.
#[derive(Clone, Copy, Debug)]
pub struct Pictures<'a> {
    /// u8 `[n, height, width, 3]`.
    pub images: &'a [u8],
    /// Class index of each.
    pub labels: &'a [u32],
    /// Pixels.
    pub height: u32,
    /// Pixels.
    pub width: u32,
    /// How batches are changed when they are.
    pub augmentation: Augmentation,
}

impl Pictures<'_> {
    /// One picture: `[height, width, 3]`.
    pub fn picture(&self, row: usize) -> &[u8] {
        let bytes = self.height as usize * self.width as usize * 3;
        &self.images[row * bytes..][..bytes]
    }

    /// The chosen pictures, each changed in its own way.
    pub fn changed(&self, rows: &[usize], mut change: impl FnMut() -> Change) -> Batch {
        let mut values = Vec::with_capacity(rows.len() * self.height as usize * self.width as usize * 3);
        for &row in rows {
            change().apply(self.picture(row), self.height, self.width, &mut values);
        }
        Batch::Pixels { dims: [rows.len() as i64, i64::from(self.height), i64::from(self.width), 3], values }
    }

    /// Mean and standard deviation of each channel, over at most two thousand pictures spread over all.
    ///
    /// # Units
    /// 0..=255; the deviation is at least 1
    pub fn channel_statistics(&self) -> ([f32; 3], [f32; 3]) {
        const MOST_PICTURES: usize = 2000;
        let stride = self.len().div_ceil(MOST_PICTURES).max(1);
        let (mut n, mut sum, mut squares) = (0u64, [0u64; 3], [0u64; 3]);
        for row in (0..self.len()).step_by(stride) {
            for pixel in self.picture(row).chunks_exact(3) {
                n += 1;
                for (channel, &value) in pixel.iter().enumerate() {
                    sum[channel] += u64::from(value);
                    squares[channel] += u64::from(value) * u64::from(value);
                }
            }
        }
        let n = n.max(1) as f64;
        let mean = sum.map(|s| s as f64 / n);
        let deviation = [0, 1, 2].map(|c| (squares[c] as f64 / n - mean[c] * mean[c]).max(1.0).sqrt() as f32);
        (mean.map(|m| m as f32), deviation)
    }
}

impl Samples for Pictures<'_> {
    fn labels(&self) -> &[u32] {
        self.labels
    }

    fn batch(&self, rows: &[usize], random: Option<&mut Pcg64>) -> Batch {
        match random {
            Some(random) => self.changed(rows, || Change::random(self.augmentation, self.height, self.width, random)),
            None => self.changed(rows, Change::default),
        }
    }
}

/// Features of pictures, computed before training, for several variants of each picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// f32 `[n, n_variants, n_features]`; the first variant is the picture as it is.
    pub values: Vec<f32>,
    /// Class index of each picture.
    pub labels: Vec<u32>,
    /// Variants of each picture.
    pub n_variants: usize,
    /// Features of each variant.
    pub n_features: usize,
}

impl Features {
    fn variant(&self, row: usize, variant: usize) -> &[f32] {
        &self.values[(row * self.n_variants + variant) * self.n_features..][..self.n_features]
    }

    /// Mean and standard deviation of every feature over all variants of all pictures.
    pub fn statistics(&self) -> Standard {
        let n = (self.values.len() / self.n_features).max(1) as f64;
        let mut mean = vec![0f64; self.n_features];
        for vector in self.values.chunks_exact(self.n_features) {
            for (m, &x) in mean.iter_mut().zip(vector) {
                *m += f64::from(x) / n;
            }
        }
        let mut variance = vec![0f64; self.n_features];
        for vector in self.values.chunks_exact(self.n_features) {
            for ((v, m), &x) in variance.iter_mut().zip(&mean).zip(vector) {
                *v += (f64::from(x) - m).powi(2) / n;
            }
        }
        Standard { mean, deviation: variance.iter().map(|v| v.sqrt() + LEAST_DEVIATION).collect() }
    }

    /// Brings every feature to mean 0 and deviation 1.
    pub fn standardise(&mut self, standard: &Standard) {
        for vector in self.values.chunks_exact_mut(self.n_features) {
            for ((x, mean), deviation) in vector.iter_mut().zip(&standard.mean).zip(&standard.deviation) {
                *x = ((f64::from(*x) - mean) / deviation) as f32;
            }
        }
    }
}

/// Keeps a feature that never changes from becoming infinite.
const LEAST_DEVIATION: f64 = 1e-3;

/// An affine change of features: `(x - mean) / deviation`.
#[derive(Clone, Debug, PartialEq)]
pub struct Standard {
    /// Subtracted.
    pub mean: Vec<f64>,
    /// Divides what is left.
    pub deviation: Vec<f64>,
}

impl Samples for Features {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn batch(&self, rows: &[usize], mut random: Option<&mut Pcg64>) -> Batch {
        let mut values = Vec::with_capacity(rows.len() * self.n_features);
        for &row in rows {
            let variant = random.as_mut().map_or(0, |random| random.random_range(0..self.n_variants));
            values.extend_from_slice(self.variant(row, variant));
        }
        Batch::Features { dims: vec![rows.len() as i64, self.n_features as i64], values }
    }
}

/// Says why a dataset cannot be trained on, if so.
///
/// # Errors
/// `Dataset` with fewer than two classes or a class without train pictures
pub fn check(dataset: &Dataset) -> Result<()> {
    let manifest = &dataset.manifest;
    let unusable = |problem: String| Err(TrainerError::Dataset { dataset: manifest.id.clone(), problem });
    match manifest.classes.as_slice() {
        [] => return unusable("it has no classes".into()),
        [only] => {
            return unusable(format!("it has one class, {:?}; telling apart needs two or more", only.name));
        }
        _ => {}
    }
    let empty: Vec<String> =
        manifest.classes.iter().filter(|c| c.train == 0).map(|c| format!("{:?}", c.name)).collect();
    if empty.is_empty() {
        Ok(())
    } else {
        unusable(format!("no train pictures for {}; add some or remove the class", empty.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, generator};

    /// A picture of 3 × 2 whose red value counts its pixels.
    const PICTURE: [u8; 18] = [0, 9, 9, 1, 9, 9, 2, 9, 9, 3, 9, 9, 4, 9, 9, 5, 9, 9];

    #[track_caller]
    fn reds(change: Change) -> Vec<u8> {
        let mut out = vec![];
        change.apply(&PICTURE, 2, 3, &mut out);
        assert!(out.chunks(3).all(|p| p[1..] == [9, 9]), "channels stay together");
        out.chunks(3).map(|p| p[0]).collect()
    }

    #[test]
    fn changes_mirror_and_shift_and_repeat_the_edge() {
        assert_eq!(reds(Change::default()), [0, 1, 2, 3, 4, 5]);
        assert_eq!(reds(Change { flip: true, ..Change::default() }), [2, 1, 0, 5, 4, 3]);
        assert_eq!(reds(Change { right: 1, ..Change::default() }), [0, 0, 1, 3, 3, 4]);
        assert_eq!(reds(Change { right: -2, ..Change::default() }), [2, 2, 2, 5, 5, 5]);
        assert_eq!(reds(Change { down: 1, ..Change::default() }), [0, 1, 2, 0, 1, 2]);
        assert_eq!(reds(Change { flip: true, right: 1, down: -1 }), [5, 5, 4, 5, 5, 4]);
    }

    #[test]
    fn random_changes_stay_within_a_tenth_of_the_side() {
        let mut random = generator(1, Purpose::Augmentation, 1);
        let changes: Vec<_> = (0..500).map(|_| Change::random(Augmentation::FlipShift, 32, 57, &mut random)).collect();
        assert_eq!(changes.iter().map(|c| c.right).max(), Some(5));
        assert_eq!(changes.iter().map(|c| c.right).min(), Some(-5));
        assert_eq!(changes.iter().map(|c| c.down.abs()).max(), Some(3));
        let flips = changes.iter().filter(|c| c.flip).count();
        assert!((200..300).contains(&flips), "{flips} of 500 were mirrored");
    }

    #[test]
    fn channel_statistics_are_those_of_the_pixels() {
        let images = [10, 0, 255, 30, 0, 255, 10, 0, 255, 30, 0, 255];
        let pictures =
            Pictures { images: &images, labels: &[0, 1], height: 1, width: 2, augmentation: Augmentation::None };
        assert_eq!(pictures.channel_statistics(), ([20.0, 0.0, 255.0], [10.0, 1.0, 1.0]));
    }

    #[test]
    fn standardised_features_have_mean_zero_and_deviation_one() {
        let mut features =
            Features { values: vec![1.0, 7.0, 3.0, 7.0], labels: vec![0, 1], n_variants: 1, n_features: 2 };
        let standard = features.statistics();
        features.standardise(&standard);
        for (got, expected) in features.values.iter().zip([-1.0, 0.0, 1.0, 0.0]) {
            assert!((got - expected).abs() < 2e-3, "{:?}", features.values);
        }
    }

    #[test]
    fn without_a_generator_the_first_variant_is_taken_and_with_one_all_are() {
        let features =
            Features { values: (0..8).map(|v| v as f32).collect(), labels: vec![0, 1], n_variants: 4, n_features: 1 };
        assert_eq!(features.batch(&[1, 0], None), Batch::Features { dims: vec![2, 1], values: vec![4.0, 0.0] });
        let Batch::Features { mut values, .. } =
            features.batch(&[1; 100], Some(&mut generator(1, Purpose::Augmentation, 1)))
        else {
            panic!("features give features");
        };
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert_eq!(values, [4.0, 5.0, 6.0, 7.0]);
    }
}
