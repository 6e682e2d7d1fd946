//! From the bytes of a picture file to upright 8-bit RGB of a stated size: the only preprocessing code in the house.
//!
//! The way: sniff the format by content, read the headers, refuse what exceeds the [`Limits`], decode, turn
//! everything into 8-bit samples, flatten transparency, resize, turn upright. The same bytes and spec give the
//! same pixels natively and in WebAssembly, bit for bit.
//!
//! What each step means, for [`api::picture::PREPROCESS_VERSION`] 1:
//! - **First picture only**: the first frame of a GIF, an animated WebP or an APNG, the first page of a TIFF.
//! - **Samples are taken as sRGB.** ICC profiles and gamma chunks are ignored. 16-bit samples are divided by 257
//!   and rounded, float samples (TIFF) are clamped to 0..=1, gray is repeated, CMYK JPEGs are read as Adobe writes
//!   them (inverted), TIFF palettes keep the high byte of their 16-bit colours, YCbCr in TIFF is full-range BT.601.
//! - **Transparency**: `(colour·alpha + background·(255 − alpha)) / 255`, rounded, on sRGB values, before resizing.
//! - **Resize**: see [`api::picture::Fit`] and [`api::picture::Filter`]; a picture of exactly the asked size is copied.
//! - **Upright**: EXIF orientation of JPEG, PNG, WebP and TIFF; where there is none, uncompressed XMP's
//!   `tiff:Orientation` of JPEG, PNG and WebP. It is applied after resampling, with the asked size turned likewise,
//!   which spares a second copy of large pictures.
//!
//! What is recognised but not decoded is [`ImagingError::Undecodable`], with what the decoder says of it:
//! - **JPEG**: samples of 12 bits, arithmetic coding, lossless and hierarchical frames, two components.
//! - **TIFF**: Lab, palettes of 16 bits or with transparency, gray with transparency multiplied in, YCbCr with unusual
//!   coefficients or subsampled outside of a JPEG, depths other than 1, 2, 4 (gray, palette), 8 and 16 bits and 32-bit
//!   floats of RGB, signed samples; compressed as JPEG of the old kind (6), CCITT group 3, WebP or Zstandard.
//!
//! Left out on purpose: colour management, animation, metadata other than orientation, any cropping by content.

mod color;
mod decode;
mod error;
mod hash;
mod jpeg;
mod limits;
mod orientation;
mod png;
mod resize;
mod sniff;
mod tiff;
mod webp;

use api::{Format, PreprocessSpec, preprocess::Facts};
use serde::{Deserialize, Serialize};

pub use crate::{
    error::ImagingError,
    hash::{content_hash, hamming, parse_perceptual_hash},
    limits::Limits,
    sniff::sniff,
};

/// A processed picture and what is known of the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Facts about the original.
    pub facts: Facts,
    /// `[height, width, 3]` of the spec, upright RGB.
    pub pixels: Vec<u8>,
}

/// What the headers of a picture say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Format by content.
    pub format: Format,
    /// Upright width in pixels.
    pub width: u32,
    /// Upright height in pixels.
    pub height: u32,
}

/// Brings an encoded picture to the spec's size, and says what it was.
///
/// # Shapes
/// result: `pixels` is `[spec.height, spec.width, 3]`, u8, upright RGB
///
/// # Errors
/// Every fault of the picture or the spec; see [`ImagingError`].
pub fn process(bytes: &[u8], spec: &PreprocessSpec, limits: &Limits) -> Result<Picture, ImagingError> {
    spec.validate().map_err(ImagingError::InvalidSpec)?;
    let format = admit(bytes, limits)?;
    let decoded = decode::decode(bytes, format, limits)?;
    let orientation = decoded.orientation;
    let (width, height) = orientation::upright_size(orientation, decoded.raster.width, decoded.raster.height);

    let (rgb, perceptual_hash) = color::flatten_and(decoded.raster, spec.background, limits, |over_white| {
        hash::perceptual_hash(over_white, orientation)
    })?;
    let pixels = resize::to_spec(&rgb, orientation, spec)?;
    let facts = Facts {
        width,
        height,
        format,
        content_hash: content_hash(bytes),
        perceptual_hash: format!("{:016x}", perceptual_hash?),
    };
    Ok(Picture { facts, pixels })
}

/// Reads format and upright size from the headers, without decoding pixels.
///
/// # Errors
/// As [`process`], as far as the headers tell: a picture that is probed well may still be truncated or broken.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Probe, ImagingError> {
    let format = admit(bytes, limits)?;
    let (width, height) = decode::upright_size(bytes, format, limits)?;
    Ok(Probe { format, width, height })
}

/// Encodes a processed picture as PNG, without loss.
///
/// # Shapes
/// `pixels`: `[spec.height, spec.width, 3]`, u8, RGB
///
/// # Panics
/// If `pixels` has another length than the spec says.
pub fn encode_png(pixels: &[u8], spec: &PreprocessSpec) -> Vec<u8> {
    use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

    assert_eq!(pixels.len(), spec.picture_bytes(), "pixels must be [height, width, 3] of the spec");
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(pixels, spec.width, spec.height, ExtendedColorType::Rgb8)
        .expect("writing a PNG of the right length to memory cannot fail");
    png
}

fn admit(bytes: &[u8], limits: &Limits) -> Result<Format, ImagingError> {
    if bytes.is_empty() {
        return Err(ImagingError::Empty);
    }
    limits.check_file(bytes.len())?;
    sniff::require(bytes)
}
