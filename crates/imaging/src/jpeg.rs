//! JPEG: headers, whether the file is whole, and decoding.
//!
//! A JPEG decoder paints whatever is missing gray and reports success. So the markers are walked first, and the
//! decoder is handed exactly the data of the picture, closed by a run of one-bits: no Huffman table has a code of
//! ones only, so a scan that ends early meets an error there instead of inventing gray blocks.

use api::Format;
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use crate::{
    ImagingError, Limits,
    color::{Raster, try_copy, try_zeros},
    orientation::Metadata,
};

const SOF0: u8 = 0xC0;
const SOF2: u8 = 0xC2;
const DHT: u8 = 0xC4;
const JPG: u8 = 0xC8;
const DAC: u8 = 0xCC;
const SOF15: u8 = 0xCF;
const RST0: u8 = 0xD0;
const RST7: u8 = 0xD7;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DRI: u8 = 0xDD;
const APP1: u8 = 0xE1;
const TEM: u8 = 0x01;

const XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// Sixteen stuffed bytes of ones outlast every look-ahead; then the end marker.
const CLOSING: [u8; 34] = {
    let mut closing = [0; 34];
    let mut at = 0;
    while at < 32 {
        closing[at] = 0xFF;
        at += 2;
    }
    closing[32] = 0xFF;
    closing[33] = EOI;
    closing
};

/// What stands before the first scan.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    pub frame: Frame,
    pub metadata: Metadata<'a>,
    restart_interval: u32,
    /// Offset of the first scan's marker.
    first_scan: usize,
}

/// The frame header.
#[derive(Debug)]
pub(crate) struct Frame {
    pub width: u32,
    pub height: u32,
    progressive: bool,
    components: Vec<Component>,
}

#[derive(Clone, Copy, Debug)]
struct Component {
    id: u8,
    horizontal: u32,
    vertical: u32,
}

fn truncated() -> ImagingError {
    ImagingError::Truncated { format: Format::Jpeg }
}

fn broken(reason: &str) -> ImagingError {
    ImagingError::undecodable(Format::Jpeg, reason)
}

/// Reads up to the first scan; a size beyond the limits is refused as soon as it is read.
pub(crate) fn header<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Header<'a>, ImagingError> {
    let mut metadata = Metadata::default();
    let mut frame = None;
    let mut restart_interval = 0;
    let mut at = 0;
    loop {
        let (marker, marker_at) = next_marker(bytes, at).ok_or_else(truncated)?;
        at = marker_at + 2;
        match marker {
            SOI | TEM | RST0..=RST7 => continue,
            EOI => return Err(broken("it ends before any pixels")),
            SOS => {
                let frame = frame.ok_or_else(|| broken("it has no frame header"))?;
                return Ok(Header { frame, metadata, restart_interval, first_scan: marker_at });
            }
            _ => {}
        }
        let data = segment(bytes, at)?;
        at += 2 + data.len();
        match marker {
            DHT | JPG | DAC => {}
            SOF0..=SOF15 if frame.is_none() => {
                let parsed = parse_frame(marker, data)?;
                limits.check_size(parsed.width, parsed.height)?;
                frame = Some(parsed);
            }
            DRI => restart_interval = be16(data, 0).ok_or_else(|| broken("its restart interval is cut off"))?,
            APP1 if data.starts_with(b"Exif\0\0") => metadata.exif = metadata.exif.or(Some(data)),
            APP1 => metadata.xmp = metadata.xmp.or(data.strip_prefix(XMP_PREFIX)),
            _ => {}
        }
    }
}

