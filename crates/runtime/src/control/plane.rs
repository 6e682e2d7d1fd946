//! The task that owns all Services.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::{
    address::local_url,
    functions::{ServiceStatus, Status, TrafficTarget},
};
use autoscaler::revision::Snapshot;
use bytes::Bytes;
use http::Request;
use serde_json::Value;
use serving::{Changes, Config, Context, Manifests, Readiness, RoutingState, ServiceManifest, ServiceState};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Command, ControlError, ControlSettings, Key, Plan, Revision, Route, Routes, Table, links,
    revision::{Id, Notice},
    saved::{Folder, Saved},
    status,
};
use crate::{
    Runtime, RuntimeError,
    bake::Digest,
    clock::Clock,
    error::chain,
    memory::{self, resident_bytes},
    metrics::Scrape,
    sandbox::Blueprint,
};

/// How often links are followed, to see whether they lead elsewhere.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often what has changed is saved.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How often revisions nobody needs are looked for.
const COLLECT_EVERY: Duration = Duration::from_secs(60);

/// How long a revision that could not be prepared is left alone; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Revisions that are prepared at once.
const MAX_PREPARING: usize = 4;

/// How much of a failed readiness check's answer is repeated.
const MAX_QUOTED: usize = 500;

/// Where the links of a manifest lead, or why that cannot be told.
pub(super) type Looked = (Key, Arc<Value>, Result<Value, String>);

/// What came of preparing a revision.
pub(super) type Prepared = Result<(Arc<Blueprint>, Digest), String>;

/// A revision that lives, and what is going on around it.
pub(super) struct Live {
    pub(super) revision: Arc<Revision>,
    /// Why it cannot serve.
    pub(super) failed: Option<String>,
    artefact: Option<Digest>,
    pause: Duration,
    /// Whatever prepares it now, or will.
    preparing: Option<AbortOnDropHandle<()>>,
    /// Unloads it some time after its last instance is gone.
    unloading: Option<AbortOnDropHandle<()>>,
    _task: AbortOnDropHandle<()>,
}

struct Service {
    state: ServiceState,
    /// The manifest as its author wrote it.
    written: Arc<Value>,
    /// Where its links led when that was refused.
    refused: Option<Value>,
    /// Why links could not be followed when last looked at.
    complaint: Option<String>,
    live: BTreeMap<String, Live>,
    is_dirty: bool,
}

impl Service {
    /// A Service that nothing lives of yet, and that is not saved.
    fn new(state: ServiceState, written: Arc<Value>) -> Self {
        Self { state, written, refused: None, complaint: None, live: BTreeMap::new(), is_dirty: true }
    }
}

/// A Service as it would be: its state, what changes, and its manifest as its author wrote it.
type Admitted = (ServiceState, Changes, Arc<Value>);

pub(super) struct Plane {
    runtime: Arc<Runtime>,
    settings: ControlSettings,
    config: Config,
    folder: Folder,
    clock: Clock,
    routes: Arc<Routes>,
    commands: mpsc::WeakUnboundedSender<Command>,
    notices: (mpsc::UnboundedSender<(Arc<Id>, Notice)>, mpsc::UnboundedReceiver<(Arc<Id>, Notice)>),
    services: BTreeMap<Key, Service>,
    /// Whether links are being followed.
    is_looking: bool,
    /// Turns to prepare a revision.
    preparing: Arc<Semaphore>,
    /// Whether memory was freed that is not given back yet.
    has_freed: Arc<AtomicBool>,
}

impl Plane {
    pub(super) fn open(
        runtime: Runtime,
        settings: ControlSettings,
        clock: Clock,
        routes: Arc<Routes>,
        commands: mpsc::WeakUnboundedSender<Command>,
    ) -> Result<Self, RuntimeError> {
        let failed = |source| RuntimeError::State { path: settings.state.clone(), source };
        let folder = Folder::open(&settings.state).map_err(failed)?;
        let saved = folder.read().map_err(failed)?;
        let mut plane = Self {
            runtime: Arc::new(runtime),
            config: settings.config.clone(),
            settings,
            folder,
            clock,
            routes,
            commands,
            notices: mpsc::unbounded_channel(),
            services: BTreeMap::new(),
            is_looking: false,
            preparing: Arc::new(Semaphore::new(MAX_PREPARING)),
            has_freed: Arc::default(),
        };
        for saved in saved {
            plane.restore(saved);
        }
        plane.route();
        Ok(plane)
    }

