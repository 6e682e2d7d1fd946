//! The way of one upload, stage by stage.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
};

use api::{
    ErrorCode, ErrorDetail, PreprocessSpec,
    dataset::{PictureRecord, Provenance, Rejected, Split, SplitPolicy},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use store::{DatasetDraft, DatasetInfo, Staging, Volumes};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
};

use crate::{
    Ingest, IngestError, Limits, Options, Outcome, Preprocess, Processed, Progress, Refusal, Result, Source, Stage,
    clean::{self, Distinct, Kept, Seen},
    collect::{self, Collected, Content},
    layout::{self, Labelled},
    near,
    path::printable,
    reporter::Reporter,
    room::Room,
    split::Cuts,
};

/// Sides a dataset may get when nobody asks for one, in pixels.
const SIDES: [u32; 9] = [28, 32, 48, 64, 96, 128, 160, 192, 224];
/// Pictures whose size decides about the side.
const MEASURED: usize = 101;
/// Pictures at which preprocessing fails, before there is an answer to any, that end an ingest.
const HOPELESS: u64 = 10;
/// Longest name of a dataset, in characters.
const NAME_CHARS: usize = 100;

/// Pictures that are decided upon, and what is known so far.
struct Batch {
    /// Name of the upload.
    name: String,
    /// Name for the dataset.
    title: String,
    arrived: u64,
    rejected: Vec<Rejected>,
    given: Vec<Split>,
    pictures: Vec<Distinct>,
}

/// Tells preprocessing that fails at a few pictures from one that fails at them all.
struct Failures {
    count: u64,
    /// As many as end the ingest while there is no answer to any picture.
    most: u64,
    any_answer: bool,
}

impl Failures {
    fn of(pictures: u64) -> Self {
        Self { count: 0, most: pictures.min(HOPELESS), any_answer: false }
    }

    fn heed<T>(&mut self, result: &Result<T, Refusal>) {
        self.any_answer |= matches!(result, Ok(_) | Err(Refusal::Picture(_)));
    }

    /// Gives the failure back as one of that picture, or as one of the whole ingest.
    fn count(&mut self, failure: IngestError) -> Result<IngestError> {
        self.count += 1;
        if self.any_answer || self.count < self.most { Ok(failure) } else { Err(failure) }
    }
}

impl<P: Preprocess> Ingest<P> {
    /// Makes a dataset of an upload.
    ///
    /// Dropping the future ends the work soon after and leaves nothing behind.
    ///
    /// # Errors
    /// Only for the upload as a whole, see [`IngestError`]; a bad picture is listed in [`Outcome::rejected`].
    pub async fn run(&self, source: Source, options: Options, progress: watch::Sender<Progress>) -> Result<Outcome> {
        let (reporter, _cancel_on_drop) = Reporter::new(progress);
        options.spec(1).validate().map_err(IngestError::Options)?;
        let mut unpacked = None;
        let outcome = self.go(source, &options, &reporter, &mut unpacked).await;
        // Removing many files takes a while.
        spawn_blocking(move || drop(unpacked)).await?;
        outcome
    }

    async fn go(
        &self,
        source: Source,
        options: &Options,
        reporter: &Reporter,
        unpacked: &mut Option<Staging>,
    ) -> Result<Outcome> {
        let prepared = {
            let (volumes, limits, reporter) = (self.volumes.clone(), self.limits.clone(), reporter.clone());
            let title = options.name.clone();
            spawn_blocking(move || prepare(source, title, &volumes, &limits, &reporter)).await?
        };
        let (batch, staging) = prepared?;
        *unpacked = staging;

        let spec = match options.size {
            Some(_) => options.spec(1),
            None => options.spec(self.choose_side(&batch.pictures, reporter).await?),
        };
        let draft = self.draft(spec, batch.pictures.len())?;
        let (draft, seen, batch) = self.process(draft, batch, reporter).await?;
        let reporter = reporter.clone();
        spawn_blocking(move || finish(draft, seen, batch, &reporter)).await?
    }

