//! `fovea-web`: reads the flags, opens the port, serves until told to stop.

use std::io::IsTerminal;

use anyhow::Context;
use api::address::local_url;
use clap::Parser;
use cluster::{Cluster, connection::Source};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};
use web::{
    AppState,
    config::{Cli, Command, Config, EngineKind},
    engine::Engine,
    error::chain,
};

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(Command::Openapi) = cli.command {
        println!("{}", web::openapi().to_pretty_json()?);
        return Ok(());
    }
    let asked = std::env::var("FOVEA_LOG").unwrap_or_default();
    let filter: Targets = if asked.is_empty() { "info" } else { &asked }
        .parse()
        .with_context(|| format!("FOVEA_LOG is `{asked}`; expected levels such as info or web=debug,info"))?;
    let log = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(log.with_filter(filter)).init();
    let config = cli.serve.validate()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let listen = config.listen;
    let volumes = config.volumes.clone();
    volumes.create().context("cannot make the volumes' folders")?;
    let http = reqwest::Client::builder().build().context("cannot set up HTTP")?;
    let engine = engine(&config, &http).await?;
    let state = AppState::new(config, engine.clone(), http)?;
    let listener = TcpListener::bind(listen).await.with_context(|| match listen.port() {
        0 => format!("cannot listen on {listen}"),
        port => format!("cannot listen on {listen}; if port {port} is taken, choose another with --listen"),
    })?;
    let swept = volumes.sweep_staging().context("cannot sweep what crashed writers left")?;
    if swept > 0 {
        tracing::info!(swept, "removed what crashed writers left");
    }
    engine.launcher.recover().await.context("cannot look after the runs of an earlier service")?;
    tokio::spawn(web::retention::keep_tidy(state.clone()));
    let (functions, stopping) = (engine.functions, state.stopping.clone());
    tokio::spawn(async move { functions.keep(stopping).await });
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let address = listener.local_addr().context("cannot read the port")?;
    // Whoever works on the volumes directly learns that there is a page to ask.
    let _house = match volumes.serve(&local_url(address)) {
        Ok(lock) => Some(lock),
        Err(error) => {
            tracing::warn!(error = chain(&error), "the volumes cannot be marked as served");
            None
        }
    };
    println!("fovea-web listens on http://{address}");
    web::run(listener, state, shutdown).await.context("the server failed")
}

async fn engine(config: &Config, http: &reqwest::Client) -> anyhow::Result<Engine> {
    match config.engine {
        EngineKind::Local => Ok(Engine::local(config, http.clone())),
        EngineKind::Kubernetes => {
            let source = Source { namespace: config.namespace.as_deref(), ..Source::default() };
            let cluster = Cluster::connect(source).await?;
            tracing::info!(namespace = cluster.namespace(), "training and functions are Kubernetes'");
            Ok(Engine::kubernetes(config, cluster))
        }
    }
}
