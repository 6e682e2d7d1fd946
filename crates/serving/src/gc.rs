//! Which old revisions may go, by the ConfigMap `config-gc`.
//!
//! # Source
//! `pkg/reconciler/gc` and `pkg/gc` of Knative Serving.

use std::collections::BTreeMap;
use std::time::Duration;

use autoscaler::go;
use autoscaler::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, parse_int64};
use crate::revision::{Revision, RoutingState};

/// An annotation that keeps a revision for good.
pub const NO_GC_ANNOTATION: &str = "serving.knative.dev/no-gc";

/// How long and how many revisions without traffic are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcConfig {
    /// Revisions younger than this stay; `None` if their age does not matter.
    pub retain_since_create_time: Option<Duration>,
    /// Revisions that had traffic since stay; `None` if that does not matter.
    pub retain_since_last_active_time: Option<Duration>,
    /// As many revisions without traffic stay in any case.
    pub min_non_active_revisions: usize,
    /// Not more revisions without traffic stay; `None` if any number may.
    pub max_non_active_revisions: Option<usize>,
}

impl Default for GcConfig {
    fn default() -> Self {
        Self {
            retain_since_create_time: Some(Duration::from_hours(48)),
            retain_since_last_active_time: Some(Duration::from_hours(15)),
            min_non_active_revisions: 20,
            max_non_active_revisions: Some(1000),
        }
    }
}

impl GcConfig {
    /// Reads the `data` of a ConfigMap; keys that are absent keep their defaults.
    ///
    /// # Errors
    /// The first value that cannot be read or is out of range, in Knative's words.
    pub fn from_config_map(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let text = |key: &str| data.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());

        let mut min = 20;
        parse_int64(data, "min-non-active-revisions", &mut min)
            .map_err(|error| ConfigError::refused(format!("failed to parse data: {error}")))?;
        let durations = [
            ("retain-since-create-time", &mut config.retain_since_create_time),
            ("retain-since-last-active-time", &mut config.retain_since_last_active_time),
        ];
        for (key, target) in durations {
            if let Some(value) = text(key) {
                *target = unless_disabled(value, parse_retention)
                    .map_err(|fault| ConfigError::refused(format!("failed to parse {key}: {fault}")))?;
            }
        }
        if let Some(value) = text("max-non-active-revisions") {
            config.max_non_active_revisions = unless_disabled(value, parse_count)
                .map_err(|fault| ConfigError::refused(format!("failed to parse max-non-active-revisions: {fault}")))?;
        }
        config.min_non_active_revisions = usize::try_from(min)
            .map_err(|_| ConfigError::refused(format!("min-non-active-revisions must be non-negative, was: {min}")))?;
        match config.max_non_active_revisions {
            Some(max) if config.min_non_active_revisions > max => Err(ConfigError::refused(format!(
                "min-non-active-revisions({min}) must be <= max-non-active-revisions({max})"
            ))),
            _ => Ok(config),
        }
    }

    /// Names of the revisions of one configuration that may go, those longest without traffic first.
    pub fn collect<'a>(
        &self,
        revisions: impl IntoIterator<Item = &'a Revision>,
        latest_ready: Option<&str>,
        now: Timestamp,
    ) -> Vec<String> {
        let mut idle: Vec<&Revision> =
            revisions.into_iter().filter(|revision| is_collectable(revision, latest_ready)).collect();
        if idle.len() <= self.min_non_active_revisions {
            return Vec::new();
        }
        idle.sort_by_key(|revision| revision.routing_state_modified);
        let deletable = idle.len() - self.min_non_active_revisions;
        let (mut gone, kept): (Vec<&Revision>, Vec<&Revision>) =
            idle.into_iter().partition(|revision| self.is_stale(revision, now));
        if gone.len() >= deletable {
            gone.truncate(deletable);
        } else if let Some(max) = self.max_non_active_revisions {
            let surplus = kept.len().saturating_sub(max);
            gone.extend(kept.into_iter().take(surplus));
        }
        gone.into_iter().map(|revision| revision.name.clone()).collect()
    }

    fn is_stale(&self, revision: &Revision, now: Timestamp) -> bool {
        let older_than =
            |since: Timestamp, limit: Option<Duration>| limit.is_none_or(|limit| now.since(since) >= limit);
        let times_matter = self.retain_since_create_time.is_some() || self.retain_since_last_active_time.is_some();
        times_matter
            && older_than(revision.created, self.retain_since_create_time)
            && older_than(revision.routing_state_modified, self.retain_since_last_active_time)
    }
}

fn is_collectable(revision: &Revision, latest_ready: Option<&str>) -> bool {
    let preserved =
        revision.metadata.annotations.get(NO_GC_ANNOTATION).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    revision.routing_state == RoutingState::Reserve && !preserved && latest_ready != Some(revision.name.as_str())
}

fn unless_disabled<T>(value: &str, parse: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if value.eq_ignore_ascii_case("disabled") { Ok(None) } else { parse(value).map(Some) }
}

