//! The TIFFs that the `image` crate does not read: palettes, gray of 2 and 4 bits, gray with transparency, YCbCr; and
//! what the JPEGs inside of any TIFF cost.
//!
//! The `tiff` crate unpacks their samples and leaves their meaning to its caller. Palettes it refuses by their name, so
//! it is shown the file with the name changed: indices are read as gray, and looked up here.

mod renamed;

use std::io;

use ::tiff::{
    ColorType as TiffColor, TiffError, TiffResult,
    decoder::{ChunkType, Decoder, Limits as TiffLimits, ifd::Value},
    tags::{
        CompressionMethod, ExtraSamples, PhotometricInterpretation as Photometric, PlanarConfiguration, SampleFormat,
        Tag,
    },
};
use api::Format;
use image::{ColorType, metadata::Orientation};

use crate::{
    ImagingError, Limits,
    color::{Raster, to_8_bit, try_copy, try_zeros},
    jpeg,
};
use renamed::Renamed;

const YCBCR_COEFFICIENTS: Tag = Tag::Unknown(529);
const REFERENCE_BLACK_WHITE: Tag = Tag::Unknown(532);

/// What the first page is, and a decoder that stands before it.
pub(crate) struct Header<'a> {
    pub width: u32,
    pub height: u32,
    pub orientation: Orientation,
    kind: Kind,
    /// Bytes of a row as the file packs it.
    row_bytes: u64,
    decoder: Decoder<Renamed<'a>>,
}

/// What samples mean.
enum Kind {
    Palette { bits: u8, colors: Vec<[u8; 3]> },
    Gray { bits: u8 },
    GrayAlpha(ColorType),
    YCbCr,
}

impl Kind {
    /// Bytes that one pixel takes beside its packed samples, until it is RGB.
    fn converting_bytes_per_pixel(&self) -> u64 {
        match self {
            Self::Palette { .. } | Self::GrayAlpha(_) => 3,
            Self::Gray { .. } => 4,
            Self::YCbCr => 0,
        }
    }
}

/// Reads the header; `None` for what `image` is to read or refuse.
pub(crate) fn header(bytes: &[u8]) -> Result<Option<Header<'_>>, ImagingError> {
    let mut decoder = Decoder::new(Renamed::unchanged(bytes)).map_err(fault)?;
    let Some((kind, sample_bits)) = kind(&mut decoder)? else { return Ok(None) };
    if let Kind::Palette { bits, .. } = kind {
        decoder = as_gray(bytes, &mut decoder, bits)?;
    }
    let (width, height) = decoder.dimensions().map_err(fault)?;
    let orientation = tag(&mut decoder, Tag::Orientation)?.and_then(|value| Orientation::from_exif(value as u8));
    Ok(Some(Header {
        width,
        height,
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
        kind,
        row_bytes: (u64::from(width) * sample_bits).div_ceil(8),
        decoder,
    }))
}

/// Decodes the page; `working_bytes` are held beside it meanwhile.
pub(crate) fn decode(header: Header, working_bytes: u64, limits: &Limits) -> Result<Raster, ImagingError> {
    let Header { width, height, kind, row_bytes, mut decoder, .. } = header;
    let packed_bytes = row_bytes.saturating_mul(u64::from(height));
    let converting = u64::from(width) * u64::from(height) * kind.converting_bytes_per_pixel();
    limits.check_memory(packed_bytes.saturating_add(converting.max(working_bytes)))?;

    let mut tiff_limits = TiffLimits::default();
    tiff_limits.intermediate_buffer_size = usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX);
    decoder = decoder.with_limits(tiff_limits);
    let mut packed = try_zeros(packed_bytes)?;
    decoder.read_image_bytes(&mut packed).map_err(fault)?;

    let rows = packed.chunks_exact(row_bytes as usize);
    let raster = |channels, data| Raster { width, height, channels, data };
    match kind {
        Kind::Palette { bits, colors } => {
            let mut data = try_copy(&[], width as usize * height as usize * 3)?;
            data.extend(rows.flat_map(|row| samples(row, width, bits)).flat_map(|index| colors[usize::from(index)]));
            Ok(raster(3, data))
        }
        Kind::Gray { bits } => {
            let mut data = try_copy(&[], width as usize * height as usize)?;
            let step = u8::MAX / (u8::MAX >> (8 - bits));
            data.extend(rows.flat_map(|row| samples(row, width, bits)).map(|sample| sample * step));
            Ok(raster(1, data))
        }
        Kind::GrayAlpha(color) => {
            to_8_bit(color, width, height, packed).ok_or_else(|| broken("its samples are of an unknown kind"))
        }
        Kind::YCbCr => {
            packed.as_chunks_mut().0.iter_mut().for_each(|pixel| *pixel = ycbcr_to_rgb(*pixel));
            Ok(raster(3, packed))
        }
    }
}

