//! What guests write to stdout and stderr becomes log lines, and only so many of them for each request.

use std::{
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

/// Longer lines are broken.
const MAX_LINE_BYTES: usize = 2048;

/// What a guest may write at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A guest's stdout and stderr; clones write to the same log.
#[derive(Clone)]
pub(crate) struct GuestLog(Arc<Mutex<State>>);

struct State {
    function: Arc<str>,
    allowance_bytes: usize,
    left_bytes: usize,
    dropped_bytes: u64,
    line: Vec<u8>,
}

impl GuestLog {
    pub(crate) fn new(function: Arc<str>, allowance_bytes: usize) -> Self {
        let (left_bytes, dropped_bytes, line) = (allowance_bytes, 0, Vec::new());
        Self(Arc::new(Mutex::new(State { function, allowance_bytes, left_bytes, dropped_bytes, line })))
    }

    /// Logs what has no line end yet and what was dropped, and grants the next request its own allowance.
    pub(crate) fn end_request(&self) {
        let mut state = self.state();
        state.end_line();
        let dropped_bytes = mem::take(&mut state.dropped_bytes);
        if dropped_bytes > 0 {
            tracing::warn!(target: "guest", function = &*state.function, dropped_bytes, "the guest logged too much");
        }
        state.left_bytes = state.allowance_bytes;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(self.left_bytes);
        self.left_bytes -= taken;
        self.dropped_bytes += (bytes.len() - taken) as u64;
        for &byte in &bytes[..taken] {
            if byte != b'\n' {
                self.line.push(byte);
            }
            if byte == b'\n' || self.line.len() == MAX_LINE_BYTES {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        if !self.line.is_empty() {
            let line = String::from_utf8_lossy(&self.line);
            tracing::info!(target: "guest", function = &*self.function, line = &*line);
            self.line.clear();
        }
    }
}

impl IsTerminal for GuestLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestLog {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    // The default passes bytes through a task, and a panic's last words would be lost with its store.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for GuestLog {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.state().write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Pollable for GuestLog {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for GuestLog {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.state().write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(allowance_bytes: usize) -> GuestLog {
        GuestLog::new("noisy".into(), allowance_bytes)
    }

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let log = log(100);
        for _ in 0..50 {
            log.state().write(b"1234567\n");
        }
        let state = log.state();
        assert_eq!((state.left_bytes, state.dropped_bytes), (0, 300));
    }

    #[test]
    fn the_next_request_has_its_own_allowance() {
        let log = log(10);
        log.state().write(&[b'x'; 25]);
        log.end_request();
        let state = log.state();
        assert_eq!((state.left_bytes, state.dropped_bytes, state.line.len()), (10, 0, 0));
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let log = log(1 << 20);
        log.state().write(&vec![b'x'; 1 << 19]);
        assert!(log.state().line.len() < MAX_LINE_BYTES);
    }
}
