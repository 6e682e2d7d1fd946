//! Pictures per second of fine-tuning's step; `benches/training.py` runs this beside PyTorch on the same network.
//!
//! `ORT_DYLIB_PATH=… FOVEA_BACKBONES=… cargo run --release -p trainer --example training_speed`

use std::{path::Path, sync::Arc, time::Instant};

use api::train::{Augmentation, Family, Settings};
use trainer::{
    Result,
    backbone::{BACKBONES_VARIABLE, Backbones},
    data::{FeatureSamples, Values},
    engine::Engine,
    model::Feed,
    optimiser::Optimiser,
    random::{Purpose, generator},
    recipe,
    sampling::Epoch,
};

const N_CLASSES: i64 = 4;
const STEPS: usize = 12;

fn main() -> Result<()> {
    let engine = Engine::load()?;
    let folder = std::env::var_os(BACKBONES_VARIABLE).unwrap_or_default();
    let settings = Settings { augmentation: Augmentation::None, ..Settings::defaults(Family::FineTune, 32) };
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
    let labels: Vec<u32> = (0..n as u32).map(|row| row % N_CLASSES as u32).collect();
    let rows: Vec<usize> = (0..n).collect();
    let samples = FeatureSamples::new(vec![values], shape.clone(), &rows, &labels);
    let mut optimiser = Optimiser::new(&engine, &Feed::Features { shape }, &network, &weights, &settings, n)?;

    let mut seconds = vec![];
    for prepared in Epoch::new(1, &settings, &network, &samples, optimiser.batch_size()).batches() {
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
