//! A tiny network, written as ONNX by hand, and a version's folder around it, for tests.
//!
//! The network tells red, green and blue apart by the mean of each channel, so its logits can be computed by hand
//! and its answers foreseen. It is built when asked for; no binary file needs to be kept.

use std::{collections::BTreeMap, fs, io, path::Path};

use api::{
    PreprocessSpec,
    dataset::FileDigest,
    model::{INPUT, MODEL_FILE, Metrics, ModelManifest, OUTPUT, SCHEMA},
    train::Family,
};
use prost::Message;
use sha2::{Digest, Sha256};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

/// Labels of the colour network in class-index order, each with the colour it stands for.
pub const COLOURS: [(&str, [u8; 3]); 3] = [("red", [255, 0, 0]), ("green", [0, 255, 0]), ("blue", [0, 0, 255])];

/// Logit of a channel whose every pixel is 255; every other value is in proportion.
pub const FULL_LOGIT: f32 = 4.0;

/// Name of the version that [`write_colours`] writes.
pub const NAME: &str = "colours";

/// The colour network for pictures of this spec: logit of a class = [`FULL_LOGIT`] × mean of its channel / 255.
pub fn colours_onnx(spec: &PreprocessSpec) -> Vec<u8> {
    let mut graph = Graph::new(spec.height as usize, spec.width as usize, COLOURS.len());
    let gain = FULL_LOGIT / 255.0;
    let weights = graph.floats(&[3, 3], &[gain, 0.0, 0.0, 0.0, gain, 0.0, 0.0, 0.0, gain]);
    let bias = graph.floats(&[3], &[0.0; 3]);
    let x = graph.node("Cast", &[INPUT], &[Attribute::int("to", DataType::Float as i64)]);
    let x = graph.node("Transpose", &[&x], &[Attribute::ints("perm", &[0, 3, 1, 2])]);
    let x = graph.node("GlobalAveragePool", &[&x], &[]);
    let x = graph.node("Flatten", &[&x], &[Attribute::int("axis", 1)]);
    graph.named("Gemm", &[&x, &weights, &bias], OUTPUT, &[]);
    graph.onnx()
}

/// A tiny backbone: input `picture` f32 `[N, 3, side, side]`, or of any size; output `features` f32 `[N, 4]`.
pub fn backbone_onnx(side: Option<u32>) -> Vec<u8> {
    backbone_graph(side).onnx()
}

/// As [`backbone_onnx`], to be built upon; `Relu_1` is the map whose means the features are.
pub fn backbone_graph(side: Option<u32>) -> Graph {
    let side = side.map_or(FREE, i64::from);
    let message = GraphProto {
        name: "test".to_owned(),
        input: vec![value("picture", DataType::Float, &[3, side, side])],
        output: vec![value("features", DataType::Float, &[4])],
        ..Default::default()
    };
    let mut graph = Graph { message };
    let weights: Vec<f32> = (0..4 * 3 * 9).map(|n| ((n * n * 37) % 101) as f32 / 101.0 - 0.4).collect();
    let weights = graph.floats(&[4, 3, 3, 3], &weights);
    let strides = [Attribute::ints("kernel_shape", &[3, 3]), Attribute::ints("strides", &[2, 2])];
    let x = graph.node("Conv", &["picture", &weights], &strides);
    let x = graph.node("Relu", &[&x], &[]);
    let x = graph.node("GlobalAveragePool", &[&x], &[]);
    graph.named("Flatten", &[&x], "features", &[Attribute::int("axis", 1)]);
    graph
}

/// Writes the colour network and its manifest into a folder that exists, as the registry would hold it.
pub fn write_colours(dir: &Path, version: u32, spec: &PreprocessSpec) -> io::Result<()> {
    let onnx = colours_onnx(spec);
    let digest = FileDigest { bytes: onnx.len() as u64, sha256: crate::hex(&Sha256::digest(&onnx)) };
    let manifest = ModelManifest {
        schema: SCHEMA,
        name: NAME.to_owned(),
        version,
        created: "2026-01-01T00:00:00Z".to_owned(),
        labels: COLOURS.map(|(label, _)| label.to_owned()).to_vec(),
        preprocess: spec.clone(),
        family: Family::Cnn,
        backbone: None,
        doubt: None,
        classes: vec![],
        metrics: Metrics { accuracy: 1.0, val_accuracy: None, test_accuracy: None },
        dataset: "ds-0000000000000000".to_owned(),
        run: "run-0".to_owned(),
        engine_difference: 0.0,
        made_by: "a test".to_owned(),
        files: BTreeMap::from([(MODEL_FILE.to_owned(), digest)]),
    };
    fs::write(dir.join(MODEL_FILE), onnx)?;
    fs::write(dir.join(crate::MANIFEST_FILE), serde_json::to_vec_pretty(&manifest)?)
}

