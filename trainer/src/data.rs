//! What training reads: pictures as pixels or as features, in batches, changed at random if asked.
//!
//! Datasets lie on a volume and are mapped by `store`; nothing here writes.

use std::sync::Arc;

use api::train::Augmentation;
use rand::RngExt;
use rand_pcg::Pcg64;
use store::Dataset;

use crate::{
    Result, TrainerError,
    change::Change,
    engine::Inputs,
    model::Feed,
    random::{Purpose, generator},
};

/// Labelled examples.
pub trait Samples: Sync {
    /// Class index of each example.
    fn labels(&self) -> &[u32];

    /// The chosen examples, in the form that is picked.
    fn batch(&self, rows: &[usize], pick: Pick) -> Batch;

    /// Number of examples.
    fn len(&self) -> usize {
        self.labels().len()
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.labels().is_empty()
    }
}

/// In which of its forms an example is taken.
#[derive(Debug)]
pub enum Pick<'a> {
    /// As it is.
    Plain,
    /// Mirrored left to right.
    Mirrored,
    /// In any, as augmentation has it.
    Random(&'a mut Pcg64),
}

/// One way in which every picture is changed before its features are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// As it is.
    Plain,
    /// Mirrored.
    Mirrored,
    /// Each picture in its own random way.
    Random {
        /// What is allowed.
        augmentation: Augmentation,
        /// Of the run.
        seed: u64,
        /// Tells several such variants apart.
        number: u32,
    },
}

impl Variant {
    /// At least two variants from which training samples; the first are the plain and the mirrored one, unless
    /// augmentation is off.
    pub fn of(augmentation: Augmentation, seed: u64, n_random: u32) -> Vec<Self> {
        match augmentation {
            Augmentation::None => vec![Self::Plain],
            Augmentation::Flip => vec![Self::Plain, Self::Mirrored],
            Augmentation::FlipShift | Augmentation::Full => {
                let random = (1..=n_random).map(|number| Self::Random { augmentation, seed, number });
                [Self::Plain, Self::Mirrored].into_iter().chain(random).collect()
            }
        }
    }

    /// How one picture is changed; what it is does not depend on the other pictures.
    pub fn change(self, row: usize, height: u32, width: u32) -> Change {
        match self {
            Self::Plain => Change::default(),
            Self::Mirrored => Change { flip: true, ..Change::default() },
            Self::Random { augmentation, seed, number } => {
                let stream = u64::from(number) << 40 | row as u64;
                Change::random(augmentation, height, width, &mut generator(seed, Purpose::Variant, stream))
            }
        }
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

/// Pictures as they lie in the dataset: one or more mapped splits behind one row index.
#[derive(Clone, Debug)]
pub struct Pictures<'a> {
    height: u32,
    width: u32,
    /// First row and u8 `[n, height, width, 3]` of each split.
    parts: Vec<(usize, &'a [u8])>,
    labels: Vec<u32>,
}

impl<'a> Pictures<'a> {
    /// None yet; all will have this size in pixels.
    pub fn new(height: u32, width: u32) -> Self {
        Self { height, width, parts: vec![], labels: vec![] }
    }

    /// With another split behind those that are there.
    ///
    /// # Shapes
    /// - `images`: `[n, height, width, 3]`
    /// - `labels`: `[n]`
    pub fn with(mut self, images: &'a [u8], labels: &[u32]) -> Self {
        debug_assert_eq!(images.len(), labels.len() * self.bytes());
        self.parts.push((self.labels.len(), images));
        self.labels.extend_from_slice(labels);
        self
    }

    /// In pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Class index of each.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn bytes(&self) -> usize {
        self.height as usize * self.width as usize * 3
    }

    /// One picture: `[height, width, 3]`.
    pub fn picture(&self, row: usize) -> &'a [u8] {
        let part = self.parts.partition_point(|(first, _)| *first <= row) - 1;
        let (first, images) = self.parts[part];
        &images[(row - first) * self.bytes()..][..self.bytes()]
    }

    /// The chosen pictures, each changed as is said for its row.
    pub fn changed(&self, rows: &[usize], mut change: impl FnMut(usize) -> Change) -> Batch {
        let mut values = Vec::with_capacity(rows.len() * self.bytes());
        for &row in rows {
            change(row).apply(self.picture(row), self.height, self.width, &mut values);
        }
        Batch::Pixels { dims: [rows.len() as i64, i64::from(self.height), i64::from(self.width), 3], values }
    }

