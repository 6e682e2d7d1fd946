//! Labelled pictures made by code: shapes on noise, easy to learn and all different.

use std::io::{Cursor, Write};

use image::{ImageFormat, Rgb, RgbImage};

/// The classes, in class-index order.
pub const LABELS: [&str; 3] = ["circle", "square", "stripes"];

/// A small generator of reproducible noise (SplitMix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> i64 {
        (self.next() % n) as i64
    }
}

/// Picture `n` of a class: 48 × 48 RGB.
pub fn picture(label: &str, n: u64) -> RgbImage {
    let mut noise = Noise(n.wrapping_mul(1000) + label.bytes().map(u64::from).sum::<u64>());
    let (cx, cy, r) = (16 + noise.below(16), 16 + noise.below(16), 8 + noise.below(6));
    let period = 4 + noise.below(3);
    let ink = [200 + noise.below(50), 40 + noise.below(120), 40 + noise.below(120)];
    let paper = [40 + noise.below(60), 60 + noise.below(60), 120 + noise.below(60)];
    RgbImage::from_fn(48, 48, |x, y| {
        let (dx, dy) = (i64::from(x) - cx, i64::from(y) - cy);
        let inside = match label {
            "circle" => dx * dx + dy * dy <= r * r,
            "square" => dx.abs() <= r && dy.abs() <= r,
            _ => (i64::from(x) / period) % 2 == 0,
        };
        let base = if inside { ink } else { paper };
        Rgb(base.map(|c| (c + noise.below(30) - 15).clamp(0, 255) as u8))
    })
}

/// The picture as a file of this format.
pub fn encode(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![]);
    picture.write_to(&mut bytes, format).expect("a small picture can be encoded");
    bytes.into_inner()
}

/// PNG of picture `n` of a class.
pub fn png(label: &str, n: u64) -> Vec<u8> {
    encode(&picture(label, n), ImageFormat::Png)
}

/// A ZIP with a folder for each class and `per_class` pictures in each, numbered from `first`.
pub fn archive(per_class: u64, first: u64) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(vec![]));
    for label in LABELS {
        for n in first..first + per_class {
            let name = format!("shapes/{label}/{n}.png");
            zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("a name");
            zip.write_all(&png(label, n)).expect("memory");
        }
    }
    zip.finish().expect("memory").into_inner()
}
