//! A revision that lives: its front door, its instances, what scales them, and what it has seen.
//!
//! Scaling is decided where the request that calls for it arrives, under the revision's own lock: a revision at zero
//! whose artefact is mapped has its first instance before that request has begun to wait. Everything else that is due
//! is done by one task per revision.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use activator::{Activator, Answered, Hop, InstanceId, Meter, Mode};
use autoscaler::{
    decider::Decision,
    metrics::{ActivatorStats, RequestStats, Stat},
    reconcile,
    resolve::Settings,
    revision::{Instances, RevisionScaler, Snapshot},
    time::Timestamp,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{
    sync::{Notify, mpsc},
    time::sleep_until,
};
use tokio_util::task::AbortOnDropHandle;

use super::Plan;
use crate::{
    clock::Clock, compute::Compute, instance::Instance, intake::Intake, metrics::Counters, sandbox::Blueprint,
};

/// Decisions that are remembered, to be told.
const MAX_DECISIONS: usize = 50;

/// What a revision tells the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It has had the instances it starts with: traffic may go to it.
    Initialized,
    /// It should have instances, and there is nothing to make them from.
    Wanted,
    /// It has none any more.
    AtZero,
    /// What must survive a restart has changed.
    Changed,
}

/// Which revision it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) revision: String,
}

/// A revision that lives.
pub(crate) struct Revision {
    pub(crate) id: Arc<Id>,
    pub(crate) plan: Plan,
    pub(crate) counters: Counters,
    pub(crate) intake: Intake,
    front: Activator<Slot>,
    scaling: Mutex<Scaling>,
    compute: Arc<Compute>,
    clock: Clock,
    /// Rouses the revision's task.
    due: Notify,
    notices: mpsc::UnboundedSender<(Arc<Id>, Notice)>,
}

struct Scaling {
    scaler: RevisionScaler,
    proxied: ActivatorStats,
    direct: RequestStats,
    instances: Vec<InstanceId>,
    /// Instances it is meant to have.
    replicas: i32,
    /// What instances are made from, once it is there.
    supply: Option<Arc<Blueprint>>,
    is_initialized: bool,
    decisions: VecDeque<Decision>,
}

/// An instance as the activator sees it.
pub(crate) struct Slot(Arc<Instance>);

impl Slot {
    pub(crate) fn of(instance: Instance) -> Self {
        Self(Arc::new(instance))
    }
}

impl activator::Instance for Slot {
    type RequestBody = Bytes;
    type Body = Full<Bytes>;
    type Error = Infallible;

    async fn call(&self, request: Request<Bytes>) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(self.0.answer(request).await.map(Full::new))
    }
}

/// Counts for the revision, which may be gone before its last request.
struct Counting(Weak<Revision>);

impl Meter for Counting {
    fn arrived(&self, hop: Hop) {
        if let Some(revision) = self.0.upgrade() {
            revision.arrived(hop);
        }
    }

    fn finished(&self, hop: Hop) {
        if let Some(revision) = self.0.upgrade() {
            revision.finished(hop);
        }
    }
}

/// A revision's scaling at one moment.
pub(crate) struct View {
    pub(crate) settings: Settings,
    pub(crate) status: reconcile::Status,
    pub(crate) mode: reconcile::Mode,
    pub(crate) load: activator::Load,
    pub(crate) replicas: i32,
    pub(crate) decisions: Vec<Decision>,
}

