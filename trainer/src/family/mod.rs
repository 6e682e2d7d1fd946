//! The model families: how each gets from pictures to fitted weights, on any rows, for cross-validation and for good.

mod work;

use std::sync::Arc;

use api::{
    model::Backbone as Identity,
    train::{Family, Settings},
};
use ndarray::{Array2, ArrayView1, ArrayView2};

use crate::{
    Result, TrainerError,
    answers::Answers,
    backbone::{Backbones, Frozen},
    data::{FeatureSamples, Pictures, PixelSamples, Samples, Values, Variant},
    engine::Engine,
    export::{Exported, fold_standard},
    familiarity::{self, Familiar, Subspace},
    features::{self, FeatureSource},
    model::{Feed, Network, Weights},
    monitor::Monitor,
    optimiser::Evaluator,
    pixels::PixelInput,
    random::{Purpose, generator},
    recipe,
    train::{self, Fit, Keeper, Lesson},
};

pub use work::{Work, work};

/// What all fits of a run share.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Runs the graphs.
    pub engine: &'a Engine,
    /// Those installed.
    pub backbones: &'a Backbones,
    /// Every picture that a fit may be asked about.
    pub pictures: &'a Pictures<'a>,
    /// Number of labels.
    pub n_classes: usize,
}

/// Which of the task's pictures a fit sees.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Fit the weights.
    pub train: &'a [usize],
    /// Choose the epoch; may be empty.
    pub validation: &'a [usize],
}

/// What a fit comes to.
#[derive(Debug)]
pub struct Fitted {
    /// Course of training.
    pub fit: Fit,
    /// Trainable and frozen weights together.
    pub n_weights: usize,
    settings: Settings,
    pixels: PixelInput,
    frozen: Option<Frozen>,
    network: Network,
    /// For input that nothing standardises.
    weights: Weights,
    /// Of the pictures that it was fitted on.
    subspace: Option<Subspace>,
    /// See [`familiarity::usual`].
    usual: Option<f32>,
}

/// Random variants of each picture whose features heads are fitted on, beside the plain and the mirrored one.
const HEAD_VARIANTS: u32 = 2;
/// The same for fine-tuning.
const FINE_TUNE_VARIANTS: u32 = 4;
/// Fewer random variants than this are too little augmentation for fine-tuning; it then computes them as it goes.
const LEAST_FINE_TUNE_VARIANTS: u32 = 2;
/// What the variants of all pictures may take together, in bytes.
const MOST_BYTES: usize = 1 << 29;

/// Fits the family that the settings name.
///
/// # Errors
/// `Settings` if they do not go with the backbone, `Diverged` if a loss is not finite, `Cancelled` if someone asked to
/// stop
pub fn fit(
    task: &Task,
    settings: &Settings,
    rows: Rows,
    source: &mut dyn FeatureSource,
    keeper: &mut dyn Keeper,
    monitor: &mut Monitor,
) -> Result<Fitted> {
    let fitting = Fitting { task, settings, rows };
    let mut fitted = match settings.family {
        Family::Cnn | Family::SeparableCnn => fitting.scratch(keeper, monitor)?,
        Family::Linear | Family::Mlp => fitting.head(source, keeper, monitor)?,
        Family::FineTune => fitting.fine_tune(source, keeper, monitor)?,
    };
    let stride = rows.train.len().div_ceil(familiarity::MOST_PICTURES).max(1);
    let some: Vec<usize> = rows.train.iter().copied().step_by(stride).collect();
    let features = fitted.features(task, &some, source, monitor)?;
    fitted.subspace = Subspace::of(features.view());
    Ok(fitted)
}

struct Fitting<'a> {
    task: &'a Task<'a>,
    settings: &'a Settings,
    rows: Rows<'a>,
}

