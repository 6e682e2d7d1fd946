//! Baking in a process of its own: compiling takes memory that an idle runtime should not keep, and nothing that goes
//! wrong there can hurt who serves.

use std::{path::Path, process::Stdio};

use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::Recipe;
use crate::RuntimeError;

/// What the program is asked, as JSON on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// What to bake.
    pub recipe: Recipe,
    /// The artefacts' folder.
    pub artefacts: std::path::PathBuf,
}

/// Has `program bake` bake this recipe. Its log goes where ours goes.
pub(crate) async fn bake(program: &Path, order: &Order) -> Result<(), RuntimeError> {
    let failed = |source: std::io::Error| RuntimeError::bake(source);
    let mut child = Command::new(program)
        .arg("bake")
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
