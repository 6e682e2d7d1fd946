//! Features of a frozen backbone for every picture of a split, computed once before training.

use api::train::Augmentation;

use crate::{
    Result,
    backbone::{Backbone, N_FEATURES},
    data::{Change, Features, Pictures, Samples},
    engine::{Engine, Inputs, Session},
    graph::Builder,
    model::Feed,
    monitor::Monitor,
    onnx::{BATCH, Element},
    pixels::PixelInput,
    random::{Purpose, generator},
    train::batch_size_for,
};

/// The graph from pixels to features, ready to run.
#[derive(Debug)]
pub struct Extractor {
    session: Session,
    batch_size: usize,
}

impl Extractor {
    /// Prepares the backbone for pictures of this size.
    pub fn new(engine: &Engine, backbone: &Backbone, pixels: &PixelInput) -> Result<Self> {
        let mut graph = Builder::new();
        let x = pixels.append(&mut graph);
        let features = backbone.append(&mut graph, &x, pixels.size);
        graph.output(Feed::FEATURES, &features, Element::F32, &[BATCH, N_FEATURES]);
        let session = engine.session("backbone", &graph.finish("backbone", &[]))?;
        let batch_size = batch_size_for(&Feed::Pixels(pixels.clone()).shape());
        Ok(Self { session, batch_size })
    }

    /// Features of every variant of every picture.
    ///
    /// Progress counts variants under the stage `features`, from `done` to at most `total`.
    pub fn run(
        &mut self,
        pictures: &Pictures,
        variants: &[Variant],
        (mut done, total): (usize, usize),
        monitor: &mut Monitor,
    ) -> Result<Features> {
        let n_features = N_FEATURES as usize;
        let mut values = vec![0f32; pictures.len() * variants.len() * n_features];
        let rows: Vec<usize> = (0..pictures.len()).collect();
        for (index, variant) in variants.iter().enumerate() {
            let mut change = variant.changes(pictures);
            for rows in rows.chunks(self.batch_size) {
                let batch = pictures.changed(rows, &mut change);
                let mut inputs = Inputs::new();
                batch.feed(&mut inputs)?;
                let outputs = self.session.run(inputs)?;
                let computed: &[f32] = outputs.values(Feed::FEATURES)?;
                for (row, vector) in rows.iter().zip(computed.chunks_exact(n_features)) {
                    let at = (row * variants.len() + index) * n_features;
                    values[at..at + n_features].copy_from_slice(vector);
                }
                done += rows.len();
                monitor.stage("features", done, total)?;
            }
        }
        Ok(Features { values, labels: pictures.labels.to_vec(), n_variants: variants.len(), n_features })
    }
}

/// One way in which every picture of a split is changed before its features are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// As it is.
    Plain,
    /// Mirrored.
    Mirrored,
    /// Each picture in its own random way.
    Shifted {
        /// Of the run.
        seed: u64,
        /// Tells several such variants apart.
        number: u32,
    },
}

impl Variant {
    /// The variants from which training samples, for an augmentation.
    pub fn of(augmentation: Augmentation, seed: u64) -> Vec<Self> {
        match augmentation {
            Augmentation::None => vec![Self::Plain],
            Augmentation::Flip => vec![Self::Plain, Self::Mirrored],
            Augmentation::FlipShift => {
                let shifted = (1..=2).map(|number| Self::Shifted { seed, number });
                [Self::Plain, Self::Mirrored].into_iter().chain(shifted).collect()
            }
        }
    }

    fn changes(self, pictures: &Pictures) -> impl FnMut() -> Change {
        let (height, width) = (pictures.height, pictures.width);
        let mut random = match self {
            Self::Shifted { seed, number } => Some(generator(seed, Purpose::Augmentation, number)),
            Self::Plain | Self::Mirrored => None,
        };
        move || match &mut random {
            Some(random) => Change::random(Augmentation::FlipShift, height, width, random),
            None => Change { flip: self == Self::Mirrored, ..Change::default() },
        }
    }
}
