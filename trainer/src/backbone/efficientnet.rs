//! The EfficientNet-lite family, pretrained on ImageNet: its weights files → layers and their weights.
//!
//! Batch normalisation is folded into the convolutions.

use std::collections::BTreeMap;

use super::Blocks;
use crate::{Result, TrainerError, model::Layer, torch_file::Array};

/// Subtracted from 0..=255 values, for every channel.
pub const PIXEL_MEAN: f32 = 127.0;

/// Divides what is left.
pub const PIXEL_DEVIATION: f32 = 128.0;

/// Batch normalisation's guard against division by zero.
const NORM_EPSILON: f32 = 1e-3;

/// How a member of the family is wider and deeper than the first one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Factor of the channels.
    pub width: f64,
    /// Factor of the repeats.
    pub depth: f64,
}

/// EfficientNet-lite0.
pub const LITE0: Scale = Scale { width: 1.0, depth: 1.0 };
/// EfficientNet-lite1.
pub const LITE1: Scale = Scale { width: 1.0, depth: 1.1 };
/// EfficientNet-lite2.
pub const LITE2: Scale = Scale { width: 1.1, depth: 1.2 };

/// A run of inverted bottlenecks.
///
/// # Source
/// Tan and Le, "EfficientNet", 2019, table 1; the lite variants have no squeeze-and-excitation, ReLU6, and leave stem, head
/// and the repeats of the first and last stage as they are
struct Stage {
    repeats: usize,
    kernel: i64,
    stride: i64,
    expansion: i64,
    channels: i64,
}

const fn stage(repeats: usize, kernel: i64, stride: i64, expansion: i64, channels: i64) -> Stage {
    Stage { repeats, kernel, stride, expansion, channels }
}

const STEM_CHANNELS: i64 = 32;
const HEAD_CHANNELS: i64 = 1280;
const STAGES: [Stage; 7] = [
    stage(1, 3, 1, 1, 16),
    stage(2, 3, 2, 6, 24),
    stage(2, 5, 2, 6, 40),
    stage(3, 3, 2, 6, 80),
    stage(3, 5, 1, 6, 112),
    stage(4, 5, 2, 6, 192),
    stage(1, 3, 1, 6, 320),
];

impl Scale {
    /// Scaled and rounded to a multiple of eight, but not down by more than a tenth.
    fn channels(self, channels: i64) -> i64 {
        let wanted = channels as f64 * self.width;
        let rounded = ((wanted + 4.0) as i64 / 8 * 8).max(8);
        if (rounded as f64) < 0.9 * wanted { rounded + 8 } else { rounded }
    }

    fn repeats(self, index: usize) -> usize {
        let repeats = STAGES[index].repeats;
        if index == 0 || index == STAGES.len() - 1 { repeats } else { (repeats as f64 * self.depth).ceil() as usize }
    }
}

/// Builds the layers and takes their weights out of the file.
///
/// # Errors
/// `BackboneWeights` if a tensor is missing or has another shape
pub fn read(weights: &BTreeMap<String, Array>, scale: Scale) -> Result<Blocks> {
    let mut blocks = Blocks::default();
    let add = |blocks: &mut Blocks, layer: Layer, channels: i64, conv: &str, norm: &str| {
        let [dims, _] = layer.parameters(&[channels, 1, 1]).expect("it is a convolution");
        blocks.layers.push(layer);
        let [weight, bias, gain] = fold(weights, conv, norm, &dims)?;
        blocks.weights.extend([weight, bias]);
        blocks.gains.push(gain);
        Ok::<_, TrainerError>(())
    };
    let dense = |filters, kernel, stride| Layer::Conv { filters, kernel, stride };
    add(&mut blocks, dense(STEM_CHANNELS, 3, 2), 3, "_conv_stem", "_bn0")?;
    blocks.layers.push(Layer::Relu6);
    let mut channels = STEM_CHANNELS;
    for (index, stage) in STAGES.iter().enumerate() {
        for repeat in 0..scale.repeats(index) {
            let path = format!("_blocks.{}", blocks.starts.len());
            let start = blocks.layers.len();
            blocks.starts.push(start);
            let wide = channels * stage.expansion;
            if stage.expansion > 1 {
                let (conv, norm) = (format!("{path}._expand_conv"), format!("{path}._bn0"));
                add(&mut blocks, dense(wide, 1, 1), channels, &conv, &norm)?;
                blocks.layers.push(Layer::Relu6);
            }
            let stride = if repeat == 0 { stage.stride } else { 1 };
            let depthwise = Layer::Depthwise { kernel: stage.kernel, stride };
            add(&mut blocks, depthwise, wide, &format!("{path}._depthwise_conv"), &format!("{path}._bn1"))?;
            blocks.layers.push(Layer::Relu6);
            let narrow = scale.channels(stage.channels);
            add(&mut blocks, dense(narrow, 1, 1), wide, &format!("{path}._project_conv"), &format!("{path}._bn2"))?;
            if repeat > 0 {
                blocks.layers.push(Layer::Add { back: blocks.layers.len() - start });
            }
            channels = narrow;
        }
    }
    add(&mut blocks, dense(HEAD_CHANNELS, 1, 1), channels, "_conv_head", "_bn1")?;
    blocks.layers.extend([Layer::Relu6, Layer::GlobalAveragePool]);
    Ok(blocks)
}