    fn draft(&self, spec: PreprocessSpec, pictures: usize) -> Result<DatasetDraft> {
        // Once as they are processed, once as they are published.
        let bytes = 2 * (spec.picture_bytes() as u64).saturating_mul(pictures as u64);
        let draft = self.volumes.draft_dataset(spec)?;
        Room::new(self.volumes.volume1(), &self.limits, bytes)?;
        Ok(draft)
    }

    /// The smallest of [`SIDES`] that is not below the median of the pictures' shorter sides, at most the largest.
    async fn choose_side(&self, pictures: &[Distinct], reporter: &Reporter) -> Result<u32> {
        let total = pictures.len().min(MEASURED) as u64;
        reporter.tell(Stage::Measure, 0, total)?;
        let contents: Vec<Content> = pictures.iter().map(|picture| picture.copies[0].content.clone()).collect();
        let mut probes = stream::iter(contents)
            .map(|content| async move { self.preprocess.probe(read(&content).await?).await })
            .buffered(self.concurrency.max(1));
        let mut sides = vec![];
        let mut failures = Failures::of(pictures.len() as u64);
        while sides.len() < MEASURED
            && let Some(probe) = probes.next().await
        {
            failures.heed(&probe);
            match probe {
                Ok(probe) if probe.width.min(probe.height) >= self.limits.min_side => {
                    sides.push(probe.width.min(probe.height));
                }
                Ok(_) | Err(Refusal::Picture(_)) => {}
                Err(Refusal::Failed(e)) => drop(failures.count(e)?),
                Err(Refusal::Service(e)) => return Err(e),
            }
            reporter.tell(Stage::Measure, sides.len() as u64, total)?;
        }
        sides.sort_unstable();
        let median = sides.get(sides.len() / 2).copied().unwrap_or(0);
        Ok(SIDES.into_iter().find(|side| *side >= median).unwrap_or(SIDES[SIDES.len() - 1]))
    }

    /// Processes every picture and writes its pixels to the draft, in the order of content hashes.
    async fn process(
        &self,
        draft: DatasetDraft,
        mut batch: Batch,
        reporter: &Reporter,
    ) -> Result<(DatasetDraft, Vec<(Distinct, Seen)>, Batch)> {
        let (spec, total) = (draft.spec().clone(), batch.pictures.len() as u64);
        let (to_writer, from_processing) = mpsc::channel(self.concurrency.max(1));
        let writer = spawn_blocking(move || write(draft, from_processing));
        let mut processed = stream::iter(std::mem::take(&mut batch.pictures))
            .map(|picture| async {
                let result = match read(&picture.copies[0].content).await {
                    Ok(bytes) => self.preprocess.process(bytes, &spec).await,
                    Err(e) => Err(e),
                };
                (picture, result)
            })
            .buffered(self.concurrency.max(1));
        let work = async {
            let mut done = 0;
            let mut failures = Failures::of(total);
            reporter.tell(Stage::Process, 0, total)?;
            while let Some((picture, result)) = processed.next().await {
                failures.heed(&result);
                match result.and_then(|processed| self.check_size(processed)) {
                    Ok(processed) => {
                        if to_writer.send((picture, processed)).await.is_err() {
                            break;
                        }
                    }
                    Err(Refusal::Picture(fault)) => clean::reject_unusable(picture, &fault, &mut batch.rejected),
                    Err(Refusal::Failed(e)) => {
                        let e = failures.count(e)?;
                        tracing::warn!(name = picture.copies[0].name, "left out, for {e}");
                        clean::reject_failed(picture, &e, &mut batch.rejected);
                    }
                    Err(Refusal::Service(e)) => return Err(e),
                }
                done += 1;
                reporter.tell(Stage::Process, done, total)?;
            }
            Ok(())
        };
        let worked = work.await;
        drop(to_writer);
        // Waited for in any case: when this returns, nothing writes any more.
        let written = writer.await?;
        worked?;
        let (draft, seen) = written?;
        drop(processed);
        Ok((draft, seen, batch))
    }

