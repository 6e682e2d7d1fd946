//! What runs show of themselves: their search, the pictures behind their numbers, charts as files, two runs side by side,
//! and the forms that name, repeat, delete and derive.

use api::train::{
    Augmentation, Candidate, CandidateState, Family, Hyperparameters, Progress, RunLabel, RunState, Suspect,
};
use http::{StatusCode, header};

use crate::{
    bench::{Answer, Bench, epoch, searched, status},
    pages::{URLENCODED, shows},
};

/// What an XML parser would take: every tag that is opened is closed, in order.
#[track_caller]
fn is_well_formed(svg: &str) {
    let mut open = vec![];
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("no end of {tag:?}"));
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{svg}"),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split_whitespace().next().unwrap()),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test]
async fn results_tell_why_how_far_to_believe_them_and_what_the_gate_said() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    bench.model(&dataset);
    let run = bench.searched_run(&dataset);
    let page = bench.get(&format!("/runs/{}", run.id())).await;
    shows(&page, &["fine_tune was right most often", "9.4 ms", "13.6 MB"]);
    shows(
        &page,
        &["32 pictures in 5 folds", "93.8 %", "160 px", "The loss became infinite.", "Accuracy by resolution"],
    );
    shows(&page, &["79.9 to 98.3 %", "272 M", "Accuracy by work", "picture by picture"]);
    shows(
        &page,
        &["it is worse than v7 by more than the margin", "2.0 percentage points", "Put into use all the same"],
    );
    shows(&page, &["Expected calibration error", "6.2 %", "1.500", "is below 3.25", "furthest apart at a confidence"]);
    let cell = "/pictures?split=test&amp;label=cat&amp;predicted=%3Cdog%3E\"";
    shows(
        &page,
        &[cell, "aria-label=\"1 picture of cat taken for &#60;dog&#62;\"", "Worst mistakes", "75.0 % &#60;dog&#62;"],
    );
    shows(&page, &["Suspected labels", "value=\"1/1.png\" checked", "93.8 % sure, train split"]);
    shows(&page, &["/models/classifier/1\">Model card", "Compare with another run", "Yes, delete Run"]);
}

