//! Baking in a process of its own: compiling takes memory that an idle runtime should not keep, and nothing that goes
//! wrong there can hurt who serves.

use std::{path::PathBuf, process::Stdio};

use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::Recipe;
use crate::RuntimeError;

/// A program that takes an [`Order`] and bakes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baker {
    /// Its file.
    pub program: PathBuf,
    /// What it is called with.
    pub arguments: Vec<String>,
}

/// What the program is asked, as JSON on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// What to bake.
    pub recipe: Recipe,
    /// The artefacts' folder.
    pub artefacts: PathBuf,
}

/// Has the baker bake this recipe. Its log goes where ours goes.
pub(crate) async fn bake(baker: &Baker, order: &Order) -> Result<(), RuntimeError> {
    let failed = |source: std::io::Error| RuntimeError::bake(source);
    let mut child = Command::new(&baker.program)
        .args(&baker.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let order = serde_json::to_vec(order).expect("an order is plain data");
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&order).await.map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let reason = if said.trim().is_empty() { output.status.to_string() } else { said.trim().to_owned() };
    Err(RuntimeError::bake(reason))
}
