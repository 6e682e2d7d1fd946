//! What a network is made of: layers, their shapes and their weights; and which layers a family stands for.
//!
//! How layers become gradients is `grad`'s business.

use api::train::{Family, Settings};
use rand::RngExt;
use rand_pcg::Pcg64;

use crate::{
    graph::{Builder, Value},
    onnx::{Attribute, BATCH, Element, int, ints},
    pixels::PixelInput,
};

/// One step of a network. Shapes are per picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// Convolution with an odd kernel, stride 1, zero padding that keeps height and width: `[c, h, w]` → `[filters, h, w]`.
    Conv {
        /// Output channels.
        filters: i64,
        /// Side of the kernel.
        kernel: i64,
    },
    /// `max(0, x)`.
    Relu,
    /// Largest of every 2 × 2 values, an odd last row or column left out: `[c, h, w]` → `[c, h/2, w/2]`.
    MaxPool,
    /// In training, drops this share of values and scales the others up to keep the mean.
    Dropout {
        /// 0..1.
        rate: f64,
    },
    /// `[c, h, w]` → `[c·h·w]`.
    Flatten,
    /// `x · W + b`: `[n]` → `[units]`.
    Dense {
        /// Outputs.
        units: i64,
    },
}

/// A layer in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// What it does.
    pub layer: Layer,
    /// Unique in the network; parameters are called `<name>.weight` and `<name>.bias`.
    pub name: String,
    /// Shape of what comes in, per picture.
    pub input: Vec<i64>,
    /// Shape of what goes out, per picture.
    pub output: Vec<i64>,
}

impl Placed {
    /// Name of the weights in the graph.
    pub fn weight(&self) -> Value {
        Value::named(format!("{}.weight", self.name))
    }

    /// Name of the offsets in the graph.
    pub fn bias(&self) -> Value {
        Value::named(format!("{}.bias", self.name))
    }

    /// Name of the dropout mask that training feeds in.
    pub fn mask(&self) -> String {
        format!("{}.mask", self.name)
    }
}

/// A tensor that training changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name in the graphs.
    pub name: String,
    /// Shape.
    pub dims: Vec<i64>,
    /// Values that add up to one output; sets the scale of the first weights.
    pub fan_in: i64,
    /// Whether weight decay pulls at it: weights yes, offsets no.
    pub decays: bool,
    /// Whether a ReLU follows, which halves the variance of what it lets through.
    pub rectified: bool,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.dims.iter().product::<i64>() as usize
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Values of all parameters, in the order of [`Network::parameters`].
pub type Weights = Vec<Vec<f32>>;

/// A chain of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    layers: Vec<Placed>,
    parameters: Vec<Parameter>,
    input: Vec<i64>,
    output: Vec<i64>,
}

impl Network {
    /// Puts layers behind one another.
    ///
    /// # Panics
    /// If a layer cannot take the shape of the one in front of it: the list is code, not input.
    pub fn new(input: &[i64], layers: &[Layer]) -> Self {
        let mut shape = input.to_vec();
        let mut placed = Vec::with_capacity(layers.len());
        let mut parameters = vec![];
        for (index, &layer) in layers.iter().enumerate() {
            let output = match (layer, shape.as_slice()) {
                (Layer::Conv { filters, kernel }, &[_, height, width]) if kernel % 2 == 1 => {
                    vec![filters, height, width]
                }
                (Layer::MaxPool, &[channels, height, width]) if height >= 2 && width >= 2 => {
                    vec![channels, height / 2, width / 2]
                }
                (Layer::Flatten, dims) => vec![dims.iter().product()],
                (Layer::Dense { units }, &[_]) => vec![units],
                (Layer::Relu | Layer::Dropout { .. }, dims) => dims.to_vec(),
                (layer, dims) => panic!("{layer:?} cannot follow an output of shape {dims:?}"),
            };
            let name = format!("layer{index}");
            let weight_dims = match layer {
                Layer::Conv { filters, kernel } => Some(vec![filters, shape[0], kernel, kernel]),
                Layer::Dense { units } => Some(vec![shape[0], units]),
                _ => None,
            };
            if let Some(dims) = weight_dims {
                let fan_in = dims.iter().product::<i64>() / output[0];
                let rectified = layers.get(index + 1) == Some(&Layer::Relu);
                let weight = Parameter { name: format!("{name}.weight"), dims, fan_in, decays: true, rectified };
                let bias =
                    Parameter { name: format!("{name}.bias"), dims: vec![output[0]], fan_in, decays: false, rectified };
                parameters.extend([weight, bias]);
            }
            placed.push(Placed { layer, name, input: std::mem::replace(&mut shape, output.clone()), output });
        }
        Self { layers: placed, parameters, input: input.to_vec(), output: shape }
    }

