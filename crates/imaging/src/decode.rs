//! Format by format: headers, limits, decoder.

use std::{error::Error, io, io::Cursor};

use api::Format;
use image::{
    ImageDecoder, ImageError,
    codecs::{bmp::BmpDecoder, gif::GifDecoder, png::PngDecoder, tiff::TiffDecoder, webp::WebPDecoder},
    metadata::Orientation,
};

use crate::{
    ImagingError, Limits,
    color::{Raster, to_8_bit, try_zeros},
    jpeg, orientation, png, tiff, webp,
};

/// Enough for a 16-bit RGBA row of the longest side, and for any honest metadata.
const PNG_METADATA_BYTES: u64 = 16 << 20;

/// Pixels as stored, and how to turn them upright.
pub(crate) struct Decoded {
    pub raster: Raster,
    pub orientation: Orientation,
}

/// What the headers lead to: pixels can be had from it, and nothing large was allocated for it.
enum Opened<'a> {
    Jpeg(jpeg::Header<'a>),
    Tiff { header: Box<tiff::Header<'a>>, working_bytes: u64 },
    Other { decoder: Box<dyn ImageDecoder + 'a>, working_bytes: u64 },
}

/// Decodes the first picture of the file.
pub(crate) fn decode(bytes: &[u8], format: Format, limits: &Limits) -> Result<Decoded, ImagingError> {
    let (opened, orientation) = open(bytes, format, limits)?;
    let raster = match opened {
        Opened::Jpeg(header) => jpeg::decode(bytes, &header, limits)?,
        Opened::Tiff { header, working_bytes } => tiff::decode(*header, working_bytes, limits)?,
        Opened::Other { decoder, working_bytes } => {
            let (width, height) = decoder.dimensions();
            let color = decoder.color_type();
            let total = decoder.total_bytes();
            // Gray is spread to three channels afterwards, beside the decoded picture.
            let spread = if color.has_color() { 0 } else { u64::from(width) * u64::from(height) * 3 };
            limits.check_memory(total.saturating_add(working_bytes.max(spread)))?;
            let mut data = try_zeros(total)?;
            decoder.read_image_boxed(&mut data).map_err(|error| from_image(error, format))?;
            to_8_bit(color, width, height, data)
                .ok_or_else(|| ImagingError::undecodable(format, "its samples are of an unknown kind"))?
        }
    };
    Ok(Decoded { raster, orientation })
}

/// Upright width and height, from the headers alone.
pub(crate) fn upright_size(bytes: &[u8], format: Format, limits: &Limits) -> Result<(u32, u32), ImagingError> {
    let (opened, orientation) = open(bytes, format, limits)?;
    let (width, height) = match opened {
        Opened::Jpeg(header) => (header.frame.width, header.frame.height),
        Opened::Tiff { header, .. } => (header.width, header.height),
        Opened::Other { decoder, .. } => decoder.dimensions(),
    };
    Ok(orientation::upright_size(orientation, width, height))
}

/// Reads the headers and holds them against the limits of size.
fn open<'a>(bytes: &'a [u8], format: Format, limits: &Limits) -> Result<(Opened<'a>, Orientation), ImagingError> {
    let fault = |error| from_image(error, format);
    let reader = Cursor::new(bytes);
    let (mut decoder, orientation, working_bytes): (Box<dyn ImageDecoder + 'a>, _, _) = match format {
        Format::Jpeg => {
            let header = jpeg::header(bytes, limits)?;
            let orientation = header.metadata.orientation();
            return Ok((Opened::Jpeg(header), orientation));
        }
        Format::Png => {
            let (width, height) = png::size(bytes)?;
            limits.check_size(width, height)?;
            let mut png_limits = limits.for_image();
            // Bounds rows and metadata (an inflated colour profile, texts) but not the picture itself.
            png_limits.max_alloc = Some(PNG_METADATA_BYTES.min(limits.memory_bytes));
            let decoder = PngDecoder::with_limits(reader, png_limits).map_err(fault)?;
            (Box::new(decoder), png::metadata(bytes).orientation(), 0)
        }
        Format::WebP => {
            let container = webp::parse(bytes)?;
            limits.check_size(container.width, container.height)?;
            let decoder = WebPDecoder::new(reader).map_err(fault)?;
            let pixels = u64::from(container.width) * u64::from(container.height);
            (Box::new(decoder), container.metadata.orientation(), pixels * container.bytes_per_pixel)
        }
        Format::Gif => {
            let decoder = GifDecoder::new(reader).map_err(fault)?;
            let (width, height) = decoder.dimensions();
            // Decoded through a plane of colour indices.
            (Box::new(decoder), Orientation::NoTransforms, u64::from(width) * u64::from(height))
        }
        Format::Bmp => (Box::new(BmpDecoder::new(reader).map_err(fault)?), Orientation::NoTransforms, 0),
        Format::Tiff => {
            let jpeg_bytes = tiff::jpeg_bytes(bytes, limits)?;
            if let Some(header) = tiff::header(bytes)? {
                limits.check_size(header.width, header.height)?;
                let orientation = header.orientation;
                return Ok((Opened::Tiff { header: header.into(), working_bytes: jpeg_bytes }, orientation));
            }
            let mut decoder = TiffDecoder::new(reader).map_err(fault)?;
            let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
            // Decoded into a buffer of its own, with four channels where it is CMYK.
            let working = decoder.total_bytes().saturating_mul(4) / 3 + jpeg_bytes;
            (Box::new(decoder), orientation, working)
        }
    };
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(ImagingError::undecodable(format, "it claims a side of 0 pixels"));
    }
    limits.check_size(width, height)?;
    let mut image_limits = limits.for_image();
    if format == Format::Gif {
        // A frame may be larger than the screen; it is decoded beside it, a byte of index for four of colour.
        image_limits.max_alloc = Some(limits.memory_bytes.saturating_sub(decoder.total_bytes()) / 5 * 4);
    }
    decoder.set_limits(image_limits).map_err(fault)?;
    Ok((Opened::Other { decoder, working_bytes }, orientation))
}

fn from_image(error: ImageError, format: Format) -> ImagingError {
    match error {
        ImageError::Limits(source) => ImagingError::DecoderLimit { format, source: source.into() },
        error if ends_early(&error) => ImagingError::Truncated { format },
        error => ImagingError::undecodable(format, error),
    }
}

/// Whether an unexpected end of the file is at the root of it.
fn ends_early(error: &(dyn Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    causes.into_iter().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof)
            || matches!(cause.downcast_ref(), Some(gif::DecodingError::UnexpectedEof))
            || matches!(cause.downcast_ref(), Some(ImageError::IoError(io)) if io.kind() == io::ErrorKind::UnexpectedEof)
    })
}
