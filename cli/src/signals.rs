//! The signals that ask a program to end.

use std::{future, io, task::Poll};

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, a polite kill, and the terminal's end.
pub struct StopSignals(Vec<Signal>);

impl StopSignals {
    /// From now on these signals end nothing by themselves.
    pub fn listen() -> Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let signals = kinds.into_iter().map(signal).collect::<io::Result<_>>();
        Ok(Self(signals.context("cannot listen for signals")?))
    }

    /// Returns when one of them has come.
    pub async fn next(&mut self) {
        future::poll_fn(|context| {
            let any = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if any { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
