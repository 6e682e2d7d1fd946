//! What a function serves follows its mount, and no request notices.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use crate::bench::{Bench, PATIENCE};

/// A registry as the house lays it out: version folders and a link to one of them.
struct Registry(TempDir);

impl Registry {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn current(&self) -> PathBuf {
        self.0.path().join("current")
    }

    /// Adds a version and makes it the current one, atomically.
    fn publish(&self, version: &str) {
        let folder = self.0.path().join(version);
        if !folder.exists() {
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("version"), version).unwrap();
        }
        let aside = self.0.path().join("next");
        symlink(version, &aside).unwrap();
        fs::rename(aside, self.current()).unwrap();
    }

    async fn serve(&self, options: &str) -> Bench {
        Bench::serve(&format!(",mount={}:/model,ready=/health/ready{options}", self.current().display())).await
    }
}

/// Asks until the version is this one.
async fn until_version(bench: &Bench, version: &str) {
    let ask = async { while bench.get("/version").await.text() != version {} };
    timeout(PATIENCE, ask).await.unwrap();
}

#[tokio::test]
async fn publishing_under_load_fails_no_request() {
    let registry = Registry::new();
    registry.publish("one");
    let bench = Arc::new(registry.serve(",concurrency=3").await);
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (bench, done) = (Arc::clone(&bench), Arc::clone(&done));
            tokio::spawn(async move {
                let mut answers = 0;
                while !done.load(Ordering::Relaxed) {
                    let answer = bench.get("/version").await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    // An instance never mixes revisions: odd ones serve `one`, even ones `two`.
                    let number: u64 = answer.revision.trim_start_matches("hostile-").parse().unwrap();
                    assert_eq!(answer.text(), if number % 2 == 1 { "one" } else { "two" }, "{answer:?}");
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for _ in 0..3 {
        registry.publish("two");
        until_version(&bench, "two").await;
        registry.publish("one");
        until_version(&bench, "one").await;
    }
    assert_eq!(bench.function.revision(), "hostile-7");
    done.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_request_in_flight_finishes_on_its_revision() {
    let registry = Registry::new();
    registry.publish("one");
    let bench = registry.serve(",concurrency=2").await;
    let slow = bench.spawn_get("/busy?3000");
    bench.until_idle(0).await;
    registry.publish("two");
    until_version(&bench, "two").await;
    assert!(!slow.is_finished(), "the machine is too slow for this test to mean anything");
    let slow = slow.await.unwrap();
    slow.is_ok("done");
    assert_eq!(slow.revision, "hostile-1");
    // Its instance is not kept.
    bench.get("/version").await.is_ok("two");
}

#[tokio::test]
async fn the_next_revision_is_warm_before_it_serves() {
    let registry = Registry::new();
    registry.publish("one");
    let bench = registry.serve("").await;
    // The readiness check was each instance's first request.
    bench.get("/requests").await.is_ok("2");
    registry.publish("two");
    timeout(PATIENCE, async {
        while bench.function.revision() != "hostile-2" {
            tokio::task::yield_now().await
        }
    })
    .await
    .unwrap();
    bench.get("/requests").await.is_ok("2");
}

#[tokio::test]
async fn a_function_serves_before_its_mount_is_there_and_after_it_is_gone() {
    let registry = Registry::new();
    let bench = registry.serve("").await;
    assert_eq!(bench.get("/version").await.status, 503);
    registry.publish("one");
    until_version(&bench, "one").await;
    fs::remove_file(registry.current()).unwrap();
    timeout(PATIENCE, async { while bench.get("/version").await.status != 503 {} }).await.unwrap();
    bench.get("/").await.is_ok("well behaved");
}

#[tokio::test]
async fn a_directory_that_does_not_become_ready_leaves_the_old_revision_serving() {
    let registry = Registry::new();
    registry.publish("one");
    let bench = registry.serve("").await;
    registry.publish("broken");
    // Long enough for several looks at the mount.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        let answer = bench.get("/version").await;
        answer.is_ok("one");
        assert_eq!(answer.revision, "hostile-1");
    }
    registry.publish("two");
    until_version(&bench, "two").await;
}
