//! A picture like one from a camera: 640×480, smooth with some noise, as JPEG.

use std::io::Cursor;

use anyhow::Result;
use image::{ImageFormat, Rgb, RgbImage};

/// The picture's file.
pub fn jpeg() -> Result<Vec<u8>> {
    let mut noise = 1_u32;
    let picture = RgbImage::from_fn(640, 480, |x, y| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let grain = (noise >> 28) as u8;
        let wave = |n: u32| (127.0 + 100.0 * (f64::from(n) / 40.0).sin()) as u8;
        Rgb([wave(x).saturating_add(grain), wave(y).saturating_add(grain), wave(x + y).saturating_add(grain)])
    });
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Jpeg)?;
    Ok(file.into_inner())
}
