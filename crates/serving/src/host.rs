//! Host names of Services and tags.
//!
//! # Source
//! `pkg/reconciler/route/domains` of Knative Serving; `pkg/ingress` of knative.dev/networking.

use std::collections::{BTreeMap, BTreeSet};

use autoscaler::go;

use crate::config::{Config, ConfigError, DomainValues, TagValues};
use crate::name::{dns_1123_label_faults, dns_1123_subdomain_faults};
use crate::resource::ObjectMeta;

/// The domain under which everything is found inside the cluster.
pub const CLUSTER_DOMAIN: &str = "svc.cluster.local";
/// A label that keeps a Service from being reached from outside.
pub const VISIBILITY_LABEL: &str = "networking.knative.dev/visibility";

const CLUSTER_LOCAL: &str = "cluster-local";

/// Whether labels keep a Service from being reached from outside.
pub(crate) fn is_cluster_local(labels: &BTreeMap<String, String>) -> bool {
    labels.get(VISIBILITY_LABEL).is_some_and(|value| value == CLUSTER_LOCAL)
}

/// The names of one Service's hosts.
pub(crate) struct Hosts<'a> {
    route: &'a ObjectMeta,
    config: &'a Config,
}

/// Names that cannot be made: a template does not fit.
pub(crate) type Result<T> = std::result::Result<T, ConfigError>;

impl<'a> Hosts<'a> {
    pub(crate) fn new(route: &'a ObjectMeta, config: &'a Config) -> Self {
        Self { route, config }
    }

    /// Whether the Service is reached from inside the cluster only.
    pub(crate) fn is_internal(&self) -> bool {
        self.config.domain.lookup(&self.route.labels) == CLUSTER_DOMAIN
    }

    /// The host of a tag, or of the Service if the tag is empty, as seen from outside.
    pub(crate) fn external(&self, tag: &str) -> Result<String> {
        let mut labels = self.route.labels.clone();
        labels.remove(VISIBILITY_LABEL);
        let host = self.config.network.domain_template.render(&DomainValues {
            name: &self.first_part(tag)?,
            namespace: self.route.namespace(),
            domain: self.config.domain.lookup(&labels),
            annotations: &self.route.annotations,
            labels: &labels,
        })?;
        check_domain_name(host)
    }

    /// The host of a tag, or of the Service if the tag is empty, inside the cluster.
    pub(crate) fn internal(&self, tag: &str) -> Result<String> {
        check_domain_name(format!("{}.{}.{CLUSTER_DOMAIN}", self.first_part(tag)?, self.route.namespace()))
    }

    /// All names of that host inside the cluster, sorted.
    pub(crate) fn internal_names(&self, tag: &str) -> Result<BTreeSet<String>> {
        let full = self.internal(tag)?;
        let without = |suffix: &str| full.strip_suffix(suffix).map(str::to_owned);
        let names = [Some(full.clone()), without(".cluster.local"), without(".svc.cluster.local")];
        Ok(names.into_iter().flatten().filter(|name| has_top_level_domain(name)).collect())
    }

    /// The address of a tag, or of the Service if the tag is empty.
    pub(crate) fn url(&self, tag: &str) -> Result<String> {
        if self.is_internal() {
            return Ok(format!("http://{}", self.internal(tag)?));
        }
        Ok(format!("{}://{}", self.config.network.default_external_scheme, self.external(tag)?))
    }

    fn first_part(&self, tag: &str) -> Result<String> {
        let name = &self.route.name;
        if tag.is_empty() {
            Ok(name.clone())
        } else {
            self.config.network.tag_template.render(&TagValues { name, tag })
        }
    }
}

