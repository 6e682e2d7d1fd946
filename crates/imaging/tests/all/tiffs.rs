//! TIFFs beyond RGB: palettes, few bits, gray with transparency, YCbCr, JPEGs inside.

use std::time::{Duration, Instant};

use api::{Background, ErrorCode, PreprocessSpec};
use image::metadata::Orientation;
use imaging::{ImagingError, Limits, probe, process};
use tiff::encoder::{Compression, DeflateLevel, Predictor};

use crate::{fixtures::*, tiff_file::*};

const SIZE: (u16, u16) = (13, 7);
const LITTLE_ENDIAN: Layout = LAYOUTS[0];

fn original_size((width, height): (u16, u16)) -> PreprocessSpec {
    PreprocessSpec { width: width.into(), height: height.into(), ..PreprocessSpec::square(1) }
}

fn pixels(bytes: &[u8], size: (u16, u16)) -> Vec<u8> {
    let probed = probe(bytes, &Limits::default()).unwrap();
    assert_eq!((probed.width, probed.height), (size.0.into(), size.1.into()));
    process(bytes, &original_size(size), &Limits::default()).unwrap().pixels
}

fn refusal(bytes: &[u8]) -> ImagingError {
    process(bytes, &PreprocessSpec::square(8), &Limits::default()).unwrap_err()
}

/// As many colours as an index of so many bits reaches, all different.
fn colors(bits: usize) -> Vec<[u8; 3]> {
    (0..1_usize << bits).map(|at| [at as u8, (255 - at) as u8, (at * 37) as u8]).collect()
}

/// Indices that use the whole palette, in no order.
fn indices(bits: usize) -> Vec<u8> {
    let count = usize::from(SIZE.0) * usize::from(SIZE.1);
    (0..count).map(|at| (at * 101 % (1 << bits)) as u8).collect()
}

fn looked_up(bits: usize) -> Vec<u8> {
    let colors = colors(bits);
    indices(bits).into_iter().flat_map(|index| colors[usize::from(index)]).collect()
}

fn palette_of(bits: usize, layout: Layout, more: &[(u16, Values)]) -> Vec<u8> {
    let mut tags = vec![
        short(PHOTOMETRIC, &[3]),
        short(BITS_PER_SAMPLE, &[bits as u16]),
        color_map(&colors(bits), |value| value * 257),
    ];
    tags.extend_from_slice(more);
    layout.write(SIZE, &tags, &pack(&indices(bits), SIZE.0.into(), bits))
}

/// The scene as a JPEG, called what it is.
fn ycbcr_jpeg(width: u16, height: u16) -> Vec<u8> {
    let tags = [
        short(PHOTOMETRIC, &[6]),
        short(BITS_PER_SAMPLE, &[8, 8, 8]),
        short(SAMPLES_PER_PIXEL, &[3]),
        short(COMPRESSION, &[7]),
    ];
    LITTLE_ENDIAN.write((width, height), &tags, &jpeg(&scene(width.into(), height.into())))
}

/// One of each kind, for whoever damages files.
pub fn subjects() -> Vec<Vec<u8>> {
    vec![
        palette_of(4, LAYOUTS[0], &[]),
        palette_of(1, LAYOUTS[3], &[]),
        compressed_palette((13, 7), &colors(8), &indices(8), Compression::Lzw, Predictor::Horizontal),
        gray_alpha(&[200, 255, 40, 0], (2, 1), 8),
        ycbcr_jpeg(24, 16),
    ]
}

#[test]
fn palettes_of_every_depth_and_layout_show_their_colours() {
    for layout in LAYOUTS {
        for bits in [1, 2, 4, 8] {
            let tiff = palette_of(bits, layout, &[]);
            assert_eq!(pixels(&tiff, SIZE), looked_up(bits), "{bits} bits, {layout:?}");
        }
    }
}

#[test]
fn compressed_palettes_show_their_colours() {
    let compressions = [Compression::Lzw, Compression::Deflate(DeflateLevel::Fast), Compression::Packbits];
    for (at, compression) in compressions.into_iter().enumerate() {
        for predictor in [Predictor::None, Predictor::Horizontal] {
            let tiff = compressed_palette((13, 7), &colors(8), &indices(8), compression, predictor);
            assert_eq!(pixels(&tiff, SIZE), looked_up(8), "compression {at}, {predictor:?}");
        }
    }
}

