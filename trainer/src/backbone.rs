//! EfficientNet-lite0, pretrained on ImageNet: its weights file → graph nodes that turn pixels into features.
//!
//! Batch normalisation is folded into the convolutions. The network is frozen here; nothing trains it.

use std::{collections::BTreeMap, path::Path};

use api::model::Backbone as Identity;
use sha2::{Digest, Sha256};

use crate::{
    Result, TrainerError,
    graph::{Builder, Value},
    onnx::{int, ints},
    torch_file::{self, Array},
};

/// Environment variable with the path of the weights file.
pub const BACKBONE_VARIABLE: &str = "FOVEA_BACKBONE";

/// SHA-256 of `efficientnet-lite0-57934424.pth`, the one file this build accepts.
pub const SHA256: &str = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db";

/// Features per picture.
pub const N_FEATURES: i64 = 1280;

/// Subtracted from 0..=255 values, for every channel.
pub const PIXEL_MEAN: f32 = 127.0;

/// Divides what is left.
pub const PIXEL_DEVIATION: f32 = 128.0;

/// Batch normalisation's guard against division by zero.
const NORM_EPSILON: f32 = 1e-3;

/// A run of inverted bottlenecks.
///
/// # Source
/// Tan and Le, "EfficientNet", 2019, table 1; the lite variant has no squeeze-and-excitation and ReLU6
struct Stage {
    repeats: usize,
    kernel: usize,
    stride: i64,
    expansion: usize,
    channels: usize,
}

const fn stage(repeats: usize, kernel: usize, stride: i64, expansion: usize, channels: usize) -> Stage {
    Stage { repeats, kernel, stride, expansion, channels }
}

const STEM_CHANNELS: usize = 32;
const STAGES: [Stage; 7] = [
    stage(1, 3, 1, 1, 16),
    stage(2, 3, 2, 6, 24),
    stage(2, 5, 2, 6, 40),
    stage(3, 3, 2, 6, 80),
    stage(3, 5, 1, 6, 112),
    stage(4, 5, 2, 6, 192),
    stage(1, 3, 1, 6, 320),
];

/// A convolution with its batch normalisation folded in.
#[derive(Clone, Debug)]
struct Convolution {
    name: String,
    shape: Shape,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// What sets one convolution of the architecture apart from another.
#[derive(Clone, Copy, Debug)]
struct Shape {
    filters: usize,
    channels_per_group: usize,
    kernel: usize,
    groups: usize,
    stride: i64,
}

impl Shape {
    const fn dense(filters: usize, channels: usize, kernel: usize, stride: i64) -> Self {
        Self { filters, channels_per_group: channels, kernel, groups: 1, stride }
    }

    const fn depthwise(channels: usize, kernel: usize, stride: i64) -> Self {
        Self { filters: channels, channels_per_group: 1, kernel, groups: channels, stride }
    }

    const fn dims(&self) -> [usize; 4] {
        [self.filters, self.channels_per_group, self.kernel, self.kernel]
    }
}

/// An inverted bottleneck: widen, look around, narrow.
#[derive(Clone, Debug)]
struct Block {
    expand: Option<Convolution>,
    depthwise: Convolution,
    project: Convolution,
    /// Whether the input is added to the result.
    residual: bool,
}

/// The frozen network.
#[derive(Clone, Debug)]
pub struct Backbone {
    stem: Convolution,
    blocks: Vec<Block>,
    head: Convolution,
}

impl Backbone {
    /// Reads the weights file after comparing it with [`SHA256`].
    ///
    /// # Errors
    /// `BackboneFile`, `BackboneDigest`, `BackboneFormat` or `BackboneWeights`
    pub fn open(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).map_err(|source| TrainerError::BackboneFile { path: path.to_owned(), source })?;
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if found != SHA256 {
            let path = path.to_owned();
            return Err(TrainerError::BackboneDigest { path, found, expected: SHA256.into() });
        }
        Self::from_weights(&torch_file::read(&bytes)?)
    }