#[tokio::test]
async fn a_run_without_predictions_shows_numbers_that_lead_nowhere() {
    let bench = Bench::new();
    let run = bench.finished_run(&bench.dataset());
    let page = bench.get(&format!("/runs/{}", run.id())).await;
    shows(&page, &["Confusion matrix"]);
    assert!(!page.text().contains("/pictures?"));
    let pictures = bench.get(&format!("/runs/{}/pictures", run.id())).await;
    assert_eq!(pictures.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_cell_opens_the_pictures_behind_it() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let run = bench.searched_run(&dataset);
    let path = format!("/runs/{}/pictures", run.id());
    let pictures = |answer: &Answer| answer.text().matches("<img src=\"/api/datasets/").count();

    let cell = bench.get(&format!("{path}?split=test&label=cat&predicted=%3Cdog%3E")).await;
    shows(&cell, &["Test pictures of cat taken for &#60;dog&#62;", "25.0 % cat", ", unsure"]);
    assert_eq!(pictures(&cell), 1);
    let row = dataset.pictures().unwrap().iter().position(|p| p.split == api::dataset::Split::Test && p.label == 1);
    shows(&cell, &[&format!("/pictures/{}.png", row.unwrap())]);

    let all = bench.get(&format!("{path}?split=&label=&predicted=")).await;
    assert_eq!(pictures(&all), 16);
    assert!(all.text().find("taken for</span>").unwrap() < all.text().find("right:").unwrap(), "the worst is first");
    assert_eq!(pictures(&bench.get(&format!("{path}?wrong=on")).await), 1);
    shows(&bench.get(&format!("{path}?split=validation&wrong=on")).await, &["There is no such picture."]);
    for (query, code) in [("split=other", StatusCode::BAD_REQUEST), ("label=cow", StatusCode::NOT_FOUND)] {
        assert_eq!(bench.get(&format!("{path}?{query}")).await.status, code, "{query}");
    }
}

#[tokio::test]
async fn every_chart_is_a_file_that_stands_alone_and_a_table() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    bench.model(&dataset);
    let (run, other) = (bench.searched_run(&dataset), bench.searched_run(&dataset));
    let charts = format!("/runs/{}/charts", run.id());
    let compared = format!("?a={}&b={}", run.id(), other.id());
    let mut files = vec![];
    for id in ["accuracy", "loss", "learning-rate", "speed", "search", "confusion-matrix", "reliability"] {
        files.push((format!("{charts}/{id}."), String::new()));
    }
    files.push((format!("/datasets/{}/charts/classes.", dataset.manifest.id), String::new()));
    files.push(("/models/classifier/1/charts/confusion-matrix.".into(), String::new()));
    files.push(("/compare/charts/loss.".into(), compared.clone()));
    for (path, query) in &files {
        let svg = bench.get(&format!("{path}svg{query}")).await;
        assert_eq!((svg.status, svg.header(header::CONTENT_TYPE)), (StatusCode::OK, "image/svg+xml"), "{path}");
        let text = svg.text();
        assert!(text.starts_with("<svg") && text.contains("xmlns=\"http://www.w3.org/2000/svg\""), "{text}");
        assert!(text.contains("<title") && text.contains("<desc") && !text.contains("style="), "{text}");
        is_well_formed(&text);
        let csv = bench.get(&format!("{path}csv{query}")).await;
        assert!(csv.header(header::CONTENT_TYPE).starts_with("text/csv"), "{path}");
        assert!(csv.text().lines().count() > 1, "{path}");
    }
    let csv = bench.get(&format!("{charts}/per-class.csv")).await.text();
    assert_eq!(csv, "Class,Precision,Recall,F1,Test pictures\r\n<dog>,0.5,0.75,,2\r\ncat,0.5,0.75,,2\r\n");
    let csv = bench.get(&format!("{charts}/accuracy.csv")).await.text();
    assert!(csv.contains("\r\n3,") && csv.contains("Learning rate"), "{csv}");
    let csv = bench.get(&format!("/compare/charts/comparison.csv{compared}")).await.text();
    assert!(csv.contains("figures,test_accuracy,0.625,0.625,no,"), "{csv}");
    for missing in ["per-class.svg", "other.svg", "accuracy.png", "accuracy"] {
        assert_eq!(bench.get(&format!("{charts}/{missing}")).await.status, StatusCode::NOT_FOUND, "{missing}");
    }
}

#[tokio::test]
async fn a_search_is_shown_while_it_runs() {
    let bench = Bench::new();
    let run = bench.queued_run(&bench.dataset());
    let _lock = run.lock().unwrap();
    run.write_status(&status(RunState::Running)).unwrap();
    let tell = |progress| run.append_progress(&progress).unwrap();
    let tried = &searched("", "").leaderboard;
    tell(Progress::Stage { stage: "search".into(), done: 10, total: 45, seconds: 10.0 });
    tell(Progress::Candidate(Candidate { state: CandidateState::Running, val_accuracy: None, ..tried[0].clone() }));
    tell(Progress::Candidate(tried[1].clone()));
    tell(Progress::Ranking { numbers: vec![1] });
    let path = format!("/runs/{}/live", run.id());
    let live = bench.get(&path).await;
    shows(&live, &["looking for the best family and settings", "about 35 s left", "87.5 %", "running"]);
    shows(&live, &["381 M", "picture by picture"]);
    assert!(live.text().find(">linear").unwrap() < live.text().find(">fine-tuned").unwrap(), "the best is first");
    assert!(!live.text().contains("aria-labelledby=\"leaderboard\" hidden"));

    tell(Progress::Candidate(tried[0].clone()));
    for n in 1..=3 {
        tell(Progress::Epoch(epoch(n)));
    }
    let live = bench.get(&path).await;
    shows(
        &live,
        &["<span role=\"status\">training</span>", "epoch 3 of at most 3", "Learning rate", "pictures per second"],
    );
    let live = live.text();
    let (_, board) = live.split_once("<table class=\"leaderboard\">").unwrap();
    assert!(board.find(">fine-tuned").unwrap() < board.find(">linear").unwrap());
    let csv = bench.get(&format!("/runs/{}/charts/best.csv", run.id())).await.text();
    assert_eq!(csv, "Seconds,Candidate,Family,Validation accuracy,Best so far\r\n10,1,linear,0.875,0.875\r\n");
    tell(Progress::Resumed { epoch: 1, seconds: 1.0 });
    shows(&bench.get(&path).await, &["Accuracy after epoch 1: train 50.0 %, validation 25.0 %"]);
    let csv = bench.get(&format!("/runs/{}/charts/loss.csv", run.id())).await.text();
    assert_eq!(csv.lines().count(), 2, "{csv}");
}

