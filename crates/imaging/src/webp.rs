//! The WebP container: whether the file is whole, what its frames cost, and orientation.
//!
//! The decoder trusts the size inside a frame until it has paid for it; it is compared with the canvas here first.

use api::Format;

use crate::{ImagingError, orientation::Metadata};

/// What the chunk headers say.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    pub width: u32,
    pub height: u32,
    /// Bytes a decoder holds for each pixel of the canvas, at worst.
    pub bytes_per_pixel: u64,
    pub metadata: Metadata<'a>,
}

/// Size of one chunk's header, and of an `ANMF` chunk's fields before its frame.
const CHUNK_HEADER_BYTES: usize = 8;
const FRAME_HEADER_BYTES: usize = 16;

pub(crate) fn parse(bytes: &[u8]) -> Result<Container<'_>, ImagingError> {
    let whole = bytes.get(4..8).and_then(|size| {
        let size = usize::try_from(u32_le(size)?).ok()?;
        bytes.get(12..size.checked_add(CHUNK_HEADER_BYTES)?)
    });
    let body = whole.ok_or(ImagingError::Truncated { format: Format::WebP })?;

    let mut canvas = None;
    let mut metadata = Metadata::default();
    let mut bytes_per_pixel = 0;
    for (kind, data) in chunks(body) {
        match kind {
            b"VP8X" => canvas = canvas.or(extended_size(data)),
            b"EXIF" => metadata.exif = metadata.exif.or(Some(data)),
            b"XMP " => metadata.xmp = metadata.xmp.or(Some(data)),
            // Composed on a canvas of RGBA, then copied.
            b"ANMF" if bytes_per_pixel == 0 => {
                bytes_per_pixel = 10;
                for (kind, data) in chunks(data.get(FRAME_HEADER_BYTES..).unwrap_or_default()) {
                    let outer = canvas.ok_or_else(|| broken("an animation without a canvas"))?;
                    check_frame(kind, data, outer)?;
                    bytes_per_pixel += frame_bytes_per_pixel(kind);
                }
            }
            b"VP8 " | b"VP8L" | b"ALPH" => {
                let size = frame_size(kind, data);
                match canvas.or(size) {
                    Some(outer) => {
                        canvas = Some(outer);
                        check_frame(kind, data, outer)?;
                    }
                    None => return Err(broken("its frame has no header")),
                }
                bytes_per_pixel += frame_bytes_per_pixel(kind);
            }
            _ => {}
        }
    }
    let (width, height) = canvas.ok_or_else(|| broken("it holds no frame"))?;
    Ok(Container { width, height, bytes_per_pixel, metadata })
}

fn broken(reason: &str) -> ImagingError {
    ImagingError::undecodable(Format::WebP, reason)
}

fn check_frame(kind: &[u8; 4], data: &[u8], (width, height): (u32, u32)) -> Result<(), ImagingError> {
    match frame_size(kind, data) {
        Some((frame_width, frame_height)) if frame_width > width || frame_height > height => {
            Err(broken("its frame is larger than its canvas"))
        }
        _ => Ok(()),
    }
}

/// Planes or RGBA while decoding, and the picture that comes out.
fn frame_bytes_per_pixel(kind: &[u8; 4]) -> u64 {
    match kind {
        b"VP8 " => 6,
        b"VP8L" => 8,
        b"ALPH" => 6,
        _ => 0,
    }
}

fn extended_size(data: &[u8]) -> Option<(u32, u32)> {
    let [_, _, _, _, w0, w1, w2, h0, h1, h2, ..] = *data else { return None };
    Some((u32::from_le_bytes([w0, w1, w2, 0]) + 1, u32::from_le_bytes([h0, h1, h2, 0]) + 1))
}

fn frame_size(kind: &[u8; 4], data: &[u8]) -> Option<(u32, u32)> {
    match kind {
        b"VP8 " => {
            let [_, _, _, _, _, _, w0, w1, h0, h1, ..] = *data else { return None };
            Some((u32::from(u16::from_le_bytes([w0, w1]) & 0x3FFF), u32::from(u16::from_le_bytes([h0, h1]) & 0x3FFF)))
        }
        b"VP8L" => {
            let bits = u32_le(data.get(1..5)?)?;
            Some(((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1))
        }
        _ => None,
    }
}

fn u32_le(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|four| u32::from_le_bytes(*four))
}

/// Chunks in order; the last is cut where its container ends.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (kind, after) = rest.split_first_chunk::<4>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let data = &after[..length.min(after.len())];
        rest = after.get(length.checked_next_multiple_of(2)?..).unwrap_or_default();
        Some((kind, data))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap();
        let padding = vec![0; data.len() % 2];
        [kind.as_slice(), &length.to_le_bytes(), data, &padding].concat()
    }

    fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
        let body = chunks.concat();
        let length = u32::try_from(body.len() + 4).unwrap();
        [b"RIFF".as_slice(), &length.to_le_bytes(), b"WEBP", &body].concat()
    }

    /// Key frame header of a lossy frame.
    fn lossy(width: u16, height: u16) -> Vec<u8> {
        let header = [&[0, 0, 0, 0x9D, 1, 0x2A], width.to_le_bytes().as_slice(), &height.to_le_bytes()].concat();
        chunk(b"VP8 ", &header)
    }

    fn canvas(width: u8, height: u8) -> Vec<u8> {
        chunk(b"VP8X", &[0, 0, 0, 0, width - 1, 0, 0, height - 1, 0, 0])
    }

    #[test]
    fn metadata_follows_the_frame() {
        let file = file(&[canvas(9, 5), lossy(9, 5), chunk(b"EXIF", b"odd"), chunk(b"XMP ", b"packet")]);
        let container = parse(&file).unwrap();
        assert_eq!((container.width, container.height), (9, 5));
        assert_eq!(container.metadata.exif, Some(b"odd".as_slice()));
        assert_eq!(container.metadata.xmp, Some(b"packet".as_slice()));
    }

    #[test]
    fn a_frame_larger_than_its_canvas_is_refused() {
        for frame in [lossy(10_000, 5), chunk(b"ANMF", &[vec![0; 16], lossy(9, 10_000)].concat())] {
            let error = parse(&file(&[canvas(9, 5), frame])).unwrap_err();
            assert!(matches!(error, ImagingError::Undecodable { .. }), "{error}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let file = file(&[lossy(9, 5)]);
        for end in 12..file.len() {
            let error = parse(&file[..end]).unwrap_err();
            assert!(matches!(error, ImagingError::Truncated { .. }), "{end}: {error}");
        }
    }
}
