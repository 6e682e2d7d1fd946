//! The runtime's admin port, asked over HTTP; what travels stands in [`api::functions`].

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use api::{
    ErrorBody,
    functions::{ServiceStatus, Status, TrafficTarget},
};
use clap::Args;
use reqwest::{Client, Method, RequestBuilder, Url, header::CONTENT_TYPE};

/// How long one answer may take; manifests are applied within it too.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the admin port is.
#[derive(Args)]
pub struct AdminArgs {
    /// The runtime's admin port
    #[arg(
        long = "admin",
        env = "FOVEA_ADMIN",
        default_value = "http://127.0.0.1:8084",
        value_name = "URL",
        value_parser = base_url
    )]
    url: Url,
}

fn base_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.has_host());
    url.ok_or("expected a URL like http://127.0.0.1:8084")
}

/// The admin port of a runtime.
pub struct Admin {
    url: Url,
    http: Client,
}

impl Admin {
    /// Asks nothing yet.
    pub fn new(args: &AdminArgs) -> Result<Self> {
        // A proxy that the environment names has no business between us and our own servers.
        let http = Client::builder().no_proxy().timeout(TIMEOUT).build().context("cannot set up HTTP")?;
        Ok(Self { url: args.url.clone(), http })
    }

    /// As it was named, without a slash at its end.
    pub fn name(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// What the runtime tells of its functions, as it tells it.
    pub async fn status_text(&self) -> Result<String> {
        self.ask(self.request(Method::GET, &["admin", "status"])?).await
    }

    /// What the runtime tells of its functions.
    pub async fn status(&self) -> Result<Status> {
        self.understand(&self.status_text().await?)
    }

    /// Wishes for a function's traffic; returns what comes of them.
    pub async fn set_traffic(&self, service: &ServiceStatus, targets: &[TrafficTarget]) -> Result<ServiceStatus> {
        let path = ["admin", "services", &service.namespace, &service.name, "traffic"];
        self.understand(&self.ask(self.request(Method::PUT, &path)?.json(targets)).await?)
    }

    /// Gives the runtime manifests.
    pub async fn apply(&self, yaml: Vec<u8>) -> Result<()> {
        let request = self.request(Method::POST, &["admin", "apply"])?;
        self.ask(request.header(CONTENT_TYPE, "application/yaml").body(yaml)).await.map(drop)
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder> {
        let mut url = self.url.clone();
        let segments = url.path_segments_mut();
        segments.map_err(|()| anyhow!("{} cannot be asked", self.name()))?.pop_if_empty().extend(path);
        Ok(self.http.request(method, url))
    }

    /// The answer's text. What the runtime refuses, it refuses in its own words.
    async fn ask(&self, request: RequestBuilder) -> Result<String> {
        let url = self.name();
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => bail!(
                "nothing answers at {url}; start Fovea with `fovea up`, or name the runtime's admin port with --admin"
            ),
            Err(error) if error.is_timeout() => {
                bail!("{url} did not answer within {} s; is it the runtime's admin port?", TIMEOUT.as_secs())
            }
            Err(error) => return Err(error).with_context(|| format!("cannot ask {url}")),
        };
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("{url} broke off its answer"))?;
        if status.is_success() {
            return Ok(text);
        }
        match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => bail!(body.error.message),
            Err(_) => bail!("{url} answered {status}; is it the runtime's admin port?"),
        }
    }

    fn understand<'a, T: serde::Deserialize<'a>>(&self, text: &'a str) -> Result<T> {
        let foreign = || format!("{} answered something else than a runtime of this version would", self.name());
        serde_json::from_str(text).with_context(foreign)
    }
}

/// Runs a command's requests to their end.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the async runtime")?.block_on(work)
}

/// The function that a person calls `name` or `namespace/name`.
pub fn find<'a>(status: &'a Status, name: &str) -> Result<&'a ServiceStatus> {
    let named = |service: &&ServiceStatus| match name.split_once('/') {
        Some((namespace, name)) => service.namespace == namespace && service.name == name,
        None => service.name == name,
    };
    let full = |service: &ServiceStatus| format!("{}/{}", service.namespace, service.name);
    match status.services.iter().filter(named).collect::<Vec<_>>()[..] {
        [service] => Ok(service),
        [] if status.services.is_empty() => {
            bail!("there is no function {name:?}, nor any other; `fovea apply FILE` makes one")
        }
        [] => {
            let all = status.services.iter().map(ServiceStatus::label).collect::<Vec<_>>().join(", ");
            bail!("there is no function {name:?}; there are: {all}")
        }
        ref several => {
            let all = several.iter().map(|service| full(service)).collect::<Vec<_>>().join(" or ");
            bail!("{name:?} may be {all}; say which")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn status(services: &[(&str, &str)]) -> Status {
        let service = |(namespace, name): &(&str, &str)| ServiceStatus {
            namespace: (*namespace).into(),
            name: (*name).into(),
            ..ServiceStatus::default()
        };
        Status { services: services.iter().map(service).collect(), ..Status::default() }
    }

    #[track_caller]
    fn check(services: &[(&str, &str)], name: &str, expected: Result<&str, &str>) {
        let status = status(services);
        let found = find(&status, name).map(ServiceStatus::label).map_err(|error| error.to_string());
        assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn a_function_is_found_by_its_name_alone_where_that_is_enough() {
        let both = [("default", "inference"), ("blue", "inference"), ("blue", "preprocess")];
        check(&both, "preprocess", Ok("blue/preprocess"));
        check(&both, "default/inference", Ok("inference"));
        check(&both, "inference", Err("\"inference\" may be default/inference or blue/inference; say which"));
        check(
            &both,
            "infer",
            Err("there is no function \"infer\"; there are: inference, blue/inference, blue/preprocess"),
        );
        check(&[], "a", Err("there is no function \"a\", nor any other; `fovea apply FILE` makes one"));
    }

    #[test]
    fn only_an_http_url_is_an_admin_port() {
        assert!(base_url("http://127.0.0.1:8084").is_ok());
        for text in ["127.0.0.1:8084", "https://fovea.example", "8084", ""] {
            assert_eq!(base_url(text), Err("expected a URL like http://127.0.0.1:8084"), "{text}");
        }
    }
}
