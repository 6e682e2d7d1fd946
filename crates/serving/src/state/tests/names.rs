//! Names of revisions, brought by the author or counted.

use super::*;

#[test]
fn a_name_that_the_author_brings_must_change_with_the_template() {
    let mut story = Story::new();
    story.apply("fn:v1", "hello-one", "").unwrap();
    assert_eq!(story.apply("fn:v1", "hello-one", ""), Ok(Changes::default()));
    let error = story.apply("fn:v2", "hello-one", "").unwrap_err();
    assert_eq!(
        error.lines().next(),
        Some("Saw the following changes without a name change (-old +new): spec.template.metadata.name")
    );
    assert!(error.contains("spec.containers[0].image:\n\t-: \"fn:v1\"\n\t+: \"fn:v2\""), "{error}");
    assert_eq!(story.apply("fn:v2", "hello-two", "").unwrap().created, ["hello-two"]);
    assert_eq!(story.apply("fn:v3", "", "").unwrap().created, ["hello-00003"]);
}

#[test]
fn an_author_may_go_back_to_an_older_name_with_its_very_template() {
    let mut story = Story::new();
    story.apply("fn:v1", "hello-one", "").unwrap();
    story.ready("hello-one");
    story.apply("fn:v2", "hello-two", "").unwrap();
    story.ready("hello-two");
    story.check_routing(HOST, &[("hello-two", 100)]);
    let changes = story.apply("fn:v1", "hello-one", "").unwrap();
    assert!(changes.created.is_empty() && changes.routing);
    story.check_routing(HOST, &[("hello-one", 100)]);

    story.apply("fn:v3", "hello-two", "").unwrap();
    story.check_routing(HOST, &[("hello-one", 100)]);
    story.check_condition(
        ConditionType::RoutesReady,
        ConditionStatus::False,
        "RevisionNameTaken",
        "The revision name \"hello-two\" is taken by a conflicting Revision, so traffic will not be migrated",
    );
    story.check_condition(
        ConditionType::ConfigurationsReady,
        ConditionStatus::False,
        "RevisionFailed",
        "Revision creation failed with message: revisions.serving.knative.dev \"hello-two\" already exists.",
    );
}

#[test]
fn a_revision_of_another_service_keeps_its_name() {
    let mut story = Story::new();
    story.apply("fn:v1", "", "").unwrap();
    story.ready("hello-00001");
    story.owner = Some("other");
    assert_eq!(story.apply("fn:v2", "", ""), Ok(Changes::default()));
    story.check_routing(HOST, &[("hello-00001", 100)]);
    story.owner = None;
    let changes = story.with(|state, context| state.tick(context));
    assert_eq!(changes.created, ["hello-00002"]);
}
