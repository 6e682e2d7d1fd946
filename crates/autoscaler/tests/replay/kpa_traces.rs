//! The whole control loop: every tick and every pass, as pure functions of what they found and as steps of one machine.

use std::time::Duration;

use autoscaler::AutoscalerConfig;
use autoscaler::annotations::Annotations;
use autoscaler::decider::{DeciderStatus, UNKNOWN_SCALE};
use autoscaler::metrics::Stat;
use autoscaler::reconcile::{Mode, Network, Observed, Outcome, Status, reconcile};
use autoscaler::resolve::{Reachability, Settings};
use autoscaler::revision::{Instances, RevisionScaler, Snapshot};
use autoscaler::time::Timestamp;
use serde_json::Value;

use crate::data::{Differences, each_trace};
use crate::decider_traces::{check_tick, stat};
use crate::parse::{
    self, after, annotations, boolean, decider_spec, int, list, mode, named, reachability, seconds, text,
};

/// A cluster's network follows a pass a little later; the machine's at once.
const NETWORK_LAG: Duration = Duration::from_millis(50);

#[test]
fn every_tick_and_pass_of_the_control_loop_is_alike() {
    each_trace("kpa_trace", |trace| {
        let mut replay = Replay::new(trace);
        for event in list(&trace["events"]) {
            replay.event(event);
        }
        replay.differences
    });
}

/// The loop so far. Before its decider is created a revision has no machine.
struct Replay<'a> {
    trace: &'a Value,
    base_unix_millis: i64,
    annotations: Annotations,
    config: AutoscalerConfig,
    reachability: Reachability,
    ready: u32,
    /// The ready instances at the creation of the decider, until the pass that it is part of.
    creating: Option<u32>,
    machine: Option<RevisionScaler>,
    last_stat: Option<Stat>,
    poked: bool,
    last_tick: Option<Timestamp>,
    /// Since when the machine has requests go through the activator, and when that changed last.
    proxying: (Option<Timestamp>, Timestamp),
    differences: Differences,
}

impl<'a> Replay<'a> {
    fn new(trace: &'a Value) -> Self {
        Self {
            trace,
            base_unix_millis: int(&trace["base_unix_ms"]),
            annotations: annotations(&trace["annotations"]),
            config: AutoscalerConfig::from_config_map(&parse::texts(&trace["config_autoscaler"])).unwrap(),
            reachability: reachability(&trace["reachability"]),
            ready: 0,
            creating: None,
            machine: None,
            last_stat: None,
            poked: false,
            last_tick: None,
            proxying: (None, Timestamp::from_unix_millis(0)),
            differences: Differences::default(),
        }
    }

    fn settings(&self) -> Settings {
        Settings::resolve(
            &self.annotations,
            &self.config,
            int(&self.trace["container_concurrency"]),
            seconds(&self.trace["progress_deadline_s"]),
            self.reachability,
        )
    }

    fn event(&mut self, event: &Value) {
        let now = after(self.base_unix_millis, &event[1]);
        match text(&event[0]) {
            "n" => {
                self.ready = int(&event[2]);
                if let Some(machine) = &mut self.machine {
                    let replicas = machine.snapshot().replicas;
                    machine.observe(now, Instances { ready: self.ready, replicas });
                }
            }
            "f" => self.reachability = reachability(&event[2]),
            "d" => {
                self.creating = Some(int(&event[2]));
                self.differences.check("spec", self.settings().decider, decider_spec(&event[3]));
            }
            "m" => self.collect(event, now),
            "u" => {
                let settings = self.settings();
                self.differences.check("updated spec", settings.decider, decider_spec(&event[2]));
                self.machine.as_mut().unwrap().update(settings, now);
            }
            "r" => {
                let stat = stat(event);
                self.last_stat = Some(stat);
                if let Some(machine) = &mut self.machine {
                    machine.record(now, stat);
                }
            }
            "p" => {
                let status = self.machine.as_ref().unwrap().decider().status();
                let pokes = self.last_stat.is_some_and(|stat| status.is_poked_by(&stat));
                self.differences.check(&format!("poke at {}", event[1]), pokes, true);
                self.poked = true;
            }
            "t" => self.tick(event, now),
            "k" => self.pass(event, now),
            other => panic!("{other} is no event"),
        }
        let proxy_since = self.machine.as_ref().and_then(|machine| machine.snapshot().proxy_since);
        if self.proxying.0 != proxy_since {
            self.proxying = (proxy_since, now);
        }
    }

    /// The machine as the pass finds the revision; its windows begin later.
    fn create(&self, found: &Observed, ready: u32) -> RevisionScaler {
        let network = found.network.unwrap();
        let proxy_since = (network.mode == Mode::Proxy || found.ready == 0)
            .then(|| Timestamp::from_unix_millis(found.now.unix_millis() - network.proxy_for.as_millis() as i64));
        let snapshot = Snapshot { status: found.status, mode: network.mode, proxy_since, replicas: found.replicas };
        let mut machine = RevisionScaler::restore(self.settings(), snapshot, ready, found.now);
        machine.stop_collecting();
        machine
    }

