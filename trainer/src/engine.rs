//! ONNX Runtime, loaded from the library that `ORT_DYLIB_PATH` names: sessions, what goes in, what comes out.
//!
//! This file and that of our own operations are the only ones that speak to `ort`. Graphs are written elsewhere.

use std::{borrow::Cow, path::PathBuf, sync::Mutex};

use ort::{
    environment::Environment,
    session::{SessionInputValue, SessionOutputs, builder::SessionBuilder},
    value::{DynValue, PrimitiveTensorElementType, Tensor, TensorRef},
};

use crate::{Result, TrainerError, operators};

/// Environment variable with the path of the ONNX Runtime library.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// The loaded library.
#[derive(Clone, Debug)]
pub struct Engine {
    environment: Environment,
    threads: usize,
}

/// There may be one environment in a process, ever.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

impl Engine {
    /// Loads the library named by [`LIBRARY_VARIABLE`].
    ///
    /// # Errors
    /// `NoRuntime` if the variable is unset or empty, `Runtime` if it does not name a fitting library
    pub fn load() -> Result<Self> {
        let path = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty());
        Self::load_from(path.ok_or(TrainerError::NoRuntime)?.into())
    }

    /// Loads the library from a path. A process has one library: the first one loaded serves all.
    ///
    /// # Errors
    /// `Runtime` if it is not a fitting library
    pub fn load_from(path: PathBuf) -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let mut shared = ENVIRONMENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let environment = match &*shared {
            Some(environment) => environment.clone(),
            None => {
                let builder =
                    ort::init_from(&path).map_err(|source| TrainerError::Runtime { path: path.clone(), source })?;
                let environment = builder.with_name("fovea").with_telemetry(false).build();
                shared.insert(environment.map_err(TrainerError::engine("start"))?).clone()
            }
        };
        Ok(Self { environment, threads })
    }

    /// Prepares a graph to be run. `name` says in errors which one it is.
    pub fn session(&self, name: &'static str, model: &[u8]) -> Result<Session> {
        // ONNX Runtime looks whether it knows the domain of our operations, and then adds it: two at once would both add it.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let session = self.builder().and_then(|mut builder| builder.commit_from_memory(model));
        drop(alone);
        let session = session.map_err(TrainerError::engine(format!("prepare the {name} graph")))?;
        Ok(Session { session, name })
    }

    fn builder(&self) -> ort::Result<SessionBuilder> {
        let builder = ort::session::Session::builder(&self.environment)?;
        let builder = builder.with_intra_threads(self.threads)?.with_inter_threads(1)?;
        // Spinning threads only steal time from each other where cores are few or shared.
        let builder = builder.with_intra_op_spinning(false)?;
        Ok(builder.with_operators(operators::domain()?)?)
    }
}

/// A graph ready to run.
#[derive(Debug)]
pub struct Session {
    session: ort::session::Session,
    name: &'static str,
}

impl Session {
    /// Runs the graph.
    pub fn run(&mut self, inputs: Inputs) -> Result<Outputs<'_>> {
        let outputs = self.session.run(inputs.0);
        outputs.map(Outputs).map_err(TrainerError::engine(format!("run the {} graph", self.name)))
    }
}

/// Named values to run a graph on.
#[derive(Default)]
pub struct Inputs<'a>(Vec<(Cow<'a, str>, SessionInputValue<'a>)>);

impl<'a> Inputs<'a> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor that stays where it is.
    pub fn tensor<T>(&mut self, name: impl Into<Cow<'a, str>>, dims: &[i64], values: &'a [T]) -> Result<()>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
    {
        let name = name.into();
        let tensor = TensorRef::from_array_view((dims.to_vec(), values));
        let tensor = tensor.map_err(TrainerError::engine(format!("take {name} of shape {dims:?}")))?;
        self.0.push((name, tensor.into()));
        Ok(())
    }

    /// Adds one number.
    pub fn number(&mut self, name: &'a str, value: f32) -> Result<()> {
        let number = Tensor::from_array((Vec::<i64>::new(), vec![value]));
        let number = number.map_err(TrainerError::engine(format!("take {name}")))?;
        self.0.push((name.into(), number.into()));
        Ok(())
    }
}

/// What came out of a run.
pub struct Outputs<'s>(SessionOutputs<'s>);

impl Outputs<'_> {
    /// The values of an output.
    pub fn values<T: PrimitiveTensorElementType>(&self, name: &str) -> Result<&[T]> {
        extract(self.0.get(name).ok_or_else(|| missing(name))?, name)
    }

    /// The value of an output that is one number.
    pub fn number<T: PrimitiveTensorElementType + Copy>(&self, name: &str) -> Result<T> {
        self.values(name)?.first().copied().ok_or_else(|| missing(name))
    }
}

fn extract<'v, T: PrimitiveTensorElementType>(value: &'v DynValue, name: &str) -> Result<&'v [T]> {
    let tensor = value.try_extract_tensor::<T>();
    tensor.map(|(_, values)| values).map_err(TrainerError::engine(format!("give {name}")))
}

fn missing(name: &str) -> TrainerError {
    TrainerError::engine(format!("give {name}"))(ort::Error::<()>::new("there is no such value"))
}
