//! The file that is published, and the proof that every engine reads it alike.

use api::{
    PreprocessSpec,
    model::{LOGIT_TOLERANCE, OUTPUT, logit_difference},
};

use crate::{
    Result, TrainerError,
    backbone::Frozen,
    change::Change,
    data::{Pictures, Standard},
    engine::{Engine, Inputs, Session},
    familiarity::Familiar,
    graph::Builder,
    model::{Feed, Network, Weights},
    onnx::{BATCH, Element, int, ints},
    optimiser::batch_size_for,
    pixels::PixelInput,
};

/// Pictures on which engines are compared.
pub const CHECKED_PICTURES: usize = 16;

/// Everything that goes into the file.
#[derive(Debug)]
pub struct Exported<'a> {
    /// From the dataset's pixels to the network's input.
    pub pixels: &'a PixelInput,
    /// The frozen network in between, if any.
    pub frozen: Option<&'a Frozen>,
    /// What was trained.
    pub network: &'a Network,
    /// Its weights, for input that nothing standardises.
    pub weights: &'a Weights,
    /// Whether features are means over the picture and its mirror image.
    pub mirrored: bool,
    /// Makes the logits of strange pictures smaller.
    pub familiar: Option<Familiar>,
    /// Divides the logits.
    pub temperature: f64,
}

impl Exported<'_> {
    /// The bytes of one self-contained ONNX file: u8 `images` `[N, height, width, 3]` → f32 `logits` `[N, n_classes]`.
    ///
    /// The same arguments give the same bytes.
    pub fn to_onnx(&self, metadata: &[(&str, String)]) -> Vec<u8> {
        let mut graph = Builder::new();
        let mut x = self.pixels.append(&mut graph, BATCH);
        if self.mirrored {
            let mirror = graph.mirror(&x);
            x = graph.op("Concat", &[&x, &mirror], vec![int("axis", 0)]);
        }
        if let Some(frozen) = self.frozen {
            x = frozen.append(&mut graph, &x);
        }
        self.network.embed_parameters(&mut graph, &cooled(self.weights, self.temperature));
        let (front, last) = self.network.clone().split_last();
        let mut features = front.infer(&mut graph, &x);
        if self.mirrored {
            let pairs = graph.reshape(&features, &[&[2, BATCH], last.input()].concat());
            features = graph.op("ReduceMean", &[&pairs], vec![ints("axes", &[0]), int("keepdims", 0)]);
        }
        let mut logits = last.infer(&mut graph, &features);
        if let Some(familiar) = &self.familiar {
            let factor = familiar.append(&mut graph, &features);
            logits = graph.mul(&logits, &factor);
        }
        graph.output(OUTPUT, &logits, Element::F32, &[BATCH, last.n_classes()]);
        graph.finish("classifier", metadata)
    }
}

/// The same weights but for those of the last layer, which is dense, divided by the temperature.
fn cooled(weights: &Weights, temperature: f64) -> Weights {
    let mut weights = weights.clone();
    let last = weights.len().saturating_sub(2);
    for value in weights[last..].iter_mut().flatten() {
        *value = (f64::from(*value) / temperature) as f32;
    }
    weights
}

/// Moves the standardisation of a network's input into its first dense layer: the network then takes raw input.
///
/// # Panics
/// If the network does not begin with a dense layer (dropout aside).
pub fn fold_standard(network: &Network, weights: &mut Weights, standard: &Standard) {
    let [weight, bias, ..] = weights.as_mut_slice() else { panic!("a dense layer has weights and offsets") };
    let units = bias.len();
    assert_eq!(network.parameters()[0].dims, [standard.mean.len() as i64, units as i64]);
    let mut offset = vec![0f64; units];
    for ((row, mean), deviation) in weight.chunks_exact_mut(units).zip(&standard.mean).zip(&standard.deviation) {
        for (w, sum) in row.iter_mut().zip(&mut offset) {
            let scaled = f64::from(*w) / deviation;
            *sum += scaled * mean;
            *w = scaled as f32;
        }
    }
    for (b, sum) in bias.iter_mut().zip(&offset) {
        *b = (f64::from(*b) - sum) as f32;
    }
}