#[tokio::test]
async fn two_runs_are_compared_and_their_differences_marked() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let (a, b) = (bench.finished_run(&dataset), bench.searched_run(&dataset));
    b.write_results(&api::train::Results { test_accuracy: Some(0.875), ..searched(&dataset.manifest.id, b.id()) })
        .unwrap();
    b.write_label(&RunLabel { name: "with <dog>".into(), notes: String::new() }).unwrap();
    let page = bench.get(&format!("/compare?run={}&run={}", a.id(), b.id())).await;
    shows(
        &page,
        &["B is better by 25.0 points", "with &#60;dog&#62;", "Validation accuracy at the end: A 25.0 %, B 25.0 %"],
    );
    shows(
        &page,
        &["tr class=\"differs\"", "tr class=\"same\"", "<span aria-hidden=\"true\">≠</span>", "Only what differs"],
    );
    let chosen = format!("<option value=\"{}\" selected>", b.id());
    shows(&bench.get(&format!("/compare?b={}", b.id())).await, &[&chosen, "choose one"]);
    shows(&bench.get(&format!("/compare?run={}", a.id())).await, &["1 run is ticked; expected two."]);
    assert_eq!(bench.get(&format!("/compare?a={}&b=20260101", a.id())).await.status, StatusCode::NOT_FOUND);
    let list = bench.get("/runs").await;
    shows(
        &list,
        &["action=\"/compare\"", &format!("name=\"run\" value=\"{}\"", a.id()), "of <a href=\"/disk\">the disk</a>"],
    );
}

