//! `pixels.safetensors`: written row by row, so that a dataset never has to fit into memory.
//!
//! For each split the tensors `<split>.labels` (i64 `[n]`) and `<split>.images` (u8 `[n, height, width, 3]`). Labels
//! come first in the file, so that they are aligned.

use std::io::{self, Write};

use api::{PreprocessSpec, dataset::Split};
use serde_json::{Map, Value, json};

/// Writes the header and all labels; the images of all splits follow, in the order of [`Split::ALL`].
pub(crate) fn write_head(out: &mut impl Write, spec: &PreprocessSpec, labels: [&[u32]; 3]) -> io::Result<()> {
    let mut header = Map::new();
    let mut offset = 0;
    let mut place = |name: String, dtype: &str, shape: Vec<usize>, bytes: usize| {
        header.insert(name, json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + bytes]}));
        offset += bytes;
    };
    for (split, labels) in Split::ALL.iter().zip(labels) {
        place(labels_name(*split), "I64", vec![labels.len()], labels.len() * 8);
    }
    let (height, width) = (spec.height as usize, spec.width as usize);
    for (split, labels) in Split::ALL.iter().zip(labels) {
        let n = labels.len();
        place(images_name(*split), "U8", vec![n, height, width, 3], n * spec.picture_bytes());
    }
    let mut header = serde_json::to_vec(&Value::Object(header))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for label in labels.into_iter().flatten() {
        out.write_all(&i64::from(*label).to_le_bytes())?;
    }
    Ok(())
}

pub(crate) fn labels_name(split: Split) -> String {
    format!("{}.labels", split.name())
}

pub(crate) fn images_name(split: Split) -> String {
    format!("{}.images", split.name())
}
