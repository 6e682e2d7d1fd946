//! What a fit costs, worked out beforehand from the networks it would take.

use api::train::{Family, Settings};

use super::{Fitting, HEAD_VARIANTS, Rows, Task};
use crate::{Result, data::Variant, familiarity, model::Network, recipe};

/// Cost of a fit in multiply-adds; no clock is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Computing the features of every picture of the task, if none of them is there.
    pub features: u64,
    /// All epochs.
    pub fit: u64,
    /// How many weights every step moves.
    pub weights: u64,
    /// Answering for every picture of the task, and for a test split of a fifth as many.
    pub answers: u64,
    /// One picture through the published network.
    pub per_picture: u64,
}

/// What a [`fit`](super::fit) on so many train pictures would cost.
///
/// # Errors
/// As [`fit`](super::fit)
pub fn work(task: &Task, settings: &Settings, n_train: usize) -> Result<Work> {
    let fitting = Fitting { task, settings, rows: Rows { train: &[], validation: &[] } };
    let n_classes = task.n_classes as i64;
    let n = task.pictures.len() as u64;
    let tested = n / 5;
    let looks = if settings.mirrored { 2 } else { 1 };
    // The subspace of a fit is found on pictures that the fitted network is shown once more.
    let shown = n_train.min(familiarity::MOST_PICTURES) as u64;
    let steps = u64::from(settings.epochs) * n_train as u64;
    let of = |network: &Network, frozen: u64, features: Option<u64>| {
        let trained = network.multiply_adds();
        let per_picture = looks * (frozen + trained);
        // What is answered from features is the trained part alone.
        let answer = if features.is_some() { looks * trained } else { per_picture };
        let passing = if features.is_some() { 0 } else { frozen };
        Work {
            features: features.unwrap_or(0),
            // Backwards costs about twice what forwards does.
            fit: (3 * trained + passing) * steps + shown * answer,
            weights: network.n_weights() as u64,
            answers: n * answer + tested * per_picture,
            per_picture,
        }
    };
    if !settings.family.has_backbone() {
        let side = i64::from(settings.input_size);
        return Ok(of(&recipe::network(settings, &[3, side, side], n_classes), 0, None));
    }
    let frozen = fitting.frozen()?;
    let one = frozen.multiply_adds();
    if settings.family != Family::FineTune {
        let variants = Variant::of(settings.augmentation, settings.seed, HEAD_VARIANTS).len() as u64;
        return Ok(of(&recipe::network(settings, &frozen.output(), n_classes), one, Some(one * n * variants)));
    }
    let (body, _) = frozen.backbone.trained(settings.input_size, settings.trained_blocks)?;
    let variants = fitting.cached_variants(&frozen);
    let features = variants.map(|variants| one * n * variants.len() as u64);
    let network = recipe::with_head(body, settings, n_classes);
    let mut work = of(&network, one, features);
    // Its head starts from the solution on the untouched backbone, which sees every picture and its mirror image.
    work.features += 2 * n * (one + network.multiply_adds());
    Ok(work)
}
