//! `cargo xtask test`: set up, build once, run every test, and say last how it went.

use std::{
    io::{BufRead, BufReader, Write, stdout},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    cache, chromium,
    setup::Setup,
    summary::Summary,
    tools::Tools,
    workspace::{self, Workspace},
};

/// Runs the whole suite; the last line on standard output is always its sum.
pub fn run(workspace: &Workspace, tools: &Tools) -> Result<ExitCode> {
    let mut summary = Summary::default();
    let formatted = workspace.is_formatted(tools)?;
    if let Err(error) = build_and_test(workspace, tools, &mut summary) {
        eprintln!("error: {error:#}");
        // Programs that report no failed test but fail all the same have crashed or were never built.
        if !summary.has_failures() {
            summary.add_failure();
        }
    }
    let mut out = stdout().lock();
    for note in summary.notes() {
        writeln!(out, "{note}")?;
    }
    if !formatted {
        writeln!(out, "not formatted: run `cargo fmt --all`")?;
    }
    writeln!(out, "{summary}")?;
    Ok(if formatted && summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build_and_test(workspace: &Workspace, tools: &Tools, summary: &mut Summary) -> Result<()> {
    let setup = Setup::run(tools, &cache::folder()?)?;
    let chromium = chromium::ensure(tools)?;
    // Another run in the same target folder would swap the programs that these tests start.
    let _alone = workspace.hold_target_folder()?;
    workspace.build_components_and_guests()?;
    workspace.build_everything_native()?;

    let mut cargo = workspace.cargo(["test", "--release", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    cargo.envs(setup.environment());
    cargo.env("FOVEA_COMPONENTS", workspace.components());
    cargo.env("FOVEA_BINARIES", workspace.release());
    cargo.env("CHROME", chromium);
    let mut child = cargo.stdout(Stdio::piped()).spawn().context(workspace::NO_CARGO)?;
    let Some(lines) = child.stdout.take() else { bail!("cargo test has no output to read") };
    for line in BufReader::new(lines).split(b'\n') {
        let line = line.context("cannot read what cargo test prints")?;
        let line = String::from_utf8_lossy(&line);
        if summary.take(&line) {
            writeln!(stdout(), "{line}")?;
        }
    }
    if !child.wait()?.success() {
        bail!("cargo test failed; what failed stands above");
    }
    Ok(())
}