    fn check_size(&self, processed: Processed) -> Result<Processed, Refusal> {
        let (width, height, least) = (processed.facts.width, processed.facts.height, self.limits.min_side);
        if width.min(height) < least {
            let message = format!("the picture is {width} × {height}; expected at least {least} pixels on each side");
            return Err(Refusal::Picture(ErrorDetail::new(ErrorCode::TooSmall, message)));
        }
        Ok(processed)
    }
}

/// Collects the files and reads their layout. Blocks.
fn prepare(
    source: Source,
    title: Option<String>,
    volumes: &Volumes,
    limits: &Limits,
    reporter: &Reporter,
) -> Result<(Batch, Option<Staging>)> {
    let Collected { name, files, mut rejected, arrived, staging } =
        collect::collect(source, volumes, limits, reporter)?;
    let mut files = layout::assign(files, limits, &mut rejected)?;
    let given = given_splits(&mut files)?;
    let title = title.unwrap_or_else(|| without_extension(&name).to_owned());
    let batch = Batch { name, title, arrived, rejected, given, pictures: clean::distinct(files) };
    Ok((batch, staging))
}

/// Bytes of a picture.
async fn read(content: &Content) -> Result<Bytes, Refusal> {
    match content {
        Content::Memory(bytes) => Ok(bytes.clone()),
        Content::File(path) => match tokio::fs::read(path).await {
            Ok(bytes) => Ok(bytes.into()),
            Err(e) => Err(Refusal::Service(IngestError::read(path)(e))),
        },
    }
}

/// Keeps processed pictures as they come. Blocks.
fn write(
    mut draft: DatasetDraft,
    mut processed: mpsc::Receiver<(Distinct, Processed)>,
) -> Result<(DatasetDraft, Vec<(Distinct, Seen)>)> {
    let (width, height) = (draft.spec().width as usize, draft.spec().height as usize);
    let mut all = vec![];
    while let Some((picture, Processed { facts, pixels })) = processed.blocking_recv() {
        let hash = imaging::parse_perceptual_hash(&facts.perceptual_hash);
        let Some(hash) = hash.filter(|_| facts.content_hash == picture.content_hash) else {
            return Err(IngestError::Mismatch { name: picture.copies[0].name.clone() });
        };
        let row = draft.push(&pixels)?;
        let pixels_hash = Sha256::digest(&pixels).into();
        all.push((picture, Seen { facts, row, pixels_hash, print: near::Print::new(hash, &pixels, width, height) }));
    }
    Ok((draft, all))
}

/// Cleans, splits and publishes. Blocks.
fn finish(mut draft: DatasetDraft, seen: Vec<(Distinct, Seen)>, batch: Batch, reporter: &Reporter) -> Result<Outcome> {
    let mut rejected = batch.rejected;
    let kept = clean::unique(seen, &mut rejected);
    let prints: Vec<_> = kept.iter().map(|picture| &picture.seen.print).collect();
    let picture_bytes = draft.spec().picture_bytes();
    let read = |at: usize, pixels: &mut Vec<u8>| {
        pixels.resize(picture_bytes, 0);
        Ok(draft.read(kept[at].seen.row, pixels)?)
    };
    let mut groups = near::groups(&prints, read, reporter)?;
    let kept = clean::reject_leaks(kept, &mut groups, &mut rejected);
    rejected.sort_by(|a, b| (&a.name, a.reason).cmp(&(&b.name, b.reason)));
    let labels = labels_left(&kept, batch.arrived, &rejected)?;
    let near_duplicates = clean::near_duplicates(&kept, &groups);

    let cuts = Cuts::beside(&batch.given);
    let rows = records(kept, &groups, &labels, &cuts);
    reporter.tell(Stage::Publish, 0, 1)?;
    let info = DatasetInfo {
        name: dataset_name(&batch.title),
        labels,
        split: SplitPolicy { given: cuts.given, validation_ratio: cuts.validation_ratio, test_ratio: cuts.test_ratio },
        provenance: Provenance {
            source: batch.name,
            files: batch.arrived,
            made_by: concat!("fovea ", env!("CARGO_PKG_VERSION")).to_owned(),
            derived_from: None,
        },
        rejected: rejected.clone(),
        near_duplicates: near_duplicates.clone(),
    };
    let published = draft.publish(info, rows)?;
    reporter.tell(Stage::Publish, 1, 1)?;
    Ok(Outcome { published, files: batch.arrived, rejected, near_duplicates })
}

