//! The ConfigMap `config-defaults`: what a revision gets that does not say otherwise, and how much it may ask for.
//!
//! # Source
//! `pkg/apis/config/defaults.go` of Knative Serving.

use std::collections::BTreeMap;

use autoscaler::{FieldError, go};

use super::template::TemplateData;
use super::{ConfigError, ConfigMapData, Template, parse, parse_int64};
use crate::resource::{ObjectMeta, Quantity};

const CONTAINER_TEMPLATE: &str = "container-template";

/// Defaults and limits of revisions.
#[derive(Debug, Clone, PartialEq)]
pub struct DefaultsConfig {
    /// Seconds a request may take.
    pub revision_timeout_seconds: i64,
    /// The most seconds a revision may ask for.
    pub max_revision_timeout_seconds: i64,
    /// Seconds until the first byte of an answer; 0 is unlimited.
    pub revision_response_start_timeout_seconds: i64,
    /// Seconds without a byte of an answer; 0 is unlimited.
    pub revision_idle_timeout_seconds: i64,
    /// Name of containers without one.
    pub container_name_template: Template,
    /// Name of init containers without one.
    pub init_container_name_template: Template,
    /// Requests that an instance takes at once; 0 is unlimited.
    pub container_concurrency: i64,
    /// The most requests at once a revision may ask for.
    pub container_concurrency_max_limit: i64,
    /// Whether a revision may ask for unlimited requests at once.
    pub allow_container_concurrency_zero: bool,
    /// Whether the addresses of other services stand in the environment; `None` leaves it to Kubernetes.
    pub enable_service_links: Option<bool>,
    /// Resources given for sure, by their names.
    pub resource_requests: BTreeMap<String, Quantity>,
    /// The most resources used, by their names.
    pub resource_limits: BTreeMap<String, Quantity>,
}

impl Default for DefaultsConfig {
    fn default() -> Self {
        Self {
            revision_timeout_seconds: 300,
            max_revision_timeout_seconds: 600,
            revision_response_start_timeout_seconds: 300,
            revision_idle_timeout_seconds: 0,
            container_name_template: Template::fixed(CONTAINER_TEMPLATE, "user-container"),
            init_container_name_template: Template::fixed(CONTAINER_TEMPLATE, "init-container"),
            container_concurrency: 0,
            container_concurrency_max_limit: 1000,
            allow_container_concurrency_zero: true,
            enable_service_links: Some(false),
            resource_requests: BTreeMap::new(),
            resource_limits: BTreeMap::new(),
        }
    }
}

impl DefaultsConfig {
    /// Reads the `data` of a ConfigMap; keys that are absent keep their defaults.
    ///
    /// # Errors
    /// The first value that cannot be read, else the first that is out of range, in Knative's words.
    pub fn from_config_map(data: &ConfigMapData) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (key, target) in [
            ("init-container-name-template", &mut config.init_container_name_template),
            ("container-name-template", &mut config.container_name_template),
        ] {
            if let Some(text) = data.get(key) {
                *target = Template::parse(CONTAINER_TEMPLATE, text)?;
            }
        }
        parse(data, "allow-container-concurrency-zero", &mut config.allow_container_concurrency_zero, go::parse_bool)?;
        if let Some(text) = data.get("enable-service-links") {
            config.enable_service_links = match text.to_ascii_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            };
        }
        parse_int64(data, "revision-timeout-seconds", &mut config.revision_timeout_seconds)?;
        parse_int64(data, "max-revision-timeout-seconds", &mut config.max_revision_timeout_seconds)?;
        parse_int64(data, "revision-idle-timeout-seconds", &mut config.revision_idle_timeout_seconds)?;
        parse_int64(data, "container-concurrency", &mut config.container_concurrency)?;
        parse_int64(data, "container-concurrency-max-limit", &mut config.container_concurrency_max_limit)?;
        for (kind, target) in [("request", &mut config.resource_requests), ("limit", &mut config.resource_limits)] {
            for resource in ["cpu", "memory", "ephemeral-storage"] {
                let mut quantity = None;
                let key = format!("revision-{resource}-{kind}");
                parse(data, &key, &mut quantity, |text| text.parse::<Quantity>().map(Some))?;
                target.extend(quantity.map(|quantity| (resource.to_owned(), quantity)));
            }
        }
        config.revision_response_start_timeout_seconds = config.revision_timeout_seconds;
        parse_int64(
            data,
            "revision-response-start-timeout-seconds",
            &mut config.revision_response_start_timeout_seconds,
        )?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let timeout = ("revision-timeout-seconds", self.revision_timeout_seconds);
        not_greater(timeout, ("max-revision-timeout-seconds", self.max_revision_timeout_seconds))?;
        for shorter in [
            ("revision-response-start-timeout-seconds", self.revision_response_start_timeout_seconds),
            ("revision-idle-timeout-seconds", self.revision_idle_timeout_seconds),
        ] {
            if shorter.1 > 0 {
                not_greater(shorter, timeout)?;
            }
        }
        let (concurrency, limit) = (self.container_concurrency, self.container_concurrency_max_limit);
        if limit < 1 {
            let error = FieldError::out_of_bounds(limit, 1, i32::MAX, "container-concurrency-max-limit");
            return Err(ConfigError::refused(error));
        }
        if !(0..=limit).contains(&concurrency) {
            let error = FieldError::out_of_bounds(concurrency, 0, limit, "container-concurrency");
            return Err(ConfigError::refused(error));
        }
        for template in [&self.container_name_template, &self.init_container_name_template] {
            template
                .render(&ObjectMeta::default())
                .map_err(|error| ConfigError::refused(format!("error executing template: {error}")))?;
        }
        Ok(())
    }
}

