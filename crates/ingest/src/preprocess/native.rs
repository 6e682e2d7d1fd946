//! The house's preprocessing code within this process, off the async threads.

use api::PreprocessSpec;
use bytes::Bytes;
use imaging::Probe;

use super::{Preprocess, Processed, Refusal};

/// Processes pictures on the blocking threads of the runtime it is called from.
#[derive(Clone, Debug, Default)]
pub struct Native {
    limits: imaging::Limits,
}

impl Native {
    /// With these limits on each picture.
    pub fn new(limits: imaging::Limits) -> Self {
        Self { limits }
    }
}

impl Preprocess for Native {
    async fn probe(&self, picture: Bytes) -> Result<Probe, Refusal> {
        let limits = self.limits;
        blocking(move || imaging::probe(&picture, &limits)).await
    }

    async fn process(&self, picture: Bytes, spec: &PreprocessSpec) -> Result<Processed, Refusal> {
        let (limits, spec) = (self.limits, spec.clone());
        let picture = blocking(move || imaging::process(&picture, &spec, &limits)).await?;
        Ok(Processed { facts: picture.facts, pixels: picture.pixels })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, imaging::ImagingError> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| Refusal::Picture(e.detail())),
        Err(e) if e.is_panic() => Err(Refusal::Failed(e.into())),
        Err(e) => Err(Refusal::Service(e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IngestError;

    #[tokio::test]
    async fn a_panic_over_a_picture_is_that_pictures_failure() {
        let refusal = blocking(|| -> Result<(), _> { panic!("a decoder met what it never should") }).await;
        assert!(matches!(refusal, Err(Refusal::Failed(IngestError::Task(_)))), "{refusal:?}");
    }
}