impl Fitting<'_> {
    /// The part of the named backbone that stays as it is.
    fn frozen(&self) -> Result<Frozen> {
        let wrong = |problem: String| TrainerError::Settings(vec![problem]);
        let name = self.settings.backbone.as_deref();
        let name = name.ok_or_else(|| wrong(format!("family {} needs a backbone", self.settings.family.name())))?;
        let backbone = self.task.backbones.open(name)?;
        let input_size = self.settings.input_size;
        backbone.check_size(input_size)?;
        let is_trained = self.settings.family == Family::FineTune;
        let trained_blocks = if is_trained { self.settings.trained_blocks } else { 0 };
        Ok(Frozen { backbone, input_size, trained_blocks })
    }

    /// A network trained from its first weights on, straight from pixels.
    fn scratch(&self, keeper: &mut dyn Keeper, monitor: &mut Monitor) -> Result<Fitted> {
        let pictures = self.task.pictures;
        let (mean, deviation) = pictures.channel_statistics(self.rows.train);
        let (height, width) = (pictures.height(), pictures.width());
        let pixels = PixelInput { height, width, size: self.settings.input_size, mean, deviation };
        let feed = Feed::Pixels { pixels: pixels.clone(), frozen: None };
        let network = recipe::network(self.settings, &feed.shape(), self.task.n_classes as i64);
        let first = network.first_weights(&mut generator(self.settings.seed, Purpose::Weights, 0));
        let fit = self.run(&feed, &network, &first, self.pixel_samples(), keeper, monitor)?;
        Ok(self.fitted(fit, pixels, None, network))
    }

    /// A head on the frozen backbone's features, which are computed once for a few variants of each picture.
    fn head(&self, source: &mut dyn FeatureSource, keeper: &mut dyn Keeper, monitor: &mut Monitor) -> Result<Fitted> {
        let frozen = self.frozen()?;
        let variants = Variant::of(self.settings.augmentation, self.settings.seed, HEAD_VARIANTS);
        let values = self.features(&frozen, &variants, source, monitor)?;
        let (fit, network, weights) = self.fit_head(self.settings, &frozen, values, keeper, monitor)?;
        let pixels = features::pixels(self.task, &frozen);
        Ok(Fitted { weights, ..self.fitted(fit, pixels, Some(frozen), network) })
    }

    /// Fits the layers behind the features, and folds their standardisation into the first of them.
    fn fit_head(
        &self,
        settings: &Settings,
        frozen: &Frozen,
        values: Vec<Values>,
        keeper: &mut dyn Keeper,
        monitor: &mut Monitor,
    ) -> Result<(Fit, Network, Weights)> {
        let shape = frozen.output();
        let of = |values: &[Values], rows| {
            FeatureSamples::new(values.to_vec(), shape.clone(), rows, self.task.pictures.labels())
        };
        let train = of(&values, self.rows.train);
        let standard = Arc::new(train.statistics());
        let train = train.standardised(standard.clone());
        let validation = of(&values[..1], self.rows.validation).standardised(standard.clone());
        let network = recipe::network(settings, &shape, self.task.n_classes as i64);
        let first = network.first_weights(&mut generator(settings.seed, Purpose::Weights, 0));
        let feed = Feed::Features { shape: shape.clone() };
        let lesson =
            Lesson { feed: &feed, network: &network, first: &first, train: &train, validation: &validation, settings };
        let fit = monitor.timed("fit", |monitor| train::fit(self.task.engine, lesson, keeper, monitor))?;
        let mut weights = fit.weights.clone();
        fold_standard(&network, &mut weights, &standard);
        Ok((fit, network, weights))
    }

    /// The backbone's last blocks trained on, with a head that starts from the solution on frozen features.
    fn fine_tune(
        &self,
        source: &mut dyn FeatureSource,
        keeper: &mut dyn Keeper,
        monitor: &mut Monitor,
    ) -> Result<Fitted> {
        let frozen = self.frozen()?;
        let (body, mut first) = frozen.backbone.trained(frozen.input_size, frozen.trained_blocks)?;
        let network = recipe::with_head(body, self.settings, self.task.n_classes as i64);
        first.extend(self.first_head(&frozen, source, monitor)?);

        let pixels = features::pixels(self.task, &frozen);
        let fit = match self.cached_variants(&frozen) {
            Some(variants) => {
                let values = self.features(&frozen, &variants, source, monitor)?;
                let feed = Feed::Features { shape: frozen.output() };
                let labels = self.task.pictures.labels();
                let train = FeatureSamples::new(values.clone(), frozen.output(), self.rows.train, labels);
                let plain = values.into_iter().take(1).collect();
                let validation = FeatureSamples::new(plain, frozen.output(), self.rows.validation, labels);
                self.run(&feed, &network, &first, (train, validation), keeper, monitor)?
            }
            None => {
                let feed = Feed::Pixels { pixels: pixels.clone(), frozen: Some(frozen.clone()) };
                self.run(&feed, &network, &first, self.pixel_samples(), keeper, monitor)?
            }
        };
        Ok(self.fitted(fit, pixels, Some(frozen), network))
    }

    /// Weights and offsets of a linear head on the untouched backbone.
    fn first_head(&self, frozen: &Frozen, source: &mut dyn FeatureSource, monitor: &mut Monitor) -> Result<Weights> {
        let whole = Frozen { trained_blocks: 0, ..frozen.clone() };
        let values = self.features(&whole, &[Variant::Plain, Variant::Mirrored], source, monitor)?;
        let side = self.task.pictures.width().max(self.task.pictures.height());
        let settings = Settings { seed: self.settings.seed, ..Settings::defaults(Family::Linear, side) };
        let (_, _, weights) = monitor.quietly(|monitor| self.fit_head(&settings, &whole, values, &mut (), monitor))?;
        Ok(weights)
    }

    /// The variants whose features fine-tuning samples; nothing if they would take too much memory.
    fn cached_variants(&self, frozen: &Frozen) -> Option<Vec<Variant>> {
        let values: i64 = frozen.output().iter().product();
        let bytes = 4 * values as usize * self.task.pictures.len().max(1);
        let room = u32::try_from(MOST_BYTES / bytes).unwrap_or(u32::MAX);
        let random = room.saturating_sub(2).min(FINE_TUNE_VARIANTS);
        (random >= LEAST_FINE_TUNE_VARIANTS)
            .then(|| Variant::of(self.settings.augmentation, self.settings.seed, random))
    }

    fn features(
        &self,
        frozen: &Frozen,
        variants: &[Variant],
        source: &mut dyn FeatureSource,
        monitor: &mut Monitor,
    ) -> Result<Vec<Values>> {
        monitor.timed("features", |monitor| {
            variants.iter().map(|&variant| source.features(self.task, frozen, variant, monitor)).collect()
        })
    }

    fn pixel_samples(&self) -> (PixelSamples<'_>, PixelSamples<'_>) {
        let of = |rows| PixelSamples::new(self.task.pictures, rows, self.settings.augmentation);
        (of(self.rows.train), of(self.rows.validation))
    }

    fn run<S: Samples>(
        &self,
        feed: &Feed,
        network: &Network,
        first: &Weights,
        (train, validation): (S, S),
        keeper: &mut dyn Keeper,
        monitor: &mut Monitor,
    ) -> Result<Fit> {
        let settings = self.settings;
        let lesson = Lesson { feed, network, first, train: &train, validation: &validation, settings };
        monitor.timed("fit", |monitor| train::fit(self.task.engine, lesson, keeper, monitor))
    }

    fn fitted(&self, fit: Fit, pixels: PixelInput, frozen: Option<Frozen>, network: Network) -> Fitted {
        let whole = |frozen: &Frozen| {
            let trained = if frozen.trained_blocks > 0 { network.n_weights() } else { 0 };
            frozen.n_weights() + trained
        };
        let n_weights = match &frozen {
            Some(frozen) if frozen.trained_blocks == 0 => whole(frozen) + network.n_weights(),
            Some(frozen) => whole(frozen),
            None => network.n_weights(),
        };
        let weights = fit.weights.clone();
        let settings = self.settings.clone();
        Fitted { fit, n_weights, settings, pixels, frozen, network, weights, subspace: None, usual: None }
    }
}

