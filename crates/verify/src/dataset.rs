//! A small data set that is made up on the spot: two kinds of pictures that any classifier can tell apart, no two alike.

use std::io;

use bytes::Bytes;
use fastrand::Rng;

/// Labels of the two kinds.
pub const LABELS: [&str; 2] = ["discs", "stripes"];

/// Pictures of each kind that are uploaded.
pub const PER_LABEL: usize = 36;

/// Side of a picture in pixels.
const SIDE: usize = 64;

/// Largest change of a pixel by noise, of 255.
const NOISE: i32 = 10;

/// Begins the random numbers of what is uploaded, and of what is asked about later.
const SEEDS: (u64, u64) = (1, 2);

/// The data set as a tar file with a folder for each label.
///
/// # Errors
/// None that memory does not make
pub fn archive() -> io::Result<Bytes> {
    let mut rng = Rng::with_seed(SEEDS.0);
    let mut archive = tar::Builder::new(Vec::new());
    for (label, name) in LABELS.iter().enumerate() {
        for n in 0..PER_LABEL {
            let picture = picture(label, &mut rng);
            let mut header = tar::Header::new_gnu();
            header.set_size(picture.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("{name}/{n:02}.bmp"), picture.as_slice())?;
        }
    }
    archive.into_inner().map(Bytes::from)
}

/// Pictures that are in no upload, each with its label.
pub fn unseen(n_per_label: usize) -> Vec<(&'static str, Bytes)> {
    let mut rng = Rng::with_seed(SEEDS.1);
    let labels = LABELS.iter().enumerate().cycle().take(n_per_label * LABELS.len());
    labels.map(|(label, name)| (*name, picture(label, &mut rng).into())).collect()
}

/// A disc on a plain ground, or stripes, anywhere, of any size and colours; as BMP.
fn picture(label: usize, rng: &mut Rng) -> Vec<u8> {
    let side = SIDE as f32;
    let [ground, ink] = colours(rng);
    let radius = side * (0.15 + 0.2 * rng.f32());
    let centre = [(); 2].map(|()| radius + (side - 2.0 * radius) * rng.f32());
    let angle = std::f32::consts::PI * rng.f32();
    let (period, phase) = (6.0 + 10.0 * rng.f32(), side * rng.f32());
    let is_ink = |x: f32, y: f32| match label {
        0 => (x - centre[0]).hypot(y - centre[1]) < radius,
        _ => (x * angle.cos() + y * angle.sin() + phase).rem_euclid(period) < period / 2.0,
    };
    let mut pixels = Vec::with_capacity(SIDE * SIDE * 3);
    for at in 0..SIDE * SIDE {
        let colour = if is_ink((at % SIDE) as f32, (at / SIDE) as f32) { ink } else { ground };
        pixels.extend(colour.map(|part| (part + rng.i32(-NOISE..=NOISE)).clamp(0, 255) as u8));
    }
    bmp(&pixels)
}

/// Two colours that differ much, one of them light.
fn colours(rng: &mut Rng) -> [[i32; 3]; 2] {
    let mut dark = [(); 3].map(|()| rng.i32(0..=90));
    let mut light = [(); 3].map(|()| rng.i32(150..=255));
    if rng.bool() {
        std::mem::swap(&mut dark, &mut light);
    }
    [dark, light]
}

/// # Shapes
/// `pixels`: `[SIDE, SIDE, 3]`, blue first, the lowest row first
fn bmp(pixels: &[u8]) -> Vec<u8> {
    const HEADERS: u32 = 14 + 40;
    let side = SIDE as u32;
    let mut file = b"BM".to_vec();
    let put = |file: &mut Vec<u8>, numbers: &[u32]| {
        file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    };
    put(&mut file, &[HEADERS + pixels.len() as u32, 0, HEADERS]);
    // One plane of 24 bits, not compressed.
    put(&mut file, &[40, side, side, 1 | 24 << 16, 0, pixels.len() as u32, 2835, 2835, 0, 0]);
    file.extend(pixels);
    file
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_archive_has_a_folder_for_each_label_and_no_picture_twice() {
        let archive = archive().unwrap();
        let mut reader = tar::Archive::new(archive.as_ref());
        let mut pictures = BTreeSet::new();
        for entry in reader.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            assert!(LABELS.contains(&path.split('/').next().unwrap()), "{path}");
            let mut bytes = vec![];
            io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            assert_eq!(bytes.len(), 54 + SIDE * SIDE * 3);
            assert!(pictures.insert(bytes), "{path} is there twice");
        }
        assert_eq!(pictures.len(), PER_LABEL * LABELS.len());
        for (label, picture) in unseen(4) {
            assert!(pictures.insert(picture.to_vec()), "a picture of {label} was uploaded");
        }
    }

    #[test]
    fn a_picture_is_as_its_format_says() {
        let file = picture(0, &mut Rng::with_seed(3));
        assert_eq!(&file[..2], b"BM");
        assert_eq!(u32::from_le_bytes(file[2..6].try_into().unwrap()) as usize, file.len());
        assert_eq!(u32::from_le_bytes(file[10..14].try_into().unwrap()), 54, "where the pixels begin");
        assert_eq!(u16::from_le_bytes(file[28..30].try_into().unwrap()), 24, "bits of a pixel");
    }
}
