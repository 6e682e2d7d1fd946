//! Datasets: immutable, content-addressed, one folder each.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use api::{
    PreprocessSpec,
    dataset::{
        ClassCount, DatasetManifest, NearDuplicates, PictureRecord, Provenance, Rejected, SCHEMA, Split, SplitPolicy,
    },
};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::{
    Result, StoreError, Volumes,
    atomic::{self, Staging},
    check_name, clock, disk, safetensors_file,
};

const MANIFEST: &str = "manifest.json";
const PIXELS: &str = "pixels.safetensors";
const PICTURES: &str = "pictures.jsonl";
const RAW: &str = "raw";

/// A published dataset.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its folder.
    pub dir: PathBuf,
    /// What it is.
    pub manifest: DatasetManifest,
}

/// What publishing came to.
#[derive(Clone, Debug)]
pub struct Published {
    /// The dataset.
    pub dataset: Dataset,
    /// Whether the very same dataset was there before; nothing was written then.
    pub existed: bool,
}

impl Volumes {
    /// All datasets, newest first. One whose manifest cannot be read is passed over here; `verify` names it.
    pub fn datasets(&self) -> Result<Vec<Dataset>> {
        let mut all: Vec<_> = atomic::list_dirs(&self.datasets_dir())?
            .into_iter()
            .filter_map(|(_, dir)| Dataset::open(&dir).ok())
            .collect();
        all.sort_by(|a, b| (&b.manifest.created, &b.manifest.id).cmp(&(&a.manifest.created, &a.manifest.id)));
        Ok(all)
    }

    /// Ids of all dataset folders, readable or not.
    pub fn dataset_ids(&self) -> Result<Vec<String>> {
        Ok(atomic::list_dirs(&self.datasets_dir())?.into_iter().map(|(name, _)| name).collect())
    }

    /// One dataset.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none of this id.
    pub fn dataset(&self, id: &str) -> Result<Dataset> {
        check_name("dataset", id)?;
        let dir = self.datasets_dir().join(id);
        if !dir.is_dir() {
            return Err(StoreError::NotFound { what: "dataset", name: id.to_owned() });
        }
        Dataset::open(&dir)
    }

    /// Deletes a dataset. What reads it goes on to the end; models that were made from it stay.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a run that has not ended uses it, [`StoreError::NotFound`] if there is none.
    pub fn delete_dataset(&self, id: &str) -> Result<()> {
        check_name("dataset", id)?;
        let dir = self.datasets_dir().join(id);
        if !dir.is_dir() {
            return Err(StoreError::NotFound { what: "dataset", name: id.to_owned() });
        }
        let users = self.runs()?.into_iter().filter(|run| run.spec.dataset == id);
        let mut open = users.filter(|run| !run.status().is_ok_and(|status| status.state.is_final()));
        if let Some(run) = open.next() {
            let because = format!("run {} uses it and has not ended; wait for its end, or cancel it", run.id());
            return Err(StoreError::InUse { what: "dataset", name: id.to_owned(), because });
        }
        atomic::remove(&self.staging1(), &dir)
    }

    /// Begins a dataset whose pictures are processed by `spec`.
    pub fn draft_dataset(&self, spec: PreprocessSpec) -> Result<DatasetDraft> {
        spec.validate().map_err(StoreError::Draft)?;
        let staging = Staging::new(&self.staging1(), "dataset-")?;
        let path = staging.path().join(RAW);
        let raw = File::options().read(true).write(true).create_new(true).open(&path);
        let raw = BufWriter::new(raw.map_err(StoreError::write(&path))?);
        Ok(DatasetDraft { datasets: self.datasets_dir(), staging, spec, raw, rows: 0 })
    }
}