/// Most bytes that decoding one of the JPEGs inside takes; 0 where the file holds none.
///
/// What such a JPEG says of its own size is not bound by what the TIFF says, so it is looked at before a decoder
/// believes it.
pub(crate) fn jpeg_bytes(bytes: &[u8], limits: &Limits) -> Result<u64, ImagingError> {
    let mut decoder = Decoder::new(Renamed::unchanged(bytes)).map_err(fault)?;
    if tag(&mut decoder, Tag::Compression)? != Some(u64::from(CompressionMethod::ModernJPEG.to_u16())) {
        return Ok(0);
    }
    let (offsets, lengths) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let (offsets, lengths) = (tags(&mut decoder, offsets)?, tags(&mut decoder, lengths)?);
    if lengths.iter().fold(0, |sum: u64, length| sum.saturating_add(*length)) > bytes.len() as u64 {
        return Err(broken("its JPEGs are longer than the file"));
    }
    let mut most = 0;
    for (offset, length) in offsets.into_iter().zip(lengths) {
        let inside = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let inside = inside.and_then(|(offset, length)| bytes.get(offset..)?.get(..length));
        let inside = inside.ok_or(ImagingError::Truncated { format: Format::Tiff })?;
        most = most.max(jpeg::decoding_bytes(inside, &jpeg::header(inside, limits)?)?);
    }
    Ok(most)
}

/// What the samples mean, and the bits of all samples of a pixel.
fn kind<R: io::Read + io::Seek>(decoder: &mut Decoder<R>) -> Result<Option<(Kind, u64)>, ImagingError> {
    let samples = tag(decoder, Tag::SamplesPerPixel)?.unwrap_or(1);
    let bits = tags(decoder, Tag::BitsPerSample)?.first().copied().unwrap_or(1);
    let one_plane = tag(decoder, Tag::PlanarConfiguration)?
        .is_none_or(|planes| planes == u64::from(PlanarConfiguration::Chunky.to_u16()));
    let unsigned =
        tags(decoder, Tag::SampleFormat)?.into_iter().all(|format| format == u64::from(SampleFormat::Uint.to_u16()));
    if !unsigned || (samples > 1 && !one_plane) {
        return Ok(None);
    }
    let photometric = tag(decoder, Tag::PhotometricInterpretation)?
        .and_then(|value| Photometric::from_u16(u16::try_from(value).ok()?));
    let kind = match (photometric, samples, bits) {
        (Some(Photometric::RGBPalette), 1, 1 | 2 | 4 | 8) => {
            let bits = bits as u8;
            Kind::Palette { bits, colors: palette(&tags(decoder, Tag::ColorMap)?, bits)? }
        }
        (Some(Photometric::BlackIsZero | Photometric::WhiteIsZero), 1, 2 | 4) => Kind::Gray { bits: bits as u8 },
        (Some(Photometric::BlackIsZero), 2, 8 | 16) => {
            // Samples that transparency was multiplied into already are left to be refused.
            if tags(decoder, Tag::ExtraSamples)? != [u64::from(ExtraSamples::UnassociatedAlpha.to_u16())] {
                return Ok(None);
            }
            Kind::GrayAlpha(if bits == 8 { ColorType::La8 } else { ColorType::La16 })
        }
        (Some(Photometric::YCbCr), 3, 8) => {
            check_usual(decoder, YCBCR_COEFFICIENTS, &[0.299, 0.587, 0.114])?;
            check_usual(decoder, REFERENCE_BLACK_WHITE, &[0.0, 255.0, 128.0, 255.0, 128.0, 255.0])?;
            Kind::YCbCr
        }
        _ => return Ok(None),
    };
    Ok(Some((kind, samples * bits)))
}

