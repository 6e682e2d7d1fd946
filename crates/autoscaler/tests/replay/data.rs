//! Finds the recordings and runs a check over all of one kind.

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// The folder of the recordings, if it is there.
fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("FOVEA_KNATIVE_DATA") {
        let folder = PathBuf::from(named);
        assert!(folder.is_dir(), "FOVEA_KNATIVE_DATA={} is not a folder", folder.display());
        return Some(folder);
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/knative");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no recordings of Knative in {}; set FOVEA_KNATIVE_DATA", folder.display());
    None
}

/// The texts of all files whose name has that beginning and end; none without a folder.
fn texts(prefix: &str, suffix: &str) -> Option<Vec<String>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder()?).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(prefix) && name.ends_with(suffix)
    });
    paths.sort();
    if paths.is_empty() {
        eprintln!("SKIPPED: the folder of recordings has no {prefix}*{suffix}");
    }
    Some(paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect())
}

/// Differences between what came out and what was recorded.
#[derive(Default)]
pub struct Differences(Vec<String>);

impl Differences {
    /// Notes a difference, if there is one.
    pub fn check<T: PartialEq + Debug>(&mut self, what: &str, actual: T, recorded: T) {
        if actual != recorded {
            self.0.push(format!("{what}: {actual:?}, recorded {recorded:?}"));
        }
    }

    /// Notes a difference of floats larger than a relative tolerance. All that are no number are alike.
    pub fn check_float(&mut self, what: &str, actual: f64, recorded: f64, tolerance: f64) {
        let alike = actual == recorded || actual.is_nan() && recorded.is_nan();
        if !alike && (actual - recorded).abs().partial_cmp(&(tolerance * recorded.abs())).is_none_or(|o| o.is_gt()) {
            self.0.push(format!("{what}: {actual:?}, recorded {recorded:?}"));
        }
    }

    /// Takes over differences found in a part.
    pub fn within(&mut self, part: &str, differences: Self) {
        self.0.extend(differences.0.into_iter().map(|difference| format!("{part}: {difference}")));
    }
}

/// Runs a check over every vector of a kind and fails with all differences.
pub fn each_vector(kind: &str, check: impl Fn(&Value) -> Differences) {
    let Some(texts) = texts("vectors", ".json") else { return };
    let mut vectors = Vec::new();
    for text in texts {
        let file: Value = serde_json::from_str(&text).unwrap();
        vectors.extend(file["vectors"].as_array().unwrap().iter().filter(|vector| vector["kind"] == kind).cloned());
    }
    run(kind, &vectors, |vector| check(&vector["data"]));
}

/// Runs a check over every line of the traces of that name and fails with all differences.
pub fn each_trace(name: &str, check: impl Fn(&Value) -> Differences) {
    let Some(texts) = texts(name, ".jsonl") else { return };
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty());
    let traces: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    run(name, &traces, check);
}

fn run(kind: &str, cases: &[Value], check: impl Fn(&Value) -> Differences) {
    if cases.is_empty() {
        eprintln!("SKIPPED: the recordings hold nothing of the kind {kind}");
    }
    let mut failures = Vec::new();
    for case in cases {
        let Differences(differences) = check(case);
        if !differences.is_empty() {
            failures.push(format!("{}:\n    {}", case["id"].as_str().unwrap(), differences.join("\n    ")));
        }
    }
    assert!(failures.is_empty(), "{} of {} differ\n{}", failures.len(), cases.len(), failures.join("\n"));
    eprintln!("{kind}: {} alike", cases.len());
}