/// Gives every picture its split and its class index.
fn records(kept: Vec<Kept>, groups: &[usize], labels: &[String], cuts: &Cuts) -> Vec<(usize, PictureRecord)> {
    let split_of_group = cut(&kept, groups, cuts);
    kept.into_iter()
        .zip(groups)
        .map(|(picture, group)| {
            let label = labels.binary_search(&picture.label).expect("the labels are those of the pictures") as u32;
            let given = picture.split.filter(|split| *split != Split::Train);
            let split = given.unwrap_or_else(|| split_of_group[group]);
            (picture.seen.row, PictureRecord { name: picture.name, label, split, facts: picture.seen.facts })
        })
        .collect()
}

/// The split of each group that the upload did not put beside training.
fn cut(kept: &[Kept], groups: &[usize], cuts: &Cuts) -> HashMap<usize, Split> {
    // Pictures stand in the order of content hashes, so the first of a group is the one with the smallest, and it
    // tells the class of a group with several.
    let mut classes: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    let mut places: HashMap<usize, (&str, usize)> = HashMap::new();
    for (picture, &group) in kept.iter().zip(groups) {
        if picture.split.is_some_and(|split| split != Split::Train) {
            continue;
        }
        let (class, at) = *places.entry(group).or_insert_with(|| {
            let class = classes.entry(&picture.label).or_default();
            class.push((group, 0));
            (&picture.label, class.len() - 1)
        });
        if let Some(class) = classes.get_mut(class) {
            class[at].1 += 1;
        }
    }
    let cut_class = |groups: Vec<(usize, usize)>| {
        let (names, sizes): (Vec<usize>, Vec<usize>) = groups.into_iter().unzip();
        let splits = cuts.cut(&sizes);
        names.into_iter().zip(splits)
    };
    classes.into_values().flat_map(cut_class).collect()
}

/// Splits that the folders gave; where they gave any, a file that has none trains.
fn given_splits(files: &mut [Labelled]) -> Result<Vec<Split>> {
    if files.iter().all(|file| file.split.is_none()) {
        return Ok(vec![]);
    }
    let given: BTreeSet<Split> = files.iter_mut().map(|file| *file.split.get_or_insert(Split::Train)).collect();
    if !given.contains(&Split::Train) {
        return Err(IngestError::Layout(
            "the upload brings folders for validation and test, but no train/ folder; add one, or put the class folders \
             on top"
                .into(),
        ));
    }
    Ok(given.into_iter().collect())
}

/// Labels that still have pictures, sorted.
fn labels_left(kept: &[Kept], arrived: u64, rejected: &[Rejected]) -> Result<Vec<String>> {
    let labels: BTreeSet<&String> = kept.iter().map(|picture| &picture.label).collect();
    if labels.len() >= 2 {
        return Ok(labels.into_iter().cloned().collect());
    }
    let left = match labels.first() {
        Some(label) => format!("only pictures of {label:?} are"),
        None => "nothing is".to_owned(),
    };
    let mut problem = format!("{left} left of {arrived} files after cleaning, and two classes are needed");
    for example in rejected.iter().take(3) {
        let _ = write!(problem, "; {}: {}", example.name, example.message);
    }
    Err(IngestError::NothingLeft { problem, rejected: rejected.to_vec() })
}

fn dataset_name(given: &str) -> String {
    let name: String = printable(given).trim().chars().take(NAME_CHARS).collect();
    if name.is_empty() { "dataset".to_owned() } else { name }
}

/// An archive's name without what tells its kind.
fn without_extension(name: &str) -> &str {
    let ending = [".tar.gz", ".tgz", ".tar", ".zip"].into_iter().find(|ending| {
        let at = name.len().saturating_sub(ending.len());
        name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(ending))
    });
    ending.map_or(name, |ending| &name[..name.len() - ending.len()])
}
