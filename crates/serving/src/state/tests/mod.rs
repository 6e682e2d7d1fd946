//! Stories of one Service: manifests, readiness and time come in, and what comes of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod names;
mod time;

use std::time::Duration;

use super::*;
use crate::config::DomainConfig;
use crate::manifest::Manifests;
use crate::status::{ConditionStatus, ConditionType};

const HOST: &str = "hello.default.example.com";

/// A Service in a cluster of its own, and a clock that is turned by hand.
struct Story {
    config: Config,
    now: Timestamp,
    owner: Option<&'static str>,
    state: Option<ServiceState>,
}

impl Story {
    fn new() -> Self {
        let config = Config { domain: DomainConfig::single("example.com"), ..Config::default() };
        Self { config, now: Timestamp::from_unix_millis(1_000_000), owner: None, state: None }
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    fn state(&self) -> &ServiceState {
        self.state.as_ref().unwrap()
    }

    fn with<T>(&mut self, event: impl FnOnce(&mut ServiceState, &Context<'_>) -> T) -> T {
        let owner = self.owner;
        let owner_of = |_: &str| owner.map(str::to_owned);
        let context = Context { owner_of: &owner_of, user: Some("tester"), ..Context::new(&self.config, self.now) };
        event(self.state.as_mut().unwrap(), &context)
    }

    /// Applies a manifest with an image and, indented as they are in a spec, more lines.
    fn apply(&mut self, image: &str, name: &str, traffic: &str) -> Result<Changes, String> {
        let name = if name.is_empty() { String::new() } else { format!("      name: {name}\n") };
        self.apply_text(&format!(
            "apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: hello}}
spec:
  template:
    metadata:
      labels: {{}}
{name}    spec: {{containers: [{{image: \"{image}\"}}]}}
{traffic}"
        ))
    }

    fn apply_text(&mut self, text: &str) -> Result<Changes, String> {
        let manifest = Manifests::parse("f", text).unwrap().services.remove(0);
        if self.state.is_some() {
            return self.with(|state, context| state.apply(&manifest, context)).map_err(|errors| errors.to_string());
        }
        let context = Context { user: Some("tester"), ..Context::new(&self.config, self.now) };
        let (state, changes) = ServiceState::create(&manifest, &context).map_err(|errors| errors.to_string())?;
        self.state = Some(state);
        Ok(changes)
    }

    fn ready(&mut self, name: &str) -> Changes {
        self.with(|state, context| state.revision_ready(name, context))
    }

    fn fail(&mut self, name: &str) -> Changes {
        self.with(|state, context| state.revision_failed(name, "it broke", context))
    }

    fn set_traffic(&mut self, traffic: Vec<TrafficTarget>) -> Result<Changes, String> {
        let mut service = self.state().service().clone();
        service.spec.traffic = traffic;
        self.with(|state, context| state.update(service, context)).map_err(|errors| errors.to_string())
    }

    #[track_caller]
    fn check_routing(&self, host: &str, wanted: &[(&str, u32)]) {
        let rule = self.state().routing().find(host);
        let splits = rule.and_then(|rule| rule.path(|_| None)).map(|path| &path.splits[..]).unwrap_or_default();
        let found: Vec<(&str, u32)> = splits.iter().map(|split| (split.revision.as_str(), split.percent)).collect();
        assert_eq!(found, wanted);
    }

    #[track_caller]
    fn check_condition(&self, kind: ConditionType, status: ConditionStatus, reason: &str, message: &str) {
        let found = self.state().status();
        let found = found.condition(kind).unwrap();
        assert_eq!((found.status, found.reason.as_str(), found.message.as_str()), (status, reason, message));
    }

    #[track_caller]
    fn check_states(&self, wanted: &[(&str, RoutingState)]) {
        let found: Vec<_> =
            self.state().revisions().map(|revision| (revision.name.as_str(), revision.routing_state)).collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn the_first_revision_gets_traffic_once_it_is_ready() {
    let mut story = Story::new();
    let changes = story.apply("fn:v1", "", "").unwrap();
    assert_eq!(changes, Changes { created: vec!["hello-00001".to_owned()], ..Changes::default() });
    story.check_routing(HOST, &[]);
    story.check_condition(
        ConditionType::RoutesReady,
        ConditionStatus::Unknown,
        "RevisionMissing",
        "Configuration \"hello\" is waiting for a Revision to become ready.",
    );
    assert_eq!(story.state().status().address, None);

    assert_eq!(story.ready("hello-00001"), Changes { routing: true, ..Changes::default() });
    story.check_routing(HOST, &[("hello-00001", 100)]);
    story.check_routing("hello.default.svc.cluster.local:8080", &[("hello-00001", 100)]);
    story.check_routing("other.default.example.com", &[]);
    let status = story.state().status();
    assert!(status.is_ready());
    assert_eq!(status.url, "http://hello.default.example.com");
    assert_eq!(status.address.unwrap().url, "http://hello.default.svc.cluster.local");
    assert_eq!(status.latest_ready_revision_name.as_deref(), Some("hello-00001"));
    assert_eq!(
        status.traffic,
        [TrafficTarget { revision_name: "hello-00001".to_owned(), ..TrafficTarget::latest(100) }]
    );
}

#[test]
fn a_new_template_is_a_new_revision_and_traffic_waits_for_it() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    let changes = story.apply("fn:v2", "", "").unwrap();
    assert_eq!(changes, Changes { created: vec!["hello-00002".to_owned()], ..Changes::default() });
    story.check_routing(HOST, &[("hello-00001", 100)]);
    story.check_condition(ConditionType::ConfigurationsReady, ConditionStatus::Unknown, "", "");
    story.check_condition(ConditionType::RoutesReady, ConditionStatus::True, "", "");
    story.check_states(&[("hello-00001", RoutingState::Active), ("hello-00002", RoutingState::Active)]);

    let changes = story.ready("hello-00002");
    assert!(changes.routing);
    assert_eq!(changes.routing_states, [("hello-00001".to_owned(), RoutingState::Reserve)]);
    story.check_routing(HOST, &[("hello-00002", 100)]);
}

#[test]
fn the_same_manifest_changes_nothing_even_under_new_defaults() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    assert_eq!(story.apply("fn:v1", "", ""), Ok(Changes::default()));
    story.config.defaults.container_concurrency = 5;
    story.config.defaults.revision_timeout_seconds = 7;
    assert_eq!(story.apply("fn:v1", "", ""), Ok(Changes::default()));
}

#[test]
fn a_failing_revision_leaves_traffic_where_it_was() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    story.apply("fn:v2", "", "").unwrap();
    assert_eq!(story.fail("hello-00002"), Changes::default());
    story.check_routing(HOST, &[("hello-00001", 100)]);
    story.check_condition(
        ConditionType::Ready,
        ConditionStatus::False,
        "RevisionFailed",
        "Revision \"hello-00002\" failed with message: it broke.",
    );
    story.apply("fn:v3", "", "").unwrap();
    assert!(story.ready("hello-00003").routing);
    assert!(story.state().status().is_ready());
}

#[test]
fn a_first_revision_that_fails_leaves_nothing_to_route() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.fail("hello-00001");
    story.check_condition(
        ConditionType::RoutesReady,
        ConditionStatus::False,
        "RevisionMissing",
        "Configuration \"hello\" does not have any ready Revision.",
    );
}

#[test]
fn an_older_revision_that_becomes_ready_late_is_not_the_latest() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.apply("fn:v2", "", "").unwrap();
    story.check_states(&[("hello-00001", RoutingState::Active), ("hello-00002", RoutingState::Active)]);
    story.ready("hello-00002");
    story.check_states(&[("hello-00001", RoutingState::Reserve), ("hello-00002", RoutingState::Active)]);
    assert!(!story.ready("hello-00001").routing);
    story.check_routing(HOST, &[("hello-00002", 100)]);
}

#[test]
fn traffic_does_not_fall_back_to_an_older_revision() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    story.apply("fn:v2", "", "").unwrap();
    story.ready("hello-00002");
    story.fail("hello-00002");
    story.check_routing(HOST, &[("hello-00002", 100)]);
    assert_eq!(story.state().latest_ready().unwrap().name, "hello-00002");
    story.check_condition(
        ConditionType::RoutesReady,
        ConditionStatus::False,
        "RevisionMissing",
        "Revision \"hello-00002\" failed to become ready.",
    );
}

#[test]
fn of_several_new_revisions_the_newest_ready_one_is_the_latest() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    story.apply("fn:v2", "", "").unwrap();
    story.apply("fn:v3", "", "").unwrap();
    story.ready("hello-00002");
    story.check_routing(HOST, &[("hello-00002", 100)]);
    story.check_condition(ConditionType::ConfigurationsReady, ConditionStatus::Unknown, "", "");
}

#[test]
fn canary_promotion_and_rollback_are_edits_of_traffic() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    let canary = || vec![TrafficTarget::pinned("hello-00001", 90).tagged("stable"), TrafficTarget::latest(10)];
    assert_eq!(story.set_traffic(canary()).unwrap().created, [] as [&str; 0]);
    story.apply("fn:v2", "", "").unwrap();
    story.ready("hello-00002");
    story.check_routing(HOST, &[("hello-00001", 90), ("hello-00002", 10)]);
    story.check_routing("stable-hello.default.example.com", &[("hello-00001", 100)]);
    assert_eq!(story.state().status().traffic[0].url, "http://stable-hello.default.example.com");

    let promoted = story.set_traffic(vec![TrafficTarget::latest(100)]).unwrap();
    assert_eq!(promoted.routing_states, [("hello-00001".to_owned(), RoutingState::Reserve)]);
    story.check_routing(HOST, &[("hello-00002", 100)]);
    story.check_routing("stable-hello.default.example.com", &[]);

    let rolled_back = story.set_traffic(vec![TrafficTarget::pinned("hello-00001", 100)]).unwrap();
    assert!(rolled_back.routing && rolled_back.created.is_empty());
    story.check_routing(HOST, &[("hello-00001", 100)]);
    story.check_states(&[("hello-00001", RoutingState::Active), ("hello-00002", RoutingState::Reserve)]);
    assert!(story.state().status().is_ready());
    assert_eq!(story.apply("fn:v2", "", "").unwrap(), Changes::default(), "an edit outlives the manifest it is not in");
}

#[test]
fn one_target_without_traffic_blocks_all_of_them() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    let to_missing = vec![TrafficTarget::latest(100), TrafficTarget::pinned("hello-00009", 0).tagged("next")];
    assert_eq!(story.set_traffic(to_missing), Ok(Changes::default()));
    story.check_routing(HOST, &[("hello-00001", 100)]);
    story.check_condition(
        ConditionType::RoutesReady,
        ConditionStatus::False,
        "RevisionMissing",
        "Revision \"hello-00009\" referenced in traffic not found.",
    );
    story.owner = Some("other");
    story.with(|state, context| state.tick(context));
    story.check_condition(
        ConditionType::RoutesReady,
        ConditionStatus::False,
        "RevisionNotOwned",
        "Revision \"hello-00009\" belongs to Service \"other\", not Service \"hello\".",
    );
}

