//! SqueezeNet 1.1, pretrained on ImageNet: its weights file → a graph from pixels to averaged features.
//!
//! It stays frozen, because its branches are not among the layers that can be trained. The classifier that came with it is
//! left out.

use std::collections::BTreeMap;

use super::PREFIX;
use crate::{
    Result, TrainerError,
    graph::{Builder, Value},
    onnx::{int, ints},
    torch_file::Array,
};

/// Red, green and blue; subtracted from 0..=255 values.
pub const PIXEL_MEAN: [f32; 3] = [123.68, 116.779, 103.939];

/// Divides what is left.
pub const PIXEL_DEVIATION: f32 = 1.0;

/// Per picture.
pub const FEATURES: i64 = 512;

/// The smallest side in pixels at which the last map still has a value.
pub const LEAST_INPUT_SIZE: u32 = 32;

const STEM_CHANNELS: usize = 64;

/// Channels inside of a fire module, and of each of the two halves that it puts out.
///
/// # Source
/// Iandola et al., "SqueezeNet", 2016, and its published version 1.1: pooling comes earlier there, and the first
/// convolution is smaller
struct Fire {
    squeeze: usize,
    expand: usize,
    /// Whether a pooling comes before it.
    is_pooled: bool,
}

const fn fire(squeeze: usize, expand: usize, is_pooled: bool) -> Fire {
    Fire { squeeze, expand, is_pooled }
}

/// Modules two to nine.
const FIRES: [Fire; 8] = [
    fire(16, 64, true),
    fire(16, 64, false),
    fire(32, 128, true),
    fire(32, 128, false),
    fire(48, 192, true),
    fire(48, 192, false),
    fire(64, 256, false),
    fire(64, 256, false),
];

/// A convolution that a ReLU follows.
#[derive(Clone, Debug)]
struct Conv {
    /// As in the graph.
    name: String,
    /// Output channels, input channels, height, width.
    dims: [usize; 4],
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// The three convolutions of a fire module.
#[derive(Clone, Debug)]
struct Module {
    squeeze: Conv,
    expand_1: Conv,
    expand_3: Conv,
    is_pooled: bool,
}

/// The network with its weights.
#[derive(Clone, Debug)]
pub struct SqueezeNet {
    stem: Conv,
    modules: Vec<Module>,
}

/// Takes the weights out of the file.
///
/// # Errors
/// `BackboneWeights` if an array is missing, has another shape or is not finite
pub fn read(arrays: &BTreeMap<String, Array>) -> Result<SqueezeNet> {
    let mut stem = Conv::read(arrays, "conv1", [STEM_CHANNELS, 3, 3, 3])?;
    stem.reverse_input_channels();
    let mut channels = STEM_CHANNELS;
    let mut modules = vec![];
    for (number, &Fire { squeeze, expand, is_pooled }) in (2..).zip(&FIRES) {
        let conv = |part: &str, dims| Conv::read(arrays, &format!("fire{number}/{part}"), dims);
        modules.push(Module {
            squeeze: conv("squeeze1x1", [squeeze, channels, 1, 1])?,
            expand_1: conv("expand1x1", [expand, squeeze, 1, 1])?,
            expand_3: conv("expand3x3", [expand, squeeze, 3, 3])?,
            is_pooled,
        });
        channels = 2 * expand;
    }
    Ok(SqueezeNet { stem, modules })
}

impl Conv {
    /// The file names a layer's arrays after the layer a second time; weights are in the order height, width, input, output.
    fn read(arrays: &BTreeMap<String, Array>, layer: &str, dims: [usize; 4]) -> Result<Self> {
        let [outputs, inputs, height, width] = dims;
        let get = |part: &str, dims: &[usize]| {
            let name = format!("{layer}/{layer}_{part}:0");
            let problem = match arrays.get(&name) {
                None => format!("{name} is missing"),
                Some(array) if array.dims != dims => format!("{name} has shape {:?}; expected {dims:?}", array.dims),
                Some(array) if !array.values.iter().all(|value| value.is_finite()) => format!("{name} is not finite"),
                Some(array) => return Ok(array.values.clone()),
            };
            Err(TrainerError::BackboneWeights(problem))
        };
        let raw = get("W", &[height, width, inputs, outputs])?;
        let kernel = height * width;
        let ordered = (0..outputs).flat_map(|output| {
            let raw = &raw;
            let from = move |input| (0..kernel).map(move |at| raw[(at * inputs + input) * outputs + output]);
            (0..inputs).flat_map(from)
        });
        Ok(Self { name: layer.replace('/', "."), dims, weight: ordered.collect(), bias: get("b", &[outputs])? })
    }

    /// From blue, green, red to red, green, blue.
    fn reverse_input_channels(&mut self) {
        let [_, inputs, height, width] = self.dims;
        let kernel = height * width;
        for filter in self.weight.chunks_mut(inputs * kernel) {
            let reversed: Vec<f32> = filter.chunks(kernel).rev().flatten().copied().collect();
            filter.copy_from_slice(&reversed);
        }
    }

