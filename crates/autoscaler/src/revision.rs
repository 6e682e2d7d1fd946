//! One revision's whole autoscaling as a state machine: windows, decider, passes and timers in the order in which they
//! are due.
//!
//! Time and the count of instances come from outside, and the outcome goes there; this starts and stops nothing.
//!
//! The caller's loop: [`record`](RevisionScaler::record_from_activator) what is measured, call
//! [`poll`](RevisionScaler::poll) at [`next_wake`](RevisionScaler::next_wake) or sooner, whenever the ready instances
//! change or a stat calls for it, and bring the instances to the scale that comes back.

use serde::{Deserialize, Serialize};

use crate::decider::{Decider, Decision, TICK};
use crate::metrics::{Collector, Stat};
use crate::reconcile::{Mode, Network, Observed, Outcome, Status, reconcile};
use crate::resolve::Settings;
use crate::time::Timestamp;

/// The instances of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instances {
    /// Those that are ready and not on their way out.
    pub ready: u32,
    /// Those that are meant to be there.
    pub replicas: i32,
}

/// What was due at a poll.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The decision, if one was due and there was data.
    pub decision: Option<Decision>,
    /// The last of the passes, if any was due; its `scale` is the last that any of them wants applied.
    pub outcome: Option<Outcome>,
}

/// What must survive a restart. Windows, panic and recommendation begin anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The status.
    pub status: Status,
    /// Where requests go.
    pub mode: Mode,
    /// Since when they have been going through the activator, if they do.
    pub proxy_since: Option<Timestamp>,
    /// Instances that are meant to be there.
    pub replicas: i32,
}

/// Scales one revision.
#[derive(Debug, Clone)]
pub struct RevisionScaler {
    settings: Settings,
    decider: Decider,
    collector: Collector,
    status: Status,
    mode: Mode,
    proxy_since: Option<Timestamp>,
    instances: Instances,
    next_tick: Timestamp,
    tick_now: bool,
    pass_now: bool,
    timers: Timers,
    last_decision: Option<Decision>,
    last_outcome: Option<Outcome>,
}

impl RevisionScaler {
    /// A revision that is new; it is meant to have [`initial_replicas`](Self::initial_replicas).
    pub fn new(settings: Settings, ready: u32, now: Timestamp) -> Self {
        let snapshot = Snapshot {
            status: Status::new(now),
            mode: Mode::Proxy,
            proxy_since: Some(now),
            replicas: settings.scale.initial_scale,
        };
        Self::restore(settings, snapshot, ready, now)
    }

    /// A revision that lived before a restart, with what is ready of it now.
    pub fn restore(settings: Settings, snapshot: Snapshot, ready: u32, now: Timestamp) -> Self {
        let mut collector = Collector::default();
        collector.start(&settings.metrics, now);
        let mut scaler = Self {
            settings,
            decider: Decider::new(settings.decider, ready, now),
            collector,
            status: snapshot.status,
            mode: snapshot.mode,
            proxy_since: snapshot.proxy_since,
            instances: Instances { ready, replicas: snapshot.replicas },
            next_tick: now + TICK,
            tick_now: false,
            pass_now: true,
            timers: Timers::default(),
            last_decision: None,
            last_outcome: None,
        };
        scaler.note_proxying(now);
        scaler
    }

    /// Throws the windows away and drops stats until [`start_collecting`](Self::start_collecting); in a cluster the
    /// windows of a new revision come a moment after its decider.
    pub fn stop_collecting(&mut self) {
        self.collector.stop();
    }

    /// Keeps stats from now on.
    pub fn start_collecting(&mut self, now: Timestamp) {
        self.collector.start(&self.settings.metrics, now);
    }

