//! What a network is made of: a chain of layers and their weights; what it is fed with.
//!
//! What one layer is stands in `layer`; which layers a family trains, in `recipe`.

use rand::RngExt;
use rand_pcg::Pcg64;

pub use crate::layer::{Layer, Placed};
use crate::{
    backbone::Frozen,
    graph::{Builder, Value},
    onnx::Element,
    pixels::PixelInput,
};

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
    /// Its learning rate as a multiple of the others'.
    pub pace: f32,
    /// Per output channel, what a normalisation multiplies the weights by that was folded into them; nothing where there
    /// was none. Steps are taken on the weights without it: they differ a hundredfold in it, and AdamW's steps are of one
    /// size.
    pub gain: Option<Vec<f32>>,
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
    /// Puts layers behind one another; their names begin with `prefix`.
    ///
    /// # Panics
    /// If a layer cannot take the shape of the one in front of it: the list is code, not input.
    pub fn new(prefix: &str, input: &[i64], layers: &[Layer]) -> Self {
        let nothing = Self { layers: vec![], parameters: vec![], input: input.to_vec(), output: input.to_vec() };
        nothing.then(prefix, layers, 1.0)
    }

    /// The network with more layers behind it, which learn at a pace of their own.
    ///
    /// # Panics
    /// As [`Network::new`] does.
    pub fn then(mut self, prefix: &str, layers: &[Layer], pace: f32) -> Self {
        for (index, &layer) in layers.iter().enumerate() {
            let input = std::mem::take(&mut self.output);
            let Some(output) = layer.output(&input) else {
                panic!("{layer:?} cannot follow an output of shape {input:?}");
            };
            if let Layer::Add { back } = layer {
                let from = self.layers.len().checked_sub(back).map(|at| &self.layers[at].input);
                assert_eq!(from, Some(&input), "{layer:?} adds what has another shape");
            }
            let name = format!("{prefix}{index}");
            if let Some([weight, bias]) = layer.parameters(&input) {
                let fan_in = weight.iter().product::<i64>() / bias[0];
                let next = layers[index + 1..].iter().find(|layer| !matches!(layer, Layer::MaxPool));
                let rectified = matches!(next, Some(Layer::Relu | Layer::Relu6));
                let of = |part: &str, dims, decays| Parameter {
                    name: format!("{name}.{part}"),
                    dims,
                    fan_in,
                    decays,
                    rectified,
                    pace,
                    gain: None,
                };
                self.parameters.extend([of("weight", weight, true), of("bias", bias, false)]);
            }
            self.output = output.clone();
            self.layers.push(Placed { layer, name, input, output });
        }
        self
    }

    /// The layers in front of a place, and those from it on.
    ///
    /// # Panics
    /// If a layer behind adds what comes from in front.
    pub fn split(mut self, at: usize) -> (Self, Self) {
        let layers = self.layers.split_off(at);
        let adds = |(index, placed): (usize, &Placed)| match placed.layer {
            Layer::Add { back } => back <= index,
            _ => true,
        };
        assert!(layers.iter().enumerate().all(adds), "layer {at} lies inside a block");
        let with_weights = self.layers.iter().filter(|placed| placed.layer.parameters(&placed.input).is_some());
        let parameters = self.parameters.split_off(2 * with_weights.count());
        let between = layers.first().map_or_else(|| self.output.clone(), |placed| placed.input.clone());
        let output = std::mem::replace(&mut self.output, between.clone());
        (self, Self { layers, parameters, input: between, output })
    }

    /// All layers but the last one, and the last one.
    ///
    /// # Panics
    /// If there are no layers, or the last one adds what comes from in front.
    pub fn split_last(self) -> (Self, Self) {
        let last = self.layers.len() - 1;
        self.split(last)
    }

    /// The network with the gains of its layers' weights, in the order of those that have weights.
    pub fn with_gains(mut self, gains: &[Vec<f32>]) -> Self {
        let weights = self.parameters.iter_mut().filter(|parameter| parameter.decays);
        for (parameter, gain) in weights.zip(gains) {
            debug_assert_eq!(parameter.dims[0] as usize, gain.len());
            parameter.gain = Some(gain.clone());
        }
        self
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

    /// Multiply-adds for one picture.
    pub fn multiply_adds(&self) -> u64 {
        self.layers.iter().map(Placed::multiply_adds).sum()
    }

    /// Shape per picture of what goes in.
    pub fn input(&self) -> &[i64] {
        &self.input
    }

    /// Shape per picture of what comes out.
    pub fn output(&self) -> &[i64] {
        &self.output
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
    /// - result: `[N, output…]`
    pub fn infer(&self, graph: &mut Builder, x: &Value) -> Value {
        let mut inputs = vec![x.clone()];
        for (index, placed) in self.layers.iter().enumerate() {
            let output = placed.append(graph, &inputs[index], |places| inputs[index - places].clone());
            inputs.push(output);
        }
        inputs.pop().unwrap_or_else(|| x.clone())
    }

    /// Declares every parameter as an input of the graph.
    pub fn declare_parameters(&self, graph: &mut Builder) {
        for parameter in &self.parameters {
            graph.input(&parameter.name, Element::F32, &parameter.dims);
        }
    }

    /// Adds every parameter to the graph as a constant.
    pub fn embed_parameters(&self, graph: &mut Builder, weights: &[Vec<f32>]) {
        for (parameter, values) in self.parameters.iter().zip(weights) {
            graph.constant(&parameter.name, &parameter.dims, values);
        }
    }
}

/// A number from the standard normal distribution.
///
/// # Source
/// Box and Muller, "A note on the generation of random normal deviates", 1958
pub(crate) fn standard_normal(rng: &mut Pcg64) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    let angle = std::f64::consts::TAU * rng.random::<f64>();
    (radius * angle.cos()) as f32
}