/// Pixels of a picture of this spec in one colour, `[height, width, 3]`.
pub fn solid(spec: &PreprocessSpec, colour: [u8; 3]) -> Vec<u8> {
    colour.repeat(spec.picture_bytes() / 3)
}

/// An ONNX graph with the house's interface, written node by node.
pub struct Graph {
    message: GraphProto,
}

impl Graph {
    /// An empty graph for pictures of this size: input u8 `[N, height, width, 3]`, output f32 `[N, n_classes]`.
    pub fn new(height: usize, width: usize, n_classes: usize) -> Self {
        let message = GraphProto {
            name: "test".to_owned(),
            input: vec![value(INPUT, DataType::Uint8, &[height as i64, width as i64, 3])],
            output: vec![value(OUTPUT, DataType::Float, &[n_classes as i64])],
            ..Default::default()
        };
        Self { message }
    }

    /// Adds constant floats of this shape; answers their name.
    pub fn floats(&mut self, dims: &[i64], data: &[f32]) -> String {
        self.constant(TensorProto {
            dims: dims.to_vec(),
            data_type: DataType::Float as i32,
            float_data: data.to_vec(),
            ..Default::default()
        })
    }

    /// Adds a constant list of integers; answers its name.
    pub fn ints(&mut self, data: &[i64]) -> String {
        self.constant(TensorProto {
            dims: vec![data.len() as i64],
            data_type: DataType::Int64 as i32,
            int64_data: data.to_vec(),
            ..Default::default()
        })
    }

    fn constant(&mut self, tensor: TensorProto) -> String {
        let name = format!("constant_{}", self.message.initializer.len());
        self.message.initializer.push(TensorProto { name: name.clone(), ..tensor });
        name
    }

    /// Adds a node with one output; answers the output's name.
    pub fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[Attribute]) -> String {
        let output = format!("{operator}_{}", self.message.node.len());
        self.named(operator, inputs, &output, attributes);
        output
    }

    /// Adds a node with one output of this name.
    pub fn named(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[Attribute]) {
        self.message.node.push(NodeProto {
            name: output.to_owned(),
            op_type: operator.to_owned(),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute: attributes.iter().map(|attribute| attribute.0.clone()).collect(),
            ..Default::default()
        });
    }

    /// Makes one more value an output, of any shape.
    pub fn add_output(&mut self, name: &str) {
        self.message.output.push(value(name, DataType::Float, &[FREE]));
    }

    /// The whole file.
    pub fn onnx(self) -> Vec<u8> {
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(self.message),
            ..Default::default()
        }
        .encode_to_vec()
    }
}

/// An attribute of a node.
#[derive(Clone)]
pub struct Attribute(AttributeProto);

impl Attribute {
    /// One integer.
    pub fn int(name: &str, value: i64) -> Self {
        let r#type = AttributeType::Int as i32;
        Self(AttributeProto { name: name.to_owned(), r#type, i: value, ..Default::default() })
    }

    /// A list of integers.
    pub fn ints(name: &str, values: &[i64]) -> Self {
        let r#type = AttributeType::Ints as i32;
        Self(AttributeProto { name: name.to_owned(), r#type, ints: values.to_vec(), ..Default::default() })
    }
}

/// A length that a graph leaves open.
const FREE: i64 = -1;

fn value(name: &str, element: DataType, dims: &[i64]) -> ValueInfoProto {
    let batch = dimension::Value::DimParam("N".to_owned());
    let dims = dims.iter().map(|&dim| match dim {
        FREE => dimension::Value::DimParam("side".to_owned()),
        length => dimension::Value::DimValue(length),
    });
    let dim = std::iter::once(batch).chain(dims).map(|value| Dimension { value: Some(value), ..Default::default() });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let tensor = type_proto::Tensor { elem_type: element as i32, shape };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(r#type), ..Default::default() }
}