impl Fitted {
    /// What the fitted network says of the task's pictures in these rows.
    pub fn answers(
        &self,
        task: &Task,
        rows: &[usize],
        source: &mut dyn FeatureSource,
        monitor: &mut Monitor,
    ) -> Result<Answers> {
        let [.., weight, bias] = self.weights.as_slice() else { panic!("the last layer has weights and offsets") };
        let units = bias.len();
        let weight = ArrayView2::from_shape((weight.len() / units, units), weight).expect("the last layer is dense");
        let bias = ArrayView1::from(bias);
        let features = self.features(task, rows, source, monitor)?;
        let strangeness = match &self.subspace {
            Some(subspace) => subspace.strangeness(features.view()),
            None => vec![0.0; rows.len()],
        };
        Ok(Answers { logits: (features.dot(&weight) + bias).into_iter().collect(), strangeness })
    }

    /// What comes into the last layer.
    ///
    /// # Shapes
    /// result: `[rows, features]`
    fn features(
        &self,
        task: &Task,
        rows: &[usize],
        source: &mut dyn FeatureSource,
        monitor: &mut Monitor,
    ) -> Result<Array2<f32>> {
        let fitting = Fitting { task, settings: &self.settings, rows: Rows { train: rows, validation: &[] } };
        let is_cached = |frozen: &Frozen| frozen.trained_blocks == 0 || fitting.cached_variants(frozen).is_some();
        match &self.frozen {
            Some(frozen) if is_cached(frozen) => {
                let mirrored = self.settings.mirrored.then_some(Variant::Mirrored);
                let variants: Vec<Variant> = [Variant::Plain].into_iter().chain(mirrored).collect();
                let values = fitting.features(frozen, &variants, source, monitor)?;
                let samples = FeatureSamples::new(values, frozen.output(), rows, task.pictures.labels());
                self.evaluate(task, &Feed::Features { shape: frozen.output() }, &samples, monitor)
            }
            frozen => {
                let feed = Feed::Pixels { pixels: self.pixels.clone(), frozen: frozen.clone() };
                let (samples, _) = fitting.pixel_samples();
                self.evaluate(task, &feed, &samples, monitor)
            }
        }
    }

