//! Whether a person's own ONNX file can be a backbone: its interface, and that tract computes it for any batch.
//!
//! Where backbones lie and how a classifier is built on one is others' business.

use std::ops::RangeInclusive;

use prost::Message;
use tract_onnx::{
    Onnx, pb,
    pb::{tensor_proto::DataType, tensor_shape_proto::dimension, type_proto},
    prelude::*,
};

use crate::PredictorError;

/// Operator sets that a backbone may use: those whose nodes mean the same in the graphs of the house.
pub const OPSETS: RangeInclusive<i64> = 13..=17;

/// Side in pixels of the pictures for a network that takes any size, unless another one is asked for.
pub const DEFAULT_INPUT_SIZE: u32 = 224;

/// Sides in pixels that a backbone may see.
pub const INPUT_SIZES: RangeInclusive<u32> = 8..=512;

/// Largest difference between a picture's features alone and in a batch, relative to the larger of 1 and the largest
/// feature.
const BATCH_TOLERANCE: f32 = 1e-3;

/// Pictures of the batch that is tried.
const BATCH: usize = 3;

/// How a backbone is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name of the one input: f32 `[N, 3, input_size, input_size]`.
    pub input: String,
    /// Name of the output: f32 `[N, n_features]` or `[N, n_features, h, w]`.
    pub output: String,
    /// Side in pixels.
    pub input_size: u32,
    /// Per picture.
    pub n_features: u32,
}

/// Reads a network's interface and runs it on noise, one picture and several.
///
/// `input_size` is asked for where the network takes any size; `output` where it has several.
///
/// # Errors
/// `Parse` if the bytes are no ONNX model, `Unfit` if the network cannot be a backbone, `Prepare` or `Run` if tract does
/// not know how to compute it
pub fn inspect(onnx: &[u8], input_size: Option<u32>, output: Option<&str>) -> Result<Interface, PredictorError> {
    let model = decode(onnx)?;
    let nothing = pb::GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&nothing);
    let (input, input_size) = input_of(graph, input_size)?;
    let output = output_of(graph, output)?;

    let noise = noise(BATCH * 3 * (input_size * input_size) as usize);
    let (together, shape) = run(&model, &output, &noise, BATCH, input_size)?;
    let n_features = features(&output, &shape)?;
    let per_picture = together.len() / BATCH;
    let (alone, _) = run(&model, &output, &noise[..noise.len() / BATCH], 1, input_size)?;
    let scale = together.iter().fold(1f32, |most, value| most.max(value.abs()));
    if !scale.is_finite() {
        return unfit("its output for noise is not finite");
    }
    let differs =
        alone.len() != per_picture || alone.iter().zip(&together).any(|(a, b)| (a - b).abs() > BATCH_TOLERANCE * scale);
    if differs {
        return unfit(
            "a picture's features depend on the pictures beside it; export it for inference, with a free batch",
        );
    }
    if together[..per_picture] == together[per_picture..2 * per_picture] {
        return unfit("its output is the same for different pictures");
    }
    Ok(Interface { input, output, input_size, n_features })
}

fn unfit<T>(reason: impl Into<String>) -> Result<T, PredictorError> {
    Err(PredictorError::Unfit { reason: reason.into() })
}

/// Whether the network's nodes can become part of other graphs, without asking tract.
///
/// # Errors
/// `Parse` if the bytes are no ONNX model, `Unfit` if a node means something else there than where it comes from
pub fn check(onnx: &[u8]) -> Result<(), PredictorError> {
    decode(onnx).map(drop)
}

fn decode(onnx: &[u8]) -> Result<pb::ModelProto, PredictorError> {
    let model = pb::ModelProto::decode(onnx).map_err(|source| PredictorError::Parse { source })?;
    let is_standard = |domain: &str| matches!(domain, "" | "ai.onnx");
    let opset = model.opset_import.iter().find(|set| is_standard(&set.domain)).map_or(0, |set| set.version);
    if !OPSETS.contains(&opset) {
        return unfit(format!(
            "it uses operator set {opset}; export it with one of {} to {}",
            OPSETS.start(),
            OPSETS.end()
        ));
    }
    let graphs = || model.graph.iter();
    if graphs().flat_map(|graph| &graph.initializer).any(|constant| !constant.external_data.is_empty()) {
        return unfit("its weights lie in another file; export it as one file");
    }
    for node in graphs().flat_map(|graph| &graph.node) {
        if !is_standard(&node.domain) {
            return unfit(format!("it uses {} of {}, which is not standard", node.op_type, node.domain));
        }
        // Its default of where pixels lie changed in set 16.
        if node.op_type == "RoiAlign" || node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()) {
            return unfit(format!("it uses {}, which cannot become part of another graph", node.op_type));
        }
    }
    Ok(model)
}