fn parse_frame(marker: u8, data: &[u8]) -> Result<Frame, ImagingError> {
    let cut = || broken("its frame header is cut off");
    if marker > SOF2 {
        return Err(broken("it is lossless, hierarchical or arithmetic-coded; only Huffman-coded JPEG is decoded"));
    }
    let [precision, _, _, _, _, count, rest @ ..] = data else { return Err(cut()) };
    if *precision != 8 {
        return Err(broken("its samples do not have 8 bits"));
    }
    let (height, width) = (be16(data, 1).ok_or_else(cut)?, be16(data, 3).ok_or_else(cut)?);
    if width == 0 || height == 0 {
        return Err(broken("it claims a side of 0 pixels"));
    }
    if !matches!(count, 1 | 3 | 4) {
        return Err(broken("it has neither 1, 3 nor 4 components"));
    }
    let components = rest
        .chunks_exact(3)
        .take(usize::from(*count))
        .map(|fields| Component {
            id: fields[0],
            horizontal: u32::from(fields[1] >> 4),
            vertical: u32::from(fields[1] & 15),
        })
        .collect::<Vec<_>>();
    if components.len() != usize::from(*count) {
        return Err(cut());
    }
    if components.iter().any(|c| !(1..=4).contains(&c.horizontal) || !(1..=4).contains(&c.vertical)) {
        return Err(broken("it has impossible sampling factors"));
    }
    Ok(Frame { width, height, progressive: marker == SOF2, components })
}

/// Decodes a whole picture to RGB.
pub(crate) fn decode(bytes: &[u8], header: &Header, limits: &Limits) -> Result<Raster, ImagingError> {
    let Frame { width, height, .. } = header.frame;
    let scans = walk_scans(bytes, header)?;
    limits.check_memory(header.frame.decoding_bytes(&scans) + scans.end as u64)?;

    let mut input = try_copy(&bytes[..scans.end], scans.end + CLOSING.len())?;
    input.extend_from_slice(&CLOSING);
    let side = usize::try_from(limits.side).unwrap_or(usize::MAX);
    let options = DecoderOptions::default()
        .set_use_unsafe(false)
        .set_max_width(side)
        .set_max_height(side)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&input), options);
    let fault = |error| {
        if scans.closed { ImagingError::undecodable(Format::Jpeg, error) } else { truncated() }
    };
    // Sloppy headers are read; sloppy pixels are not.
    decoder.decode_headers().map_err(fault)?;
    if decoder.dimensions() != Some((width as usize, height as usize)) {
        return Err(broken("it has two frame headers that differ"));
    }
    decoder.set_options(options.set_strict_mode(true));
    let mut data = try_zeros(u64::from(width) * u64::from(height) * 3)?;
    decoder.decode_into(&mut data).map_err(fault)?;
    Ok(Raster { width, height, channels: 3, data })
}

/// Bytes that decoding holds at once, the decoded picture included.
pub(crate) fn decoding_bytes(bytes: &[u8], header: &Header) -> Result<u64, ImagingError> {
    let scans = walk_scans(bytes, header)?;
    Ok(header.frame.decoding_bytes(&scans) + scans.end as u64)
}

impl Frame {
    /// The picture, and the coefficients where they have to be kept until the last scan.
    fn decoding_bytes(&self, scans: &Scans) -> u64 {
        let (blocks_wide, blocks_high) = self.units();
        let units = u64::from(blocks_wide) * u64::from(blocks_high);
        let samples = |c: &Component| u64::from(c.horizontal) * u64::from(c.vertical) * 64;
        let picture = u64::from(self.width) * u64::from(self.height) * 3;
        let kept = if self.progressive || !scans.first_has_all {
            units * self.components.iter().map(samples).sum::<u64>() * 2
        } else {
            0
        };
        picture + kept
    }

    fn largest_factors(&self) -> (u32, u32) {
        let horizontal = self.components.iter().map(|c| c.horizontal).max().unwrap_or(1);
        let vertical = self.components.iter().map(|c| c.vertical).max().unwrap_or(1);
        (horizontal, vertical)
    }

    /// Minimum coded units in a row and in a column, of a scan of several components.
    fn units(&self) -> (u32, u32) {
        let (horizontal, vertical) = self.largest_factors();
        (self.width.div_ceil(8 * horizontal), self.height.div_ceil(8 * vertical))
    }

