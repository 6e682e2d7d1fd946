//! The browser that the end-to-end test drives.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

use anyhow::{Result, bail};

use crate::tools::{self, Tools};

/// Where ChromeDriver lies; Debian's, which brings Chromium along, is installed where there is none and the user may
/// install packages.
pub fn ensure(tools: &Tools) -> Result<PathBuf> {
    let we_are_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    ensure_as(tools, we_are_root)
}

fn ensure_as(tools: &Tools, we_are_root: bool) -> Result<PathBuf> {
    if let Some(program) = find(tools) {
        return Ok(program);
    }
    let Some(mut update) = apt_get(tools).filter(|_| we_are_root) else {
        bail!(
            "ChromeDriver is not installed, and the end-to-end test drives a browser through it; install it (Debian: \
             apt-get install chromium-driver) and run this again"
        )
    };
    eprintln!("setup: installing chromium-driver");
    // An index that is partly out of reach may still have the package: the installation decides.
    tools::output(update.arg("update"))?;
    if let Some(mut install) = apt_get(tools) {
        let said = tools::output(install.args(["install", "--yes", "--no-install-recommends", "chromium-driver"]))?;
        if tools::disk_was_full(&said) {
            bail!("apt-get could not install chromium-driver: the disk is full; free about 500 MB and run this again");
        }
        if !said.status.success() {
            bail!(
                "apt-get could not install chromium-driver; install ChromeDriver and run this again ({})",
                complaint(&said)
            );
        }
    }
    match find(tools) {
        Some(program) => Ok(program),
        None => bail!("apt-get installed chromium-driver, but no chromedriver is in PATH; add its folder to PATH"),
    }
}

fn find(tools: &Tools) -> Option<PathBuf> {
    tools.find("chromedriver")
}

fn apt_get(tools: &Tools) -> Option<std::process::Command> {
    let mut command = tools.command("apt-get", "").ok()?;
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    Some(command)
}

/// apt-get's errors open with `E:`.
fn complaint(said: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&said.stderr);
    text.lines().rfind(|line| line.starts_with("E:")).map_or_else(|| tools::complaint(said), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fake::FakeTools;

    #[track_caller]
    fn check_refused(apt_get: Option<&str>, we_are_root: bool, sentence: &str) {
        let scripts: Vec<_> = apt_get.map(|script| ("apt-get", script)).into_iter().collect();
        let fake = FakeTools::new(&scripts);
        let error = ensure_as(&fake.tools(), we_are_root).expect_err("this cannot work").to_string();
        assert!(error.contains(sentence), "{error}");
    }

    #[test]
    fn a_browser_that_is_there_is_taken() {
        let fake = FakeTools::new(&[("chromedriver", "exit 1"), ("apt-get", "exit 1")]);
        let program = ensure_as(&fake.tools(), true).expect("nothing is missing");
        assert!(program.ends_with("chromedriver"));
    }

    #[test]
    fn root_on_debian_gets_it_installed() {
        let bin = tempfile::tempdir().expect("a temporary folder");
        let driver = bin.path().join("chromedriver");
        let script = format!("case \"$*\" in *install*chromium-driver) echo > {} ;; esac", driver.display());
        let fake = FakeTools::new(&[("apt-get", &script)]);
        let path = std::env::join_paths([fake.path(), bin.path()]).expect("plain paths");
        assert_eq!(ensure_as(&Tools::in_path(path), true).expect("it can be installed"), driver);
    }

    #[test]
    fn without_the_means_to_install_the_remedy_is_named() {
        check_refused(None, true, "apt-get install chromium-driver");
        check_refused(Some("exit 0"), false, "apt-get install chromium-driver");
        check_refused(
            Some("echo 'E: Unable to locate package chromium-driver' >&2; exit 100"),
            true,
            "install ChromeDriver and run this again (E: Unable to locate package chromium-driver)",
        );
        check_refused(Some("exit 0"), true, "no chromedriver is in PATH");
    }
}
