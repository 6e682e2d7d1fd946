//! Artefacts are made once, from what a revision mounts, and only those are mapped that the runtime made itself.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use api::functions::Phase;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    bench::{Bench, HOSTILE, Setup, components, service},
    function::Function,
    registry::{CURRENT, Registry},
};

/// What the hostile guest would be baked with, and an artefacts' folder of the test's own.
struct Kitchen {
    registry: Registry,
    artefacts: TempDir,
}

impl Kitchen {
    fn new() -> Self {
        Self { registry: Registry::with("one"), artefacts: tempfile::tempdir().unwrap() }
    }

    fn setup(&self) -> Setup {
        let function = Function::new(HOSTILE).mounting(CURRENT).ready_at("/health/ready");
        Setup::of(function).claim(self.registry.path()).artefacts(self.artefacts.path())
    }

    /// Every program that was made, by name, with what tells a file from one that replaced it. Kept functions are none:
    /// a bake may add to them.
    fn made(&self) -> BTreeMap<String, (u64, i64)> {
        let folders = fs::read_dir(self.artefacts.path()).unwrap().map(Result::unwrap);
        folders
            .filter(|entry| entry.path().is_dir())
            .filter(|entry| fs::read(entry.path().join("artefact")).unwrap().starts_with(b"\x7fELF"))
            .map(|entry| {
                let metadata = fs::metadata(entry.path().join("artefact")).unwrap();
                (entry.file_name().into_string().unwrap(), (metadata.ino(), metadata.ctime_nsec()))
            })
            .collect()
    }

    /// What revisions run, with the manifest that tells what it is made of.
    fn of_revisions(&self) -> Vec<(PathBuf, Value)> {
        let folders = self.made().into_keys().map(|name| self.artefacts.path().join(name));
        let with_manifests = folders.map(|folder| {
            let manifest = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
            (folder, manifest)
        });
        with_manifests.filter(|(_, manifest): &(_, Value)| manifest.get("component").is_some()).collect()
    }

    /// The only one of these.
    fn of_revision(&self) -> (PathBuf, Value) {
        let [only] = <[_; 1]>::try_from(self.of_revisions()).unwrap();
        only
    }
}

async fn serves(bench: &Bench, version: &str, baked: &str) {
    bench.get("/version").await.is_ok(version);
    bench.get("/baked").await.is_ok(baked);
}

#[tokio::test]
async fn a_version_is_baked_once_and_mapped_ever_after() {
    let kitchen = Kitchen::new();
    let bench = kitchen.setup().start().await;
    serves(&bench, "one", "baked").await;
    bench.stop().await;
    let (folder, manifest) = kitchen.of_revision();
    assert_eq!(manifest["initialised"], true, "{manifest}");
    assert_eq!(manifest["mounted"][0]["path"], kitchen.registry.path().join("one").to_str().unwrap(), "{manifest}");
    assert_eq!(manifest["mounted"][0]["at"], "/model", "{manifest}");
    assert_eq!(manifest["artefact_bytes"], fs::metadata(folder.join("artefact")).unwrap().len(), "{manifest}");
    assert_eq!(manifest["component_sha256"].as_str().unwrap().len(), 64, "{manifest}");

    let made = kitchen.made();
    let bench = kitchen.setup().start().await;
    serves(&bench, "one", "baked").await;
    assert_eq!(kitchen.made(), made);
}

#[tokio::test]
async fn a_damaged_artefact_is_baked_anew() {
    /// Puts another file in its place, so that whoever has mapped it keeps what he has.
    fn edit(file: &Path, edit: impl Fn(&mut Vec<u8>)) {
        let mut bytes = fs::read(file).unwrap();
        edit(&mut bytes);
        let aside = file.with_extension("aside");
        fs::write(&aside, bytes).unwrap();
        fs::rename(aside, file).unwrap();
    }
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("tampered with", |folder| edit(&folder.join("artefact"), |bytes| *bytes.last_mut().unwrap() ^= 1)),
        ("truncated", |folder| edit(&folder.join("artefact"), |bytes| bytes.truncate(bytes.len() / 2))),
        ("with another origin", |folder| edit(&folder.join("manifest.json"), |bytes| bytes.push(b' '))),
        ("unsigned", |folder| fs::remove_file(folder.join("mac")).unwrap()),
    ];
    let kitchen = Kitchen::new();
    kitchen.setup().start().await.stop().await;
    for (what, damage) in damages {
        let before = kitchen.made();
        let (folder, _) = kitchen.of_revision();
        damage(&folder);
        let bench = kitchen.setup().start().await;
        serves(&bench, "one", "baked").await;
        bench.stop().await;
        let after = kitchen.made();
        for (name, file) in &before {
            let is_damaged = folder.ends_with(name);
            assert_eq!(after[name] != *file, is_damaged, "{what}: {name}");
        }
        assert_eq!(after.len(), before.len(), "{what}");
    }
}

#[tokio::test]
async fn artefacts_of_another_key_are_baked_anew() {
    let kitchen = Kitchen::new();
    kitchen.setup().start().await.stop().await;
    let before = kitchen.made();
    fs::write(kitchen.artefacts.path().join("key"), [7; 32]).unwrap();
    let bench = kitchen.setup().start().await;
    serves(&bench, "one", "baked").await;
    let after = kitchen.made();
    assert!(after.keys().eq(before.keys()));
    assert!(after.iter().all(|(name, file)| before[name] != *file), "nothing that was there is trusted");
}

