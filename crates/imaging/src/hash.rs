//! Two fingerprints of a picture: of its bytes, and of what it looks like.

use std::sync::LazyLock;

use api::Filter;
use image::metadata::Orientation;
use sha2::{Digest, Sha256};

use crate::{ImagingError, color::Rgb, orientation::turn, resize::resample};

/// Side of the thumbnail the perceptual hash looks at.
const SIDE: usize = 32;
/// Frequencies kept in each direction.
const KEPT: usize = 8;

/// SHA-256 of the file's bytes, 64 hex digits.
pub fn content_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// In how many of their 64 bits two perceptual hashes differ.
pub fn hamming(a: u64, b: u64) -> u32 {
    (a ^ b).count_ones()
}

/// Reads the 16 hex digits of [`api::preprocess::Facts::perceptual_hash`].
pub fn parse_perceptual_hash(hex: &str) -> Option<u64> {
    (hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| u64::from_str_radix(hex, 16).ok())
        .flatten()
}

/// Hash of what the picture looks like: resized, recompressed or slightly brightened, it changes in few bits.
///
/// The picture, upright and over white, is brought to 32 × 32 gray (bilinear, antialiased; Rec. 601 luma) and
/// transformed by a two-dimensional DCT-II. Of the 8 × 8 lowest frequencies, row by row, each bit (the highest
/// first) tells whether its coefficient exceeds the median of the 63 that are no mean; the first tells whether
/// the picture is lighter than middle gray. All in integers, so that every machine agrees.
pub(crate) fn perceptual_hash(rgb: &Rgb, orientation: Orientation) -> Result<u64, ImagingError> {
    let side = SIDE as u32;
    let thumbnail = turn(resample(rgb, side, side, Filter::Bilinear, false)?, side, side, orientation);
    let luma: Vec<i64> = thumbnail
        .chunks_exact(3)
        .map(|p| (299 * i64::from(p[0]) + 587 * i64::from(p[1]) + 114 * i64::from(p[2])) - 127_500)
        .collect();
    let mean_is_light = luma.iter().sum::<i64>() > 0;

    let frequencies = low_frequencies(&luma);
    let mut sorted = frequencies;
    sorted[1..].sort_unstable();
    let median = sorted[32];
    let bits = frequencies[1..].iter().fold(u64::from(mean_is_light), |bits, f| bits << 1 | u64::from(*f > median));
    Ok(bits)
}

/// The lowest [`KEPT`] × [`KEPT`] coefficients of the DCT-II, vertical frequency first, unnormalised.
fn low_frequencies(luma: &[i64]) -> [i64; KEPT * KEPT] {
    let mut rows = [[0; KEPT]; SIDE];
    for (row, line) in rows.iter_mut().zip(luma.chunks_exact(SIDE)) {
        for (kept, wave) in row.iter_mut().zip(COSINES.iter()) {
            *kept = line.iter().zip(wave).map(|(sample, cosine)| sample * cosine).sum();
        }
    }
    std::array::from_fn(|at| {
        let (vertical, horizontal) = (at / KEPT, at % KEPT);
        rows.iter().zip(&COSINES[vertical]).map(|(row, cosine)| (row[horizontal] >> 8) * cosine).sum()
    })
}

/// `cos(π (2n + 1) k / 64)` in units of 2⁻¹⁴, by frequency `k` and position `n`. The rounding swallows the last
/// digits in which mathematical libraries differ.
static COSINES: LazyLock<[[i64; SIDE]; KEPT]> = LazyLock::new(|| {
    std::array::from_fn(|k| {
        std::array::from_fn(|n| {
            let angle = std::f64::consts::PI * ((2 * n + 1) * k) as f64 / (2 * SIDE) as f64;
            (angle.cos() * 16384.0).round() as i64
        })
    })
});