fn input_of(graph: &pb::GraphProto, asked: Option<u32>) -> Result<(String, u32), PredictorError> {
    const EXPECTED: &str = "expected one float input [N, 3, height, width] with height = width";
    let is_weight = |input: &&pb::ValueInfoProto| graph.initializer.iter().any(|weight| weight.name == input.name);
    let inputs: Vec<_> = graph.input.iter().filter(|input| !is_weight(input)).collect();
    let &[input] = &inputs[..] else {
        return unfit(format!("it has {} inputs; {EXPECTED}", inputs.len()));
    };
    let Some([_, channels, height, width]) = dimensions(input) else {
        return unfit(format!("its input {} has another type or shape; {EXPECTED}", input.name));
    };
    if channels != Some(3) {
        let found = channels.map_or("any number of".to_owned(), |channels| channels.to_string());
        return unfit(format!("its input {} has {found} channels; {EXPECTED}", input.name));
    }
    let size = match (height, width, asked) {
        (Some(height), Some(width), _) if height != width => {
            return unfit(format!("its input {} is {height}×{width}; {EXPECTED}", input.name));
        }
        (Some(side), _, Some(asked)) | (_, Some(side), Some(asked)) if side != i64::from(asked) => {
            return unfit(format!("its pictures have {side} pixels a side, and {asked} are asked for"));
        }
        (Some(side), _, _) | (_, Some(side), _) => side,
        (None, None, asked) => i64::from(asked.unwrap_or(DEFAULT_INPUT_SIZE)),
    };
    match u32::try_from(size).ok().filter(|size| INPUT_SIZES.contains(size)) {
        Some(size) => Ok((input.name.clone(), size)),
        None => unfit(format!(
            "its pictures have {size} pixels a side; expected {} to {}",
            INPUT_SIZES.start(),
            INPUT_SIZES.end()
        )),
    }
}

/// The lengths of a float tensor of four dimensions; nothing where one is free.
fn dimensions(value: &pb::ValueInfoProto) -> Option<[Option<i64>; 4]> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    if DataType::try_from(tensor.elem_type) != Ok(DataType::Float) {
        return None;
    }
    let length = |dim: &tract_onnx::pb::tensor_shape_proto::Dimension| match dim.value {
        Some(dimension::Value::DimValue(length)) if length > 0 => Some(length),
        _ => None,
    };
    let lengths: Vec<_> = tensor.shape.as_ref()?.dim.iter().map(length).collect();
    lengths.try_into().ok()
}

fn output_of(graph: &pb::GraphProto, asked: Option<&str>) -> Result<String, PredictorError> {
    let names: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    // tract takes for granted that every output is some node's.
    let is_made = |name: &str| graph.node.iter().any(|node| node.output.iter().any(|made| made == name));
    match (asked, &names[..]) {
        (Some(asked), _) if names.contains(&asked) && is_made(asked) => Ok(asked.to_owned()),
        (None, &[only]) if is_made(only) => Ok(only.to_owned()),
        (Some(asked), _) => unfit(format!("it has no output {asked}; it has: {}", names.join(", "))),
        (None, &[]) => unfit("it has no output"),
        (None, &[only]) => unfit(format!("no node makes its output {only}")),
        (None, _) => unfit(format!("it has several outputs; choose one of: {}", names.join(", "))),
    }
}

/// What the network makes of a batch, row after row, and the shape it has.
fn run(
    model: &pb::ModelProto,
    output: &str,
    pictures: &[f32],
    batch: usize,
    side: u32,
) -> Result<(Vec<f32>, Vec<usize>), PredictorError> {
    let shape = [batch, 3, side as usize, side as usize];
    let prepare = || -> TractResult<_> {
        let onnx: Onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
        let mut graph = onnx.model_for_proto_model(model)?.with_input_fact(0, f32::fact(shape).into())?;
        graph.select_outputs_by_name([output])?;
        graph.into_optimized()?.into_runnable()
    };
    let plan = prepare().map_err(|e| PredictorError::Prepare { source: e.into() })?;
    let answer = || -> TractResult<_> {
        let made = plan.run(tvec!(Tensor::from_shape(&shape, pictures)?.into()))?;
        let values = made[0].to_plain_array_view::<f32>()?;
        Ok((values.iter().copied().collect(), values.shape().to_vec()))
    };
    answer().map_err(|e| PredictorError::Run { source: e.into() })
}