    fn from_weights(weights: &BTreeMap<String, Array>) -> Result<Self> {
        let stem = fold(weights, "_conv_stem", "_bn0", Shape::dense(STEM_CHANNELS, 3, 3, 2))?;
        let mut blocks = vec![];
        let mut channels = STEM_CHANNELS;
        for stage in &STAGES {
            for repeat in 0..stage.repeats {
                let path = format!("_blocks.{}", blocks.len());
                let part = |conv: &str, norm: &str, shape| {
                    fold(weights, &format!("{path}.{conv}"), &format!("{path}.{norm}"), shape)
                };
                let stride = if repeat == 0 { stage.stride } else { 1 };
                let wide = channels * stage.expansion;
                let expand = (stage.expansion > 1)
                    .then(|| part("_expand_conv", "_bn0", Shape::dense(wide, channels, 1, 1)))
                    .transpose()?;
                blocks.push(Block {
                    expand,
                    depthwise: part("_depthwise_conv", "_bn1", Shape::depthwise(wide, stage.kernel, stride))?,
                    project: part("_project_conv", "_bn2", Shape::dense(stage.channels, wide, 1, 1))?,
                    residual: repeat > 0,
                });
                channels = stage.channels;
            }
        }
        let head = fold(weights, "_conv_head", "_bn1", Shape::dense(N_FEATURES as usize, channels, 1, 1))?;
        Ok(Self { stem, blocks, head })
    }

    /// What a model's manifest says about this backbone.
    pub fn identity() -> Identity {
        Identity { name: "efficientnet-lite0".into(), licence: "Apache-2.0".into(), sha256: SHA256.into() }
    }

    /// Number of frozen weights.
    pub fn n_weights(&self) -> usize {
        let blocks = self.blocks.iter().flat_map(|b| b.expand.iter().chain([&b.depthwise, &b.project]));
        blocks.chain([&self.stem, &self.head]).map(|c| c.weight.len() + c.bias.len()).sum()
    }

    /// Appends the network.
    ///
    /// # Shapes
    /// - `x`: f32 `[N, 3, size, size]`, normalised with [`PIXEL_MEAN`] and [`PIXEL_DEVIATION`]
    /// - result: `[N, N_FEATURES]`
    pub fn append(&self, graph: &mut Builder, x: &Value, size: u32) -> Value {
        let zero = graph.constant("backbone.zero", &[], &[0.0]);
        let six = graph.constant("backbone.six", &[], &[6.0]);
        let clip = |graph: &mut Builder, x: &Value| graph.op("Clip", &[x, &zero, &six], vec![]);
        let mut side = i64::from(size);
        let x = self.stem.append(graph, x, &mut side);
        let mut x = clip(graph, &x);
        for block in &self.blocks {
            let input = x;
            let mut wide = input.clone();
            for conv in block.expand.iter().chain([&block.depthwise]) {
                wide = conv.append(graph, &wide, &mut side);
                wide = clip(graph, &wide);
            }
            x = block.project.append(graph, &wide, &mut side);
            if block.residual {
                x = graph.add(&x, &input);
            }
        }
        let x = self.head.append(graph, &x, &mut side);
        let x = clip(graph, &x);
        let pooled = graph.op("GlobalAveragePool", &[&x], vec![]);
        graph.op("Flatten", &[&pooled], vec![int("axis", 1)])
    }
}

impl Convolution {
    /// Appends the convolution with the padding that TensorFlow calls "same", which depends on the side.
    fn append(&self, graph: &mut Builder, x: &Value, side: &mut i64) -> Value {
        let Shape { groups, stride, .. } = self.shape;
        let dims = self.shape.dims().map(|d| d as i64);
        let [filters, _, kernel, _] = dims;
        let weight = graph.constant(&format!("{}.weight", self.name), &dims, &self.weight);
        let bias = graph.constant(&format!("{}.bias", self.name), &[filters], &self.bias);
        let out = (*side + stride - 1) / stride;
        let padding = ((out - 1) * stride + kernel - *side).max(0);
        let (before, after) = (padding / 2, padding - padding / 2);
        *side = out;
        let attributes = vec![
            ints("kernel_shape", &[kernel, kernel]),
            ints("strides", &[stride, stride]),
            ints("pads", &[before, before, after, after]),
            int("group", groups as i64),
        ];
        graph.op("Conv", &[x, &weight, &bias], attributes)
    }
}

