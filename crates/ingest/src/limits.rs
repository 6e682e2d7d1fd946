//! How much one upload may bring and cost.

/// Bounds on one upload. All of them count what really arrives, never what a header claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an archive as it is sent.
    pub archive_bytes: u64,
    /// Bytes of all files together, unpacked.
    pub unpacked_bytes: u64,
    /// Bytes of one file; a larger one is rejected, the rest goes on.
    pub file_bytes: u64,
    /// Files and folders in an upload.
    pub entries: usize,
    /// How many times larger than the archive its content may be, beyond [`Limits::inflation_free_bytes`].
    pub inflation_ratio: u64,
    /// Unpacked bytes up to which the ratio is not looked at: small archives of flat pictures compress well.
    pub inflation_free_bytes: u64,
    /// Classes in a dataset.
    pub classes: usize,
    /// Characters of a class name.
    pub class_name_chars: usize,
    /// Pixels of a picture's shorter side; a smaller picture is rejected.
    pub min_side: u32,
    /// Bytes of volume 1 that stay free.
    pub reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            archive_bytes: 4096 * MIB,
            unpacked_bytes: 8192 * MIB,
            file_bytes: 32 * MIB,
            entries: 200_000,
            inflation_ratio: 100,
            inflation_free_bytes: 256 * MIB,
            classes: 1000,
            class_name_chars: 100,
            min_side: 8,
            reserve_bytes: 256 * MIB,
        }
    }
}
