//! What pages tell of how a run came to its model and of what its gate decided.

use api::train::{Promotion, Results};

use crate::{
    bench::{Bench, searched},
    pages::shows,
};

#[tokio::test]
async fn what_passed_the_gate_and_was_not_put_into_use_is_not_told_as_held_back() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let held_back = searched(&dataset.manifest.id, "run-1");
    let gate = held_back.promotion.clone().unwrap();
    let passed = Promotion {
        new_accuracy: Some(0.9),
        passed: Some(true),
        reason: "It would take the place of v7: it is better.".into(),
        ..gate.clone()
    };
    // As files were written before the verdict was kept, with figures that it follows from.
    let old = Promotion { passed: None, ..passed.clone() };
    for promotion in [gate, passed.clone(), old] {
        bench.model_of(&dataset, &Results { promotion: Some(promotion), ..held_back.clone() });
    }
    let list = bench.get("/models").await.text();
    assert_eq!(list.matches("held back").count(), 1, "{list}");
    assert_eq!(list.matches("passed<small>a person publishes it</small>").count(), 2, "{list}");

    let run = bench.searched_run(&dataset);
    shows(&bench.get(&format!("/runs/{}", run.id())).await, &["Put into use all the same"]);
    run.write_results(&Results { promotion: Some(passed), ..held_back }).unwrap();
    let page = bench.get(&format!("/runs/{}", run.id())).await;
    shows(&page, &["It would take the place of v7", "a person puts it into use", ">Put into use</button>"]);
}

#[tokio::test]
async fn whoever_deletes_the_dataset_of_the_version_in_use_is_told_what_that_switches_off() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let version = bench.model(&dataset).manifest.version;
    let page = format!("/datasets/{}", dataset.manifest.id);
    assert!(!bench.get(&page).await.text().contains("without a comparison"), "nothing is in use");
    bench.volumes.set_current("classifier", version).unwrap();
    shows(&bench.get(&page).await, &["classifier v1, which is in use, was made from it", "without a comparison"]);
}