/// Refuses a host name that is none: most often one whose first part is too long.
fn check_domain_name(host: String) -> Result<String> {
    let name = host.strip_suffix('.').unwrap_or(&host);
    let invalid = |value: &str, faults: &[String]| {
        let (host, value, faults) = (go::quote(&host), go::quote(value), faults.join(","));
        ConfigError::refused(format!(
            "domain name error: invalid domain name {host}: url: Invalid value: {value}: {faults}"
        ))
    };
    let faults = dns_1123_subdomain_faults(name);
    if !faults.is_empty() {
        return Err(invalid(name, &faults));
    }
    if !name.contains('.') {
        return Err(invalid(name, &["should be a domain with at least two segments separated by dots".to_owned()]));
    }
    for label in name.split('.') {
        let faults = dns_1123_label_faults(label);
        if !faults.is_empty() {
            return Err(invalid(label, &faults));
        }
    }
    Ok(host)
}

/// Whether the last part of a name could be one; numbers and parts longer than a label could not.
fn has_top_level_domain(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.len() <= 63 && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// A host as a request names it, without the port and in lower case.
pub fn normalized(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::config::DomainConfig;

    #[track_caller]
    fn check(config: &Config, route: &ObjectMeta, tag: &str, url: &str, internal: &[&str]) {
        let hosts = Hosts::new(route, config);
        assert_eq!(hosts.url(tag).unwrap(), url);
        assert_eq!(hosts.internal_names(tag).unwrap().into_iter().collect::<Vec<_>>(), internal);
    }

    #[test]
    fn hosts_are_made_of_tag_name_namespace_and_domain() {
        let config = Config { domain: DomainConfig::single("example.com"), ..Config::default() };
        let route = ObjectMeta::named("ns", "hello");
        check(
            &config,
            &route,
            "",
            "http://hello.ns.example.com",
            &["hello.ns", "hello.ns.svc", "hello.ns.svc.cluster.local"],
        );
        check(
            &config,
            &route,
            "v2",
            "http://v2-hello.ns.example.com",
            &["v2-hello.ns", "v2-hello.ns.svc", "v2-hello.ns.svc.cluster.local"],
        );
    }

    #[test]
    fn without_a_domain_hosts_are_inside_the_cluster() {
        let names = ["hello.default", "hello.default.svc", "hello.default.svc.cluster.local"];
        check(
            &Config::default(),
            &ObjectMeta::named("", "hello"),
            "",
            "http://hello.default.svc.cluster.local",
            &names,
        );
    }

    #[test]
    fn a_label_hides_a_service_from_outside() {
        let config = Config { domain: DomainConfig::single("example.com"), ..Config::default() };
        let mut route = ObjectMeta::named("ns", "hello");
        route.labels.insert(VISIBILITY_LABEL.to_owned(), "cluster-local".to_owned());
        assert!(Hosts::new(&route, &config).is_internal());
        assert_eq!(Hosts::new(&route, &config).url("").unwrap(), "http://hello.ns.svc.cluster.local");
        route.labels.insert(VISIBILITY_LABEL.to_owned(), "public".to_owned());
        assert!(!Hosts::new(&route, &config).is_internal());
    }

    #[test]
    fn a_namespace_of_digits_is_no_top_level_domain() {
        let route = ObjectMeta::named("123", "hello");
        let hosts = Hosts::new(&route, &Config::default()).internal_names("").unwrap();
        assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["hello.123.svc", "hello.123.svc.cluster.local"]);
    }

    #[test]
    fn a_host_whose_first_part_is_too_long_is_refused() {
        let route = ObjectMeta::named("ns", "a".repeat(60));
        let long = format!("long-{}", "a".repeat(60));
        let error = Hosts::new(&route, &Config::default()).url("long").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "domain name error: invalid domain name \"{long}.ns.svc.cluster.local\": url: Invalid value: \"{long}\": \
                 must be no more than 63 characters"
            )
        );
    }

    #[test]
    fn the_port_and_the_case_of_a_host_do_not_matter() {
        assert_eq!(normalized("Hello.Example.com:8080"), "hello.example.com");
        assert_eq!(normalized("hello.example.com"), "hello.example.com");
        assert_eq!(normalized("[::1]:80"), "[::1]");
        assert_eq!(normalized("::1"), "::1");
    }
}
