//! Replays recordings of the real Knative: every vector of the kinds that concern this crate must come out equal.
//!
//! The vectors lie beside the project, in the folder that `FOVEA_KNATIVE_DATA` names or in `../shared/knative`. Where
//! they are not, the tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod admission;
mod route;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Where the vectors lie, and whether somebody chose that place.
fn folder() -> (PathBuf, bool) {
    match std::env::var_os("FOVEA_KNATIVE_DATA") {
        Some(folder) => (folder.into(), true),
        None => (Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/knative"), false),
    }
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    kind: String,
    data: Value,
}

/// All vectors of all files; `None` where there are no files.
fn vectors(folder: &Path) -> Option<Vec<Vector>> {
    #[derive(Deserialize)]
    struct File {
        vectors: Vec<Vector>,
    }

    let mut files: Vec<PathBuf> = fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    let read = |file: &PathBuf| serde_json::from_str::<Value>(&fs::read_to_string(file).unwrap()).unwrap();
    let files: Vec<Value> = files.iter().map(read).filter(|file| file.get("vectors").is_some()).collect();
    let parse = |file: Value| serde_json::from_value::<File>(file).unwrap().vectors;
    (!files.is_empty()).then(|| files.into_iter().flat_map(parse).collect())
}

/// Runs `check` on every vector of a kind; fails with all differences.
#[track_caller]
fn replay<T: DeserializeOwned>(kind: &str, check: impl Fn(T) -> Result<(), String>) {
    let (folder, is_chosen) = folder();
    let Some(vectors) = vectors(&folder) else {
        eprintln!("SKIPPED: no vectors of Knative in {}; {kind} was not replayed", folder.display());
        return;
    };
    let vectors: Vec<Vector> = vectors.into_iter().filter(|vector| vector.kind == kind).collect();
    if vectors.is_empty() {
        // A folder that somebody chose may hold a part of the kinds only.
        assert!(is_chosen, "no vector of kind {kind} in {}", folder.display());
        eprintln!("SKIPPED: no vector of kind {kind} in {}", folder.display());
        return;
    }
    let mut differences = String::new();
    for vector in &vectors {
        let result = serde_json::from_value(vector.data.clone()).map_err(|error| error.to_string()).and_then(&check);
        if let Err(difference) = result {
            differences.push_str(&format!("\n{}: {difference}", vector.id));
        }
    }
    assert!(differences.is_empty(), "{} vectors of kind {kind}, with differences:{differences}", vectors.len());
}

/// Compares two values of a vector.
fn same<T: PartialEq + Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}\n  ours:   {ours:?}\n  theirs: {theirs:?}")) }
}

type Data = BTreeMap<String, String>;
