//! Every file of an upload, found, counted and hashed; nothing is decoded here.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use api::dataset::{RejectReason, Rejected, Split};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use store::{Staging, Volumes};

use crate::{
    IngestError, Limits, Result, Source, Stage, archive,
    path::{FilePath, UploadPath, shown},
    reporter::Reporter,
    room::Room,
};

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// A file that may be a picture.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Where it stood in the upload.
    pub path: FilePath,
    /// Class, where the caller told it; otherwise the folders do.
    pub label: Option<String>,
    /// Split, where the caller told it; otherwise the folders may.
    pub split: Option<Split>,
    /// Where its bytes are.
    pub content: Content,
    /// SHA-256 of the bytes, 64 hex digits.
    pub content_hash: String,
}

/// Where the bytes of a file are.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// On the disk.
    File(PathBuf),
    /// In memory.
    Memory(Bytes),
}

/// Everything that came with an upload.
#[derive(Debug)]
pub(crate) struct Collected {
    /// Name of the upload, without its path.
    pub name: String,
    /// Files that may be pictures.
    pub files: Vec<Found>,
    /// Files that are not looked at.
    pub rejected: Vec<Rejected>,
    /// Files that arrived, rejected ones included.
    pub arrived: u64,
    /// Holds the unpacked files until the pictures are processed.
    pub staging: Option<Staging>,
}

/// Finds and hashes every file of a source. Blocks.
pub(crate) fn collect(source: Source, volumes: &Volumes, limits: &Limits, reporter: &Reporter) -> Result<Collected> {
    let mut collector = Collector::new(limits, reporter);
    let (name, staging) = match source {
        Source::Archive { path, name } => {
            let staging = Staging::new(&volumes.staging1(), "unpack-")?;
            let room = Room::new(staging.path(), limits, 0)?;
            archive::unpack(&path, &name, staging.path(), room, &mut collector)?;
            (name, Some(staging))
        }
        Source::Folder(root) => {
            collector.walk(&root)?;
            let name = root.canonicalize().unwrap_or(root).file_name().map(|n| n.to_string_lossy().into_owned());
            (name.unwrap_or_default(), None)
        }
        Source::Upload(upload) => {
            let parts = upload.into_parts();
            collector.arrived += parts.rejected.len() as u64;
            collector.rejected.extend(parts.rejected);
            let total = parts.pictures.len() as u64;
            for (done, picture) in parts.pictures.into_iter().enumerate() {
                collector.reporter.tell(Stage::Unpack, done as u64, total)?;
                if let Some(path) = collector.admit(&picture.name)? {
                    collector.take_in_place(path, picture.label, &picture.file)?;
                }
            }
            let mut name = "upload".to_owned();
            if let Some((path, given)) = parts.archive {
                let room = Room::new(parts.staging.path(), limits, 0)?;
                archive::unpack(&path, &given, parts.staging.path(), room, &mut collector)?;
                fs::remove_file(&path).map_err(IngestError::write(&path))?;
                name = given;
            }
            (name, Some(parts.staging))
        }
        Source::Memory { name, pictures } => {
            for picture in pictures {
                if let Some(path) = collector.admit(&picture.name)? {
                    let content_hash = imaging::content_hash(&picture.bytes);
                    let (label, split) = (Some(picture.label), picture.split);
                    let content = Content::Memory(picture.bytes);
                    collector.files.push(Found { path, label, split, content, content_hash });
                }
            }
            (name, None)
        }
    };
    let Collector { files, rejected, arrived, .. } = collector;
    let name = shown(name.rsplit(['/', '\\']).next().unwrap_or_default());
    Ok(Collected { name, files, rejected, arrived, staging })
}

/// Gathers files and refusals, and counts both.
pub(crate) struct Collector<'a> {
    pub limits: &'a Limits,
    pub reporter: &'a Reporter,
    files: Vec<Found>,
    rejected: Vec<Rejected>,
    arrived: u64,
    entries: usize,
}

impl<'a> Collector<'a> {
    pub fn new(limits: &'a Limits, reporter: &'a Reporter) -> Self {
        Self { limits, reporter, files: vec![], rejected: vec![], arrived: 0, entries: 0 }
    }

    /// Counts a file or folder.
    ///
    /// # Errors
    /// [`IngestError::TooLarge`] if there are too many.
    pub fn count_entry(&mut self) -> Result<()> {
        self.reporter.check()?;
        self.entries += 1;
        check_entries(self.entries, self.limits)
    }

    /// Counts a file and reads its path; `None` if the path alone is enough to refuse it.
    pub fn admit(&mut self, raw: &str) -> Result<Option<FilePath>> {
        self.count_entry()?;
        self.arrived += 1;
        match UploadPath::parse(raw) {
            UploadPath::File(path) => Ok(Some(path)),
            UploadPath::Unsafe(shown, why) => {
                self.reject(shown, RejectReason::UnsafePath, why);
                Ok(None)
            }
            UploadPath::Litter(shown) => {
                self.reject(shown, RejectReason::Stray, "a file that systems or tools leave behind");
                Ok(None)
            }
        }
    }