#[test]
fn a_palette_means_the_same_repeated_shifted_and_in_8_bits() {
    let tags = [short(PHOTOMETRIC, &[3]), short(BITS_PER_SAMPLE, &[4])];
    let strip = pack(&indices(4), SIZE.0.into(), 4);
    let widen: [fn(u16) -> u16; 3] = [|value| value * 257, |value| value << 8, |value| value];
    for widen in widen {
        let tags = [&tags[..], &[color_map(&colors(4), widen)]].concat();
        assert_eq!(pixels(&LITTLE_ENDIAN.write(SIZE, &tags, &strip), SIZE), looked_up(4));
    }
}

#[test]
fn a_palette_that_does_not_fit_its_indices_is_refused() {
    for (bits, entries) in [(4, 8), (4, 32), (8, 2), (16, 256)] {
        let map = color_map(&colors(8)[..entries.min(256)], |value| value * 257);
        let tags = [short(PHOTOMETRIC, &[3]), short(BITS_PER_SAMPLE, &[bits]), map];
        let error = refusal(&LITTLE_ENDIAN.write(SIZE, &tags, &[0; 13 * 7 * 2]));
        assert_eq!(error.code(), ErrorCode::Undecodable, "{entries} colours for {bits} bits: {error}");
    }
    let error = refusal(&LITTLE_ENDIAN.write(SIZE, &[short(PHOTOMETRIC, &[3])], &[0; 14]));
    assert_eq!(error.code(), ErrorCode::Undecodable);
    assert!(error.detail().message.contains("palette has 0 values; expected 6"), "{}", error.detail().message);
}

#[test]
fn a_palette_is_turned_by_its_tag() {
    let (width, height) = SIZE;
    let tiff = palette_of(8, LITTLE_ENDIAN, &[short(ORIENTATION, &[6])]);
    let stored = image::RgbImage::from_raw(width.into(), height.into(), looked_up(8)).unwrap();
    // Whatever brings a picture back from a quarter to the left turns this one to the right.
    let upright = stored_as(&stored, Orientation::Rotate270);
    assert_eq!(pixels(&tiff, (height, width)), upright.into_raw());
}

#[test]
fn gray_of_two_and_four_bits_reaches_from_black_to_white() {
    for (bits, step) in [(2, 85), (4, 17)] {
        let strip = pack(&indices(bits), SIZE.0.into(), bits);
        for (photometric, invert) in [(1, 0), (0, 255)] {
            let tags = [short(PHOTOMETRIC, &[photometric]), short(BITS_PER_SAMPLE, &[bits as u16])];
            let expected: Vec<u8> = indices(bits).iter().flat_map(|sample| [(sample * step) ^ invert; 3]).collect();
            assert_eq!(pixels(&LITTLE_ENDIAN.write(SIZE, &tags, &strip), SIZE), expected, "{bits} bits");
        }
    }
}

fn gray_alpha(strip: &[u8], size: (u16, u16), bits: u16) -> Vec<u8> {
    let tags = [
        short(PHOTOMETRIC, &[1]),
        short(BITS_PER_SAMPLE, &[bits, bits]),
        short(SAMPLES_PER_PIXEL, &[2]),
        short(EXTRA_SAMPLES, &[2]),
    ];
    LITTLE_ENDIAN.write(size, &tags, strip)
}

#[test]
fn gray_with_transparency_shows_the_background() {
    let spec = PreprocessSpec { background: Background([0, 0, 200]), ..original_size((3, 1)) };
    let narrow = gray_alpha(&[90, 255, 90, 0, 100, 128], (3, 1), 8);
    let wide = [90_u16, 255, 90, 0, 100, 128].map(|sample| (sample * 257).to_le_bytes()).concat();
    for tiff in [narrow, gray_alpha(&wide, (3, 1), 16)] {
        let shown = process(&tiff, &spec, &Limits::default()).unwrap().pixels;
        assert_eq!(shown, [90, 90, 90, 0, 0, 200, 50, 50, 150]);
    }
}

