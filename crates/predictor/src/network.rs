//! ONNX bytes → a checked, optimised plan → logits. Knows the house's graph interface, not the folder it lies in.

use std::sync::Arc;

use api::{
    PreprocessSpec,
    model::{INPUT, OUTPUT},
};
use prost::Message;
use tract_onnx::{
    Onnx, pb,
    pb::{tensor_proto::DataType, tensor_shape_proto::dimension, type_proto},
    prelude::*,
};

use crate::PredictorError;

/// A network ready to run: input [`INPUT`] u8 `[1, height, width, 3]`, output [`OUTPUT`] f32 `[1, n_classes]`.
#[derive(Debug)]
pub struct Network {
    plan: Arc<TypedRunnableModel>,
    height: usize,
    width: usize,
    n_classes: usize,
}

impl Network {
    /// Prepares a self-contained ONNX file for pictures of this spec and this many classes.
    ///
    /// # Errors
    /// `Parse` if the bytes are no ONNX model, `ShapeMismatch` if its interface is not the one `api::model` states
    /// for this spec and this many classes, `Prepare` if tract does not know an operator or a shape contradicts
    pub fn from_onnx(onnx: &[u8], spec: &PreprocessSpec, n_classes: usize) -> Result<Self, PredictorError> {
        let model = pb::ModelProto::decode(onnx).map_err(|source| PredictorError::Parse { source })?;
        Self::from_message(model, spec, n_classes)
    }

    /// As [`Network::from_onnx`], but gives the file's memory back before the network takes its own.
    pub(crate) fn from_vec(onnx: Vec<u8>, spec: &PreprocessSpec, n_classes: usize) -> Result<Self, PredictorError> {
        let model = pb::ModelProto::decode(&*onnx).map_err(|source| PredictorError::Parse { source })?;
        drop(onnx);
        Self::from_message(model, spec, n_classes)
    }

    fn from_message(model: pb::ModelProto, spec: &PreprocessSpec, n_classes: usize) -> Result<Self, PredictorError> {
        let (height, width) = (spec.height as usize, spec.width as usize);
        check_names(&model, height, width, n_classes)?;
        let plan = prepare(model, height, width).map_err(|e| PredictorError::Prepare { source: e.into() })?;
        check_output(&plan, n_classes)?;
        Ok(Self { plan, height, width, n_classes })
    }

    /// Columns of the logits.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Runs the network on one picture or on several, one after the other.
    ///
    /// # Shapes
    /// - `pixels`: `[n, height, width, 3]`, u8, upright RGB
    /// - result: `[n, n_classes]`, row after row
    ///
    /// # Errors
    /// `Pixels` if the length is no multiple of one picture's
    pub fn logits(&self, pixels: &[u8]) -> Result<Vec<f32>, PredictorError> {
        let picture_bytes = self.height * self.width * 3;
        if pixels.is_empty() || !pixels.len().is_multiple_of(picture_bytes) {
            let (width, height) = (self.width, self.height);
            return Err(PredictorError::Pixels { found: pixels.len(), width, height, picture_bytes });
        }
        let mut logits = Vec::with_capacity(pixels.len() / picture_bytes * self.n_classes);
        for picture in pixels.chunks(picture_bytes) {
            self.run(picture, &mut logits).map_err(|e| PredictorError::Run { source: e.into() })?;
        }
        Ok(logits)
    }

    fn run(&self, picture: &[u8], logits: &mut Vec<f32>) -> TractResult<()> {
        let input = Tensor::from_shape(&[1, self.height, self.width, 3], picture)?;
        let output = self.plan.run(tvec!(input.into()))?;
        logits.extend(output[0].to_plain_array_view::<f32>()?.iter());
        Ok(())
    }
}

fn prepare(model: pb::ModelProto, height: usize, width: usize) -> TractResult<Arc<TypedRunnableModel>> {
    // Shapes noted inside the file speak of a batch of N; the plan is for a batch of 1 and infers its own.
    let onnx: Onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let graph = onnx.model_for_proto_model(&model)?;
    drop(model);
    graph.with_input_fact(0, u8::fact([1, height, width, 3]).into())?.into_optimized()?.into_runnable()
}

