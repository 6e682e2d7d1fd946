//! The web service: uploads, server-rendered pages and the REST interface.
//!
//! It calls the two functions by their URLs, starts training through [`launcher::Launcher`] and publishes through
//! [`functions::Functions`]; which engine is beneath these is known in [`engine`] alone. What lies on the volumes it leaves
//! to `store`, and what becomes of pictures to `ingest`. Handlers translate, libraries think.

pub mod assets;
pub mod chart;
pub mod config;
pub mod engine;
pub mod error;
pub mod events;
pub mod form;
pub mod functions;
pub mod guard;
pub mod inference;
pub mod launcher;
pub mod live;
pub mod pages;
pub mod predictions;
pub mod receive;
pub mod retention;
pub mod routes;
pub mod runs;
pub mod split;
pub mod state;
pub mod uploads;
pub mod words;

use std::{io, pin::pin, time::Duration};

use tokio::{net::TcpListener, time};

pub use routes::{app, openapi};
pub use state::AppState;

/// Serves until `shutdown` completes, then ends gracefully: no new requests, trainers cancelled, uploads given up, open
/// requests waited for, all within the configured deadline.
///
/// # Errors
/// If the listener fails.
pub async fn run(listener: TcpListener, state: AppState, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let server =
        axum::serve(listener, app(state.clone())).with_graceful_shutdown(state.stopping.clone().cancelled_owned());
    let mut server = pin!(server.into_future());
    tokio::select! {
        result = &mut server => return result,
        () = shutdown => {}
    }
    tracing::info!("stopping");
    state.stopping.cancel();
    let deadline = state.config.drain;
    let drained = async {
        tokio::join!(time::timeout(deadline, server), state.uploads.drained(), state.launcher.shutdown(deadline))
    };
    let (served, (), ()) = drained.await;
    match served {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!(seconds = Duration::as_secs_f64(&deadline), "some requests did not end in time");
            Ok(())
        }
    }
}

/// Sixteen random hex digits, for ids.
fn random_hex() -> error::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}
