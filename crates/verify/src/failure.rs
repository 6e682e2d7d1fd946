//! Why something did not hold, so that a stranger can go on from there.

use cluster::ClusterError;
use serde::Serialize;

/// Result of this crate.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why something did not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// In a sentence.
    pub says: String,
    /// What was seen at that moment: pods, events, logs; a line each.
    pub seen: Vec<String>,
    /// Commands that mend it or look further.
    pub mend: Vec<String>,
}

impl Failure {
    /// With nothing but a sentence.
    pub fn new(says: impl Into<String>) -> Self {
        Self { says: says.into(), ..Self::default() }
    }

    /// With a command.
    pub fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend.push(command.into());
        self
    }

    /// With what was seen, a line each.
    pub fn seen(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.seen.extend(lines);
        self
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        Self::new(error.to_string())
    }
}
