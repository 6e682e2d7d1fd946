//! Where every random choice of a run comes from: its seed.

use rand_pcg::Pcg64;

/// What random numbers are for; each purpose has its own stream, so that one never shifts another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// First weights.
    Weights = 1,
    /// Order of pictures.
    Order = 2,
    /// Changes of pictures.
    Augmentation = 3,
    /// Dropout masks.
    Dropout = 4,
    /// Changes of a picture before its features are computed.
    Variant = 5,
    /// Which pictures are mixed, and by how much.
    Mixing = 6,
    /// Parts of a cross-validation.
    Folds = 7,
}

/// The generator of one purpose in one epoch (or whatever else is counted), so that its choices do not depend on how
/// many came before.
pub fn generator(seed: u64, purpose: Purpose, epoch: u64) -> Pcg64 {
    Pcg64::new(u128::from(seed), u128::from(epoch) << 8 | purpose as u128)
}
