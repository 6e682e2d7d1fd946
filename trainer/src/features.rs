//! Features of frozen networks for every picture, computed once and shared between fits.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Result,
    backbone::Frozen,
    data::{Values, Variant},
    engine::Inputs,
    family::Task,
    graph::Builder,
    model::Feed,
    monitor::Monitor,
    onnx::{BATCH, Element},
    optimiser::batch_size_for,
    pixels::PixelInput,
};

/// Changes when the same [`Key`] would give other values.
pub const GRAPH_VERSION: u32 = 2;

/// What tells the features of the same pictures apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// SHA-256 of the backbone's file.
    pub backbone: String,
    /// Side in pixels of what it sees.
    pub input_size: u32,
    /// 0: pooled features; n: what comes into the last n blocks.
    pub trained_blocks: u32,
    /// How pictures are changed before.
    pub variant: Variant,
}

/// Gives features to fits: computes them, or has them from before.
pub trait FeatureSource {
    /// Features of every picture of the task.
    ///
    /// # Shapes
    /// result: f32 `[pictures, frozen.output()…]`
    fn features(&mut self, task: &Task, frozen: &Frozen, variant: Variant, monitor: &mut Monitor) -> Result<Values>;
}

impl Key {
    /// The key of a frozen network's features of one variant.
    pub fn of(frozen: &Frozen, variant: Variant) -> Self {
        Self {
            backbone: frozen.backbone.identity().sha256.clone(),
            input_size: frozen.input_size,
            trained_blocks: frozen.trained_blocks,
            variant,
        }
    }
}

/// How a backbone sees the task's pictures.
pub fn pixels(task: &Task, frozen: &Frozen) -> PixelInput {
    PixelInput {
        height: task.pictures.height(),
        width: task.pictures.width(),
        size: frozen.input_size,
        mean: frozen.backbone.mean(),
        deviation: frozen.backbone.deviation(),
    }
}

/// Computes features of every picture of the task, and hands them on picture by picture in order, some at a time.
///
/// Progress counts pictures under the stage `features`.
pub fn compute(
    task: &Task,
    frozen: &Frozen,
    variant: Variant,
    monitor: &mut Monitor,
    take: &mut dyn FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let feed = Feed::Pixels { pixels: pixels(task, frozen), frozen: Some(frozen.clone()) };
    let mut graph = Builder::new();
    let features = feed.append(&mut graph, BATCH);
    let dims: Vec<i64> = [&[BATCH], frozen.output().as_slice()].concat();
    graph.output(Feed::FEATURES, &features, Element::F32, &dims);
    let mut session = task.engine.session("backbone", &graph.finish("backbone", &[]))?;

    let pictures = task.pictures;
    let rows: Vec<usize> = (0..pictures.len()).collect();
    monitor.stage("features", 0, rows.len())?;
    for rows in rows.chunks(batch_size_for(&feed)) {
        let batch = pictures.changed(rows, |row| variant.change(row, pictures.height(), pictures.width()));
        let mut inputs = Inputs::new();
        batch.feed(&mut inputs)?;
        take(session.run(inputs)?.values(Feed::FEATURES)?)?;
        monitor.stage("features", rows[0] + rows.len(), pictures.len())?;
    }
    Ok(())
}

/// Computes features and remembers them, in memory, as long as it lives.
#[derive(Default)]
pub struct Computed {
    known: HashMap<Key, Values>,
}

impl FeatureSource for Computed {
    fn features(&mut self, task: &Task, frozen: &Frozen, variant: Variant, monitor: &mut Monitor) -> Result<Values> {
        let key = Key::of(frozen, variant);
        if let Some(values) = self.known.get(&key) {
            return Ok(values.clone());
        }
        let mut values: Vec<f32> = vec![];
        compute(task, frozen, variant, monitor, &mut |some| {
            values.extend_from_slice(some);
            Ok(())
        })?;
        let values: Values = Arc::new(values);
        self.known.insert(key, values.clone());
        Ok(values)
    }
}
