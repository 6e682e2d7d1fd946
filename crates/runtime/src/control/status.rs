//! A Service and its revisions as the admin port tells of them.

use std::{collections::BTreeMap, sync::Arc};

use api::functions::{Activity, Decision, Phase, RevisionStatus, ServiceStatus, TrafficShare};
use autoscaler::{reconcile::ActiveState, resolve::Reachability};
use serving::{
    ServiceState,
    status::{ConditionStatus, ConditionType},
};

use super::{Revision, plane::Live};

/// Decisions that are told of each revision.
const DECISIONS: usize = 20;

pub(super) fn service(state: &ServiceState, url: String, live: &BTreeMap<String, Live>) -> ServiceStatus {
    let status = state.status();
    let ready = status.conditions.iter().find(|condition| condition.kind == ConditionType::Ready);
    let reason = ready.filter(|ready| ready.status != ConditionStatus::True).map(|ready| {
        let parts = [ready.reason.as_str(), ready.message.as_str()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
    });
    let traffic = status.traffic.iter().map(|target| TrafficShare {
        revision: target.revision_name.clone(),
        percent: u32::try_from(target.percent()).unwrap_or_default(),
        latest: target.is_latest(),
        tag: Some(target.tag.clone()).filter(|tag| !tag.is_empty()),
        url: Some(target.url.clone()).filter(|url| !url.is_empty()),
    });
    let mut revisions: Vec<_> = state.revisions().collect();
    revisions.sort_by_key(|revision| std::cmp::Reverse(revision.generation));
    ServiceStatus {
        namespace: state.service().metadata.namespace().to_owned(),
        name: state.service().metadata.name.clone(),
        url,
        ready: ready.is_some_and(|ready| ready.status == ConditionStatus::True),
        reason: reason.filter(|reason| !reason.is_empty()),
        latest_created: status.latest_created_revision_name,
        latest_ready: status.latest_ready_revision_name,
        traffic: traffic.collect(),
        revisions: revisions
            .into_iter()
            .map(|revision| {
                let reachable = revision.reachability() != Reachability::Unreachable;
                match live.get(&revision.name) {
                    Some(Live { revision, failed, .. }) => told(revision, reachable, failed.as_deref()),
                    None => {
                        RevisionStatus { name: revision.name.clone(), reachable, desired: -1, ..Default::default() }
                    }
                }
            })
            .collect(),
    }
}

fn told(revision: &Arc<Revision>, reachable: bool, failed: Option<&str>) -> RevisionStatus {
    let view = revision.view();
    let latest = view.decisions.first();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut status = RevisionStatus {
        name: revision.id.revision.clone(),
        phase: match failed {
            Some(_) => Phase::Failed,
            None if view.status.initialized => Phase::Ready,
            None => Phase::Preparing,
        },
        reason: failed.map(str::to_owned),
        mounted: revision.plan.recipe.confines.mounted.iter().map(|at| at.path.display().to_string()).collect(),
        reachable,
        activity: match view.status.state {
            ActiveState::Activating => Activity::Activating,
            ActiveState::Active => Activity::Active,
            ActiveState::Inactive => Activity::Inactive,
        },
        mode: format!("{:?}", view.mode),
        desired: view.replicas,
        ready: count(view.load.ready),
        draining: count(view.load.draining),
        running: view.load.running as u64,
        waiting: (view.load.held + view.load.queued) as u64,
        stable_concurrency: latest.map_or(0.0, |latest| latest.stable),
        panic_concurrency: latest.map_or(0.0, |latest| latest.panic),
        target_concurrency: view.settings.decider.target_value,
        panicking: latest.is_some_and(|latest| latest.panicking),
        excess_burst_capacity: latest.map_or(0, |latest| latest.excess_burst_capacity),
        decisions: view
            .decisions
            .iter()
            .take(DECISIONS)
            .map(|decision| Decision {
                at_unix_ms: decision.at.unix_millis(),
                desired: decision.desired,
                ready: decision.ready,
                reason: decision.to_string(),
            })
            .collect(),
        ..RevisionStatus::default()
    };
    revision.counters.tell(&mut status);
    status
}
