//! How far a picture is like those that a network was fitted on, by what comes into the network's last layer.
//!
//! The features of pictures that belong to the classes lie close to a few directions; those of others lie further away.
//! The published network makes the logits of a strange picture smaller, so that it is not sure of any class.
//!
//! # Source
//! Wang et al., "ViM: out-of-distribution with virtual-logit matching", 2022 (the distance from the principal subspace)

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use crate::graph::{Builder, Value};

/// Pictures of the fit that a subspace is found on, at most.
pub const MOST_PICTURES: usize = 256;

/// Directions that a subspace has, at most.
const MOST_DIRECTIONS: usize = 32;

/// A direction needs so many pictures; and features have twice as many dimensions as the subspace, at least.
const PICTURES_PER_DIRECTION: usize = 4;

/// After so many rounds the span of the first directions changes no figure that matters here.
const ROUNDS: usize = 4;

/// Held-out pictures without which nothing is known of what is usual.
const LEAST_HELD_OUT: usize = 20;

/// The directions along which the features of a fit's pictures differ most, and how far they lie from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Subspace {
    /// `[features]`
    mean: Array1<f32>,
    /// `[features, directions]`, orthonormal.
    directions: Array2<f32>,
    /// Mean squared distance of the pictures that it was found on.
    spread: f32,
}

impl Subspace {
    /// Finds it, by orthogonal iteration from some of the pictures; nothing where features are too few, or alike.
    ///
    /// # Shapes
    /// `features`: `[pictures, features]`
    ///
    /// # Source
    /// Golub and Van Loan, "Matrix computations", 8.2.4
    pub fn of(features: ArrayView2<f32>) -> Option<Self> {
        let (n, width) = features.dim();
        let k = MOST_DIRECTIONS.min(n / PICTURES_PER_DIRECTION).min(width / 2);
        if k == 0 {
            return None;
        }
        let mean = features.mean_axis(Axis(0))?;
        let centred = &features - &mean;
        let mut directions = centred.slice(s![..; n.div_ceil(k), ..]).t().to_owned();
        for _ in 0..ROUNDS {
            orthonormalise(&mut directions);
            directions = centred.t().dot(&centred.dot(&directions));
        }
        orthonormalise(&mut directions);
        let mut subspace = Self { mean, directions, spread: 1.0 };
        let distances = subspace.strangeness(features);
        subspace.spread = (distances.iter().map(|&d| f64::from(d)).sum::<f64>() / n as f64) as f32;
        (subspace.spread.is_finite() && subspace.spread > 0.0).then_some(subspace)
    }

    /// Squared distance of each picture from the subspace, as a multiple of the mean one of the fit's pictures.
    ///
    /// # Shapes
    /// - `features`: `[pictures, features]`
    /// - result: `[pictures]`
    pub fn strangeness(&self, features: ArrayView2<f32>) -> Vec<f32> {
        let centred = &features - &self.mean;
        let along = centred.dot(&self.directions);
        let squared = |row: ndarray::ArrayView1<f32>| row.dot(&row);
        let rows = centred.rows().into_iter().zip(along.rows());
        rows.map(|(row, along)| (squared(row) - squared(along)).max(0.0) / self.spread).collect()
    }
}

/// Makes the columns orthogonal and of length 1; those that follow from the ones in front of them become 0.
fn orthonormalise(columns: &mut Array2<f32>) {
    for at in 0..columns.ncols() {
        let (front, mut behind) = columns.view_mut().split_at(Axis(1), at);
        let mut column = behind.column_mut(0);
        let before = column.dot(&column).sqrt();
        // Once is not enough where little is left.
        for _ in 0..2 {
            let along = front.t().dot(&column);
            column -= &front.dot(&along);
        }
        let length = column.dot(&column).sqrt();
        let scale = if length > 1e-5 * before { length.recip() } else { 0.0 };
        column *= scale;
    }
}

/// The strangeness up to which pictures are taken as they are: that of every other held-out one. Nothing where there are
/// too few.
pub fn usual(strangeness: &[f32]) -> Option<f32> {
    let mut sorted = strangeness.to_vec();
    sorted.sort_by(f32::total_cmp);
    let middle = sorted.get(sorted.len() / 2).copied();
    middle.filter(|&usual| strangeness.len() >= LEAST_HELD_OUT && usual.is_finite() && usual > 0.0)
}

