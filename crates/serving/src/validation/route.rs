//! How traffic is split.

use std::collections::BTreeMap;

use autoscaler::field_error::CURRENT_FIELD;
use autoscaler::{FieldError, FieldErrors, go};

use super::metadata::validate_metadata;
use crate::name::{dns_1035_label_faults, go_list, qualified_name_faults};
use crate::resource::{ObjectMeta, TrafficTarget};

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TargetContext {
    /// In a spec.
    pub in_spec: bool,
    /// In a status.
    pub in_status: bool,
    /// In a Service, whose own configuration is meant where no other target is named.
    pub in_service: bool,
}

impl TargetContext {
    /// In the spec of a Route that belongs to no Service.
    pub const ROUTE: Self = Self { in_spec: true, in_status: false, in_service: false };
    /// In the spec of a Service.
    pub const SERVICE: Self = Self { in_service: true, ..Self::ROUTE };
}

/// Checks a Route that belongs to no Service.
pub fn validate_route(metadata: &ObjectMeta, traffic: &[TrafficTarget]) -> FieldErrors {
    validate_metadata(metadata).also(validate_traffic(traffic, TargetContext::ROUTE).via_field("spec.traffic"))
}

/// Checks all targets together; paths begin with the index.
pub(super) fn validate_traffic(traffic: &[TrafficTarget], context: TargetContext) -> FieldErrors {
    let mut tags: BTreeMap<&str, usize> = BTreeMap::new();
    let mut errors = FieldErrors::new();
    for (index, target) in traffic.iter().enumerate() {
        errors.extend(validate_traffic_target(target, context).via_index(index));
        let tag = target.tag.as_str();
        if tag.is_empty() {
            continue;
        }
        let faults = dns_1035_label_faults(tag);
        if !faults.is_empty() {
            let value = format!("not a DNS 1035 label: {}", go_list(&faults));
            errors.push(FieldError::invalid_array_value(value, "tag", index));
        }
        match tags.get(tag) {
            Some(first) => errors.push(FieldError::new(
                format!("Multiple definitions for {}", go::quote(tag)),
                [format!("[{index}].tag"), format!("[{first}].tag")],
            )),
            None => drop(tags.insert(tag, index)),
        }
    }
    let sum = traffic.iter().fold(0_i64, |sum, target| sum.saturating_add(target.percent()));
    if sum != 100 {
        errors.push(FieldError::new(format!("Traffic targets sum to {sum}, want 100"), [CURRENT_FIELD]));
    }
    errors
}

/// Checks one target.
pub fn validate_traffic_target(target: &TrafficTarget, context: TargetContext) -> FieldErrors {
    FieldErrors::from(latest_revision_error(target, context))
        .also(name_error(target, context))
        .also(
            target
                .percent
                .filter(|percent| !(0..=100).contains(percent))
                .map(|percent| FieldError::out_of_bounds(percent, 0, 100, "percent")),
        )
        .also(validate_url(target, context))
}

fn latest_revision_error(target: &TrafficTarget, context: TargetContext) -> Option<FieldError> {
    let latest = target.latest_revision.filter(|_| context.in_spec)?;
    let is_pinned = !target.revision_name.is_empty();
    (latest == is_pinned).then(|| {
        let name = go::quote(&target.revision_name);
        FieldError::new(format!("may not set revisionName {name} when latestRevision is {latest}"), ["latestRevision"])
    })
}

fn name_error(target: &TrafficTarget, context: TargetContext) -> Option<FieldError> {
    let invalid = |name: &str, path: &str| {
        let faults = qualified_name_faults(name);
        (!faults.is_empty()).then(|| FieldError::invalid_key_name(name, path).with_details(faults.join(", ")))
    };
    let both = ["revisionName", "configurationName"];
    match (target.revision_name.as_str(), target.configuration_name.as_str()) {
        (_, configuration) if context.in_service && !configuration.is_empty() => {
            Some(FieldError::disallowed_fields(["configurationName"]))
        }
        ("", _) if context.in_status => Some(FieldError::missing_field(["revisionName"])),
        ("", "") if context.in_service => None,
        ("", "") => Some(FieldError::missing_one_of(both)),
        ("", configuration) => invalid(configuration, "configurationName"),
        (revision, "") => invalid(revision, "revisionName"),
        _ => Some(FieldError::multiple_one_of(both)),
    }
}

fn validate_url(target: &TrafficTarget, context: TargetContext) -> FieldErrors {
    let has_tag = !target.tag.is_empty();
    if target.url.is_empty() {
        let missing = has_tag && context.in_status;
        return missing.then(|| FieldError::missing_field(["url"])).into();
    }
    let disallowed = context.in_spec || !has_tag;
    disallowed.then(|| FieldError::disallowed_fields(["url"])).into()
}
