//! Waiting until a removed instance has finished.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

/// Resolves when the removed instances have finished all they had taken, and the activator no longer holds them.
///
/// Dropping it does not stop the draining.
#[must_use = "instances drain whether or not anybody waits, but whoever removes one wants to know when it is done"]
#[derive(Debug)]
pub struct Drained {
    /// Each ends when its sender, kept with the instance, is dropped.
    left: Vec<oneshot::Receiver<()>>,
}

impl Drained {
    pub(crate) fn new(left: Vec<oneshot::Receiver<()>>) -> Self {
        Self { left }
    }
}

impl Future for Drained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        while let Some(last) = self.left.last_mut() {
            let _ = ready!(Pin::new(last).poll(context));
            self.left.pop();
        }
        Poll::Ready(())
    }
}
