//! `cargo xtask test`: set up, build once, run every test, and say last how it went.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use crate::{
    browser,
    setup::Setup,
    summary::Summary,
    tools::Tools,
    workspace::{self, Workspace},
};

/// Runs the whole suite and returns whether all is well; the last line is always its sum.
pub fn run(
    workspace: &Workspace,
    tools: &Tools,
    cache: impl FnOnce() -> Result<PathBuf>,
    out: &mut impl Write,
) -> Result<bool> {
    let mut summary = Summary::default();
    let formatted = workspace.is_formatted(tools)?;
    if let Err(error) = build_and_test(workspace, tools, cache, &mut summary, out) {
        writeln!(out, "error: {error:#}")?;
        // Programs that report no failed test but fail all the same have crashed or were never built.
        if !summary.has_failures() {
            summary.add_failure();
        }
    }
    for note in summary.notes() {
        writeln!(out, "{note}")?;
    }
    if !formatted {
        writeln!(out, "not formatted: run `cargo fmt --all`")?;
    }
    writeln!(out, "{summary}")?;
    Ok(formatted && summary.is_good())
}

fn build_and_test(
    workspace: &Workspace,
    tools: &Tools,
    cache: impl FnOnce() -> Result<PathBuf>,
    summary: &mut Summary,
    out: &mut impl Write,
) -> Result<()> {
    let setup = Setup::run(tools, &cache()?)?;
    let driver = browser::ensure(tools)?;
    // Another run in the same target folder would swap the programs that these tests start.
    let _alone = workspace.hold_target_folder()?;
    workspace.build_components_and_guests()?;
    workspace.build_everything_native()?;

    let mut cargo = workspace.cargo(["test", "--release", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    cargo.envs(setup.environment());
    cargo.env("FOVEA_COMPONENTS", workspace.components());
    cargo.env("CHROMEDRIVER", driver);
    let mut child = cargo.stdout(Stdio::piped()).spawn().context(workspace::NO_CARGO)?;
    let Some(lines) = child.stdout.take() else { bail!("cargo test has no output to read") };
    for line in BufReader::new(lines).split(b'\n') {
        let line = line.context("cannot read what cargo test prints")?;
        let line = String::from_utf8_lossy(&line);
        if summary.take(&line) {
            writeln!(out, "{line}")?;
        }
    }
    if !child.wait()?.success() {
        bail!("cargo test failed; what failed stands above");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        env::consts::{ARCH, OS},
        fs,
    };

    use super::*;
    use crate::{backbones, tools::fake::FakeTools, wheel::onnxruntime};

    const PASSED: &str = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0s";

    /// Runs the suite with a `cargo` that is this script; returns whether all is well and what was printed.
    fn run_with(cargo: &str) -> (bool, String) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(folder.path().join("tests/guests")).expect("a folder");
        fs::create_dir_all(folder.path().join("target")).expect("a folder");
        let cache = folder.path().join("cache");
        onnxruntime(ARCH, OS).expect("this machine is supported").pretend(&cache);
        backbones::ALL.iter().for_each(|(_, wheel)| wheel.pretend(&cache));

        let fake = FakeTools::new(&[("rustc", "echo /tmp"), ("chromedriver", ""), ("cargo-fmt", ""), ("cargo", cargo)]);
        let workspace = Workspace::pretend(folder.path().to_owned(), fake.path().join("cargo"));
        let mut out = Vec::new();
        let good = run(&workspace, &fake.tools(), || Ok(cache), &mut out).expect("it can be written");
        (good, String::from_utf8(out).expect("text"))
    }

    #[track_caller]
    fn check(cargo: &str, expected_good: bool, expected_end: &str) {
        let (good, said) = run_with(cargo);
        assert_eq!(good, expected_good, "{said}");
        assert!(said.ends_with(expected_end), "{said}");
    }

    #[test]
    fn the_sum_of_all_programs_is_the_last_line() {
        check(
            &format!("[ $1 = test ] && echo '{PASSED}' && echo '{PASSED}'; exit 0"),
            true,
            "\n4 passed, 0 failed, 2 skipped\n",
        );
    }

    #[test]
    fn nothing_that_failed_looks_good() {
        check("[ $1 != build ]", false, "the reason stands above\n0 passed, 1 failed, 0 skipped\n");
        check("exit 0", false, "0 passed, 0 failed, 0 skipped\n");
        check(
            &format!("[ $1 = test ] || exit 0; echo '{PASSED}'; exit 101"),
            false,
            "\nerror: cargo test failed; what failed stands above\n2 passed, 1 failed, 1 skipped\n",
        );
        check(
            &format!("[ $1 = test ] && echo '{PASSED}'; [ $1 != fmt ]"),
            false,
            "\nnot formatted: run `cargo fmt --all`\n2 passed, 0 failed, 1 skipped\n",
        );
    }

    #[test]
    fn tests_are_told_where_everything_lies() {
        let (good, said) = run_with(&format!(
            "[ $1 = test ] || exit 0; echo '{PASSED}'; \
             echo \"$ORT_DYLIB_PATH\"; echo \"$FOVEA_BACKBONES\"; echo \"$FOVEA_COMPONENTS\"; echo \"$CHROMEDRIVER\""
        ));
        assert!(good, "{said}");
        let lines: Vec<&str> = said.lines().collect();
        let backbones = "/backbones-lite01-squeezenet-0.1.0";
        let ends = ["/libonnxruntime.so", backbones, "target/wasm32-wasip2/release", "/chromedriver"];
        for (line, end) in lines[1..].iter().zip(ends) {
            assert!(line.ends_with(end), "{line} should end in {end}");
        }
    }
}
