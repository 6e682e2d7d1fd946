//! From a model version's folder to ranked labels: `manifest.json` + `model.onnx` → tract → logits → labels.
//!
//! Pictures arrive as upright RGB pixels of the manifest's size; decoding them is `imaging`'s job. Nothing here
//! knows of HTTP, of registries or of which version is current. The crate builds natively and for WebAssembly.

pub mod backbone;
mod error;
mod network;
mod rank;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::{
    io,
    path::{Path, PathBuf},
};

use api::{
    PreprocessSpec,
    model::{MODEL_FILE, ModelManifest, SCHEMA},
    predict::Ranked,
};
use sha2::{Digest, Sha256};

pub use error::PredictorError;
pub use network::Network;
pub use rank::rank;

/// File name of the manifest inside a version's folder.
const MANIFEST_FILE: &str = "manifest.json";

/// A loaded model version: its network, ready to run, and its manifest.
#[derive(Debug)]
pub struct Predictor {
    manifest: ModelManifest,
    network: Network,
}

impl Predictor {
    /// Reads a version's folder, compares `model.onnx` with its digest in the manifest, and prepares the network.
    ///
    /// The digest is always compared, although in WebAssembly that takes about 4 ms per MB, a quarter of loading: a
    /// model is loaded once for many requests, and a changed weight would otherwise go unnoticed for ever.
    ///
    /// # Errors
    /// `NoModel` if the folder or its manifest does not exist, which is no fault before anything is published;
    /// anything else means that the version is broken.
    pub fn load(dir: &Path) -> Result<Self, PredictorError> {
        Self::load_with(dir, |path| std::fs::read(path))
    }

    /// As [`Predictor::load`], with files read by the caller's function.
    ///
    /// # Errors
    /// As [`Predictor::load`]; `read` says with [`io::ErrorKind::NotFound`] that a file does not exist
    pub fn load_with(dir: &Path, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Self, PredictorError> {
        let manifest = read_manifest(dir, &read)?;
        let onnx = read_network(dir, &manifest, &read)?;
        let network = Network::from_vec(onnx, &manifest.preprocess, manifest.labels.len())?;
        Ok(Self { manifest, network })
    }

    /// What the version is: name, number, labels, preprocessing spec.
    pub fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    /// Runs the network on one picture or on several, one after the other.
    ///
    /// # Shapes
    /// - `pixels`: `[n, height, width, 3]`, u8, upright RGB, of the manifest's size
    /// - result: `[n, n_classes]`, row after row
    ///
    /// # Errors
    /// `Pixels` if the length is no multiple of one picture's
    pub fn logits(&self, pixels: &[u8]) -> Result<Vec<f32>, PredictorError> {
        self.network.logits(pixels)
    }

    /// Runs the network once on a black picture, so that whatever happens only the first time has happened.
    ///
    /// # Errors
    /// As [`Predictor::logits`]
    pub fn warm_up(&self) -> Result<(), PredictorError> {
        let PreprocessSpec { height, width, .. } = self.manifest.preprocess;
        self.logits(&vec![0; height as usize * width as usize * 3]).map(drop)
    }

    /// Says what one picture shows.
    ///
    /// # Shapes
    /// - `pixels`: `[height, width, 3]`, u8, upright RGB, of the manifest's size
    /// - result: `min(top_k, n_classes)` labels
    ///
    /// # Errors
    /// `Pixels` if the length is not one picture's, `NotFinite` if the network overflows on it
    pub fn predict(&self, pixels: &[u8], top_k: usize) -> Result<Answer, PredictorError> {
        let logits = self.logits(pixels)?;
        let ranked = rank(&logits, &self.manifest.labels, top_k)?;
        Ok(Answer { ranked, unsure: self.manifest.doubt.map(|doubt| doubt.marks(&logits)) })
    }
}

/// What a model says about one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Highest probability first.
    pub ranked: Vec<Ranked>,
    /// Whether the picture may belong to none of the classes; nothing where the model's manifest does not say when.
    pub unsure: Option<bool>,
}

type Read<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

fn read_manifest(dir: &Path, read: Read<'_>) -> Result<ModelManifest, PredictorError> {
    let path = dir.join(MANIFEST_FILE);
    let bytes = match read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(PredictorError::NoModel { dir: dir.to_owned() }),
        Err(source) => return Err(PredictorError::Read { path, source }),
    };
    parse_manifest(&bytes, path)
}

fn parse_manifest(bytes: &[u8], path: PathBuf) -> Result<ModelManifest, PredictorError> {
    // The layout's version decides whether the other fields can be understood, so it is read first.
    let value: serde_json::Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(source) => return Err(PredictorError::Manifest { path, source }),
    };
    if let Some(found) = value.get("schema").and_then(serde_json::Value::as_u64)
        && found != u64::from(SCHEMA)
    {
        return Err(PredictorError::Schema { path, found });
    }
    let manifest: ModelManifest = match serde_json::from_value(value) {
        Ok(manifest) => manifest,
        Err(source) => return Err(PredictorError::Manifest { path, source }),
    };
    manifest.preprocess.validate().map_err(|reason| PredictorError::Spec { path, reason })?;
    Ok(manifest)
}