impl Revision {
    /// A revision without instances, and the task that does what is due for it.
    pub(crate) fn start(
        id: Id,
        plan: Plan,
        settings: Settings,
        snapshot: Option<Snapshot>,
        compute: Arc<Compute>,
        clock: Clock,
        notices: mpsc::UnboundedSender<(Arc<Id>, Notice)>,
    ) -> (Arc<Self>, AbortOnDropHandle<()>) {
        let now = clock.now();
        let is_initialized = snapshot.as_ref().is_some_and(|snapshot| snapshot.status.initialized);
        let scaler = match snapshot {
            Some(snapshot) => RevisionScaler::restore(settings, snapshot, 0, now),
            None => RevisionScaler::new(settings, 0, now),
        };
        let limits = activator::Limits { container_concurrency: plan.container_concurrency, timeouts: plan.timeouts };
        let revision = Arc::new_cyclic(|weak| Self {
            front: Activator::new(id.revision.as_str(), limits, Arc::new(Counting(Weak::clone(weak)))),
            intake: Intake::new(plan.max_body_bytes, plan.timeouts.total),
            scaling: Mutex::new(Scaling {
                replicas: scaler.snapshot().replicas,
                scaler,
                proxied: ActivatorStats::default(),
                direct: RequestStats::new(now),
                instances: Vec::new(),
                supply: None,
                is_initialized,
                decisions: VecDeque::new(),
            }),
            id: Arc::new(id),
            plan,
            counters: Counters::default(),
            compute,
            clock,
            due: Notify::new(),
            notices,
        });
        let task = tokio::spawn(look_after(Arc::clone(&revision)));
        (revision, AbortOnDropHandle::new(task))
    }

    /// Answers one request.
    pub(crate) async fn call(&self, request: Request<Bytes>, client: IpAddr) -> Answered<Slot> {
        self.front.call(request, Some(client)).await
    }

    /// Instances can be made from this now; those that are missing are.
    pub(crate) fn supply(&self, blueprint: Arc<Blueprint>) {
        let mut scaling = self.scaling();
        scaling.supply = Some(blueprint);
        self.bring(&mut scaling);
        self.poll(&mut scaling);
        self.due.notify_one();
    }

    /// Gives back what instances are made from, unless there are any.
    pub(crate) fn take_supply(&self) -> Option<Arc<Blueprint>> {
        let mut scaling = self.scaling();
        if scaling.instances.is_empty() && scaling.replicas <= 0 { scaling.supply.take() } else { None }
    }

    /// Settings of the cluster, or the routes to it, have changed.
    pub(crate) fn update(&self, settings: Settings) {
        let mut scaling = self.scaling();
        scaling.scaler.update(settings, self.clock.now());
        self.poll(&mut scaling);
        self.due.notify_one();
    }

    /// It is deleted: whoever waits is told so, and its instances finish what they do.
    pub(crate) fn close(&self) {
        drop(self.front.close());
        let mut scaling = self.scaling();
        scaling.instances.clear();
        scaling.supply = None;
    }

