//! The ConfigMaps `config-network` and `config-domain`: how hosts are called, and how long rollouts take.
//!
//! Certificates, ingress classes and meshes are left out.
//!
//! # Source
//! `pkg/config` of knative.dev/networking; `pkg/reconciler/route/config/domain.go` of Knative Serving.

use std::collections::BTreeMap;

use autoscaler::go;
use serde::Deserialize;

use super::template::TemplateData;
use super::{ConfigError, ConfigMapData, Template, parse};
use crate::host::{CLUSTER_DOMAIN, is_cluster_local};

/// How hosts are called and traffic moves.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// Makes the host name of a Service.
    pub domain_template: Template,
    /// Makes the first part of the host name of a tag.
    pub tag_template: Template,
    /// Seconds in which traffic moves to a new revision; 0 is at once.
    pub rollout_duration_seconds: i64,
    /// Scheme of addresses that are reached from outside.
    pub default_external_scheme: String,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self::from_config_map(&ConfigMapData::new()).expect("the default templates are well-formed")
    }
}

impl NetworkConfig {
    /// Reads the `data` of a ConfigMap; keys that are absent keep their defaults.
    ///
    /// # Errors
    /// The first value that cannot be read or makes no host name.
    pub fn from_config_map(data: &ConfigMapData) -> Result<Self, ConfigError> {
        let text = |legacy: &str, key: &str, default: &str| {
            data.get(key).or_else(|| data.get(legacy)).map_or(default, |value| value.trim()).to_owned()
        };
        let mut rollout_duration_seconds = 0;
        for key in ["rolloutDuration", "rollout-duration"] {
            parse(data, key, &mut rollout_duration_seconds, go::parse_int)?;
        }
        if rollout_duration_seconds < 0 {
            return Err(ConfigError::refused(format!(
                "rollout-duration must be a positive integer, but was {rollout_duration_seconds}"
            )));
        }
        let domain_template = text("domainTemplate", "domain-template", "{{.Name}}.{{.Namespace}}.{{.Domain}}");
        let domain_template = Template::parse("domain-template", &domain_template)?;
        let sample = DomainValues {
            name: "foo",
            namespace: "bar",
            domain: "baz.com",
            annotations: &BTreeMap::new(),
            labels: &BTreeMap::new(),
        };
        let host = domain_template.render(&sample)?;
        if let Some(slash) = host.find('/') {
            return Err(ConfigError::refused(format!("domain template has url path: {}", &host[slash..])));
        }
        if host.is_empty() {
            return Err(ConfigError::refused("empty hostname"));
        }
        let tag_template = Template::parse("tag-template", &text("tagTemplate", "tag-template", "{{.Tag}}-{{.Name}}"))?;
        tag_template.render(&TagValues { tag: "v2", name: "foo" })?;
        Ok(Self {
            domain_template,
            tag_template,
            rollout_duration_seconds,
            default_external_scheme: text("defaultExternalScheme", "default-external-scheme", "http"),
        })
    }
}

/// What the template of a Service's host is applied to.
pub(crate) struct DomainValues<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) annotations: &'a BTreeMap<String, String>,
    pub(crate) labels: &'a BTreeMap<String, String>,
}

impl TemplateData for DomainValues<'_> {
    const TYPE: &'static str = "config.DomainTemplateValues";

    fn text(&self, field: &str) -> Option<&str> {
        match field {
            "Name" => Some(self.name),
            "Namespace" => Some(self.namespace),
            "Domain" => Some(self.domain),
            _ => None,
        }
    }

    fn map(&self, field: &str) -> Option<&BTreeMap<String, String>> {
        match field {
            "Annotations" => Some(self.annotations),
            "Labels" => Some(self.labels),
            _ => None,
        }
    }
}

/// What the template of a tag's host is applied to.
pub(crate) struct TagValues<'a> {
    pub(crate) name: &'a str,
    pub(crate) tag: &'a str,
}

impl TemplateData for TagValues<'_> {
    const TYPE: &'static str = "config.TagTemplateValues";

    fn text(&self, field: &str) -> Option<&str> {
        match field {
            "Name" => Some(self.name),
            "Tag" => Some(self.tag),
            _ => None,
        }
    }

    fn map(&self, _: &str) -> Option<&BTreeMap<String, String>> {
        None
    }
}

/// Domains, and the labels of the Services that are found under them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainConfig {
    /// Labels that a Service must have, by domain; a domain without any is for all.
    pub domains: BTreeMap<String, BTreeMap<String, String>>,
}

