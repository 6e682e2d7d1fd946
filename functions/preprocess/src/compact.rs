//! The compact answer: pixels as one tensor, everything else as JSON beside it.

use std::collections::HashMap;

use api::preprocess::{BatchAnswer, Outcome};
use safetensors::{Dtype, SafeTensorError, serialize, tensor::TensorView};

/// Encodes as [`api::preprocess::SAFETENSORS`] describes.
///
/// # Shapes
/// `pixels`: `[n_processed, height, width, 3]`, u8, for the entries that did not fail, in order
pub(crate) fn encode(answer: &BatchAnswer, pixels: &[u8]) -> Result<Vec<u8>, SafeTensorError> {
    let processed = answer.images.iter().filter(|entry| matches!(entry.outcome, Outcome::Processed(_))).count();
    let shape = vec![processed, answer.spec.height as usize, answer.spec.width as usize, 3];
    let images = TensorView::new(Dtype::U8, shape, pixels)?;
    let json = serde_json::to_string(answer).expect("wire types are plain data");
    serialize([("images", &images)], Some(HashMap::from([("answer".to_owned(), json)])))
}