#[tokio::test]
async fn the_next_version_is_baked_from_functions_that_are_compiled_already() {
    let kitchen = Kitchen::new();
    let bench = kitchen.setup().start().await;
    let (first, _) = kitchen.of_revision();
    let before = kitchen.made();
    kitchen.registry.publish("two");
    bench.until(|status| service(status, HOSTILE).latest_ready.as_deref() == Some("hostile-00002")).await;
    serves(&bench, "two", "baked").await;
    let mut after = kitchen.made();
    for (name, file) in &before {
        assert_eq!(after.remove(name), Some(*file), "what was there is used as it is");
    }
    assert_eq!(after.len(), 1, "the next version's artefact");
    let (_, manifest) = kitchen.of_revisions().into_iter().find(|(folder, _)| *folder != first).unwrap();
    let count = |key: &str| manifest[key].as_u64().unwrap();
    assert!(4 * count("functions_compiled") < count("functions_reused"), "{manifest}");
}

async fn a_trap_in_the_initialisation_fails_the_revision_alone(setup: impl Fn(&Kitchen) -> Setup) {
    let kitchen = Kitchen::new();
    let bench = setup(&kitchen).start().await;
    kitchen.registry.publish("trap");
    let failed = bench.until_newest(HOSTILE, |revision| revision.phase == Phase::Failed).await;
    assert_eq!(failed.name, "hostile-00002");
    let reason = failed.reason.unwrap();
    assert!(reason.starts_with("cannot bake the component: "), "{reason}");
    assert!(reason.contains("unreachable"), "{reason}");
    let told = bench.service(HOSTILE).await;
    assert_eq!((told.ready, told.latest_ready.as_deref()), (false, Some("hostile-00001")), "{told:?}");
    assert!(told.reason.unwrap().contains(&reason));
    let answer = bench.get("/version").await;
    answer.is_ok("one");
    assert_eq!(answer.revision, "hostile-00001");

    kitchen.registry.publish("two");
    bench.until(|status| service(status, HOSTILE).latest_ready.as_deref() == Some("hostile-00003")).await;
    serves(&bench, "two", "baked").await;
}

#[tokio::test]
async fn an_initialisation_that_traps_fails_its_revision_and_the_one_before_serves() {
    a_trap_in_the_initialisation_fails_the_revision_alone(Kitchen::setup).await;
}

#[tokio::test]
async fn one_that_traps_in_a_process_of_its_own_does_the_same() {
    let program = env!("CARGO_BIN_EXE_fovea-runtime");
    a_trap_in_the_initialisation_fails_the_revision_alone(|kitchen| kitchen.setup().baker(program)).await;
}

#[tokio::test]
async fn a_baker_that_is_missing_is_told() {
    let kitchen = Kitchen::new();
    let bench = kitchen.setup().baker("/missing/baker").begin().await;
    let failed = bench.until_newest(HOSTILE, |revision| revision.phase == Phase::Failed).await;
    let reason = failed.reason.unwrap();
    assert!(reason.starts_with("cannot bake the component: No such file or directory"), "{reason}");
    assert_eq!(bench.get("/").await.status, 404, "as in a cluster, there is no route before there is a ready revision");
}

#[tokio::test]
async fn a_component_without_initialisation_is_simply_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let mut wasm = fs::read(components().join("guest_hostile.wasm")).unwrap();
    let (export, other) = (b"wizer-initialize", b"other-initialize");
    let places: Vec<usize> = (0..wasm.len() - export.len()).filter(|&at| wasm[at..].starts_with(export)).collect();
    assert!(!places.is_empty());
    for at in places {
        wasm[at..at + other.len()].copy_from_slice(other);
    }
    fs::write(folder.path().join("guest_hostile.wasm"), wasm).unwrap();

    let kitchen = Kitchen::new();
    let bench = kitchen.setup().components(folder.path()).start().await;
    serves(&bench, "one", "not baked").await;
    assert_eq!(kitchen.of_revision().1["initialised"], false);
}

#[tokio::test]
async fn a_gzipped_component_is_baked_like_a_plain_one() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = fs::read(components().join("guest_hostile.wasm")).unwrap();
    let packed = fs::File::create(folder.path().join("guest_hostile.wasm")).unwrap();
    let mut packer = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    packer.write_all(&wasm).unwrap();
    packer.finish().unwrap();

    let kitchen = Kitchen::new();
    let bench = kitchen.setup().components(folder.path()).start().await;
    serves(&bench, "one", "baked").await;
    assert_eq!(kitchen.of_revision().1["component_bytes"], wasm.len());
}

#[tokio::test]
async fn with_nothing_mounted_there_is_nothing_to_initialise() {
    let kitchen = Kitchen::new();
    let bench = Setup::of(Function::new(HOSTILE)).artefacts(kitchen.artefacts.path()).start().await;
    bench.get("/baked").await.is_ok("not baked");
    assert_eq!(kitchen.of_revision().1["initialised"], false);
}

#[tokio::test]
async fn a_version_without_its_file_is_looked_for_again_by_each_request() {
    let kitchen = Kitchen::new();
    fs::create_dir(kitchen.registry.path().join("late")).unwrap();
    let bench = Setup::of(Function::new(HOSTILE).mounting("late"))
        .claim(kitchen.registry.path())
        .artefacts(kitchen.artefacts.path())
        .start()
        .await;
    assert_eq!(bench.get("/version").await.status, 503);
    fs::write(kitchen.registry.path().join("late/version"), "late").unwrap();
    serves(&bench, "late", "not baked").await;
}