/// A decoder of the same page, whose palette is called gray.
fn as_gray<'a>(
    bytes: &'a [u8],
    decoder: &mut Decoder<Renamed<'a>>,
    bits: u8,
) -> Result<Decoder<Renamed<'a>>, ImagingError> {
    let renamed = decoder.ifd_pointer().and_then(|page| Renamed::palette_as_gray(bytes, page.0));
    let mut decoder = Decoder::new(renamed.ok_or_else(|| broken("its directory cannot be read"))?).map_err(fault)?;
    if decoder.colortype().map_err(fault)? != TiffColor::Gray(bits) {
        return Err(broken("its directory says twice what its samples mean"));
    }
    Ok(decoder)
}

/// All reds, then all greens, then all blues, of 16 bits each. The high byte counts: writers repeat the value in the low
/// byte or leave that 0. A map without high bytes was written with 8 bits.
fn palette(map: &[u64], bits: u8) -> Result<Vec<[u8; 3]>, ImagingError> {
    let colors = 1_usize << bits;
    if map.len() != 3 * colors {
        return Err(broken(format!("its palette has {} values; expected {}", map.len(), 3 * colors)));
    }
    let shift = if map.iter().any(|value| *value > 255) { 8 } else { 0 };
    Ok((0..colors).map(|at| [at, at + colors, at + 2 * colors].map(|at| (map[at] >> shift) as u8)).collect())
}

/// The samples of a packed row, the first in the highest bits.
fn samples(row: &[u8], width: u32, bits: u8) -> impl Iterator<Item = u8> {
    let in_byte = move |byte: &u8| {
        let byte = *byte;
        (0..8 / bits).map(move |at| byte << (at * bits) >> (8 - bits))
    };
    row.iter().flat_map(in_byte).take(width as usize)
}

/// Full-range BT.601, as in JPEG files, in steps of 2⁻¹⁶.
fn ycbcr_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let y = (i32::from(y) << 16) + (1 << 15);
    let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
    [y + 91_881 * cr, y - 22_554 * cb - 46_802 * cr, y + 116_130 * cb].map(|sum| (sum >> 16).clamp(0, 255) as u8)
}

/// Refuses numbers other than the usual ones, which every reader assumes.
fn check_usual<R: io::Read + io::Seek>(decoder: &mut Decoder<R>, tag: Tag, usual: &[f64]) -> Result<(), ImagingError> {
    let Some(value) = decoder.find_tag(tag).map_err(fault)? else { return Ok(()) };
    let values = if let Value::List(values) = value { values } else { vec![value] };
    let close = |(value, usual): (&Value, &f64)| match *value {
        Value::Rational(over, under) => (f64::from(over) / f64::from(under) - usual).abs() < 0.001,
        Value::Unsigned(whole) => f64::from(whole) == *usual,
        Value::Short(whole) => f64::from(whole) == *usual,
        _ => false,
    };
    if values.len() != usual.len() || !values.iter().zip(usual).all(close) {
        return Err(broken("its YCbCr is not that of JPEG files"));
    }
    Ok(())
}

fn tag<R: io::Read + io::Seek>(decoder: &mut Decoder<R>, tag: Tag) -> Result<Option<u64>, ImagingError> {
    optional(decoder.find_tag_unsigned(tag))
}

fn tags<R: io::Read + io::Seek>(decoder: &mut Decoder<R>, tag: Tag) -> Result<Vec<u64>, ImagingError> {
    optional(decoder.find_tag_unsigned_vec(tag)).map(Option::unwrap_or_default)
}

fn optional<T>(found: TiffResult<Option<T>>) -> Result<Option<T>, ImagingError> {
    found.map_err(fault)
}

fn broken(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImagingError {
    ImagingError::undecodable(Format::Tiff, reason)
}

fn fault(error: TiffError) -> ImagingError {
    match error {
        TiffError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ImagingError::Truncated { format: Format::Tiff }
        }
        TiffError::LimitsExceeded => ImagingError::DecoderLimit { format: Format::Tiff, source: error.into() },
        error => broken(error),
    }
}