impl Default for DomainConfig {
    fn default() -> Self {
        Self { domains: BTreeMap::from([(CLUSTER_DOMAIN.to_owned(), BTreeMap::new())]) }
    }
}

impl DomainConfig {
    /// One domain for all Services.
    pub fn single(domain: impl Into<String>) -> Self {
        Self { domains: BTreeMap::from([(domain.into(), BTreeMap::new())]) }
    }

    /// Reads the `data` of a ConfigMap. Without a domain for all, that is the cluster's own.
    ///
    /// # Errors
    /// A domain whose selector cannot be read.
    pub fn from_config_map(data: &ConfigMapData) -> Result<Self, ConfigError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Entry {
            selector: Option<BTreeMap<String, String>>,
        }

        let mut domains = BTreeMap::new();
        for (domain, text) in data.iter().filter(|(domain, _)| *domain != "_example") {
            let entry: Option<Entry> = serde_saphyr::from_str(text)
                .map_err(|error| ConfigError::refused(format!("failed to parse {}: {error}", go::quote(domain))))?;
            domains.insert(domain.clone(), entry.unwrap_or_default().selector.unwrap_or_default());
        }
        if !domains.values().any(BTreeMap::is_empty) {
            domains.insert(CLUSTER_DOMAIN.to_owned(), BTreeMap::new());
        }
        Ok(Self { domains })
    }

    /// The domain for a Service with these labels: the one that asks for most of them, of those the first by name.
    pub(crate) fn lookup(&self, labels: &BTreeMap<String, String>) -> &str {
        if is_cluster_local(labels) {
            return CLUSTER_DOMAIN;
        }
        self.domains
            .iter()
            .filter(|(_, selector)| selector.iter().all(|(label, value)| labels.get(label) == Some(value)))
            .max_by(|a, b| a.1.len().cmp(&b.1.len()).then(b.0.cmp(a.0)))
            .map_or(CLUSTER_DOMAIN, |(domain, _)| domain)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[track_caller]
    fn check_refused(key: &str, value: &str, message: &str) {
        let error = NetworkConfig::from_config_map(&map(&[(key, value)])).unwrap_err();
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn network_settings_are_read_or_refused() {
        let config = NetworkConfig::from_config_map(&map(&[("rollout-duration", "120")])).unwrap();
        assert_eq!(config, NetworkConfig { rollout_duration_seconds: 120, ..NetworkConfig::default() });
        check_refused("rollout-duration", "-1", "rollout-duration must be a positive integer, but was -1");
        check_refused("domain-template", "{{.Name}}/x", "domain template has url path: /x");
        check_refused(
            "tag-template",
            "{{.Domain}}",
            "template: tag-template:1:2: executing \"tag-template\" at <.Domain>: can't evaluate field Domain in type \
             config.TagTemplateValues",
        );
    }

    #[track_caller]
    fn check_domain(domains: &[(&str, &str)], labels: &[(&str, &str)], domain: &str) {
        let config = DomainConfig::from_config_map(&map(domains)).unwrap();
        assert_eq!(config.lookup(&map(labels)), domain);
    }

    #[test]
    fn the_most_specific_domain_wins() {
        let domains = [
            ("b.example", ""),
            ("a.example", "selector: {}"),
            ("prod.example", "selector:\n  app: prod"),
            ("eu.example", "selector:\n  app: prod\n  region: eu\n"),
            ("_example", "not: [yaml"),
        ];
        check_domain(&domains, &[], "a.example");
        check_domain(&domains, &[("app", "test")], "a.example");
        check_domain(&domains, &[("app", "prod")], "prod.example");
        check_domain(&domains, &[("app", "prod"), ("region", "eu")], "eu.example");
        check_domain(&domains, &[("networking.knative.dev/visibility", "cluster-local")], "svc.cluster.local");
    }

    #[test]
    fn without_a_domain_for_all_the_clusters_own_is_used() {
        check_domain(&[], &[], "svc.cluster.local");
        check_domain(&[("prod.example", "selector: {app: prod}")], &[("app", "x")], "svc.cluster.local");
    }

    #[test]
    fn a_selector_that_is_none_is_refused() {
        let error = DomainConfig::from_config_map(&map(&[("a.example", "selector: [x")])).unwrap_err();
        assert!(error.to_string().starts_with(r#"failed to parse "a.example": "#), "{error}");
    }
}
