//! The way that requests from outside take to a function: Kourier's gateway, by the function's host.

use std::{fmt, time::Duration};

use api::predict::{FunctionInfo, ModelInfo, Prediction};
use bytes::Bytes;
use cluster::doctor::KOURIER_NAMESPACES;
use http::{Method, Request, Response, StatusCode, header};
use k8s_openapi::api::core::v1::{Node, Service};
use kube::{Api, api::ListParams};
use tokio::time::sleep;

use crate::{
    failure::{Failure, Result},
    kubectl::{Door, PORT},
    run::{Run, TOO_LATE},
};

/// Kourier's Services for hosts outside and for those inside the cluster.
const OUTSIDE: &str = "kourier";
const INSIDE: &str = "kourier-internal";

/// How long an address may take to show that there is something.
const PROBED_WITHIN: Duration = Duration::from_secs(5);

/// How often all ways are tried, and how long after each other: what has just become ready is not known everywhere.
const ROUNDS: u32 = 3;
const BETWEEN_ROUNDS: Duration = Duration::from_secs(3);

/// A host that no function has.
const NOBODY: &str = "nobody.invalid";

/// The gateway and a function's host.
pub struct Gateway<'a> {
    run: &'a Run,
    host: String,
    way: Way<'a>,
}

/// A way to the gateway, which may lead there.
enum Way<'a> {
    /// Such as `http://10.0.0.7`.
    Address(String),
    Forwarded(Box<Door<'a>>),
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(base) => f.write_str(base),
            Self::Forwarded(door) => door.fmt(f),
        }
    }
}

impl<'a> Gateway<'a> {
    /// Finds the gateway by which the function at this URL answers.
    ///
    /// # Errors
    /// Which ways were tried, and why each leads nowhere
    pub async fn find(run: &'a Run, url: &str) -> Result<Self> {
        let host = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/').to_owned();
        let mut tried = String::new();
        for round in 0..ROUNDS {
            if round > 0 {
                sleep(BETWEEN_ROUNDS).await;
            }
            tried.clear();
            for way in ways(run, &host).await {
                let name = way.to_string();
                match Self::by(run, &host, way).await {
                    Ok(gateway) => {
                        if let Some(told) = run.options.gateway.as_ref().filter(|told| **told != name) {
                            run.teller.tell(&format!("  note: not {told} is used, which was told, but {name}"));
                        }
                        return Ok(gateway);
                    }
                    Err(why) => {
                        run.teller.tell(&format!("  not by {name}: {why}"));
                        tried += &format!("; {name}: {why}");
                    }
                }
            }
        }
        let says = format!("no way was found by which {host} answers{tried}");
        Err(Failure::new(says)
            .mend(run.kubectl.shown("-n kourier-system get service kourier, then name its address with --gateway"))
            .mend(run.kubectl.shown("-n kourier-system logs deployment/3scale-kourier-gateway --tail 50")))
    }

    async fn by(run: &'a Run, host: &str, way: Way<'a>) -> Result<Self, String> {
        let mut gateway = Self { run, host: NOBODY.to_owned(), way };
        // Where nothing is, that is found out before a function is woken.
        gateway.send(Method::GET, "/", Bytes::new(), PROBED_WITHIN).await?;
        host.clone_into(&mut gateway.host);
        gateway.info().await?;
        Ok(gateway)
    }

    /// The host that is asked for.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// How the gateway is reached, for people.
    pub fn via(&self) -> String {
        self.way.to_string()
    }

    /// What the function says of itself: which version answered.
    ///
    /// # Errors
    /// What came instead
    pub async fn info(&self) -> Result<Option<ModelInfo>, String> {
        let answer = self.send(Method::GET, "/", Bytes::new(), self.run.options.patience.answer).await?;
        let info: FunctionInfo = read(&answer)?;
        Ok(info.model)
    }

    /// The version that answers a request.
    ///
    /// # Errors
    /// What came instead
    pub async fn version(&self) -> Result<u32, String> {
        self.info().await?.map(|model| model.version).ok_or_else(|| "the function has no model".to_owned())
    }

    /// Classifies a picture.
    ///
    /// # Errors
    /// What came instead of a prediction with 200
    pub async fn predict(&self, picture: Bytes) -> Result<Prediction, String> {
        let within = self.run.options.patience.answer;
        read(&self.send(Method::POST, "/predict?include_images=false", picture, within).await?)
    }

    async fn send(&self, method: Method, path: &str, body: Bytes, within: Duration) -> Result<Response<Bytes>, String> {
        let door = match &self.way {
            Way::Address(base) => return self.send_to(base, method, path, body, within).await,
            Way::Forwarded(door) => door,
        };
        let base = door.base().await.map_err(|failure| failure.says)?;
        match self.send_to(&base, method.clone(), path, body.clone(), within).await {
            // A port is forwarded to one pod of the gateway, and may end with it: that says nothing of the function.
            Err(why) if why != TOO_LATE => {
                door.shut(&base).await;
                let base = door.base().await.map_err(|failure| failure.says)?;
                self.send_to(&base, method, path, body, within).await
            }
            answered => answered,
        }
    }

