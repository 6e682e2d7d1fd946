//! `fovea up`: the page and both functions on this machine, started together and stopped together.

use std::{
    ffi::OsString,
    fmt::Display,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use api::address::local_url;
use clap::{Args, value_parser};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};
use store::Volumes;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    installed,
    ports::{self, Port},
    ready,
    signals::StopSignals,
    supervisor::{Event, Patience, Service, Supervisor},
};

const PATIENCE: Patience = Patience {
    shortest_pause: Duration::from_millis(250),
    longest_pause: Duration::from_secs(3),
    recovered_after: Duration::from_secs(10),
    // Longer than the servers give to what they have begun, so that they end it themselves.
    grace: Duration::from_secs(30),
};

/// The first start compiles the components, which takes a slow machine minutes.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// A start that takes longer is explained.
const SOON: Duration = Duration::from_secs(3);

/// What `fovea up` can be told.
#[derive(Args)]
pub struct Options {
    /// Address to listen on; anything but loopback opens all of it to the network
    #[arg(long, env = "FOVEA_HOST", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,

    /// Port of the page
    #[arg(long, env = "FOVEA_PORT", default_value_t = 8080, value_parser = value_parser!(u16).range(1..))]
    port: u16,

    /// Port of the preprocess function
    #[arg(long, env = "FOVEA_PREPROCESS_PORT", default_value_t = 8081, value_parser = value_parser!(u16).range(1..))]
    preprocess_port: u16,

    /// Port of the inference function
    #[arg(long, env = "FOVEA_INFERENCE_PORT", default_value_t = 8082, value_parser = value_parser!(u16).range(1..))]
    inference_port: u16,

    /// Port that serves every function by its host
    #[arg(long, env = "FOVEA_INGRESS_PORT", default_value_t = 8083, value_parser = value_parser!(u16).range(1..))]
    ingress_port: u16,

    /// Port of the runtime's own interface; always on loopback
    #[arg(long, env = "FOVEA_ADMIN_PORT", default_value_t = 8084, value_parser = value_parser!(u16).range(1..))]
    admin_port: u16,

    /// Knative manifests of the functions, a file or a folder [default: the house's own]
    #[arg(long, env = "FOVEA_MANIFESTS", value_name = "PATH")]
    manifests: Option<PathBuf>,

    /// Folder of the functions' components [default: where cargo builds them]
    #[arg(long, env = "FOVEA_COMPONENTS", value_name = "DIR")]
    components: Option<PathBuf>,

    /// Registry name of the model that the inference function serves
    #[arg(long, env = "FOVEA_MODEL", default_value = "classifier", value_name = "NAME")]
    model: String,
}

impl Options {
    fn page(&self) -> SocketAddr {
        (self.host, self.port).into()
    }

    fn preprocess(&self) -> SocketAddr {
        (self.host, self.preprocess_port).into()
    }

    fn inference(&self) -> SocketAddr {
        (self.host, self.inference_port).into()
    }

    fn ingress(&self) -> SocketAddr {
        (self.host, self.ingress_port).into()
    }

    /// Whoever reaches it may do everything.
    fn admin(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.admin_port).into()
    }
}