fn not_greater((key, value): (&str, i64), (max_key, max): (&str, i64)) -> Result<(), ConfigError> {
    if value > max {
        return Err(ConfigError::refused(format!("{key} ({value}) cannot be greater than {max_key} ({max})")));
    }
    Ok(())
}

impl TemplateData for ObjectMeta {
    const TYPE: &'static str = "v1.ObjectMeta";

    fn text(&self, field: &str) -> Option<&str> {
        match field {
            "Name" => Some(&self.name),
            "GenerateName" => Some(&self.generate_name),
            "Namespace" => Some(&self.namespace),
            _ => None,
        }
    }

    fn map(&self, field: &str) -> Option<&BTreeMap<String, String>> {
        match field {
            "Labels" => Some(&self.labels),
            "Annotations" => Some(&self.annotations),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data: &[(&str, &str)], wanted: Result<DefaultsConfig, &str>) {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let config = DefaultsConfig::from_config_map(&data).map_err(|error| error.to_string());
        assert_eq!(config, wanted.map_err(str::to_owned));
    }

    #[test]
    fn what_is_set_replaces_the_defaults() {
        let default = DefaultsConfig::default;
        check(&[("_example", "anything")], Ok(default()));
        check(
            &[("revision-timeout-seconds", "200")],
            Ok(DefaultsConfig {
                revision_timeout_seconds: 200,
                revision_response_start_timeout_seconds: 200,
                ..default()
            }),
        );
        check(
            &[("enable-service-links", "TRUE")],
            Ok(DefaultsConfig { enable_service_links: Some(true), ..default() }),
        );
        check(&[("enable-service-links", "default")], Ok(DefaultsConfig { enable_service_links: None, ..default() }));
        check(
            &[("revision-memory-limit", "64Mi")],
            Ok(DefaultsConfig {
                resource_limits: "64Mi".parse().into_iter().map(|limit| ("memory".to_owned(), limit)).collect(),
                ..default()
            }),
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        check(
            &[("revision-timeout-seconds", "1h")],
            Err(r#"failed to parse "revision-timeout-seconds": strconv.ParseInt: parsing "1h": invalid syntax"#),
        );
        check(
            &[("revision-timeout-seconds", "601")],
            Err("revision-timeout-seconds (601) cannot be greater than max-revision-timeout-seconds (600)"),
        );
        check(
            &[("revision-idle-timeout-seconds", "301")],
            Err("revision-idle-timeout-seconds (301) cannot be greater than revision-timeout-seconds (300)"),
        );
        check(&[("container-concurrency", "1001")], Err("expected 0 <= 1001 <= 1000: container-concurrency"));
        check(
            &[("revision-cpu-request", "lots")],
            Err(
                r#"failed to parse "revision-cpu-request": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#,
            ),
        );
    }
}