impl Dataset {
    fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let manifest: DatasetManifest = atomic::read_json(&path, "dataset manifest")?;
        if manifest.schema != SCHEMA {
            let problem = format!("it has schema {}; this build reads schema {SCHEMA}", manifest.schema);
            return Err(StoreError::Damaged { path, problem });
        }
        Ok(Self { dir: dir.to_owned(), manifest })
    }

    /// Labels in class-index order.
    pub fn labels(&self) -> Vec<String> {
        self.manifest.classes.iter().map(|c| c.name.clone()).collect()
    }

    /// The rows of one split, mapped from the file.
    pub fn pixels(&self, split: Split) -> Result<Pixels> {
        Pixels::open(&self.dir.join(PIXELS), split, &self.manifest)
    }

    /// Every picture's record, in the order of rows: train, validation, test.
    pub fn pictures(&self) -> Result<Vec<PictureRecord>> {
        let path = self.dir.join(PICTURES);
        let lines = BufReader::new(File::open(&path).map_err(StoreError::read(&path))?).lines();
        lines
            .map(|line| {
                let line = line.map_err(StoreError::read(&path))?;
                serde_json::from_str(&line).map_err(|source| StoreError::Parse {
                    path: path.clone(),
                    what: "picture record",
                    source,
                })
            })
            .collect()
    }

    /// What its files take on the disk.
    pub fn bytes(&self) -> u64 {
        disk::published_bytes(&self.dir.join(MANIFEST), &self.manifest.files)
    }

    /// Reads everything and compares it with the manifest.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the first thing that is wrong.
    pub fn verify(&self) -> Result<()> {
        atomic::verify_files(&self.dir, &self.manifest.files)?;
        for split in Split::ALL {
            let pixels = self.pixels(split)?;
            let expected: Vec<u64> = self.manifest.classes.iter().map(|c| c.of(split)).collect();
            let mut found = vec![0; expected.len()];
            for &label in pixels.labels() {
                found[label as usize] += 1;
            }
            if found != expected {
                let problem = format!("{} has {found:?} pictures per class; expected {expected:?}", split.name());
                return Err(StoreError::Damaged { path: self.dir.clone(), problem });
            }
        }
        let records = self.pictures()?;
        let id = identity(&self.manifest.preprocess, &self.labels(), &records);
        if id != self.manifest.id || self.dir.file_name().is_none_or(|name| name != id.as_str()) {
            let problem = format!("its content is {id}, its name {}", self.manifest.id);
            return Err(StoreError::Damaged { path: self.dir.clone(), problem });
        }
        Ok(())
    }
}

/// One split's pictures and labels.
#[derive(Clone, Debug)]
pub struct Pixels {
    map: Arc<Mmap>,
    images: Range<usize>,
    labels: Vec<u32>,
    picture_bytes: usize,
}

impl Pixels {
    fn open(path: &Path, split: Split, manifest: &DatasetManifest) -> Result<Self> {
        let damaged = |problem: String| StoreError::Damaged { path: path.to_owned(), problem };
        let file = File::open(path).map_err(StoreError::read(path))?;
        // SAFETY: published datasets are immutable: nothing in the house writes to or truncates this file.
        #[expect(unsafe_code, reason = "mapping a file needs it, and datasets may be larger than memory")]
        let map = unsafe { Mmap::map(&file) }.map_err(StoreError::read(path))?;
        let tensors = SafeTensors::deserialize(&map).map_err(|e| damaged(e.to_string()))?;
        let tensor = |name: String| tensors.tensor(&name).map_err(|e| damaged(e.to_string()));
        let (labels, images) =
            (tensor(safetensors_file::labels_name(split))?, tensor(safetensors_file::images_name(split))?);
        let spec = &manifest.preprocess;
        let n = labels.shape().first().copied().unwrap_or(0);
        let shape = [n, spec.height as usize, spec.width as usize, 3];
        if labels.dtype() != Dtype::I64 || images.dtype() != Dtype::U8 || images.shape() != shape {
            return Err(damaged(format!(
                "{} images are {:?} {:?}; the manifest says U8 {shape:?}",
                split.name(),
                images.dtype(),
                images.shape()
            )));
        }
        let n_classes = manifest.classes.len();
        let labels = labels
            .data()
            .chunks_exact(8)
            .map(|bytes| {
                let label = i64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
                usize::try_from(label)
                    .ok()
                    .filter(|&label| label < n_classes)
                    .map(|label| label as u32)
                    .ok_or_else(|| damaged(format!("a label is {label}; there are {n_classes} classes")))
            })
            .collect::<Result<_>>()?;
        let start = images.data().as_ptr() as usize - map.as_ptr() as usize;
        let images = start..start + images.data().len();
        Ok(Self { map: Arc::new(map), images, labels, picture_bytes: spec.picture_bytes() })
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether the split has no pictures.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Class index of each picture.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// All pictures.
    ///
    /// # Shapes
    /// `[n, height, width, 3]`, u8, upright RGB
    pub fn images(&self) -> &[u8] {
        &self.map[self.images.clone()]
    }

    /// One picture: `[height, width, 3]`.
    ///
    /// # Panics
    /// If `row` is not below [`Pixels::len`].
    pub fn image(&self, row: usize) -> &[u8] {
        &self.images()[row * self.picture_bytes..][..self.picture_bytes]
    }
}

/// A dataset in the making. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct DatasetDraft {
    datasets: PathBuf,
    staging: Staging,
    spec: PreprocessSpec,
    raw: BufWriter<File>,
    rows: usize,
}

