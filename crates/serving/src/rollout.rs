//! Gradual rollouts: a new revision gets one percent at first and more step by step, at the cost of the older ones.
//!
//! The state is what Knative keeps on its ingress between two looks at a route. Times are nanoseconds since 1970.
//!
//! # Source
//! `pkg/reconciler/route/traffic/rollout.go` of Knative Serving.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use autoscaler::go::NANOS_PER_SECOND;

/// How the traffic of every configuration is spread over its revisions; sorted by tag, then by configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollout {
    /// One for each tag and configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configurations: Vec<ConfigurationRollout>,
}

/// How the traffic of one configuration under one tag is spread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigurationRollout {
    /// The configuration.
    pub configuration_name: String,
    /// The tag; empty for the main host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// The configuration's part of the route's traffic.
    pub percent: i64,
    /// Oldest first; one if no rollout is going on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<RevisionShare>,
    /// When and how far the next steps go.
    pub step_params: StepParams,
}

/// The part of the route's traffic that a revision gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RevisionShare {
    /// The revision.
    pub revision_name: String,
    /// Its part of the route's traffic.
    pub percent: i64,
}

/// When and how far the steps of a rollout go; all 0 if there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepParams {
    /// When the new revision got its first percent.
    #[serde(rename = "starttime", skip_serializing_if = "is_zero")]
    pub start_time: i64,
    /// When the next step is due.
    #[serde(skip_serializing_if = "is_zero")]
    pub next_step_time: i64,
    /// Nanoseconds from step to step; 0 until the first percent is known to arrive.
    #[serde(skip_serializing_if = "is_zero")]
    pub step_duration: i64,
    /// Percent moved in a step.
    #[serde(skip_serializing_if = "is_zero")]
    pub step_size: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Rollout {
    /// A rollout from its parts, which are brought into order.
    pub fn new(mut configurations: Vec<ConfigurationRollout>) -> Self {
        configurations.sort_by(|a, b| (&a.tag, &a.configuration_name).cmp(&(&b.tag, &b.configuration_name)));
        Self { configurations }
    }

    /// Whether every configuration's traffic goes to one revision.
    pub fn is_done(&self) -> bool {
        self.configurations.iter().all(|configuration| configuration.revisions.len() < 2)
    }

    /// When the next step of any configuration is due.
    pub fn next_step_ns(&self) -> Option<i64> {
        let times = self.configurations.iter().map(|configuration| configuration.step_params.next_step_time);
        times.filter(|time| *time > 0).min()
    }

    /// The revisions of a configuration under a tag.
    pub fn find(&self, tag: &str, configuration_name: &str) -> Option<&ConfigurationRollout> {
        self.configurations
            .iter()
            .find(|configuration| configuration.tag == tag && configuration.configuration_name == configuration_name)
    }

    /// Plans the steps of rollouts that have begun, now that their first percent arrives: the time that took is the
    /// shortest a step may take, and `duration_s` seconds are for all of them.
    pub fn observe_ready(&mut self, now_ns: i64, duration_s: f64) {
        for configuration in &mut self.configurations {
            let params = &mut configuration.step_params;
            if params.start_time > 0 && params.step_duration == 0 {
                let waited_s = seconds(now_ns - params.start_time).ceil().max(1.0);
                params.plan(configuration.percent, now_ns, waited_s, duration_s);
            }
        }
    }

    /// The rollout after `previous` that leads to the traffic in `self`, and when to look again, if ever.
    #[must_use]
    pub fn step(&self, previous: &Self, now_ns: i64) -> (Self, Option<i64>) {
        if previous.configurations.is_empty() {
            return (self.clone(), None);
        }
        let before = by_tag(previous);
        let mut configurations = Vec::new();
        for (tag, goals) in by_tag(self) {
            match before.get(tag) {
                Some(before) => configurations.extend(goals.iter().filter_map(|goal| {
                    let previous =
                        before.iter().find(|previous| previous.configuration_name == goal.configuration_name);
                    match (goal.percent, previous) {
                        (0, _) if previous.is_some() || !is_last(goal, before) => None,
                        (2.., Some(previous)) => Some(goal.step(previous, now_ns)),
                        _ => Some((*goal).clone()),
                    }
                })),
                // A new tag has all its traffic on one configuration, and nothing to come from.
                None => configurations.extend(goals.first().map(|goal| (*goal).clone())),
            }
        }
        let next = Self::new(configurations);
        let wake = next.next_step_ns();
        (next, wake)
    }
}