    fn restore(&mut self, saved: Saved) {
        let Saved { state, written, scaling } = saved;
        let written = if written == *state.written() { Arc::clone(state.written()) } else { written };
        let metadata = &state.service().metadata;
        let key = (metadata.namespace().to_owned(), metadata.name.clone());
        let revisions: Vec<_> = state.revisions().map(|revision| revision.name.clone()).collect();
        let service = Service { is_dirty: false, ..Service::new(state, written) };
        self.services.insert(key.clone(), service);
        for name in revisions {
            self.start(&key, &name, scaling.get(&name).cloned());
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut looks = interval(LOOK_EVERY);
        let mut saves = interval(SAVE_EVERY);
        let mut collections = interval(COLLECT_EVERY);
        for timer in [&mut looks, &mut saves, &mut collections] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop(reply)) => {
                        self.save();
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.obey(command),
                    None => return self.save(),
                },
                Some((id, notice)) = self.notices.1.recv() => self.heed(&id, &notice),
                _ = looks.tick() => {
                    self.look();
                    self.step();
                }
                _ = saves.tick() => {
                    self.save();
                    self.give_back();
                }
                _ = collections.tick() => self.collect(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Apply(manifests, reply) => {
                let _ = reply.send(self.apply(*manifests));
            }
            Command::Traffic { key, targets, reply } => {
                let _ = reply.send(self.set_traffic(&key, targets));
            }
            Command::Delete { key, reply } => {
                let _ = reply.send(self.delete(&key));
            }
            Command::Status(reply) => {
                let _ = reply.send(self.scrape());
            }
            Command::Prepared { key, revision, outcome } => self.prepared(&key, &revision, outcome),
            Command::Looked(looked) => self.looked(looked),
            Command::Stop(_) => unreachable!("ends the loop"),
        }
    }

    fn heed(&mut self, id: &Id, notice: &Notice) {
        let key = (id.namespace.clone(), id.service.clone());
        let Some(service) = self.services.get_mut(&key) else { return };
        match notice {
            Notice::Changed => service.is_dirty = true,
            Notice::Wanted => self.prepare(&key, &id.revision),
            Notice::AtZero => self.refresh(&key, &id.revision),
            Notice::Initialized => {
                tracing::info!(service = key.1, revision = id.revision, "revision is ready");
                self.observe(&key, &id.revision, Readiness::Ready);
            }
        }
    }

    /// Takes all of these manifests or none.
    fn apply(&mut self, manifests: Manifests) -> Result<Vec<ServiceStatus>, ControlError> {
        let config = self.merged(manifests.config);
        let mut faults = Vec::new();
        let mut accepted: BTreeMap<Key, Admitted> = BTreeMap::new();
        for manifest in manifests.services {
            let key = (manifest.service.metadata.namespace().to_owned(), manifest.service.metadata.name.clone());
            match self.admit(&key, manifest, &config) {
                Ok(admitted) => {
                    accepted.insert(key, admitted);
                }
                Err(fault) => faults.push(format!("{}/{}: {fault}", key.0, key.1)),
            }
        }
        if !faults.is_empty() {
            return Err(ControlError::Refused(faults.join("\n")));
        }
        self.config = config;
        let keys: Vec<Key> = accepted.keys().cloned().collect();
        for (key, (state, changes, written)) in accepted {
            match self.services.get_mut(&key) {
                Some(service) => {
                    (service.state, service.written, service.refused) = (state, written, None);
                    service.is_dirty = true;
                }
                None => {
                    self.services.insert(key.clone(), Service::new(state, written));
                }
            }
            self.absorb(&key, changes);
        }
        self.save();
        Ok(keys.iter().filter_map(|key| self.status(key)).collect())
    }

    /// What a manifest comes to, without any effect yet.
    fn admit(&self, key: &Key, manifest: ServiceManifest, config: &Config) -> Result<Admitted, String> {
        let written = Arc::clone(&manifest.written);
        let followed = links::followed(&written, &self.settings.places).map_err(|error| error.to_string())?;
        // Most have no links: then it is kept once.
        let followed = if followed == *written { Arc::clone(&written) } else { Arc::new(followed) };
        let manifest = with(manifest, followed)?;
        let admitted = self.judged(key, config, |context| match self.services.get(key) {
            None => ServiceState::create(&manifest, context),
            Some(service) => {
                let mut state = service.state.clone();
                let changes = state.apply(&manifest, context)?;
                Ok((state, changes))
            }
        });
        let (state, changes) = admitted.map_err(|errors| errors.to_string())?;
        for name in &changes.created {
            if let Some(revision) = state.revision(name) {
                Plan::of(&key.1, revision, &self.settings.places).map_err(|error| error.to_string())?;
            }
        }
        Ok((state, changes, written))
    }

