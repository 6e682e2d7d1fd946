//! Gradients against finite differences, the step against the textbook.

use api::train::{Family, Settings};
use rand::RngExt;
use rand_pcg::Pcg64;

use super::*;
use crate::{
    adamw::AdamW,
    data::Batch,
    engine::{Engine, Inputs, Session},
    model::{Layer, Weights},
    optimiser::Optimiser,
    random::{Purpose, generator},
    sampling::Prepared,
    testing::library,
};

/// A batch with everything a gradient depends on.
struct Case {
    network: Network,
    session: Session,
    prepared: Prepared,
    weights: Weights,
}

const N: i64 = 6;

const KIND: StepKind = StepKind { n: N, mixes: false };

impl Case {
    /// The last of the pictures only fills the batch up, and targets are soft.
    fn new(engine: &Engine, shape: &[i64], layers: &[Layer], kind: StepKind) -> Self {
        let feed = Feed::Features { shape: shape.to_vec() };
        let network = Network::new("layer", shape, layers);
        let session = engine.session("gradient", &training_step(&feed, &network, kind)).expect("a valid graph");
        let random = &mut generator(3, Purpose::Weights, 0);
        let dims = [&[N], shape].concat();
        let values = uniform(random, dims.iter().product::<i64>() as usize, 1.0);
        let classes = network.n_classes() as usize;
        let mut targets = vec![0.1 / classes as f32; N as usize * classes];
        for target in targets.chunks_exact_mut(classes) {
            target[random.random_range(0..classes)] += 0.9;
        }
        targets[(N as usize - 1) * classes..].fill(0.0);
        let mask = |random: &mut Pcg64| if random.random_bool(0.4) { 0.0 } else { 1.0 / 0.6 };
        let masks = network.layers().iter().filter(|p| matches!(p.layer, Layer::Dropout { .. }));
        let masks = masks.map(|p| (0..N * p.input.iter().product::<i64>()).map(|_| mask(random)).collect()).collect();
        let scale = |fan_in: i64| (3.0 / fan_in as f32).sqrt();
        let weights = network.parameters().iter().map(|p| uniform(random, p.len(), scale(p.fan_in))).collect();
        let mixing = kind.mixes.then(|| (vec![2, 1, 0, 4, 3, 5], 0.7));
        let batch = Batch::Features { dims, values };
        Self { network, session, prepared: Prepared { batch, targets, masks, mixing, n_real: N as usize - 1 }, weights }
    }

    /// Loss and gradients at these weights.
    fn run(&mut self, weights: &Weights) -> (f64, Weights) {
        let mut inputs = Inputs::new();
        self.prepared.batch.feed(&mut inputs).expect("a batch");
        inputs.tensor(TARGETS, &[N, self.network.n_classes()], &self.prepared.targets).expect("targets");
        if let Some((partners, own_share)) = &self.prepared.mixing {
            inputs.tensor(PARTNERS, &[N], partners).expect("partners");
            inputs.number(OWN_SHARE, *own_share).expect("a share");
        }
        let dropouts = self.network.layers().iter().filter(|p| matches!(p.layer, Layer::Dropout { .. }));
        for (placed, mask) in dropouts.zip(&self.prepared.masks) {
            inputs.tensor(placed.mask(), &[&[N], placed.input.as_slice()].concat(), mask).expect("a mask");
        }
        for (parameter, values) in self.network.parameters().iter().zip(weights) {
            inputs.tensor(parameter.name.as_str(), &parameter.dims, values).expect("weights");
        }
        let outputs = self.session.run(inputs).expect("a step");
        let of = |name: &str| outputs.values(&gradient(name)).expect("a gradient").to_vec();
        let gradients = self.network.parameters().iter().map(|p| of(&p.name)).collect();
        (f64::from(outputs.number::<f32>(LOSS).expect("a loss")), gradients)
    }
}

