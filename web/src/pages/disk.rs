//! What takes how much of the disk.

use api::disk::DiskUse;
use askama::Template;

/// `/disk`.
#[derive(Template)]
#[template(path = "disk.html")]
pub struct Disk {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// What everything takes.
    pub used: DiskUse,
}

/// Things of one kind.
struct Part {
    name: &'static str,
    about: &'static str,
    count: Option<usize>,
    bytes: u64,
}

impl Disk {
    fn parts(&self) -> Vec<Part> {
        let used = &self.used;
        let part = |name, about, count, bytes| Part { name, about, count, bytes };
        let counted = |name, count, bytes| part(name, "", Some(count), bytes);
        vec![
            counted("Datasets", used.datasets.len(), used.datasets.iter().map(|one| one.bytes).sum()),
            counted("Runs", used.runs.len(), used.runs.iter().map(|one| one.bytes).sum()),
            counted("Model versions", used.versions.len(), used.versions.iter().map(|one| one.bytes).sum()),
            part("Backbones", "those that people added", None, used.backbones_bytes),
            part("Cache", "may be deleted at any time", None, used.cache_bytes),
            part("Artefacts", "functions baked for a cluster", None, used.artefacts_bytes),
            part("In the making", "uploads and others, and what crashes left of them", None, used.half_made_bytes),
        ]
    }
}
