//! Any samples to 8-bit RGB: depth, channels, transparency.

use api::Background;
use image::ColorType;

use crate::{ImagingError, Limits};

/// 8-bit samples as a decoder gave them.
#[derive(Debug)]
pub(crate) struct Raster {
    pub width: u32,
    pub height: u32,
    /// 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
    pub channels: usize,
    /// `[height, width, channels]`
    pub data: Vec<u8>,
}

/// 8-bit RGB, opaque.
#[derive(Debug)]
pub(crate) struct Rgb {
    pub width: u32,
    pub height: u32,
    /// `[height, width, 3]`
    pub data: Vec<u8>,
}

/// Brings samples in the byte order of the machine to 8 bits, in place. `None` for a type no decoder here gives.
pub(crate) fn to_8_bit(color: ColorType, width: u32, height: u32, mut data: Vec<u8>) -> Option<Raster> {
    match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => {}
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => {
            narrow(&mut data, |wide: [u8; 2]| {
                let rounded = (u32::from(u16::from_ne_bytes(wide)) + 128) / 257;
                u8::try_from(rounded).unwrap_or(u8::MAX)
            })
        }
        ColorType::Rgb32F | ColorType::Rgba32F => narrow(&mut data, |wide: [u8; 4]| {
            // The cast saturates, and takes what is not a number for 0.
            (f32::from_ne_bytes(wide) * 255.0).round() as u8
        }),
        _ => return None,
    }
    Some(Raster { width, height, channels: usize::from(color.channel_count()), data })
}

fn narrow<const WIDE: usize>(data: &mut Vec<u8>, to_byte: impl Fn([u8; WIDE]) -> u8) {
    let samples = data.len() / WIDE;
    for sample in 0..samples {
        let wide = std::array::from_fn(|byte| data[sample * WIDE + byte]);
        data[sample] = to_byte(wide);
    }
    data.truncate(samples);
}

/// Flattens over `background`, and lets `look` see the same picture flattened over white, whichever the background.
pub(crate) fn flatten_and<T>(
    raster: Raster,
    background: Background,
    limits: &Limits,
    look: impl Fn(&Rgb) -> T,
) -> Result<(Rgb, T), ImagingError> {
    if raster.channels % 2 == 1 || background == Background::WHITE {
        let rgb = flatten(raster, background)?;
        let seen = look(&rgb);
        return Ok((rgb, seen));
    }
    limits.check_memory(2 * raster.data.len() as u64)?;
    let copy = Raster { data: try_copy(&raster.data, raster.data.len())?, ..raster };
    let seen = look(&flatten(copy, Background::WHITE)?);
    Ok((flatten(raster, background)?, seen))
}

fn flatten(raster: Raster, background: Background) -> Result<Rgb, ImagingError> {
    let Raster { width, height, channels, mut data } = raster;
    let [r, g, b] = background.0;
    match channels {
        1 => data = spread(&data, 1, |pixel| [pixel[0]; 3])?,
        2 => {
            data = spread(&data, 2, |pixel| {
                let [gray, alpha] = [pixel[0], pixel[1]];
                [over(gray, alpha, r), over(gray, alpha, g), over(gray, alpha, b)]
            })?;
        }
        4 => {
            let pixels = data.len() / 4;
            for pixel in 0..pixels {
                let alpha = data[pixel * 4 + 3];
                for (channel, behind) in [r, g, b].into_iter().enumerate() {
                    data[pixel * 3 + channel] = over(data[pixel * 4 + channel], alpha, behind);
                }
            }
            data.truncate(pixels * 3);
        }
        _ => {}
    }
    Ok(Rgb { width, height, data })
}

fn spread(data: &[u8], channels: usize, to_rgb: impl Fn(&[u8]) -> [u8; 3]) -> Result<Vec<u8>, ImagingError> {
    let mut rgb = try_copy(&[], data.len() / channels * 3)?;
    rgb.extend(data.chunks_exact(channels).flat_map(to_rgb));
    Ok(rgb)
}

