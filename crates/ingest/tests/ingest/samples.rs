//! Sample data: Fashion-MNIST in the shape Debian packs it, and real photographs where they are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use api::dataset::Split;
use ingest::{Source, fashion_mnist};

use crate::house::*;

/// A gzipped IDX file.
fn idx(path: &Path, shape: &[u32], data: &[u8]) {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(data);
    fs::write(path, gzip(&bytes)).unwrap();
}

/// A small set of the same shape: `per_class` training pictures and half as many for testing.
fn make(dir: &Path, per_class: u64) {
    fs::create_dir_all(dir).unwrap();
    for (kind, n, first) in [("train", per_class * 10, 0), ("t10k", per_class * 5, 10_000)] {
        let gray = |seed| waves(first + seed, 28).chunks_exact(3).map(|pixel| pixel[0]).collect::<Vec<u8>>();
        let images: Vec<u8> = (0..n).flat_map(gray).collect();
        let labels: Vec<u8> = (0..n).map(|n| (n % 10) as u8).collect();
        idx(&dir.join(format!("{kind}-images-idx3-ubyte.gz")), &[n as u32, 28, 28], &images);
        idx(&dir.join(format!("{kind}-labels-idx1-ubyte.gz")), &[n as u32], &labels);
    }
}

#[tokio::test]
async fn fashion_mnist_keeps_its_test_split() {
    let house = House::new();
    let dir = house.beside("fashion");
    make(&dir, 20);
    fashion_mnist::ensure_installed(&dir).unwrap();
    let outcome = house.add(fashion_mnist::load(&dir, None).unwrap()).await.unwrap();
    let manifest = &outcome.published.dataset.manifest;
    assert_eq!((manifest.name.as_str(), manifest.classes.len(), manifest.preprocess.width), ("fashion-mnist", 10, 28));
    for class in &manifest.classes {
        assert_eq!(Split::ALL.map(|split| class.of(split)), [17, 3, 10], "{}", class.name);
    }
    let first = records(&outcome)["train/t-shirt or top/00000.png"].clone();
    assert_eq!(first.0, "t-shirt or top");

    let outcome = house.add(fashion_mnist::load(&dir, Some(12)).unwrap()).await.unwrap();
    for class in &outcome.published.dataset.manifest.classes {
        assert_eq!(Split::ALL.map(|split| class.of(split)), [10, 2, 2], "{}", class.name);
    }
}

#[tokio::test]
async fn pixels_come_through_unchanged() {
    let house = House::new();
    let dir = house.beside("fashion");
    make(&dir, 3);
    let outcome = house.add(fashion_mnist::load(&dir, None).unwrap()).await.unwrap();
    let dataset = &outcome.published.dataset;
    let rows: Vec<_> = dataset.pictures().unwrap().into_iter().filter(|r| r.split == Split::Test).collect();
    let pixels = dataset.pixels(Split::Test).unwrap();
    for (row, record) in rows.iter().enumerate() {
        let at: u64 = record.name.rsplit('/').next().unwrap().trim_end_matches(".png").parse().unwrap();
        let gray: Vec<u8> = waves(10_000 + at, 28).chunks_exact(3).flat_map(|pixel| [pixel[0]; 3]).collect();
        assert_eq!(pixels.image(row), gray, "{}", record.name);
    }
}

#[test]
fn files_that_are_not_what_they_should_be_are_refused_by_name() {
    let house = House::new();
    let dir = house.beside("fashion");
    make(&dir, 1);
    let labels = dir.join("train-labels-idx1-ubyte.gz");
    for (damage, told) in [
        (&(|| idx(&labels, &[9], &[0; 9])) as &dyn Fn(), "10 pictures and 9 labels"),
        (&|| idx(&labels, &[10], &[10; 10]), "a label is 10"),
        (&|| fs::write(&labels, b"no gzip").unwrap(), "train-labels-idx1-ubyte.gz is no IDX file"),
        (&|| fs::remove_file(&labels).unwrap(), "cannot read"),
    ] {
        damage();
        let error = fashion_mnist::load(&dir, None).map(drop).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[tokio::test]
async fn the_real_fashion_mnist_has_few_look_alikes_where_it_is_installed() {
    let dir = Path::new(fashion_mnist::DEBIAN_DIR);
    if !dir.exists() {
        println!("skipped: {} is not there", dir.display());
        return;
    }
    let house = House::new();
    let outcome = house.add(fashion_mnist::load(dir, None).unwrap()).await.unwrap();
    assert!(outcome.rejected.len() < 50, "{} of 70,000 pictures are left out", outcome.rejected.len());
    let largest = outcome.near_duplicates.iter().map(|group| group.names.len()).max().unwrap_or(0);
    assert!(largest <= 6, "{largest} pictures are in one group");
}

#[tokio::test]
async fn two_hundred_photographs_become_a_dataset() {
    let shared = std::env::var_os("FOVEA_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let photographs = shared.join("data/cifar4");
    if !photographs.is_dir() {
        println!("skipped: {} is not there", photographs.display());
        return;
    }
    let house = House::new();
    let outcome = house.add(Source::Folder(photographs)).await.unwrap();
    let manifest = &outcome.published.dataset.manifest;
    assert_eq!((manifest.pictures, manifest.preprocess.width), (200, 32));
    assert!(outcome.near_duplicates.is_empty() && outcome.rejected.is_empty());
    for class in &manifest.classes {
        assert_eq!(Split::ALL.map(|split| class.of(split)), [34, 8, 8], "{}", class.name);
    }
    outcome.published.dataset.verify().unwrap();
}
