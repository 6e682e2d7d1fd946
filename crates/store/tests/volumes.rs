//! What is published stays whole, is found again and is noticed when damaged.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod made;

use std::{fs, path::Path};

use api::{
    PreprocessSpec,
    dataset::Split,
    train::{Hyperparameters, Progress, RunState},
};
use made::{info, manifest, publish, record, results, volumes};
use store::{House, ModelDraft, StoreError};

#[test]
fn a_dataset_comes_back_as_it_was_published() {
    let (_dir, volumes) = volumes();
    let published = publish(&volumes, &[5, 0, 3, 1, 4, 2, 6]);
    assert!(!published.existed);
    let dataset = volumes.dataset(&published.dataset.manifest.id).unwrap();
    dataset.verify().unwrap();
    assert_eq!(dataset.manifest.pictures, 7);
    let train = dataset.pixels(Split::Train).unwrap();
    assert_eq!(train.labels(), [0, 1, 0]);
    assert_eq!((0..3).map(|row| train.image(row).to_vec()).collect::<Vec<_>>(), [[0; 12], [3; 12], [6; 12]]);
    let names: Vec<_> = dataset.pictures().unwrap().into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["0.png", "3.png", "6.png", "1.png", "4.png", "2.png", "5.png"]);
    assert_eq!(dataset.manifest.classes.iter().map(|c| c.total()).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(fs::read_dir(volumes.staging1()).unwrap().count(), 0, "nothing stays in staging");
}

