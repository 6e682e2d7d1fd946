//! Pictures per second of a training step; `benches/training.py` runs this beside PyTorch on the same networks.
//!
//! `ORT_DYLIB_PATH=… FOVEA_BACKBONES=… cargo run --release -p trainer --example training_speed -- fine_tune` (or `cnn`, `separable_cnn`)

use std::{path::Path, sync::Arc, time::Instant};

use api::train::{Augmentation, Family, Settings};
use trainer::{
    Result,
    backbone::{BACKBONES_VARIABLE, Backbones},
    data::{FeatureSamples, Pictures, PixelSamples, Samples, Values},
    engine::Engine,
    model::{Feed, Network, Weights},
    optimiser::Optimiser,
    pixels::PixelInput,
    random::{Purpose, generator},
    recipe,
    sampling::Epoch,
};

const N_CLASSES: i64 = 4;
const STEPS: usize = 24;
/// Side in pixels of the pictures for networks from scratch.
const SIDE: u32 = 28;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("cnn") => from_scratch(Family::Cnn),
        Some("separable_cnn") => from_scratch(Family::SeparableCnn),
        _ => fine_tune(),
    }
}

fn settings(family: Family) -> Settings {
    Settings { augmentation: Augmentation::None, clip_norm: 1.0, ..Settings::defaults(family, SIDE) }
}

fn labels(n: usize) -> Vec<u32> {
    (0..n as u32).map(|row| row % N_CLASSES as u32).collect()
}

fn fine_tune() -> Result<()> {
    let folder = std::env::var_os(BACKBONES_VARIABLE).unwrap_or_default();
    let settings = settings(Family::FineTune);
    let name = settings.backbone.as_deref().unwrap_or_default();
    let backbone = Backbones::find(Some(Path::new(&folder)), None).open(name)?;
    let (body, mut weights) = backbone.trained(settings.input_size, settings.trained_blocks)?;
    let shape = body.input().to_vec();
    let network = recipe::with_head(body, &settings, N_CLASSES);
    let head = network.first_weights(&mut generator(1, Purpose::Weights, 0));
    weights.extend_from_slice(&head[weights.len()..]);

    let n = settings.batch_size as usize * STEPS;
    let size = shape.iter().product::<i64>() as usize;
    // Values as they come out of a ReLU6 network, and different in every place.
    let values: Vec<f32> = (0..n * size).map(|i| (i * 7919 % 2003) as f32 / 1000.0 - 1.0).collect();
    let values: Values = Arc::new(values);
    let rows: Vec<usize> = (0..n).collect();
    let samples = FeatureSamples::new(vec![values], shape.clone(), &rows, &labels(n));
    time(&settings, &Feed::Features { shape }, &network, &weights, &samples)
}

fn from_scratch(family: Family) -> Result<()> {
    let settings = Settings { batch_size: 64, input_size: SIDE, ..settings(family) };
    let pixels = PixelInput { height: SIDE, width: SIDE, size: SIDE, mean: [127.5; 3], deviation: [64.0; 3] };
    let feed = Feed::Pixels { pixels, frozen: None };
    let network = recipe::network(&settings, &feed.shape(), N_CLASSES);
    let weights = network.first_weights(&mut generator(1, Purpose::Weights, 0));

    let n = settings.batch_size as usize * STEPS;
    let images: Vec<u8> = (0..n * (SIDE * SIDE * 3) as usize).map(|i| (i * 7919 % 251) as u8).collect();
    let labels = labels(n);
    let pictures = Pictures::new(SIDE, SIDE).with(&images, &labels);
    let rows: Vec<usize> = (0..n).collect();
    let samples = PixelSamples::new(&pictures, &rows, settings.augmentation);
    time(&settings, &feed, &network, &weights, &samples)
}

fn time(settings: &Settings, feed: &Feed, network: &Network, weights: &Weights, samples: &dyn Samples) -> Result<()> {
    let engine = Engine::load()?;
    let mut optimiser = Optimiser::new(&engine, feed, network, weights, settings, samples.len())?;
    let mut seconds = vec![];
    for prepared in Epoch::new(1, settings, network, samples, optimiser.batch_size()).batches() {
        let started = Instant::now();
        optimiser.step(&prepared, settings.learning_rate, settings.weight_decay)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    // The first step also makes room.
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    let batch = f64::from(settings.batch_size);
    println!("best {:.1} median {:.1}", batch / seconds[0], batch / seconds[seconds.len() / 2]);
    Ok(())
}
