//! Odd, broken and hostile files, where the folder that holds them is there.

use std::{collections::BTreeMap, env, fs, path::PathBuf, time::Instant};

use api::{
    ErrorCode::{self, *},
    Format::{self, *},
    PreprocessSpec,
};
use imaging::{Limits, process};

/// What a file must lead to: a picture of this format and upright size, or this error.
enum Expected {
    Picture(Format, u32, u32),
    Error(ErrorCode),
}

fn table() -> BTreeMap<&'static str, Expected> {
    let picture = |name, format, width, height| (name, Expected::Picture(format, width, height));
    let error = |name, code| (name, Expected::Error(code));
    BTreeMap::from([
        error("MANIFEST.tsv", UnsupportedFormat),
        error("alpha.avif", UnsupportedFormat),
        picture("animated.gif", Gif, 100, 100),
        picture("animated.webp", WebP, 256, 256),
        picture("apng.png", Png, 64, 64),
        // Its EXIF is the least of it: the scan is damaged from the 20th row of blocks on.
        error("bad_exif.jpg", Undecodable),
        picture("badadler.png", Png, 1, 1),
        error("badcrc.png", Undecodable),
        picture("basn0g01.png", Png, 32, 32),
        picture("basn2c16.png", Png, 32, 32),
        picture("basn3p02.png", Png, 32, 32),
        error("bomb_50000x50000_1bit.png", TooLarge),
        // Its screen is small, its frame is not, and ends at once.
        error("bomb_65535.gif", Truncated),
        picture("bomb_extents.gif", Gif, 100, 100),
        error("bomb_jpeg_65500.jpg", TooLarge),
        error("broken_header.png", Undecodable),
        picture("cmyk.jpg", Jpeg, 100, 100),
        error("crash_2020_10.tif", TooLarge),
        error("empty.jpg", Empty),
        picture("exif_only.tif", Tiff, 15, 7),
        picture("exif_orientation_2.jpg", Jpeg, 128, 128),
        picture("exif_orientation_3.png", Png, 10, 10),
        picture("exif_orientation_4.jpg", Jpeg, 128, 128),
        picture("exif_orientation_5.jpg", Jpeg, 128, 128),
        picture("exif_orientation_7.jpg", Jpeg, 128, 128),
        picture("exif_orientation_8.jpg", Jpeg, 128, 128),
        picture("ftbyn3p08.png", Png, 32, 32),
        error("gdk_CVE-2017-2862.jpg", Undecodable),
        error("gdk_bug777315.bmp", Undecodable),
        error("gdk_bug784903-overflow-dimensions.tiff", Undecodable),
        error("gdk_bug785973.gif", TooLarge),
        error("gdk_bug793470-crasher.png", TooLarge),
        error("gdk_invalid.1.bmp", Undecodable),
        error("gdk_overflow-codes.gif", Undecodable),
        picture("gray_alpha.png", Png, 128, 128),
        picture("grayscale.jpg", Jpeg, 512, 512),
        error("html_as.jpg", UnsupportedFormat),
        error("huge_bKGD_chunk.png", Truncated),
        error("huge_header_2e31.png", TooLarge),
        error("huge_zTXt_chunk.png", Truncated),
        picture("ibasn6a08.png", Png, 32, 32),
        error("ico_256.ico", UnsupportedFormat),
        error("ifd_loop.tif", Undecodable),
        error("jpeg12bit.jpg", Undecodable),
        picture("jpeg_named.png", Jpeg, 256, 256),
        error("lab.tif", Undecodable),
        picture("lossy.webp", WebP, 128, 128),
        error("multi_size.ico", UnsupportedFormat),
        error("photo.avif", UnsupportedFormat),
        error("photo.heic", UnsupportedFormat),
        picture("png_ztxt_bomb.png", Png, 1, 1),
        picture("rgb16.tiff", Tiff, 100, 40),
        picture("rgb24.bmp", Bmp, 128, 128),
        picture("rgba32_bitfields.bmp", Bmp, 127, 64),
        picture("tall_1x16000.png", Png, 1, 16_000),
        picture("transparent_rgba.png", Png, 200, 150),
        error("truncated.png", Truncated),
        error("truncated_half.jpg", Truncated),
    ])
}

fn folder() -> Option<PathBuf> {
    let shared = env::var_os("FOVEA_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let folder = shared.join("data/odd");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not there", folder.display());
    None
}

#[test]
fn every_odd_file_is_processed_or_refused_as_it_deserves() {
    let Some(folder) = folder() else { return };
    let mut table = table();
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let start = Instant::now();
        let outcome = process(&fs::read(path).unwrap(), &PreprocessSpec::square(64), &Limits::default());
        if start.elapsed().as_secs() > 0 {
            wrong.push(format!("{name}: took {:?}", start.elapsed()));
        }
        let as_expected = match (table.remove(name.as_str()), &outcome) {
            (Some(Expected::Picture(format, width, height)), Ok(picture)) => {
                (picture.facts.format, picture.facts.width, picture.facts.height) == (format, width, height)
            }
            (Some(Expected::Error(code)), Err(error)) => error.code() == code,
            _ => false,
        };
        if !as_expected {
            wrong.push(format!("{name}: {:?}", outcome.map(|p| p.facts).map_err(|e| e.detail())));
        }
    }
    wrong.extend(table.keys().map(|name| format!("{name}: is not there")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_photograph_under_five_orientations_looks_the_same() {
    let Some(folder) = folder() else { return };
    let hash = |name: &str| {
        let bytes = fs::read(folder.join(name)).unwrap();
        let picture = process(&bytes, &PreprocessSpec::square(64), &Limits::default()).unwrap();
        imaging::parse_perceptual_hash(&picture.facts.perceptual_hash).unwrap()
    };
    let upright = hash("rgb24.bmp");
    for orientation in [2, 4, 5, 7, 8] {
        let distance = imaging::hamming(upright, hash(&format!("exif_orientation_{orientation}.jpg")));
        assert!(distance <= 8, "orientation {orientation} differs in {distance} bits");
    }
}