    /// The cluster's settings as these manifests change them; what they do not speak of stays.
    fn merged(&self, brought: Config) -> Config {
        let unset = Config::default();
        let mut config = self.config.clone();
        macro_rules! take {
            ($($part:ident)*) => { $(if brought.$part != unset.$part { config.$part = brought.$part; })* };
        }
        take!(autoscaler defaults deployment domain features gc network);
        config
    }

    fn set_traffic(&mut self, key: &Key, targets: Vec<TrafficTarget>) -> Result<ServiceStatus, ControlError> {
        self.try_change(key, |state, context| {
            let mut service = state.service().clone();
            service.spec.traffic = targets.into_iter().map(target).collect();
            state.update(service, context).map_err(|errors| ControlError::Refused(errors.to_string()))
        })
        .ok_or_else(|| not_found(key))??;
        self.save();
        self.status(key).ok_or_else(|| not_found(key))
    }

    fn delete(&mut self, key: &Key) -> Result<(), ControlError> {
        let service = self.services.remove(key).ok_or_else(|| not_found(key))?;
        self.route();
        for live in service.live.values() {
            live.revision.close();
        }
        if let Err(error) = self.folder.remove(&key.0, &key.1) {
            tracing::warn!(service = key.1, %error, "a deleted function's file cannot be removed");
        }
        Ok(())
    }

    /// Takes note of how a revision does.
    fn observe(&mut self, key: &Key, revision: &str, readiness: Readiness) {
        self.change(key, |state, context| state.set_readiness(revision, readiness, context));
    }

