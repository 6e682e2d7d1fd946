//! `fovea-runtime`: runs functions. `up` is Knative on this machine, `serve` is what a container runs, `bake` makes an
//! artefact for others and ends.

use std::{
    collections::BTreeMap,
    env,
    io::{ErrorKind, IsTerminal as _, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use runtime::{
    Confines, Container, ContainerSettings, Control, ControlSettings, Ingress, Isolation, Limits, MODEL_AT, Mounted,
    Places, Runtime, Settings, artefacts_in,
    bake::{self, Artefacts, Baker, Ingredients, Order, Recipe},
};
use serving::Manifests;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Where the house's manifests put its functions.
const DEFAULT_NAMESPACE: &str = "ml-app";

/// Runs WebAssembly functions over HTTP.
#[derive(Debug, Parser)]
#[command(name = "fovea-runtime", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the functions of Knative manifests, scaled as Knative would
    Up(Up),
    /// Serve one function, as a container does
    Serve(Serve),
    /// Make a function's artefact and put it where others find it
    Bake(Bake),
    /// Make one artefact; the order comes as JSON on the standard input
    #[command(hide = true)]
    Order {
        /// How the log is written
        #[arg(long, default_value = "text")]
        log_format: LogFormat,
    },
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
struct Up {
    /// A manifest, a folder of them, or `-` for a stream on the standard input; may be given several times
    #[arg(long, value_name = "FILE")]
    manifests: Vec<PathBuf>,

    /// Folder of the components that manifests name
    #[arg(long, env = "FOVEA_COMPONENTS", value_name = "FOLDER")]
    components: PathBuf,

    /// The folder that a persistent volume claim stands for; may be given several times
    #[arg(long, value_name = "CLAIM=FOLDER", value_parser = parse_claim)]
    claim: Vec<(String, PathBuf)>,

    /// Folder of what must survive a restart
    #[arg(long, env = "FOVEA_STATE", value_name = "FOLDER")]
    state: PathBuf,

    /// Address that serves all functions by host
    #[arg(long, env = "FOVEA_INGRESS", default_value = "127.0.0.1:8083", value_name = "ADDRESS")]
    ingress: SocketAddr,

    /// An address of a function's own; may be given several times
    #[arg(long, value_name = "[NAMESPACE/]NAME=ADDRESS", value_parser = parse_exposed)]
    expose: Vec<Exposed>,

    /// Address of the admin port; whoever reaches it may do everything
    #[arg(long, env = "FOVEA_ADMIN_LISTEN", default_value = "127.0.0.1:8084", value_name = "ADDRESS")]
    admin: SocketAddr,

    /// Domain of the functions' hosts, where no manifest sets one
    #[arg(long, env = "FOVEA_DOMAIN", default_value = "localhost")]
    domain: String,

    /// How long a function at zero instances stays mapped
    #[arg(long, env = "FOVEA_UNLOAD_AFTER", default_value = "10min", value_name = "TIME", value_parser = humantime::parse_duration)]
    unload_after: Duration,

    #[command(flatten)]
    common: Common,
}

/// A function with a listener of its own.
#[derive(Clone, Debug)]
struct Exposed {
    namespace: String,
    name: String,
    address: SocketAddr,
}

/// What an artefact is made from.
#[derive(Debug, Args)]
struct Function {
    /// The function's component
    #[arg(long, env = "FOVEA_COMPONENT", value_name = "FILE")]
    component: PathBuf,

    /// Folder that the function sees as /model; if there is none yet, it comes up without
    #[arg(long, env = "FOVEA_MODEL_PATH", value_name = "FOLDER")]
    model: Option<PathBuf>,

    /// A directory the function may read, and where it sees it; may be given several times
    #[arg(long, env = "FOVEA_MOUNT", value_name = "FOLDER:/PATH", value_parser = parse_mount)]
    mount: Vec<Mounted>,

    /// A variable of the function's environment; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_env)]
    env: Vec<(String, String)>,

    /// The revision's name, for logs and answers
    #[arg(long, env = "K_REVISION", default_value = "function", value_name = "NAME")]
    revision: String,

    /// Memory of one sandbox
    #[arg(long, env = "FOVEA_MEMORY", default_value = "512MiB", value_name = "SIZE")]
    memory: ByteSize,
}

#[derive(Debug, Args)]
struct Bake {
    #[command(flatten)]
    function: Function,

    /// Folder of the artefacts
    #[arg(long, env = "FOVEA_ARTEFACTS", value_name = "FOLDER")]
    artefacts: PathBuf,

    /// File of the secret that artefacts are signed with
    #[arg(long, env = "FOVEA_ARTEFACT_KEY_FILE", value_name = "FILE")]
    artefact_key_file: PathBuf,

    /// How the log is written
    #[arg(long, env = "FOVEA_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    function: Function,

    /// Folder of artefacts that others baked; what is not found there is baked here
    #[arg(long, env = "FOVEA_ARTEFACTS", value_name = "FOLDER", requires = "artefact_key_file")]
    artefacts: Option<PathBuf>,

    /// File of the secret that they are signed with
    #[arg(long, env = "FOVEA_ARTEFACT_KEY_FILE", value_name = "FILE")]
    artefact_key_file: Option<PathBuf>,

    /// Address to listen at
    #[arg(long, env = "FOVEA_HOST", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Port to listen at
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,

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
        Command::Up(arguments) => start_log(arguments.common.log_format).and_then(|()| up(arguments)),
        Command::Serve(arguments) => start_log(arguments.common.log_format).and_then(|()| serve(arguments)),
        Command::Bake(arguments) => start_log(arguments.log_format).and_then(|()| bake(arguments)),
        Command::Order { log_format } => match start_log(log_format) {
            Ok(()) => return bake_order(),
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fovea-runtime: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error what `FOVEA_LOG` asks for, such as `info,runtime::bake=debug`.
///
/// # Errors
/// If that cannot be read
fn start_log(format: LogFormat) -> anyhow::Result<()> {
    let asked = std::env::var("FOVEA_LOG").unwrap_or_default();
    let filter: Targets = if asked.is_empty() { "info" } else { &asked }
        .parse()
        .with_context(|| format!("FOVEA_LOG is `{asked}`; expected levels such as info or runtime::bake=debug,info"))?;
    let log = fmt::layer().with_writer(std::io::stderr);
    let log = match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(log.with_filter(filter)).init();
    Ok(())
}

impl Function {
    /// # Errors
    /// If the model's folder is there and cannot be used
    fn recipe(self) -> anyhow::Result<Recipe> {
        let Self { component, model, mount: mut mounted, env, revision, memory } = self;
        if let Some(model) = model {
            match model.canonicalize() {
                // A link is followed once: this process serves one version for good.
                Ok(path) => mounted.push(Mounted { path, guest: MODEL_AT.to_owned() }),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::warn!(folder = %model.display(), "there is no model yet");
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot use the model at {}", model.display()));
                }
            }
        }
        let limits = Limits { memory_bytes: bytes(memory), ..Limits::default() };
        let name = revision.into();
        Ok(Recipe { component, confines: Confines { name, env, identity: Vec::new(), mounted, limits } })
    }
}

/// Bakes a function into the shared artefacts, unless it lies there.
#[tokio::main]
async fn bake(arguments: Bake) -> anyhow::Result<()> {
    let Bake { function, artefacts, artefact_key_file, .. } = arguments;
    std::fs::create_dir_all(&artefacts).with_context(|| format!("cannot create {}", artefacts.display()))?;
    let artefacts = Artefacts::shared(&artefacts, &artefact_key_file)?;
    let name = bake::bake_missing(function.recipe()?, &artefacts).await?;
    // Whoever reads this line may have gone; the artefact is there.
    let _ = writeln!(std::io::stdout(), "{name}");
    Ok(())
}

#[tokio::main]
async fn serve(arguments: Serve) -> anyhow::Result<()> {
    let Serve { function, artefacts, artefact_key_file, host, port, common, .. } = arguments;
    ensure!(arguments.max_requests > 0, "--max-requests must be at least 1");
    let mut settings = settings(&common)?;
    if let (Some(folder), Some(key)) = (artefacts, artefact_key_file) {
        settings.shared = Some(Artefacts::shared(&folder, &key)?);
    }
    let runtime = Runtime::new(&settings)?;
    let mut recipe = function.recipe()?;
    recipe.confines.limits.max_response_bytes = bytes(arguments.max_response);
    recipe.confines.limits.max_log_bytes = bytes(arguments.max_log);
    let revision = recipe.confines.name.clone();
    let settings = ContainerSettings {
        recipe,
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

#[tokio::main]
async fn up(arguments: Up) -> anyhow::Result<()> {
    let Up { manifests, components, claim, state, ingress, expose, admin, domain, unload_after, common } = arguments;
    let manifests = manifests.iter().map(|path| read_manifests(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut config = serving::Config { domain: serving::config::DomainConfig::single(&domain), ..Default::default() };
    // What a cluster has to be told to allow, because of what claims may mean there, is harmless here.
    let features = CLAIM_FEATURES.map(|feature| (feature.to_owned(), "enabled".to_owned()));
    config.set("config-features", &features.into()).context("cannot enable volume claims")?;

    // All ports first: nothing is started that could not be reached.
    let ingress = runtime::bind("the ingress", ingress).await?;
    let admin = runtime::bind("the admin port", admin).await?;
    let mut own = Vec::new();
    for Exposed { namespace, name, address } in &expose {
        own.push((namespace, name, runtime::bind(&format!("function `{name}`"), *address).await?));
    }
    let mut exposed = BTreeMap::new();
    for (_, name, listener) in &own {
        exposed.insert((*name).clone(), listener.local_addr().context("cannot tell where a function listens")?);
    }
    let port = ingress.local_addr().context("cannot tell where the ingress listens")?.port();
    let settings_of_control = ControlSettings {
        places: Places { components, claims: claim.into_iter().collect() },
        state,
        config,
        port: Some(port),
        exposed,
        unload_after,
    };
    let control = Control::start(Runtime::new(&settings(&common)?)?, settings_of_control).await?;
    for manifests in manifests {
        for passed_over in &manifests.passed_over {
            tracing::debug!(%passed_over, "not for the runtime");
        }
        for service in control.apply(manifests).await? {
            // Whoever reads this line may have gone; that is no reason not to serve.
            let _ = writeln!(std::io::stdout(), "function: {} at {}", service.name, service.url);
        }
    }

    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);
    let stopped = || stop.clone().cancelled_owned();
    let mut servers = Vec::new();
    for (namespace, name, listener) in own {
        let server = Ingress::of_service(&control, namespace, name).serve(listener, stopped(), common.drain);
        servers.push(tokio::spawn(server));
    }
    servers.push(tokio::spawn(Ingress::new(&control).serve(ingress, stopped(), common.drain)));
    let admin = tokio::spawn(runtime::serve_admin(control.clone(), admin, stopped()));
    let _ = writeln!(std::io::stdout(), "ready");
    let mut cut = 0;
    for server in servers {
        cut += server.await.context("a server failed")?.cut;
    }
    control.stop().await;
    admin.await.context("the admin port's server failed")?.context("the admin port failed")?;
    if cut > 0 {
        tracing::warn!(cut, "connections were still busy at the drain's deadline");
    }
    Ok(())
}

/// Features of Knative that mounting a persistent volume claim needs.
const CLAIM_FEATURES: [&str; 2] =
    ["kubernetes.podspec-persistent-volume-claim", "kubernetes.podspec-persistent-volume-write"];

fn read_manifests(path: &Path) -> anyhow::Result<Manifests> {
    if path != Path::new("-") {
        return Ok(Manifests::read(path)?);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read manifests from the standard input")?;
    Ok(Manifests::parse("standard input", &text)?)
}

fn settings(common: &Common) -> anyhow::Result<Settings> {
    let cache = match &common.cache {
        Some(cache) => cache.clone(),
        None => default_cache()?,
    };
    let mut settings = Settings::new(artefacts_in(&cache));
    let log_format = match common.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    settings.baker = Some(Baker {
        program: env::current_exe().context("cannot tell where this program lies")?,
        arguments: ["order", "--log-format", log_format].map(str::to_owned).to_vec(),
    });
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

fn parse_claim(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((claim, folder)) if !claim.is_empty() && !folder.is_empty() => Ok((claim.to_owned(), folder.into())),
        _ => Err("expected CLAIM=FOLDER".to_owned()),
    }
}

fn parse_exposed(text: &str) -> Result<Exposed, String> {
    let (service, address) = text.split_once('=').ok_or("expected NAME=ADDRESS")?;
    let (namespace, name) = service.split_once('/').unwrap_or((DEFAULT_NAMESPACE, service));
    let address = address.parse().map_err(|_| format!("{address:?} is no address such as 127.0.0.1:8081"))?;
    Ok(Exposed { namespace: namespace.to_owned(), name: name.to_owned(), address })
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