    fn collect(&mut self, event: &Value, now: Timestamp) {
        let machine = self.machine.as_mut().unwrap();
        machine.start_collecting(now);
        let metrics = machine.settings().metrics;
        self.differences.check("stable window", metrics.stable_window, seconds(&event[2]));
        self.differences.check("panic window", metrics.panic_window, seconds(&event[3]));
        self.differences.check("scraped", metrics.scraped, boolean(&event[4]));
    }

    fn tick(&mut self, event: &Value, now: Timestamp) {
        let machine = self.machine.as_mut().unwrap();
        // A tick that falls together with a poke's comes twice.
        let twice = self.last_tick.replace(now) == Some(now);
        if !std::mem::take(&mut self.poked) && !twice {
            self.differences.check("time of tick", machine.next_tick(), now);
        }
        let decision = machine.tick(now);
        let aggregation = machine.settings().metrics.aggregation;
        check_tick(&mut self.differences, event, decision, machine.decider(), aggregation);
    }

    fn pass(&mut self, event: &Value, now: Timestamp) {
        let (input, output) = (&event[2], &event[3]);
        let mut pass = Differences::default();
        self.reachability = reachability(&input["reachability"]);
        let settings = self.settings();
        let mut observed = self.observed(input, output, now);
        if let Some(ready) = self.creating.take() {
            let machine = self.create(&observed, ready);
            observed.decider = machine.decider().status();
            self.machine = Some(machine);
        }
        let outcome = reconcile(&settings.scale, &settings.decider, &observed);
        check_outcome(&mut pass, &outcome, output, self.base_unix_millis);

        if let Some(machine) = &mut self.machine {
            if machine.settings().scale.reachability != self.reachability {
                machine.update(settings, now);
            }
            let Observed { replicas, ready, .. } = observed;
            pass.check("replicas", machine.snapshot().replicas, replicas);
            machine.observe(now, Instances { ready, replicas });
            pass.check("status before", *machine.status(), observed.status);
            pass.check("recommendation", machine.decider().status(), observed.decider);
            pass.check("mode before", machine.mode(), observed.network.map_or(Mode::Proxy, |network| network.mode));
            if list(&input["reasons"]).iter().any(|reason| ["decider", "requeue"].contains(&text(reason))) {
                pass.check("is due", machine.next_wake(now) <= now, true);
            }
            let settled = now.since(self.proxying.1) > NETWORK_LAG;
            if let (true, Some(own), Some(recorded)) = (settled, machine.network(now), observed.network) {
                let alike = own.proxy_for.abs_diff(recorded.proxy_for) <= NETWORK_LAG;
                pass.check(
                    &format!("proxying for {:?}, recorded {:?}", own.proxy_for, recorded.proxy_for),
                    alike,
                    true,
                );
            }
            pass.check("outcome", machine.pass(now, observed.network), outcome);
        }
        self.differences.within(&format!("pass at {}", event[1]), pass);
    }

    fn observed(&self, input: &Value, output: &Value, now: Timestamp) -> Observed {
        let recorded = &input["decider"];
        // A decider that is only created in this pass has not decided anything.
        let unknown = DeciderStatus { desired: UNKNOWN_SCALE, excess_burst_capacity: 0 };
        let sks = &input["sks"];
        Observed {
            now,
            decider: match recorded.as_array() {
                Some(status) => DeciderStatus { desired: int(&status[0]), excess_burst_capacity: int(&status[1]) },
                None => unknown,
            },
            replicas: int(&input["replicas"]),
            ready: int(&input["ready"]),
            network: (!sks.is_null() && boolean(&sks["private_service"])).then(|| Network {
                mode: mode(&sks["mode"]),
                proxy_for: Duration::from_millis(int(&sks["proxy_for_ms"])),
                activator_in_path: output["probe"].as_bool().unwrap_or(true),
            }),
            status: status(&input["pa"], self.base_unix_millis),
        }
    }
}

fn status(pa: &Value, base_unix_millis: i64) -> Status {
    Status {
        state: named(&pa["state"]),
        reason: named(&pa["reason"]),
        since: after(base_unix_millis, &pa["since_ms"]),
        initialized: boolean(&pa["initialized"]),
        service_exists: boolean(&pa["service_name_set"]),
        desired: pa["desired"].as_i64().map(|desired| desired.try_into().unwrap()),
        actual: pa["actual"].as_i64().map(|actual| actual.try_into().unwrap()),
    }
}

fn check_outcome(differences: &mut Differences, outcome: &Outcome, output: &Value, base_unix_millis: i64) {
    let patched = output["patched"].as_i64().map(|scale| scale.try_into().unwrap());
    differences.check("scale", outcome.scale, patched);
    let requeue = list(&output["requeue_ms"]).iter().map(|millis| Duration::from_millis(int(millis))).collect();
    differences.check("requeue", outcome.requeue.into_iter().collect::<Vec<_>>(), requeue);
    differences.check("probes", outcome.async_probe, boolean(&output["async_probe_started"]));
    differences.check("mode", outcome.mode, mode(&output["sks_mode"]));
    differences.check("activators", outcome.num_activators, int(&output["num_activators"]));
    differences.check("status", outcome.status, status(&output["pa"], base_unix_millis));
}