#[test]
fn the_same_target_twice_is_never_called_migrated() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    let halves = || TrafficTarget::pinned("hello-00001", 50);
    story.set_traffic(vec![halves(), halves()]).unwrap();
    story.check_routing(HOST, &[("hello-00001", 100)]);
    story.check_condition(
        ConditionType::RoutesReady,
        ConditionStatus::Unknown,
        "TrafficNotMigrated",
        "Traffic is not yet migrated to the latest revision.",
    );
}

#[test]
fn a_refused_manifest_changes_nothing() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    let before = story.state().clone();
    let error = story.apply("fn:v2", "", "  traffic: [{percent: 99}, {tag: Bad}]\n").unwrap_err();
    assert!(error.starts_with("Traffic targets sum to 99, want 100: spec.traffic\n"), "{error}");
    assert_eq!(error.lines().count(), 2, "{error}");
    assert_eq!(*story.state(), before);
}

#[test]
fn while_the_route_waits_nobody_loses_its_place() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    story.apply("fn:v2", "", "").unwrap();
    story.set_traffic(vec![TrafficTarget::pinned("hello-00002", 100)]).unwrap();
    story.check_condition(
        ConditionType::RoutesReady,
        ConditionStatus::Unknown,
        "RevisionMissing",
        "Revision \"hello-00002\" is not yet ready.",
    );
    story.check_routing(HOST, &[("hello-00001", 100)]);
    story.check_states(&[("hello-00001", RoutingState::Active), ("hello-00002", RoutingState::Active)]);
    story.ready("hello-00002");
    story.check_states(&[("hello-00001", RoutingState::Reserve), ("hello-00002", RoutingState::Active)]);
}

#[test]
fn what_the_author_no_longer_writes_gets_its_default_again() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "  traffic: [{percent: 100, tag: mine}]\n").unwrap();
    story.ready("hello-00001");
    story.check_routing("mine-hello.default.example.com", &[("hello-00001", 100)]);
    story.apply("fn:v1", "", "").unwrap();
    story.check_routing("mine-hello.default.example.com", &[]);
    assert_eq!(story.state().service().spec.traffic, [TrafficTarget::latest(100)]);
}

#[test]
fn annotations_tell_who_made_and_who_changed_a_service() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    let annotations = |story: &Story| {
        let annotations = &story.state().service().metadata.annotations;
        ["creator", "lastModifier"].map(|key| annotations[&format!("serving.knative.dev/{key}")].clone())
    };
    assert_eq!(annotations(&story), ["tester", "tester"]);
    let mut service = story.state().service().clone();
    service.spec.template.spec.timeout_seconds = Some(9);
    let context = Context { user: Some("other"), ..Context::new(&story.config, story.now) };
    story.state.as_mut().unwrap().update(service, &context).unwrap();
    assert_eq!(annotations(&story), ["tester", "other"]);
}