fn uniform(random: &mut Pcg64, n: usize, most: f32) -> Vec<f32> {
    (0..n).map(|_| random.random_range(-most..most)).collect()
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// Compares every gradient with central differences of the loss.
#[track_caller]
fn check(engine: &Engine, shape: &[i64], layers: &[Layer], kind: StepKind) {
    /// Small enough to miss the kinks of ReLU and pooling, large against the rounding of a loss in 32 bits.
    const STEP: f32 = 5e-4;
    /// Of a gradient's length. Rounding and a kink here and there stay at half of it, a wrong term does not.
    const TOLERANCE: f64 = 0.025;
    /// Weights of each parameter that are tried.
    const MOST: usize = 150;
    let mut case = Case::new(engine, shape, layers, kind);
    let start = case.weights.clone();
    let (_, gradients) = case.run(&start);
    for (index, gradient) in gradients.iter().enumerate() {
        let stride = gradient.len().div_ceil(MOST);
        let (mut differences, mut tried) = (vec![], vec![]);
        for at in (0..gradient.len()).step_by(stride) {
            let mut loss_at = |step: f32| {
                let mut weights = start.clone();
                weights[index][at] += step;
                case.run(&weights).0
            };
            differences.push((loss_at(STEP) - loss_at(-STEP)) / f64::from(2.0 * STEP));
            tried.push(f64::from(gradient[at]));
        }
        let length = norm(differences.iter().copied());
        let error = norm(differences.iter().zip(&tried).map(|(d, g)| d - g));
        let name = &case.network.parameters()[index].name;
        assert!(length > 1e-3, "{name} of {layers:?} has no influence on the loss");
        assert!(error < TOLERANCE * length, "{name} of {layers:?} is off by {:.3} of its length", error / length);
    }
}

const RELU: Layer = Layer::Relu;
const POOL: Layer = Layer::MaxPool;
const MEAN: Layer = Layer::GlobalAveragePool;
const FLATTEN: Layer = Layer::Flatten;
const DROPOUT: Layer = Layer::Dropout { rate: 0.4 };

const fn conv(filters: i64, kernel: i64, stride: i64) -> Layer {
    Layer::Conv { filters, kernel, stride }
}

const fn depthwise(kernel: i64, stride: i64) -> Layer {
    Layer::Depthwise { kernel, stride }
}

const fn dense(units: i64) -> Layer {
    Layer::Dense { units }
}

#[test]
fn gradients_match_finite_differences() {
    let engine = Engine::load_from(library()).expect("ONNX Runtime");
    for (shape, layers) in [
        (vec![5], vec![dense(3)]),
        (vec![5], vec![dense(6), RELU, dense(4)]),
        (vec![5], vec![dense(6), DROPOUT, dense(4)]),
        (vec![5], vec![DROPOUT, dense(4)]),
        (vec![2, 3, 2], vec![FLATTEN, dense(3)]),
        (vec![2, 5, 4], vec![conv(3, 3, 1), FLATTEN, dense(3)]),
        (vec![2, 4, 3], vec![conv(3, 1, 1), conv(2, 3, 1), FLATTEN, dense(3)]),
        (vec![1, 5, 6], vec![conv(2, 3, 1), conv(3, 5, 1), FLATTEN, dense(2)]),
        (vec![2, 5, 7], vec![conv(3, 3, 1), POOL, FLATTEN, dense(3)]),
        (vec![1, 9, 8], vec![conv(2, 3, 1), RELU, POOL, conv(3, 3, 1), RELU, POOL, FLATTEN, DROPOUT, dense(3)]),
        (vec![2, 6, 7], vec![conv(3, 3, 2), conv(4, 3, 2), FLATTEN, dense(3)]),
        (vec![2, 6, 6], vec![conv(3, 1, 2), conv(4, 1, 2), MEAN, dense(3)]),
        (vec![3, 4, 5], vec![conv(4, 1, 1), Layer::Relu6, conv(5, 1, 1), MEAN, dense(3)]),
        (
            vec![3, 4, 5],
            vec![conv(4, 1, 1), conv(6, 1, 1), RELU, conv(4, 1, 1), Layer::Add { back: 3 }, MEAN, dense(3)],
        ),
        (vec![3, 4, 4], vec![conv(3, 1, 1), RELU, Layer::Add { back: 2 }, conv(2, 3, 1), POOL, FLATTEN, dense(3)]),
    ] {
        check(&engine, &shape, &layers, KIND);
    }
}

#[test]
fn gradients_of_depthwise_convolutions_match_finite_differences() {
    let engine = Engine::load_from(library()).expect("ONNX Runtime");
    // Some channels that are worked on at once, and some that are left over.
    let shape = |height, width| vec![11, height, width];
    for (shape, layers) in [
        (shape(5, 4), vec![depthwise(3, 1), MEAN, dense(3)]),
        (shape(5, 6), vec![conv(11, 1, 1), depthwise(5, 1), FLATTEN, dense(3)]),
        (shape(7, 6), vec![conv(11, 1, 1), depthwise(3, 2), FLATTEN, dense(3)]),
        (shape(6, 7), vec![conv(11, 1, 1), depthwise(5, 2), FLATTEN, dense(3)]),
        (shape(2, 1), vec![conv(11, 1, 1), depthwise(3, 2), FLATTEN, dense(3)]),
        (vec![3, 6, 5], vec![conv(4, 3, 1), POOL, depthwise(3, 1), Layer::Relu6, conv(5, 1, 1), MEAN, dense(3)]),
    ] {
        check(&engine, &shape, &layers, KIND);
    }
}

#[test]
fn gradients_of_mixed_pictures_match_finite_differences() {
    let engine = Engine::load_from(library()).expect("ONNX Runtime");
    check(&engine, &[2, 3, 3], &[conv(3, 1, 1), RELU, MEAN, dense(3)], StepKind { mixes: true, ..KIND });
}

#[test]
fn what_only_fills_a_batch_up_changes_nothing() {
    let engine = Engine::load_from(library()).expect("ONNX Runtime");
    let mut case = Case::new(&engine, &[5], &[dense(6), RELU, dense(4)], KIND);
    let weights = case.weights.clone();
    let before = case.run(&weights);
    let Batch::Features { values, .. } = &mut case.prepared.batch else { panic!("features give features") };
    let last = values.len() - 5;
    values[last..].fill(0.9);
    assert_eq!(case.run(&weights), before);
}

#[test]
fn gradients_are_shortened_together_and_only_where_they_are_too_long() {
    let network = Network::new("layer", &[2], &[dense(1)]);
    let after = |clip_norm| {
        let mut moving = AdamW::new(&network, &vec![vec![0.0, 0.0], vec![0.0]], clip_norm, 0.0);
        moving.step(&[&[0.5, -1.0], &[1.0]], 0.1, 0.0);
        // The first moment of the first step is a tenth of the gradient.
        let state = moving.state();
        [state[1][0], state[1][1], state[5][0]].map(|mean| mean * 10.0)
    };
    let close = |got: [f32; 3], expected: [f32; 3]| got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(close(after(0.0), [0.5, -1.0, 1.0]));
    assert!(close(after(1.6), [0.5, -1.0, 1.0]), "their length is 1.5");
    assert!(close(after(0.75), [0.25, -0.5, 0.5]));
}

#[test]
fn a_step_is_the_textbooks_adamw_and_the_average_follows() {
    let engine = Engine::load_from(library()).expect("ONNX Runtime");
    let mut case = Case::new(&engine, &[5], &[dense(4), RELU], KIND);
    case.network = case.network.then("head", &[dense(3)], 4.0);
    let (network, head) = (case.network.clone(), case.network.parameters().len() - 2);
    // The gradients come from a case of the same layers at one pace.
    let mut case = Case::new(&engine, &[5], &[dense(4), RELU, dense(3)], KIND);
    let keep = 0.6;
    let settings = Settings { batch_size: N as u32, weight_average: keep, ..Settings::defaults(Family::Linear, 8) };
    let feed = Feed::Features { shape: vec![5] };
    let mut optimiser = Optimiser::new(&engine, &feed, &network, &case.weights, &settings, 100).expect("an optimiser");
    let mut expected: Vec<Vec<f64>> = case.weights.iter().map(|w| w.iter().map(|&w| f64::from(w)).collect()).collect();
    let mut averages = expected.clone();
    let mut means: Vec<Vec<f64>> = expected.iter().map(|w| vec![0.0; w.len()]).collect();
    let mut variances = means.clone();
    for step in 1..=5 {
        let (rate, decay) = (0.02 / f64::from(step), 0.3);
        let before = expected.iter().map(|w| w.iter().map(|&w| w as f32).collect()).collect();
        let (loss, gradients) = case.run(&before);
        let outcome = optimiser.step(&case.prepared, rate, decay).expect("a step");
        assert!((outcome.loss - loss).abs() < 1e-5);
        let keep = keep.min((1.0 + f64::from(step)) / (10.0 + f64::from(step)));
        for (index, gradient) in gradients.iter().enumerate() {
            let rate = if index >= head { 4.0 * rate } else { rate };
            let decays = network.parameters()[index].decays;
            for (at, &g) in gradient.iter().enumerate() {
                let g = f64::from(g);
                let (mean, variance) = (&mut means[index][at], &mut variances[index][at]);
                *mean = 0.9 * *mean + 0.1 * g;
                *variance = 0.999 * *variance + 0.001 * g * g;
                let mean = *mean / (1.0 - 0.9f64.powi(step));
                let variance = *variance / (1.0 - 0.999f64.powi(step));
                let weight = &mut expected[index][at];
                *weight -= rate * (mean / (variance.sqrt() + 1e-8) + if decays { decay * *weight } else { 0.0 });
                averages[index][at] = keep * averages[index][at] + (1.0 - keep) * *weight;
            }
        }
        let shown = optimiser.weights();
        for (shown, expected) in shown.iter().flatten().zip(averages.iter().flatten()) {
            assert!((f64::from(*shown) - expected).abs() < 2e-5, "step {step}: {shown} instead of {expected}");
        }
    }
}

#[test]
fn an_optimiser_that_goes_on_from_a_state_takes_the_same_steps() {
    let engine = Engine::load_from(library()).expect("ONNX Runtime");
    let case = Case::new(&engine, &[5], &[dense(4), RELU, dense(3)], KIND);
    let settings = Settings { batch_size: N as u32, ..Settings::defaults(Family::Linear, 8) };
    let feed = Feed::Features { shape: vec![5] };
    let begin = || Optimiser::new(&engine, &feed, &case.network, &case.weights, &settings, 100).expect("an optimiser");
    let (mut one, mut other) = (begin(), begin());
    for _ in 0..3 {
        one.step(&case.prepared, 0.01, 0.1).expect("a step");
    }
    other.restore(&one.state(), 3).expect("the same network");
    for optimiser in [&mut one, &mut other] {
        optimiser.step(&case.prepared, 0.01, 0.1).expect("a step");
    }
    assert_eq!(one.state(), other.state());
    assert!(other.restore(&[vec![0.0]], 1).is_err());
}

#[test]
fn a_step_on_folded_weights_is_the_step_on_the_weights_without_their_normalisation() {
    let engine = Engine::load_from(library()).expect("ONNX Runtime");
    let layers = [conv(3, 1, 1), MEAN, dense(3)];
    let mut case = Case::new(&engine, &[2, 3, 3], &layers, KIND);
    let gain = vec![0.1, -3.0, 20.0];
    let network = case.network.clone().with_gains(std::slice::from_ref(&gain));
    let settings = Settings { batch_size: N as u32, ..Settings::defaults(Family::Linear, 8) };
    let feed = Feed::Features { shape: vec![2, 3, 3] };
    let before = case.weights.clone();
    let (_, gradients) = case.run(&before);
    let mut optimiser = Optimiser::new(&engine, &feed, &network, &before, &settings, 100).expect("an optimiser");
    let (rate, decay) = (0.01, 0.1);
    optimiser.step(&case.prepared, rate, decay).expect("a step");
    let after = optimiser.weights();
    for (at, gradient) in gradients[0].iter().enumerate() {
        // The first step of Adam has the length of the learning rate, whatever the gradient is.
        let (gain, raw) = (f64::from(gain[at / 2]), f64::from(before[0][at]) / f64::from(gain[at / 2]));
        let slope = f64::from(*gradient) * gain;
        let expected = gain * (raw - rate * (slope / (slope.abs() + 1e-8) + decay * raw));
        let got = f64::from(after[0][at]);
        assert!(slope != 0.0 && (got - expected).abs() < 1e-5, "{got} instead of {expected}");
    }
}
