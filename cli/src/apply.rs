//! `fovea apply`: gives the runtime manifests; what they mean is the runtime's business.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;

use crate::admin::{self, Admin};

/// What `fovea apply` can be told.
#[derive(Args)]
pub struct Options {
    /// YAML of Knative Services; - reads standard input
    file: PathBuf,

    #[command(flatten)]
    admin: admin::AdminArgs,
}

/// Sends the file and says that it was accepted.
pub fn run(options: &Options, out: &mut impl Write) -> Result<()> {
    let Options { file, admin } = options;
    let yaml = read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let admin = Admin::new(admin)?;
    admin::block_on(admin.apply(yaml))?;
    writeln!(out, "applied {}", file.display())?;
    Ok(())
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file != Path::new("-") {
        return std::fs::read(file);
    }
    let mut yaml = Vec::new();
    io::stdin().read_to_end(&mut yaml)?;
    Ok(yaml)
}