/// Compares the graph's declared interface with the house's. The output's shape is left to tract, which infers it.
fn check_names(model: &pb::ModelProto, height: usize, width: usize, n_classes: usize) -> Result<(), PredictorError> {
    let nothing = pb::GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&nothing);
    let expected = format!("{INPUT}: u8 [N, {height}, {width}, 3]");
    let is_weight = |input: &&pb::ValueInfoProto| graph.initializer.iter().any(|weight| weight.name == input.name);
    let inputs: Vec<String> = graph.input.iter().filter(|input| !is_weight(input)).map(describe).collect();
    if inputs != [expected.clone()] {
        return Err(PredictorError::ShapeMismatch { what: "input", found: list(&inputs), expected });
    }
    if !model.opset_import.iter().any(|set| set.version > 0) {
        return Err(PredictorError::NoOperatorSet);
    }
    // tract takes for granted that every output is some node's.
    let is_made = |output: &str| graph.node.iter().any(|node| node.output.iter().any(|made| made == output));
    let outputs: Vec<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    if outputs != [OUTPUT] || !is_made(OUTPUT) {
        let found = if outputs == [OUTPUT] { format!("{OUTPUT}, which no node makes") } else { list(&outputs) };
        let expected = format!("{OUTPUT}: f32 [N, {n_classes}]");
        return Err(PredictorError::ShapeMismatch { what: "output", found, expected });
    }
    Ok(())
}

fn check_output(plan: &TypedRunnableModel, n_classes: usize) -> Result<(), PredictorError> {
    let fact = plan.model().output_fact(0).map_err(|e| PredictorError::Prepare { source: e.into() })?;
    if fact.datum_type == f32::datum_type() && fact.shape.as_concrete() == Some(&[1, n_classes]) {
        return Ok(());
    }
    let dims: Vec<String> = fact.shape.iter().map(|dim| dim.to_string()).collect();
    let datum_type = format!("{:?}", fact.datum_type).to_lowercase();
    Err(PredictorError::ShapeMismatch {
        what: "output",
        found: format!("{datum_type} [{}]", dims.join(", ")),
        expected: format!("f32 [1, {n_classes}]"),
    })
}

/// Name, type and shape; the batch is always `N`, whatever the file calls it.
fn describe(value: &pb::ValueInfoProto) -> String {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return format!("{}: no tensor", value.name);
    };
    let element = match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Uint8) => "u8".to_owned(),
        Ok(DataType::Float) => "f32".to_owned(),
        Ok(other) => other.as_str_name().to_lowercase(),
        Err(_) => format!("type {}", tensor.elem_type),
    };
    let Some(shape) = &tensor.shape else {
        return format!("{}: {element} of any shape", value.name);
    };
    let dims: Vec<String> = (shape.dim.iter().enumerate())
        .map(|(axis, dim)| match &dim.value {
            _ if axis == 0 => "N".to_owned(),
            Some(dimension::Value::DimValue(length)) => length.to_string(),
            Some(dimension::Value::DimParam(symbol)) => symbol.clone(),
            None => "?".to_owned(),
        })
        .collect();
    format!("{}: {element} [{}]", value.name, dims.join(", "))
}