/// What the trained layers are fed with, and how it comes into a graph.
#[derive(Clone, Debug)]
pub enum Feed {
    /// The dataset's pixels, straight or through a frozen network.
    Pixels {
        /// From the dataset's pixels to the first network's input.
        pixels: PixelInput,
        /// What lies between pixels and the trained layers.
        frozen: Option<Frozen>,
    },
    /// Features computed before.
    Features {
        /// Of one picture.
        shape: Vec<i64>,
    },
}

impl Feed {
    /// Name of the features' input.
    pub const FEATURES: &str = "features";

    /// Declares the input for `n` pictures, which may be [`BATCH`](crate::onnx::BATCH), and appends what leads to the network's input.
    pub fn append(&self, graph: &mut Builder, n: i64) -> Value {
        match self {
            Self::Pixels { pixels, frozen } => {
                let x = pixels.append(graph, n);
                frozen.as_ref().map_or(x.clone(), |frozen| frozen.append(graph, &x))
            }
            Self::Features { shape } => {
                let dims: Vec<i64> = [&[n], shape.as_slice()].concat();
                graph.input(Self::FEATURES, Element::F32, &dims)
            }
        }
    }

    /// Shape per picture of the network's input.
    pub fn shape(&self) -> Vec<i64> {
        match self {
            Self::Pixels { frozen: Some(frozen), .. } => frozen.output(),
            Self::Pixels { pixels, frozen: None } => pixels.output(),
            Self::Features { shape } => shape.clone(),
        }
    }

    /// Values per picture of the largest thing that goes in; bounds how many pictures are run at once.
    pub fn values(&self) -> i64 {
        let shape = match self {
            Self::Pixels { pixels, .. } => pixels.output(),
            Self::Features { shape } => shape.clone(),
        };
        shape.iter().product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, generator};

    #[test]
    fn first_weights_keep_the_scale_of_activations() {
        let network = Network::new("", &[400], &[Layer::Dense { units: 300 }, Layer::Relu, Layer::Dense { units: 3 }]);
        let weights = network.first_weights(&mut generator(1, Purpose::Weights, 0));
        let variance = weights[0].iter().map(|w| f64::from(w * w)).sum::<f64>() / weights[0].len() as f64;
        assert!((variance * 400.0 / 2.0 - 1.0).abs() < 0.02, "variance {variance}");
        assert!(weights[1..].iter().flatten().all(|&w| w == 0.0));
    }

    #[test]
    fn a_split_network_has_the_layers_and_parameters_of_the_whole() {
        let conv = Layer::Conv { filters: 4, kernel: 1, stride: 1 };
        let layers =
            [conv, conv, Layer::Relu, Layer::Add { back: 2 }, Layer::GlobalAveragePool, Layer::Dense { units: 2 }];
        let whole = Network::new("w", &[3, 5, 5], &layers);
        let (front, behind) = whole.clone().split(1);
        assert_eq!((front.output(), behind.input(), behind.output()), (&[4, 5, 5][..], &[4, 5, 5][..], &[2][..]));
        assert_eq!([front.parameters(), behind.parameters()].concat(), whole.parameters());
        assert_eq!([front.layers(), behind.layers()].concat(), whole.layers());
    }

    #[test]
    #[should_panic(expected = "inside a block")]
    fn a_network_is_not_split_inside_a_block() {
        let conv = Layer::Conv { filters: 3, kernel: 1, stride: 1 };
        Network::new("w", &[3, 5, 5], &[conv, Layer::Relu, Layer::Add { back: 2 }]).split(1);
    }
}