/// Everything about a dataset that its pictures do not tell.
#[derive(Clone, Debug)]
pub struct DatasetInfo {
    /// Human name.
    pub name: String,
    /// Labels in class-index order, sorted by name.
    pub labels: Vec<String>,
    /// How the split was decided.
    pub split: SplitPolicy,
    /// Where the pictures came from.
    pub provenance: Provenance,
    /// Every file left out.
    pub rejected: Vec<Rejected>,
    /// Pictures that look alike.
    pub near_duplicates: Vec<NearDuplicates>,
}

impl DatasetDraft {
    /// Appends one processed picture and returns its draft row.
    ///
    /// # Shapes
    /// `pixels`: `[height, width, 3]` of the draft's spec
    pub fn push(&mut self, pixels: &[u8]) -> Result<usize> {
        if pixels.len() != self.spec.picture_bytes() {
            return Err(StoreError::Draft(format!(
                "a picture has {} bytes; the spec says {} × {} × 3",
                pixels.len(),
                self.spec.height,
                self.spec.width
            )));
        }
        self.raw.write_all(pixels).map_err(StoreError::write(self.staging.path().join(RAW)))?;
        self.rows += 1;
        Ok(self.rows - 1)
    }

    /// How the draft's pictures are processed.
    pub fn spec(&self) -> &PreprocessSpec {
        &self.spec
    }

    /// Reads a pushed picture back.
    pub fn read(&mut self, row: usize, pixels: &mut [u8]) -> Result<()> {
        let path = self.staging.path().join(RAW);
        self.raw.flush().map_err(StoreError::write(&path))?;
        let offset = row as u64 * self.spec.picture_bytes() as u64;
        self.raw.get_ref().read_exact_at(pixels, offset).map_err(StoreError::read(&path))
    }

    /// Publishes the chosen rows: each a draft row and its record. Their order does not matter.
    ///
    /// # Errors
    /// [`StoreError::Draft`] without pictures, with a label or row out of range, or with one picture chosen twice.
    pub fn publish(mut self, info: DatasetInfo, mut rows: Vec<(usize, PictureRecord)>) -> Result<Published> {
        rows.sort_by(|(_, a), (_, b)| {
            (a.split, &a.facts.content_hash, &a.name).cmp(&(b.split, &b.facts.content_hash, &b.name))
        });
        self.check(&info, &rows)?;
        let (draft_rows, records): (Vec<usize>, Vec<PictureRecord>) = rows.into_iter().unzip();
        let id = identity(&self.spec, &info.labels, &records);
        let target = self.datasets.join(&id);
        if let Ok(dataset) = Dataset::open(&target) {
            return Ok(Published { dataset, existed: true });
        }
        self.write_pixels(&draft_rows, &records)?;
        self.write_records(&records)?;
        let raw = self.staging.path().join(RAW);
        fs::remove_file(&raw).map_err(StoreError::write(&raw))?;
        let mut files = std::collections::BTreeMap::new();
        for name in [PIXELS, PICTURES] {
            files.insert(name.to_owned(), atomic::digest_file(&self.staging.path().join(name))?);
        }
        let manifest = DatasetManifest {
            schema: SCHEMA,
            id,
            name: info.name,
            created: clock::now_rfc3339(),
            classes: count(&info.labels, &records),
            pictures: records.len() as u64,
            preprocess: self.spec.clone(),
            split: info.split,
            provenance: info.provenance,
            rejected: info.rejected,
            near_duplicates: info.near_duplicates,
            files,
        };
        atomic::write_json(&self.staging.path().join(MANIFEST), &manifest)?;
        atomic::create_dirs(&self.datasets)?;
        // Losing the race against the same upload is a success: the content is the same.
        let existed = !self.staging.publish(&target)?;
        let dataset = if existed { Dataset::open(&target)? } else { Dataset { dir: target, manifest } };
        Ok(Published { dataset, existed })
    }

