//! What the steps of one epoch are made on: order of pictures, augmentation, targets, dropout and mixing, all drawn from
//! the seed.

use api::train::Settings;
use rand::{RngExt, seq::SliceRandom};
use rand_pcg::Pcg64;

use crate::{
    data::{Batch, Pick, Samples},
    model::{Layer, Network, standard_normal},
    random::{Purpose, generator},
};

/// A batch ready for a step.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The pictures; those beyond [`Self::n_real`] only fill it up.
    pub batch: Batch,
    /// f32 `[n, n_classes]`; zero for what only fills up.
    pub targets: Vec<f32>,
    /// Per dropout layer f32 `[n, layer's shape…]`.
    pub masks: Vec<Vec<f32>>,
    /// With mixup: the row that each is mixed with, and the share that is its own.
    pub mixing: Option<(Vec<i64>, f32)>,
    /// Pictures that count.
    pub n_real: usize,
}

/// One epoch's plan.
pub struct Epoch<'a> {
    number: u32,
    settings: &'a Settings,
    network: &'a Network,
    samples: &'a dyn Samples,
    batch_size: usize,
    order: Vec<usize>,
}

impl<'a> Epoch<'a> {
    /// The plan of an epoch, counted from 1.
    pub fn new(
        number: u32,
        settings: &'a Settings,
        network: &'a Network,
        samples: &'a dyn Samples,
        batch_size: usize,
    ) -> Self {
        let mut order: Vec<usize> = (0..samples.len()).collect();
        order.shuffle(&mut generator(settings.seed, Purpose::Order, number.into()));
        Self { number, settings, network, samples, batch_size, order }
    }

    /// The batches, each made when it is asked for.
    pub fn batches(&self) -> impl Iterator<Item = Prepared> + '_ {
        let of = |purpose| generator(self.settings.seed, purpose, self.number.into());
        let mut augmentation = of(Purpose::Augmentation);
        let mut dropout = of(Purpose::Dropout);
        let mut mixing = of(Purpose::Mixing);
        self.order.chunks(self.batch_size).map(move |rows| {
            let n_real = rows.len();
            let mut filled = rows.to_vec();
            filled.resize(self.batch_size, rows[0]);
            let batch = self.samples.batch(&filled, Pick::Random(&mut augmentation));
            let masks = draw_masks(self.network, self.batch_size, &mut dropout);
            let mut targets = self.targets(rows);
            let mixing = (self.settings.mixup > 0.0).then(|| {
                let partners = partners(n_real, self.batch_size, &mut mixing);
                let own_share = symmetric_beta(self.settings.mixup, &mut mixing) as f32;
                targets = mixed(&targets, &partners, own_share, self.network.n_classes() as usize);
                (partners.into_iter().map(|row| row as i64).collect(), own_share)
            });
            Prepared { batch, targets, masks, mixing, n_real }
        })
    }

    /// One row per place of the batch: most of the mass on the label, the rest on all classes alike.
    fn targets(&self, rows: &[usize]) -> Vec<f32> {
        let n_classes = self.network.n_classes() as usize;
        let smoothing = self.settings.label_smoothing as f32;
        let mut targets = vec![0.0; self.batch_size * n_classes];
        for (target, &row) in targets.chunks_exact_mut(n_classes).zip(rows) {
            target.fill(smoothing / n_classes as f32);
            target[self.samples.labels()[row] as usize] += 1.0 - smoothing;
        }
        targets
    }
}

/// Masks of all dropout layers for one batch: zero where a value is dropped, else what keeps the mean.
fn draw_masks(network: &Network, n: usize, random: &mut Pcg64) -> Vec<Vec<f32>> {
    let layers = network.layers().iter();
    layers
        .filter_map(|placed| match placed.layer {
            Layer::Dropout { rate } => {
                let kept = (1.0 / (1.0 - rate)) as f32;
                let values = n * placed.input.iter().product::<i64>() as usize;
                Some((0..values).map(|_| if random.random_bool(rate) { 0.0 } else { kept }).collect())
            }
            _ => None,
        })
        .collect()
}

/// For each row another one, or itself; what only fills up stays alone.
fn partners(n_real: usize, n: usize, random: &mut Pcg64) -> Vec<usize> {
    let mut partners: Vec<usize> = (0..n).collect();
    partners[..n_real].shuffle(random);
    partners
}

fn mixed(targets: &[f32], partners: &[usize], own_share: f32, n_classes: usize) -> Vec<f32> {
    let of = |row: usize| &targets[row * n_classes..][..n_classes];
    let pairs = partners.iter().enumerate().flat_map(|(row, &partner)| of(row).iter().zip(of(partner)));
    pairs.map(|(own, other)| own * own_share + other * (1.0 - own_share)).collect()
}

/// A number from the beta distribution with both parameters `a`.
fn symmetric_beta(a: f64, random: &mut Pcg64) -> f64 {
    let (x, y) = (log_gamma_variate(a, random), log_gamma_variate(a, random));
    1.0 / (1.0 + (y - x).exp())
}

/// Logarithm of a number from the gamma distribution of shape `a` and scale 1; small shapes underflow without it.
///
/// # Source
/// Marsaglia and Tsang, "A simple method for generating gamma variables", 2000
fn log_gamma_variate(a: f64, random: &mut Pcg64) -> f64 {
    // A shape below 1 is one above, times a power of a uniform number.
    let boost = (1.0 - random.random::<f64>()).ln() / a;
    let d = a + 1.0 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = f64::from(standard_normal(random));
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - random.random::<f64>();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln() + boost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_variates_have_the_distributions_mean_and_variance() {
        for a in [0.1, 0.4, 1.0, 2.0] {
            let random = &mut generator(1, Purpose::Mixing, 0);
            let n = 20_000;
            let values: Vec<f64> = (0..n).map(|_| symmetric_beta(a, random)).collect();
            let mean = values.iter().sum::<f64>() / f64::from(n);
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n);
            let expected = 1.0 / (4.0 * (2.0 * a + 1.0));
            assert!((mean - 0.5).abs() < 0.01, "a {a}: mean {mean}");
            assert!((variance / expected - 1.0).abs() < 0.03, "a {a}: variance {variance} instead of {expected}");
        }
    }

    #[test]
    fn what_only_fills_up_is_mixed_with_nothing() {
        let partners = partners(5, 8, &mut generator(1, Purpose::Mixing, 0));
        assert_eq!(partners[5..], [5, 6, 7]);
        let mut real = partners[..5].to_vec();
        real.sort_unstable();
        assert_eq!(real, [0, 1, 2, 3, 4]);
        let targets = [1.0, 0.0, 0.0, 1.0];
        assert_eq!(mixed(&targets, &[1, 0], 0.75, 2), [0.75, 0.25, 0.25, 0.75]);
    }

    #[test]
    fn dropout_drops_its_share_and_keeps_the_mean() {
        let network = Network::new("", &[50], &[Layer::Dropout { rate: 0.25 }, Layer::Dense { units: 2 }]);
        let masks = draw_masks(&network, 200, &mut generator(1, Purpose::Dropout, 1));
        assert_eq!((masks.len(), masks[0].len()), (1, 10_000));
        let dropped = masks[0].iter().filter(|&&m| m == 0.0).count() as f64 / 1e4;
        let mean = masks[0].iter().map(|&m| f64::from(m)).sum::<f64>() / 1e4;
        assert!((dropped - 0.25).abs() < 0.02, "{dropped} of the values were dropped");
        assert!((mean - 1.0).abs() < 0.02, "the mean became {mean}");
    }
}
