//! A person's own network: an ONNX file whose nodes become part of the graphs written here.
//!
//! It stays frozen, because nothing is known of it but its nodes. Storing it and asking whether tract can run it is done
//! where it is added.

use std::path::Path;

use api::{
    backbone::{BackboneManifest, MANIFEST_FILE, NETWORK_FILE},
    model::Backbone as Identity,
};
use predictor::PredictorError;
use prost::Message;

use super::{Backbone, Body, read_checked};
use crate::{
    Result, TrainerError,
    graph::{Builder, Value},
    onnx::{Graph, Model, int, ints},
};

/// Prefix of every name inside.
const PREFIX: &str = "own.";

/// In a shape: as many as there were in this place.
const SAME: i64 = 0;
/// In a shape: as many as are left.
const WORKED_OUT: i64 = -1;

/// Nodes and constants ready to be copied into a graph.
#[derive(Clone, Debug)]
pub struct Spliced {
    graph: Graph,
    manifest: BackboneManifest,
}

/// What a backbone's folder says of it.
///
/// # Errors
/// `BackboneFile`
pub fn manifest(folder: &Path) -> Result<BackboneManifest> {
    let path = folder.join(MANIFEST_FILE);
    let unreadable = |source| TrainerError::BackboneFile { path: path.clone(), source };
    let bytes = std::fs::read(&path).map_err(unreadable)?;
    serde_json::from_slice(&bytes).map_err(|e| unreadable(e.into()))
}

/// Reads a backbone's folder.
///
/// # Errors
/// `BackboneFile`, `BackboneDigest` or `BackboneGraph`
pub fn open(folder: &Path) -> Result<Backbone> {
    let manifest = manifest(folder)?;
    let network = read_checked(&folder.join(NETWORK_FILE), &manifest.sha256)?;
    let name = manifest.name.clone();
    let spliced = splice(&network, manifest).map_err(|problem| TrainerError::BackboneGraph { name, problem })?;
    let BackboneManifest { name, licence, sha256, mean, deviation, .. } = spliced.manifest.clone();
    Ok(Backbone {
        identity: Identity { name, licence, sha256 },
        mean,
        deviation,
        body: Body::Spliced(Box::new(spliced)),
    })
}

/// Takes the graph out of the file and gives its names a prefix.
fn splice(file: &[u8], manifest: BackboneManifest) -> Result<Spliced, String> {
    predictor::backbone::check(file).map_err(|error| match error {
        PredictorError::Unfit { reason } => reason,
        other => other.to_string(),
    })?;
    let model = Model::decode(file).map_err(|error| format!("it is no ONNX file ({error})"))?;
    let mut graph = model.graph.ok_or("it has no graph")?;
    if !graph.output.iter().any(|output| output.name == manifest.output) {
        return Err(format!("it has no output {}", manifest.output));
    }
    if !graph.input.iter().any(|input| input.name == manifest.input) {
        return Err(format!("it has no input {}", manifest.input));
    }
    for name in names(&mut graph) {
        if !name.is_empty() {
            name.insert_str(0, PREFIX);
        }
    }
    graph.input.clear();
    graph.output.clear();
    Ok(Spliced { graph, manifest })
}

/// Every name of a value or node.
fn names(graph: &mut Graph) -> impl Iterator<Item = &mut String> {
    let nodes = graph.node.iter_mut();
    let in_nodes = nodes.flat_map(|n| [&mut n.name].into_iter().chain(&mut n.input).chain(&mut n.output));
    in_nodes.chain(graph.initializer.iter_mut().map(|constant| &mut constant.name))
}

impl Spliced {
    /// Side in pixels that it sees.
    pub fn input_size(&self) -> u32 {
        self.manifest.input_size
    }

    /// Per picture.
    pub fn n_features(&self) -> i64 {
        i64::from(self.manifest.n_features)
    }

    /// Values in its constants.
    pub fn n_weights(&self) -> usize {
        self.graph.initializer.iter().map(|constant| constant.dims.iter().product::<i64>() as usize).sum()
    }

    /// Multiply-adds for one picture, roughly: as if every weight were used once for every sixteenth of a pixel.
    pub fn multiply_adds(&self) -> u64 {
        let side = u64::from(self.manifest.input_size).div_ceil(16);
        self.n_weights() as u64 * side * side
    }

    /// Appends the nodes.
    ///
    /// # Shapes
    /// - `x`: f32 `[N, 3, input_size, input_size]`
    /// - result: `[N, n_features]`
    pub fn append(&self, graph: &mut Builder, x: &Value) -> Value {
        let input = Value::named(format!("{PREFIX}{}", self.manifest.input));
        graph.identity(x, &input);
        graph.splice(&self.graph);
        let output = Value::named(format!("{PREFIX}{}", self.manifest.output));
        // Height and width, where they are left, are averaged; what the file says of its output's shape need not be true.
        let places = graph.reshape(&output, &[SAME, self.n_features(), WORKED_OUT]);
        graph.op("ReduceMean", &[&places], vec![ints("axes", &[2]), int("keepdims", 0)])
    }
}
