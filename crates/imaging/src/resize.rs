//! Brings a decoded picture to the size the spec asks for, and turns it upright.

use api::{Filter, Fit, PreprocessSpec};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images::Image, images::ImageRef};
use image::metadata::Orientation;

use crate::{
    ImagingError,
    color::Rgb,
    orientation::{turn, upright_size},
};

/// # Shapes
/// result: `[spec.height, spec.width, 3]`, upright
pub(crate) fn to_spec(rgb: &Rgb, orientation: Orientation, spec: &PreprocessSpec) -> Result<Vec<u8>, ImagingError> {
    // Everything up to the turn happens lying down.
    let (width, height) = upright_size(orientation, spec.width, spec.height);
    match spec.fit {
        Fit::Stretch => {
            let pixels = resample(rgb, width, height, spec.filter, false)?;
            Ok(turn(pixels, width, height, orientation))
        }
        Fit::Cover => {
            let pixels = resample(rgb, width, height, spec.filter, true)?;
            Ok(turn(pixels, width, height, orientation))
        }
        Fit::Contain => {
            let (inner_width, inner_height) = inscribed(rgb.width, rgb.height, width, height);
            let pixels = resample(rgb, inner_width, inner_height, spec.filter, false)?;
            let pixels = turn(pixels, inner_width, inner_height, orientation);
            let (inner_width, inner_height) = upright_size(orientation, inner_width, inner_height);
            Ok(pad(&pixels, inner_width, inner_height, spec))
        }
    }
}

/// Scales each axis on its own; with `crop`, after cutting the middle of the target's shape out of the source.
pub(crate) fn resample(
    rgb: &Rgb,
    width: u32,
    height: u32,
    filter: Filter,
    crop: bool,
) -> Result<Vec<u8>, ImagingError> {
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(match filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::CatmullRom => FilterType::CatmullRom,
        Filter::Lanczos3 => FilterType::Lanczos3,
    }));
    let options = if crop { options.fit_into_destination(None) } else { options };
    let source = ImageRef::new(rgb.width, rgb.height, &rgb.data, PixelType::U8x3)
        .map_err(|source| ImagingError::Resize { source: source.into() })?;

    let mut resizer = Resizer::new();
    let mut scale = |source: &ImageRef, width, height| {
        let mut target = Image::new(width, height, PixelType::U8x3);
        resizer
            .resize(source, &mut target, &options)
            .map_err(|source| ImagingError::Resize { source: source.into() })?;
        Ok(target.into_vec())
    };
    // The resizer does columns first. Where they grow and rows shrink, that would make of 65,535 × 1 pixels an
    // intermediate picture of 65,535 × 1,024; shrinking first keeps it below the source.
    if !crop && width < rgb.width && height > rgb.height {
        let narrow = scale(&source, width, rgb.height)?;
        let narrow = ImageRef::new(width, rgb.height, &narrow, PixelType::U8x3)
            .map_err(|source| ImagingError::Resize { source: source.into() })?;
        return scale(&narrow, width, height);
    }
    scale(&source, width, height)
}

/// The largest size of the source's shape within the target, at least one pixel a side.
fn inscribed(width: u32, height: u32, target_width: u32, target_height: u32) -> (u32, u32) {
    let (w, h) = (u64::from(width), u64::from(height));
    let (tw, th) = (u64::from(target_width), u64::from(target_height));
    let rounded = |numerator: u64, denominator: u64, most: u32| {
        let quotient = (numerator + denominator / 2) / denominator;
        u32::try_from(quotient).unwrap_or(most).clamp(1, most)
    };
    if w * th >= tw * h {
        (target_width, rounded(h * tw, w, target_height))
    } else {
        (rounded(w * th, h, target_width), target_height)
    }
}

/// Centres on the background; an odd remainder goes to the right and the bottom.
fn pad(pixels: &[u8], width: u32, height: u32, spec: &PreprocessSpec) -> Vec<u8> {
    let mut padded = spec.background.0.repeat(spec.width as usize * spec.height as usize);
    let (left, top) = ((spec.width - width) as usize / 2, (spec.height - height) as usize / 2);
    let stride = spec.width as usize * 3;
    for (row, line) in pixels.chunks_exact(width as usize * 3).enumerate() {
        let start = (top + row) * stride + left * 3;
        padded[start..start + line.len()].copy_from_slice(line);
    }
    padded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use api::Background;

    fn plain(width: u32, height: u32, color: [u8; 3]) -> Rgb {
        Rgb { width, height, data: color.repeat((width * height) as usize) }
    }

    fn spec(width: u32, height: u32, fit: Fit) -> PreprocessSpec {
        PreprocessSpec { width, height, fit, background: Background([1, 2, 3]), ..PreprocessSpec::square(1) }
    }

    #[test]
    fn the_inscribed_size_keeps_the_shape_and_at_least_a_pixel() {
        assert_eq!(inscribed(640, 480, 224, 224), (224, 168));
        assert_eq!(inscribed(480, 640, 224, 224), (168, 224));
        assert_eq!(inscribed(1, 16_000, 224, 224), (1, 224));
        assert_eq!(inscribed(65_535, 1, 32, 1024), (32, 1));
        assert_eq!(inscribed(3, 3, 10, 4), (4, 4));
    }

    #[test]
    fn a_plain_picture_stays_plain_by_every_filter_and_fit_at_extreme_shapes() {
        for (width, height) in [(1, 1), (1, 16_000), (16_000, 1), (65_535, 1), (2, 3), (1023, 7)] {
            for (target_width, target_height) in [(1, 1), (1024, 1), (1, 1024), (33, 21), (1024, 1024)] {
                for filter in [Filter::Bilinear, Filter::CatmullRom, Filter::Lanczos3] {
                    for fit in [Fit::Stretch, Fit::Cover] {
                        let spec = PreprocessSpec { filter, ..spec(target_width, target_height, fit) };
                        let rgb = plain(width, height, [10, 128, 250]);
                        let pixels = to_spec(&rgb, Orientation::NoTransforms, &spec).unwrap();
                        assert_eq!(pixels.len(), spec.picture_bytes());
                        let off = pixels
                            .chunks(3)
                            .find(|p| p.iter().zip([10_u8, 128, 250]).any(|(is, want)| is.abs_diff(want) > 1));
                        assert_eq!(off, None, "{width}×{height} to {target_width}×{target_height} {fit:?} {filter:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn contain_pads_with_the_background_around_the_middle() {
        let pixels = to_spec(&plain(4, 2, [9, 9, 9]), Orientation::NoTransforms, &spec(4, 5, Fit::Contain)).unwrap();
        let rows: Vec<_> = pixels.chunks(12).map(|row| row[0]).collect();
        assert_eq!(rows, [1, 9, 9, 1, 1]);
    }

    #[test]
    fn cover_keeps_the_middle() {
        let mut rgb = plain(6, 2, [0, 0, 0]);
        for row in 0..2 {
            rgb.data[row * 18 + 6..row * 18 + 12].fill(200);
        }
        let pixels = to_spec(&rgb, Orientation::NoTransforms, &spec(2, 2, Fit::Cover)).unwrap();
        assert_eq!(pixels, [200; 12]);
    }
}
