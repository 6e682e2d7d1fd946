//! What becomes of sound pictures, and of those cut off.

use api::{Background, ErrorCode, Filter, Fit, Format, PreprocessSpec};
use image::{DynamicImage, ImageFormat, RgbImage, metadata::Orientation};
use imaging::{ImagingError, Limits, Picture, encode_png, hamming, parse_perceptual_hash, probe, process, sniff};

use crate::fixtures::*;

fn run(bytes: &[u8], spec: &PreprocessSpec) -> Picture {
    process(bytes, spec, &Limits::default()).unwrap()
}

fn refusal(bytes: &[u8]) -> ImagingError {
    process(bytes, &PreprocessSpec::square(32), &Limits::default()).unwrap_err()
}

fn original_size(width: u32, height: u32) -> PreprocessSpec {
    PreprocessSpec { width, height, ..PreprocessSpec::square(1) }
}

/// For formats that lose something: edges may be off by much, the picture by little.
#[track_caller]
fn assert_alike(a: &[u8], b: &[u8], mean_tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    let mean = sum / a.len() as f64;
    assert!(mean <= mean_tolerance, "samples differ by {mean} on average; at most {mean_tolerance} is fine");
}

#[track_caller]
fn assert_close(a: &[u8], b: &[u8], tolerance: u8) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(tolerance), "samples differ by {worst:?}; at most {tolerance} is fine");
}

#[test]
fn every_format_gives_the_same_picture_and_its_facts() {
    let scene = scene(61, 47);
    for (name, bytes) in one_of_each(61, 47) {
        let picture = run(&bytes, &original_size(61, 47));
        let expected = match name {
            "jpeg" => Format::Jpeg,
            "webp" => Format::WebP,
            "gif" => Format::Gif,
            "bmp" => Format::Bmp,
            "tiff" => Format::Tiff,
            _ => Format::Png,
        };
        assert_eq!((picture.facts.width, picture.facts.height, picture.facts.format), (61, 47, expected), "{name}");
        assert_eq!(sniff(&bytes), Some(expected));
        let lossy = matches!(expected, Format::Jpeg | Format::Gif);
        assert_alike(&picture.pixels, scene.as_raw(), if lossy { 4.0 } else { 0.0 });

        let probed = probe(&bytes, &Limits::default()).unwrap();
        assert_eq!((probed.width, probed.height, probed.format), (61, 47, expected), "{name}");
    }
}

#[test]
fn sixteen_bits_gray_and_alpha_become_8_bit_rgb() {
    let scene = DynamicImage::ImageRgb8(scene(20, 10));
    let spec = original_size(20, 10);
    let gray = DynamicImage::ImageLuma8(scene.to_luma8()).into_rgb8();
    for (stored, expected) in [
        (DynamicImage::ImageRgb16(scene.to_rgb16()), scene.to_rgb8()),
        (DynamicImage::ImageRgba16(scene.to_rgba16()), scene.to_rgb8()),
        (DynamicImage::ImageLuma8(scene.to_luma8()), gray.clone()),
        (DynamicImage::ImageLumaA8(scene.to_luma_alpha8()), gray.clone()),
        (DynamicImage::ImageLuma16(scene.to_luma16()), gray),
    ] {
        let color = stored.color();
        assert_close(&run(&encode(stored, ImageFormat::Png), &spec).pixels, expected.as_raw(), 1);
        println!("{color:?} is fine");
    }
}

#[test]
fn transparency_shows_the_background() {
    let picture = image::RgbaImage::from_fn(2, 1, |x, _| image::Rgba([200, 100, 0, if x == 0 { 0 } else { 128 }]));
    let png = encode(picture, ImageFormat::Png);
    assert_eq!(run(&png, &original_size(2, 1)).pixels, [255, 255, 255, 227, 177, 127]);
    let on_blue = PreprocessSpec { background: Background([0, 0, 255]), ..original_size(2, 1) };
    assert_eq!(run(&png, &on_blue).pixels, [0, 0, 255, 100, 50, 127]);
    assert_eq!(run(&png, &on_blue).facts, run(&png, &original_size(2, 1)).facts);
}

