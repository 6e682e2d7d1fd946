//! `cargo xtask`: the commands that the README names and CI calls.
//!
//! Sets up what is missing, builds, and hands over; it serves nothing and decides nothing about pictures or models.

mod backbones;
mod browser;
mod cache;
mod images;
mod setup;
mod suite;
mod summary;
mod tools;
mod wheel;
mod workspace;

use std::{ffi::OsString, io::stdout, process::ExitCode};

use anyhow::Result;
use clap::Parser;

use crate::{setup::Setup, tools::Tools, workspace::Workspace};

/// What a checkout of Fovea can be asked to do.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", version)]
enum Command {
    /// Fetch what building and running need: the wasm target, ONNX Runtime and the pretrained networks
    Setup,
    /// Set up, build and start everything on loopback; Ctrl-C stops it
    Up {
        /// Passed on to `fovea up`: --data DIR, --port N, … (`fovea up --help` lists them)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, build once and run every test, end to end included
    Test,
    /// Set up, build, and measure the runtime: needs a trained model
    Bench {
        /// Passed on: cold, sandbox, load, burst, idle, soak; --model DIR, --wasmtime PROGRAM, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build the container images of everything that runs in a cluster, with docker, podman or buildah
    Images(images::Options),
    /// Check formatting, and let clippy's warnings be errors
    Lint,
    /// Write docs/openapi.json from the web service's routes
    Openapi,
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    let tools = Tools::from_env();
    match command {
        Command::Setup => {
            let setup = Setup::run(&tools, &cache::folder()?)?;
            for (name, path) in setup.environment() {
                println!("{name}={}", path.display());
            }
        }
        Command::Up { args } => {
            let setup = Setup::run(&tools, &cache::folder()?)?;
            workspace.build_everything_native()?;
            workspace.build_components()?;
            return Err(workspace.become_fovea_up(&setup, &args));
        }
        Command::Bench { args } => {
            Setup::run(&tools, &cache::folder()?)?;
            workspace.build_everything_native()?;
            workspace.build_components()?;
            return Err(workspace.become_fovea_bench(&args));
        }
        Command::Test => {
            let good = suite::run(&workspace, &tools, cache::folder, &mut stdout().lock())?;
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Images(options) => images::run(&workspace, &tools, &options, &mut stdout().lock())?,
        Command::Lint => workspace.lint()?,
        Command::Openapi => workspace.write_openapi()?,
    }
    Ok(ExitCode::SUCCESS)
}
