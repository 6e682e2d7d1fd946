//! One Service over its lifetime: what becomes of its revisions and its traffic as manifests, readiness and time come in.
//!
//! Every event is a method; each answers what has changed. All of the state can be written and read again with serde.
//! Two things come from outside: the time, and whose the revisions of other Services are.
//!
//! # Source
//! `pkg/reconciler/{service,configuration,route,labeler,gc}` of Knative Serving.

mod reconcile;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use autoscaler::time::Timestamp;
use autoscaler::{FieldError, FieldErrors};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admission::{admit_changed, admit_new};
use crate::apply::merge;
use crate::config::Config;
use crate::defaulting::fill_template;
use crate::host::{CLUSTER_DOMAIN, Hosts};
use crate::manifest::{ServiceManifest, decode};
use crate::resource::{RevisionTemplateSpec, Service, TrafficTarget};
use crate::revision::{Readiness, Revision, RoutingState};
use crate::rollout::Rollout;
use crate::routing::Routing;
use crate::status::{Address, ConditionStatus, Conditions, ServiceStatus, Verdict};

/// What an event is judged by.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The settings of the cluster.
    pub config: &'a Config,
    /// The time.
    pub now: Timestamp,
    /// Who submits manifests, for the annotations that tell.
    pub user: Option<&'a str>,
    /// The Service that a revision of the same namespace belongs to, if it is another one.
    pub owner_of: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Context<'a> {
    /// A context for a Service that is alone in its namespace, submitted by nobody in particular.
    pub fn new(config: &'a Config, now: Timestamp) -> Self {
        Self { config, now, user: None, owner_of: &|_| None }
    }
}

/// What an event has changed, apart from the status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Revisions made; their readiness is waited for.
    pub created: Vec<String>,
    /// Revisions gone; nothing refers to them any more.
    pub removed: Vec<String>,
    /// Revisions that traffic can get to now, or cannot any more.
    pub routing_states: Vec<(String, RoutingState)>,
    /// Whether requests are to be routed anew.
    pub routing: bool,
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What makes revisions: Knative's Configuration, which has the name of its Service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Configuration {
    /// How often the template has changed, counted from 1.
    generation: i64,
    template: RevisionTemplateSpec,
    latest_created: Option<String>,
    latest_ready: Option<String>,
    /// Whether the revision of the present template has failed, or could not even be made.
    is_failed: bool,
}

/// What finds revisions: Knative's Route, which has the name of its Service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Route {
    /// The targets of the spec, with the name of the configuration.
    spec: Vec<TrafficTarget>,
    /// The targets as they are.
    status: Vec<TrafficTarget>,
    routing: Routing,
    rollout: Rollout,
    /// When the rollout takes its next step.
    next_step: Option<Timestamp>,
    /// Whether there has been traffic to assign.
    is_assigned: bool,
}

/// A Service, its revisions and its traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceState {
    service: Service,
    /// The manifest applied last, as written.
    written: Arc<Value>,
    /// How often the spec has changed, counted from 1.
    generation: i64,
    configuration: Configuration,
    route: Route,
    /// Boxed: a map holds room for several.
    revisions: BTreeMap<String, Box<Revision>>,
    conditions: Conditions,
    url: String,
}

impl ServiceState {
    /// A Service that was not there before.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the webhook's words.
    pub fn create(manifest: &ServiceManifest, context: &Context<'_>) -> Result<(Self, Changes), FieldErrors> {
        let service = admit_new(manifest.service.clone(), context.config, context.user)?;
        let mut state = Self {
            written: Arc::clone(&manifest.written),
            generation: 1,
            configuration: Configuration {
                generation: 1,
                template: service.spec.template.clone(),
                latest_created: None,
                latest_ready: None,
                is_failed: false,
            },
            route: Route::default(),
            revisions: BTreeMap::new(),
            conditions: Conditions::new(context.now),
            url: String::new(),
            service,
        };
        let changes = state.reconcile(context);
        Ok((state, changes))
    }

    /// Applies a manifest of this Service again, as `kubectl apply` does: what its author does not write stays.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the webhook's words; nothing changes then.
    pub fn apply(&mut self, manifest: &ServiceManifest, context: &Context<'_>) -> Result<Changes, FieldErrors> {
        let unreadable = |error: &dyn std::error::Error| FieldErrors::from(FieldError::new(error.to_string(), [""]));
        let mut merged = serde_json::to_value(&self.service).map_err(|error| unreadable(&error))?;
        merge(&mut merged, &self.written, &manifest.written);
        let mut service: Service = decode(merged).map_err(|error| unreadable(&error))?;

        // A template whose name its author keeps gets no defaults; but a manifest that says what it said before must
        // not be taken for a change because it does not say them itself.
        let stored = &self.service.spec.template;
        if service.spec.template.metadata.name == stored.metadata.name {
            let mut filled = service.clone();
            fill_template(&mut filled, context.config);
            if filled.spec.template == *stored {
                service.spec.template = stored.clone();
            }
        }
        let changes = self.update(service, context)?;
        self.written = Arc::clone(&manifest.written);
        Ok(changes)
    }