    fn change(&mut self, key: &Key, event: impl FnOnce(&mut ServiceState, &Context<'_>) -> Changes) {
        self.try_change(key, |state, context| Ok::<_, Infallible>(event(state, context)));
    }

    /// Lets an event happen to a Service and does what it calls for; an event that fails changes nothing. `None` if
    /// there is no such Service.
    fn try_change<E>(
        &mut self,
        key: &Key,
        event: impl FnOnce(&mut ServiceState, &Context<'_>) -> Result<Changes, E>,
    ) -> Option<Result<(), E>> {
        let mut state = self.services.get(key)?.state.clone();
        let changes = match self.judged(key, &self.config, |context| event(&mut state, context)) {
            Ok(changes) => changes,
            Err(error) => return Some(Err(error)),
        };
        let service = self.services.get_mut(key)?;
        service.is_dirty |= service.state != state;
        service.state = state;
        self.absorb(key, changes);
        Some(Ok(()))
    }

    /// What an event of this Service is judged by.
    fn judged<T>(&self, key: &Key, config: &Config, event: impl FnOnce(&Context<'_>) -> T) -> T {
        let owner_of = self.owners(key);
        event(&Context { owner_of: &owner_of, ..Context::new(config, self.clock.now()) })
    }

    /// Does what an event calls for.
    fn absorb(&mut self, key: &Key, changes: Changes) {
        if changes.is_empty() {
            return;
        }
        for name in &changes.created {
            tracing::info!(service = key.1, revision = name, "new revision");
            self.start(key, name, None);
        }
        if changes.routing || !changes.removed.is_empty() {
            self.route();
        }
        let Some(service) = self.services.get_mut(key) else { return };
        service.is_dirty = true;
        for name in &changes.removed {
            if let Some(live) = service.live.remove(name) {
                live.revision.close();
            }
        }
        for (name, state) in &changes.routing_states {
            if let (Some(live), Some(revision)) = (service.live.get(name), service.state.revision(name)) {
                tracing::debug!(revision = name, ?state, "routing state");
                live.revision.update(revision.scaling(&self.config));
            }
        }
    }

    /// Brings a revision to life; its artefact follows if it will be needed.
    fn start(&mut self, key: &Key, name: &str, snapshot: Option<Snapshot>) {
        let Some(service) = self.services.get_mut(key) else { return };
        let Some(revision) = service.state.revision(name) else { return };
        let plan = match Plan::of(&key.1, revision, &self.settings.places) {
            Ok(plan) => plan,
            Err(error) => {
                // Only a restart with other settings gets here: what is applied is checked before.
                tracing::warn!(revision = name, %error, "a revision cannot be had here any more");
                return self.observe(key, name, Readiness::Failed { message: error.to_string() });
            }
        };
        // A new revision must show that it can serve, traffic or not; until it has, it can be given none.
        let has_served = |snapshot: &Snapshot| snapshot.status.initialized && snapshot.replicas <= 0;
        let is_needed = revision.routing_state != RoutingState::Reserve || !snapshot.as_ref().is_some_and(has_served);
        let id = Id { namespace: key.0.clone(), service: key.1.clone(), revision: name.to_owned() };
        let (revision, task) = Revision::start(
            id,
            plan,
            revision.scaling(&self.config),
            snapshot,
            Arc::clone(&self.runtime.compute),
            self.clock,
            self.notices.0.clone(),
        );
        let live = Live {
            revision,
            failed: None,
            artefact: None,
            pause: FIRST_PAUSE,
            preparing: None,
            unloading: None,
            _task: task,
        };
        service.live.insert(name.to_owned(), live);
        if is_needed {
            self.prepare(key, name);
        }
    }

    /// Has a revision's artefact mapped, baked before that if need be.
    fn prepare(&mut self, key: &Key, name: &str) {
        self.prepare_after(key, name, Duration::ZERO, None);
    }

    /// The same after a pause, and after `old` is given back.
    fn prepare_after(&mut self, key: &Key, name: &str, pause: Duration, old: Option<Arc<Blueprint>>) {
        let Some(live) = self.services.get_mut(key).and_then(|service| service.live.get_mut(name)) else { return };
        if live.preparing.is_some() {
            return;
        }
        let (runtime, revision, artefact) = (Arc::clone(&self.runtime), Arc::clone(&live.revision), live.artefact);
        let (commands, key) = (self.commands.clone(), key.clone());
        let (turns, has_freed) = (Arc::clone(&self.preparing), Arc::clone(&self.has_freed));
        live.preparing = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            sleep(pause).await;
            let _turn = turns.acquire().await;
            // If it cannot be dropped there, it is dropped with that work.
            let _ = runtime.compute.run_blocking(move || drop(old)).await;
            let outcome = prepare(&runtime, &revision, artefact).await;
            has_freed.store(true, Ordering::Relaxed);
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(Command::Prepared { key, revision, outcome });
            }
        })));
    }

    fn prepared(&mut self, key: &Key, revision: &Arc<Revision>, outcome: Prepared) {
        let name = revision.id.revision.as_str();
        let Some(service) = self.services.get_mut(key) else { return };
        // A function that was deleted and brought again has other revisions under the same names.
        let live = service.live.get_mut(name).filter(|live| Arc::ptr_eq(&live.revision, revision));
        let Some(live) = live else { return };
        live.preparing = None;
        match outcome {
            Ok((blueprint, artefact)) => {
                live.artefact = Some(artefact);
                live.failed = None;
                live.pause = FIRST_PAUSE;
                live.revision.supply(blueprint);
                if live.revision.view().replicas <= 0 {
                    self.unload_later(key, name);
                }
            }
            Err(reason) => {
                tracing::warn!(revision = name, reason, "a revision cannot be prepared; it is tried again");
                live.failed = Some(reason.clone());
                // What was baked from may have been put right.
                live.artefact = None;
                let pause = live.pause;
                live.pause = (2 * pause).min(MAX_PAUSE);
                let was_ready = service.state.revision(name).is_some_and(|revision| revision.readiness.is_ready());
                self.prepare_after(key, name, pause, None);
                if !was_ready {
                    self.observe(key, name, Readiness::Failed { message: reason });
                }
            }
        }
    }

    /// A revision is at zero: the memory its sandboxes have used is given back, and it stays ready to wake.
    fn refresh(&mut self, key: &Key, name: &str) {
        let Some(live) = self.services.get_mut(key).and_then(|service| service.live.get_mut(name)) else { return };
        if let Some(supply) = live.revision.take_supply() {
            self.prepare_after(key, name, Duration::ZERO, Some(supply));
        }
    }

    fn unload_later(&mut self, key: &Key, name: &str) {
        let Some(live) = self.services.get_mut(key).and_then(|service| service.live.get_mut(name)) else { return };
        let (revision, runtime) = (Arc::clone(&live.revision), Arc::clone(&self.runtime));
        let (after, has_freed) = (self.settings.unload_after, Arc::clone(&self.has_freed));
        live.unloading = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            sleep(after).await;
            if let Some(supply) = revision.take_supply() {
                let _ = runtime.compute.run_blocking(move || drop(supply)).await;
                has_freed.store(true, Ordering::Relaxed);
            }
        })));
    }

    fn give_back(&self) {
        if self.has_freed.swap(false, Ordering::Relaxed) {
            self.runtime.compute.blocking(memory::give_back);
        }
    }

    /// Looks where the links of all manifests lead.
    fn look(&mut self) {
        if std::mem::replace(&mut self.is_looking, true) {
            return;
        }
        let mounting = self.services.iter().filter(|(_, service)| links::may_move(&service.written));
        let mounting: Vec<_> = mounting.map(|(key, service)| (key.clone(), Arc::clone(&service.written))).collect();
        let (places, commands) = (self.settings.places.clone(), self.commands.clone());
        self.runtime.compute.blocking(move || {
            let look = |(key, written): (Key, Arc<Value>)| {
                let manifest = links::followed(&written, &places).map_err(|error| error.to_string());
                (key, written, manifest)
            };
            let looked = mounting.into_iter().map(look).collect();
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(Command::Looked(looked));
            }
        });
    }

    fn looked(&mut self, looked: Vec<Looked>) {
        self.is_looking = false;
        for (key, written, manifest) in looked {
            let Some(service) = self.services.get_mut(&key) else { continue };
            // Another manifest may have been applied meanwhile.
            if !Arc::ptr_eq(&service.written, &written) {
                continue;
            }
            match manifest {
                Ok(manifest) => {
                    service.complaint = None;
                    if manifest != **service.state.written() && service.refused.as_ref() != Some(&manifest) {
                        self.follow(&key, manifest);
                    }
                }
                Err(error) => {
                    if service.complaint.as_ref() != Some(&error) {
                        tracing::warn!(service = key.1, error, "a link cannot be followed");
                        service.complaint = Some(error);
                    }
                }
            }
        }
    }

    /// Applies a manifest anew whose links lead elsewhere.
    fn follow(&mut self, key: &Key, manifest: Value) {
        let Some(service) = self.services.get_mut(key) else { return };
        let source = ServiceManifest {
            service: service.state.service().clone(),
            written: Arc::clone(&service.written),
            place: serving::manifest::Place { file: key.1.clone(), line: 0, column: 0 },
        };
        // Whatever comes of it, it is not tried again until the links lead elsewhere.
        service.refused = Some(manifest);
        match self.admit(key, source, &self.config) {
            Ok((state, changes, _)) => {
                if let Some(service) = self.services.get_mut(key) {
                    (service.state, service.refused) = (state, None);
                }
                self.absorb(key, changes);
            }
            Err(error) => tracing::warn!(service = key.1, error, "where a link leads now is refused"),
        }
    }

    /// Rollouts go on.
    fn step(&mut self) {
        let now = self.clock.now();
        let due = self.services.iter().filter(|(_, service)| service.state.next_wake().is_some_and(|at| at <= now));
        let due: Vec<Key> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            self.change(&key, ServiceState::tick);
        }
    }

    fn collect(&mut self) {
        let keys: Vec<Key> = self.services.keys().cloned().collect();
        for key in keys {
            self.change(&key, ServiceState::collect_garbage);
        }
    }

    /// Tells requests where to go.
    fn route(&self) {
        let mut table = Table::default();
        for (key, service) in &self.services {
            for (n, rule) in service.state.routing().rules().iter().enumerate() {
                let names = rule.paths.iter().flat_map(|path| &path.splits).map(|split| &split.revision);
                let revisions: HashMap<_, _> = names
                    .filter_map(|name| Some((name.clone(), Arc::clone(&service.live.get(name)?.revision))))
                    .collect();
                let route = Arc::new(Route { rule: rule.clone(), revisions });
                for host in &rule.hosts {
                    table.hosts.insert(host.clone(), Arc::clone(&route));
                }
                if n == 0 {
                    table.services.insert(key.clone(), route);
                }
            }
        }
        self.routes.replace(table);
    }

    fn save(&mut self) {
        for (key, service) in &mut self.services {
            if !std::mem::take(&mut service.is_dirty) {
                continue;
            }
            let scaling = service.live.iter().map(|(name, live)| (name.clone(), live.revision.snapshot()));
            let saved = Saved {
                state: service.state.clone(),
                written: Arc::clone(&service.written),
                scaling: scaling.collect(),
            };
            if let Err(error) = self.folder.write(&key.0, &key.1, &saved) {
                tracing::warn!(service = key.1, %error, "what must survive a restart cannot be saved; trying again");
                service.is_dirty = true;
            }
        }
    }

    fn scrape(&self) -> Scrape {
        let services = self.services.keys().filter_map(|key| self.status(key)).collect();
        let status = Status {
            at_unix_ms: self.clock.now().unix_millis(),
            resident_bytes: resident_bytes(),
            services,
            publications: Vec::new(),
        };
        let mut scrape = Scrape { status, durations: BTreeMap::new() };
        for ((namespace, _), service) in &self.services {
            for (name, live) in &service.live {
                scrape.add(namespace, name, &live.revision.counters);
            }
        }
        scrape
    }

    fn status(&self, key: &Key) -> Option<ServiceStatus> {
        let service = self.services.get(key)?;
        let own = self.settings.exposed.get(&key.1).map(|address| local_url(*address));
        let url = own.unwrap_or_else(|| {
            let url = service.state.status().url;
            match self.settings.port {
                Some(port) if !url.is_empty() => format!("{url}:{port}/"),
                _ => url,
            }
        });
        Some(status::service(&service.state, url, &service.live))
    }

    /// Whose a revision of a Service's namespace is, if it is another one's.
    fn owners<'a>(&'a self, key: &'a Key) -> impl Fn(&str) -> Option<String> + 'a {
        move |revision| {
            let mut others = self.services.iter().filter(|(other, _)| other.0 == key.0 && *other != key);
            others.find(|(_, service)| service.state.revision(revision).is_some()).map(|(other, _)| other.1.clone())
        }
    }
}