    fn check(&self, info: &DatasetInfo, rows: &[(usize, PictureRecord)]) -> Result<()> {
        let wrong = |text: String| Err(StoreError::Draft(text));
        if rows.is_empty() {
            return wrong("no usable picture is left".into());
        }
        if let Some((row, record)) =
            rows.iter().find(|(row, r)| *row >= self.rows || r.label as usize >= info.labels.len())
        {
            return wrong(format!("{:?} has draft row {row} and label {}", record.name, record.label));
        }
        let mut hashes: Vec<_> = rows.iter().map(|(_, r)| &r.facts.content_hash).collect();
        hashes.sort();
        match hashes.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => wrong(format!("the picture {} was chosen twice", pair[0])),
            None => Ok(()),
        }
    }

    fn write_pixels(&mut self, draft_rows: &[usize], records: &[PictureRecord]) -> Result<()> {
        let path = self.staging.path().join(PIXELS);
        let file = File::create_new(&path).map_err(StoreError::write(&path))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let labels = Split::ALL
            .map(|split| -> Vec<u32> { records.iter().filter(|r| r.split == split).map(|r| r.label).collect() });
        safetensors_file::write_head(&mut out, &self.spec, [&labels[0], &labels[1], &labels[2]])
            .map_err(StoreError::write(&path))?;
        let mut pixels = vec![0; self.spec.picture_bytes()];
        for &row in draft_rows {
            self.read(row, &mut pixels)?;
            out.write_all(&pixels).map_err(StoreError::write(&path))?;
        }
        out.flush().map_err(StoreError::write(&path))
    }

    fn write_records(&self, records: &[PictureRecord]) -> Result<()> {
        let path = self.staging.path().join(PICTURES);
        let mut out = BufWriter::new(File::create_new(&path).map_err(StoreError::write(&path))?);
        for record in records {
            serde_json::to_writer(&mut out, record).map_err(|e| StoreError::write(&path)(e.into()))?;
            out.write_all(b"\n").map_err(StoreError::write(&path))?;
        }
        out.flush().map_err(StoreError::write(&path))
    }
}

fn count(labels: &[String], records: &[PictureRecord]) -> Vec<ClassCount> {
    let mut classes: Vec<_> =
        labels.iter().map(|name| ClassCount { name: name.clone(), train: 0, validation: 0, test: 0 }).collect();
    for record in records {
        let class = &mut classes[record.label as usize];
        match record.split {
            Split::Train => class.train += 1,
            Split::Validation => class.validation += 1,
            Split::Test => class.test += 1,
        }
    }
    classes
}

/// The id that follows from a dataset's content: spec, labels, and each picture's hash, label and split.
fn identity(spec: &PreprocessSpec, labels: &[String], records: &[PictureRecord]) -> String {
    let mut hasher = Sha256::new();
    let head = serde_json::to_vec(&(SCHEMA, spec, labels)).expect("plain data serialises");
    hasher.update(&head);
    for record in records {
        hasher.update(format!("\n{} {} {}", record.split.name(), record.label, record.facts.content_hash));
    }
    format!("ds-{}", &atomic::hex(&hasher.finalize())[..16])
}
