//! Names, labels and annotations by which this house finds its objects again.

use sha2::{Digest, Sha256};

/// Label that says what a Job is for: [`TRAINER`], [`BAKE`] or [`BAKE_IMAGE`].
pub const COMPONENT: &str = "app.kubernetes.io/component";

/// Value of [`COMPONENT`] of trainer Jobs.
pub const TRAINER: &str = "trainer";

/// Value of [`COMPONENT`] of bake Jobs.
pub const BAKE: &str = "bake";

/// Value of [`COMPONENT`] of Jobs that bake an image without a model.
pub const BAKE_IMAGE: &str = "bake-image";

/// Label that says whose objects these are.
pub const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "fovea");

/// Annotation of a trainer Job: the run's id.
pub const RUN: &str = "fovea.dev/run";

/// Annotation of a trainer Job: which attempt at the run it is, from 1; absent from the first.
pub const ATTEMPT: &str = "fovea.dev/attempt";

/// Annotation of a bake Job: registry name of the model.
pub const MODEL: &str = "fovea.dev/model";

/// Annotation of a bake Job: the version.
pub const VERSION: &str = "fovea.dev/version";

/// Annotation of a bake Job: the part of the requests that the version is to get once it is baked.
pub const PERCENT: &str = "fovea.dev/percent";

/// Annotation of a revision's template: uid of the bake Job that it was made after.
pub const BAKED_BY: &str = "fovea.dev/baked-by";

/// Longest name of a Job: its pods carry it as the value of a label.
const MAX_NAME: usize = 63;

/// Name of the Job that works on a run, from 1 for the first attempt. It follows from both, so that an attempt never has two
/// Jobs.
pub fn train_job(run: &str, attempt: u32) -> String {
    match attempt {
        0 | 1 => dns_safe(&format!("train-{run}")),
        again => dns_safe(&format!("train-{run}-{again}")),
    }
}

/// Name of the Job that bakes a version.
pub fn bake_job(model: &str, version: u32) -> String {
    dns_safe(&format!("bake-{model}-v{version}"))
}

/// Name of the Job that bakes the image of a function without a model.
pub fn bake_image_job(function: &str, image: &str) -> String {
    dns_safe(&format!("bake-{function}-{}", short_hash(image)))
}

fn short_hash(text: &str) -> String {
    Sha256::digest(text).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// As it is where it can be an object's name; otherwise made fit, with a hash that keeps it apart from its likes.
fn dns_safe(name: &str) -> String {
    let fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.len() <= MAX_NAME && name.bytes().all(fit) && !name.ends_with('-') {
        return name.to_owned();
    }
    let hash = short_hash(name);
    let replaced = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let start: String = name.chars().map(replaced).take(MAX_NAME - hash.len() - 1).collect();
    format!("{}-{hash}", start.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_fit_stay_readable() {
        assert_eq!(train_job("20261123-064512-123", 1), "train-20261123-064512-123");
        assert_eq!(train_job("20261123-064512-123", 2), "train-20261123-064512-123-2");
        assert_eq!(bake_job("classifier", 3), "bake-classifier-v3");
    }

    #[test]
    fn other_names_are_made_fit_and_stay_apart() {
        let long = "x".repeat(100);
        let names =
            [bake_job("Pets", 1), bake_job("pets_", 1), bake_job("pets.", 1), bake_job(&long, 1), train_job("a-", 1)];
        for name in &names {
            assert!(name.len() <= MAX_NAME && !name.ends_with('-'), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
        }
        assert_ne!(names[1], names[2]);
        assert!(names[0].starts_with("bake-pets-v1-"), "{}", names[0]);
    }
}
