//! `fovea-verify-cluster`: reads the flags, verifies, prints what held. Exits with 0 if everything did, with 1 if something
//! did not, and with 2 if nothing could be begun.

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use cluster::{Cluster, connection::Source};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use verify::{
    kubectl::Kubectl,
    options::Options,
    run::{Network, Run, default_namespace},
    wait::Teller,
};

/// Nothing could be begun.
const NOT_BEGUN: u8 = 2;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let verified = runtime.context("cannot start the runtime").and_then(|runtime| runtime.block_on(verify()));
    match verified {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            NOT_BEGUN.into()
        }
    }
}

async fn verify() -> Result<u8> {
    let options = Options::parse();
    let id = format!("{:06x}", getrandom::u32().map_err(|error| anyhow!("no random numbers: {error}"))? & 0xff_ffff);
    let namespace = options.namespace.clone().unwrap_or_else(|| default_namespace(&id));
    let source = Source {
        kubeconfig: options.kubeconfig.as_deref(),
        context: options.context.as_deref(),
        namespace: Some(&namespace),
    };
    let cluster = Cluster::connect(source).await?;
    let kubectl = Kubectl::new(options.kubeconfig.as_deref(), options.context.as_deref());
    let kubectl = kubectl.without_proxy_for(cluster.unproxied());
    let rendered = kubectl.render(&options.install.manifests).await.map_err(|failure| anyhow!(failure.says))?;
    let at_once = kubectl.shown(&format!("delete namespace {namespace}"));
    let interrupted = interrupted(at_once).context("cannot listen for signals")?;
    let json = options.json;
    let http = Box::new(Network::new().context("cannot set up HTTP")?);
    let teller = Teller::new(|line| eprintln!("{line}"));
    teller.tell(&format!("run {id}, in namespace {namespace}"));
    let run = Run { id, cluster, options, rendered, kubectl, http, teller };
    let report = verify::verify(&run, async {
        // Nobody drops the sender.
        let _ = interrupted.await;
    })
    .await;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("\n{report}");
    }
    Ok(report.exit_code())
}

/// The first signal ends the run, which then removes what it made; the second ends the program.
fn interrupted(remove: String) -> std::io::Result<oneshot::Receiver<()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        eprintln!("interrupted: what was made is being removed; once more, and it is left behind");
        // Who waits for it has ended by itself otherwise.
        let _ = sender.send(());
        either(&mut interrupt, &mut terminate).await;
        eprintln!("left behind; remove it with {remove}");
        std::process::exit(1);
    });
    Ok(receiver)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