    /// The layers a family trains.
    ///
    /// # Shapes
    /// `input`: what [`Feed::shape`] says for the family's feed
    pub fn of_family(settings: &Settings, input: &[i64], n_classes: i64) -> Self {
        let mut layers = vec![];
        if settings.family == Family::Cnn {
            let mut side = i64::from(settings.input_size);
            for filters in [32, 64].into_iter().chain(std::iter::repeat(64)) {
                layers.extend([Layer::Conv { filters, kernel: 3 }, Layer::Relu, Layer::MaxPool]);
                side /= 2;
                if side <= 8 && layers.len() >= 6 {
                    break;
                }
            }
            layers.extend([Layer::Flatten, Layer::Dense { units: 128 }, Layer::Relu]);
        }
        if settings.dropout > 0.0 {
            layers.push(Layer::Dropout { rate: settings.dropout });
        }
        layers.push(Layer::Dense { units: n_classes });
        Self::new(input, &layers)
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[Placed] {
        &self.layers
    }

    /// The parameters in the order of [`Weights`].
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Values in all parameters together.
    pub fn n_weights(&self) -> usize {
        self.parameters.iter().map(Parameter::len).sum()
    }

    /// Shape per picture of what goes in.
    pub fn input(&self) -> &[i64] {
        &self.input
    }

    /// Columns of the logits.
    pub fn n_classes(&self) -> i64 {
        self.output[0]
    }

    /// First weights: normal around zero with the variance that keeps activations at one scale through the layers;
    /// offsets zero. The last layer starts at zero, so that no class is preferred.
    ///
    /// # Source
    /// He et al., "Delving deep into rectifiers", 2015
    pub fn first_weights(&self, rng: &mut Pcg64) -> Weights {
        let last = self.parameters.len().saturating_sub(2);
        self.parameters
            .iter()
            .enumerate()
            .map(|(index, parameter)| {
                if !parameter.decays || index >= last {
                    return vec![0.0; parameter.len()];
                }
                let gain = if parameter.rectified { 2.0 } else { 1.0 };
                let deviation = (gain / parameter.fan_in as f32).sqrt();
                (0..parameter.len()).map(|_| deviation * standard_normal(rng)).collect()
            })
            .collect()
    }

    /// Appends the network as it is used after training; parameters are referred to by name.
    ///
    /// # Shapes
    /// - `x`: `[N, input…]`
    /// - result: logits `[N, n_classes]`
    pub fn infer(&self, graph: &mut Builder, x: &Value) -> Value {
        self.layers.iter().fold(x.clone(), |x, placed| match placed.layer {
            Layer::Dropout { .. } => x,
            _ => placed.forward(graph, &x),
        })
    }

    /// Declares every parameter as an input of the graph.
    pub fn declare_parameters(&self, graph: &mut Builder) {
        for parameter in &self.parameters {
            graph.input(&parameter.name, Element::F32, &parameter.dims);
        }
    }

    /// Adds every parameter to the graph as a constant.
    pub fn embed_parameters(&self, graph: &mut Builder, weights: &Weights) {
        for (parameter, values) in self.parameters.iter().zip(weights) {
            graph.constant(&parameter.name, &parameter.dims, values);
        }
    }
}

impl Placed {
    /// Appends the layer, without anything gradients would need.
    pub fn forward(&self, graph: &mut Builder, x: &Value) -> Value {
        match self.layer {
            Layer::Conv { kernel, .. } => graph.op("Conv", &[x, &self.weight(), &self.bias()], same_padding(kernel)),
            Layer::Relu => graph.op("Relu", &[x], vec![]),
            Layer::MaxPool => graph.op("MaxPool", &[x], two_by_two()),
            Layer::Dropout { .. } => {
                let mask = Value::named(self.mask());
                graph.mul(x, &mask)
            }
            Layer::Flatten => graph.op("Flatten", &[x], vec![int("axis", 1)]),
            Layer::Dense { .. } => graph.op("Gemm", &[x, &self.weight(), &self.bias()], vec![]),
        }
    }
}

/// Attributes of a convolution, or of its transpose, that keeps height and width.
pub(crate) fn same_padding(kernel: i64) -> Vec<Attribute> {
    vec![ints("kernel_shape", &[kernel, kernel]), ints("pads", &[kernel / 2; 4])]
}

/// Attributes of pooling by two.
pub(crate) fn two_by_two() -> Vec<Attribute> {
    vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]
}