    fn n_weights(&self) -> usize {
        self.weight.len() + self.bias.len()
    }

    /// For a map of this side that comes out.
    fn multiply_adds(&self, side: u64) -> u64 {
        self.weight.len() as u64 * side * side
    }

    /// Appends it and its ReLU; what comes in is padded on each side with so many zeros.
    fn append(&self, graph: &mut Builder, x: &Value, stride: i64, padding: i64) -> Value {
        let name = |part| format!("{PREFIX}{}.{part}", self.name);
        let dims = self.dims.map(|dim| dim as i64);
        let weight = graph.constant(&name("weight"), &dims, &self.weight);
        let bias = graph.constant(&name("bias"), &dims[..1], &self.bias);
        let attributes =
            vec![ints("kernel_shape", &dims[2..]), ints("strides", &[stride; 2]), ints("pads", &[padding; 4])];
        let y = graph.op("Conv", &[x, &weight, &bias], attributes);
        graph.op("Relu", &[&y], vec![])
    }
}

/// Side of the map that comes out of a window of three that moves by two, without padding.
const fn halved(side: u64) -> u64 {
    side.saturating_sub(1) / 2
}

impl SqueezeNet {
    fn convolutions<'a>(&'a self) -> impl Iterator<Item = &'a Conv> {
        let of_module = |module: &'a Module| [&module.squeeze, &module.expand_1, &module.expand_3];
        [&self.stem].into_iter().chain(self.modules.iter().flat_map(of_module))
    }

    /// Number of its weights.
    pub fn n_weights(&self) -> usize {
        self.convolutions().map(Conv::n_weights).sum()
    }

    /// Multiply-adds for one picture.
    pub fn multiply_adds(&self, input_size: u32) -> u64 {
        let mut side = halved(u64::from(input_size));
        let mut sum = self.stem.multiply_adds(side);
        for Module { squeeze, expand_1, expand_3, is_pooled } in &self.modules {
            if *is_pooled {
                side = halved(side);
            }
            sum += [squeeze, expand_1, expand_3].map(|conv| conv.multiply_adds(side)).iter().sum::<u64>();
        }
        sum
    }

    /// Appends it with its weights as constants.
    ///
    /// # Shapes
    /// - `x`: f32 `[N, 3, side, side]`, with sides of [`LEAST_INPUT_SIZE`] or more
    /// - result: `[N, FEATURES]`
    pub fn append(&self, graph: &mut Builder, x: &Value) -> Value {
        let mut x = self.stem.append(graph, x, 2, 0);
        for Module { squeeze, expand_1, expand_3, is_pooled } in &self.modules {
            if *is_pooled {
                x = graph.op("MaxPool", &[&x], vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2])]);
            }
            let narrow = squeeze.append(graph, &x, 1, 0);
            let halves = [expand_1.append(graph, &narrow, 1, 0), expand_3.append(graph, &narrow, 1, 1)];
            x = graph.op("Concat", &[&halves[0], &halves[1]], vec![int("axis", 1)]);
        }
        let pooled = graph.op("GlobalAveragePool", &[&x], vec![]);
        graph.op("Flatten", &[&pooled], vec![int("axis", 1)])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::Arc;

    use super::*;
    use crate::{
        backbone::{Backbone, Backbones, Frozen},
        engine::{Engine, Inputs},
        model::Feed,
        onnx::{BATCH, Element},
        pixels::PixelInput,
    };

    /// The installed network, if it is.
    fn installed() -> Option<Arc<Backbone>> {
        let found = Backbones::find(crate::testing::backbones().as_deref(), None);
        if !found.names().iter().any(|name| name == "squeezenet1.1") {
            println!("SKIPPED: squeezenet1.1 is not installed; run `cargo xtask setup`");
            return None;
        }
        Some(found.open("squeezenet1.1").unwrap())
    }

    /// Features of the picture whose red, green and blue are `5 x + 3 y`, `x y` and `7 y + 255 - x`, each modulo 256.
    fn features(backbone: Arc<Backbone>, size: u32) -> Vec<f32> {
        let (mean, deviation) = (backbone.mean(), backbone.deviation());
        let pixels = PixelInput { height: size, width: size, size, mean, deviation };
        let frozen = Frozen { backbone, input_size: size, trained_blocks: 0 };
        let mut graph = Builder::new();
        let features = Feed::Pixels { pixels, frozen: Some(frozen) }.append(&mut graph, BATCH);
        graph.output("features", &features, Element::F32, &[BATCH, FEATURES]);
        let engine = Engine::load_from(crate::testing::library()).unwrap();
        let mut session = engine.session("backbone", &graph.finish("backbone", &[])).unwrap();

        let at = |y: u32, x: u32| [5 * x + 3 * y, x * y, 7 * y + 255 - x].map(|value| (value % 256) as u8);
        let picture: Vec<u8> = (0..size).flat_map(|y| (0..size).flat_map(move |x| at(y, x))).collect();
        let mut inputs = Inputs::new();
        let side = i64::from(size);
        inputs.tensor(api::model::INPUT, &[1, side, side, 3], &picture).unwrap();
        session.run(inputs).unwrap().values("features").unwrap().to_vec()
    }

    /// Compares with what another implementation (PyTorch, in 64 bits, blue first as the file has it) says.
    #[track_caller]
    fn check(found: &[f32], mean: f64, n_zeros: usize, expected: &[(usize, f64)]) {
        let near = |found: f64, expected: f64| (found - expected).abs() <= 1e-3 * expected.abs();
        assert_eq!(found.len(), FEATURES as usize);
        let found_mean = found.iter().map(|&value| f64::from(value)).sum::<f64>() / found.len() as f64;
        assert!(near(found_mean, mean), "the mean is {found_mean}; expected {mean}");
        assert_eq!(found.iter().filter(|&&value| value == 0.0).count(), n_zeros);
        for &(at, value) in expected {
            assert!(near(f64::from(found[at]), value), "feature {at} is {}; expected {value}", found[at]);
        }
    }

    #[test]
    fn features_are_those_of_another_implementation() {
        let Some(backbone) = installed() else { return };
        let odd = [(0, 1.22726), (77, 0.116456), (200, 0.887211), (226, 74.98181), (122, 57.6649), (140, 36.8161)];
        check(&features(backbone.clone(), 227), 2.3552288, 240, &odd);
        let small = [(200, 3.95043), (205, 117.58334), (122, 69.59571), (332, 68.22979), (405, 41.82098)];
        check(&features(backbone.clone(), 64), 2.5558212, 409, &small);
        check(&features(backbone, LEAST_INPUT_SIZE), 1.4496364, 481, &[(205, 117.29226), (178, 93.30814)]);
    }

    #[test]
    fn it_has_its_architectures_weights_and_stays_frozen() {
        let Some(backbone) = installed() else { return };
        // The published network has 1,235,496, of which 513,000 are the classifier's.
        assert_eq!((backbone.n_weights(), backbone.n_blocks()), (722_496, 0));
        let frozen = Frozen { backbone: backbone.clone(), input_size: 227, trained_blocks: 0 };
        assert_eq!(frozen.output(), [FEATURES]);
        assert_eq!(frozen.multiply_adds(), 266_012_352);
        let refused = |error: TrainerError, sentence: &str| assert!(error.sentence().contains(sentence), "{error:?}");
        refused(backbone.trained(227, 1).unwrap_err(), "squeezenet1.1 can only be used frozen; choose linear or mlp");
        refused(
            backbone.check_size(31).unwrap_err(),
            "input_size is 31; backbone squeezenet1.1 sees at least 32 pixels",
        );
        backbone.check_size(32).unwrap();
    }

    #[test]
    fn a_missing_or_misshapen_array_is_named() {
        let mut arrays = BTreeMap::new();
        let problem = |arrays: &_| read(arrays).unwrap_err().to_string();
        assert!(problem(&arrays).contains("conv1/conv1_W:0 is missing"));
        let mut add = |dims: &[usize], value| {
            let values = vec![value; dims.iter().product()];
            arrays.insert("conv1/conv1_W:0".to_owned(), Array { dims: dims.to_vec(), values });
            problem(&arrays)
        };
        assert!(add(&[64, 3, 3, 3], 0.0).contains("has shape [64, 3, 3, 3]; expected [3, 3, 3, 64]"));
        assert!(add(&[3, 3, 3, 64], f32::NAN).contains("conv1/conv1_W:0 is not finite"));
        assert!(add(&[3, 3, 3, 64], 0.5).contains("conv1/conv1_b:0 is missing"));
    }

    #[test]
    fn weights_are_reordered_and_their_colours_turned_round() {
        let values = (0..24u8).map(f32::from).collect();
        let weight = Array { dims: vec![2, 2, 3, 2], values };
        let bias = Array { dims: vec![2], values: vec![0.5, 1.5] };
        let arrays = BTreeMap::from([("a/b/a/b_W:0".to_owned(), weight), ("a/b/a/b_b:0".to_owned(), bias)]);
        let mut conv = Conv::read(&arrays, "a/b", [2, 3, 2, 2]).unwrap();
        assert_eq!(conv.weight[..8], [0.0, 6.0, 12.0, 18.0, 2.0, 8.0, 14.0, 20.0]);
        assert_eq!(conv.weight[12..16], [1.0, 7.0, 13.0, 19.0]);
        conv.reverse_input_channels();
        assert_eq!(conv.weight[..8], [4.0, 10.0, 16.0, 22.0, 2.0, 8.0, 14.0, 20.0]);
        assert_eq!((conv.name.as_str(), conv.bias), ("a.b", vec![0.5, 1.5]));
    }
}
