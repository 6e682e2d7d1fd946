//! What the activator asks of an instance.

use std::{error::Error, fmt};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

/// Something that answers requests of a revision: what is a pod in a cluster.
pub trait Instance: Send + Sync + 'static {
    /// Body of the requests it takes.
    type RequestBody: Send;
    /// Body of its answers.
    type Body: Body<Data = Bytes> + Send + 'static;
    /// Why it did not answer; the client gets its text with a 502.
    type Error: Error + Send + Sync + 'static;

    /// Answers one request. Dropping the future, or later the answer's body, cancels the request.
    fn call(
        &self,
        request: Request<Self::RequestBody>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Self::Error>> + Send;
}

/// Names an instance within its revision; instances added later have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub(crate) u64);

impl InstanceId {
    /// Counts from one.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