/// Runs everything until a signal asks it to stop.
pub fn run(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<()> {
    store::check_name("model", &options.model)?;
    volumes.create().context("cannot make the data folders; name a writable folder with --data")?;
    ports::check_free(&[
        Port { address: options.page(), flag: "--port" },
        Port { address: options.preprocess(), flag: "--preprocess-port" },
        Port { address: options.inference(), flag: "--inference-port" },
        Port { address: options.ingress(), flag: "--ingress-port" },
        Port { address: options.admin(), flag: "--admin-port" },
    ])?;
    let manifests = match &options.manifests {
        Some(manifests) => manifests.clone(),
        None => write_manifests(volumes, &options.model)?,
    };
    let services = services(options, volumes, &Programs::in_folder(&installed::folder()?)?, &manifests)?;
    // Trainers whose parent died come to us instead of to init, so that none is left behind.
    set_child_subreaper(Some(getpid())).context("cannot become the parent of orphaned processes")?;
    // One thread: children end when the thread that started them does.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot set up a runtime")?;
    runtime.block_on(supervise(options, volumes, services, out))
}

async fn supervise(options: &Options, volumes: &Volumes, services: Vec<Service>, out: &mut impl Write) -> Result<()> {
    let mut stop = StopSignals::listen()?;
    let mut supervisor = Supervisor::start(services, PATIENCE);
    let urls = [options.page(), options.preprocess(), options.inference()].map(local_url);
    let ran = tokio::select! {
        started = start(&mut supervisor, &urls) => match started {
            Ok(()) => {
                // Who does not read is served all the same.
                let _ = writeln!(out, "{}", banner(&urls, volumes)).and_then(|()| out.flush());
                tokio::select! {
                    () = restart_forever(&mut supervisor) => Ok(()),
                    () = stop.next() => Ok(()),
                }
            }
            Err(error) => Err(error),
        },
        () = stop.next() => Ok(()),
    };
    say("stopping");
    tokio::select! {
        events = supervisor.stop() => events.iter().for_each(tell),
        // Who asks twice does not want to wait. The children hear of our end from the kernel.
        () = stop.next() => bail!("stopped without waiting"),
    }
    end_orphans(PATIENCE.grace).await;
    ran
}

/// Returns when everything answers; a server that ends before that has a reason that a new start would not change.
async fn start(supervisor: &mut Supervisor, urls: &[String]) -> Result<()> {
    let health: Vec<_> = urls.iter().map(|url| format!("{url}health/live")).collect();
    let mut all_answer = std::pin::pin!(ready::wait_for(&health));
    let mut explain = std::pin::pin!(sleep(SOON));
    let mut explained = false;
    let give_up = Instant::now() + START_TIMEOUT;
    loop {
        tokio::select! {
            answered = &mut all_answer => return answered,
            event = supervisor.event() => match event {
                Event::Ended { service, status, .. } => {
                    bail!("{service} ended while starting ({status}); what it said stands above")
                }
                Event::NotStarted { service, error, .. } => {
                    return Err(error).with_context(|| format!("cannot start {service}"));
                }
                Event::Started { .. } | Event::Killed { .. } => {}
            },
            () = &mut explain, if !explained => {
                say("starting; the first time, the functions are compiled for this machine");
                explained = true;
            }
            () = tokio::time::sleep_until(give_up) => {
                bail!("not everything answered within {} minutes", START_TIMEOUT.as_secs() / 60)
            }
        }
    }
}

async fn restart_forever(supervisor: &mut Supervisor) {
    loop {
        tell(&supervisor.event().await);
    }
}

fn tell(event: &Event) {
    match event {
        Event::Started { service, pid } => say(format!("{service} runs again (process {pid})")),
        Event::Ended { service, status, pause } => {
            say(format!("{service} ended unexpectedly ({status}); starting it again in {pause:?}"));
        }
        Event::NotStarted { service, error, pause } => {
            say(format!("{service} could not be started ({error}); trying again in {pause:?}"));
        }
        Event::Killed { service } => say(format!("{service} did not end when asked to, and was killed")),
    }
}

/// A line for people. A terminal that was closed cannot show it, and must not keep us from stopping cleanly.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn banner([page, preprocess, inference]: &[String; 3], volumes: &Volumes) -> String {
    let data = match (volumes.volume1().display(), volumes.volume2().display()) {
        (one, _) if volumes.volume1() == volumes.volume2() => one.to_string(),
        (one, two) => format!("{one} (datasets), {two} (runs and models)"),
    };
    format!(
        "\nFovea is ready: open {page}\n\n  \
         page        {page}\n  \
         preprocess  {preprocess}\n  \
         inference   {inference}\n  \
         data        {data}\n\n\
         Ctrl-C stops everything.\n"
    )
}

/// The programs that are started.
struct Programs {
    runtime: PathBuf,
    web: PathBuf,
    trainer: PathBuf,
    /// Where cargo puts components when it puts the programs here.
    components: PathBuf,
}

impl Programs {
    fn in_folder(folder: &Path) -> Result<Self> {
        let program = |name: &str, package: &str| installed::program(folder, name, package);
        Ok(Self {
            runtime: program("fovea-runtime", "runtime")?,
            web: program("fovea-web", "web")?,
            trainer: program("fovea-trainer", "trainer")?,
            components: folder.parent().unwrap_or(folder).join("wasm32-wasip2/release"),
        })
    }
}

/// The house's manifests, as a cluster gets them.
const MANIFESTS: [(&str, &str); 2] = [
    ("preprocess.yaml", include_str!("../../knative/base/preprocess.yaml")),
    ("inference.yaml", include_str!("../../knative/base/inference.yaml")),
];

