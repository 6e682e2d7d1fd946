//! What the service finds when it looks at what surrounds it.

use api::diagnosis::Diagnosis;
use http::StatusCode;

use crate::bench::{Bench, stubborn_function};

#[tokio::test]
async fn functions_are_called_and_models_in_use_read() {
    let answers = stubborn_function(StatusCode::OK, "live").await;
    let refuses = stubborn_function(StatusCode::NOT_FOUND, "").await;
    let bench = Bench::with(|config| (config.preprocess_url, config.inference_url) = (answers, refuses));
    bench.model(&bench.dataset());
    let unused: Diagnosis = bench.get("/api/diagnosis").await.json();
    assert!(unused.models.is_empty(), "no version is in use");
    bench.volumes.set_current("classifier", 1).unwrap();

    let told: Diagnosis = bench.get("/api/diagnosis").await.json();
    let problems: Vec<_> = told.functions.iter().map(|f| (f.name.as_str(), f.problem.as_deref())).collect();
    assert_eq!(problems, [("preprocess", None), ("inference", Some("it answered 404 Not Found"))]);
    assert_eq!((told.models[0].version, &told.models[0].problem), (1, &None));
    assert_eq!((told.version.as_str(), &told.volumes), (env!("CARGO_PKG_VERSION"), &None));
    assert!(told.at_unix_ms > 1_700_000_000_000);

    let network = bench.volumes.version("classifier", 1).unwrap().onnx();
    std::fs::remove_file(&network).unwrap();
    std::fs::write(&network, "something else").unwrap();
    let damaged: Diagnosis = bench.get("/api/diagnosis").await.json();
    assert!(damaged.models[0].problem.as_ref().unwrap().contains("model.onnx"), "{damaged:?}");
}

#[tokio::test]
async fn a_function_that_is_away_and_a_volume_that_is_gone_are_part_of_the_answer() {
    let bench = Bench::new();
    std::fs::remove_dir_all(bench.volumes.datasets_dir()).unwrap();
    let told: Diagnosis = bench.get("/api/diagnosis").await.json();
    assert!(told.functions.iter().all(|function| function.problem.is_some()), "{told:?}");
    assert!(told.volumes.unwrap().starts_with("volume 1 has no folder datasets"));
}
