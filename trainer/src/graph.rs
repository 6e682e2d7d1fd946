//! Writing a graph node by node.
//!
//! Knows ONNX operators and fresh names, not what a network is.

use std::collections::BTreeSet;

use crate::onnx::{self, Attribute, BATCH, Element, Graph, Node, Tensor, ValueInfoProto, int, ints};

/// Name of a value inside a graph under construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// The value of this name: an input, or a constant added with [`Builder::constant`].
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

/// A graph under construction. Nodes are appended in the order in which they can be computed.
#[derive(Debug, Default)]
pub struct Builder {
    nodes: Vec<Node>,
    constants: Vec<Tensor>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    names: usize,
    /// Of operations beside the standard ones.
    domains: BTreeSet<&'static str>,
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    fn fresh(&mut self) -> Value {
        self.names += 1;
        Value(format!("t{}", self.names))
    }

    /// Declares an input; [`BATCH`] stands for the batch dimension.
    pub fn input(&mut self, name: &str, element: Element, dims: &[i64]) -> Value {
        self.inputs.push(onnx::value_info(name, element, dims));
        Value::named(name)
    }

    /// Declares `value` as the output `name`.
    pub fn output(&mut self, name: &str, value: &Value, element: Element, dims: &[i64]) {
        self.identity(value, &Value::named(name));
        self.outputs.push(onnx::value_info(name, element, dims));
    }

    /// Adds a named constant.
    pub fn constant(&mut self, name: &str, dims: &[i64], values: &[f32]) -> Value {
        self.constants.push(onnx::floats_tensor(name, dims, values));
        Value::named(name)
    }

    /// Adds a constant number.
    pub fn scalar(&mut self, value: f32) -> Value {
        let name = self.fresh();
        self.constants.push(onnx::floats_tensor(&name.0, &[], &[value]));
        name
    }

    /// Adds a constant list of integers: a shape, axes, offsets.
    pub fn ints(&mut self, values: &[i64]) -> Value {
        let name = self.fresh();
        self.constants.push(onnx::ints_tensor(&name.0, &[values.len() as i64], values));
        name
    }

    /// Gives a value another name.
    pub fn identity(&mut self, value: &Value, name: &Value) {
        self.push("Identity", &[value], &[name], vec![]);
    }

    /// Copies the nodes and constants of a graph whose names are not in use here.
    pub fn splice(&mut self, graph: &Graph) {
        self.nodes.extend(graph.node.iter().cloned());
        self.constants.extend(graph.initializer.iter().cloned());
    }

    fn push(&mut self, op: &str, inputs: &[&Value], outputs: &[&Value], attribute: Vec<Attribute>) {
        self.nodes.push(Node {
            op_type: op.into(),
            name: format!("n{}", self.nodes.len()),
            input: inputs.iter().map(|v| v.0.clone()).collect(),
            output: outputs.iter().map(|v| v.0.clone()).collect(),
            attribute,
            ..Default::default()
        });
    }

    /// Appends an operation with one result.
    pub fn op(&mut self, op: &str, inputs: &[&Value], attributes: Vec<Attribute>) -> Value {
        let result = self.fresh();
        self.push(op, inputs, &[&result], attributes);
        result
    }

    /// Appends an operation that is none of the standard's: ONNX Runtime's own, or one of ours, which only it can run.
    pub fn op_of(&mut self, domain: &'static str, op: &str, inputs: &[&Value], attributes: Vec<Attribute>) -> Value {
        let [result] = self.ops_of(domain, op, inputs, attributes);
        result
    }

    /// The same with several results.
    pub fn ops_of<const N: usize>(
        &mut self,
        domain: &'static str,
        op: &str,
        inputs: &[&Value],
        attributes: Vec<Attribute>,
    ) -> [Value; N] {
        let results = [(); N].map(|()| self.fresh());
        self.push(op, inputs, &results.each_ref(), attributes);
        if let Some(node) = self.nodes.last_mut() {
            node.domain = domain.into();
        }
        self.domains.insert(domain);
        results
    }

    /// `a + b`, broadcasting.
    pub fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Add", &[a, b], vec![])
    }

    /// `a - b`, broadcasting.
    pub fn sub(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Sub", &[a, b], vec![])
    }

    /// `a × b` element by element, broadcasting.
    pub fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Mul", &[a, b], vec![])
    }

    /// `a / b`, broadcasting.
    pub fn div(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Div", &[a, b], vec![])
    }

    /// Matrix product over the last two axes.
    pub fn matmul(&mut self, a: &Value, b: &Value) -> Value {
        self.op("MatMul", &[a, b], vec![])
    }

    /// Another element type.
    pub fn cast(&mut self, x: &Value, to: Element) -> Value {
        self.op("Cast", &[x], vec![int("to", i64::from(to.code()))])
    }

    /// Another shape; one dimension may be [`BATCH`], which is worked out.
    pub fn reshape(&mut self, x: &Value, dims: &[i64]) -> Value {
        debug_assert!(dims.iter().filter(|&&d| d == BATCH).count() <= 1);
        let shape = self.ints(dims);
        self.op("Reshape", &[x, &shape], vec![])
    }

    /// Another order of axes.
    pub fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        self.op("Transpose", &[x], vec![ints("perm", order)])
    }

    /// The last axis the other way round.
    pub fn mirror(&mut self, x: &Value) -> Value {
        let [start, end, axis, step] = [-1, i64::MIN, -1, -1].map(|value| self.ints(&[value]));
        self.op("Slice", &[x, &start, &end, &axis, &step], vec![])
    }

    /// Sum over axes, which disappear.
    pub fn sum(&mut self, x: &Value, axes: &[i64]) -> Value {
        let axes = self.ints(axes);
        self.op("ReduceSum", &[x, &axes], vec![int("keepdims", 0)])
    }

    /// Sum over axes, which stay with a size of 1.
    pub fn sum_keeping(&mut self, x: &Value, axes: &[i64]) -> Value {
        let axes = self.ints(axes);
        self.op("ReduceSum", &[x, &axes], vec![int("keepdims", 1)])
    }

    /// The values of `x` where they lie between both, else the nearer of them.
    pub fn clip(&mut self, x: &Value, least: f32, most: f32) -> Value {
        let (least, most) = (self.scalar(least), self.scalar(most));
        self.op("Clip", &[x, &least, &most], vec![])
    }

    /// The bytes of the model file.
    pub fn finish(self, name: &str, metadata: &[(&str, String)]) -> Vec<u8> {
        let graph = Graph {
            node: self.nodes,
            name: name.into(),
            initializer: self.constants,
            input: self.inputs,
            output: self.outputs,
            ..Default::default()
        };
        onnx::encode(graph, &self.domains, metadata)
    }
}