    /// Replaces the Service by an edited copy of [`ServiceState::service`]; a promotion or a rollback edits its traffic.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the webhook's words; nothing changes then.
    pub fn update(&mut self, service: Service, context: &Context<'_>) -> Result<Changes, FieldErrors> {
        let service = admit_changed(service, &self.service, context.config, context.user)?;
        if service.spec != self.service.spec {
            self.generation += 1;
        }
        if service.spec.template != self.configuration.template {
            self.configuration.generation += 1;
            self.configuration.template = service.spec.template.clone();
        }
        self.service = service;
        Ok(self.reconcile(context))
    }

    /// A revision can take requests now.
    pub fn revision_ready(&mut self, name: &str, context: &Context<'_>) -> Changes {
        self.set_readiness(name, Readiness::Ready, context)
    }

    /// A revision will not come up, or has stopped working for good; the message says why without a full stop.
    pub fn revision_failed(&mut self, name: &str, message: impl Into<String>, context: &Context<'_>) -> Changes {
        self.set_readiness(name, Readiness::Failed { message: message.into() }, context)
    }

    /// Takes note of what is known of a revision; one that is gone by now changes nothing.
    pub fn set_readiness(&mut self, name: &str, readiness: Readiness, context: &Context<'_>) -> Changes {
        match self.revisions.get_mut(name) {
            Some(revision) if revision.readiness != readiness => {
                revision.readiness = readiness;
                self.reconcile(context)
            }
            _ => Changes::default(),
        }
    }

    /// Looks at everything again: when the time of [`ServiceState::next_wake`] has come, or settings have changed.
    pub fn tick(&mut self, context: &Context<'_>) -> Changes {
        self.reconcile(context)
    }

    /// When a rollout takes its next step, if one is going on.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.route.next_step
    }

    /// Removes revisions that have been without traffic for long enough.
    pub fn collect_garbage(&mut self, context: &Context<'_>) -> Changes {
        let latest_ready = self.configuration.latest_ready.as_deref();
        let removed = context.config.gc.collect(self.revisions.values().map(Box::as_ref), latest_ready, context.now);
        if removed.is_empty() {
            return Changes::default();
        }
        self.revisions.retain(|name, _| !removed.contains(name));
        Changes { removed, ..self.reconcile(context) }
    }

    /// The Service with all defaults, as it was last admitted.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Who serves which host. Stays as it was while a target cannot get traffic.
    pub fn routing(&self) -> &Routing {
        &self.route.routing
    }

    /// The manifest applied last, as written.
    pub fn written(&self) -> &Arc<Value> {
        &self.written
    }

    /// All revisions in the order of their names.
    pub fn revisions(&self) -> impl Iterator<Item = &Revision> {
        self.revisions.values().map(Box::as_ref)
    }

    /// A revision by its name.
    pub fn revision(&self, name: &str) -> Option<&Revision> {
        self.revisions.get(name).map(Box::as_ref)
    }

    /// The revision of the present template.
    pub fn latest_created(&self) -> Option<&Revision> {
        self.revision(self.configuration.latest_created.as_deref()?)
    }

    /// The latest revision that can take requests.
    pub fn latest_ready(&self) -> Option<&Revision> {
        self.revision(self.configuration.latest_ready.as_deref()?)
    }

    /// The status, as `kubectl get` shows it.
    pub fn status(&self) -> ServiceStatus {
        let metadata = &self.service.metadata;
        let address = format!("http://{}.{}.{}", metadata.name, metadata.namespace(), CLUSTER_DOMAIN);
        ServiceStatus {
            observed_generation: self.generation,
            conditions: self.conditions.list(),
            url: self.url.clone(),
            address: self.route.is_assigned.then_some(Address { url: address }),
            latest_created_revision_name: self.configuration.latest_created.clone(),
            latest_ready_revision_name: self.configuration.latest_ready.clone(),
            traffic: self.route.status.clone(),
        }
    }

    /// Brings revisions, traffic and status to what the Service says, as far as that can be done now.
    fn reconcile(&mut self, context: &Context<'_>) -> Changes {
        let mut changes = Changes::default();
        let (configuration, is_name_taken) = self.reconcile_configuration(context, &mut changes);
        self.configuration.is_failed = configuration.status == ConditionStatus::False;
        let route = if is_name_taken {
            let name = &self.configuration.template.metadata.name;
            Verdict::failed("RevisionNameTaken", reconcile::name_taken(name))
        } else {
            self.reconcile_route(context, &mut changes)
        };
        self.reconcile_routing_states(&route, context.now, &mut changes);
        if let Ok(url) = Hosts::new(&self.service.metadata, context.config).url("") {
            self.url = url;
        }
        let route = if is_name_taken { route } else { self.migrated(route) };
        self.conditions.set(configuration, route, context.now);
        changes
    }
}
