//! The control plane: Services in, routing out. One task owns all Services; whoever wants something sends it a command.
//!
//! What to do is decided elsewhere, in `serving` and `autoscaler`; here it is done: revisions are prepared, started and
//! removed, requests are routed, what must survive is saved.

mod links;
mod plan;
mod plane;
mod revision;
mod saved;
mod status;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use api::functions::{ServiceStatus, TrafficTarget};
use serving::{
    Manifests,
    host::normalized,
    routing::{Headers, Rule},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use plan::Plan;
pub use plan::{MODEL_AT, Places};
pub(crate) use revision::Revision;

use crate::{Runtime, RuntimeError, clock::Clock, metrics::Scrape};

/// How a [`Control`] is set up.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// Where the things are that manifests name.
    pub places: Places,
    /// Folder of what survives a restart; created if it is missing.
    pub state: PathBuf,
    /// Settings of the cluster, for manifests that bring none.
    pub config: serving::Config,
    /// Port of the listener that serves all of them by host, for their URLs.
    pub port: Option<u16>,
    /// Services that have a listener of their own.
    pub exposed: BTreeMap<String, SocketAddr>,
    /// How long the artefact of a revision at zero stays mapped.
    pub unload_after: std::time::Duration,
}

/// Why something asked of the control plane was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Manifests are refused, in Knative's words.
    #[error("{0}")]
    Refused(String),
    /// There is no such Service.
    #[error("there is no function {namespace}/{name}")]
    NotFound {
        /// The namespace asked for.
        namespace: String,
        /// The name asked for.
        name: String,
    },
    /// The control plane has ended.
    #[error("the runtime is stopping")]
    Stopping,
}

/// What one can ask of the control plane.
enum Command {
    Apply(Box<Manifests>, Reply<Vec<ServiceStatus>>),
    Traffic { key: Key, targets: Vec<TrafficTarget>, reply: Reply<ServiceStatus> },
    Delete { key: Key, reply: Reply<()> },
    Status(oneshot::Sender<Scrape>),
    Prepared { key: Key, revision: Arc<Revision>, outcome: plane::Prepared },
    Looked(Vec<plane::Looked>),
    Stop(oneshot::Sender<()>),
}

type Reply<T> = oneshot::Sender<Result<T, ControlError>>;

/// Namespace and name of a Service.
type Key = (String, String);

/// A handle to the control plane. The plane ends with its last handle.
#[derive(Clone)]
pub struct Control {
    commands: mpsc::UnboundedSender<Command>,
    routes: Arc<Routes>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Control {
    /// Starts the control plane with the Services that were saved.
    ///
    /// # Errors
    /// `State` if the folder of what survives a restart cannot be used
    pub async fn start(runtime: Runtime, settings: ControlSettings) -> Result<Self, RuntimeError> {
        let routes = Arc::new(Routes::default());
        let (commands, received) = mpsc::unbounded_channel();
        let plane = plane::Plane::open(runtime, settings, Clock::new(), Arc::clone(&routes), commands.downgrade())?;
        let task = Arc::new(AbortOnDropHandle::new(tokio::spawn(plane.run(received))));
        Ok(Self { commands, routes, _task: task })
    }

    /// Creates or changes the Services of these manifests, all or none.
    ///
    /// # Errors
    /// `Refused` with everything that is wrong with any of them
    pub async fn apply(&self, manifests: Manifests) -> Result<Vec<ServiceStatus>, ControlError> {
        self.ask(|reply| Command::Apply(Box::new(manifests), reply)).await
    }

    /// Replaces the traffic of a Service.
    ///
    /// # Errors
    /// `NotFound`; `Refused` as Knative would
    pub async fn set_traffic(
        &self,
        namespace: &str,
        name: &str,
        targets: Vec<TrafficTarget>,
    ) -> Result<ServiceStatus, ControlError> {
        let key = (namespace.to_owned(), name.to_owned());
        self.ask(|reply| Command::Traffic { key, targets, reply }).await
    }

    /// Removes a Service and all its revisions.
    ///
    /// # Errors
    /// `NotFound`
    pub async fn delete(&self, namespace: &str, name: &str) -> Result<(), ControlError> {
        let key = (namespace.to_owned(), name.to_owned());
        self.ask(|reply| Command::Delete { key, reply }).await
    }

    /// Everything as it is.
    pub(crate) async fn scrape(&self) -> Result<Scrape, ControlError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Status(reply)).map_err(|_| ControlError::Stopping)?;
        answer.await.map_err(|_| ControlError::Stopping)
    }

    /// Saves what is not saved yet, and ends.
    pub async fn stop(self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Stop(reply)).is_ok() {
            let _ = answer.await;
        }
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes)
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ControlError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| ControlError::Stopping)?;
        answer.await.unwrap_or(Err(ControlError::Stopping))
    }
}

/// Who serves which host, as requests see it.
#[derive(Default)]
pub(crate) struct Routes(RwLock<Arc<Table>>);

/// All routes at one moment.
#[derive(Default)]
pub(crate) struct Table {
    hosts: HashMap<String, Arc<Route>>,
    /// The main host of each Service.
    services: HashMap<Key, Arc<Route>>,
}

/// One host's way to revisions.
pub(crate) struct Route {
    rule: Rule,
    revisions: HashMap<String, Arc<Revision>>,
}

/// Who got a request, and what is set in it.
pub(crate) struct Choice<'a> {
    pub(crate) revision: &'a Arc<Revision>,
    /// Those that only tell the activator which revision is meant are left out: here it is the revision's own.
    pub(crate) headers: &'a Headers,
}

impl Routes {
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, table: Table) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}

impl Table {
    /// The route of a host as a request names it, or of the Service whose own port was called.
    pub(crate) fn route(&self, host: &str, service: Option<&Key>) -> Option<&Arc<Route>> {
        self.hosts.get(&normalized(host)).or_else(|| self.services.get(service?))
    }
}

impl Route {
    /// Chooses a revision by chance; `random` is evenly spread over all numbers.
    pub(crate) fn choose<'a>(&'a self, header: impl Fn(&str) -> Option<&'a str>, random: u64) -> Option<Choice<'a>> {
        let path = self.rule.path(header)?;
        let split = path.choose(random)?;
        let revision = self.revisions.get(&split.revision)?;
        Some(Choice { revision, headers: &path.append_headers })
    }
}