/// Whether a configuration comes after all those that were there before, which keeps it although it gets nothing.
fn is_last(goal: &ConfigurationRollout, before: &[&ConfigurationRollout]) -> bool {
    before.iter().all(|previous| previous.configuration_name < goal.configuration_name)
}

fn by_tag(rollout: &Rollout) -> BTreeMap<&str, Vec<&ConfigurationRollout>> {
    let mut tags: BTreeMap<&str, Vec<&ConfigurationRollout>> = BTreeMap::new();
    for configuration in &rollout.configurations {
        tags.entry(&configuration.tag).or_default().push(configuration);
    }
    tags
}

impl ConfigurationRollout {
    /// The state after `previous` on the way to `self`, whose traffic all goes to one revision.
    fn step(&self, previous: &Self, now_ns: i64) -> Self {
        let mut shares = previous.revisions.clone();
        adjust(&mut shares, self.percent - previous.percent);
        let (Some(newest), Some(goal)) = (previous.revisions.last(), self.revisions.first()) else {
            return Self { step_params: StepParams::default(), ..self.clone() };
        };
        let mut next = Self { step_params: StepParams::default(), ..self.clone() };
        if newest.revision_name != goal.revision_name {
            next.step_params.start_time = now_ns;
            if let Some(giver) = shares.iter_mut().rev().find(|share| share.percent > 0) {
                giver.percent -= 1;
            }
            shares.retain(|share| share.percent != 0);
            shares.push(RevisionShare { revision_name: goal.revision_name.clone(), percent: 1 });
            next.revisions = shares;
        } else if previous.revisions.len() > 1 {
            next.revisions = shares;
            next.step_params = previous.step_params;
            let due = next.step_params.step_size > 0 && next.step_params.next_step_time <= now_ns;
            if due && next.revisions.len() > 1 {
                next.move_a_step(now_ns);
            }
        }
        next
    }

    /// Moves one step's percent to the newest revision, from the second newest first.
    fn move_a_step(&mut self, now_ns: i64) {
        let Some(mut newest) = self.revisions.pop() else { return };
        let mut wanted = self.step_params.step_size;
        while wanted > 0
            && let Some(giver) = self.revisions.last_mut()
        {
            if giver.percent > wanted {
                giver.percent -= wanted;
                break;
            }
            wanted -= giver.percent;
            self.revisions.pop();
        }
        newest.percent = (newest.percent + self.step_params.step_size).min(self.percent);
        self.revisions.push(newest);
        if self.revisions.len() > 1 {
            self.step_params.next_step_time = now_ns + self.step_params.step_duration;
        } else {
            self.step_params = StepParams::default();
        }
    }
}

/// Follows a change of the configuration's part: the newest revision gains, the oldest ones lose.
fn adjust(shares: &mut Vec<RevisionShare>, change: i64) {
    if change > 0 {
        if let Some(newest) = shares.last_mut() {
            newest.percent += change;
        }
        return;
    }
    let mut surplus = -change;
    let mut emptied = 0;
    for share in shares.iter_mut() {
        if surplus == 0 {
            break;
        }
        if share.percent > surplus {
            share.percent -= surplus;
            break;
        }
        surplus -= share.percent;
        emptied += 1;
    }
    shares.drain(..emptied);
}

impl StepParams {
    /// Divides what is left of the rollout's time into equal steps, none shorter than `min_step_s` nor than a percent.
    fn plan(&mut self, percent: i64, now_ns: i64, min_step_s: f64, duration_s: f64) {
        let left_s = (duration_s - min_step_s).max(1.0);
        let left_percent = (percent - 1) as f64;
        let steps = (left_s / min_step_s).max(1.0).min(left_percent);
        let step_ns = left_s / steps * NANOS_PER_SECOND as f64;
        self.step_duration = step_ns as i64;
        self.step_size = (left_percent / steps).round() as i64;
        self.next_step_time = (now_ns as f64 + step_ns) as i64;
    }
}