#[test]
fn an_rgba_upload_gives_the_pixels_of_its_rgb_twin() {
    let scene = DynamicImage::ImageRgb8(scene(40, 30));
    let spec = PreprocessSpec::square(16);
    let rgba = run(&encode(scene.to_rgba8(), ImageFormat::Png), &spec);
    let rgb = run(&encode(scene, ImageFormat::Png), &spec);
    assert_eq!(rgba.pixels, rgb.pixels);
    assert_eq!(rgba.facts.perceptual_hash, rgb.facts.perceptual_hash);
    assert_ne!(rgba.facts.content_hash, rgb.facts.content_hash);
}

/// The same stored picture under every way of saying its orientation.
fn carriers(stored: &RgbImage, orientation: u8) -> Vec<(&'static str, Vec<u8>)> {
    let (width, height) = stored.dimensions();
    let prefixed = [b"Exif\0\0".to_vec(), exif(orientation)].concat();
    let xmp_segment = [b"http://ns.adobe.com/xap/1.0/\0".to_vec(), xmp(orientation)].concat();
    let xmp_text = [b"XML:com.adobe.xmp\0\0\0\0\0".to_vec(), xmp(orientation)].concat();
    let png = encode(stored.clone(), ImageFormat::Png);
    let webp = encode(stored.clone(), ImageFormat::WebP);
    let jpeg = jpeg(stored);
    vec![
        ("JPEG, EXIF", jpeg_with_app1(&jpeg, &prefixed)),
        ("JPEG, XMP", jpeg_with_app1(&jpeg, &xmp_segment)),
        ("PNG, eXIf", png_with_chunk(&png, b"eXIf", &exif(orientation), b"IDAT")),
        ("PNG, eXIf after the pixels", png_with_chunk(&png, b"eXIf", &exif(orientation), b"IEND")),
        ("PNG, XMP", png_with_chunk(&png, b"iTXt", &xmp_text, b"IDAT")),
        ("WebP, EXIF", webp_with_chunk(&webp, width, height, b"EXIF", &exif(orientation))),
        ("WebP, prefixed EXIF", webp_with_chunk(&webp, width, height, b"EXIF", &prefixed)),
        ("WebP, XMP", webp_with_chunk(&webp, width, height, b"XMP ", &xmp(orientation))),
    ]
}

#[test]
fn every_orientation_in_every_carrier_is_turned_upright() {
    let upright = scene(60, 40);
    for orientation in 1..=8 {
        let stored = stored_as(&upright, Orientation::from_exif(orientation).unwrap());
        for (name, bytes) in carriers(&stored, orientation) {
            let picture = run(&bytes, &original_size(60, 40));
            let what = format!("{name}, orientation {orientation}");
            assert_eq!((picture.facts.width, picture.facts.height), (60, 40), "{what}");
            let probed = probe(&bytes, &Limits::default()).unwrap();
            assert_eq!((probed.width, probed.height), (60, 40), "{what}");
            println!("{what}");
            assert_alike(&picture.pixels, upright.as_raw(), if name.starts_with("JPEG") { 4.0 } else { 0.0 });
        }
    }
}

#[test]
fn a_tiff_is_turned_by_its_own_tag() {
    let mut tiff = encode(stored_as(&scene(60, 40), Orientation::Rotate90), ImageFormat::Tiff);
    // The encoder writes no orientation; its little-endian resolution unit (296, SHORT, 1) makes room for one.
    let entry = [0x28, 1, 3, 0, 1, 0, 0, 0];
    let at = tiff.windows(8).position(|window| window == entry).unwrap();
    tiff[at..at + 10].copy_from_slice(&[0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0]);
    assert_close(&run(&tiff, &original_size(60, 40)).pixels, scene(60, 40).as_raw(), 0);
}

