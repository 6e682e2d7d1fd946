//! What happens by the clock: rollouts and garbage collection.

use super::*;

#[test]
fn a_rollout_moves_traffic_step_by_step() {
    let mut story = Story::new();
    story.config.network.rollout_duration_seconds = 5;
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    assert_eq!(story.state().next_wake(), None);
    story.apply("fn:v2", "", "").unwrap();
    story.ready("hello-00002");
    story.check_routing(HOST, &[("hello-00001", 99), ("hello-00002", 1)]);
    story.check_condition(
        ConditionType::Ready,
        ConditionStatus::Unknown,
        "RolloutInProgress",
        "A gradual rollout of the latest revision(s) is in progress.",
    );
    assert_eq!(story.state().status().traffic.len(), 2);
    let restored: ServiceState = serde_json::from_str(&serde_json::to_string(story.state()).unwrap()).unwrap();
    story.state = Some(restored);

    let mut percents = Vec::new();
    while let Some(wake) = story.state().next_wake() {
        story.now = wake;
        assert!(story.with(|state, context| state.tick(context)).routing);
        percents.push(story.state().status().traffic.last().unwrap().percent());
    }
    assert_eq!(percents, [26, 51, 76, 100]);
    story.check_states(&[("hello-00001", RoutingState::Reserve), ("hello-00002", RoutingState::Active)]);
    assert!(story.state().status().is_ready());
}

#[test]
fn an_annotation_sets_the_rollouts_duration() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    let mut service = story.state().service().clone();
    service.metadata.annotations.insert(ROLLOUT.to_owned(), "380s".to_owned());
    service.spec.template.spec.timeout_seconds = Some(9);
    story.with(|state, context| state.update(service, context)).unwrap();
    story.ready("hello-00002");
    story.check_routing(HOST, &[("hello-00001", 99), ("hello-00002", 1)]);
}

const ROLLOUT: &str = "serving.knative.dev/rollout-duration";

#[test]
fn old_revisions_without_traffic_are_collected() {
    let mut story = Story::new();
    story.config.gc.min_non_active_revisions = 1;
    for (image, name) in [("fn:v1", "hello-00001"), ("fn:v2", "hello-00002"), ("fn:v3", "hello-00003")] {
        story.apply(image, "", "").unwrap();
        story.wait(60);
        story.ready(name);
    }
    assert_eq!(story.with(|state, context| state.collect_garbage(context)), Changes::default());
    story.wait(49 * 3600);
    let changes = story.with(|state, context| state.collect_garbage(context));
    assert_eq!(changes, Changes { removed: vec!["hello-00001".to_owned()], ..Changes::default() });
    story.check_states(&[("hello-00002", RoutingState::Reserve), ("hello-00003", RoutingState::Active)]);
}
