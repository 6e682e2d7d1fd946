//! Finds the recordings and runs a check over all of one kind.

use std::fmt::Debug;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::Value;

/// Tells what was not compared.
#[expect(clippy::explicit_write, reason = "the test harness keeps what the print macros say of a test that passes")]
fn skipped(what: &str) {
    writeln!(io::stderr(), "SKIPPED: {what}").unwrap();
}

/// The folder of the recordings, if it is there.
fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("FOVEA_KNATIVE_DATA") {
        let folder = PathBuf::from(named);
        assert!(folder.is_dir(), "FOVEA_KNATIVE_DATA={} is not a folder", folder.display());
        return Some(folder);
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/knative");
    if !folder.is_dir() {
        skipped(&format!("no recordings of Knative in {}; set FOVEA_KNATIVE_DATA", folder.display()));
        return None;
    }
    Some(folder)
}

/// The texts of all files in the folder whose names end so; none without a folder.
fn texts(suffix: &str) -> Option<Vec<String>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder()?).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file() && path.to_string_lossy().ends_with(suffix));
    paths.sort();
    Some(paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect())
}

/// All vectors of all files that hold some.
fn vectors() -> Option<Vec<Value>> {
    let files = texts(".json")?.into_iter().map(|text| serde_json::from_str::<Value>(&text).unwrap());
    Some(files.filter_map(|mut file| file["vectors"].as_array_mut().map(std::mem::take)).flatten().collect())
}

/// All lines of all traces.
fn traces() -> Option<Vec<Value>> {
    let texts = texts(".jsonl")?;
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty());
    Some(lines.map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn a_folder_of_recordings_holds_some() {
    if let (Some(vectors), Some(traces)) = (vectors(), traces()) {
        assert!(!vectors.is_empty() || !traces.is_empty(), "{} has none", folder().unwrap().display());
    }
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
    if let Some(vectors) = vectors() {
        run(kind, &vectors, |vector| check(&vector["data"]));
    }
}

/// Runs a check over every trace of a kind and fails with all differences.
pub fn each_trace(kind: &str, check: impl Fn(&Value) -> Differences) {
    if let Some(traces) = traces() {
        run(kind, &traces, check);
    }
}

fn run(kind: &str, cases: &[Value], check: impl Fn(&Value) -> Differences) {
    let cases: Vec<&Value> = cases.iter().filter(|case| case["kind"] == kind).collect();
    if cases.is_empty() {
        skipped(&format!("the recordings hold nothing of the kind {kind}"));
    }
    let mut failures = Vec::new();
    for case in &cases {
        let Differences(differences) = check(case);
        if !differences.is_empty() {
            failures.push(format!("{}:\n    {}", case["id"].as_str().unwrap(), differences.join("\n    ")));
        }
    }
    assert!(failures.is_empty(), "{} of {} differ\n{}", failures.len(), cases.len(), failures.join("\n"));
    println!("{kind}: {} alike", cases.len());
}
