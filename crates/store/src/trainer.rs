//! How the trainer's program is told about a run. Who starts it, waits for it and stops it is decided elsewhere.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::{Run, Volumes};

impl Run {
    /// The command that works on this run: it prints to the run's log, and is in a process group of its own, so that a
    /// terminal's Ctrl-C does not reach it by itself.
    ///
    /// # Errors
    /// If the log cannot be opened
    pub fn trainer(&self, program: &Path, volumes: &Volumes) -> io::Result<Command> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(program);
        command.arg("--spec").arg(self.spec_path());
        command.arg("--datasets").arg(volumes.volume1()).arg("--models").arg(volumes.volume2());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        Ok(command)
    }
}