/// Where the manifests say which model is served.
const MODEL_PATH: &str = "models/classifier/current";

/// Writes the house's manifests, with this model in them, to where the runtime keeps what is its own.
fn write_manifests(volumes: &Volumes, model: &str) -> Result<PathBuf> {
    let folder = runtime_folder(volumes).join("manifests");
    let write = || {
        std::fs::create_dir_all(&folder)?;
        for (name, text) in MANIFESTS {
            std::fs::write(folder.join(name), text.replace(MODEL_PATH, &format!("models/{model}/current")))?;
        }
        io::Result::Ok(())
    };
    write().with_context(|| format!("cannot write the functions' manifests to {}", folder.display()))?;
    Ok(folder)
}

/// What the runtime keeps beside the data.
fn runtime_folder(volumes: &Volumes) -> PathBuf {
    volumes.volume1().join("runtime")
}

/// The two servers, told of each other.
fn services(options: &Options, volumes: &Volumes, programs: &Programs, manifests: &Path) -> Result<Vec<Service>> {
    let components = options.components.as_deref().unwrap_or(&programs.components);
    for name in ["preprocess", "inference"] {
        let path = components.join(name).with_extension("wasm");
        ensure!(
            path.is_file(),
            "the component {} is missing; build it (cargo build --release --target wasm32-wasip2 -p {name}), or name \
             its folder with --components",
            path.display()
        );
    }
    let joined = |key: &str, path: &Path| {
        let mut text = OsString::from(key);
        text.push(path);
        text
    };
    let mut arguments: Vec<OsString> = vec!["up".into()];
    for (flag, value) in [
        ("--manifests", manifests.into()),
        ("--components", components.into()),
        ("--claim", joined("models=", volumes.volume2())),
        ("--state", runtime_folder(volumes).join("state").into()),
        ("--ingress", options.ingress().to_string().into()),
        ("--admin", options.admin().to_string().into()),
        ("--expose", format!("preprocess={}", options.preprocess()).into()),
        ("--expose", format!("inference={}", options.inference()).into()),
    ] {
        arguments.extend([flag.into(), value]);
    }
    let runtime =
        Service { name: "fovea-runtime", program: programs.runtime.clone(), arguments, environment: Vec::new() };

    let web = Service {
        name: "fovea-web",
        program: programs.web.clone(),
        arguments: Vec::new(),
        environment: vec![
            ("FOVEA_LISTEN", options.page().to_string().into()),
            ("FOVEA_VOLUME1", volumes.volume1().into()),
            ("FOVEA_VOLUME2", volumes.volume2().into()),
            ("FOVEA_MODEL", options.model.clone().into()),
            ("FOVEA_TRAINER", programs.trainer.clone().into()),
            ("PREPROCESS_URL", local_url(options.preprocess()).into()),
            ("INFERENCE_URL", local_url(options.inference()).into()),
            ("FOVEA_ADMIN", local_url(options.admin()).into()),
        ],
    };
    Ok(vec![runtime, web])
}

/// Ends processes whose parent, one of our children, is gone.
async fn end_orphans(grace: Duration) {
    if signal_orphans(Signal::TERM) == 0 {
        return;
    }
    if timeout(grace, collect_orphans()).await.is_err() {
        signal_orphans(Signal::KILL);
        collect_orphans().await;
    }
}

fn signal_orphans(signal: Signal) -> usize {
    let orphans = children_of_this_process();
    for orphan in &orphans {
        // One that has just ended cannot be signalled, and need not be.
        let _ = kill_process(*orphan, signal);
    }
    orphans.len()
}

