//! What the trainer's tests share: where the engine and the backbone lie, and datasets made by code.

mod installed;

use std::{path::Path, process::Command};

use api::{
    Format, PreprocessSpec,
    dataset::{PictureRecord, Provenance, Split, SplitPolicy},
    preprocess::Facts,
    train::Hyperparameters,
};
use rand::RngExt;
use rand_pcg::Pcg64;
use store::{Dataset, DatasetInfo, Run, Volumes};

pub use installed::{backbones, library};

/// Volumes in a folder of their own, with one dataset of stripes.
pub struct Place {
    _root: tempfile::TempDir,
    pub volumes: Volumes,
    pub dataset: Dataset,
}

impl Place {
    pub fn with(spec: PreprocessSpec, per_class: [usize; 3]) -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let volumes = Volumes::under(root.path());
        volumes.create().expect("the folders");
        let dataset = stripes(&volumes, spec, per_class);
        Self { _root: root, volumes, dataset }
    }

    pub fn run(&self, hyperparameters: Hyperparameters) -> Run {
        self.volumes.create_run(&self.dataset.manifest.id, "stripes", hyperparameters).expect("a run")
    }

    /// The trainer, on the run that this file describes.
    pub fn trainer_of(&self, spec: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fovea-trainer"));
        command.arg("--spec").arg(spec);
        command.arg("--datasets").arg(self.volumes.volume1()).arg("--models").arg(self.volumes.volume2());
        command.env("ORT_DYLIB_PATH", library()).env_remove("FOVEA_BACKBONES");
        command
    }
}

/// Publishes a dataset of striped pictures: class 0 lying, class 1 standing, in random colours and with noise.
///
/// `per_class`: pictures of each class in train, validation and test
pub fn stripes(volumes: &Volumes, spec: PreprocessSpec, per_class: [usize; 3]) -> Dataset {
    let mut random = Pcg64::new(7, 7);
    let mut draft = volumes.draft_dataset(spec.clone()).expect("a draft");
    let mut rows = vec![];
    for (split, n) in Split::ALL.into_iter().zip(per_class) {
        for label in 0..2 {
            for number in 0..n {
                let pixels = striped(&spec, label == 1, &mut random);
                let name = format!("{}/{label}/{number}.png", split.name());
                let facts = Facts {
                    width: spec.width,
                    height: spec.height,
                    format: Format::Png,
                    content_hash: name.clone(),
                    perceptual_hash: "0".repeat(16),
                };
                let row = draft.push(&pixels).expect("room for a picture");
                rows.push((row, PictureRecord { name, label, split, facts }));
            }
        }
    }
    let info = DatasetInfo {
        name: "stripes".into(),
        labels: vec!["lying".into(), "standing".into()],
        split: SplitPolicy { given: Split::ALL.to_vec(), validation_ratio: 0.0, test_ratio: 0.0 },
        provenance: Provenance {
            source: "code".into(),
            files: rows.len() as u64,
            made_by: "a test".into(),
            derived_from: None,
        },
        rejected: vec![],
        near_duplicates: vec![],
    };
    draft.publish(info, rows).expect("a dataset").dataset
}

fn striped(spec: &PreprocessSpec, standing: bool, random: &mut Pcg64) -> Vec<u8> {
    let colours: [[u8; 3]; 2] = [random.random(), random.random()];
    let phase = random.random_range(0..4);
    let mut pixels = vec![];
    for y in 0..spec.height {
        for x in 0..spec.width {
            let along = if standing { x } else { y };
            let colour = colours[usize::from((along + phase) % 4 < 2)];
            pixels.extend(colour.map(|c| c.saturating_add(random.random_range(0..24))));
        }
    }
    pixels
}
