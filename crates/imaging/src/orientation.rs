//! Which way is up: orientation from EXIF or XMP, and turning small rasters by it.

use image::metadata::Orientation;

/// Looks no further than this into an XMP packet.
const XMP_LOOK_BYTES: usize = 1 << 20;

/// Metadata a container carried, where it may say the orientation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Metadata<'a> {
    /// A TIFF structure, with or without `Exif\0\0` before it.
    pub exif: Option<&'a [u8]>,
    /// An XMP packet, uncompressed.
    pub xmp: Option<&'a [u8]>,
}

impl Metadata<'_> {
    /// EXIF decides; XMP is asked where EXIF says nothing valid.
    pub fn orientation(&self) -> Orientation {
        self.exif
            .and_then(|exif| Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)))
            .or_else(|| self.xmp.and_then(from_xmp))
            .unwrap_or(Orientation::NoTransforms)
    }
}

/// Finds `tiff:Orientation="6"` or `<tiff:Orientation>6</tiff:Orientation>`.
fn from_xmp(packet: &[u8]) -> Option<Orientation> {
    const NAME: &[u8] = b"tiff:Orientation";
    let packet = &packet[..packet.len().min(XMP_LOOK_BYTES)];
    let at = packet.windows(NAME.len()).position(|window| window == NAME)?;
    let mut value = packet[at + NAME.len()..]
        .iter()
        .skip_while(|byte| matches!(byte, b'=' | b'"' | b'\'' | b'>' | b' ' | b'\t' | b'\r' | b'\n'));
    let digit = value.next().filter(|byte| byte.is_ascii_digit())?;
    let ends = value.next().is_none_or(|byte| !byte.is_ascii_digit());
    ends.then(|| Orientation::from_exif(digit - b'0')).flatten()
}

/// Whether width and height change places.
pub(crate) fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

/// Width and height once the picture stands upright.
pub(crate) fn upright_size(orientation: Orientation, width: u32, height: u32) -> (u32, u32) {
    if swaps_sides(orientation) { (height, width) } else { (width, height) }
}

/// Turns `[height, width, 3]` upright.
pub(crate) fn turn(pixels: Vec<u8>, width: u32, height: u32, orientation: Orientation) -> Vec<u8> {
    if orientation == Orientation::NoTransforms {
        return pixels;
    }
    let raster = image::RgbImage::from_raw(width, height, pixels).expect("a raster has width × height × 3 bytes");
    let mut raster = image::DynamicImage::ImageRgb8(raster);
    raster.apply_orientation(orientation);
    raster.into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[track_caller]
    fn check_xmp(packet: &str, expected: Option<u8>) {
        assert_eq!(from_xmp(packet.as_bytes()).map(Orientation::to_exif), expected);
    }

    #[test]
    fn xmp_says_the_orientation_as_attribute_or_element() {
        check_xmp(r#"<rdf:Description tiff:Orientation="3"/>"#, Some(3));
        check_xmp("<rdf:Description tiff:Orientation = '8' />", Some(8));
        check_xmp("<tiff:Orientation>6</tiff:Orientation>", Some(6));
    }

    #[test]
    fn nonsense_in_xmp_is_no_orientation() {
        check_xmp("", None);
        check_xmp("tiff:Orientation", None);
        check_xmp(r#"tiff:Orientation="""#, None);
        check_xmp(r#"tiff:Orientation="0""#, None);
        check_xmp(r#"tiff:Orientation="9""#, None);
        check_xmp(r#"tiff:Orientation="33""#, None);
        check_xmp(r#"tiff:Orientation="up""#, None);
    }

    #[test]
    fn exif_wins_over_xmp() {
        let exif = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let xmp = br#"tiff:Orientation="3""#;
        let both = Metadata { exif: Some(exif), xmp: Some(xmp) };
        assert_eq!(both.orientation(), Orientation::Rotate90);
        let prefixed = [b"Exif\0\0".as_slice(), exif].concat();
        assert_eq!(Metadata { exif: Some(&prefixed), xmp: None }.orientation(), Orientation::Rotate90);
        assert_eq!(Metadata { exif: Some(b"MM"), xmp: Some(xmp) }.orientation(), Orientation::Rotate180);
        assert_eq!(Metadata::default().orientation(), Orientation::NoTransforms);
    }

    #[test]
    fn a_quarter_turn_moves_the_first_row_to_the_last_column() {
        let row = vec![1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4];
        assert_eq!(turn(row.clone(), 2, 2, Orientation::Rotate90), [3, 3, 3, 1, 1, 1, 4, 4, 4, 2, 2, 2]);
        assert_eq!(turn(row, 4, 1, Orientation::Rotate180), [4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1]);
    }
}
