//! What the tests share: volumes, pictures and archives made by code.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use api::{PreprocessSpec, dataset::RejectReason};
use ingest::{Ingest, IngestError, Limits, Native, Options, Outcome, Preprocess, Progress, Source};
use store::Volumes;
use tempfile::TempDir;
use tokio::sync::watch;

/// Volumes in a temporary folder, and a place beside them for uploads.
pub struct House {
    root: TempDir,
    pub limits: Limits,
}

impl House {
    pub fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), limits: Limits { reserve_bytes: 0, ..Limits::default() } }
    }

    pub fn volumes(&self) -> Volumes {
        Volumes::under(self.root.path().join("data"))
    }

    /// A path beside the volumes.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub async fn add_by(
        &self,
        preprocess: impl Preprocess,
        source: Source,
        options: Options,
    ) -> Result<Outcome, IngestError> {
        let mut ingest = Ingest::new(self.volumes(), preprocess);
        ingest.limits = self.limits.clone();
        let outcome = ingest.run(source, options, watch::Sender::new(Progress::default())).await;
        assert_eq!(self.staged(), Vec::<PathBuf>::new(), "something is left in the staging folder");
        outcome
    }

    pub async fn add(&self, source: Source) -> Result<Outcome, IngestError> {
        self.add_by(Native::default(), source, Options::default()).await
    }

    /// Adds an archive with these bytes.
    pub async fn add_archive(&self, bytes: &[u8]) -> Result<Outcome, IngestError> {
        let path = self.beside("archive");
        fs::write(&path, bytes).unwrap();
        let outcome = self.add(Source::Archive { path: path.clone(), name: "pets.zip".into() }).await;
        assert!(path.exists(), "the archive belongs to the caller");
        outcome
    }

    /// Adds an archive that must be refused as a whole; says how.
    pub async fn refuse_archive(&self, bytes: &[u8]) -> (api::ErrorCode, String) {
        let error = self.add_archive(bytes).await.expect_err("the archive is refused");
        assert_eq!(self.volumes().dataset_ids().unwrap(), Vec::<String>::new(), "nothing is published");
        let detail = error.detail();
        (detail.code, detail.message)
    }

    /// What lies in the staging folder.
    pub fn staged(&self) -> Vec<PathBuf> {
        match fs::read_dir(self.volumes().staging1()) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => vec![],
        }
    }
}

/// Every file left out, with its reason.
pub fn rejects(outcome: &Outcome) -> BTreeMap<&str, RejectReason> {
    outcome.rejected.iter().map(|file| (file.name.as_str(), file.reason)).collect()
}

/// Label and split of every picture, by its name.
pub fn records(outcome: &Outcome) -> BTreeMap<String, (String, api::dataset::Split)> {
    let labels = outcome.published.dataset.labels();
    let records = outcome.published.dataset.pictures().unwrap();
    records.into_iter().map(|r| (r.name, (labels[r.label as usize].clone(), r.split))).collect()
}

/// Numbers that look random and are the same every time.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// In 0..1.
    pub fn unit(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 24) as f32
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// RGB of a picture unlike that of any other seed: a few waves of random direction in each channel.
pub fn waves(seed: u64, side: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let channels: [[(f32, f32, f32); 4]; 3] = std::array::from_fn(|_| {
        std::array::from_fn(|_| (random.unit() * 8.0 - 4.0, random.unit() * 8.0 - 4.0, random.unit() * 6.3))
    });
    let at = |n: usize| n as f32 / side as f32 * 3.0;
    let value = |x: usize, y: usize, waves: &[(f32, f32, f32)]| {
        let sum: f32 = waves.iter().map(|(a, b, phase)| (a * at(x) + b * at(y) + phase).sin()).sum();
        (127.5 + sum * 30.0) as u8
    };
    let pixels = (0..side * side).flat_map(|n| channels.map(|waves| value(n % side, n / side, &waves)));
    pixels.collect()
}

/// PNG of a square of RGB pixels.
pub fn png(pixels: &[u8]) -> Vec<u8> {
    let side = (pixels.len() / 3).isqrt() as u32;
    imaging::encode_png(pixels, &PreprocessSpec::square(side))
}

/// PNG of a 32 × 32 picture unlike that of any other seed.
pub fn picture(seed: u64) -> Vec<u8> {
    png(&waves(seed, 32))
}

/// A small honest upload: `per_class` pictures of cats and of dogs.
pub fn pets(per_class: u64) -> Vec<(String, Vec<u8>)> {
    let of = |class: &'static str, first: u64| {
        (first..first + per_class).map(move |seed| (format!("{class}/{seed}.png"), picture(seed)))
    };
    of("cats", 0).chain(of("dogs", 1000)).collect()
}

pub fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(vec![]));
    for (name, bytes) in files {
        zip.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A regular entry whose name goes in as it is.
pub fn tar_entry(tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, bytes).unwrap();
}

pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    for (name, bytes) in files {
        tar_entry(&mut tar, name, bytes);
    }
    tar.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

pub fn folder(root: &Path, files: &[(String, Vec<u8>)]) -> Source {
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    Source::Folder(root.to_owned())
}

/// Owned names for literal files.
pub fn files<const N: usize>(files: [(&str, Vec<u8>); N]) -> Vec<(String, Vec<u8>)> {
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}
