//! Reading manifests: a YAML file, a folder of them, or a stream of documents as `kustomize build` prints it.
//!
//! Services and the ConfigMaps with Knative's settings are kept; other objects are passed over, and named. Files are
//! not followed into folders below, and what a `kustomization.yaml` says is kustomize's business.

mod decode;
mod yaml;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::config::{Config, ConfigMapData};
use crate::resource::{API_VERSION, ObjectMeta, Service};

pub use decode::{DecodeError, decode};

/// Why manifests cannot be read.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// A file or folder cannot be read at all.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder has no manifest in it.
    #[error("{} holds no file that ends in .yaml, .yml or .json", .0.display())]
    Empty(PathBuf),
    /// What is wrong with the manifests, all at once, one a line.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// Something wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What; may be several lines.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// A line of a file. Displays as `file:line`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file, or what its reader calls the stream.
    pub file: String,
    /// The line, counted from 1; 0 if unknown.
    pub line: u64,
    /// The column, counted from 1; 0 if the whole line is meant.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().take_while(|number| *number > 0) {
            write!(f, ":{number}")?;
        }
        Ok(())
    }
}

/// A Service as its author wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceManifest {
    /// The Service, in the namespace `default` if it names none; without defaults, unchecked.
    pub service: Service,
    /// The same as written, for telling later what its author no longer writes.
    pub written: Arc<Value>,
    /// Where it was read.
    pub place: Place,
}

/// An object that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where it was read.
    pub place: Place,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.place, self.kind, self.name)
    }
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifests {
    /// The Services, in the order they were read.
    pub services: Vec<ServiceManifest>,
    /// Knative's settings: its defaults and what the ConfigMaps say.
    pub config: Config,
    /// Everything else.
    pub passed_over: Vec<PassedOver>,
}

impl Manifests {
    /// Reads a file, or all of a folder in the order of their names.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| ManifestError::Read { path, source }
        };
        let files = if path.is_dir() {
            let entries = path.read_dir().map_err(unreadable(path))?;
            let mut files = Vec::new();
            for entry in entries {
                let file = entry.map_err(unreadable(path))?.path();
                if is_manifest(&file) {
                    files.push(file);
                }
            }
            files.sort();
            files
        } else {
            vec![path.to_owned()]
        };
        if files.is_empty() {
            return Err(ManifestError::Empty(path.to_owned()));
        }
        let mut reader = Reader::default();
        for file in files {
            let text = std::fs::read_to_string(&file).map_err(unreadable(&file))?;
            reader.read(&file.display().to_string(), &text);
        }
        reader.finish()
    }

    /// Reads a stream of documents; errors call it `name`.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`]
    pub fn parse(name: &str, text: &str) -> Result<Self, ManifestError> {
        let mut reader = Reader::default();
        reader.read(name, text);
        reader.finish()
    }
}

fn is_manifest(file: &Path) -> bool {
    let has_ending = |ending: &str| file.extension().is_some_and(|found| found == ending);
    let is_kustomization = file.file_stem().is_some_and(|stem| stem.eq_ignore_ascii_case("kustomization"));
    file.is_file() && !is_kustomization && ["yaml", "yml", "json"].into_iter().any(has_ending)
}

#[derive(Default)]
struct Reader {
    manifests: Manifests,
    problems: Vec<Problem>,
    seen: BTreeMap<(&'static str, String), Place>,
}

/// What every object has.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Header {
    api_version: String,
    kind: String,
    metadata: HeaderMeta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HeaderMeta {
    name: String,
    namespace: String,
}

/// A ConfigMap.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigMap {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: ObjectMeta,
    data: ConfigMapData,
    #[serde(rename = "binaryData")]
    _binary_data: BTreeMap<String, String>,
    #[serde(rename = "immutable")]
    _immutable: bool,
}

impl Reader {
    fn read(&mut self, file: &str, text: &str) {
        let place = |line: u64, column: u64| Place { file: file.to_owned(), line, column };
        match yaml::documents(text) {
            Ok(documents) => {
                for document in documents {
                    self.add(document.value, place(document.line, 0));
                }
            }
            Err(error) => {
                let (line, column) = error.place.unwrap_or_default();
                self.problems.push(Problem { place: place(line, column), message: error.message });
            }
        }
    }

    fn add(&mut self, mut value: Value, place: Place) {
        decode::normalize(&mut value);
        let header = Header::deserialize(&value).unwrap_or_default();
        let Header { api_version, kind, metadata: HeaderMeta { name, namespace } } = header;
        match (api_version.as_str(), kind.as_str()) {
            ("", _) | (_, "") => {
                self.refuse(place, "not an object of Kubernetes: apiVersion, kind and metadata.name must be given");
            }
            ("v1", "List") => {
                if let Some(Value::Array(items)) = value.as_object_mut().and_then(|list| list.remove("items")) {
                    items.into_iter().for_each(|item| self.add(item, place.clone()));
                }
            }
            (API_VERSION, "Service") => {
                let namespace = if namespace.is_empty() { "default" } else { &namespace };
                if self.is_first("Service", format!("{namespace}/{name}"), &place) {
                    self.add_service(value, namespace, place);
                }
            }
            (other, "Service") if other.starts_with("serving.knative.dev/") => {
                self.refuse(place, format!("Service {name}: {other} is not supported, only {API_VERSION} is"));
            }
            ("v1", "ConfigMap") if Config::NAMES.contains(&name.as_str()) => {
                if self.is_first("ConfigMap", name.clone(), &place) {
                    self.add_config_map(value, &name, place);
                }
            }
            _ => self.manifests.passed_over.push(PassedOver { kind, name, place }),
        }
    }

    fn add_service(&mut self, mut written: Value, namespace: &str, place: Place) {
        if let Some(metadata) = written.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        match decode::<Service>(written.clone()) {
            Ok(service) => self.manifests.services.push(ServiceManifest { service, written: Arc::new(written), place }),
            Err(error) => {
                let name = written.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                self.refuse(place, format!("Service {namespace}/{name}: {error}"));
            }
        }
    }

    fn add_config_map(&mut self, value: Value, name: &str, place: Place) {
        let set = decode::<ConfigMap>(value)
            .map_err(|error| error.to_string())
            .and_then(|map| self.manifests.config.set(name, &map.data).map_err(|error| error.to_string()));
        if let Err(message) = set {
            self.refuse(place, format!("ConfigMap {name}: {message}"));
        }
    }

    /// Whether there was no such object yet; a second one is a problem.
    fn is_first(&mut self, kind: &'static str, name: String, place: &Place) -> bool {
        match self.seen.entry((kind, name)) {
            Entry::Vacant(entry) => {
                entry.insert(place.clone());
                true
            }
            Entry::Occupied(entry) => {
                let message = format!("{kind} {} is given twice, first at {}", entry.key().1, entry.get());
                self.refuse(place.clone(), message);
                false
            }
        }
    }

    fn refuse(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem { place, message: message.into() });
    }

    fn finish(self) -> Result<Manifests, ManifestError> {
        if self.problems.is_empty() { Ok(self.manifests) } else { Err(ManifestError::Invalid(self.problems)) }
    }
}

#[cfg(test)]
mod tests;