#[tokio::test]
async fn a_run_is_named_repeated_and_deleted_by_its_forms() {
    let bench = Bench::new();
    let run = bench.finished_run(&bench.dataset());
    let path = format!("/runs/{}", run.id());
    let named = bench.post(&format!("{path}/label"), URLENCODED, "name=first&notes=a%0D%0A%3Cdog%3E").await;
    assert_eq!(named.header(header::LOCATION), format!("{path}#about"));
    assert_eq!(run.label().unwrap(), RunLabel { name: "first".into(), notes: "a\n<dog>".into() });
    shows(&bench.get(&path).await, &["<h1>first ", "a\n&#60;dog&#62;"]);
    let long = bench.post(&format!("{path}/label"), URLENCODED, format!("name={}", "x".repeat(101))).await;
    assert_eq!(long.status, StatusCode::UNPROCESSABLE_ENTITY);
    shows(&long, &["Name has 101 characters; expected at most 100.", &"x".repeat(101)]);
    assert_eq!(run.label().unwrap().name, "first");

    let again = bench.post(&format!("{path}/retry"), URLENCODED, "").await;
    let repeated = bench.volumes.runs().unwrap()[0].clone();
    assert_eq!(again.header(header::LOCATION), format!("/runs/{}", repeated.id()));
    assert_eq!(repeated.spec.retry_of.as_deref(), Some(run.id()));
    shows(&bench.get(&format!("/runs/{}", repeated.id())).await, &["Repeats", run.id()]);
    let busy = bench.post(&format!("/runs/{}/delete", repeated.id()), URLENCODED, "sure=yes").await;
    assert_eq!(busy.status, StatusCode::CONFLICT);
    bench.post(&format!("/runs/{}/cancel", repeated.id()), URLENCODED, "").await;
    bench.until(repeated.id(), RunState::Cancelled).await;

    let unsure = bench.post(&format!("{path}/delete"), URLENCODED, "").await;
    assert_eq!(unsure.status, StatusCode::UNPROCESSABLE_ENTITY);
    let deleted = bench.post(&format!("{path}/delete"), URLENCODED, "sure=yes").await;
    assert_eq!(deleted.header(header::LOCATION), "/runs");
    assert_eq!(bench.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn suspects_and_lookalikes_are_left_out_of_a_new_dataset() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let run = bench.searched_run(&dataset);
    let path = format!("/datasets/{}", dataset.manifest.id);
    let page = bench.get(&path).await;
    shows(&page, &["Pictures by class", "2 classes of 8 pictures each", "Suspected labels", run.id()]);
    let derived = bench.post(&format!("{path}/derive"), URLENCODED, "remove=1%2F1.png&remove=1%2F3.png").await;
    assert_eq!(derived.status, StatusCode::SEE_OTHER, "{}", derived.text());
    let address = derived.header(header::LOCATION).to_owned();
    let page = bench.get(&address).await;
    shows(&page, &["14 pictures of 2 classes", "by leaving out 2 pictures", "&#60;dogs&#62; (2 left out)"]);
    shows(&page, &[&format!("Made of <a href=\"{path}\">cats &#38; &#60;dogs&#62;</a>")]);
    shows(&bench.get(&path).await, &[&format!("Made of this one: <a href=\"{address}\">cats")]);
    assert_eq!(bench.volumes.dataset(&dataset.manifest.id).unwrap().manifest.pictures, 16, "the other one stays");
    for (form, said) in [("", "No picture is ticked"), ("remove=cow.png", "has no picture")] {
        let refused = bench.post(&format!("{path}/derive"), URLENCODED, form).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{form}");
        shows(&refused, &[said]);
    }
    let deleted = bench.post(&format!("{address}/delete"), URLENCODED, "sure=yes").await;
    assert_eq!(deleted.header(header::LOCATION), "/training_page#datasets");
    assert_eq!(bench.get(&address).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_form_shows_the_search_first_and_each_familys_own_fields() {
    let bench = Bench::new();
    let path = format!("/datasets/{}", bench.dataset().manifest.id);
    let page = bench.get(&path).await;
    shows(
        &page,
        &["name=\"budget_seconds\" min=\"5\" max=\"86400\"", "Auto: search for the best", "class=\"only-mlp\""],
    );
    shows(&page, &["data-family=\"fine_tune\">fine-tuned: 6</span>", "name=\"backbone\""]);
    let wrong = bench.post(&format!("{path}/train"), URLENCODED, "budget_seconds=1").await;
    shows(
        &wrong,
        &["<strong class=\"wrong\" role=\"alert\">Time for the search in seconds is 1; expected 5 to 86400</strong>"],
    );
    let started = bench.post(&format!("{path}/train"), URLENCODED, "budget_seconds=60&family=").await;
    assert_eq!(started.status, StatusCode::SEE_OTHER, "{}", started.text());
    assert_eq!(bench.volumes.runs().unwrap()[0].spec.hyperparameters.budget_seconds, Some(60.0));
}

#[tokio::test]
async fn a_version_has_a_card_and_the_list_tells_what_the_gate_said() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    bench.model(&dataset);
    let card = bench.get("/models/classifier/1").await;
    shows(
        &card,
        &["62.5 % (95 % confidence", "What to keep in mind", "cats &#38; &#60;dogs&#62;", "model.onnx", "SHA-256"],
    );
    shows(&bench.get("/models").await, &["<a href=\"/models/classifier/1\">v1", "Gate"]);
    shows(&bench.get("/disk").await, &["Model versions", "Free on volume 1"]);
    let unsure = bench.post("/models/classifier/1/delete", URLENCODED, "").await;
    assert_eq!(unsure.status, StatusCode::UNPROCESSABLE_ENTITY);
    let deleted = bench.post("/models/classifier/1/delete", URLENCODED, "sure=yes").await;
    assert_eq!(deleted.header(header::LOCATION), "/models");
    for missing in ["/models/classifier/1", "/models/classifier/9", "/models/other/1", "/models/classifier/one"] {
        let status = bench.get(missing).await.status;
        assert!(status.is_client_error(), "{missing}: {status}");
    }
}

#[tokio::test]
async fn suspects_that_are_not_shown_are_counted_and_without_a_dataset_nothing_can_be_left_out() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let run = bench.searched_run(&dataset);
    let mut results = searched(&dataset.manifest.id, run.id());
    let one = results.suspects[0].clone();
    results.suspects = (0..150).map(|n| Suspect { name: format!("many/{n}.png"), ..one.clone() }).collect();
    run.write_results(&results).unwrap();
    let (path, of_dataset) = (format!("/runs/{}", run.id()), format!("/datasets/{}", dataset.manifest.id));
    let told = format!("100 of 150 are shown, the surest first; <a href=\"/api/runs/{}/suspects\">", run.id());
    for page in [&path, &of_dataset] {
        let page = bench.get(page).await;
        shows(&page, &[&told, "many/99.png", "Make a dataset without those that are ticked"]);
        assert!(!page.text().contains("many/100.png"));
    }
    bench.volumes.delete_dataset(&dataset.manifest.id).unwrap();
    let page = bench.get(&path).await;
    shows(&page, &["The dataset has been deleted, so there is nothing to leave them out of.", "many/0.png"]);
    assert!(!page.text().contains("/derive"));
}

#[tokio::test]
async fn what_has_been_deleted_is_named_and_leads_nowhere() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    bench.model(&dataset);
    let first = bench.finished_run(&dataset);
    first.write_label(&RunLabel::default()).unwrap();
    let second = bench.volumes.retry_run(&first).unwrap();
    second.write_results(&searched(&dataset.manifest.id, second.id())).unwrap();
    second.write_status(&status(RunState::Succeeded)).unwrap();
    let (dataset, first) = (dataset.manifest.id, first.id().to_owned());
    let pages = [format!("/runs/{}", second.id()), "/runs".into(), "/models".into(), "/models/classifier/1".into()];
    let again = format!("/datasets/{dataset}?run={}#train", second.id());
    shows(&bench.get(&pages[0]).await, &[&format!("href=\"/runs/{first}\""), &again, "/retry"]);
    bench.volumes.delete_run(&first).unwrap();
    bench.volumes.delete_dataset(&dataset).unwrap();
    for path in &pages {
        let page = bench.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for gone in [format!("href=\"/runs/{first}\""), format!("href=\"/datasets/{dataset}"), "/runs/run-1\"".into()] {
            assert!(!page.text().contains(&gone), "{path} leads to {gone}");
        }
    }
    let page = bench.get(&pages[0]).await;
    shows(&page, &[&format!("{dataset}, which has been deleted"), &format!("{first}, which has been deleted")]);
    assert!(!page.text().contains("/retry"), "there is nothing to train on");
    shows(&bench.get("/models/classifier/1").await, &["run-1, which has been deleted"]);
}