    /// What must survive a restart.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            status: self.status,
            mode: self.mode,
            proxy_since: self.proxy_since,
            replicas: self.instances.replicas,
        }
    }

    /// Instances to begin with.
    pub fn initial_replicas(&self) -> i32 {
        self.settings.scale.initial_scale
    }

    /// What it scales by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its decider.
    pub fn decider(&self) -> &Decider {
        &self.decider
    }

    /// Its status.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Where requests go, as far as decisions are concerned.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The latest decision.
    pub fn last_decision(&self) -> Option<&Decision> {
        self.last_decision.as_ref()
    }

    /// What the latest pass came to.
    pub fn last_outcome(&self) -> Option<&Outcome> {
        self.last_outcome.as_ref()
    }

    /// Whether instances would be asked for their stats now: every second without traffic then counts as a zero.
    pub fn is_scraped(&self) -> bool {
        self.settings.metrics.scraped && self.instances.ready > 0
    }

    /// Takes over other settings: a changed config, or a route that came or went. The way seconds are averaged and the
    /// scale-down delay stay as they began.
    pub fn update(&mut self, settings: Settings, now: Timestamp) {
        self.settings = settings;
        self.decider.set_spec(settings.decider);
        if self.collector.is_collecting() {
            self.collector.start(&settings.metrics, now);
        }
        self.pass_now = true;
    }

    /// Records what instances said of themselves.
    pub fn record(&mut self, at: Timestamp, stat: Stat) {
        self.collector.record(at, stat);
    }

    /// Records what the activator said. Returns whether to poll at once: there is traffic, and the revision is at zero.
    #[must_use = "requests for a revision at zero wait for the poll"]
    pub fn record_from_activator(&mut self, at: Timestamp, stat: Stat) -> bool {
        self.collector.record(at, stat);
        let poke = self.decider.status().is_poked_by(&stat);
        self.tick_now |= poke;
        poke
    }

    /// When the next regular decision is due.
    pub fn next_tick(&self) -> Timestamp {
        self.next_tick
    }

    /// When to poll at the latest; may lie in the past.
    pub fn next_wake(&self, now: Timestamp) -> Timestamp {
        if self.tick_now || self.pass_now {
            return now;
        }
        self.timers.next().map_or(self.next_tick, |due| due.min(self.next_tick))
    }

    /// Does what is due: takes in the instances, decides, and makes passes until one changes nothing more.
    pub fn poll(&mut self, now: Timestamp, instances: Instances) -> Step {
        self.observe(now, instances);
        let mut decision = None;
        if self.tick_now || now >= self.next_tick {
            decision = self.tick(now);
        }
        self.pass_now |= self.timers.fire(now);
        let mut outcome: Option<Outcome> = None;
        while self.pass_now {
            let pass = self.pass(now, self.network(now));
            let scale = pass.scale.or(outcome.and_then(|earlier| earlier.scale));
            outcome = Some(Outcome { scale, ..pass });
        }
        Step { decision, outcome }
    }

    /// Takes in how many instances there are.
    pub fn observe(&mut self, now: Timestamp, instances: Instances) {
        self.pass_now |= instances.ready != self.instances.ready;
        self.instances = instances;
        self.note_proxying(now);
    }

    /// Decides now, whether or not it is time; none if there is no data.
    pub fn tick(&mut self, now: Timestamp) -> Option<Decision> {
        self.tick_now = false;
        if now >= self.next_tick {
            // Ticks that were missed are not made up for, and the next keeps the rhythm.
            let missed = now.since(self.next_tick).as_nanos() / TICK.as_nanos();
            self.next_tick = self.next_tick + TICK * (u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1);
        }
        let reading = self.collector.read(self.settings.decider.metric, now).ok()?;
        let decision = self.decider.decide(now, self.instances.ready, reading);
        self.pass_now |= decision.notify;
        self.last_decision = Some(decision);
        Some(decision)
    }

    /// One pass over a network that is as the caller says; none if there is none yet.
    pub fn pass(&mut self, now: Timestamp, network: Option<Network>) -> Outcome {
        let observed = Observed {
            now,
            decider: self.decider.status(),
            replicas: self.instances.replicas,
            ready: self.instances.ready,
            network,
            status: self.status,
        };
        let outcome = reconcile(&self.settings.scale, &self.settings.decider, &observed);
        self.pass_now = outcome.status != self.status || outcome.mode != self.mode;
        self.status = outcome.status;
        self.mode = outcome.mode;
        self.instances.replicas = outcome.scale.unwrap_or(self.instances.replicas);
        if let Some(after) = outcome.requeue {
            self.timers.add(now + after);
        }
        self.note_proxying(now);
        self.last_outcome = Some(outcome);
        outcome
    }

    /// The network that there is where every request passes an activator anyway: it follows the mode at once, and every
    /// probe finds it.
    pub fn network(&self, now: Timestamp) -> Option<Network> {
        let proxy_for = self.proxy_since.map(|since| now.since(since)).unwrap_or_default();
        Some(Network { mode: self.mode, proxy_for, activator_in_path: true })
    }

    fn note_proxying(&mut self, now: Timestamp) {
        if self.mode == Mode::Proxy || self.instances.ready == 0 {
            self.proxy_since.get_or_insert(now);
        } else {
            self.proxy_since = None;
        }
    }
}

/// Times to look again. One later than what is due anyway is not added; one that is earlier does not remove the later.
#[derive(Debug, Clone, Default)]
struct Timers {
    /// The next to come stands last.
    due: Vec<Timestamp>,
}

impl Timers {
    fn add(&mut self, at: Timestamp) {
        if self.next().is_none_or(|due| at < due) {
            self.due.push(at);
        }
    }

    fn next(&self) -> Option<Timestamp> {
        self.due.last().copied()
    }

    /// Removes what is due and returns whether anything was.
    fn fire(&mut self, now: Timestamp) -> bool {
        let pending = self.due.iter().take_while(|due| **due > now).count();
        let fires = pending < self.due.len();
        self.due.truncate(pending);
        fires
    }
}

#[cfg(test)]
mod tests;