/// A number from the standard normal distribution.
///
/// # Source
/// Box and Muller, "A note on the generation of random normal deviates", 1958
fn standard_normal(rng: &mut Pcg64) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    let angle = std::f64::consts::TAU * rng.random::<f64>();
    (radius * angle.cos()) as f32
}

/// What the trained layers are fed with, and how it comes into a graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Feed {
    /// The dataset's pixels.
    Pixels(PixelInput),
    /// Features computed before.
    Features {
        /// Of one picture.
        shape: Vec<i64>,
    },
}

impl Feed {
    /// Name of the features' input.
    pub const FEATURES: &str = "features";

    /// Declares the input and appends what leads to the network's input.
    pub fn append(&self, graph: &mut Builder) -> Value {
        match self {
            Self::Pixels(pixels) => pixels.append(graph),
            Self::Features { shape } => {
                let dims: Vec<i64> = [&[BATCH], shape.as_slice()].concat();
                graph.input(Self::FEATURES, Element::F32, &dims)
            }
        }
    }

    /// Shape per picture of the network's input.
    pub fn shape(&self) -> Vec<i64> {
        match self {
            Self::Pixels(pixels) => vec![3, i64::from(pixels.size), i64::from(pixels.size)],
            Self::Features { shape } => shape.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::train::Settings;

    use super::*;
    use crate::random::{Purpose, generator};

    #[test]
    fn a_cnn_can_be_built_for_every_allowed_input_size() {
        for input_size in 8..=512 {
            let settings = Settings { input_size, ..Settings::defaults(Family::Cnn, 32) };
            let side = i64::from(input_size);
            let network = Network::of_family(&settings, &[3, side, side], 4);
            assert_eq!(network.n_classes(), 4);
            assert!(network.n_weights() < 1_200_000, "{input_size} pixels need {} weights", network.n_weights());
        }
    }

    #[test]
    fn first_weights_keep_the_scale_of_activations() {
        let network = Network::new(&[400], &[Layer::Dense { units: 300 }, Layer::Relu, Layer::Dense { units: 3 }]);
        let weights = network.first_weights(&mut generator(1, Purpose::Weights, 0));
        let variance = weights[0].iter().map(|w| f64::from(w * w)).sum::<f64>() / weights[0].len() as f64;
        assert!((variance * 400.0 / 2.0 - 1.0).abs() < 0.02, "variance {variance}");
        assert!(weights[1..].iter().flatten().all(|&w| w == 0.0));
    }
}