    /// Mean and standard deviation of each channel, over at most two thousand of the chosen pictures.
    ///
    /// # Units
    /// 0..=255; the deviation is at least 1
    pub fn channel_statistics(&self, rows: &[usize]) -> ([f32; 3], [f32; 3]) {
        const MOST_PICTURES: usize = 2000;
        let stride = rows.len().div_ceil(MOST_PICTURES).max(1);
        let (mut n, mut sum, mut squares) = (0u64, [0u64; 3], [0u64; 3]);
        for &row in rows.iter().step_by(stride) {
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

/// Some of the pictures, fed as pixels.
#[derive(Clone, Debug)]
pub struct PixelSamples<'a> {
    pictures: &'a Pictures<'a>,
    rows: &'a [usize],
    labels: Vec<u32>,
    augmentation: Augmentation,
}

impl<'a> PixelSamples<'a> {
    /// The pictures in these rows; `augmentation` is what a random pick allows.
    pub fn new(pictures: &'a Pictures<'a>, rows: &'a [usize], augmentation: Augmentation) -> Self {
        let labels = rows.iter().map(|&row| pictures.labels[row]).collect();
        Self { pictures, rows, labels, augmentation }
    }
}

impl Samples for PixelSamples<'_> {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn batch(&self, rows: &[usize], pick: Pick) -> Batch {
        let rows: Vec<usize> = rows.iter().map(|&row| self.rows[row]).collect();
        let (height, width) = (self.pictures.height, self.pictures.width);
        match pick {
            Pick::Plain => self.pictures.changed(&rows, |_| Change::default()),
            Pick::Mirrored => self.pictures.changed(&rows, |_| Change { flip: true, ..Change::default() }),
            Pick::Random(random) => {
                self.pictures.changed(&rows, |_| Change::random(self.augmentation, height, width, random))
            }
        }
    }
}

/// Values of every picture of one variant: f32 `[pictures, values per picture]`; may be a mapped file.
pub type Values = Arc<dyn AsRef<[f32]> + Send + Sync>;

/// Features of some pictures, computed before training, for one or more variants of each picture.
#[derive(Clone)]
pub struct FeatureSamples<'a> {
    variants: Vec<Values>,
    rows: &'a [usize],
    labels: Vec<u32>,
    shape: Vec<i64>,
    standard: Option<Arc<Standard>>,
}

impl<'a> FeatureSamples<'a> {
    /// Features of the pictures in these rows. The first variant is the plain one, the second the mirrored one.
    ///
    /// # Shapes
    /// - `variants`: each f32 `[all pictures, shape…]`
    /// - `labels`: of all pictures
    pub fn new(variants: Vec<Values>, shape: Vec<i64>, rows: &'a [usize], labels: &[u32]) -> Self {
        let labels = rows.iter().map(|&row| labels[row]).collect();
        Self { variants, rows, labels, shape, standard: None }
    }

    /// The same, standardised as they are taken.
    pub fn standardised(self, standard: Arc<Standard>) -> Self {
        Self { standard: Some(standard), ..self }
    }

    fn size(&self) -> usize {
        self.shape.iter().product::<i64>() as usize
    }

    fn values(&self, row: usize, variant: usize) -> &[f32] {
        let variant = &self.variants[variant.min(self.variants.len() - 1)];
        &(**variant).as_ref()[self.rows[row] * self.size()..][..self.size()]
    }

    /// Mean and standard deviation of every feature over all variants of the pictures.
    pub fn statistics(&self) -> Standard {
        let n = (self.rows.len() * self.variants.len()).max(1) as f64;
        let vectors = || {
            let rows = 0..self.rows.len();
            rows.flat_map(|row| (0..self.variants.len()).map(move |variant| self.values(row, variant)))
        };
        let mut mean = vec![0f64; self.size()];
        for vector in vectors() {
            for (m, &x) in mean.iter_mut().zip(vector) {
                *m += f64::from(x) / n;
            }
        }
        let mut variance = vec![0f64; self.size()];
        for vector in vectors() {
            for ((v, m), &x) in variance.iter_mut().zip(&mean).zip(vector) {
                *v += (f64::from(x) - m).powi(2) / n;
            }
        }
        Standard { mean, deviation: variance.iter().map(|v| v.sqrt() + LEAST_DEVIATION).collect() }
    }
}