fn seconds(nanos: i64) -> f64 {
    (nanos / NANOS_PER_SECOND) as f64 + (nanos % NANOS_PER_SECOND) as f64 / NANOS_PER_SECOND as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = NANOS_PER_SECOND;

    fn spread(percent: i64, shares: &[(&str, i64)], step_params: StepParams) -> Rollout {
        let revisions = shares
            .iter()
            .map(|(name, percent)| RevisionShare { revision_name: (*name).to_owned(), percent: *percent })
            .collect();
        Rollout::new(vec![ConfigurationRollout {
            configuration_name: "hello".to_owned(),
            percent,
            revisions,
            step_params,
            ..ConfigurationRollout::default()
        }])
    }

    fn settled(name: &str, percent: i64) -> Rollout {
        spread(percent, &[(name, percent)], StepParams::default())
    }

    fn shares(rollout: &Rollout) -> Vec<(&str, i64)> {
        let configuration = &rollout.configurations[0];
        configuration.revisions.iter().map(|share| (share.revision_name.as_str(), share.percent)).collect()
    }

    #[test]
    fn the_first_revision_gets_everything_at_once() {
        assert_eq!(settled("v1", 100).step(&Rollout::default(), SECOND), (settled("v1", 100), None));
    }

    #[test]
    fn a_new_revision_walks_from_one_percent_to_all() {
        let goal = settled("v2", 100);
        let (mut rollout, next) = goal.step(&settled("v1", 100), 10 * SECOND);
        assert_eq!((shares(&rollout), next), (vec![("v1", 99), ("v2", 1)], None));
        rollout.observe_ready(11 * SECOND, 5.0);
        let params = rollout.configurations[0].step_params;
        assert_eq!((params.step_size, params.step_duration), (25, SECOND));

        let mut now = params.next_step_time;
        let mut seen = Vec::new();
        loop {
            let (stepped, next) = goal.step(&rollout, now);
            seen.push(shares(&stepped).last().map_or(0, |share| share.1));
            rollout = stepped;
            match next {
                Some(next) => now = next,
                None => break,
            }
        }
        assert_eq!(seen, [26, 51, 76, 100]);
        assert!(rollout.is_done());
    }

    #[test]
    fn nothing_moves_before_its_time() {
        let params = StepParams { start_time: 1, next_step_time: 50, step_duration: 10, step_size: 5 };
        let before = spread(100, &[("v1", 90), ("v2", 10)], params);
        assert_eq!(settled("v2", 100).step(&before, 49), (before, Some(50)));
    }

    #[test]
    fn a_third_revision_takes_its_percent_from_the_newest() {
        let before = spread(100, &[("v1", 60), ("v2", 40)], StepParams { start_time: 1, ..StepParams::default() });
        let (rollout, _) = settled("v3", 100).step(&before, 99);
        assert_eq!(shares(&rollout), [("v1", 60), ("v2", 39), ("v3", 1)]);
        assert_eq!(rollout.configurations[0].step_params, StepParams { start_time: 99, ..StepParams::default() });
    }

    #[test]
    fn a_step_may_empty_several_revisions() {
        let params = StepParams { start_time: 1, next_step_time: 5, step_duration: 7, step_size: 30 };
        let before = spread(100, &[("v1", 60), ("v2", 10), ("v3", 15), ("v4", 15)], params);
        let (rollout, next) = settled("v4", 100).step(&before, 6);
        assert_eq!((shares(&rollout), next), (vec![("v1", 55), ("v4", 45)], Some(13)));
    }

    #[test]
    fn a_smaller_part_is_taken_from_the_oldest_first() {
        let params = StepParams { start_time: 1, next_step_time: 99, step_duration: 7, step_size: 30 };
        let before = spread(60, &[("v1", 40), ("v2", 20)], params);
        let (rollout, _) = settled("v2", 30).step(&before, 6);
        assert_eq!(shares(&rollout), [("v1", 10), ("v2", 20)]);
        let (rollout, _) = settled("v2", 20).step(&before, 6);
        assert_eq!(shares(&rollout), [("v2", 20)]);
    }

    #[test]
    fn one_percent_is_not_rolled_out() {
        assert_eq!(settled("v2", 1).step(&settled("v1", 1), 6), (settled("v2", 1), None));
    }
}
