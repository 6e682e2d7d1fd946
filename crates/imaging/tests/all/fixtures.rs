//! Pictures made by code: encoders of the `image` crate, and metadata put in by hand.

use image::{DynamicImage, ExtendedColorType, ImageFormat, RgbImage, codecs::jpeg::JpegEncoder, metadata::Orientation};

/// A smooth picture whose four corners differ, so that no turned copy of it looks like another.
pub fn scene(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
        let disc = f32::hypot(u - 0.3, v - 0.25) < 0.18;
        let color = [40.0 + 190.0 * u, if disc { 230.0 } else { 60.0 + 90.0 * v }, 220.0 - 180.0 * v * u];
        image::Rgb(color.map(|value| value as u8))
    })
}

pub fn encode(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Quality 95.
pub fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.encode(picture, picture.width(), picture.height(), ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// One of each format, of the same scene; TIFF and PNG of 16 bits, GIF with its palette.
pub fn one_of_each(width: u32, height: u32) -> Vec<(&'static str, Vec<u8>)> {
    let scene = scene(width, height);
    let rgba = DynamicImage::ImageRgb8(scene.clone()).into_rgba8();
    vec![
        ("jpeg", jpeg(&scene)),
        ("png", encode(scene.clone(), ImageFormat::Png)),
        ("png rgba", encode(rgba.clone(), ImageFormat::Png)),
        ("webp", encode(scene.clone(), ImageFormat::WebP)),
        ("gif", encode(rgba, ImageFormat::Gif)),
        ("bmp", encode(scene.clone(), ImageFormat::Bmp)),
        ("tiff", encode(DynamicImage::ImageRgb8(scene).into_rgb16(), ImageFormat::Tiff)),
    ]
}

/// `scene(48, 32)` as JPEGs that no encoder at hand writes; `files/README.md` says how they were made.
pub const RARE_JPEGS: [(&str, &[u8]); 3] = [
    ("progressive", include_bytes!("files/progressive.jpg")),
    ("restarts", include_bytes!("files/restarts.jpg")),
    ("cmyk", include_bytes!("files/cmyk.jpg")),
];

/// The picture stored in such a way that this orientation brings it back upright.
pub fn stored_as(upright: &RgbImage, orientation: Orientation) -> RgbImage {
    let inverse = match orientation {
        Orientation::Rotate90 => Orientation::Rotate270,
        Orientation::Rotate270 => Orientation::Rotate90,
        // Reflections and the half turn undo themselves.
        other => other,
    };
    let mut stored = DynamicImage::ImageRgb8(upright.clone());
    stored.apply_orientation(inverse);
    stored.into_rgb8()
}

/// A TIFF structure that says nothing but the orientation.
pub fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0]);
    bytes
}

pub fn xmp(orientation: u8) -> Vec<u8> {
    format!(r#"<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>"#).into_bytes()
}

/// Puts an APP1 segment right after the start marker.
pub fn jpeg_with_app1(jpeg: &[u8], data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, data, &jpeg[2..]].concat()
}

/// Puts a chunk before the first `IDAT`, or before `IEND`.
pub fn png_with_chunk(png: &[u8], kind: &[u8; 4], data: &[u8], before: &[u8; 4]) -> Vec<u8> {
    let at = png.windows(4).position(|window| window == before).unwrap() - 4;
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    let checksum = crc32(&[kind.as_slice(), data].concat()).to_be_bytes();
    [&png[..at], &length, kind, data, &checksum, &png[at..]].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

/// Makes an extended file of a simple WebP, with the chunk after the picture.
pub fn webp_with_chunk(webp: &[u8], width: u32, height: u32, kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let flags = if kind == b"EXIF" { 0b1000 } else { 0b0100 };
    let [w, h] = [width - 1, height - 1].map(u32::to_le_bytes);
    let extended = [flags, 0, 0, 0, w[0], w[1], w[2], h[0], h[1], h[2]];
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let padding = vec![0; data.len() % 2];
        [kind.as_slice(), &u32::try_from(data.len()).unwrap().to_le_bytes(), data, &padding].concat()
    };
    let body = [b"WEBP".to_vec(), chunk(b"VP8X", &extended), webp[12..].to_vec(), chunk(kind, data)].concat();
    [b"RIFF".as_slice(), &u32::try_from(body.len()).unwrap().to_le_bytes(), &body].concat()
}
