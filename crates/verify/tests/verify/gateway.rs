//! Kourier's gateway and the functions behind it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::predict::{FunctionInfo, ModelInfo, Prediction};
use bytes::Bytes;
use fastrand::Rng;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, header};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use verify::{dataset, run::Http};

use crate::world::{Fault, HOST, State};

/// A pod starts within this.
pub const COLD: Duration = Duration::from_secs(3);

/// A registry on this machine.
pub const REGISTRY: &str = "localhost:5001";

/// What it has under every tag.
pub const DIGEST: &str = "sha256:8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";

/// A picture takes one pod this long.
pub const PICTURE: Duration = Duration::from_millis(70);

pub struct FakeGateway {
    state: Arc<Mutex<State>>,
    rng: Mutex<Rng>,
    /// It recognises what it is shown.
    labels: HashMap<Bytes, &'static str>,
}

impl FakeGateway {
    pub fn new(state: Arc<Mutex<State>>) -> Self {
        let labels = dataset::unseen(20).into_iter().map(|(label, picture)| (picture, label)).collect();
        Self { state, rng: Rng::with_seed(7).into(), labels }
    }

    async fn answer(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        if request.uri().authority().is_some_and(|authority| authority == REGISTRY) {
            let is_asked_for = request.uri().path().starts_with("/v2/fovea/") && request.method() == Method::HEAD;
            let answer = Response::builder().header("Docker-Content-Digest", DIGEST);
            return Ok(if is_asked_for { answer.body(Bytes::new()).unwrap() } else { plain(404, "") });
        }
        if request.uri().host() != Some("10.1.2.3") {
            return Err("connection refused".to_owned());
        }
        if request.headers().get(header::HOST).is_none_or(|host| host != HOST) {
            return Ok(plain(404, ""));
        }
        let is_cold = {
            let mut state = self.state.lock().unwrap();
            let scale = state.scale("inference");
            scale.in_flight += 1;
            if scale.in_flight > 1 {
                scale.busy_since.get_or_insert_with(Instant::now);
            }
            scale.pods == 0
        };
        if is_cold {
            sleep(COLD).await;
        }
        let waits = {
            let mut state = self.state.lock().unwrap();
            state.wake("inference");
            let scale = state.scale("inference");
            scale.in_flight.div_ceil(scale.pods) as u32
        };
        let is_picture = request.method() == Method::POST;
        sleep(if is_picture { PICTURE * waits } else { Duration::from_millis(1) }).await;
        Ok(self.done(&request, is_picture))
    }

    fn done(&self, request: &Request<Bytes>, is_picture: bool) -> Response<Bytes> {
        let mut state = self.state.lock().unwrap();
        state.wake("inference");
        let scale = state.scale("inference");
        let is_crowded = scale.in_flight > 4;
        scale.in_flight -= 1;
        if scale.in_flight == 0 {
            scale.busy_since = None;
        }
        let stumbles = state.has(Fault::StumblesAtSplits);
        if !is_picture {
            let split = state.split();
            let is_new = std::mem::replace(&mut state.met, split.clone()) != split;
            return if is_new && stumbles { plain(503, "no healthy upstream") } else { json(&self.info(&state)) };
        }
        state.predictions += 1;
        if stumbles && state.predictions == 1 {
            return plain(503, "no healthy upstream");
        }
        if state.has(Fault::RefusesInBurst) && is_crowded && state.predictions.is_multiple_of(9) {
            return plain(503, "no healthy upstream");
        }
        let Some(label) = self.labels.get(request.body()) else { return plain(415, "an unknown picture") };
        json(&Prediction { prediction: Some((*label).to_owned()), confidence: Some(0.98), ..Prediction::default() })
    }

    fn info(&self, state: &State) -> FunctionInfo {
        let mut split = state.split();
        if state.has(Fault::SplitsEvenly) && split.len() > 1 {
            split.iter_mut().for_each(|(_, percent)| *percent = 50);
        }
        if state.has(Fault::StaysAfterRollBack) && state.splits.len() > 3 {
            split = vec![(1, 90), (2, 10)];
        }
        let mut ball = self.rng.lock().unwrap().u32(0..100);
        let version = split.iter().find(|(_, percent)| {
            let is_it = ball < *percent;
            ball = ball.saturating_sub(*percent);
            is_it
        });
        let model = version.map(|(version, _)| ModelInfo {
            name: "classifier".into(),
            version: *version,
            labels: dataset::LABELS.map(str::to_owned).to_vec(),
        });
        FunctionInfo { function: "fovea inference".into(), routes: vec![], model }
    }
}

impl Http for FakeGateway {
    fn send(&self, request: Request<Bytes>, within: Duration) -> BoxFuture<'_, Result<Response<Bytes>, String>> {
        Box::pin(async move {
            let answer = tokio::time::timeout(within, self.answer(request)).await;
            answer.unwrap_or_else(|_| Err("no answer in time".to_owned()))
        })
    }
}

fn plain(status: u16, body: &'static str) -> Response<Bytes> {
    Response::builder().status(status).body(body.into()).unwrap()
}

fn json(body: &impl Serialize) -> Response<Bytes> {
    Response::new(serde_json::to_vec(body).unwrap().into())
}