#[tokio::test]
async fn the_settings_of_a_run_fill_in_the_form_in_the_words_of_their_fields() {
    let bench = Bench::new();
    let dataset = bench.dataset();
    let asked = Hyperparameters {
        family: Some(Family::Cnn),
        epochs: Some(7),
        augmentation: Some(Augmentation::Flip),
        ..Hyperparameters::default()
    };
    let run = bench.volumes.create_run(&dataset.manifest.id, "pets", asked).unwrap();
    let path = format!("/datasets/{}", dataset.manifest.id);
    let page = bench.get(&format!("{path}?run={}", run.id())).await;
    shows(&page, &["<option value=\"cnn\" selected>", "max=\"1000\" step=\"1\" value=\"7\"", "value=\"pets\""]);
    shows(&page, &["<option value=\"flip\" selected>mirror</option>", "<details open><summary>Settings by hand"]);
    let fresh = bench.get(&path).await;
    shows(&fresh, &["Longest gradient (gradient clipping; 0: any)", "Average of weights (EMA; 0: none)"]);
    shows(&fresh, &["Random changes (augmentation)", "default (with Auto: searched for)", "smaller is faster"]);
    assert!(!fresh.text().contains("<details open><summary>Settings by hand"));
    assert_eq!(bench.get(&format!("{path}?run=20260101")).await.status, StatusCode::NOT_FOUND);
}
