//! Knative's autoscaling as pure arithmetic: what one revision's traffic, annotations and cluster settings come to.
//!
//! Decision for decision what Knative Serving decides, for a runtime that starts instances itself. There is no clock,
//! no thread, no I/O and no randomness in here: time is an argument, and the linter keeps it so. Left out is what needs
//! a cluster: scraping and probing over a network, the choice of activators, other autoscalers than Knative's own.
//!
//! | to … | see |
//! |---|---|
//! | refuse a manifest in the webhook's words | [`annotations::validate`], [`FieldErrors`] |
//! | read `config-autoscaler` | [`AutoscalerConfig::from_config_map`] |
//! | know what both come to | [`resolve::Settings`] |
//! | measure requests | [`metrics::ActivatorStats`], [`metrics::RequestStats`] |
//! | scale a revision | [`revision::RevisionScaler`], made of [`metrics::Collector`], [`decider::Decider`] and [`reconcile::reconcile`] |
//!
//! # What the replay covers
//!
//! `tests/replay` compares all of this with recordings of Knative's own code, of these kinds:
//!
//! | kind | compared |
//! |---|---|
//! | `validate_annotations`, `annotations_edge` | [`annotations::validate`], [`resolve`] |
//! | `config_autoscaler`, `config_autoscaler_edge` | [`config`] |
//! | `metric_target`, `metric_windows`, `make_decider`, `initial_scale`, `scale_bounds` | [`resolve`] |
//! | `buckets`, `collector`, `request_stats`, `activator_stats`, `sample_size` | [`metrics`] |
//! | `decider_sequence`, `decider_start`, `multiscaler_create`, `multiscaler_notify`, `multiscaler_poke`, `same_sign`, `delay_window`, `max_window`, `max_time_window` | [`decider`] |
//! | `kpa_scale`, `active_condition`, `pa_status_scales`, `num_activators` | [`reconcile`](mod@reconcile) |
//! | every line of the decider traces | [`metrics::Collector`] and [`decider::Decider`] |
//! | every line of the control-loop traces | [`reconcile::reconcile`] and [`revision::RevisionScaler`] |
//!
//! and leaves these to the crates whose matter they are:
//!
//! | kind | why not here |
//! |---|---|
//! | `config_defaults`, `service_admission`, `service_update`, `validate_*` but annotations, `child_name` | manifests, their defaults and names |
//! | `traffic`, `rollout_step`, `rollout_observe_ready`, `route_tag` | routing between revisions; scaling knows one revision |
//! | `breaker`, `breaker_capacity`, `timeouts`, `forwarded_header` | the path of a request; scaling sees only counts |

pub mod annotations;
pub mod config;
pub mod decider;
pub mod field_error;
pub mod go;
pub mod metrics;
pub mod reconcile;
pub mod resolve;
pub mod revision;
pub mod time;

pub use config::AutoscalerConfig;
pub use field_error::{FieldError, FieldErrors};