#[test]
fn a_jpeg_in_a_tiff_shows_what_it_shows_by_itself() {
    let by_itself = process(&jpeg(&scene(48, 32)), &original_size((48, 32)), &Limits::default()).unwrap().pixels;
    let within = pixels(&ycbcr_jpeg(48, 32), (48, 32));
    let worst = by_itself.iter().zip(&within).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(1), "they differ by {worst:?}");
}

#[test]
fn plain_ycbcr_is_read_as_jpeg_files_mean_it_or_refused() {
    let with = |more: &[(u16, Values)]| {
        let mut tags = vec![
            short(PHOTOMETRIC, &[6]),
            short(BITS_PER_SAMPLE, &[8, 8, 8]),
            short(SAMPLES_PER_PIXEL, &[3]),
            short(YCBCR_SUBSAMPLING, &[1, 1]),
        ];
        tags.extend_from_slice(more);
        LITTLE_ENDIAN.write((3, 1), &tags, &[255, 128, 128, 76, 85, 255, 29, 255, 107])
    };
    let usual = [
        (YCBCR_COEFFICIENTS, Values::Rational(vec![299, 587, 114])),
        (REFERENCE_BLACK_WHITE, Values::Rational(vec![0, 255_000, 128_000, 255_000, 128_000, 255_000])),
    ];
    for tags in [&[][..], &usual] {
        assert_eq!(pixels(&with(tags), (3, 1)), [255, 255, 255, 254, 0, 0, 0, 0, 254]);
    }
    for unusual in [
        (YCBCR_COEFFICIENTS, Values::Rational(vec![213, 715, 72])),
        short(REFERENCE_BLACK_WHITE, &[16, 235, 128, 240, 128, 240]),
    ] {
        let error = refusal(&with(&[unusual]));
        assert_eq!(error.code(), ErrorCode::Undecodable);
        assert!(error.detail().message.contains("not that of JPEG files"), "{}", error.detail().message);
    }
}

#[test]
fn no_cut_is_accepted() {
    for tiff in subjects() {
        // The encoder's own files end with their directory; the others with their pixels, the JPEG with its end marker.
        let trailer = if tiff.ends_with(&[0xFF, 0xD9]) { 2 } else { 0 };
        for end in 1..tiff.len() - trailer {
            let error = refusal(&tiff[..end]);
            let expected = [ErrorCode::Truncated, ErrorCode::Undecodable, ErrorCode::UnsupportedFormat];
            assert!(expected.contains(&error.code()), "cut at {end} of {}: {error}", tiff.len());
        }
        let last = refusal(&tiff[..tiff.len() - trailer - 1]);
        assert_eq!(last.code(), ErrorCode::Truncated, "{last}");
    }
}

#[test]
fn limits_are_checked_on_the_directory() {
    let count = u64::from(SIZE.0) * u64::from(SIZE.1);
    let palette = palette_of(8, LITTLE_ENDIAN, &[]);
    let exact = Limits { side: SIZE.0.into(), pixels: count, memory_bytes: 4 * count, ..Limits::default() };
    assert!(process(&palette, &PreprocessSpec::square(8), &exact).is_ok());
    for tight in [
        Limits { side: exact.side - 1, ..exact },
        Limits { pixels: exact.pixels - 1, ..exact },
        Limits { memory_bytes: exact.memory_bytes - 1, ..exact },
    ] {
        let error = process(&palette, &PreprocessSpec::square(8), &tight).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge, "{error}");
    }
}

#[test]
fn a_jpeg_inside_that_claims_more_than_the_tiff_is_refused_before_any_memory_is_spent() {
    let mut strip = jpeg(&scene(8, 8));
    let frame = strip.windows(2).position(|window| window == [0xFF, 0xC0]).unwrap();
    strip[frame + 5..frame + 9].copy_from_slice(&[0x3F, 0xF0, 0x3F, 0xF0]);
    for photometric in [2, 6] {
        let tags = [
            short(PHOTOMETRIC, &[photometric]),
            short(BITS_PER_SAMPLE, &[8, 8, 8]),
            short(SAMPLES_PER_PIXEL, &[3]),
            short(COMPRESSION, &[7]),
        ];
        let start = Instant::now();
        let error = refusal(&LITTLE_ENDIAN.write((8, 8), &tags, &strip));
        assert_eq!(error.code(), ErrorCode::TooLarge, "{error}");
        assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    }
}
