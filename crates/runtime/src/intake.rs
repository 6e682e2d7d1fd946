//! Reads request bodies: each bounded in size and time, and all together bounded in memory.

use std::{error::Error, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::failure::Failure;

/// Bodies of the largest allowed size that may be in memory at once. Smaller ones may be more.
const FULL_BODIES: usize = 4;

/// What one permit of the budget stands for.
const PERMIT_BYTES: usize = 1024;

/// How long the rest of a refused body is read and thrown away, so that its sender gets to see the refusal.
const COURTESY: Duration = Duration::from_secs(1);

/// A function's budget for request bodies.
pub(crate) struct Intake {
    limit_bytes: usize,
    patience: Duration,
    budget: Arc<Semaphore>,
}

/// Keeps a body's share of the budget until it is dropped.
pub(crate) struct Share(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Intake {
    /// Takes bodies of at most `limit_bytes` that arrive within `patience`.
    pub(crate) fn new(limit_bytes: usize, patience: Duration) -> Self {
        let permits = (permits(limit_bytes) as usize).saturating_mul(FULL_BODIES).min(Semaphore::MAX_PERMITS);
        Self { limit_bytes, patience, budget: Arc::new(Semaphore::new(permits)) }
    }

    /// Reads a body whole.
    pub(crate) async fn read<B>(&self, body: B) -> Result<(Bytes, Share), Failure>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut body = pin!(body);
        let too_large = || Failure::BodyTooLarge { limit_bytes: self.limit_bytes };
        let announced = body.size_hint();
        if announced.lower() > self.limit_bytes as u64 {
            discard(body).await;
            return Err(too_large());
        }

        // A body of unknown length takes the largest share at once: growing shares could wait for each other forever.
        let expected = announced
            .upper()
            .map_or(self.limit_bytes, |upper| usize::try_from(upper).unwrap_or(usize::MAX).min(self.limit_bytes));
        let share = timeout(self.patience, Arc::clone(&self.budget).acquire_many_owned(permits(expected))).await;
        let Ok(Ok(share)) = share else {
            return Err(Failure::NoPlace { limit: self.patience });
        };

        match timeout(self.patience, Limited::new(body.as_mut(), self.limit_bytes).collect()).await {
            Ok(Ok(collected)) => Ok((collected.to_bytes(), Share(share))),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                discard(body).await;
                Err(too_large())
            }
            Ok(Err(source)) => Err(Failure::BodyBroken { source }),
            Err(_) => Err(Failure::BodySlow { limit: self.patience }),
        }
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX)
}

async fn discard<B: Body<Data = Bytes>>(mut body: std::pin::Pin<&mut B>) {
    let _ = timeout(COURTESY, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::{convert::Infallible, io};

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn intake() -> Intake {
        Intake::new(4096, PATIENCE)
    }

    /// A body that does not say how long it is.
    fn chunked(chunks: usize) -> impl Body<Data = Bytes, Error = Infallible> {
        StreamBody::new(stream::iter((0..chunks).map(|_| Ok(Frame::data(Bytes::from(vec![0; 1024]))))))
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read() {
        assert_eq!(intake().read(Full::new(Bytes::from_static(&[7; 4096]))).await.unwrap().0.len(), 4096);
        assert_eq!(intake().read(chunked(4)).await.unwrap().0.len(), 4096);
    }

    #[tokio::test]
    async fn a_larger_body_is_too_large_whether_announced_or_not() {
        for read in [intake().read(Full::new(Bytes::from_static(&[7; 4097]))).await, intake().read(chunked(5)).await] {
            assert!(matches!(read, Err(Failure::BodyTooLarge { limit_bytes: 4096 })));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let stalled = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert!(matches!(intake().read(stalled).await, Err(Failure::BodySlow { limit: PATIENCE })));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_reported() {
        let broken = StreamBody::new(stream::iter([Err::<Frame<Bytes>, _>(io::Error::other("gone"))]));
        assert!(matches!(intake().read(broken).await, Err(Failure::BodyBroken { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_the_budget() {
        let intake = intake();
        let mut held = Vec::new();
        for _ in 0..FULL_BODIES {
            held.push(intake.read(chunked(4)).await.unwrap().1);
        }
        assert!(matches!(intake.read(chunked(1)).await, Err(Failure::NoPlace { .. })));
        held.pop();
        assert!(intake.read(chunked(1)).await.is_ok());
    }
}