impl Samples for FeatureSamples<'_> {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn batch(&self, rows: &[usize], mut pick: Pick) -> Batch {
        let mut values = Vec::with_capacity(rows.len() * self.size());
        for &row in rows {
            let variant = match &mut pick {
                Pick::Plain => 0,
                Pick::Mirrored => 1,
                Pick::Random(random) => random.random_range(0..self.variants.len()),
            };
            let vector = self.values(row, variant);
            match &self.standard {
                None => values.extend_from_slice(vector),
                Some(standard) => values.extend(standard.applied(vector)),
            }
        }
        Batch::Features { dims: [&[rows.len() as i64], self.shape.as_slice()].concat(), values }
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

impl Standard {
    fn applied<'a>(&'a self, vector: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let values = vector.iter().zip(&self.mean).zip(&self.deviation);
        values.map(|((&x, mean), deviation)| ((f64::from(x) - mean) / deviation) as f32)
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

    #[test]
    fn channel_statistics_are_those_of_the_pixels() {
        let images = [10, 0, 255, 30, 0, 255, 10, 0, 255, 30, 0, 255, 9, 9, 9, 9, 9, 9];
        let pictures = Pictures::new(1, 2).with(&images, &[0, 1, 1]);
        assert_eq!(pictures.channel_statistics(&[0, 1]), ([20.0, 0.0, 255.0], [10.0, 1.0, 1.0]));
    }

    #[test]
    fn rows_go_on_from_one_split_to_the_next() {
        let pictures = Pictures::new(1, 1).with(&[1; 3], &[0]).with(&[], &[]).with(&[2, 2, 2, 3, 3, 3], &[1, 0]);
        assert_eq!([0, 1, 2].map(|row| pictures.picture(row)[0]), [1, 2, 3]);
        assert_eq!(pictures.labels(), [0, 1, 0]);
    }

    fn samples(variants: &[&[f32]], rows: &'static [usize]) -> FeatureSamples<'static> {
        let variants = variants.iter().map(|v| Arc::new(v.to_vec()) as Values).collect();
        FeatureSamples::new(variants, vec![2], rows, &[0, 1, 1])
    }

    #[test]
    fn standardised_features_have_mean_zero_and_deviation_one_over_the_chosen_rows() {
        let features = samples(&[&[1.0, 7.0, 900.0, 900.0, 3.0, 7.0]], &[0, 2]);
        let standard = Arc::new(features.statistics());
        let Batch::Features { values, dims } = features.standardised(standard).batch(&[0, 1], Pick::Plain) else {
            panic!("features give features");
        };
        assert_eq!(dims, [2, 2]);
        for (got, expected) in values.iter().zip([-1.0, 0.0, 1.0, 0.0]) {
            assert!((got - expected).abs() < 2e-3, "{values:?}");
        }
    }

    #[test]
    fn a_random_pick_takes_every_variant() {
        let features = samples(&[&[0.0; 6], &[1.0; 6], &[2.0; 6]], &[1]);
        let random = &mut generator(1, Purpose::Augmentation, 1);
        let of = |pick| {
            let Batch::Features { mut values, .. } = features.batch(&[0; 100], pick) else {
                panic!("features give features");
            };
            values.dedup();
            values.sort_by(f32::total_cmp);
            values.dedup();
            values
        };
        assert_eq!([of(Pick::Plain), of(Pick::Mirrored)], [[0.0], [1.0]]);
        assert_eq!(of(Pick::Random(random)), [0.0, 1.0, 2.0]);
    }

    #[test]
    fn a_random_variant_changes_each_picture_in_its_own_way_and_always_the_same() {
        let variant = |number| Variant::Random { augmentation: Augmentation::FlipShift, seed: 1, number };
        let changes = |number| (0..500).map(|row| variant(number).change(row, 32, 32)).collect::<Vec<_>>();
        let (first, second) = (changes(1), changes(2));
        assert_eq!(first, changes(1));
        assert!(first.iter().zip(&second).filter(|(a, b)| a == b).count() < 30);
        for shift in -3..=3 {
            let n = first.iter().filter(|change| change.right == shift as f32).count();
            assert!((40..105).contains(&n), "{n} of 500 are moved by {shift}");
        }
    }
}
