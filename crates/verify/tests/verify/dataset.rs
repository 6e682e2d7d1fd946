//! The data set that is made up, as the house's own preprocessing takes it.

use std::fs;

use ingest::{Ingest, Native, Options, Progress, Source};
use store::Volumes;
use tokio::sync::watch;
use verify::dataset::{LABELS, PER_LABEL, archive};

#[tokio::test]
async fn every_picture_is_taken_and_each_split_has_some_of_each_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pictures.tar");
    fs::write(&path, archive().unwrap()).unwrap();
    let mut ingest = Ingest::new(Volumes::under(folder.path().join("data")), Native::default());
    ingest.limits.reserve_bytes = 0;
    let source = Source::Archive { path, name: "pictures.tar".into() };
    let outcome = ingest.run(source, Options::default(), watch::Sender::new(Progress::default())).await.unwrap();
    assert_eq!((outcome.rejected.len(), outcome.near_duplicates.len()), (0, 0));
    let classes = outcome.published.dataset.manifest.classes;
    assert_eq!(classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>(), LABELS);
    for class in classes {
        assert_eq!(class.total(), PER_LABEL as u64);
        assert!(class.train > 20 && class.validation > 3 && class.test > 3, "{class:?}");
    }
}