fn features(output: &str, shape: &[usize]) -> Result<u32, PredictorError> {
    let n_features = match *shape {
        [BATCH, n] => n,
        [BATCH, n, height, width] if height > 0 && width > 0 => n,
        _ => 0,
    };
    match u32::try_from(n_features) {
        Ok(n_features @ 1..) => Ok(n_features),
        _ => unfit(format!(
            "its output {output} for {BATCH} pictures has the shape {shape:?}; expected [N, features] or [N, features, \
             height, width]"
        )),
    }
}

/// Values between -2 and 2 without a pattern; the same each time.
fn noise(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let next = || {
        // Numerical Recipes' linear congruential generator; its upper bits are random enough for pictures of nothing.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::testing::{Attribute, Graph, backbone_graph, backbone_onnx};

    #[track_caller]
    fn refused(onnx: &[u8], size: Option<u32>, output: Option<&str>, sentence: &str) {
        let error = inspect(onnx, size, output).expect_err("it cannot be a backbone").to_string();
        assert!(error.contains(sentence), "{error:?} does not say {sentence:?}");
    }

    fn changed(change: impl FnOnce(&mut pb::ModelProto)) -> Vec<u8> {
        let mut model = pb::ModelProto::decode(&*backbone_onnx(Some(16))).unwrap();
        change(&mut model);
        model.encode_to_vec()
    }

    #[test]
    fn a_network_of_a_fixed_size_says_its_size_and_features() {
        let found = inspect(&backbone_onnx(Some(16)), None, None).unwrap();
        let expected = Interface { input: "picture".into(), output: "features".into(), input_size: 16, n_features: 4 };
        assert_eq!(found, expected);
        refused(&backbone_onnx(Some(16)), Some(32), None, "have 16 pixels a side, and 32 are asked for");
    }

    #[test]
    fn a_network_of_any_size_gets_the_size_that_is_asked_for() {
        let onnx = backbone_onnx(None);
        assert_eq!(inspect(&onnx, Some(24), None).unwrap().input_size, 24);
        assert_eq!(inspect(&onnx, None, None).unwrap().input_size, DEFAULT_INPUT_SIZE);
        refused(&onnx, Some(4), None, "4 pixels a side; expected 8 to 512");
    }

    #[test]
    fn a_map_of_features_counts_its_channels() {
        let mut graph = backbone_graph(Some(16));
        graph.add_output("Relu_1");
        let onnx = graph.onnx();
        refused(&onnx, None, None, "several outputs; choose one of: features, Relu_1");
        refused(&onnx, None, Some("Relu_7"), "no output Relu_7; it has: features, Relu_1");
        assert_eq!(inspect(&onnx, None, Some("Relu_1")).unwrap().n_features, 4);
    }

    #[test]
    fn what_another_graph_cannot_take_up_is_refused() {
        refused(b"no network", None, None, "no ONNX model");
        refused(
            &changed(|model| model.opset_import[0].version = 9),
            None,
            None,
            "operator set 9; export it with one of",
        );
        let elsewhere = |model: &mut pb::ModelProto| {
            model.graph.as_mut().unwrap().initializer[0].external_data.push(Default::default());
        };
        refused(&changed(elsewhere), None, None, "weights lie in another file");
        let foreign = |model: &mut pb::ModelProto| model.graph.as_mut().unwrap().node[0].domain = "com.acme".into();
        refused(&changed(foreign), None, None, "uses Conv of com.acme");
        let gray = |model: &mut pb::ModelProto| {
            let input = &mut model.graph.as_mut().unwrap().input[0];
            let type_proto::Value::TensorType(tensor) = input.r#type.as_mut().unwrap().value.as_mut().unwrap();
            tensor.shape.as_mut().unwrap().dim[1].value = Some(dimension::Value::DimValue(1));
        };
        refused(&changed(gray), None, None, "has 1 channels; expected one float input [N, 3, height, width]");
    }

    #[test]
    fn features_that_depend_on_the_batch_are_refused() {
        let mut graph = backbone_graph(Some(16));
        graph.node("ReduceMean", &["features"], &[Attribute::ints("axes", &[0]), Attribute::int("keepdims", 1)]);
        graph.named("Sub", &["features", "ReduceMean_4"], "centred", &[]);
        graph.add_output("centred");
        refused(&graph.onnx(), None, Some("centred"), "depend on the pictures beside it");
    }

    #[test]
    fn a_network_that_sees_nothing_is_refused() {
        let mut graph: Graph = backbone_graph(Some(16));
        let zero = graph.floats(&[], &[0.0]);
        graph.named("Mul", &["features", &zero], "nothing", &[]);
        graph.add_output("nothing");
        refused(&graph.onnx(), None, Some("nothing"), "the same for different pictures");
    }
}