#[test]
fn the_pixel_file_is_plain_safetensors_for_any_reader() {
    let (_dir, volumes) = volumes();
    let dataset = publish(&volumes, &[0, 3]).dataset;
    let bytes = fs::read(dataset.dir.join("pixels.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("train.images").unwrap().shape(), [2, 2, 2, 3]);
    assert_eq!(tensors.tensor("test.images").unwrap().shape(), [0, 2, 2, 3]);
    let labels = tensors.tensor("train.labels").unwrap();
    assert_eq!(labels.data(), [0i64.to_le_bytes(), 1i64.to_le_bytes()].concat());
    assert_eq!((labels.data().as_ptr() as usize - bytes.as_ptr() as usize) % 8, 0, "labels are aligned in the file");
}

#[test]
fn the_same_pictures_in_any_order_are_one_dataset() {
    let (_dir, volumes) = volumes();
    let first = publish(&volumes, &[0, 1, 2, 3]);
    let again = publish(&volumes, &[3, 1, 0, 2]);
    assert!(again.existed);
    assert_eq!(first.dataset.manifest, again.dataset.manifest);
    let other = publish(&volumes, &[0, 1, 2, 4]);
    assert_ne!(first.dataset.manifest.id, other.dataset.manifest.id);
    assert_eq!(volumes.datasets().unwrap().len(), 2);
}

#[test]
fn drafts_that_make_no_sense_are_refused_and_leave_nothing() {
    let (_dir, volumes) = volumes();
    let mut draft = volumes.draft_dataset(PreprocessSpec::square(2)).unwrap();
    assert!(matches!(draft.push(&[0; 11]), Err(StoreError::Draft(_))));
    let row = draft.push(&[0; 12]).unwrap();
    let twice = vec![(row, record(1, 0, Split::Train)), (row, record(1, 0, Split::Test))];
    assert!(draft.publish(info(&["a", "b"]), twice).unwrap_err().to_string().contains("chosen twice"));
    let draft = volumes.draft_dataset(PreprocessSpec::square(2)).unwrap();
    assert!(draft.publish(info(&["a", "b"]), vec![]).is_err());
    assert!(volumes.draft_dataset(PreprocessSpec::square(0)).is_err());
    assert_eq!(fs::read_dir(volumes.staging1()).unwrap().count(), 0);
    assert!(volumes.datasets().unwrap().is_empty());
}

fn flip_byte(path: &Path, from_end: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - 1 - from_end;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_damaged_file_of_a_dataset_is_noticed() {
    for (file, from_end) in [("pixels.safetensors", 0), ("pictures.jsonl", 20)] {
        let (_dir, volumes) = volumes();
        let dataset = publish(&volumes, &[0, 1, 2, 3]).dataset;
        flip_byte(&dataset.dir.join(file), from_end);
        assert!(matches!(dataset.verify(), Err(StoreError::Damaged { .. })), "{file}");
    }
    let (_dir, volumes) = volumes();
    let dataset = publish(&volumes, &[0, 1, 2, 3]).dataset;
    let elsewhere = dataset.dir.with_file_name("ds-0000000000000000");
    fs::rename(&dataset.dir, &elsewhere).unwrap();
    let moved = volumes.dataset("ds-0000000000000000").unwrap();
    assert!(matches!(moved.verify(), Err(StoreError::Damaged { .. })), "a folder of another name");
}

#[test]
fn two_runs_that_publish_at_once_get_different_versions() {
    let (_dir, volumes) = volumes();
    let mut numbers: Vec<u32> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..8u8)
            .map(|n| {
                let volumes = &volumes;
                scope.spawn(move || {
                    let draft = ModelDraft { manifest: manifest(), onnx: &[n; 100], results: &results() };
                    let version = volumes.publish_model(draft).unwrap();
                    assert_eq!(fs::read(version.onnx()).unwrap(), [n; 100]);
                    version.manifest.version
                })
            })
            .collect();
        publishers.into_iter().map(|p| p.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    for version in volumes.versions("classifier").unwrap() {
        version.verify().unwrap();
        assert_eq!(version.results().unwrap(), results());
    }
}

#[test]
fn the_pointer_is_always_a_published_version() {
    let (_dir, volumes) = volumes();
    assert_eq!(volumes.current("classifier").unwrap(), None);
    for n in 1..=2 {
        let draft = ModelDraft { manifest: manifest(), onnx: &[n; 10], results: &results() };
        volumes.publish_model(draft).unwrap();
    }
    assert_eq!(volumes.current("classifier").unwrap(), None, "publishing alone puts nothing into use");
    volumes.set_current("classifier", 2).unwrap();
    volumes.set_current("classifier", 1).unwrap();
    assert_eq!(volumes.current("classifier").unwrap(), Some(1));
    assert!(matches!(volumes.set_current("classifier", 3), Err(StoreError::NotFound { .. })));
    assert_eq!(volumes.current("classifier").unwrap(), Some(1));
    assert_eq!(fs::read(volumes.current_link("classifier").join("model.onnx")).unwrap(), [1; 10]);
    assert_eq!(volumes.model_names().unwrap(), ["classifier"]);
}

#[test]
fn folders_that_nobody_could_have_published_are_passed_over() {
    let (dir, volumes) = volumes();
    let draft = ModelDraft { manifest: manifest(), onnx: b"a", results: &results() };
    volumes.publish_model(draft).unwrap();
    for folder in ["lost+found", ".hidden", "two words"] {
        fs::create_dir(dir.path().join("models").join(folder)).unwrap();
    }
    assert_eq!(volumes.model_names().unwrap(), ["classifier"]);
}

#[test]
fn a_damaged_or_renamed_version_is_noticed() {
    let (_dir, volumes) = volumes();
    let publish =
        || volumes.publish_model(ModelDraft { manifest: manifest(), onnx: &[7; 100], results: &results() }).unwrap();
    let first = publish();
    flip_byte(&first.onnx(), 50);
    assert!(matches!(first.verify(), Err(StoreError::Damaged { .. })));
    let second = publish();
    fs::rename(&second.dir, second.dir.with_file_name("v9")).unwrap();
    assert!(volumes.version("classifier", 9).unwrap().verify().unwrap_err().to_string().contains("manifest says"));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let (_dir, volumes) = volumes();
    for name in ["", "..", "../x", "a/b", ".staging", "a b", "ä"] {
        assert!(matches!(volumes.dataset(name), Err(StoreError::BadName { .. })), "{name:?}");
        assert!(matches!(volumes.run(name), Err(StoreError::BadName { .. })), "{name:?}");
        assert!(matches!(volumes.version(name, 1), Err(StoreError::BadName { .. })), "{name:?}");
    }
}

#[test]
fn a_running_run_without_a_live_process_waits_for_another_and_fails_after_the_last() {
    let (_dir, volumes) = volumes();
    let run = volumes.create_run("ds-1", "classifier", Hyperparameters::default()).unwrap();
    assert_eq!(run.status().unwrap().state, RunState::Queued);
    let lock = run.lock().unwrap();
    assert!(matches!(run.lock(), Err(StoreError::Busy(_))));
    let mut status = run.written_status().unwrap();
    status.state = RunState::Running;
    run.write_status(&status).unwrap();
    assert_eq!(run.status().unwrap().state, RunState::Running);
    assert!(matches!(run.bury(RunState::Failed, "no"), Err(StoreError::Busy(_))), "the living are not buried");
    drop(lock);
    assert_eq!(run.status().unwrap().state, RunState::Queued);
    status.attempts = store::MAX_ATTEMPTS;
    run.write_status(&status).unwrap();
    assert_eq!(run.status().unwrap().state, RunState::Failed);
    assert_eq!(run.written_status().unwrap().state, RunState::Running, "looking changes nothing");
    assert_eq!(run.bury(RunState::Failed, "killed").unwrap().reason.as_deref(), Some("killed"));
    assert_eq!(run.bury(RunState::Cancelled, "late").unwrap().state, RunState::Failed, "an end is final");
}

#[test]
fn progress_is_read_in_whole_lines_only() {
    let (_dir, volumes) = volumes();
    let run = volumes.create_run("ds-1", "classifier", Hyperparameters::default()).unwrap();
    assert_eq!(run.progress_from(0).unwrap(), (vec![], 0));
    let stage = |done| Progress::Stage { stage: "features".into(), done, total: 9, seconds: 0.5 };
    run.append_progress(&stage(1)).unwrap();
    let (lines, offset) = run.progress_from(0).unwrap();
    assert_eq!(lines, [stage(1)]);
    let path = run.dir.join("progress.jsonl");
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"event\":\"sta");
    fs::write(&path, &text).unwrap();
    assert_eq!(run.progress_from(offset).unwrap(), (vec![], offset), "half a line waits for its rest");
    text.extend_from_slice(b"\n");
    fs::write(&path, &text).unwrap();
    run.append_progress(&stage(2)).unwrap();
    assert_eq!(run.progress_from(offset).unwrap().0, [stage(2)], "a line that a crash cut off spoils no other");
}

#[test]
fn runs_created_at_the_same_moment_have_folders_of_their_own() {
    let (_dir, volumes) = volumes();
    let ids: std::collections::BTreeSet<String> = (0..5)
        .map(|_| volumes.create_run("ds-1", "classifier", Hyperparameters::default()).unwrap().spec.run)
        .collect();
    assert_eq!(ids.len(), 5);
    assert_eq!(volumes.runs().unwrap().first().map(|r| r.id().to_owned()), ids.last().cloned(), "newest first");
}

#[test]
fn whoever_asks_learns_whether_a_page_serves_the_volumes_and_where() {
    let (_dir, volumes) = volumes();
    assert!(matches!(volumes.house().unwrap(), House::Empty(_)));
    let first = volumes.serve("http://127.0.0.1:8080/a-long-name").unwrap();
    let second = volumes.serve("http://127.0.0.1:9000/").unwrap();
    drop(first);
    match volumes.house().unwrap() {
        House::Served(address) => assert_eq!(address, "http://127.0.0.1:9000/"),
        House::Empty(_) => panic!("the second page still serves"),
    }
    drop(second);
    assert!(matches!(volumes.house().unwrap(), House::Empty(_)));
}
