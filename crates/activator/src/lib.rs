//! The data path between a listener and the instances of a revision, deciding as Knative's activator and queue-proxy do:
//! holding requests while nothing is ready, the limits on what runs and what waits, timeouts, header shims, probes,
//! draining.
//!
//! One [`Activator`] a revision. The control plane tells it what is ready and which [`Mode`] to be in; whoever owns the
//! listener sends every request through [`Activator::call`]. All its state stands behind one lock per revision, held for
//! some dozens of instructions and never across a wake-up or an await; revisions share nothing.
//!
//! Left out on purpose: listeners and connections, scaling decisions (a [`Meter`] hears what they need), routing between
//! revisions, and the readiness probing of an instance that starts: an instance is added when it can serve.
//!
//! Where this differs from Knative, because both hops are in one process here:
//!
//! - A request is assigned to an instance only when that instance has a free place, also right after the mode changed from
//!   Serve to Proxy; there it could queue behind requests that had gone straight to the instance. Of those who wait in
//!   both queues, the oldest goes first.
//! - Waiting is first in, first out; Knative lets newcomers overtake.
//! - A place freed on a ready instance is used at once, even while removed instances still finish their requests.
//! - In Serve mode the least loaded instance gets the request, so one is refused only when all are full; in a cluster that
//!   depends on the ingress.
//! - Draining has no quiet period: nothing can arrive at an instance after it has been removed.
//! - `X-Forwarded-For` grows by one address, the client's: the hops inside have none of their own.
//! - Waiting never ends by a deadline of its own (which would be a 503 in Knative): there as here, the timeout of the hop
//!   comes first.
//!
//! # Source
//! knative/serving at `98e5ef90`: `pkg/activator`, `pkg/queue`, `pkg/http`.

mod activator;
mod answer;
pub mod breaker;
mod drain;
mod failure;
mod forwarded;
mod headers;
mod instance;
mod meter;
mod policy;
mod pool;
pub mod probe;
mod route_tag;
mod timeouts;

pub use self::{
    activator::{Activator, Answered, Facts, Limits, unknown_revision},
    answer::AnswerBody,
    drain::Drained,
    failure::Failure,
    instance::{Instance, InstanceId},
    meter::Meter,
    pool::{Hop, Load, Mode},
    route_tag::route_tag,
    timeouts::Timeouts,
};
