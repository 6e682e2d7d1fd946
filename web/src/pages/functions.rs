//! The page of the functions.

use api::functions::{Decision, RevisionStatus, ServiceStatus, TrafficShare};
use askama::Template;

use crate::split::Split;

/// Decisions shown of each function.
const DECISIONS: usize = 6;

/// `/functions`.
#[derive(Template)]
#[template(path = "functions.html")]
pub struct Functions {
    /// Entry of the navigation.
    pub nav: &'static str,
    /// Whether there is a runtime to follow.
    pub is_live: bool,
    /// By namespace and name.
    pub functions: Vec<FunctionView>,
    /// Why there are none.
    pub problem: Option<String>,
}

/// The part of `/functions` that changes.
#[derive(Template)]
#[template(path = "functions_live.html")]
pub struct FunctionsLive {
    /// By namespace and name.
    pub functions: Vec<FunctionView>,
    /// Why there are none.
    pub problem: Option<String>,
}

/// A function and the form of its traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionView {
    /// The function.
    pub service: ServiceStatus,
    /// The latest decisions and the revisions they concern, newest first.
    pub decisions: Vec<(String, Decision)>,
    /// The form.
    pub split: Split,
}

impl FunctionView {
    /// With the form as it is before anybody types.
    pub fn of(service: ServiceStatus) -> Self {
        let of_revision =
            |r: &RevisionStatus| r.decisions.iter().map(|d| (r.name.clone(), d.clone())).collect::<Vec<_>>();
        let mut decisions: Vec<_> = service.revisions.iter().flat_map(of_revision).collect();
        decisions.sort_by_key(|(_, decision)| std::cmp::Reverse(decision.at_unix_ms));
        decisions.truncate(DECISIONS);
        Self { decisions, split: Split::of(&service), service }
    }

    /// Id of its place on the page.
    pub fn id(&self) -> String {
        format!("{}.{}", self.service.namespace, self.service.name)
    }

    fn shares<'a>(&'a self, revision: &'a RevisionStatus) -> impl Iterator<Item = &'a TrafficShare> {
        self.service.traffic.iter().filter(|share| share.revision == revision.name)
    }
}

/// Percentage of what its instances should have in flight that a revision has, at most 100.
fn load(revision: &RevisionStatus) -> f64 {
    let wanted = revision.target_concurrency * f64::from(revision.ready.max(1));
    if wanted > 0.0 { (100.0 * revision.stable_concurrency / wanted).clamp(0.0, 100.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_a_share_of_what_all_ready_instances_should_have() {
        let revision = |ready, stable_concurrency, target_concurrency| RevisionStatus {
            ready,
            stable_concurrency,
            target_concurrency,
            ..RevisionStatus::default()
        };
        let loads = [revision(2, 0.5, 1.0), revision(0, 0.5, 1.0), revision(1, 9.0, 1.0), revision(1, 1.0, 0.0)];
        assert_eq!(loads.map(|revision| load(&revision)), [25.0, 50.0, 100.0, 0.0]);
    }
}