/// Takes a convolution and its batch normalisation out of the file and makes one of both: weights, offsets, and what the
/// weights were multiplied by.
fn fold(weights: &BTreeMap<String, Array>, conv: &str, norm: &str, dims: &[i64]) -> Result<[Vec<f32>; 3]> {
    let dims: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
    let get = |name: String, dims: &[usize]| {
        let array = weights.get(&name).ok_or_else(|| TrainerError::BackboneWeights(format!("{name} is missing")))?;
        if array.dims != dims {
            let problem = format!("{name} has shape {:?}; expected {dims:?}", array.dims);
            return Err(TrainerError::BackboneWeights(problem));
        }
        Ok(array.values.as_slice())
    };
    let of_norm = |part: &str| get(format!("{norm}.{part}"), &[dims[0]]);
    let raw = get(format!("{conv}.weight"), &dims)?;
    let (gain, offset) = (of_norm("weight")?, of_norm("bias")?);
    let (mean, variance) = (of_norm("running_mean")?, of_norm("running_var")?);

    let scale: Vec<f32> = gain.iter().zip(variance).map(|(g, v)| g / (v + NORM_EPSILON).sqrt()).collect();
    let rows = raw.chunks(raw.len() / dims[0]).zip(&scale);
    let weight: Vec<f32> = rows.flat_map(|(row, s)| row.iter().map(move |w| w * s)).collect();
    let bias: Vec<f32> = (0..dims[0]).map(|i| offset[i] - mean[i] * scale[i]).collect();
    if !weight.iter().chain(&bias).all(|w| w.is_finite()) {
        return Err(TrainerError::BackboneWeights(format!("{conv} is not finite")));
    }
    Ok([weight, bias, scale])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_misshapen_tensor_is_named() {
        let mut weights = BTreeMap::new();
        let error = read(&weights, LITE0).expect_err("nothing is there");
        assert_eq!(error.to_string(), "the backbone's weights do not fit: _conv_stem.weight is missing");
        weights.insert("_conv_stem.weight".to_owned(), Array { dims: vec![32, 3], values: vec![0.0; 96] });
        let error = read(&weights, LITE0).expect_err("two dimensions are missing");
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
        let [weight, bias, gain] = fold(&weights, "c", "n", &[2, 1, 1, 1]).expect("all tensors are there");
        assert_eq!(weight, [3.0, 5.0]);
        assert_eq!(bias, [-0.5, 4.0]);
        assert_eq!(gain, [1.0, 1.0]);
    }

    #[test]
    fn widths_and_depths_are_those_of_the_published_family() {
        let of = |scale: Scale| STAGES.iter().map(|s| scale.channels(s.channels)).collect::<Vec<_>>();
        assert_eq!(of(LITE1), of(LITE0));
        assert_eq!(of(LITE2), [16, 24, 48, 88, 120, 208, 352]);
        let depth = |scale: Scale| (0..STAGES.len()).map(|i| scale.repeats(i)).collect::<Vec<_>>();
        assert_eq!(depth(LITE0), [1, 2, 2, 3, 3, 4, 1]);
        assert_eq!(depth(LITE1), [1, 3, 3, 4, 4, 5, 1]);
        assert_eq!(depth(LITE2), depth(LITE1));
    }
}