#[test]
fn turning_before_or_after_resizing_gives_the_same_picture_within_a_level() {
    let upright = scene(301, 200);
    for fit in [Fit::Stretch, Fit::Cover, Fit::Contain] {
        for filter in [Filter::Bilinear, Filter::CatmullRom, Filter::Lanczos3] {
            let spec = PreprocessSpec { width: 33, height: 48, fit, filter, ..PreprocessSpec::square(1) };
            let straight = run(&encode(upright.clone(), ImageFormat::Png), &spec);
            for orientation in 2..=8 {
                let stored = stored_as(&upright, Orientation::from_exif(orientation).unwrap());
                let png = encode(stored, ImageFormat::Png);
                let turned = run(&png_with_chunk(&png, b"eXIf", &exif(orientation), b"IDAT"), &spec);
                assert_close(&turned.pixels, &straight.pixels, 1);
                assert_eq!(turned.facts.perceptual_hash, straight.facts.perceptual_hash);
            }
        }
    }
}

#[test]
fn only_the_first_frame_of_an_animation_counts() {
    let mut bytes = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        for red in [250, 10] {
            let frame = image::RgbaImage::from_pixel(8, 8, image::Rgba([red, 0, 0, 255]));
            encoder.encode_frame(image::Frame::new(frame)).unwrap();
        }
    }
    assert_close(&run(&bytes, &original_size(1, 1)).pixels, &[250, 0, 0], 3);
}

#[test]
fn a_processed_picture_survives_its_png() {
    let spec = PreprocessSpec { width: 23, height: 17, ..PreprocessSpec::square(1) };
    let picture = run(&jpeg(&scene(100, 90)), &spec);
    assert_eq!(run(&encode_png(&picture.pixels, &spec), &spec).pixels, picture.pixels);
}

#[test]
fn hashes_of_the_same_scene_are_near_and_of_others_far() {
    let hash =
        |bytes: &[u8]| parse_perceptual_hash(&run(bytes, &PreprocessSpec::square(8)).facts.perceptual_hash).unwrap();
    let scene_hash = hash(&encode(scene(300, 200), ImageFormat::Png));
    for (name, bytes) in one_of_each(150, 100) {
        let distance = hamming(scene_hash, hash(&bytes));
        // The GIF has a palette of 256 colours.
        let near = if name == "gif" { 10 } else { 4 };
        assert!(distance <= near, "{name} of half the size differs in {distance} bits");
    }
    let brighter = DynamicImage::ImageRgb8(scene(300, 200)).brighten(12);
    assert!(hamming(scene_hash, hash(&encode(brighter, ImageFormat::Png))) <= 8);

    let mut upside_down = DynamicImage::ImageRgb8(scene(300, 200));
    upside_down.apply_orientation(Orientation::Rotate180);
    assert!(hamming(scene_hash, hash(&encode(upside_down, ImageFormat::Png))) >= 16);
    let checks = RgbImage::from_fn(300, 200, |x, y| image::Rgb([(x / 30 + y / 30) as u8 % 2 * 255; 3]));
    assert!(hamming(scene_hash, hash(&encode(checks, ImageFormat::Png))) >= 16);
}

