//! What happens to a Service on its way in: defaults are filled in, then it is taken or refused.

use autoscaler::FieldErrors;

use crate::config::Config;
use crate::defaulting::set_defaults;
use crate::resource::Service;
use crate::validation::{validate_service, validate_service_update};

/// An annotation that names who made a Service.
pub const CREATOR_ANNOTATION: &str = "serving.knative.dev/creator";
/// An annotation that names who changed the spec of a Service last.
pub const LAST_MODIFIER_ANNOTATION: &str = "serving.knative.dev/lastModifier";

/// A new Service with its defaults, and those two annotations if a `user` makes it; unchecked.
pub fn default_new(mut service: Service, config: &Config, user: Option<&str>) -> Service {
    set_defaults(&mut service, None, config);
    if let Some(user) = user {
        for key in [CREATOR_ANNOTATION, LAST_MODIFIER_ANNOTATION] {
            service.metadata.annotations.insert(key.to_owned(), user.to_owned());
        }
    }
    service
}

/// A Service that is to replace `stored`, with its defaults; unchecked.
pub fn default_changed(mut service: Service, stored: &Service, config: &Config, user: Option<&str>) -> Service {
    set_defaults(&mut service, Some(stored), config);
    if let Some(user) = user.filter(|_| service.spec != stored.spec) {
        service.metadata.annotations.insert(LAST_MODIFIER_ANNOTATION.to_owned(), user.to_owned());
    }
    service
}

/// Takes or refuses a new Service.
///
/// # Errors
/// Everything that is wrong with it.
pub fn admit_new(service: Service, config: &Config, user: Option<&str>) -> Result<Service, FieldErrors> {
    let service = default_new(service, config, user);
    validate_service(&service, config).into_result().map(|()| service)
}

/// Takes or refuses a Service that is to replace `stored`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn admit_changed(
    service: Service,
    stored: &Service,
    config: &Config,
    user: Option<&str>,
) -> Result<Service, FieldErrors> {
    let service = default_changed(service, stored, config, user);
    validate_service_update(&service, stored, config).into_result().map(|()| service)
}