fn read_network(dir: &Path, manifest: &ModelManifest, read: Read<'_>) -> Result<Vec<u8>, PredictorError> {
    let path = dir.join(MODEL_FILE);
    let Some(expected) = manifest.files.get(MODEL_FILE) else {
        return Err(PredictorError::NoDigest { path: dir.join(MANIFEST_FILE) });
    };
    let onnx = match read(&path) {
        Ok(onnx) => onnx,
        Err(source) => return Err(PredictorError::Read { path, source }),
    };
    if onnx.len() as u64 != expected.bytes {
        return Err(PredictorError::Length { path, found: onnx.len() as u64, expected: expected.bytes });
    }
    let found = hex(&Sha256::digest(&onnx));
    if found != expected.sha256 {
        return Err(PredictorError::Digest { path, found, expected: expected.sha256.clone() });
    }
    Ok(onnx)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::fs;

    use super::*;
    use crate::testing::{COLOURS, solid, write_colours};

    fn published() -> (tempfile::TempDir, PreprocessSpec) {
        let dir = tempfile::tempdir().unwrap();
        let spec = PreprocessSpec::square(8);
        write_colours(dir.path(), 3, &spec).unwrap();
        (dir, spec)
    }

    /// Rewrites the manifest's JSON.
    fn edit(dir: &Path, change: impl FnOnce(&mut serde_json::Value)) {
        let path = dir.join(MANIFEST_FILE);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
    }

    #[track_caller]
    fn refused(dir: &Path, sentence: &str) {
        let error = Predictor::load(dir).expect_err("the folder is broken");
        let text = error.to_string();
        assert!(text.contains(sentence), "{text:?} does not say {sentence:?}");
        if let Some(cause) = std::error::Error::source(&error) {
            assert!(!text.contains(&cause.to_string()), "{text:?} repeats its cause");
        }
    }

    #[test]
    fn a_published_version_answers_with_its_labels() {
        let (dir, spec) = published();
        let predictor = Predictor::load(dir.path()).unwrap();
        assert_eq!(predictor.manifest().version, 3);
        for (label, colour) in COLOURS {
            let answer = predictor.predict(&solid(&spec, colour), 2).unwrap();
            assert_eq!(answer.ranked.len(), 2);
            assert_eq!(answer.ranked[0].label, label);
            assert_eq!(answer.unsure, None, "the manifest does not say when");
        }
    }

    #[test]
    fn a_picture_that_looks_like_no_class_is_marked_as_the_manifest_says() {
        let (dir, spec) = published();
        // Gray gives three logits alike; a pure colour one of 4 beside two of 0, whose exponentials sum to 56.6.
        for (score, unsure_below) in [("confidence", 0.9), ("energy", 4.0)] {
            let doubt = serde_json::json!({"score": score, "unsure_below": unsure_below, "false_alarms": 0.05});
            edit(dir.path(), |manifest| manifest["doubt"] = doubt);
            let predictor = Predictor::load(dir.path()).unwrap();
            let unsure = |colour| predictor.predict(&solid(&spec, colour), 1).unwrap().unsure;
            assert_eq!((unsure([128; 3]), unsure([255, 0, 0])), (Some(true), Some(false)), "{score}");
        }
    }

    #[test]
    fn an_empty_or_missing_folder_is_no_model_and_not_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        for dir in [dir.path().to_owned(), dir.path().join("nowhere")] {
            assert!(matches!(Predictor::load(&dir), Err(PredictorError::NoModel { dir: named }) if named == dir));
        }
    }

    #[test]
    fn a_cut_off_network_is_refused() {
        let (dir, _) = published();
        let path = dir.path().join(MODEL_FILE);
        let onnx = fs::read(&path).unwrap();
        fs::write(&path, &onnx[..onnx.len() - 1]).unwrap();
        refused(dir.path(), "bytes; the manifest says");
    }

    #[test]
    fn a_network_with_one_changed_bit_is_refused() {
        let (dir, _) = published();
        let path = dir.path().join(MODEL_FILE);
        let mut onnx = fs::read(&path).unwrap();
        let last = onnx.len() - 1;
        onnx[last] ^= 1;
        fs::write(&path, onnx).unwrap();
        refused(dir.path(), "the manifest says");
    }

    #[test]
    fn a_manifest_without_its_network_names_the_missing_file() {
        let (dir, _) = published();
        fs::remove_file(dir.path().join(MODEL_FILE)).unwrap();
        refused(dir.path(), "model.onnx");
    }

    #[test]
    fn labels_that_do_not_match_the_networks_classes_are_refused() {
        let (dir, _) = published();
        edit(dir.path(), |manifest| manifest["labels"] = serde_json::json!(["red", "green"]));
        refused(dir.path(), "output is f32 [1, 3]; the manifest expects f32 [1, 2]");
    }

    #[test]
    fn a_spec_that_does_not_match_the_networks_input_is_refused() {
        let (dir, _) = published();
        edit(dir.path(), |manifest| manifest["preprocess"]["width"] = 9.into());
        refused(dir.path(), "input is images: u8 [N, 8, 8, 3]; the manifest expects images: u8 [N, 8, 9, 3]");
    }

    #[test]
    fn a_layout_of_the_future_is_refused_by_its_version() {
        let (dir, _) = published();
        edit(dir.path(), |manifest| *manifest = serde_json::json!({"schema": 2, "unheard": "of"}));
        refused(dir.path(), "has schema 2; this build reads 1");
    }

    #[test]
    fn preprocessing_this_build_cannot_do_is_refused() {
        let (dir, _) = published();
        edit(dir.path(), |manifest| manifest["preprocess"]["version"] = 99.into());
        refused(dir.path(), "version 99");
    }

    #[test]
    fn a_broken_manifest_is_a_fault_and_not_a_missing_model() {
        let (dir, _) = published();
        fs::write(dir.path().join(MANIFEST_FILE), "{").unwrap();
        refused(dir.path(), "is no model manifest");
        edit_back_without_digest(dir.path());
        refused(dir.path(), "lists no model.onnx");
    }

    fn edit_back_without_digest(dir: &Path) {
        write_colours(dir, 3, &PreprocessSpec::square(8)).unwrap();
        edit(dir, |manifest| manifest["files"] = serde_json::json!({}));
    }
}
