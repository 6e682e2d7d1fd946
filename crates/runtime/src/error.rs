//! Why a runtime or a function cannot start. What befalls a single request is `failure`.

use std::{error::Error, io, net::SocketAddr, path::PathBuf};

type Source = Box<dyn Error + Send + Sync>;

/// Why a runtime or a function cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Wasmtime cannot be set up on this machine.
    #[error("cannot set up the WebAssembly engine")]
    Engine {
        /// Wasmtime's reason.
        source: Source,
    },
    /// The compute pool's threads cannot be started.
    #[error("cannot start the compute pool")]
    Compute {
        /// The system's or the pool's reason.
        source: Source,
    },
    /// The cache folder cannot be used.
    #[error("cannot use {path} as cache of artefacts; choose another folder with --cache or FOVEA_CACHE")]
    Cache {
        /// The folder or a file in it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The component's file cannot be read.
    #[error("cannot read component {path}; `cargo build --release --target wasm32-wasip2 -p NAME` builds one")]
    ReadComponent {
        /// The component's file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is no component that can be compiled.
    #[error("cannot compile {path} as a WebAssembly component")]
    Compile {
        /// The component's file.
        path: PathBuf,
        /// Wasmtime's reason.
        source: Source,
    },
    /// The component does not fit into the sandbox.
    #[error(
        "{path} must import nothing but standard WASI interfaces and export wasi:http/handler@0.3 \
         or wasi:http/incoming-handler@0.2"
    )]
    Link {
        /// The component's file.
        path: PathBuf,
        /// What is missing.
        source: Source,
    },
    /// The folder of what survives a restart cannot be used.
    #[error("cannot use {path} for what must survive a restart; choose another folder with --state")]
    State {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The component's initialisation or its snapshot fails.
    #[error("cannot bake the component")]
    Bake {
        /// What happened.
        source: Source,
    },
    /// The first instance does not come to life.
    #[error("cannot instantiate function `{function}`")]
    Instantiate {
        /// The function's name.
        function: String,
        /// What happened.
        source: Source,
    },
    /// The mounted directory cannot be looked at.
    #[error("cannot look at {path}, the directory to mount")]
    Mount {
        /// The directory on the host.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another program listens at the address.
    #[error(
        "{what} cannot listen at {address}: port {} is taken by another program; stop that program or choose another \
         port", .address.port()
    )]
    PortTaken {
        /// What should be served there.
        what: String,
        /// Where it should listen.
        address: SocketAddr,
    },
    /// The address cannot be listened at.
    #[error("{what} cannot listen at {address}")]
    Bind {
        /// What should be served there.
        what: String,
        /// Where it should listen.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

impl RuntimeError {
    pub(crate) fn bake(source: impl Into<Source>) -> Self {
        Self::Bake { source: source.into() }
    }

    pub(crate) fn engine(source: impl Into<Source>) -> Self {
        Self::Engine { source: source.into() }
    }
}

/// An error and all of its causes on one line, for the log.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
