//! Recognises what arrived by its first bytes; names and media types are never believed.

use api::Format;

use crate::ImagingError;

pub(crate) const SUPPORTED: &str = "JPEG, PNG, WebP, GIF, BMP and TIFF";

/// What people call the format.
pub(crate) const fn name(format: Format) -> &'static str {
    match format {
        Format::Jpeg => "JPEG",
        Format::Png => "PNG",
        Format::WebP => "WebP",
        Format::Gif => "GIF",
        Format::Bmp => "BMP",
        Format::Tiff => "TIFF",
    }
}

/// Tells the format by content; `None` for everything that is not decoded.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    match bytes {
        [0xFF, 0xD8, 0xFF, ..] => Some(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
        // Plain and Big TIFF, either byte order.
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Format::Tiff),
        _ if is_bmp(bytes) => Some(Format::Bmp),
        _ => None,
    }
}

/// [`sniff`], or an error that names what arrived where that is recognisable.
pub(crate) fn require(bytes: &[u8]) -> Result<Format, ImagingError> {
    sniff(bytes).ok_or_else(|| ImagingError::UnsupportedFormat { arrived: describe(bytes) })
}

/// Two letters are little evidence: the length of the header that follows them has to be one that exists.
fn is_bmp(bytes: &[u8]) -> bool {
    matches!(bytes, [b'B', b'M', ..])
        && bytes.get(14..18).is_some_and(|size| {
            matches!(u32::from_le_bytes([size[0], size[1], size[2], size[3]]), 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124)
        })
}

fn describe(bytes: &[u8]) -> &'static str {
    match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => describe_brand(brand),
        [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] | [0xFF, 0x0A, ..] => "a JPEG XL picture",
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xFF, 0x4F, 0xFF, 0x51, ..] => "a JPEG 2000 picture",
        [0, 0, 1, 0, count, 0, ..] if *count > 0 => "an icon (ICO)",
        [0, 0, 2, 0, count, 0, ..] if *count > 0 => "a cursor (CUR)",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop document (PSD)",
        [b'q', b'o', b'i', b'f', ..] => "a QOI picture",
        [0x76, 0x2F, 0x31, 0x01, ..] => "an OpenEXR picture",
        [b'D', b'D', b'S', b' ', ..] => "a DDS texture",
        [b'#', b'?', b'R', b'A', b'D', b'I', b'A', b'N', b'C', b'E', ..] => "a Radiance HDR picture",
        [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..] => "a Netpbm picture",
        [b'%', b'P', b'D', b'F', ..] => "a PDF document",
        [b'%', b'!', b'P', b'S', ..] => "a PostScript document",
        [b'P', b'K', 3, 4, ..] => "a ZIP archive",
        [0x1F, 0x8B, ..] => "a gzip file",
        [b'R', b'I', b'F', b'F', ..] => "a RIFF file other than WebP",
        [0x1A, 0x45, 0xDF, 0xA3, ..] => "a Matroska or WebM video",
        _ => describe_text(bytes),
    }
}

/// ISO base media files name their kind by a major brand.
fn describe_brand(brand: &[u8]) -> &'static str {
    match brand {
        [b'a', b'v', b'i', b'f' | b's', ..] => "an AVIF picture",
        [b'h', b'e', b'i' | b'v', ..] | [b'm', b'i' | b's', b'f', b'1', ..] => "a HEIC picture",
        [b'c', b'r', b'x', b' ', ..] => "a Canon raw picture (CR3)",
        _ => "a video",
    }
}

fn describe_text(bytes: &[u8]) -> &'static str {
    const LOOK: usize = 1024;
    let head = &bytes[..bytes.len().min(LOOK)];
    // A character cut in half at the end of the look is no fault of the text.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(fault) if head.len() == LOOK && fault.error_len().is_none() => {
            std::str::from_utf8(&head[..fault.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return "no picture of a format that is recognised",
    };
    let text = text.trim_start_matches('\u{FEFF}').trim_start().to_ascii_lowercase();
    if text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<head") {
        "an HTML page"
    } else if text.starts_with('<') && text.contains("<svg") {
        "an SVG drawing"
    } else if text.starts_with('<') {
        "an XML or HTML document"
    } else if text.starts_with(['{', '[']) {
        "a JSON document"
    } else if !text.is_empty() && !text.contains(|c: char| c.is_control() && !c.is_whitespace()) {
        "a text"
    } else {
        "no picture of a format that is recognised"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        match require(bytes) {
            Ok(format) => assert_eq!(name(format), expected),
            Err(ImagingError::UnsupportedFormat { arrived }) => assert_eq!(arrived, expected),
            Err(other) => panic!("unexpected error {other}"),
        }
    }

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        check(b"\xFF\xD8\xFF\xE0", "JPEG");
        check(b"\x89PNG\r\n\x1A\n", "PNG");
        check(b"RIFF\0\0\0\0WEBPVP8 ", "WebP");
        check(b"GIF89a", "GIF");
        check(b"II*\0", "TIFF");
        check(b"MM\0+", "TIFF");
        check(b"BM\0\0\0\0\0\0\0\0\0\0\0\0\x28\0\0\0", "BMP");
    }

    #[test]
    fn what_is_not_supported_is_named() {
        check(b"\0\0\0\x20ftypavif\0\0\0\0", "an AVIF picture");
        check(b"\0\0\0\x20ftypheic\0\0\0\0", "a HEIC picture");
        check(b"\0\0\0\x20ftypmif1\0\0\0\0", "a HEIC picture");
        check(b"\0\0\0\x20ftypisom\0\0\0\0", "a video");
        check(b"\0\0\x01\0\x02\0\x10\x10", "an icon (ICO)");
        check(b"%PDF-1.7", "a PDF document");
        check(b"RIFF\0\0\0\0WAVE", "a RIFF file other than WebP");
        check(b"\n <!DOCTYPE HTML><p>", "an HTML page");
        check(b"<?xml version='1.0'?><svg/>", "an SVG drawing");
        check(b"{\"images\": []}", "a JSON document");
        check("größer".as_bytes(), "a text");
        check(b"BMW is a maker of cars", "a text");
        check(b"\0\0\0\0", "no picture of a format that is recognised");
    }

    #[test]
    fn a_character_cut_in_half_leaves_a_text_a_text() {
        let mut text = "a".repeat(1023);
        text.push('ß');
        check(text.as_bytes(), "a text");
    }
}
