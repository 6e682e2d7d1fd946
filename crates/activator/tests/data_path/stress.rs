//! Many clients on many threads, some of whom go, while instances come and go: nothing is lost, and no limit is exceeded.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use activator::{Activator, Hop, Instance, Limits, Mode};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::task::{JoinSet, yield_now};

use crate::stage::{TIMEOUTS, Tally};

const CLIENTS: usize = 64;
const REQUESTS: usize = 200;

struct Counting {
    limit: usize,
    running: AtomicUsize,
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Instance for Counting {
    type RequestBody = usize;
    type Body = Full<Bytes>;
    type Error = Infallible;

    async fn call(&self, request: Request<usize>) -> Result<Response<Full<Bytes>>, Infallible> {
        let before = self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(&self.running);
        assert!(before < self.limit, "{before} ran already");
        for _ in 0..request.into_body() {
            yield_now().await;
        }
        Ok(Response::new(Full::new(Bytes::from_static(b"done"))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_and_no_limit_is_exceeded() {
    for (mode, limit) in [(Mode::Proxy, 1), (Mode::Proxy, 5), (Mode::Serve, 7)] {
        let tally = Arc::new(Tally::default());
        let limits = Limits { container_concurrency: limit, timeouts: TIMEOUTS };
        let activator = Activator::new("r", limits, tally.clone());
        activator.set_mode(mode);
        let instance = move || Arc::new(Counting { limit: limit as usize, running: AtomicUsize::new(0) });

        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let activator = activator.clone();
            clients.spawn(async move {
                for n in 0..REQUESTS {
                    let call = activator.call(Request::new((client + n) % 4), None);
                    if (client + n) % 5 == 0 {
                        // Goes after it has had some turns.
                        tokio::select! {
                            _ = call => {}
                            () = async { for _ in 0..n % 7 { yield_now().await } } => {}
                        }
                    } else {
                        assert_eq!(call.await.response.status(), 200);
                    }
                }
            });
        }
        let control = tokio::spawn({
            let activator = activator.clone();
            async move {
                for _ in 0..50 {
                    let ids = activator.add_all([instance(), instance(), instance()]);
                    yield_now().await;
                    for id in &ids[1..] {
                        activator.remove(*id).unwrap().await;
                    }
                    yield_now().await;
                    drop(activator.remove(ids[0]));
                }
                activator.add(instance());
            }
        });
        control.await.unwrap();
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }

        let load = activator.load();
        assert_eq!((load.running, load.queued, load.held, load.draining, load.ready), (0, 0, 0, 0, 1), "{mode:?}");
        let counts = [Hop::Activator, Hop::QueueProxy].map(|hop| tally.counts(hop));
        assert!(counts.iter().all(|(arrived, finished)| arrived == finished), "{counts:?}");
        assert!(counts.iter().map(|(arrived, _)| arrived).sum::<usize>() <= CLIENTS * REQUESTS);
    }
}
