//! Small constructors for the messages of an ONNX file.
//!
//! The messages themselves are tract's; reading models is left to the engines.

use std::collections::BTreeSet;

use prost::Message;
pub use tract_onnx::pb::{
    AttributeProto as Attribute, GraphProto as Graph, ModelProto as Model, NodeProto as Node, TensorProto as Tensor,
    ValueInfoProto,
};
use tract_onnx::pb::{
    OperatorSetIdProto, StringStringEntryProto, TensorShapeProto, TypeProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

/// Operator set every graph of ours is written for; ONNX Runtime and tract both read it.
const OPSET: i64 = 17;

/// Version of the file format that came with [`OPSET`].
const IR_VERSION: i64 = 8;

/// Program named in every file.
pub const PRODUCER: &str = "fovea-trainer";

/// Stands for the batch dimension, whose size is known only when the graph runs.
pub const BATCH: i64 = -1;

/// Element types in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// Unsigned byte.
    U8,
    /// 64-bit integer.
    I64,
}

impl Element {
    /// The number ONNX gives it.
    pub fn code(self) -> i32 {
        match self {
            Self::F32 => DataType::Float as i32,
            Self::U8 => DataType::Uint8 as i32,
            Self::I64 => DataType::Int64 as i32,
        }
    }
}

/// An attribute that is one integer.
pub fn int(name: &str, value: i64) -> Attribute {
    Attribute { name: name.into(), i: value, r#type: AttributeType::Int as i32, ..Default::default() }
}

/// An attribute that is one number.
pub fn float(name: &str, value: f32) -> Attribute {
    Attribute { name: name.into(), f: value, r#type: AttributeType::Float as i32, ..Default::default() }
}

/// An attribute that is a list of integers.
pub fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute { name: name.into(), ints: values.to_vec(), r#type: AttributeType::Ints as i32, ..Default::default() }
}

/// A constant of 32-bit floats.
pub fn floats_tensor(name: &str, dims: &[i64], values: &[f32]) -> Tensor {
    tensor(name, Element::F32, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// A constant of 64-bit integers.
pub fn ints_tensor(name: &str, dims: &[i64], values: &[i64]) -> Tensor {
    tensor(name, Element::I64, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn tensor(name: &str, element: Element, dims: &[i64], raw_data: Vec<u8>) -> Tensor {
    Tensor { name: name.into(), dims: dims.to_vec(), data_type: element.code(), raw_data, ..Default::default() }
}

/// An input or output; a dimension of [`BATCH`] is written as the symbol `N`.
pub fn value_info(name: &str, element: Element, dims: &[i64]) -> ValueInfoProto {
    let size = |&d: &i64| match d {
        BATCH => dimension::Value::DimParam("N".into()),
        size => dimension::Value::DimValue(size),
    };
    let dim = dims.iter().map(|d| Dimension { value: Some(size(d)), ..Default::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: element.code(), shape: Some(TensorShapeProto { dim }) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}

/// The bytes of a model file with this graph.
///
/// `domains` are those of operations beside the standard ones.
pub fn encode(graph: Graph, domains: &BTreeSet<&'static str>, metadata: &[(&str, String)]) -> Vec<u8> {
    let set = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    let sets = [set("", OPSET)].into_iter().chain(domains.iter().map(|domain| set(domain, 1)));
    let entry = |(key, value): &(&str, String)| StringStringEntryProto { key: (*key).into(), value: value.clone() };
    Model {
        ir_version: IR_VERSION,
        producer_name: PRODUCER.into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph),
        opset_import: sets.collect(),
        metadata_props: metadata.iter().map(entry).collect(),
        ..Default::default()
    }
    .encode_to_vec()
}
