//! Damage and malice: whatever the bytes, there is an answer, soon, and no panic.

use std::time::{Duration, Instant};

use api::{ErrorCode, PreprocessSpec};
use image::{ImageFormat, metadata::Orientation};
use imaging::{Limits, probe, process};

use crate::{fixtures::*, tiffs};

/// Small numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

fn tight() -> Limits {
    Limits { memory_bytes: 64 << 20, pixels: 4_000_000, ..Limits::default() }
}

/// Answers must agree with themselves; which of them it is does not matter here.
#[track_caller]
fn check(bytes: &[u8]) {
    let spec = PreprocessSpec::square(9);
    let probed = probe(bytes, &tight());
    match process(bytes, &spec, &tight()) {
        Ok(picture) => {
            assert_eq!(picture.pixels.len(), spec.picture_bytes());
            let probed = probed.expect("what can be processed can be probed");
            assert_eq!((picture.facts.width, picture.facts.height), (probed.width, probed.height));
        }
        Err(error) => assert!(error.code().status() < 500, "{error}"),
    }
}

fn subjects() -> Vec<Vec<u8>> {
    let scene = scene(41, 29);
    let oriented = stored_as(&scene, Orientation::Rotate90);
    let (width, height) = oriented.dimensions();
    let exif = exif(6);
    let prefixed = [b"Exif\0\0".as_slice(), &exif].concat();
    let mut subjects: Vec<_> = one_of_each(41, 29).into_iter().map(|(_, bytes)| bytes).collect();
    subjects.extend(RARE_JPEGS.map(|(_, bytes)| bytes.to_vec()));
    subjects.extend(tiffs::subjects());
    subjects.push(jpeg_with_app1(&jpeg(&oriented), &prefixed));
    subjects.push(png_with_chunk(&encode(oriented.clone(), ImageFormat::Png), b"eXIf", &exif, b"IDAT"));
    subjects.push(webp_with_chunk(&encode(oriented, ImageFormat::WebP), width, height, b"EXIF", &exif));
    subjects
}

#[test]
fn no_cut_makes_it_panic() {
    for bytes in subjects() {
        for end in 0..bytes.len() {
            check(&bytes[..end]);
        }
    }
}

#[test]
fn no_damaged_byte_makes_it_panic() {
    let mut dice = Dice(1);
    for bytes in subjects() {
        let header = bytes.len().min(400);
        for round in 0..4_000 {
            let mut damaged = bytes.clone();
            // Headers are where sizes stand: every other damage hits them.
            let reach = if round % 2 == 0 { header } else { bytes.len() };
            for _ in 0..=dice.throw(3) {
                let at = dice.throw(reach);
                damaged[at] = match dice.throw(4) {
                    0 => 0,
                    1 => 0xFF,
                    2 => damaged[at] ^ 1 << dice.throw(8),
                    _ => dice.throw(256) as u8,
                };
            }
            check(&damaged);
        }
    }
}

#[test]
fn no_splice_of_two_pictures_makes_it_panic() {
    let mut dice = Dice(2);
    let subjects = subjects();
    for _ in 0..8_000 {
        let [a, b] = [0; 2].map(|_| &subjects[dice.throw(subjects.len())]);
        let (head, tail) = (dice.throw(a.len()), dice.throw(b.len()));
        check(&[&a[..head], &b[tail..]].concat());
    }
}

#[track_caller]
fn refused_quickly(name: &str, bytes: &[u8]) {
    let start = Instant::now();
    let error = process(bytes, &PreprocessSpec::square(32), &Limits::default()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooLarge, "{name}: {error}");
    assert!(start.elapsed() < Duration::from_secs(1), "{name} took {:?}", start.elapsed());
}

#[test]
fn claims_of_gigapixels_are_refused_before_any_memory_is_spent() {
    let mut png = encode(scene(4, 4), ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 0, 0xC3, 0x50, 0, 0, 0xC3, 0x50]);
    refused_quickly("png", &png);

    let mut gif = encode(scene(4, 4), ImageFormat::Gif);
    gif[6..10].fill(0xFF);
    refused_quickly("gif", &gif);

    let mut bmp = encode(scene(4, 4), ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[0xFF, 0xFF, 0, 0, 0xFF, 0xFF, 0, 0]);
    refused_quickly("bmp", &bmp);

    let mut jpeg = jpeg(&scene(4, 4));
    let frame = jpeg.windows(2).position(|window| window == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xFF);
    refused_quickly("jpeg", &jpeg);

    let webp = encode(scene(4, 4), ImageFormat::WebP);
    refused_quickly("webp", &webp_with_chunk(&webp, 16_000, 16_000, b"EXIF", b"odd"));
}

#[test]
fn a_progressive_jpeg_pays_for_the_coefficients_it_keeps() {
    let mut baseline = jpeg(&scene(64, 48));
    let room_for_pixels_only = Limits { memory_bytes: 64 * 48 * 3 + baseline.len() as u64, ..Limits::default() };
    assert!(process(&baseline, &PreprocessSpec::square(8), &room_for_pixels_only).is_ok());
    let frame = baseline.windows(2).position(|window| window == [0xFF, 0xC0]).unwrap();
    baseline[frame + 1] = 0xC2;
    let error = process(&baseline, &PreprocessSpec::square(8), &room_for_pixels_only).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooLarge, "{error}");
}
