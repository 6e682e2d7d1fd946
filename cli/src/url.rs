//! `fovea url`: where functions are called.

use std::io::Write;

use anyhow::Result;
use api::functions::ServiceStatus;
use clap::Args;

use crate::admin::{self, Admin};

/// What `fovea url` can be told.
#[derive(Args)]
pub struct Options {
    /// The function, such as inference or default/inference; without it, all are told
    name: Option<String>,

    #[command(flatten)]
    admin: admin::AdminArgs,
}

/// Prints the URL of one function, or names and URLs of all.
pub fn run(options: &Options, out: &mut impl Write) -> Result<()> {
    let admin = Admin::new(&options.admin)?;
    let status = admin::block_on(admin.status())?;
    if let Some(name) = &options.name {
        writeln!(out, "{}", admin::find(&status, name)?.url)?;
        return Ok(());
    }
    let labels: Vec<_> = status.services.iter().map(ServiceStatus::label).collect();
    let longest = labels.iter().map(String::len).max().unwrap_or(0);
    for (label, service) in labels.iter().zip(&status.services) {
        writeln!(out, "{label:longest$}  {}", service.url)?;
    }
    Ok(())
}