    /// Lists a file as left out.
    pub fn reject(&mut self, name: String, reason: RejectReason, message: impl Into<String>) {
        self.rejected.push(Rejected { name, label: None, reason, message: message.into() });
    }

    /// Lists a file as left out because of its size.
    pub fn reject_too_large(&mut self, path: FilePath) {
        let message = format!("the file has more than {} bytes", self.limits.file_bytes);
        self.reject(path.shown, RejectReason::TooLarge, message);
    }

    /// Takes a file that has been read.
    pub fn take(&mut self, path: FilePath, label: Option<String>, file: PathBuf, read: Digested) {
        if let Some(kind) = archive::sniff(&read.head) {
            self.reject(path.shown, RejectReason::Stray, format!("{} inside the upload is not unpacked", kind.name()));
            return;
        }
        let (content, content_hash) = (Content::File(file), read.content_hash);
        self.files.push(Found { path, label, split: None, content, content_hash });
    }

    /// Takes a file where it lies.
    fn take_in_place(&mut self, path: FilePath, label: Option<String>, file: &Path) -> Result<()> {
        let mut opened = File::open(file).map_err(IngestError::read(file))?;
        match digest(&mut opened, self.limits.file_bytes, |_| Ok(())) {
            Ok(Some(read)) => self.take(path, label, file.to_owned(), read),
            Ok(None) => self.reject_too_large(path),
            Err(Fault::Source(e)) => return Err(IngestError::read(file)(e)),
            Err(Fault::Ours(e)) => return Err(e),
        }
        Ok(())
    }

    /// Takes every file below a folder. Links are not followed.
    fn walk(&mut self, root: &Path) -> Result<()> {
        if !root.metadata().map_err(IngestError::read(root))?.is_dir() {
            return Err(IngestError::read(root)(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        let mut waiting = vec![root.to_owned()];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(&dir).map_err(IngestError::read(&dir))? {
                let entry = entry.map_err(IngestError::read(&dir))?;
                let (path, kind) = (entry.path(), entry.file_type().map_err(IngestError::read(&dir))?);
                let inside = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                if kind.is_dir() && !matches!(UploadPath::parse(&inside), UploadPath::Litter(_)) {
                    self.count_entry()?;
                    waiting.push(path);
                    continue;
                }
                let Some(found) = self.admit(&inside)? else { continue };
                if kind.is_file() {
                    self.reporter.tell(Stage::Unpack, self.arrived, 0)?;
                    self.take_in_place(found, None, &path)?;
                } else {
                    let message = "a link, a device or a pipe; only regular files are taken";
                    self.reject(found.shown, RejectReason::UnsafePath, message);
                }
            }
        }
        Ok(())
    }
}

/// # Errors
/// [`IngestError::TooLarge`] if so many files and folders are too many.
pub(crate) fn check_entries(entries: usize, limits: &Limits) -> Result<()> {
    if entries > limits.entries {
        return Err(IngestError::TooLarge(format!(
            "it has more than {} files and folders; split it into several",
            limits.entries
        )));
    }
    Ok(())
}

/// What reading a file to its end has shown.
#[derive(Clone, Debug)]
pub(crate) struct Digested {
    /// SHA-256, 64 hex digits.
    pub content_hash: String,
    /// Length.
    pub bytes: u64,
    /// The first bytes, enough to know an archive by.
    pub head: Vec<u8>,
}

/// Which side of a copy failed.
pub(crate) enum Fault {
    /// The side that is read.
    Source(io::Error),
    /// A limit, or the side that is written.
    Ours(IngestError),
}

impl From<io::Error> for Fault {
    /// Limits travel through readers wrapped as I/O errors; they are unwrapped here.
    fn from(error: io::Error) -> Self {
        match error.downcast::<IngestError>() {
            Ok(ours) => Self::Ours(ours),
            Err(error) => Self::Source(error),
        }
    }
}

/// Reads to the end, hands every chunk to `sink` and hashes it; `None` if there are more than `most` bytes.
pub(crate) fn digest(
    source: &mut dyn Read,
    most: u64,
    mut sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Option<Digested>, Fault> {
    let mut hasher = Sha256::new();
    let (mut bytes, mut head) = (0, vec![]);
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = match source.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        bytes += n as u64;
        if bytes > most {
            return Ok(None);
        }
        hasher.update(&chunk[..n]);
        if head.len() < archive::HEAD_BYTES {
            head.extend_from_slice(&chunk[..n.min(archive::HEAD_BYTES - head.len())]);
        }
        sink(&chunk[..n]).map_err(Fault::Ours)?;
    }
    let content_hash = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(Digested { content_hash, bytes, head }))
}
