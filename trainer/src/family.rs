//! The model families: how each gets from a dataset's pictures to fitted weights.

use api::train::{Family, Settings};

use crate::{
    Result, TrainerError,
    backbone::{self, Backbone, N_FEATURES},
    data::{Pictures, Samples},
    engine::Engine,
    export::{Exported, fold_standard},
    features::{Extractor, Variant},
    model::{Feed, Network, Weights},
    monitor::Monitor,
    pixels::PixelInput,
    train::{Evaluator, Fit, fit},
};

/// What a family learns from.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// Fits the weights.
    pub train: Pictures<'a>,
    /// Chooses the epoch; may be empty.
    pub validation: Pictures<'a>,
    /// On these the training-time forward is compared with the exported file.
    pub checked: Pictures<'a>,
    /// Number of labels.
    pub n_classes: usize,
    /// Every setting of the run.
    pub settings: &'a Settings,
}

/// What a family comes to.
#[derive(Debug)]
pub struct Learned {
    /// Course of training.
    pub fit: Fit,
    /// Logits of the checked pictures as training computes them: `[n, n_classes]`.
    pub reference: Vec<f32>,
    /// Trainable and frozen weights together.
    pub n_weights: usize,
    /// From the dataset's pixels to the network's input.
    pub pixels: PixelInput,
    /// The frozen network in between, if any.
    pub backbone: Option<Backbone>,
    network: Network,
    weights: Weights,
}

impl Learned {
    /// What goes into the published file.
    pub fn exported(&self) -> Exported<'_> {
        Exported {
            pixels: &self.pixels,
            backbone: self.backbone.as_ref(),
            network: &self.network,
            weights: &self.weights,
        }
    }
}

/// Trains the family that the settings name.
///
/// # Errors
/// `Settings` if the family needs a backbone and there is none; else what fitting says
pub fn learn(engine: &Engine, lesson: &Lesson, backbone: Option<Backbone>, monitor: &mut Monitor) -> Result<Learned> {
    match (lesson.settings.family, backbone) {
        (Family::Cnn, _) => cnn(engine, lesson, monitor),
        (Family::Linear, Some(backbone)) => linear(engine, lesson, backbone, monitor),
        (family, _) => {
            let problem = format!("family {} is not built yet", family.name());
            Err(TrainerError::Settings(vec![problem]))
        }
    }
}

/// A network trained from its first weights on, straight from pixels.
fn cnn(engine: &Engine, lesson: &Lesson, monitor: &mut Monitor) -> Result<Learned> {
    let (mean, deviation) = lesson.train.channel_statistics();
    let pixels = pixel_input(lesson, mean, deviation);
    let feed = Feed::Pixels(pixels.clone());
    let network = Network::of_family(lesson.settings, &feed.shape(), lesson.n_classes as i64);
    let fit = monitor.timed("fit", |monitor| {
        fit(engine, &feed, &network, &lesson.train, &lesson.validation, lesson.settings, monitor)
    })?;
    let reference = Evaluator::new(engine, &feed, &network)?.logits(&network, &fit.weights, &lesson.checked)?;
    let weights = fit.weights.clone();
    Ok(Learned { n_weights: network.n_weights(), fit, reference, pixels, backbone: None, network, weights })
}

/// A linear head on the frozen backbone's features, which are computed once for a few variants of each picture.
fn linear(engine: &Engine, lesson: &Lesson, backbone: Backbone, monitor: &mut Monitor) -> Result<Learned> {
    let settings = lesson.settings;
    let pixels = pixel_input(lesson, [backbone::PIXEL_MEAN; 3], [backbone::PIXEL_DEVIATION; 3]);
    let mut extractor = Extractor::new(engine, &backbone, &pixels)?;
    let variants = Variant::of(settings.augmentation, settings.seed);
    let (mut train, mut validation, mut checked) = monitor.timed("features", |monitor| {
        let varied = lesson.train.len() * variants.len();
        let total = varied + lesson.validation.len() + lesson.checked.len();
        monitor.stage("features", 0, total)?;
        let train = extractor.run(&lesson.train, &variants, (0, total), monitor)?;
        let validation = extractor.run(&lesson.validation, &[Variant::Plain], (varied, total), monitor)?;
        let done = varied + lesson.validation.len();
        let checked = extractor.run(&lesson.checked, &[Variant::Plain], (done, total), monitor)?;
        Ok((train, validation, checked))
    })?;
    let standard = train.statistics();
    for features in [&mut train, &mut validation, &mut checked] {
        features.standardise(&standard);
    }
    let feed = Feed::Features { shape: vec![N_FEATURES] };
    let network = Network::of_family(settings, &feed.shape(), lesson.n_classes as i64);
    let fit = monitor.timed("fit", |monitor| fit(engine, &feed, &network, &train, &validation, settings, monitor))?;
    let reference = Evaluator::new(engine, &feed, &network)?.logits(&network, &fit.weights, &checked)?;
    let mut weights = fit.weights.clone();
    fold_standard(&network, &mut weights, &standard);
    let n_weights = network.n_weights() + backbone.n_weights();
    Ok(Learned { fit, reference, n_weights, pixels, backbone: Some(backbone), network, weights })
}

fn pixel_input(lesson: &Lesson, mean: [f32; 3], deviation: [f32; 3]) -> PixelInput {
    let (height, width) = (lesson.train.height, lesson.train.width);
    PixelInput { height, width, size: lesson.settings.input_size, mean, deviation }
}