async fn collect_orphans() {
    // An error says that no child is left.
    while let Ok(collected) = wait(WaitOptions::NOHANG) {
        if collected.is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn children_of_this_process() -> Vec<Pid> {
    let this = getpid().as_raw_nonzero();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = processes.flatten().filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    ids.filter(|id| parent(*id) == Some(this.get())).collect()
}

/// The fourth field of `/proc/<id>/stat`; the second, a name in brackets, may hold anything.
fn parent(id: Pid) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{}/stat", id.as_raw_nonzero())).ok()?;
    let after_name = stat.rsplit(|byte| *byte == b')').next()?;
    std::str::from_utf8(after_name).ok()?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    /// The suite's environment may name a folder of components; these tests have their own.
    fn options(arguments: &[&str]) -> Options {
        Options { components: None, ..Line::parse_from([&["up"], arguments].concat()).options }
    }

    fn empty_files(folder: &Path, names: &[&str]) {
        for name in names {
            fs::create_dir_all(folder.join(name).parent().expect("a folder")).expect("a folder");
            fs::write(folder.join(name), "").expect("a file");
        }
    }

    const PROGRAMS: [&str; 3] = ["release/fovea-runtime", "release/fovea-web", "release/fovea-trainer"];
    const COMPONENTS: [&str; 2] = ["wasm32-wasip2/release/preprocess.wasm", "wasm32-wasip2/release/inference.wasm"];

    #[test]
    fn both_servers_are_told_of_each_other() {
        let target = tempfile::tempdir().expect("a temporary folder");
        empty_files(target.path(), &PROGRAMS);
        empty_files(target.path(), &COMPONENTS);
        let programs = Programs::in_folder(&target.path().join("release")).expect("all are there");
        let options = options(&["--host", "0.0.0.0", "--port", "1", "--preprocess-port", "2", "--inference-port", "3"]);
        let options = Options { ingress_port: 4, admin_port: 5, ..options };
        let services = services(&options, &Volumes::new("/one", "/two"), &programs, Path::new("/manifests"));
        let services = services.expect("all is there");

        let components = target.path().join("wasm32-wasip2/release");
        let expected = [
            "up",
            "--manifests",
            "/manifests",
            "--components",
            components.to_str().expect("text"),
            "--claim",
            "models=/two",
            "--state",
            "/one/runtime/state",
            "--ingress",
            "0.0.0.0:4",
            "--admin",
            "127.0.0.1:5",
            "--expose",
            "preprocess=0.0.0.0:2",
            "--expose",
            "inference=0.0.0.0:3",
        ];
        assert_eq!(services[0].arguments, expected.map(OsString::from));
        let web = &services[1].environment;
        let value = |name| web.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_str().expect("text"));
        assert_eq!(value("FOVEA_LISTEN"), Some("0.0.0.0:1"));
        assert_eq!((value("FOVEA_VOLUME1"), value("FOVEA_VOLUME2")), (Some("/one"), Some("/two")));
        assert_eq!(value("PREPROCESS_URL"), Some("http://127.0.0.1:2/"));
        assert_eq!(value("INFERENCE_URL"), Some("http://127.0.0.1:3/"));
        assert_eq!(value("FOVEA_ADMIN"), Some("http://127.0.0.1:5/"));
    }

    #[test]
    fn what_was_not_built_is_named_with_the_command_that_builds_it() {
        let target = tempfile::tempdir().expect("a temporary folder");
        empty_files(target.path(), &PROGRAMS[..1]);
        let release = target.path().join("release");
        let error = Programs::in_folder(&release).err().expect("two are missing").to_string();
        assert!(error.contains("fovea-web is not in") && error.contains("cargo build --release -p web"), "{error}");

        empty_files(target.path(), &PROGRAMS);
        empty_files(target.path(), &COMPONENTS[..1]);
        let programs = Programs::in_folder(&release).expect("all are there");
        let error =
            services(&options(&[]), &Volumes::under("/data"), &programs, Path::new("/m")).expect_err("one is missing");
        assert!(error.to_string().contains("--target wasm32-wasip2 -p inference"), "{error}");
    }

    #[test]
    fn the_manifests_name_the_model_that_is_served() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let folder = write_manifests(&Volumes::under(data.path()), "flowers").expect("it can be written");
        let inference = fs::read_to_string(folder.join("inference.yaml")).expect("it is there");
        assert!(inference.contains("value: /models/models/flowers/current"), "{inference}");
        assert!(!inference.contains(MODEL_PATH), "{inference}");
        let preprocess = fs::read_to_string(folder.join("preprocess.yaml")).expect("it is there");
        assert_eq!(preprocess, MANIFESTS[0].1);
    }

    #[test]
    fn everything_is_on_loopback_unless_told_otherwise() {
        let options = options(&[]);
        assert!(
            [options.page(), options.preprocess(), options.inference(), options.ingress(), options.admin()]
                .iter()
                .all(|address| address.ip().is_loopback())
        );
    }

    #[test]
    fn a_childs_parent_is_this_process() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep runs");
        assert!(children_of_this_process().contains(&Pid::from_child(&child)));
        child.kill().expect("it runs");
        child.wait().expect("it ended");
        assert!(!children_of_this_process().contains(&Pid::from_child(&child)));
    }
}
