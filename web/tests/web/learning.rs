//! What pages tell of how a run came to its model and of what its gate decided.

use api::train::{Candidate, CandidateState, Examined, Progress, Promotion, Results, RunState, Validated};

use crate::{
    bench::{Bench, searched, status},
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

#[tokio::test]
async fn lines_stand_as_the_search_ranks_them_and_nothing_is_being_fitted_after_the_end() {
    let bench = Bench::new();
    let run = bench.queued_run(&bench.dataset());
    let lock = run.lock().unwrap();
    run.write_status(&status(RunState::Running)).unwrap();
    let tell = |progress| run.append_progress(&progress).unwrap();
    let [tuned, linear, cnn] = searched("", "").leaderboard.try_into().unwrap();
    tell(Progress::Candidate(Candidate { val_accuracy: Some(0.5), ..linear }));
    tell(Progress::Candidate(Candidate { state: CandidateState::Tried, val_accuracy: Some(0.75), ..tuned }));
    tell(Progress::Candidate(Candidate { state: CandidateState::Running, reason: None, ..cnn }));
    let order = |page: &str| {
        let mut places = [">linear<small", ">fine-tuned<small", ">CNN<small"].map(|one| (page.find(one).unwrap(), one));
        places.sort_unstable();
        places.map(|(_, one)| one)
    };
    tell(Progress::Ranking { numbers: vec![1, 2] });
    let live = bench.get(&format!("/runs/{}/live", run.id())).await;
    shows(&live, &["picture by picture", ">running</span>", "272 M"]);
    let ranked = [">linear<small", ">fine-tuned<small", ">CNN<small"];
    assert_eq!(order(&live.text()), ranked, "the less accurate one is the better one by cross-entropy");

    drop(lock);
    run.write_status(&status(RunState::Cancelled)).unwrap();
    let ended = bench.get(&format!("/runs/{}", run.id())).await;
    shows(&ended, &["Search until then", ">not finished</span>"]);
    assert_eq!(order(&ended.text()), ranked);
    assert!(!ended.text().contains(">running</span>"));
}

#[tokio::test]
async fn figures_are_told_with_the_pictures_that_they_rest_on() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let run = bench.searched_run(&dataset);
    let path = format!("/runs/{}", run.id());
    let results = Results {
        suspects: vec![],
        examined: Some(Examined { pictures: 4, of: 12 }),
        validated: Some(Validated { pictures: 4, folds: 2 }),
        ..searched(&dataset.manifest.id, run.id())
    };
    run.write_results(&results).unwrap();
    let page = bench.get(&path).await;
    shows(&page, &["<small>4 pictures in 2 folds</small>", "Examined 4 of 12 pictures", "None is suspected."]);
    let examined = Some(Examined { pictures: 12, of: 12 });
    run.write_results(&Results { examined, ..results }).unwrap();
    let page = bench.get(&path).await.text();
    assert!(page.contains("Examined 12 of 12 pictures") && !page.contains("fitted on all others"), "{page}");

    let fitted = "by a model that was fitted on it";
    shows(&bench.get(&format!("{path}/pictures?split=train")).await, &[fitted]);
    assert!(!bench.get(&format!("{path}/pictures?split=test")).await.text().contains(fitted));

    let csv = bench.get(&format!("{path}/charts/work.csv")).await.text();
    let heads =
        "Multiply-adds for a picture,Validation accuracy,At least (95 % confidence),At most (95 % confidence),Pictures";
    assert!(csv.contains(heads) && csv.contains(",272000000,0.9375,"), "{csv}");
}
