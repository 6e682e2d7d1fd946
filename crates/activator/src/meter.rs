//! Counting the requests of a revision, for those who scale it.

use std::sync::Arc;

use crate::pool::Hop;

/// Hears of each request exactly once when it arrives and exactly once when it is over: answered to the last byte, failed,
/// refused, timed out, abandoned by its client or unwound by a panic. Probes and requests to a deleted revision are not
/// counted.
///
/// The calls are made on the request's path, with no lock held. `arrived` comes before the request starts to wait for
/// anything: whoever keeps the statistics finds there the first request after none, and can poke the autoscaler.
pub trait Meter: Send + Sync + 'static {
    /// A request has arrived at this hop.
    fn arrived(&self, hop: Hop);

    /// A request that had arrived at this hop is over.
    fn finished(&self, hop: Hop);
}

/// Tells the meter that the request is over when dropped.
pub(crate) struct Counted {
    meter: Arc<dyn Meter>,
    hop: Hop,
}

impl Counted {
    pub(crate) fn new(meter: &Arc<dyn Meter>, hop: Hop) -> Self {
        meter.arrived(hop);
        Self { meter: Arc::clone(meter), hop }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.meter.finished(self.hop);
    }
}
