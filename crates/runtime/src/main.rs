//! `fovea-runtime`: serves functions, each at its own address, until it is asked to stop.

use std::{
    env,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use futures_util::future::{join_all, try_join_all};
use runtime::{FunctionSpec, Runtime, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Serves WebAssembly functions over HTTP.
#[derive(Debug, Parser)]
#[command(name = "fovea-runtime", version)]
struct Arguments {
    /// A function: name=NAME,component=FILE,listen=ADDRESS and any of mount=HOSTDIR:/PATH, ready=/PATH,
    /// env=KEY=VALUE, memory=512MiB, timeout=30s, queue-timeout=30s, max-body=64MiB, max-response=64MiB,
    /// max-log=64KiB, concurrency=2, reuse=10000, idle=5min. May be given several times.
    #[arg(long = "function", value_name = "KEY=VALUE,…", required = true)]
    functions: Vec<FunctionSpec>,

    /// Folder of the house's caches; compiled components lie in its folder `runtime`
    /// [default: $XDG_CACHE_HOME/fovea or ~/.cache/fovea]
    #[arg(long, env = "FOVEA_CACHE", value_name = "FOLDER")]
    cache: Option<PathBuf>,

    /// Threads that run guests [default: one per core]
    #[arg(long, env = "FOVEA_COMPUTE_THREADS", value_name = "N")]
    compute_threads: Option<usize>,

    /// How long requests in flight may take once the runtime is asked to stop
    #[arg(long, env = "FOVEA_DRAIN", value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    drain: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fovea-runtime: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    validate(&arguments.functions)?;
    let cache = match arguments.cache {
        Some(cache) => cache,
        None => default_cache()?,
    };
    let mut settings = Settings::new(cache.join("runtime"));
    if let Some(threads) = arguments.compute_threads {
        ensure!(threads > 0, "--compute-threads must be at least 1");
        settings.compute_threads = threads;
    }
    let runtime = Runtime::new(&settings)?;
    let functions = try_join_all(arguments.functions.into_iter().map(|spec| runtime.load(spec))).await?;
    let listeners = try_join_all(functions.iter().map(|function| runtime::bind(function.spec()))).await?;

    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);
    let mut stdout = std::io::stdout();
    let mut servers = Vec::new();
    for (function, listener) in functions.into_iter().zip(listeners) {
        let address = listener.local_addr().context("cannot tell where the function listens")?;
        // Whoever reads these lines may have gone; that is no reason not to serve.
        let _ = writeln!(stdout, "ready: {} at http://{address} ({})", function.spec().name, function.revision());
        servers.push(Arc::new(function).run(listener, stop.clone().cancelled_owned(), arguments.drain));
    }
    let _ = stdout.flush();

    let cut: usize = join_all(servers).await.iter().map(|drained| drained.cut).sum();
    if cut > 0 {
        tracing::warn!(cut, "connections were still busy at the drain's deadline");
    }
    Ok(())
}

fn validate(functions: &[FunctionSpec]) -> anyhow::Result<()> {
    for (n, function) in functions.iter().enumerate() {
        for other in &functions[..n] {
            ensure!(function.name != other.name, "two functions are named `{}`", function.name);
            ensure!(
                function.listen != other.listen || function.listen.port() == 0,
                "functions `{}` and `{}` both listen at {}",
                other.name,
                function.name,
                function.listen
            );
        }
    }
    Ok(())
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
