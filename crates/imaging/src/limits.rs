//! What a picture may cost before its pixels are decoded.

use crate::ImagingError;

/// Bounds that are checked on the headers, before any pixel is decoded.
///
/// The defaults fit a sandbox of 256 MiB: the file, the decoder's memory and the answer together stay below it.
/// They admit an ordinary 50 Mpx JPEG, a 27 Mpx progressive one and a 40 Mpx PNG with transparency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub file_bytes: usize,
    /// Pixels of the longer side. Beyond 65,535 the resampling weights of a strong reduction lose their precision.
    pub side: u32,
    /// Width × height.
    pub pixels: u64,
    /// Bytes that decoding may hold at once, the decoded picture included, the file excluded. Estimated, generously.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 32 << 20, side: 65_535, pixels: 64_000_000, memory_bytes: 160 << 20 }
    }
}

impl Limits {
    pub(crate) fn check_file(&self, bytes: usize) -> Result<(), ImagingError> {
        if bytes > self.file_bytes {
            return Err(ImagingError::FileTooLarge { bytes, limit: self.file_bytes });
        }
        Ok(())
    }

    pub(crate) fn check_size(&self, width: u32, height: u32) -> Result<(), ImagingError> {
        if width.max(height) > self.side {
            return Err(ImagingError::SideTooLong { width, height, limit: self.side });
        }
        if u64::from(width) * u64::from(height) > self.pixels {
            return Err(ImagingError::TooManyPixels { width, height, limit: self.pixels });
        }
        Ok(())
    }

    pub(crate) fn check_memory(&self, bytes: u64) -> Result<(), ImagingError> {
        if bytes > self.memory_bytes {
            return Err(ImagingError::TooMuchMemory { bytes, limit: self.memory_bytes });
        }
        Ok(())
    }

    /// The same bounds in the words of the `image` crate.
    pub(crate) fn for_image(&self) -> image::Limits {
        let mut limits = image::Limits::no_limits();
        limits.max_image_width = Some(self.side);
        limits.max_image_height = Some(self.side);
        limits.max_alloc = Some(self.memory_bytes);
        limits
    }
}