fn parse_retention(value: &str) -> Result<Duration, String> {
    let nanos = go::parse_duration(value).map_err(|error| error.to_string())?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| "must be non-negative".to_owned())
}

fn parse_count(value: &str) -> Result<usize, String> {
    // Signs are refused: Go reads this number as an unsigned one.
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("strconv.ParseUint: parsing {}: invalid syntax", go::quote(value)));
    }
    let too_large = || format!("value should be lower than {}", i64::MAX);
    let count: i64 = value.parse().map_err(|_| too_large())?;
    usize::try_from(count).map_err(|_| too_large())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const EPOCH: Timestamp = Timestamp::from_unix_nanos(0);
    const HOUR: Duration = Duration::from_hours(1);

    fn revision(name: &str, created_h: u32, active_h: u32) -> Revision {
        let mut revision = Revision::for_test(name, EPOCH + HOUR * created_h);
        revision.routing_state = RoutingState::Reserve;
        revision.routing_state_modified = EPOCH + HOUR * active_h;
        revision
    }

    fn config(min: usize, max: Option<usize>) -> GcConfig {
        GcConfig { min_non_active_revisions: min, max_non_active_revisions: max, ..GcConfig::default() }
    }

    #[track_caller]
    fn check(config: &GcConfig, revisions: &[Revision], now_h: u32, gone: &[&str]) {
        assert_eq!(config.collect(revisions, Some("latest"), EPOCH + HOUR * now_h), gone);
    }

    #[test]
    fn a_revision_goes_when_it_is_old_and_long_without_traffic() {
        let revisions = [revision("a", 0, 50)];
        check(&config(0, None), &revisions, 64, &[]);
        check(&config(0, None), &revisions, 65, &["a"]);
        check(&config(0, None), &[revision("young", 20, 30)], 67, &[]);
    }

    #[test]
    fn a_minimum_stays_and_the_longest_without_traffic_go_first() {
        let revisions = [revision("b", 0, 2), revision("a", 0, 1), revision("c", 0, 3)];
        check(&config(1, None), &revisions, 100, &["a", "b"]);
        check(&config(3, None), &revisions, 100, &[]);
    }

    #[test]
    fn beyond_the_maximum_even_fresh_ones_go() {
        let revisions = [revision("b", 99, 99), revision("a", 98, 98), revision("old", 0, 0)];
        check(&config(0, Some(1)), &revisions, 100, &["old", "a"]);
    }

    #[test]
    fn what_is_used_latest_or_preserved_stays() {
        let mut used = revision("used", 0, 0);
        used.routing_state = RoutingState::Active;
        let mut pending = revision("pending", 0, 0);
        pending.routing_state = RoutingState::Pending;
        let mut preserved = revision("preserved", 0, 0);
        preserved.metadata.annotations.insert(NO_GC_ANNOTATION.to_owned(), "True".to_owned());
        check(&config(0, Some(0)), &[used, pending, preserved, revision("latest", 0, 0)], 1000, &[]);
    }

    #[test]
    fn disabled_times_never_make_a_revision_stale() {
        let config =
            GcConfig { retain_since_create_time: None, retain_since_last_active_time: None, ..config(0, None) };
        check(&config, &[revision("a", 0, 0)], 1000, &[]);
    }

    #[track_caller]
    fn check_parse(key: &str, value: &str, wanted: Result<GcConfig, &str>) {
        let data = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let read = GcConfig::from_config_map(&data).map_err(|error| error.to_string());
        assert_eq!(read, wanted.map_err(str::to_owned));
    }

    #[test]
    fn settings_are_read_or_refused() {
        let default = GcConfig::default;
        check_parse("unknown", "x", Ok(default()));
        check_parse(
            "retain-since-create-time",
            "1h30m",
            Ok(GcConfig { retain_since_create_time: Some(HOUR * 3 / 2), ..default() }),
        );
        check_parse(
            "retain-since-last-active-time",
            "Disabled",
            Ok(GcConfig { retain_since_last_active_time: None, ..default() }),
        );
        check_parse("max-non-active-revisions", "disabled", Ok(config(20, None)));
        check_parse(
            "max-non-active-revisions",
            "5",
            Err("min-non-active-revisions(20) must be <= max-non-active-revisions(5)"),
        );
        check_parse("min-non-active-revisions", "-1", Err("min-non-active-revisions must be non-negative, was: -1"));
        check_parse(
            "min-non-active-revisions",
            "x",
            Err(
                r#"failed to parse data: failed to parse "min-non-active-revisions": strconv.ParseInt: parsing "x": invalid syntax"#,
            ),
        );
        check_parse(
            "retain-since-create-time",
            "-1s",
            Err("failed to parse retain-since-create-time: must be non-negative"),
        );
        check_parse(
            "max-non-active-revisions",
            "-1",
            Err(r#"failed to parse max-non-active-revisions: strconv.ParseUint: parsing "-1": invalid syntax"#),
        );
    }
}