/// Maps a revision's artefact, baked before that if need be, and sees that an instance comes to life. What that
/// touches is there when the first request comes.
async fn prepare(runtime: &Runtime, revision: &Revision, artefact: Option<Digest>) -> Prepared {
    let recipe = revision.plan.recipe.clone();
    let mapped = match artefact {
        Some(artefact) => runtime.map(&artefact, recipe.clone()).await.map(|mapped| (mapped, artefact)),
        None => None,
    };
    let (blueprint, artefact) = match mapped {
        Some(mapped) => mapped,
        None => runtime.prepare(recipe).await.map_err(|error| chain(&error))?,
    };
    let instance = Arc::new(revision.instance(&blueprint));
    match &revision.plan.ready {
        None => instance.start_one().await.map_err(|failure| chain(&failure))?,
        Some(path) => {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = path.clone().into();
            let answer = instance.answer(request).await;
            if !answer.status().is_success() && !answer.status().is_redirection() {
                let said: String = String::from_utf8_lossy(answer.body()).chars().take(MAX_QUOTED).collect();
                return Err(format!("its readiness probe {path} is answered {}: {said}", answer.status()));
            }
        }
    }
    Ok((blueprint, artefact))
}

/// The manifest with another text.
fn with(manifest: ServiceManifest, written: Arc<Value>) -> Result<ServiceManifest, String> {
    let service = serving::manifest::decode(Value::clone(&written)).map_err(|error| error.to_string())?;
    let mut changed = ServiceManifest { service, written, place: manifest.place };
    if changed.service.metadata.namespace.is_empty() {
        changed.service.metadata.namespace = manifest.service.metadata.namespace;
    }
    Ok(changed)
}

fn target(wish: TrafficTarget) -> serving::resource::TrafficTarget {
    serving::resource::TrafficTarget {
        tag: wish.tag.unwrap_or_default(),
        revision_name: wish.revision_name.unwrap_or_default(),
        latest_revision: wish.latest_revision,
        percent: wish.percent,
        ..serving::resource::TrafficTarget::default()
    }
}

fn not_found(key: &Key) -> ControlError {
    ControlError::NotFound { namespace: key.0.clone(), name: key.1.clone() }
}