/// A copy with room for `capacity` bytes, or an error where an ordinary copy would abort.
pub(crate) fn try_copy(data: &[u8], capacity: usize) -> Result<Vec<u8>, ImagingError> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(capacity).map_err(|_| ImagingError::OutOfMemory { bytes: capacity })?;
    copy.extend_from_slice(data);
    Ok(copy)
}

/// That many zeros, or an error where an ordinary vector would abort.
pub(crate) fn try_zeros(bytes: u64) -> Result<Vec<u8>, ImagingError> {
    let bytes = usize::try_from(bytes).map_err(|_| ImagingError::OutOfMemory { bytes: usize::MAX })?;
    let mut zeros = try_copy(&[], bytes)?;
    zeros.resize(bytes, 0);
    Ok(zeros)
}

/// `sample` with this opacity before `behind`, rounded to nearest.
fn over(sample: u8, alpha: u8, behind: u8) -> u8 {
    let sum = u32::from(sample) * u32::from(alpha) + u32::from(behind) * (255 - u32::from(alpha));
    u8::try_from((sum + 127) / 255).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn raster(channels: usize, data: &[u8]) -> Raster {
        Raster { width: u32::try_from(data.len() / channels).unwrap(), height: 1, channels, data: data.to_vec() }
    }

    #[test]
    fn opacity_is_exact_at_its_ends_and_rounded_between() {
        for sample in 0..=255 {
            for behind in 0..=255 {
                assert_eq!(over(sample, 255, behind), sample);
                assert_eq!(over(sample, 0, behind), behind);
                let half = (f64::from(sample) * 128.0 + f64::from(behind) * 127.0) / 255.0;
                assert!((f64::from(over(sample, 128, behind)) - half).abs() <= 0.5);
            }
        }
    }

    #[test]
    fn every_16_bit_sample_goes_to_the_nearest_8_bit_one() {
        for wide in 0..=u16::MAX {
            let raster = to_8_bit(ColorType::L16, 1, 1, wide.to_ne_bytes().to_vec()).unwrap();
            assert!((f64::from(raster.data[0]) - f64::from(wide) / 257.0).abs() <= 0.5, "{wide}");
        }
    }

    #[test]
    fn float_samples_are_clamped() {
        let samples = [-1.0_f32, 0.5, 2.0, f32::NAN, 1.0, 0.0];
        let data = samples.iter().flat_map(|sample| sample.to_ne_bytes()).collect();
        assert_eq!(to_8_bit(ColorType::Rgb32F, 2, 1, data).unwrap().data, [0, 128, 255, 0, 255, 0]);
    }

    #[test]
    fn all_channel_counts_become_rgb() {
        let red = Background([255, 0, 0]);
        assert_eq!(flatten(raster(1, &[7, 9]), red).unwrap().data, [7, 7, 7, 9, 9, 9]);
        assert_eq!(flatten(raster(2, &[7, 255, 9, 0]), red).unwrap().data, [7, 7, 7, 255, 0, 0]);
        assert_eq!(flatten(raster(3, &[1, 2, 3]), red).unwrap().data, [1, 2, 3]);
        assert_eq!(flatten(raster(4, &[1, 2, 3, 255, 4, 5, 6, 0]), red).unwrap().data, [1, 2, 3, 255, 0, 0]);
    }

    #[test]
    fn the_look_is_over_white_whichever_the_background() {
        let transparent = [1, 2, 3, 0];
        let look = |rgb: &Rgb| rgb.data.clone();
        for background in [Background::WHITE, Background([0, 9, 0])] {
            let (rgb, seen) = flatten_and(raster(4, &transparent), background, &Limits::default(), look).unwrap();
            assert_eq!(rgb.data, background.0);
            assert_eq!(seen, [255; 3]);
        }
    }
}