/// Takes a convolution and its batch normalisation out of the file and makes one of both.
fn fold(weights: &BTreeMap<String, Array>, conv: &str, norm: &str, shape: Shape) -> Result<Convolution> {
    let get = |name: String, dims: &[usize]| {
        let array = weights.get(&name).ok_or_else(|| TrainerError::BackboneWeights(format!("{name} is missing")))?;
        if array.dims != dims {
            let problem = format!("{name} has shape {:?}; expected {dims:?}", array.dims);
            return Err(TrainerError::BackboneWeights(problem));
        }
        Ok(array.values.as_slice())
    };
    let of_norm = |part: &str| get(format!("{norm}.{part}"), &[shape.filters]);
    let raw = get(format!("{conv}.weight"), &shape.dims())?;
    let (gain, offset) = (of_norm("weight")?, of_norm("bias")?);
    let (mean, variance) = (of_norm("running_mean")?, of_norm("running_var")?);

    let scale: Vec<f32> = gain.iter().zip(variance).map(|(g, v)| g / (v + NORM_EPSILON).sqrt()).collect();
    let rows = raw.chunks(raw.len() / shape.filters).zip(&scale);
    let weight: Vec<f32> = rows.flat_map(|(row, s)| row.iter().map(move |w| w * s)).collect();
    let bias: Vec<f32> = (0..shape.filters).map(|i| offset[i] - mean[i] * scale[i]).collect();
    if !weight.iter().chain(&bias).all(|w| w.is_finite()) {
        return Err(TrainerError::BackboneWeights(format!("{conv} is not finite")));
    }
    Ok(Convolution { name: format!("backbone.{}", conv.trim_start_matches('_')), shape, weight, bias })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_misshapen_tensor_is_named() {
        let mut weights = BTreeMap::new();
        let error = Backbone::from_weights(&weights).expect_err("nothing is there");
        assert_eq!(error.to_string(), "the backbone's weights do not fit: _conv_stem.weight is missing");
        weights.insert("_conv_stem.weight".to_owned(), Array { dims: vec![32, 3], values: vec![0.0; 96] });
        let error = Backbone::from_weights(&weights).expect_err("two dimensions are missing");
        assert!(error.to_string().contains("has shape [32, 3]; expected [32, 3, 3, 3]"), "{error}");
    }

    #[test]
    fn normalisation_is_folded_into_weights_and_offsets() {
        let array = |dims: &[usize], values: &[f32]| Array { dims: dims.to_vec(), values: values.to_vec() };
        let weights = BTreeMap::from([
            ("c.weight".to_owned(), array(&[2, 1, 1, 1], &[3.0, 5.0])),
            ("n.weight".to_owned(), array(&[2], &[2.0, 1.0])),
            ("n.bias".to_owned(), array(&[2], &[0.5, 0.0])),
            ("n.running_mean".to_owned(), array(&[2], &[1.0, -4.0])),
            ("n.running_var".to_owned(), array(&[2], &[4.0 - NORM_EPSILON, 1.0 - NORM_EPSILON])),
        ]);
        let folded = fold(&weights, "c", "n", Shape::dense(2, 1, 1, 1)).expect("all tensors are there");
        assert_eq!(folded.weight, [3.0, 5.0]);
        assert_eq!(folded.bias, [-0.5, 4.0]);
    }

    #[test]
    fn the_known_file_has_the_architectures_weights() {
        let Some(path) = crate::testing::backbone() else {
            println!("skipped: the backbone is not installed; run `cargo xtask setup`");
            return;
        };
        let backbone = Backbone::open(&path).expect("the known file");
        assert_eq!(backbone.blocks.len(), 16);
        assert_eq!(backbone.n_weights(), 3_350_000);
    }
}
