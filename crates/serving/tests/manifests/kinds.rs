//! The JSON schemas of all kinds. They lie beside the project, in the folder that `FOVEA_KNATIVE_DATA` names or in
//! `../shared/knative`.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use boon::{Compiler, SchemaIndex, Schemas};
use serde::Deserialize;
use serde_json::Value;

/// Kinds that have no schema in the folder; the tests `alerts` and `agreement` read them.
const WITHOUT_SCHEMA: [&str; 3] = ["CiliumNetworkPolicy", "ClusterDomainClaim", "PrometheusRule"];

/// The schemas of all kinds.
pub struct Kinds {
    schemas: Schemas,
    indices: BTreeMap<(String, String), SchemaIndex>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    file: PathBuf,
    api_version: String,
    kind: String,
}

impl Kinds {
    /// Reads them; `None`, and a word about it, where they are not.
    pub fn read() -> Option<Self> {
        let shared = env::var_os("FOVEA_KNATIVE_DATA").map(PathBuf::from);
        let folder = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/knative"));
        let folder = folder.join("schemas");
        let Ok(index) = fs::read_to_string(folder.join("index.json")) else {
            eprintln!("SKIPPED: there are no schemas in {}; manifests were not held against them", folder.display());
            return None;
        };
        let entries: Vec<Entry> = serde_json::from_str(&index).unwrap();
        let (mut schemas, mut compiler, mut indices) = (Schemas::new(), Compiler::new(), BTreeMap::new());
        for (number, Entry { file, api_version, kind }) in entries.into_iter().enumerate() {
            let mut schema: Value = serde_json::from_str(&fs::read_to_string(folder.join(file)).unwrap()).unwrap();
            // Under names of our own, so that none is ever looked for elsewhere.
            schema.as_object_mut().unwrap().remove("$id");
            let location = format!("schema:///{number}.json");
            compiler.add_resource(&location, schema).unwrap();
            indices.insert((api_version, kind), compiler.compile(&location, &mut schemas).unwrap());
        }
        Some(Self { schemas, indices })
    }

    /// Holds an object against the schema of its kind.
    pub fn check(&self, object: &Value) -> Result<(), String> {
        let key = (text(object, "/apiVersion").to_owned(), text(object, "/kind").to_owned());
        if WITHOUT_SCHEMA.contains(&key.1.as_str()) {
            return Ok(());
        }
        let Some(index) = self.indices.get(&key) else { return Err(format!("no schema for {key:?}")) };
        self.schemas
            .validate(object, *index)
            .map_err(|error| format!("{} {}: {error}", key.1, text(object, "/metadata/name")))
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
