//! Files as they arrive over the network: streamed to volume 1, counted on the way, never held in memory.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use api::dataset::{RejectReason, Rejected};
use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::{Stream, StreamExt};
use store::{Staging, Volumes};
use tokio::io::AsyncWriteExt;

use crate::{IngestError, Limits, Result, collect::check_entries, path::shown, room::Room};

/// An upload being received. Dropping it removes what has arrived.
#[derive(Debug)]
pub struct Upload {
    parts: Box<Parts>,
    limits: Limits,
    room: Room,
    received: u64,
    files: usize,
}

/// What has arrived.
#[derive(Debug)]
pub(crate) struct Parts {
    pub staging: Staging,
    /// Where the archive is, and its name.
    pub archive: Option<(PathBuf, String)>,
    pub pictures: Vec<Received>,
    pub rejected: Vec<Rejected>,
}

/// A picture that has arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub label: Option<String>,
    pub name: String,
    pub file: PathBuf,
}

impl Upload {
    /// Begins an upload on volume 1.
    ///
    /// # Errors
    /// [`IngestError::NoRoom`] if the volume is as good as full.
    pub fn begin(volumes: &Volumes, limits: Limits) -> Result<Self> {
        let staging = Staging::new(&volumes.staging1(), "upload-")?;
        let room = Room::new(staging.path(), &limits, 0)?;
        let parts = Box::new(Parts { staging, archive: None, pictures: vec![], rejected: vec![] });
        Ok(Self { parts, limits, room, received: 0, files: 0 })
    }

    /// Receives an archive (ZIP or tar, gzipped or not). One at most; pictures may come beside it.
    ///
    /// # Errors
    /// [`IngestError::TooLarge`] beyond [`Limits::archive_bytes`], [`IngestError::BrokenOff`] if `body` fails.
    pub async fn receive_archive<E>(
        &mut self,
        name: &str,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<()>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        if self.parts.archive.is_some() {
            return Err(IngestError::Layout("two archives came at once; send one for each dataset".into()));
        }
        let path = self.parts.staging.path().join("archive");
        let most = self.limits.archive_bytes;
        let received = receive(&mut self.room, name, body, &path, |bytes| bytes <= most, |_| Ok(())).await?;
        if !received {
            return Err(IngestError::TooLarge(format!("the archive has more than {}", ByteSize::b(most))));
        }
        self.parts.archive = Some((path, name.to_owned()));
        Ok(())
    }

    /// Receives one picture of a class, or, without a label, a file whose path inside a chosen folder tells its class.
    ///
    /// A file beyond [`Limits::file_bytes`] is listed as rejected later, and is no error here.
    ///
    /// # Errors
    /// [`IngestError::TooLarge`] if all files together are too many or too large, [`IngestError::BrokenOff`] if `body`
    /// fails.
    pub async fn receive_picture<E>(
        &mut self,
        label: Option<&str>,
        name: &str,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<()>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.files += 1;
        check_entries(self.files, &self.limits)?;
        let file = self.parts.staging.path().join(format!("picture-{}", self.files));
        let (limits, all) = (&self.limits, &mut self.received);
        let fits = |bytes| bytes <= limits.file_bytes;
        let count = |bytes| {
            *all += bytes;
            if *all > limits.unpacked_bytes {
                let most = ByteSize::b(limits.unpacked_bytes);
                return Err(IngestError::TooLarge(format!("its files have more than {most}")));
            }
            Ok(())
        };
        if receive(&mut self.room, name, body, &file, fits, count).await? {
            let label = label.map(str::to_owned);
            self.parts.pictures.push(Received { label, name: name.to_owned(), file });
        } else {
            self.parts.rejected.push(Rejected {
                name: shown(name),
                label: label.map(shown),
                reason: RejectReason::TooLarge,
                message: format!("the file has more than {} bytes", limits.file_bytes),
            });
        }
        Ok(())
    }

    pub(crate) fn into_parts(self) -> Parts {
        *self.parts
    }
}

/// Writes a body to a file. `false` if it does not fit: then the rest of it is read and forgotten, and so is the file.
async fn receive<E>(
    room: &mut Room,
    name: &str,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    path: &Path,
    fits: impl Fn(u64) -> bool,
    mut count: impl FnMut(u64) -> Result<()>,
) -> Result<bool>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut file = tokio::fs::File::create(path).await.map_err(IngestError::write(path))?;
    let mut bytes = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|e| IngestError::BrokenOff { name: shown(name), source: e.into() })?;
        bytes += chunk.len() as u64;
        count(chunk.len() as u64)?;
        if fits(bytes) {
            room.take(chunk.len() as u64)?;
            file.write_all(&chunk).await.map_err(IngestError::write(path))?;
        }
    }
    file.flush().await.map_err(IngestError::write(path))?;
    if !fits(bytes) {
        tokio::fs::remove_file(path).await.map_err(IngestError::write(path))?;
    }
    Ok(fits(bytes))
}
