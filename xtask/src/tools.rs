//! Programs of the machine, looked up in one search path that tests can replace.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::{Command, Output},
};

use anyhow::{Context, Result, bail};

/// The programs that a search path offers.
pub struct Tools {
    path: OsString,
}

impl Tools {
    /// The programs of `PATH`.
    pub fn from_env() -> Self {
        Self::in_path(env::var_os("PATH").unwrap_or_default())
    }

    /// The programs of `path`, folders separated by `:`.
    pub fn in_path(path: impl Into<OsString>) -> Self {
        Self { path: path.into() }
    }

    /// Where `name` lies, if it is there.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        env::split_paths(&self.path).map(|folder| folder.join(name)).find(|program| program.is_file())
    }

    /// A command for `name`.
    ///
    /// # Errors
    /// `missing` where the program is not there: a sentence that names it and the remedy.
    pub fn command(&self, name: &str, missing: &str) -> Result<Command> {
        let Some(program) = self.find(name) else { bail!("{missing}") };
        let mut command = Command::new(program);
        command.env("PATH", &self.path);
        Ok(command)
    }
}

/// Runs a command to its end and keeps what it said.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("cannot start {}", shown(command.get_program())))
}

/// The line of a program's complaint that says most: its last `ERROR:` line, or else its last line.
pub fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().rfind(|line| line.to_ascii_lowercase().starts_with("error"));
    error.or_else(|| lines().next_back()).map_or_else(|| output.status.to_string(), str::to_owned)
}

/// Whether a program failed because the disk is full.
pub fn disk_was_full(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("No space left on device")
}

fn shown(program: &OsStr) -> String {
    program.to_string_lossy().into_owned()
}

#[cfg(test)]
pub mod fake {
    //! A search path with scripts in place of real programs.

    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        sync::{Mutex, MutexGuard, PoisonError},
    };

    use super::Tools;

    /// A script cannot be run while a process forked elsewhere still holds it open for writing.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// A folder of scripts that is gone when dropped; only one lives at a time.
    pub struct FakeTools {
        folder: tempfile::TempDir,
        _turn: MutexGuard<'static, ()>,
    }

    impl FakeTools {
        /// `scripts`: program name and shell text.
        pub fn new(scripts: &[(&str, &str)]) -> Self {
            let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            let folder = tempfile::tempdir().expect("a temporary folder");
            for (name, text) in scripts {
                let path = folder.path().join(name);
                fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script is written");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a script becomes executable");
            }
            Self { folder, _turn: turn }
        }

        /// The folder.
        pub fn path(&self) -> &std::path::Path {
            self.folder.path()
        }

        /// Only these scripts, nothing of the machine.
        pub fn tools(&self) -> Tools {
            Tools::in_path(self.folder.path())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{fake::FakeTools, *};

    fn after(script: &str) -> Output {
        let fake = FakeTools::new(&[("tool", script)]);
        output(&mut fake.tools().command("tool", "no tool").expect("it is there")).expect("it runs")
    }

    #[test]
    fn a_missing_program_is_the_sentence_it_was_given() {
        let error = Tools::in_path("/nowhere").command("rustup", "install rustup").expect_err("it is not there");
        assert_eq!(format!("{error:#}"), "install rustup");
    }

    #[test]
    fn a_complaint_is_the_error_line_among_warnings() {
        let said = after("echo 'WARNING: a' >&2; echo 'ERROR: No matching distribution' >&2; echo 'notice: b' >&2");
        assert_eq!(complaint(&said), "ERROR: No matching distribution");
    }

    #[test]
    fn a_silent_failure_is_told_by_its_status() {
        assert_eq!(complaint(&after("exit 3")), "exit status: 3");
    }

    #[test]
    fn a_full_disk_is_recognised() {
        assert!(disk_was_full(&after("echo 'OSError: [Errno 28] No space left on device' >&2; exit 1")));
        assert!(!disk_was_full(&after("echo 'ERROR: no network' >&2; exit 1")));
    }
}
