//! `fovea-runtime`: runs functions. `serve` is what a container runs, `bake` makes an artefact and ends.

use std::{
    env,
    io::{IsTerminal as _, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use runtime::{
    Confines, Container, ContainerSettings, Isolation, Limits, Mounted, Runtime, Settings, artefacts_in,
    bake::{self, Artefacts, Ingredients, Order, Recipe},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Runs WebAssembly functions over HTTP.
#[derive(Debug, Parser)]
#[command(name = "fovea-runtime", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one function, as a container does
    Serve(Serve),
    /// Make one artefact; the order comes as JSON on the standard input
    #[command(hide = true)]
    Bake,
}

#[derive(Debug, Args)]
struct Common {
    /// Folder of the house's caches; artefacts lie in its folder `artefacts`
    /// [default: $XDG_CACHE_HOME/fovea or ~/.cache/fovea]
    #[arg(long, env = "FOVEA_CACHE", value_name = "FOLDER")]
    cache: Option<PathBuf>,

    /// Threads that run guests [default: one per core]
    #[arg(long, env = "FOVEA_COMPUTE_THREADS", value_name = "N")]
    compute_threads: Option<usize>,

    /// How long requests in flight may take once the runtime is asked to stop
    #[arg(long, env = "FOVEA_DRAIN", value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    drain: Duration,

    /// How the log is written
    #[arg(long, env = "FOVEA_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct Serve {
    /// The function's component
    #[arg(long, env = "FOVEA_COMPONENT", value_name = "FILE")]
    component: PathBuf,

    /// A directory the function may read, and where it sees it; may be given several times
    #[arg(long, env = "FOVEA_MOUNT", value_name = "FOLDER:/PATH", value_parser = parse_mount)]
    mount: Vec<Mounted>,

    /// A variable of the function's environment; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_env)]
    env: Vec<(String, String)>,

    /// Address to listen at
    #[arg(long, env = "FOVEA_HOST", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Port to listen at
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,

    /// The revision's name, for logs and answers
    #[arg(long, env = "K_REVISION", default_value = "function", value_name = "NAME")]
    revision: String,

    /// Memory of one sandbox
    #[arg(long, env = "FOVEA_MEMORY", default_value = "512MiB", value_name = "SIZE")]
    memory: ByteSize,

    /// Longest request body
    #[arg(long, env = "FOVEA_MAX_BODY", default_value = "64MiB", value_name = "SIZE")]
    max_body: ByteSize,

    /// Longest answer body
    #[arg(long, env = "FOVEA_MAX_RESPONSE", default_value = "64MiB", value_name = "SIZE")]
    max_response: ByteSize,

    /// What a request may log
    #[arg(long, env = "FOVEA_MAX_LOG", default_value = "64KiB", value_name = "SIZE")]
    max_log: ByteSize,

    /// From a request's arrival to its answer
    #[arg(long, env = "FOVEA_TIMEOUT", default_value = "5min", value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Requests one sandbox answers; more than 1 gives up the isolation of requests from each other
    #[arg(long, env = "FOVEA_MAX_REQUESTS", default_value_t = 1, value_name = "N")]
    max_requests: u32,

    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(arguments) => {
            start_log(arguments.common.log_format);
            serve(arguments)
        }
        Command::Bake => {
            start_log(LogFormat::Text);
            return bake_order();
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fovea-runtime: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

#[tokio::main]
async fn serve(arguments: Serve) -> anyhow::Result<()> {
    let Serve { component, mount, env, host, port, revision, common, .. } = arguments;
    ensure!(arguments.max_requests > 0, "--max-requests must be at least 1");
    let runtime = Runtime::new(&settings(&common)?)?;
    let limits = Limits {
        memory_bytes: bytes(arguments.memory),
        max_response_bytes: bytes(arguments.max_response),
        max_log_bytes: bytes(arguments.max_log),
    };
    let confines = Confines { name: revision.as_str().into(), env, mounted: mount, limits };
    let settings = ContainerSettings {
        recipe: Recipe { component, confines },
        isolation: Isolation::of(arguments.max_requests),
        timeout: arguments.timeout,
        max_body_bytes: bytes(arguments.max_body),
    };
    let container = Container::load(&runtime, settings).await?;
    // Only now: whoever can connect may take it that the function is ready.
    let listener = runtime::bind(&revision, SocketAddr::new(host, port)).await?;
    let address = listener.local_addr().context("cannot tell where the function listens")?;
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);
    // Whoever reads this line may have gone; that is no reason not to serve.
    let _ = writeln!(std::io::stdout(), "ready: {revision} at http://{address}");
    let drained = container.serve(listener, stop.cancelled_owned(), common.drain).await;
    if drained.cut > 0 {
        tracing::warn!(cut = drained.cut, "connections were still busy at the drain's deadline");
    }
    Ok(())
}

fn settings(common: &Common) -> anyhow::Result<Settings> {
    let cache = match &common.cache {
        Some(cache) => cache.clone(),
        None => default_cache()?,
    };
    let mut settings = Settings::new(artefacts_in(&cache));
    settings.baker = Some(env::current_exe().context("cannot tell where this program lies")?);
    if let Some(threads) = common.compute_threads {
        ensure!(threads > 0, "--compute-threads must be at least 1");
        settings.compute_threads = threads;
    }
    Ok(settings)
}

/// Bakes what the standard input orders; what goes wrong is said on the standard output, for the one who ordered.
fn bake_order() -> ExitCode {
    match try_bake() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn try_bake() -> anyhow::Result<()> {
    // Those who are being served come first.
    let _ = rustix::process::nice(10);
    let mut order = String::new();
    std::io::stdin().read_to_string(&mut order).context("cannot read the order")?;
    let Order { recipe, artefacts } = serde_json::from_str(&order).context("the order is not as expected")?;
    bake::bake(&Ingredients::read(recipe)?, &Artefacts::open(&artefacts)?).await?;
    Ok(())
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

fn parse_mount(text: &str) -> Result<Mounted, String> {
    match text.rsplit_once(':') {
        Some((path, guest)) if !path.is_empty() && guest.starts_with('/') && guest.len() > 1 => {
            Ok(Mounted { path: path.into(), guest: guest.to_owned() })
        }
        _ => Err("expected FOLDER:/PATH".to_owned()),
    }
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn default_cache() -> anyhow::Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.context("neither HOME nor XDG_CACHE_HOME is set; say where the cache is with --cache")?.join("fovea"))
}

/// Cancels at the first SIGINT or SIGTERM, and ends the process at the second.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        for first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if !first {
                std::process::exit(130);
            }
            tracing::info!("stopping; requests in flight may finish");
            stop.cancel();
        }
    })
}