    /// What must survive a restart.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.scaling().scaler.snapshot()
    }

    /// How it stands; decisions newest first.
    pub(crate) fn view(&self) -> View {
        let load = self.front.load();
        let scaling = self.scaling();
        View {
            settings: *scaling.scaler.settings(),
            status: *scaling.scaler.status(),
            mode: scaling.scaler.mode(),
            load,
            replicas: scaling.replicas,
            decisions: scaling.decisions.iter().rev().copied().collect(),
        }
    }

    fn arrived(&self, hop: Hop) {
        let now = self.clock.now();
        let mut scaling = self.scaling();
        match hop {
            Hop::Activator => {
                if let Some(stat) = scaling.proxied.request_in(now) {
                    if scaling.scaler.record_from_activator(now, stat) {
                        self.poll(&mut scaling);
                    }
                    // From now on each second counts.
                    self.due.notify_one();
                }
            }
            Hop::QueueProxy => scaling.direct.request_in(now, false),
        }
    }

    fn finished(&self, hop: Hop) {
        let now = self.clock.now();
        let mut scaling = self.scaling();
        match hop {
            Hop::Activator => scaling.proxied.request_out(now),
            Hop::QueueProxy => scaling.direct.request_out(now, false),
        }
    }

    /// A second is over.
    fn report(&self, scaling: &mut Scaling, now: Timestamp) {
        let scraped = scaling.scaler.is_scraped();
        let proxied = scaling.proxied.report_second(now, scraped);
        let direct = scaling.direct.report(now);
        let stat = match proxied {
            Some(proxied) => Stat {
                concurrency: proxied.concurrency + direct.concurrency,
                request_count: proxied.request_count + direct.request_count,
                ..proxied
            },
            None if direct.concurrency != 0.0 || direct.request_count != 0.0 => direct,
            None => return,
        };
        // Poked or not, a poll comes next.
        let _ = scaling.scaler.record_from_activator(now, stat);
    }

    /// Does what is due.
    fn poll(&self, scaling: &mut Scaling) {
        loop {
            let now = self.clock.now();
            let before = scaling.instances.len();
            let instances = Instances { ready: u32::try_from(before).unwrap_or(u32::MAX), replicas: scaling.replicas };
            let step = scaling.scaler.poll(now, instances);
            if let Some(decision) = step.decision {
                remember(&mut scaling.decisions, decision);
            }
            if let Some(outcome) = step.outcome {
                self.front.set_mode(match outcome.mode {
                    reconcile::Mode::Proxy => Mode::Proxy,
                    reconcile::Mode::Serve => Mode::Serve,
                });
                if let Some(scale) = outcome.scale {
                    scaling.replicas = scale;
                    self.bring(scaling);
                }
                if outcome.status.initialized && !scaling.is_initialized {
                    scaling.is_initialized = true;
                    self.tell(Notice::Initialized);
                }
                self.tell(Notice::Changed);
            }
            if scaling.instances.len() == before {
                break;
            }
        }
    }

    /// Brings the instances to as many as are meant to be there.
    fn bring(&self, scaling: &mut Scaling) {
        let target = usize::try_from(scaling.replicas).unwrap_or(0);
        if target > scaling.instances.len() {
            let Some(blueprint) = &scaling.supply else {
                self.tell(Notice::Wanted);
                return;
            };
            let missing = target - scaling.instances.len();
            let slots = (0..missing).map(|_| Arc::new(Slot::of(self.instance(blueprint))));
            let added = self.front.add_all(slots);
            scaling.instances.extend(added);
        }
        let was_there = !scaling.instances.is_empty();
        while scaling.instances.len() > target {
            if let Some(id) = scaling.instances.pop() {
                // It finishes its requests by itself.
                drop(self.front.remove(id));
            }
        }
        if was_there && target == 0 {
            self.tell(Notice::AtZero);
        }
    }

    /// An instance that could serve this revision.
    pub(crate) fn instance(&self, blueprint: &Arc<Blueprint>) -> Instance {
        Instance::new(Arc::clone(blueprint), Arc::clone(&self.compute), self.plan.isolation, self.plan.timeouts.total)
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens any more at the very end.
        let _ = self.notices.send((Arc::clone(&self.id), notice));
    }

    fn scaling(&self) -> MutexGuard<'_, Scaling> {
        self.scaling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember(decisions: &mut VecDeque<Decision>, decision: Decision) {
    let is_news = decisions.back().is_none_or(|last| {
        (last.desired, last.panicking, last.ready) != (decision.desired, decision.panicking, decision.ready)
    });
    if is_news {
        if decisions.len() == MAX_DECISIONS {
            decisions.pop_front();
        }
        decisions.push_back(decision);
    } else if let Some(last) = decisions.back_mut() {
        // The averages it gives are the present ones.
        *last = Decision { at: last.at, ..decision };
    }
}

/// Polls a revision when it is due, and reports each second while there is anything to report.
async fn look_after(revision: Arc<Revision>) {
    let clock = revision.clock;
    let mut next_second = None;
    loop {
        let (wake, counts) = {
            let scaling = revision.scaling();
            let counts =
                scaling.proxied.owes_report() || scaling.direct.in_flight() > 0.0 || scaling.scaler.is_scraped();
            (scaling.scaler.next_wake(clock.now()), counts)
        };
        if !counts {
            next_second = None;
        } else if next_second.is_none() {
            next_second = Some(clock.next_second());
        }
        let at = next_second.map_or(wake, |second: Timestamp| second.min(wake));
        tokio::select! {
            () = sleep_until(clock.instant(at)) => {}
            () = revision.due.notified() => {}
        }

        let now = clock.now();
        let mut scaling = revision.scaling();
        if next_second.is_some_and(|second| now >= second) {
            revision.report(&mut scaling, now);
            next_second = Some(clock.next_second());
        }
        if now >= scaling.scaler.next_wake(now) {
            revision.poll(&mut scaling);
        }
    }
}
