//! HTTP clients: one that asks one thing after the other, many at a time, and a crowd.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::table::{ms, percentile};

/// A request that can be sent again and again.
pub type Ask = Request<Bytes>;

/// Asks a function whether it lives.
pub fn live() -> Ask {
    ask("/health/live", Bytes::new(), "text/plain")
}

/// Asks for a picture's label.
pub fn predict(picture: &[u8]) -> Ask {
    ask("/predict?include_images=false", Bytes::copy_from_slice(picture), "image/jpeg")
}

fn ask(path: &str, body: Bytes, content_type: &'static str) -> Ask {
    let mut request = Request::new(body);
    *request.method_mut() = if request.body().is_empty() { http::Method::GET } else { http::Method::POST };
    *request.uri_mut() = path.parse().expect("a path");
    request.headers_mut().insert(header::HOST, http::HeaderValue::from_static("localhost"));
    request.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    request
}

/// One connection.
pub struct Client(SendRequest<Full<Bytes>>);

/// What came back, and how long it took from the request's first byte to the answer's last.
pub struct Answer {
    pub status: u16,
    pub timing: String,
    pub took: Duration,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Asks and wants a 200.
    pub async fn ask(&mut self, ask: &Ask) -> Result<Answer> {
        let answer = self.try_ask(ask).await?;
        ensure!(answer.status == 200, "{} was answered {}", ask.uri(), answer.status);
        Ok(answer)
    }

    /// Asks, wants a 200, and returns its body.
    pub async fn body(&mut self, ask: &Ask) -> Result<Bytes> {
        self.0.ready().await?;
        let answer = self.0.send_request(ask.clone().map(Full::new)).await?;
        ensure!(answer.status() == 200, "{} was answered {}", ask.uri(), answer.status());
        Ok(answer.into_body().collect().await?.to_bytes())
    }

    async fn try_ask(&mut self, ask: &Ask) -> Result<Answer> {
        let request = ask.clone().map(Full::new);
        let start = Instant::now();
        self.0.ready().await?;
        let answer = self.0.send_request(request).await?;
        let status = answer.status().as_u16();
        let timing = answer.headers().get_all("server-timing").iter().filter_map(|value| value.to_str().ok());
        let timing = timing.collect::<Vec<_>>().join(", ");
        answer.into_body().collect().await?;
        Ok(Answer { status, timing, took: start.elapsed() })
    }
}

/// What clients saw that asked as fast as they were answered.
pub struct Load {
    times: Vec<Duration>,
    span: Duration,
    /// Answers other than 200.
    pub failed: usize,
}

impl Load {
    pub async fn run(address: SocketAddr, ask: &Ask, clients: usize, span: Duration) -> Result<Self> {
        let start = Instant::now();
        let mut crowd = JoinSet::new();
        for _ in 0..clients {
            let ask = ask.clone();
            crowd.spawn(async move {
                let mut client = Client::connect(address).await?;
                let (mut times, mut failed) = (Vec::new(), 0);
                while start.elapsed() < span {
                    let answer = client.try_ask(&ask).await?;
                    times.push(answer.took);
                    failed += usize::from(answer.status != 200);
                }
                anyhow::Ok((times, failed))
            });
        }
        let mut load = Self { times: Vec::new(), span: Duration::ZERO, failed: 0 };
        while let Some(client) = crowd.join_next().await {
            let (times, failed) = client??;
            load.times.extend(times);
            load.failed += failed;
        }
        load.span = start.elapsed();
        Ok(load)
    }

    pub fn answers(&self) -> usize {
        self.times.len()
    }

    pub fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.span.as_secs_f64()
    }

    pub fn rate(&self) -> String {
        format!("{:.1}", self.per_second())
    }

    pub fn p(&self, percent: usize) -> String {
        ms(percentile(&self.times, percent))
    }
}

/// So many requests, each on a connection of its own, sent together; their statuses.
pub async fn all_at_once(address: SocketAddr, ask: &Ask, requests: usize) -> Result<Vec<u16>> {
    let mut clients = Vec::new();
    for _ in 0..requests {
        clients.push(Client::connect(address).await?);
    }
    let mut crowd = JoinSet::new();
    for mut client in clients {
        let ask = ask.clone();
        crowd.spawn(async move { client.try_ask(&ask).await.map(|answer| answer.status) });
    }
    let mut statuses = Vec::new();
    while let Some(status) = crowd.join_next().await {
        statuses.push(status?.context("a request of the burst broke")?);
    }
    Ok(statuses)
}
