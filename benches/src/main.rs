//! `fovea-bench`: every figure of the runtime that the README states, measured here and now, beside its peer.
//!
//! It starts the programs as a person would, on free loopback ports, and talks HTTP to them. A figure is worth
//! something only beside the others of the same run.

mod client;
mod host;
mod picture;
mod table;

use std::{
    path::PathBuf,
    slice,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::{
    client::{Client, Load},
    host::{Function, Isolation, PATIENCE, Peer, Registry, Runtime},
    table::{Table, ms, percentile},
};

/// Measures the runtime.
#[derive(Debug, Parser)]
#[command(name = "fovea-bench", version)]
pub struct Arguments {
    /// What to measure [default: everything]
    what: Vec<What>,

    /// Folder of the model version to serve
    #[arg(long, default_value = "data/models/classifier/current", value_name = "FOLDER")]
    model: PathBuf,

    /// Folder of the components [default: where cargo builds them]
    #[arg(long, env = "FOVEA_COMPONENTS", value_name = "FOLDER")]
    components: Option<PathBuf>,

    /// The `wasmtime` command to compare with; without it, there is no peer
    #[arg(long, env = "WASMTIME", value_name = "PROGRAM")]
    wasmtime: Option<PathBuf>,

    /// Cold starts to measure
    #[arg(long, default_value_t = 200)]
    cold_starts: usize,

    /// How long the soak lasts
    #[arg(long, default_value_t = 10, value_name = "MINUTES")]
    minutes: u64,

    /// How long each load lasts
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// From zero instances to an answer
    Cold,
    /// A fresh sandbox against one that is reused
    Sandbox,
    /// Requests per second at 1, 2, 8 and 64 clients
    Load,
    /// 500 requests at once, from zero and back
    Burst,
    /// Memory and ticks of idle functions
    Idle,
    /// Minutes at saturation while models are published, canaried and rolled back; only when asked for
    Soak,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wants = |what| arguments.what.is_empty() || arguments.what.contains(&what);
    ensure!(
        arguments.model.join("model.onnx").is_file(),
        "there is no model at {}; train one first, or name its folder with --model",
        arguments.model.display()
    );
    if wants(What::Cold) {
        cold(&arguments).await?;
    }
    if wants(What::Sandbox) {
        sandbox(&arguments).await?;
    }
    if wants(What::Load) {
        load(&arguments).await?;
    }
    if wants(What::Burst) {
        burst(&arguments).await?;
    }
    if wants(What::Idle) {
        idle(&arguments).await?;
    }
    if arguments.what.contains(&What::Soak) {
        soak(&arguments).await?;
    }
    Ok(())
}

/// Functions at zero, each of a version of its own so that none finds what another has warmed, asked again and again
/// once they are back at zero; and between, the same request to one that is awake, which is what it costs anyway.
async fn cold(arguments: &Arguments) -> Result<()> {
    const FUNCTIONS: usize = 10;
    let mut table = Table::new(
        "Cold start: from zero instances to the answer",
        &["request", "who", "p50 ms", "p99 ms", "beyond a warm one, p50 ms"],
    );
    let registry = Registry::of(&arguments.model)?;
    let mut functions =
        vec![Function { min_scale: 1, sub_path: "v1".to_owned(), ..Function::inference("warm".into()) }];
    for n in 0..FUNCTIONS {
        let version = n + 2;
        registry.publish(version as u64)?;
        let sub_path = format!("v{version}");
        functions.push(Function { window: 6, sub_path, ..Function::inference(format!("cold-{n}")) });
    }
    let runtime = Runtime::over(arguments, &functions, registry.folder(), PATIENCE).await?;
    let mut client = Client::connect(runtime.ingress).await?;
    for (what, request) in [("empty", client::live()), ("picture", client::predict(&picture::jpeg()?))] {
        for _ in 0..10 {
            client.ask(&runtime.to("warm", &request)).await?;
        }
        let (mut cold_times, mut warm_times) = (Vec::new(), Vec::new());
        while cold_times.len() < arguments.cold_starts {
            for function in &functions[1..] {
                runtime.until_zero(&function.name).await?;
                let answer = client.ask(&runtime.to(&function.name, &request)).await?;
                ensure!(answer.timing.contains("cold;dur="), "{} was awake: {}", function.name, answer.timing);
                cold_times.push(answer.took);
                warm_times.push(client.ask(&runtime.to("warm", &request)).await?.took);
            }
        }
        let beyond = percentile(&cold_times, 50).saturating_sub(percentile(&warm_times, 50));
        for (who, times, beyond) in
            [("fovea, cold", &cold_times, ms(beyond)), ("fovea, awake", &warm_times, "–".to_owned())]
        {
            table.row([what, who, &ms(percentile(times, 50)), &ms(percentile(times, 99)), &beyond]);
        }
    }
    drop(runtime);
    for (what, request, n) in
        [("empty", client::live(), arguments.cold_starts), ("picture", client::predict(&picture::jpeg()?), 20)]
    {
        if let Some(peer) = Peer::start(arguments).await? {
            let mut client = Client::connect(peer.address).await?;
            let mut times = Vec::new();
            for _ in 0..n {
                times.push(client.ask(&request).await?.took);
            }
            table.row([what, "wasmtime serve, unbaked", &ms(percentile(&times, 50)), &ms(percentile(&times, 99)), "–"]);
        }
    }
    table.print();
    Ok(())
}

async fn sandbox(arguments: &Arguments) -> Result<()> {
    let mut table = Table::new(
        "A fresh sandbox for every request",
        &["request", "isolation", "p50 ms", "p99 ms", "against reused"],
    );
    let picture = picture::jpeg()?;
    let functions = [
        Function { min_scale: 1, ..Function::inference("fresh".to_owned()) },
        Function { min_scale: 1, isolation: Isolation::Instance, ..Function::inference("reused".to_owned()) },
    ];
    let runtime = Runtime::start(arguments, &functions).await?;
    let mut client = Client::connect(runtime.ingress).await?;
    for (what, request, n) in [("empty", client::live(), 2000), ("picture", client::predict(&picture), 200)] {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..n + 10 {
            // Alternating, so that whatever else the machine does befalls both.
            for (function, times) in functions.iter().zip(&mut times) {
                let took = client.ask(&runtime.to(&function.name, &request)).await?.took;
                if round >= 10 {
                    times.push(took);
                }
            }
        }
        let [fresh, reused] = &times;
        let more = percentile(fresh, 50).as_secs_f64() * 1e3 - percentile(reused, 50).as_secs_f64() * 1e3;
        table.row([what, "request", &ms(percentile(fresh, 50)), &ms(percentile(fresh, 99)), &format!("{more:+.3} ms")]);
        table.row([what, "instance", &ms(percentile(reused, 50)), &ms(percentile(reused, 99)), "–"]);
    }
    table.print();
    Ok(())
}

/// All instances are there from the start: how fast they come is not what is measured here.
async fn load(arguments: &Arguments) -> Result<()> {
    let mut table = Table::new(
        "Throughput, 640×480 JPEG → label",
        &["clients", "who", "requests/s", "p50 ms", "p99 ms", "not 200"],
    );
    let request = client::predict(&picture::jpeg()?);
    let functions = [
        Function { min_scale: 4, ..Function::inference("fresh".to_owned()) },
        Function { min_scale: 4, isolation: Isolation::Instance, ..Function::inference("reused".to_owned()) },
    ];
    let span = Duration::from_secs(arguments.seconds);
    let runtime = Runtime::start(arguments, &functions).await?;
    for clients in [1, 2, 8, 64] {
        for (function, who) in functions.iter().zip(["fovea, request", "fovea, instance"]) {
            let load = Load::run(runtime.ingress, &runtime.to(&function.name, &request), clients, span).await?;
            table.row([&clients.to_string(), who, &load.rate(), &load.p(50), &load.p(99), &load.failed.to_string()]);
        }
    }
    drop(runtime);
    if let Some(peer) = Peer::reusing(arguments).await? {
        for clients in [1, 8] {
            let load = Load::run(peer.address, &request, clients, span).await?;
            let who = "wasmtime serve, unbaked, reused";
            table.row([&clients.to_string(), who, &load.rate(), &load.p(50), &load.p(99), &load.failed.to_string()]);
        }
    }
    table.print();
    Ok(())
}

async fn burst(arguments: &Arguments) -> Result<()> {
    const REQUESTS: usize = 500;
    let mut table = Table::new("500 pictures at once, from zero and back", &["what", "measured"]);
    let request = client::predict(&picture::jpeg()?);
    let function = Function { window: 6, ..Function::inference("burst".to_owned()) };
    let warm = Function { min_scale: 4, ..Function::inference("warm".to_owned()) };
    let cores = std::thread::available_parallelism()?.get();
    let span = Duration::from_secs(arguments.seconds);
    let runtime = Runtime::start(arguments, slice::from_ref(&warm)).await?;
    let steady = Load::run(runtime.ingress, &runtime.to("warm", &request), cores, span).await?;
    let bound = REQUESTS as f64 / steady.per_second();
    drop(runtime);

    let runtime = Runtime::start(arguments, slice::from_ref(&function)).await?;
    runtime.until_zero(&function.name).await?;
    let before = runtime.status().await?.resident_bytes;

    let start = Instant::now();
    let answers = client::all_at_once(runtime.ingress, &runtime.to(&function.name, &request), REQUESTS).await?;
    let took = start.elapsed().as_secs_f64();
    let good = answers.iter().filter(|status| **status == 200).count();
    let peak = runtime.status().await?.resident_bytes;
    let back = runtime.until_zero(&function.name).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = runtime.status().await?.resident_bytes;
    let mb = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
    for (what, measured) in [
        ("answered 200", format!("{good} of {REQUESTS}")),
        ("time to drain", format!("{took:.2} s")),
        ("compute bound (as many warm requests at one client a core)", format!("{bound:.2} s")),
        ("ratio", format!("{:.2}", took / bound)),
        ("back to zero after the last answer (6 s window)", format!("{:.1} s", back.as_secs_f64())),
        ("resident before, right after, at zero again", [before, peak, after].map(mb).join(", ")),
    ] {
        table.row([what, &measured]);
    }
    table.print();
    ensure!(good == REQUESTS, "{} requests of the burst were not answered 200", REQUESTS - good);
    Ok(())
}

async fn idle(arguments: &Arguments) -> Result<()> {
    const MANY: usize = 1000;
    let mut table = Table::new("Idle functions", &["functions", "resident", "CPU per second"]);
    let two = [
        Function { initial_scale: 0, ..Function::preprocess("preprocess".to_owned()) },
        Function { initial_scale: 0, ..Function::inference("inference".to_owned()) },
    ];
    let many: Vec<Function> =
        (0..MANY).map(|n| Function { initial_scale: 0, ..Function::inference(format!("idle-{n}")) }).collect();
    for functions in [two.as_slice(), &[two.as_slice(), &many].concat()] {
        let runtime = Runtime::start_unloading(arguments, functions, Duration::from_secs(1)).await?;
        let settle = Duration::from_secs(5);
        tokio::time::sleep(settle).await;
        let (cpu, since) = (runtime.cpu()?, Instant::now());
        tokio::time::sleep(Duration::from_secs(arguments.seconds.max(10))).await;
        let share = (runtime.cpu()? - cpu).as_secs_f64() / since.elapsed().as_secs_f64();
        let resident = runtime.resident_bytes().context("cannot read the runtime's memory")?;
        table.row([
            &functions.len().to_string(),
            &format!("{:.1} MB", resident as f64 / 1e6),
            &format!("{:.2} ms", share * 1e3),
        ]);
    }
    table.print();
    Ok(())
}

/// Saturation, and meanwhile: publish a version, give it a tenth of the requests, give it all, go back.
async fn soak(arguments: &Arguments) -> Result<()> {
    const CLIENTS: usize = 8;
    let registry = Registry::of(&arguments.model)?;
    let function = Function { min_scale: 1, sub_path: "current".to_owned(), ..Function::inference("soak".to_owned()) };
    let runtime = Runtime::over(arguments, slice::from_ref(&function), registry.folder(), PATIENCE).await?;
    let ask = runtime.to(&function.name, &client::predict(&picture::jpeg()?));
    let span = Duration::from_secs(60 * arguments.minutes);
    let start = Instant::now();
    let load = tokio::spawn({
        let (address, ask) = (runtime.ingress, ask.clone());
        async move { Load::run(address, &ask, CLIENTS, span).await }
    });
    let mut rounds = 0;
    let mut last = runtime.latest_ready(&function.name).await?;
    while start.elapsed() + Duration::from_secs(40) < span {
        // All requests stay where they are until the new version has shown itself.
        runtime.traffic(&function.name, &format!(r#"[{{"revisionName":"{last}","percent":100}}]"#)).await?;
        registry.publish(rounds + 2)?;
        let next = runtime.next_ready(&function.name, &last).await?;
        for (old, new) in [(90, 10), (0, 100), (100, 0), (0, 100)] {
            let wish =
                format!(r#"[{{"revisionName":"{last}","percent":{old}}},{{"revisionName":"{next}","percent":{new}}}]"#);
            runtime.traffic(&function.name, &wish).await?;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        last = next;
        rounds += 1;
    }
    let load = load.await??;
    let mut table = Table::new("Soak", &["what", "measured"]);
    for (what, measured) in [
        ("at saturation", format!("{} min, {CLIENTS} clients", arguments.minutes)),
        ("versions published, canaried, rolled back and promoted", rounds.to_string()),
        ("answers", format!("{} ({}/s)", load.answers(), load.rate())),
        ("not 200", load.failed.to_string()),
        ("p50, p99", format!("{} ms, {} ms", load.p(50), load.p(99))),
    ] {
        table.row([what, &measured]);
    }
    table.print();
    ensure!(load.failed == 0, "{} requests of the soak were not answered 200", load.failed);
    Ok(())
}