    fn evaluate(&self, task: &Task, feed: &Feed, samples: &dyn Samples, monitor: &Monitor) -> Result<Array2<f32>> {
        let (front, _) = self.network.clone().split_last();
        let mut evaluator = Evaluator::new(task.engine, feed, &front, samples.len())?;
        let mut looks = |mirrored| evaluator.output(&front, &self.weights, samples, mirrored, || monitor.go_on());
        let mut features = looks(false)?;
        if self.settings.mirrored {
            for (feature, other) in features.iter_mut().zip(looks(true)?) {
                *feature = (*feature + other) / 2.0;
            }
        }
        let width = front.output().iter().product::<i64>() as usize;
        Ok(Array2::from_shape_vec((samples.len(), width), features).expect("each picture has as many features"))
    }

    /// Makes the published network less sure of pictures that are stranger than this; see [`familiarity::usual`].
    pub fn set_usual(&mut self, usual: Option<f32>) {
        self.usual = usual;
    }

    /// The bytes of one self-contained ONNX file, whose logits are divided by the temperature.
    pub fn exported(&self, temperature: f64, metadata: &[(&str, String)]) -> Vec<u8> {
        let exported = Exported {
            pixels: &self.pixels,
            frozen: self.frozen.as_ref(),
            network: &self.network,
            weights: &self.weights,
            mirrored: self.settings.mirrored,
            familiar: self.subspace.clone().zip(self.usual).map(|(subspace, usual)| Familiar { subspace, usual }),
            temperature,
        };
        exported.to_onnx(metadata)
    }

    /// From the dataset's pixels to the network's input.
    pub fn pixels(&self) -> &PixelInput {
        &self.pixels
    }

    /// The pretrained network that it begins with, if any.
    pub fn backbone(&self) -> Option<&Identity> {
        self.frozen.as_ref().map(|frozen| frozen.backbone.identity())
    }
}
