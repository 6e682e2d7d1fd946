//! `fovea status`: the functions as they are at this moment.

use std::io::Write;

use anyhow::Result;
use clap::Args;

use crate::{
    admin::{self, Admin},
    screen, view,
};

/// What `fovea status` can be told.
#[derive(Args)]
pub struct Options {
    /// Print the JSON of the runtime's admin port as it is
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: admin::AdminArgs,
}

/// Prints a snapshot.
pub fn run(options: &Options, out: &mut impl Write) -> Result<()> {
    let admin = Admin::new(&options.admin)?;
    if options.json {
        let text = admin::block_on(admin.status_text())?;
        writeln!(out, "{}", text.trim_end())?;
        return Ok(());
    }
    let status = admin::block_on(admin.status())?;
    for line in view::lines(&status, screen::columns()) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
