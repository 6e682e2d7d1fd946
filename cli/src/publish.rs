//! `fovea publish`: a version of a model gets requests, all of them or a canary's part.
//!
//! The web service is asked, so it is the same on one machine and in a cluster. Where no page is named and none runs, the
//! registry's pointer is moved directly: what starts later serves that version.

use std::{error::Error, fmt, io::Write, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use api::{
    ErrorBody,
    functions::{Publication, Stage},
};
use clap::{Args, value_parser};
use reqwest::{Client, RequestBuilder, Url};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use store::{House, Volumes};
use tokio::time::{Instant, sleep};

use crate::admin;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is asked how far the version is.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What `fovea publish` can be told.
#[derive(Args)]
pub struct Options {
    /// Registry name of the model, such as classifier
    model: String,

    /// The version, such as 3 or v3
    #[arg(value_parser = version)]
    version: u32,

    /// Percent of the requests that it gets; those that serve now keep the rest [default: all]
    #[arg(long, value_name = "PERCENT", value_parser = value_parser!(u32).range(1..=100))]
    canary: Option<u32>,

    /// The page [default: the one that serves the data folder, or else the one at FOVEA_PORT of this machine; where nothing
    /// answers, the version is put into use in the data folder]
    #[arg(long = "page", env = "FOVEA_PAGE", value_name = "URL")]
    page: Option<Url>,

    /// As `fovea up` was told
    #[arg(long, env = "FOVEA_PORT", default_value_t = 8080, hide = true)]
    port: u16,

    /// Seconds to wait until it has its part; 0 does not wait
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    wait: u64,
}

/// The part of a model's description that tells who serves.
#[derive(Deserialize)]
struct Model {
    shares: Option<Vec<Share>>,
    #[serde(default)]
    publications: Vec<Publication>,
}

#[derive(Clone, Copy, Deserialize)]
struct Share {
    version: u32,
    percent: u32,
}

/// Publishes, and waits until what was wished for is so.
pub fn run(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    admin::block_on(publish(options, volumes, out))
}

async fn publish(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    let Options { model, version, canary, .. } = options;
    let percent = canary.unwrap_or(100);
    // A proxy that the environment names has no business between us and our own servers.
    let http = Client::builder().no_proxy().timeout(TIMEOUT).build().context("cannot set up HTTP")?;
    let wish = json!({"version": version, "percent": percent});
    let page = options.page(volumes)?;
    let request = http.put(page.url(&["api", "models", model, "current"])?).json(&wish);
    match page.ask::<serde_json::Value>(request).await {
        Err(error) if options.page.is_none() && error.is::<NothingAnswers>() => {
            let is_here = volumes.version(model, *version).is_ok();
            return if is_here { directly(options, volumes, out) } else { Err(error) };
        }
        asked => drop(asked?),
    }
    let give_up = Instant::now() + Duration::from_secs(options.wait);
    let mut told = String::new();
    loop {
        let now: Model = page.ask(http.get(page.url(&["api", "models", model])?)).await?;
        let share = now.shares.iter().flatten().find(|share| share.version == *version);
        let publication = now.publications.into_iter().find(|publication| publication.version == *version);
        match publication {
            None if now.shares.is_none() || share.is_some_and(|share| share.percent == percent) => break,
            Some(Publication { stage: Stage::Failed, reason, .. }) => {
                let reason = reason.unwrap_or_else(|| "no reason told".to_owned());
                bail!("{model} v{version} was not published: {reason}");
            }
            Some(Publication { stage, reason, .. }) => {
                let doing = match stage {
                    Stage::Baking => "is being baked",
                    Stage::Starting | Stage::Failed => "is starting",
                };
                let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                let line = format!("{model} v{version} {doing}{reason}");
                if line != told {
                    eprintln!("{line}");
                    told = line;
                }
            }
            None => {}
        }
        if options.wait == 0 {
            writeln!(out, "{model} v{version} was told to get {percent} %")?;
            return Ok(());
        }
        if Instant::now() >= give_up {
            bail!("{model} v{version} has not got {percent} % within {} s; see the page of the models", options.wait);
        }
        sleep(ASK_EVERY).await;
    }
    writeln!(out, "{model} v{version} gets {percent} % of the requests")?;
    Ok(())
}

/// Puts the version into use where no page could be asked to.
fn directly(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    let Options { model, version, canary, .. } = options;
    let folder = volumes.volume2().display();
    let _house = match volumes.house()? {
        House::Served(address) => bail!(
            "a page serves {folder} ({address}) and has to be asked, but does not answer; wait until it does, or name its \
             address with --page"
        ),
        House::Empty(lock) => lock,
    };
    ensure!(
        canary.is_none(),
        "nobody shares requests out where nothing runs; leave --canary out, or start Fovea first"
    );
    volumes.set_current(model, *version)?;
    writeln!(out, "{model} v{version} is in use in {folder}; no page runs, so it serves from the next start on")?;
    Ok(())
}

impl Options {
    /// The page that is named, or the one that says that it serves the volumes, or the usual one.
    fn page(&self, volumes: &Volumes) -> Result<Page> {
        if let Some(url) = &self.page {
            return Ok(Page(url.clone()));
        }
        let is_there = volumes.volume2().is_dir();
        let served = match is_there.then(|| volumes.house()) {
            Some(Ok(House::Served(address))) => Url::parse(&address).ok(),
            _ => None,
        };
        let usual = || Url::parse(&format!("http://127.0.0.1:{}/", self.port)).context("the port makes no URL");
        Ok(Page(served.map_or_else(usual, Ok)?))
    }
}

/// Nothing listens where the page should be.
#[derive(Debug)]
struct NothingAnswers(String);

impl fmt::Display for NothingAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing answers at {}; start Fovea with `fovea up`, or name its page with --page", self.0)
    }
}

impl Error for NothingAnswers {}

/// A page that is asked.
struct Page(Url);

impl Page {
    fn name(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    fn url(&self, path: &[&str]) -> Result<Url> {
        let mut url = self.0.clone();
        let segments = url.path_segments_mut();
        segments.map_err(|()| anyhow!("{} cannot be asked", self.name()))?.pop_if_empty().extend(path);
        Ok(url)
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let page = self.name();
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => {
                return Err(NothingAnswers(page.to_owned()).into());
            }
            Err(error) => return Err(error).with_context(|| format!("cannot ask {page}")),
        };
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("{page} broke off its answer"))?;
        if !status.is_success() {
            match serde_json::from_str::<ErrorBody>(&text) {
                Ok(body) => bail!(body.error.message),
                Err(_) => bail!("{page} answered {status}; is it Fovea's page?"),
            }
        }
        serde_json::from_str(&text).with_context(|| format!("{page} answered something else than Fovea would"))
    }
}

fn version(text: &str) -> Result<u32, &'static str> {
    let number = text.strip_prefix('v').unwrap_or(text).parse();
    number.ok().filter(|version| *version > 0).ok_or("expected a version like 3 or v3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_with_or_without_its_letter() {
        assert_eq!([version("3"), version("v12")], [Ok(3), Ok(12)]);
        for wrong in ["", "v", "0", "latest", "-1"] {
            assert!(version(wrong).is_err(), "{wrong:?}");
        }
    }
}