    async fn send_to(
        &self,
        base: &str,
        method: Method,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<Response<Bytes>, String> {
        let url = format!("{base}{path}");
        let mut request = Request::builder().method(method).uri(url).header(header::HOST, &self.host);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "image/bmp");
        }
        self.run.http.send(request.body(body).map_err(|error| error.to_string())?, within).await
    }
}

/// The answer's content, if it is a success; else what came, in a line.
fn read<T: serde::de::DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, String> {
    if answer.status() == StatusCode::OK {
        return serde_json::from_slice(answer.body()).map_err(|error| format!("200, and no answer of ours ({error})"));
    }
    let moved = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    if let Some(to) = moved.filter(|_| answer.status().is_redirection()) {
        return Err(format!(
            "{} to {to}; this run speaks plain HTTP, which config-network allows with http-protocol: Enabled",
            answer.status()
        ));
    }
    let body = String::from_utf8_lossy(answer.body());
    let body: String = body.trim().chars().take(200).collect();
    Err(format!("{}{}{body}", answer.status(), if body.is_empty() { "" } else { ": " }))
}

/// Ways to the gateway: the one that was told, then the most direct first.
async fn ways<'a>(run: &'a Run, host: &str) -> Vec<Way<'a>> {
    let mut ways: Vec<_> = run.options.gateway.iter().map(|base| Way::Address(base.clone())).collect();
    let is_inside = host.contains(".svc.");
    let service = if is_inside { INSIDE } else { OUTSIDE };
    let Some((namespace, kourier)) = kourier(run, service).await else {
        ways.push(Way::Forwarded(Door::new(&run.kubectl, KOURIER_NAMESPACES[0], service).into()));
        return ways;
    };
    if is_inside {
        run.teller.tell(&format!(
            "  note: {host} is a host inside the cluster, for config-domain names no other; only the gateway's inner door \
             answers for it"
        ));
    } else {
        ways.extend(balancers(&kourier).into_iter().map(|address| Way::Address(base(&address, PORT))));
        if let Some(port) = node_port(&kourier) {
            ways.extend(node_addresses(run).await.into_iter().map(|address| Way::Address(base(&address, port))));
        }
    }
    ways.push(Way::Forwarded(Door::new(&run.kubectl, namespace, service).into()));
    ways
}

async fn kourier(run: &Run, service: &str) -> Option<(&'static str, Service)> {
    for namespace in KOURIER_NAMESPACES {
        let api: Api<Service> = Api::namespaced(run.cluster.client().clone(), namespace);
        if let Ok(Some(found)) = api.get_opt(service).await {
            return Some((namespace, found));
        }
    }
    None
}

fn base(address: &str, port: u16) -> String {
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    if port == PORT { format!("http://{address}") } else { format!("http://{address}:{port}") }
}

fn balancers(service: &Service) -> Vec<String> {
    let status = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
    let ingress = status.flat_map(|balancer| balancer.ingress.iter().flatten());
    ingress.filter_map(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone())).collect()
}

fn node_port(service: &Service) -> Option<u16> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let plain = ports.into_iter().find(|port| port.port == i32::from(PORT))?;
    u16::try_from(plain.node_port?).ok()
}

/// Of two nodes at most: what one of them refuses, all will.
async fn node_addresses(run: &Run) -> Vec<String> {
    let api: Api<Node> = Api::all(run.cluster.client().clone());
    let Ok(nodes) = api.list(&ListParams::default()).await else { return vec![] };
    let of_kind = |kind: &str| {
        let addresses = nodes.items.iter().flat_map(|node| node.status.iter().flat_map(|status| &status.addresses));
        let wanted = addresses.flatten().filter(|address| address.type_ == kind);
        wanted.map(|address| address.address.clone()).take(2).collect::<Vec<_>>()
    };
    [of_kind("ExternalIP"), of_kind("InternalIP")].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn answer(status: u16, body: &'static str) -> Response<Bytes> {
        Response::builder().status(status).header(header::LOCATION, "https://x").body(body.into()).unwrap()
    }

    #[test]
    fn what_came_instead_of_an_answer_is_told() {
        let told = |status, body| read::<Prediction>(&answer(status, body)).unwrap_err();
        assert_eq!(told(503, "no healthy upstream\n"), "503 Service Unavailable: no healthy upstream");
        assert_eq!(told(404, ""), "404 Not Found");
        assert!(told(301, "").starts_with("301 Moved Permanently to https://x; this run speaks plain HTTP"));
        assert!(told(200, "<html>").starts_with("200, and no answer of ours"));
    }

    #[test]
    fn addresses_of_both_families_become_urls() {
        assert_eq!(base("10.0.0.7", 80), "http://10.0.0.7");
        assert_eq!(base("fd00::7", 31080), "http://[fd00::7]:31080");
    }
}