#[test]
fn the_content_hash_is_sha_256() {
    assert_eq!(imaging::content_hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let png = encode(scene(5, 5), ImageFormat::Png);
    assert_eq!(run(&png, &PreprocessSpec::square(8)).facts.content_hash, imaging::content_hash(&png));
}

#[test]
fn a_hash_is_read_back_from_hex_only() {
    assert_eq!(parse_perceptual_hash("00000000000000ff"), Some(255));
    for nonsense in ["", "ff", "+000000000000001", "00000000000000fg", "000000000000000ff"] {
        assert_eq!(parse_perceptual_hash(nonsense), None, "{nonsense}");
    }
}

/// No format may be cut anywhere before its last pixels without an error.
#[test]
fn a_picture_cut_off_is_never_accepted() {
    for (name, bytes) in one_of_each(64, 48) {
        // What a format may lose without losing pixels: end markers, checksums, metadata after the pixels.
        let trailer = match name {
            "jpeg" => 3,
            "gif" => 3,
            name if name.starts_with("png") => 12 + 4 + 4 + 5,
            "tiff" => bytes.len() - 64 * 48 * 6,
            _ => 0,
        };
        for end in 1..bytes.len() - trailer {
            let error = refusal(&bytes[..end]);
            let expected = [ErrorCode::Truncated, ErrorCode::Undecodable, ErrorCode::UnsupportedFormat];
            assert!(expected.contains(&error.code()), "{name} cut at {end}: {error}");
        }
        let half = refusal(&bytes[..bytes.len() / 2]);
        assert_eq!(half.code(), ErrorCode::Truncated, "{name} cut in half: {half}");
    }
}

#[test]
fn a_jpeg_may_lack_its_end_marker_and_have_garbage_after_it() {
    let whole = jpeg(&scene(64, 48));
    let spec = PreprocessSpec::square(32);
    let expected = run(&whole, &spec).pixels;
    assert_eq!(run(&whole[..whole.len() - 2], &spec).pixels, expected);
    let followed = [&whole[..], b"\xFF\xD8\xFF\xE0 garbage \xFF\xDA"].concat();
    assert_eq!(run(&followed, &spec).pixels, expected);
}

#[test]
fn a_jpeg_cut_off_and_closed_again_is_refused() {
    let whole = jpeg(&scene(64, 48));
    for end in (whole.len() / 2..whole.len() - 16).step_by(7) {
        let closed = [&whole[..end - usize::from(whole[end - 1] == 0xFF)], &[0xFF, 0xD9]].concat();
        let error = refusal(&closed);
        assert!(matches!(error.code(), ErrorCode::Truncated | ErrorCode::Undecodable), "cut at {end}: {error}");
    }
}

#[test]
fn rare_jpegs_show_the_scene_whole_and_are_refused_cut() {
    for (name, bytes) in RARE_JPEGS {
        println!("{name}");
        assert_alike(&run(bytes, &original_size(48, 32)).pixels, scene(48, 32).as_raw(), 5.0);
        for end in bytes.len() / 2..bytes.len() - 4 {
            assert_eq!(refusal(&bytes[..end]).code(), ErrorCode::Truncated, "{name} cut at {end}");
        }
    }
}

#[test]
fn a_jpeg_that_lost_a_row_between_restart_markers_is_truncated() {
    let (_, whole) = RARE_JPEGS[1];
    let last_restart = whole.windows(2).rposition(|w| w[0] == 0xFF && (0xD0..=0xD7).contains(&w[1])).unwrap();
    let closed = [&whole[..last_restart], &[0xFF, 0xD9]].concat();
    assert_eq!(refusal(&closed).code(), ErrorCode::Truncated);
}

#[test]
fn a_thumbnail_with_its_own_end_marker_does_not_end_the_jpeg() {
    let whole = jpeg(&scene(64, 48));
    let thumbnail = [b"Exif\0\0".to_vec(), exif(1), jpeg(&scene(8, 6))].concat();
    let carrying = jpeg_with_app1(&whole, &thumbnail);
    assert_eq!(run(&carrying, &PreprocessSpec::square(32)).pixels, run(&whole, &PreprocessSpec::square(32)).pixels);
    assert_eq!(refusal(&carrying[..carrying.len() - 100]).code(), ErrorCode::Truncated);
}

#[test]
fn an_impossible_spec_is_unprocessable_before_the_picture_is_looked_at() {
    for side in [0, 1025] {
        let error = process(b"", &PreprocessSpec::square(side), &Limits::default()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unprocessable);
        assert!(error.detail().message.contains("expected 1 to 1024"), "{error}");
    }
}

#[test]
fn limits_are_checked_on_headers() {
    let png = encode(scene(64, 48), ImageFormat::Png);
    let limits = Limits::default();
    for tight in [
        Limits { file_bytes: png.len() - 1, ..limits },
        Limits { side: 63, ..limits },
        Limits { pixels: 64 * 48 - 1, ..limits },
        Limits { memory_bytes: 64 * 48 * 3 - 1, ..limits },
    ] {
        let error = process(&png, &PreprocessSpec::square(8), &tight).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge, "{error}");
    }
    let exact = Limits { file_bytes: png.len(), side: 64, pixels: 64 * 48, memory_bytes: 64 * 48 * 3 };
    assert!(process(&png, &PreprocessSpec::square(8), &exact).is_ok());
    assert!(probe(&png, &Limits { side: 63, ..limits }).is_err());
}
