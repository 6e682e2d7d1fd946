//! The PNG container, as far as size and orientation go. Decoding is left to the `png` crate behind `image`.

use api::Format;

use crate::{ImagingError, orientation::Metadata};

const SIGNATURE_BYTES: usize = 8;
const XMP_KEYWORD: &[u8] = b"XML:com.adobe.xmp\0";

/// Width and height of the header chunk.
pub(crate) fn size(bytes: &[u8]) -> Result<(u32, u32), ImagingError> {
    let header = bytes.get(SIGNATURE_BYTES..).unwrap_or_default();
    if header.get(4..8).is_some_and(|kind| kind != b"IHDR") {
        return Err(ImagingError::undecodable(Format::Png, "its first chunk is not the header"));
    }
    let [_, _, _, _, _, _, _, _, w0, w1, w2, w3, h0, h1, h2, h3, ..] = *header else {
        return Err(ImagingError::Truncated { format: Format::Png });
    };
    Ok((u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3])))
}

/// `eXIf` and uncompressed XMP, wherever in the file they are.
pub(crate) fn metadata(bytes: &[u8]) -> Metadata<'_> {
    let mut metadata = Metadata::default();
    for (kind, data) in chunks(bytes) {
        match kind {
            b"eXIf" => metadata.exif = metadata.exif.or(Some(data)),
            b"iTXt" => metadata.xmp = metadata.xmp.or_else(|| xmp_text(data)),
            _ => {}
        }
    }
    metadata
}

/// After the keyword: compression flag, compression method, language, translated keyword, text.
fn xmp_text(data: &[u8]) -> Option<&[u8]> {
    let [0, _, rest @ ..] = data.strip_prefix(XMP_KEYWORD)? else { return None };
    rest.splitn(3, |byte| *byte == 0).nth(2)
}

/// Whole chunks in order; ends at the first that is cut off.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.get(SIGNATURE_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let data = after.get(..length)?;
        // The checksum may be cut off with nothing after it.
        rest = after.get(length.checked_add(4)?..).unwrap_or_default();
        Some((kind, data))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap();
        [&length.to_be_bytes(), kind.as_slice(), data, &[0; 4]].concat()
    }

    #[test]
    fn metadata_is_found_after_the_pixels_too() {
        let file = [
            vec![0; 8],
            chunk(b"IHDR", &[0, 0, 0, 7, 0, 0, 1, 0, 8, 2, 0, 0, 0]),
            chunk(b"IDAT", b"pixels"),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0tiff:Orientation=\"6\""),
            chunk(b"eXIf", b"exif"),
        ]
        .concat();
        assert_eq!(size(&file).unwrap(), (7, 256));
        assert_eq!(metadata(&file).exif, Some(b"exif".as_slice()));
        assert_eq!(metadata(&file).xmp, Some(b"tiff:Orientation=\"6\"".as_slice()));
        for end in 0..file.len() {
            let _ = metadata(&file[..end]);
        }
    }

    #[test]
    fn a_chunk_longer_than_the_file_ends_the_search() {
        let file = [vec![0; 8], vec![0xFF; 4], b"iTXt".to_vec(), vec![0; 100]].concat();
        assert!(metadata(&file).xmp.is_none());
        assert!(matches!(size(&file), Err(ImagingError::Undecodable { .. })));
    }

    #[test]
    fn compressed_xmp_is_left_alone() {
        assert!(xmp_text(b"XML:com.adobe.xmp\0\x01\0\0\0text").is_none());
        assert!(xmp_text(b"XML:com.adobe.xmp\0").is_none());
    }
}
