//! Knative's own answers to the data path's questions: every vector of the kinds that concern it, replayed through the
//! public interface.
//!
//! | kind | replayed as |
//! |---|---|
//! | `breaker` | requests to one instance in Serve mode |
//! | `breaker_capacity` | the limit alone, as its queue is not ten times its places |
//! | `timeouts` | an instance that writes as scripted, in both modes: each hop with its own text |
//! | `forwarded_header` | what an instance sees, in both modes |
//! | `route_tag` | the tag of a request's headers |

use std::{
    convert::Infallible,
    fs, mem,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use activator::{Activator, Instance, Limits, Mode, Timeouts, breaker, route_tag};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::stage::{Body, Stage, Tally, buffered, received, settle};

/// What differs; empty if nothing does.
type Differences = Vec<String>;

macro_rules! compare {
    ($differences:ident, $what:expr, $got:expr, $expected:expr) => {{
        let (got, expected) = ($got, $expected);
        if got != expected {
            $differences.push(format!("{}: got {got:?}, expected {expected:?}", $what));
        }
    }};
}

/// All vectors of a kind, from every file of vectors; `None`, said aloud, if there is none.
fn vectors(kind: &str) -> Option<Vec<(String, Value)>> {
    let folder = std::env::var_os("FOVEA_KNATIVE_DATA")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/knative")), PathBuf::from);
    let mut files: Vec<_> = fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let all: Vec<Value> = files
        .iter()
        .map(|file| serde_json::from_slice::<Value>(&fs::read(file).unwrap()).unwrap())
        .filter_map(|mut parsed| Some(mem::take(parsed.get_mut("vectors")?.as_array_mut()?)))
        .flatten()
        .collect();
    if all.is_empty() {
        eprintln!("SKIPPED: {kind}: no vectors in {} (set FOVEA_KNATIVE_DATA)", folder.display());
        return None;
    }
    let of_kind: Vec<_> = all
        .into_iter()
        .filter(|vector| vector["kind"] == kind)
        .map(|mut vector| (string(&vector["id"]).to_owned(), vector["data"].take()))
        .collect();
    assert!(!of_kind.is_empty(), "at least one vector is of kind {kind}");
    Some(of_kind)
}

async fn replay(kind: &str, replayed: impl AsyncFn(&Value) -> Differences) {
    let Some(vectors) = vectors(kind) else { return };
    let mut differences = Vec::new();
    for (id, data) in &vectors {
        differences.extend(replayed(data).await.into_iter().map(|difference| format!("{id}: {difference}")));
    }
    assert!(differences.is_empty(), "{} vectors, these differ:\n{}", vectors.len(), differences.join("\n"));
}

fn number(value: &Value) -> usize {
    value.as_u64().and_then(|n| n.try_into().ok()).unwrap_or_else(|| panic!("{value} is a number"))
}

fn milliseconds(value: &Value) -> Duration {
    Duration::from_millis(number(value) as u64)
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is a string"))
}

#[tokio::test(start_paused = true)]
async fn breaker_vectors() {
    replay("breaker", async |data| {
        let mut differences = Differences::new();
        let (mut stage, _, worker) = Stage::serving(number(&data["container_concurrency"]) as u32);
        let names: Vec<String> = (0..number(&data["offered"])).map(|n| format!("{n:06}")).collect();
        for name in &names {
            stage.send(name).await;
        }
        let load = stage.activator.load();
        compare!(differences, "in flight", load.running + load.queued, number(&data["expect_in_flight"]));
        compare!(differences, "running", worker.running().len(), number(&data["expect_running"]));

        while let Some(name) = worker.running().first() {
            worker.finish(name);
            settle().await;
        }
        let load = stage.activator.load();
        let left = load.running + load.queued;
        compare!(differences, "in flight after release", left, number(&data["expect_in_flight_after_release"]));
        let mut n_rejected = 0;
        for name in &names {
            let seen = stage.answer(name).await;
            match (seen.status, &*seen.body) {
                (503, "pending request queue full\n") => n_rejected += 1,
                (200, body) if body == name => {}
                other => differences.push(format!("request {name} got {other:?}")),
            }
        }
        compare!(differences, "rejected", n_rejected, number(&data["expect_rejected"]));
        differences
    })
    .await;
}

#[tokio::test]
async fn breaker_capacity_vectors() {
    replay("breaker_capacity", async |data| {
        let mut differences = Differences::new();
        let mut breaker = breaker::Breaker::new(number(&data["max_concurrency"]), number(&data["queue_depth"]));
        breaker.set_capacity(0);
        let mut tickets = 0..;
        for (step, op) in data["ops"].as_array().unwrap().iter().enumerate() {
            let amount = number(&op[1]);
            match string(&op[0]) {
                "offer" => {
                    for ticket in (&mut tickets).take(amount) {
                        if breaker.admit() == breaker::Admission::Wait {
                            breaker.wait(ticket, ());
                        }
                    }
                }
                "capacity" => breaker.set_capacity(amount),
                "finish" => {
                    for _ in 0..amount {
                        if breaker.running() > 0 {
                            breaker.finish();
                        }
                        while breaker.promote().is_some() {}
                    }
                }
                other => panic!("unknown operation {other}"),
            }
            while breaker.promote().is_some() {}
            assert_eq!(op[2], "running");
            compare!(differences, format!("step {step} {op}"), breaker.running(), number(&op[3]));
        }
        differences
    })
    .await;
}

/// An instance that writes as scripted, counted from the request's arrival.
struct Scripted {
    writes: Vec<(Duration, Bytes)>,
    ends: Duration,
    ended: Arc<AtomicBool>,
}

impl Instance for Scripted {
    type RequestBody = ();
    type Body = Body;
    type Error = Infallible;

    async fn call(&self, _: Request<()>) -> Result<Response<Body>, Infallible> {
        let (begun, ends, ended) = (Instant::now(), self.ends, Arc::clone(&self.ended));
        let Some((first, _)) = self.writes.first() else {
            sleep_until(begun + ends).await;
            ended.store(true, Ordering::SeqCst);
            return Ok(Response::new(buffered("")));
        };
        sleep_until(begun + *first).await;
        let frames = stream::unfold(self.writes.clone().into_iter(), move |mut writes| {
            let ended = Arc::clone(&ended);
            async move {
                let Some((at, text)) = writes.next() else {
                    sleep_until(begun + ends).await;
                    ended.store(true, Ordering::SeqCst);
                    return None;
                };
                sleep_until(begun + at).await;
                Some((Ok(Frame::data(text)), writes))
            }
        });
        Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
    }
}

#[tokio::test(start_paused = true)]
async fn timeouts_vectors() {
    replay("timeouts", async |data| {
        let mut differences = Differences::new();
        for (mode, text) in [(Mode::Serve, "request timeout"), (Mode::Proxy, "activator request timeout")] {
            let timeouts = Timeouts {
                total: milliseconds(&data["timeout_ms"]),
                response_start: milliseconds(&data["response_start_timeout_ms"]),
                idle: milliseconds(&data["idle_timeout_ms"]),
            };
            let writes = data["writes_at_ms"].as_array().unwrap();
            let ended = Arc::new(AtomicBool::new(false));
            let scripted = Scripted {
                writes: writes
                    .iter()
                    .map(|write| (milliseconds(&write[0]), string(&write[1]).to_owned().into()))
                    .collect(),
                ends: milliseconds(&data["handler_ends_at_ms"]),
                ended: Arc::clone(&ended),
            };
            let limits = Limits { container_concurrency: 1, timeouts };
            let activator = Activator::new("r", limits, Arc::new(Tally::default()));
            activator.set_mode(mode);
            activator.add(Arc::new(scripted));

            let begun = Instant::now();
            let seen = received(activator.call(Request::new(()), None).await).await;
            let body = string(&data["expect_body"]).replace("request timeout", text);
            compare!(differences, format!("{mode:?} status"), usize::from(seen.status), number(&data["expect_status"]));
            compare!(differences, format!("{mode:?} body"), seen.body, body);
            let returned = milliseconds(&data["expect_returned_at_ms"]);
            compare!(differences, format!("{mode:?} returned at"), seen.at - begun, returned);
            // What writes too late in Knative is not there any more to write.
            let in_time = string(&data["late_write_error"]).is_empty();
            compare!(differences, format!("{mode:?} handler ended"), ended.load(Ordering::SeqCst), in_time);
            compare!(differences, format!("{mode:?} running"), activator.load().running, 0);
        }
        differences
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn forwarded_header_vectors() {
    replay("forwarded_header", async |data| {
        let mut differences = Differences::new();
        for mode in [Mode::Serve, Mode::Proxy] {
            let mut stage = Stage::new(1);
            stage.activator.set_mode(mode);
            let (_, worker) = stage.add();
            let mut request = Request::get("/a").body(()).unwrap();
            for (name, key) in [
                ("forwarded", "forwarded"),
                ("x-forwarded-for", "x_forwarded_for"),
                ("x-forwarded-host", "x_forwarded_host"),
                ("x-forwarded-proto", "x_forwarded_proto"),
            ] {
                insert_unless_empty(request.headers_mut(), name, string(&data[key]));
            }
            stage.send_request("a", request).await;
            let headers = worker.headers("a");
            let forwarded = headers.get("forwarded").map_or("", |value| value.to_str().unwrap());
            compare!(differences, format!("{mode:?}"), forwarded, string(&data["expect_forwarded"]));
        }
        differences
    })
    .await;
}

#[tokio::test]
async fn route_tag_vectors() {
    replay("route_tag", async |data| {
        let mut differences = Differences::new();
        let mut headers = HeaderMap::new();
        insert_unless_empty(&mut headers, "knative-serving-tag", string(&data["knative_serving_tag"]));
        let default_route = string(&data["knative_serving_default_route"]);
        insert_unless_empty(&mut headers, "knative-serving-default-route", default_route);
        compare!(differences, "tag", route_tag(&headers), string(&data["expect"]));
        differences
    })
    .await;
}

fn insert_unless_empty(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if !value.is_empty() {
        headers.insert(HeaderName::from_static(name), value.parse().unwrap());
    }
}