/// What the logits of a picture are multiplied by, 0..=1.
pub fn factor(strangeness: f32, usual: f32) -> f32 {
    usual / strangeness.max(usual)
}

/// What the published network knows of familiar pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Familiar {
    /// Of the pictures that it was fitted on.
    pub subspace: Subspace,
    /// See [`usual`].
    pub usual: f32,
}

impl Familiar {
    /// Appends the [`factor`] of each picture.
    ///
    /// # Shapes
    /// - `features`: `[N, features]`
    /// - result: `[N, 1]`
    pub fn append(&self, graph: &mut Builder, features: &Value) -> Value {
        let Subspace { mean, directions, spread } = &self.subspace;
        let (width, k) = directions.dim();
        let mean = graph.constant("familiar.mean", &[width as i64], &mean.to_vec());
        let values: Vec<f32> = directions.iter().copied().collect();
        let directions = graph.constant("familiar.directions", &[width as i64, k as i64], &values);
        let centred = graph.sub(features, &mean);
        let along = graph.matmul(&centred, &directions);
        let [whole, along] = [centred, along].map(|x| {
            let squares = graph.mul(&x, &x);
            graph.sum_keeping(&squares, &[1])
        });
        let distance = graph.sub(&whole, &along);
        let limit = graph.scalar(self.usual * spread);
        let beyond = graph.op("Max", &[&distance, &limit], vec![]);
        graph.div(&limit, &beyond)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use rand_pcg::Pcg64;

    use super::*;
    use crate::{
        model::standard_normal,
        random::{Purpose, generator},
    };

    /// Pictures that differ along the first three of 20 features, and a hundredth as much along the others.
    fn flat(n: usize, random: &mut Pcg64) -> Array2<f32> {
        Array2::from_shape_fn((n, 20), |(_, at)| 5.0 + standard_normal(random) * if at < 3 { 1.0 } else { 0.01 })
    }

    #[test]
    fn pictures_beside_the_subspace_are_strange_and_those_far_along_it_are_not() {
        let random = &mut generator(1, Purpose::Order, 0);
        let subspace = Subspace::of(flat(12, random).view()).unwrap();
        assert_eq!(subspace.directions.dim(), (20, 3));
        let mut others = flat(3, random);
        others[[1, 0]] += 50.0;
        others[[2, 10]] += 0.5;
        let strangeness = subspace.strangeness(others.view());
        assert!(strangeness[0] < 4.0 && strangeness[2] > 50.0, "{strangeness:?}");
        let along = subspace.directions.row(0).dot(&subspace.directions.row(0));
        assert!(along > 0.999, "the first feature is one of the directions: {along}");
    }

    #[test]
    fn directions_are_orthonormal_and_what_follows_from_others_is_none() {
        let random = &mut generator(2, Purpose::Order, 0);
        let mut columns = flat(3, random).t().to_owned();
        let repeated = columns.column(0).to_owned() * 2.0;
        columns.column_mut(2).assign(&repeated);
        orthonormalise(&mut columns);
        let products = columns.t().dot(&columns);
        let expected = Array2::from_diag(&Array1::from(vec![1.0f32, 1.0, 0.0]));
        assert!(products.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{products}");
    }

    #[test]
    fn nothing_is_known_of_too_few_pictures_or_of_pictures_that_are_alike() {
        let random = &mut generator(3, Purpose::Order, 0);
        assert_eq!(Subspace::of(flat(3, random).view()), None);
        assert_eq!(Subspace::of(Array2::zeros((30, 20)).view()), None);
        assert_eq!(Subspace::of(Array2::zeros((0, 20)).view()), None);
    }

    #[test]
    fn half_of_the_held_out_pictures_are_taken_as_they_are() {
        let strangeness: Vec<f32> = (1..=40).map(|i| i as f32).collect();
        assert_eq!(usual(&strangeness), Some(21.0));
        assert_eq!(usual(&strangeness[..19]), None);
        assert_eq!(usual(&[0.0; 40]), None);
        assert_eq!([3.0, 21.0, 42.0].map(|strange| factor(strange, 21.0)), [1.0, 1.0, 0.5]);
    }
}