fn list(values: &[String]) -> String {
    if values.is_empty() { "missing".to_owned() } else { values.join(" and ") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::testing::{Attribute, Graph, colours_onnx};

    const TOLERANCE: f32 = 1e-5;

    fn spec(height: u32, width: u32) -> PreprocessSpec {
        PreprocessSpec { height, width, ..PreprocessSpec::square(1) }
    }

    /// Pixels without any symmetry that could hide a swapped axis.
    fn pixels(n: usize, height: usize, width: usize) -> Vec<u8> {
        (0..n * height * width * 3).map(|i| (i * i * 31 % 251) as u8).collect()
    }

    /// Weights without any symmetry, around 0.
    fn weights(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * (i + seed) * 37) % 101) as f32 / 101.0 - 0.5).collect()
    }

    #[track_caller]
    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= TOLERANCE * expected.abs().max(1.0), "{found} is not {expected}");
        }
    }

    /// A small copy of every step a published network has, and its logits computed by plain loops.
    struct Reference {
        height: usize,
        width: usize,
        /// Side after resampling.
        side: usize,
        channels: usize,
        classes: usize,
        rows: Vec<f32>,
        columns: Vec<f32>,
        conv: Vec<f32>,
        conv_bias: Vec<f32>,
        depthwise: Vec<f32>,
        dense: Vec<f32>,
        dense_bias: Vec<f32>,
    }

    impl Reference {
        fn new() -> Self {
            let (height, width, side, channels, classes) = (5, 7, 6, 4, 3);
            Self {
                height,
                width,
                side,
                channels,
                classes,
                rows: weights(side * height, 1),
                columns: weights(width * side, 2),
                conv: weights(channels * 3 * 9, 3),
                conv_bias: weights(channels, 4),
                depthwise: weights(channels * 9, 5),
                dense: weights(channels * classes, 6),
                dense_bias: weights(classes, 7),
            }
        }

        fn onnx(&self) -> Vec<u8> {
            let (side, channels, classes) = (self.side as i64, self.channels as i64, self.classes as i64);
            let mut g = Graph::new(self.height, self.width, self.classes);
            let rows = g.floats(&[side, self.height as i64], &self.rows);
            let columns = g.floats(&[self.width as i64, side], &self.columns);
            let scale = g.floats(&[1, 1, 1, 1], &[1.0 / 255.0]);
            let conv = g.floats(&[channels, 3, 3, 3], &self.conv);
            let conv_bias = g.floats(&[channels], &self.conv_bias);
            let depthwise = g.floats(&[channels, 1, 3, 3], &self.depthwise);
            let (zero, six) = (g.floats(&[], &[0.0]), g.floats(&[], &[6.0]));
            let dense = g.floats(&[channels, classes], &self.dense);
            let dense_bias = g.floats(&[classes], &self.dense_bias);
            let flat = g.ints(&[-1, channels]);
            let padded = [
                Attribute::ints("kernel_shape", &[3, 3]),
                Attribute::ints("pads", &[1, 1, 1, 1]),
                Attribute::ints("strides", &[1, 1]),
            ];

            let x = g.node("Cast", &[INPUT], &[Attribute::int("to", DataType::Float as i64)]);
            let x = g.node("Transpose", &[&x], &[Attribute::ints("perm", &[0, 3, 1, 2])]);
            let x = g.node("MatMul", &[&rows, &x], &[]);
            let x = g.node("MatMul", &[&x, &columns], &[]);
            let x = g.node("Mul", &[&x, &scale], &[]);
            let x = g.node("Conv", &[&x, &conv, &conv_bias], &padded);
            let x = g.node("Clip", &[&x, &zero, &six], &[]);
            let grouped = [&padded[..], &[Attribute::int("group", channels)]].concat();
            let y = g.node("Conv", &[&x, &depthwise], &grouped);
            let y = g.node("Relu", &[&y], &[]);
            let x = g.node("Add", &[&x, &y], &[]);
            let pool = [Attribute::ints("kernel_shape", &[2, 2]), Attribute::ints("strides", &[2, 2])];
            let x = g.node("MaxPool", &[&x], &pool);
            let x = g.node("GlobalAveragePool", &[&x], &[]);
            let x = g.node("Flatten", &[&x], &[Attribute::int("axis", 1)]);
            let x = g.node("Reshape", &[&x, &flat], &[]);
            let x = g.node("Identity", &[&x], &[]);
            g.named("Gemm", &[&x, &dense, &dense_bias], OUTPUT, &[]);
            g.onnx()
        }

        fn logits(&self, picture: &[u8]) -> Vec<f32> {
            let (s, c) = (self.side, self.channels);
            let at = |p: &[f32], k: usize, y: isize, x: isize| {
                let inside = (0..s as isize).contains(&y) && (0..s as isize).contains(&x);
                if inside { p[(k * s + y as usize) * s + x as usize] } else { 0.0 }
            };
            let mut resampled = vec![0f32; 3 * s * s];
            for (i, value) in resampled.iter_mut().enumerate() {
                let (k, y, x) = (i / (s * s), i / s % s, i % s);
                for v in 0..self.height {
                    for u in 0..self.width {
                        let pixel = f32::from(picture[(v * self.width + u) * 3 + k]) / 255.0;
                        *value += self.rows[y * self.height + v] * pixel * self.columns[u * s + x];
                    }
                }
            }
            let taps = || (0..9).map(|t| (t, t as isize / 3 - 1, t as isize % 3 - 1));
            let plane = |k: usize, of: &dyn Fn(usize, isize, isize) -> f32| -> Vec<f32> {
                (0..s * s).map(|i| of(k, (i / s) as isize, (i % s) as isize)).collect()
            };
            let conv = |k: usize, y: isize, x: isize| {
                let mut sum = self.conv_bias[k];
                for input in 0..3 {
                    for (t, dy, dx) in taps() {
                        sum += self.conv[(k * 3 + input) * 9 + t] * at(&resampled, input, y + dy, x + dx);
                    }
                }
                sum.clamp(0.0, 6.0)
            };
            let first: Vec<f32> = (0..c).flat_map(|k| plane(k, &conv)).collect();
            let residual = |k: usize, y: isize, x: isize| {
                let sum: f32 =
                    taps().map(|(t, dy, dx)| self.depthwise[k * 9 + t] * at(&first, k, y + dy, x + dx)).sum();
                at(&first, k, y, x) + sum.max(0.0)
            };
            let second: Vec<f32> = (0..c).flat_map(|k| plane(k, &residual)).collect();
            let features: Vec<f32> = (0..c)
                .map(|k| {
                    let mut sum = 0.0;
                    for y in (0..s as isize).step_by(2) {
                        for x in (0..s as isize).step_by(2) {
                            let block = [(0, 0), (0, 1), (1, 0), (1, 1)];
                            sum += block
                                .map(|(dy, dx)| at(&second, k, y + dy, x + dx))
                                .into_iter()
                                .fold(f32::MIN, f32::max);
                        }
                    }
                    sum / (s * s / 4) as f32
                })
                .collect();
            (0..self.classes)
                .map(|o| {
                    self.dense_bias[o] + (0..c).map(|k| features[k] * self.dense[k * self.classes + o]).sum::<f32>()
                })
                .collect()
        }
    }

    #[test]
    fn every_operator_of_a_published_network_computes_what_plain_loops_compute() {
        let reference = Reference::new();
        let network = Network::from_onnx(&reference.onnx(), &spec(5, 7), 3).unwrap();
        let pixels = pixels(1, 5, 7);
        close(&network.logits(&pixels).unwrap(), &reference.logits(&pixels));
    }

    #[test]
    fn several_pictures_give_their_rows_in_order() {
        let reference = Reference::new();
        let network = Network::from_onnx(&reference.onnx(), &spec(5, 7), 3).unwrap();
        let pixels = pixels(3, 5, 7);
        let expected: Vec<f32> = pixels.chunks(5 * 7 * 3).flat_map(|picture| reference.logits(picture)).collect();
        assert_ne!(expected[..3], expected[3..6]);
        close(&network.logits(&pixels).unwrap(), &expected);
    }

    #[test]
    fn pixels_that_are_no_whole_pictures_are_refused() {
        let network = Network::from_onnx(&colours_onnx(&spec(4, 4)), &spec(4, 4), 3).unwrap();
        for found in [0, 47, 49] {
            let error = network.logits(&vec![0; found]).expect_err("no whole picture");
            assert_eq!(error.to_string(), format!("got {found} bytes of pixels; one picture of 4×4 RGB takes 48"));
        }
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused_without_a_panic() {
        let onnx = Reference::new().onnx();
        for length in 0..onnx.len() {
            assert!(
                Network::from_onnx(&onnx[..length], &spec(5, 7), 3).is_err(),
                "the first {length} bytes were taken"
            );
        }
    }

    #[test]
    fn a_file_that_ends_before_its_operator_set_is_refused() {
        let mut model = pb::ModelProto::decode(&*colours_onnx(&spec(4, 4))).unwrap();
        model.opset_import.clear();
        let error =
            Network::from_onnx(&model.encode_to_vec(), &spec(4, 4), 3).expect_err("the operators' meaning is open");
        assert!(matches!(error, PredictorError::NoOperatorSet), "{error}");
    }

    #[test]
    fn an_unknown_operator_is_refused_and_named() {
        let mut g = Graph::new(4, 4, 3);
        g.named("Clairvoyance", &[INPUT], OUTPUT, &[]);
        let error = Network::from_onnx(&g.onnx(), &spec(4, 4), 3).expect_err("no such operator");
        let PredictorError::Prepare { source } = error else { panic!("{error}") };
        assert!(format!("{source:?}").contains("Clairvoyance"), "{source:?}");
    }

    #[track_caller]
    fn mismatch(onnx: &[u8], sentence: &str) {
        let error = Network::from_onnx(onnx, &spec(4, 4), 3).expect_err("another interface");
        assert_eq!(error.to_string(), sentence);
    }

    #[test]
    fn another_interface_than_the_houses_is_refused_by_both_shapes() {
        mismatch(&[], "the network's input is missing; the manifest expects images: u8 [N, 4, 4, 3]");
        mismatch(
            &colours_onnx(&spec(4, 5)),
            "the network's input is images: u8 [N, 4, 5, 3]; the manifest expects images: u8 [N, 4, 4, 3]",
        );
        let mut g = Graph::new(4, 4, 3);
        g.node("Identity", &[INPUT], &[]);
        mismatch(
            &g.onnx(),
            "the network's output is logits, which no node makes; the manifest expects logits: f32 [N, 3]",
        );
        let mut g = Graph::new(4, 4, 3);
        g.named("Identity", &[INPUT], OUTPUT, &[]);
        mismatch(&g.onnx(), "the network's output is u8 [1, 4, 4, 3]; the manifest expects f32 [1, 3]");
    }
}