    /// Minimum coded units of a scan with these components.
    fn units_of_scan(&self, ids: &[u8]) -> u32 {
        let (wide, high) = match ids {
            [id] => {
                let (horizontal, vertical) = self.largest_factors();
                let of = self.components.iter().find(|c| c.id == *id);
                let (own_horizontal, own_vertical) = of.map_or((horizontal, vertical), |c| (c.horizontal, c.vertical));
                (
                    (self.width * own_horizontal).div_ceil(horizontal).div_ceil(8),
                    (self.height * own_vertical).div_ceil(vertical).div_ceil(8),
                )
            }
            _ => self.units(),
        };
        wide * high
    }
}

/// Where the pixels' data end.
#[derive(Debug)]
struct Scans {
    /// Offset after the last byte that belongs to the pixels.
    end: usize,
    /// Whether a marker follows there, so that nothing was cut off.
    closed: bool,
    first_has_all: bool,
}

/// Walks scan after scan to the end of the picture. What follows it (another picture, garbage) is not looked at.
fn walk_scans(bytes: &[u8], header: &Header) -> Result<Scans, ImagingError> {
    let mut restart_interval = header.restart_interval;
    let mut first_has_all = false;
    let mut scans = 0;
    let mut at = header.first_scan;
    loop {
        let Some((marker, marker_at)) = next_marker(bytes, at) else {
            // Scans that are still to come leave no gap behind: only a picture in one scan can do without the end.
            return if first_has_all && !header.frame.progressive {
                Ok(Scans { end: bytes.len(), closed: false, first_has_all })
            } else {
                Err(truncated())
            };
        };
        at = marker_at + 2;
        match marker {
            EOI => return Ok(Scans { end: marker_at, closed: true, first_has_all }),
            SOI | TEM | RST0..=RST7 => continue,
            _ => {}
        }
        // A picture in one scan is whole after it, whatever else a file holds.
        if scans == 1 && first_has_all && !header.frame.progressive {
            return Ok(Scans { end: marker_at, closed: true, first_has_all });
        }
        let data = segment(bytes, at)?;
        at += 2 + data.len();
        match marker {
            DRI => restart_interval = be16(data, 0).ok_or_else(|| broken("its restart interval is cut off"))?,
            SOS => {
                let ids: Vec<u8> = match data {
                    [count, rest @ ..] => rest.chunks_exact(2).take(usize::from(*count)).map(|f| f[0]).collect(),
                    [] => return Err(broken("a scan header is cut off")),
                };
                if scans == 0 {
                    first_has_all = ids.len() == header.frame.components.len();
                }
                scans += 1;
                let (end, restarts) = skip_entropy_coded(bytes, at);
                at = end;
                if restart_interval > 0 && restarts < header.frame.units_of_scan(&ids).div_ceil(restart_interval) - 1 {
                    return Err(truncated());
                }
            }
            _ => {}
        }
    }
}

/// Offset of the marker that ends the scan (or of the file's end), and the restart markers within.
fn skip_entropy_coded(bytes: &[u8], mut at: usize) -> (usize, u32) {
    let mut restarts = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xFF)) {
        at += found;
        match bytes.get(at + 1) {
            Some(0) => at += 2,
            Some(RST0..=RST7) => {
                restarts += 1;
                at += 2;
            }
            // Fill byte.
            Some(0xFF) => at += 1,
            Some(_) => return (at, restarts),
            None => break,
        }
    }
    (bytes.len(), restarts)
}

/// The next marker and the offset of its `FF`; bytes that belong to no segment are skipped, as every decoder does.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xFF)?;
        match *bytes.get(at + 1)? {
            0 => at += 2,
            0xFF => at += 1,
            marker => return Some((marker, at)),
        }
    }
}

/// A segment's data, without its length.
fn segment(bytes: &[u8], at: usize) -> Result<&[u8], ImagingError> {
    let length = be16(bytes, at).ok_or_else(truncated)?;
    if length < 2 {
        return Err(broken("a segment has an impossible length"));
    }
    bytes.get(at + 2..at + length as usize).ok_or_else(truncated)
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|two| u32::from(u16::from_be_bytes(*two)))
}