/// The exported file in ONNX Runtime.
#[derive(Debug)]
pub struct Runner {
    session: Session,
    batch_size: usize,
}

impl Runner {
    /// Loads the file.
    pub fn new(engine: &Engine, onnx: &[u8], pixels: &PixelInput) -> Result<Self> {
        let session = engine.session("exported", onnx)?;
        Ok(Self { session, batch_size: batch_size_for(&Feed::Pixels { pixels: pixels.clone(), frozen: None }) })
    }

    /// Logits of the pictures in these rows; `tell` hears after each batch how many are done.
    ///
    /// # Shapes
    /// result: `[rows, n_classes]`
    pub fn logits(
        &mut self,
        pictures: &Pictures,
        rows: &[usize],
        mut tell: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<f32>> {
        let mut logits = vec![];
        let mut done = 0;
        for rows in rows.chunks(self.batch_size) {
            let batch = pictures.changed(rows, |_| Change::default());
            let mut inputs = Inputs::new();
            batch.feed(&mut inputs)?;
            logits.extend_from_slice(self.session.run(inputs)?.values(OUTPUT)?);
            done += rows.len();
            tell(done)?;
        }
        Ok(logits)
    }
}

/// Logits of the exported file in native tract; `tell` hears after each picture how many are done.
///
/// # Shapes
/// result: `[rows, n_classes]`
pub fn tract_logits(
    onnx: &[u8],
    spec: &PreprocessSpec,
    n_classes: usize,
    pictures: &Pictures,
    rows: &[usize],
    mut tell: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<f32>> {
    let network = predictor::Network::from_onnx(onnx, spec, n_classes)?;
    let mut logits = vec![];
    for (index, &row) in rows.iter().enumerate() {
        logits.extend(network.logits(pictures.picture(row))?);
        tell(index + 1)?;
    }
    Ok(logits)
}

/// Compares two engines' logits; returns how far they are apart.
///
/// # Errors
/// `Disagreement` beyond [`LOGIT_TOLERANCE`]
pub fn agree(pair: &'static str, a: &[f32], b: &[f32], n_classes: usize) -> Result<f32> {
    let difference = logit_difference(a, b, n_classes);
    if difference <= LOGIT_TOLERANCE {
        return Ok(difference);
    }
    Err(TrainerError::Disagreement { pair, difference, pictures: a.len() / n_classes, tolerance: LOGIT_TOLERANCE })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::{Array2, s};
    use rand::RngExt;

    use super::*;
    use crate::{
        data::{FeatureSamples, PixelSamples},
        familiarity::{self, Subspace},
        model::Layer,
        optimiser::Evaluator,
        random::{Purpose, generator},
        testing::library,
    };

    #[test]
    fn a_folded_head_on_raw_features_answers_as_the_head_on_standardised_ones() {
        let engine = Engine::load_from(library()).expect("ONNX Runtime");
        let network = Network::new("", &[3], &[Layer::Dense { units: 2 }]);
        let values = vec![4.0, -1.0, 0.5, 6.0, -3.0, 0.9, 5.0, 1.0, 0.4];
        let raw = FeatureSamples::new(vec![Arc::new(values)], vec![3], &[0, 1, 2], &[0, 1, 1]);
        let mut weights = vec![vec![0.3, -0.2, 0.5, 0.7, 1.5, -0.1], vec![0.25, -0.5]];
        let standard = Arc::new(raw.statistics());
        let mut evaluator = Evaluator::new(&engine, &Feed::Features { shape: vec![3] }, &network, 2).expect("a graph");
        let features = raw.clone().standardised(standard.clone());
        let expected = evaluator.output(&network, &weights, &features, false, || Ok(())).expect("logits");
        fold_standard(&network, &mut weights, &standard);
        let folded = evaluator.output(&network, &weights, &raw, false, || Ok(())).expect("logits");
        assert!(agree("folded and not", &expected, &folded, 2).expect("they agree") < 1e-5);
    }

    #[test]
    fn temperature_mirror_image_and_familiarity_become_part_of_the_graph() {
        let engine = Engine::load_from(library()).expect("ONNX Runtime");
        let n = 12;
        let images: Vec<u8> = (0..n * 4 * 6 * 3).map(|i| (i * i * 37 % 251) as u8).collect();
        let labels: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
        let pictures = Pictures::new(4, 6).with(&images, &labels);
        let pixels = PixelInput { height: 4, width: 6, size: 8, mean: [100.0; 3], deviation: [50.0; 3] };
        let layers = [Layer::Conv { filters: 5, kernel: 3, stride: 1 }, Layer::Flatten, Layer::Dense { units: 3 }];
        let network = Network::new("", &[3, 8, 8], &layers);
        let random = &mut generator(1, Purpose::Weights, 0);
        let mut weights = network.first_weights(random);
        weights[2].iter_mut().for_each(|w| *w = random.random_range(-0.1..0.1));
        weights[3].iter_mut().for_each(|w| *w = random.random_range(-0.1..0.1));
        let rows: Vec<usize> = (0..n).collect();
        let samples = PixelSamples::new(&pictures, &rows, api::train::Augmentation::None);
        let feed = Feed::Pixels { pixels: pixels.clone(), frozen: None };
        let looks = |network: &Network, mirrored| {
            let mut evaluator = Evaluator::new(&engine, &feed, network, n).expect("a graph");
            evaluator.output(network, &weights, &samples, mirrored, || Ok(())).expect("an output")
        };
        let mean_look = |network: &Network| -> Vec<f32> {
            looks(network, false).iter().zip(looks(network, true)).map(|(a, b)| (a + b) / 2.0).collect()
        };
        let (plain, mean) = (looks(&network, false), mean_look(&network));
        assert!(agree("a picture and both looks at it", &plain, &mean, 3).is_err());
        let (front, _) = network.clone().split_last();
        let features = Array2::from_shape_vec((n, 320), mean_look(&front)).expect("320 features");
        let subspace = Subspace::of(features.slice(s![..8, ..])).expect("a subspace");
        let strangeness = subspace.strangeness(features.view());
        let familiar = Familiar { subspace, usual: strangeness[8] };
        let factors: Vec<f32> =
            strangeness.iter().map(|&strange| familiarity::factor(strange, familiar.usual)).collect();
        assert!(factors.contains(&1.0) && factors.iter().any(|&factor| factor < 0.99), "{factors:?}");
        let rows_of = mean.chunks(3).zip(&factors);
        let dimmed: Vec<f32> = rows_of.flat_map(|(row, factor)| row.iter().map(move |x| x * factor)).collect();
        let cool: Vec<f32> = mean.iter().map(|logit| logit / 4.0).collect();

        let spec = PreprocessSpec { width: 6, height: 4, ..PreprocessSpec::square(4) };
        for (mirrored, temperature, familiar, expected) in [
            (false, 1.0, None, plain),
            (true, 1.0, None, mean),
            (true, 4.0, None, cool),
            (true, 1.0, Some(familiar), dimmed),
        ] {
            let (pixels, network, weights) = (&pixels, &network, &weights);
            let exported = Exported { pixels, frozen: None, network, weights, mirrored, familiar, temperature };
            let onnx = exported.to_onnx(&[]);
            let mut runner = Runner::new(&engine, &onnx, pixels).expect("a graph");
            let got = runner.logits(&pictures, &rows, |_| Ok(())).expect("logits");
            agree("ONNX Runtime and the training-time forward", &got, &expected, 3).expect("they agree");
            let native = tract_logits(&onnx, &spec, 3, &pictures, &rows, |_| Ok(())).expect("logits");
            agree("ONNX Runtime and tract", &got, &native, 3).expect("they agree");
        }
    }

    #[test]
    fn engines_that_disagree_are_named_with_the_tolerance() {
        let error = agree("one and another", &[1.0, 2.0], &[1.0, 2.01], 2).expect_err("too far apart");
        assert_eq!(
            error.to_string(),
            "the exported model is not published: on 1 pictures, one and another differ by 0.004975 of a logit; at most \
             0.001 is allowed"
        );
        assert!(agree("one and another", &[1.0], &[f32::NAN], 1).is_err());
    }
}
