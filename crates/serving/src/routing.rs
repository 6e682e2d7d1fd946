//! Which revision gets a request: by host, by a tag in a header, and by chance.
//!
//! # Source
//! `pkg/reconciler/route/resources/ingress.go` of Knative Serving.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError};
use crate::host::{Hosts, normalized};
use crate::resource::ObjectMeta;
use crate::rollout::Rollout;
use crate::traffic::{Traffic, shares};

/// A header that chooses a tag on the main host, or names the one whose host was called.
pub const TAG_HEADER: &str = "Knative-Serving-Tag";
/// A header that says that no tag was chosen.
pub const DEFAULT_ROUTE_HEADER: &str = "Knative-Serving-Default-Route";
/// A header that names the revision chosen.
pub const REVISION_HEADER: &str = "Knative-Serving-Revision";
/// A header that names the namespace of the revision chosen.
pub const NAMESPACE_HEADER: &str = "Knative-Serving-Namespace";

/// Headers by their names.
pub type Headers = BTreeMap<String, String>;

/// From where a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Visibility {
    /// From inside the cluster only.
    ClusterLocal,
    /// From everywhere.
    ExternalIp,
}

/// The hosts of a Service and who serves them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    rules: Vec<Rule>,
}

/// Some hosts and who serves them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The names, in lower case and without ports.
    pub hosts: Vec<String>,
    /// From where they are reached.
    pub visibility: Visibility,
    /// The first whose headers match is taken; the last matches always.
    pub paths: Vec<Path>,
}

/// Revisions that share the requests with certain headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// What the request's headers must be.
    pub match_headers: Headers,
    /// What is set in the request whoever gets it.
    pub append_headers: Headers,
    /// The revisions with their parts, which are 100 together.
    pub splits: Vec<Split>,
}

/// A revision and its part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The revision.
    pub revision: String,
    /// Its part, 1 to 100.
    pub percent: u32,
    /// What is set in the request if it gets it.
    pub append_headers: Headers,
}

impl Routing {
    /// The hosts of a route for resolved traffic in the state of its rollout.
    ///
    /// # Errors
    /// A host that cannot be called as the cluster wants it.
    pub fn new(route: &ObjectMeta, traffic: &Traffic, rollout: &Rollout, config: &Config) -> Result<Self, ConfigError> {
        let hosts = Hosts::new(route, config);
        let by_header = config.features.tag_header_based_routing.is_enabled();
        let paths: Vec<(&str, Path)> = traffic
            .by_tag()
            .map(|(tag, targets)| {
                let shares = targets.iter().flat_map(|target| shares(target, tag, rollout));
                (tag, Path { splits: splits(route.namespace(), shares), ..Path::default() })
            })
            .collect();
        let chosen_by_header = |(tag, path): &(&str, Path)| Path {
            match_headers: Headers::from([(TAG_HEADER.to_owned(), (*tag).to_owned())]),
            ..path.clone()
        };

        let mut rules = Vec::new();
        for (tag, path) in &paths {
            let mut path = path.clone();
            let mut before = Vec::new();
            if by_header {
                let (header, value) = if tag.is_empty() { (DEFAULT_ROUTE_HEADER, "true") } else { (TAG_HEADER, *tag) };
                path.append_headers.insert(header.to_owned(), value.to_owned());
                if tag.is_empty() {
                    before.extend(paths.iter().filter(|(tag, _)| !tag.is_empty()).map(chosen_by_header));
                }
            }
            before.push(path);
            let internal = hosts.internal_names(tag)?.into_iter().collect();
            rules.push(Rule { hosts: internal, visibility: Visibility::ClusterLocal, paths: before.clone() });
            if !hosts.is_internal() {
                let external = vec![hosts.external(tag)?];
                rules.push(Rule { hosts: external, visibility: Visibility::ExternalIp, paths: before });
            }
        }
        Ok(Self { rules })
    }

    /// All rules: of the main host first, then of the tags in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule for a host as a request names it: the port and the case do not matter.
    pub fn find(&self, host: &str) -> Option<&Rule> {
        let host = normalized(host);
        self.rules.iter().find(|rule| rule.hosts.contains(&host))
    }

    /// The names of all revisions that get requests, some more than once.
    pub fn revisions(&self) -> impl Iterator<Item = &str> {
        self.rules
            .iter()
            .flat_map(|rule| &rule.paths)
            .flat_map(|path| &path.splits)
            .map(|split| split.revision.as_str())
    }
}

impl Rule {
    /// Who serves a request; `header` is the request's value of a header.
    pub fn path<'a>(&self, header: impl Fn(&str) -> Option<&'a str>) -> Option<&Path> {
        self.paths.iter().find(|path| {
            path.match_headers.iter().all(|(name, wanted)| header(name).is_some_and(|value| value == wanted))
        })
    }
}

impl Path {
    /// Chooses a revision by its part; `random` is evenly spread over all numbers.
    pub fn choose(&self, random: u64) -> Option<&Split> {
        let total: u64 = self.splits.iter().map(|split| u64::from(split.percent)).sum();
        let mut point = random.checked_rem(total)?;
        self.splits.iter().find(|split| {
            let is_hit = point < u64::from(split.percent);
            point = point.saturating_sub(u64::from(split.percent));
            is_hit
        })
    }
}

fn splits(namespace: &str, shares: impl Iterator<Item = (String, i64)>) -> Vec<Split> {
    shares
        .filter_map(|(revision, percent)| {
            let percent = u32::try_from(percent).ok().filter(|percent| *percent > 0)?;
            let append_headers = Headers::from([
                (NAMESPACE_HEADER.to_owned(), namespace.to_owned()),
                (REVISION_HEADER.to_owned(), revision.clone()),
            ]);
            Some(Split { revision, percent, append_headers })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::config::DomainConfig;
    use crate::resource::TrafficTarget;
    use crate::revision::Readiness;
    use crate::traffic::{ConfigurationView, Lookup, RevisionView};

    /// A namespace in which every revision is ready.
    struct AllReady;

    impl Lookup for AllReady {
        fn configuration(&self, _: &str) -> Option<ConfigurationView<'_>> {
            Some(ConfigurationView { latest_ready: Some("hello-00002"), is_failed: false })
        }

        fn revision(&self, _: &str) -> Option<RevisionView<'_>> {
            let readiness = &Readiness::Ready;
            Some(RevisionView { service: "hello".into(), configuration: "hello", readiness })
        }
    }

    fn routing(by_header: bool) -> Routing {
        let mut config = Config { domain: DomainConfig::single("example.com"), ..Config::default() };
        let flag = if by_header { "enabled" } else { "disabled" };
        config.set("config-features", &[("tag-header-based-routing".to_owned(), flag.to_owned())].into()).unwrap();
        let spec = [
            TrafficTarget { configuration_name: "hello".to_owned(), ..TrafficTarget::latest(30) },
            TrafficTarget::pinned("hello-00001", 70).tagged("old"),
        ];
        let traffic = Traffic::resolve(&spec, Some("hello"), &AllReady).unwrap();
        Routing::new(&ObjectMeta::named("ns", "hello"), &traffic, &traffic.rollout(), &config).unwrap()
    }

    /// The first revision's name and the headers set, for a tag in a header.
    #[track_caller]
    fn check(routing: &Routing, host: &str, tag: Option<&'static str>, revision: &str, headers: &[(&str, &str)]) {
        let path = routing.find(host).unwrap().path(|name| tag.filter(|_| name == TAG_HEADER)).unwrap();
        assert_eq!(path.splits[0].revision, revision);
        let set: Vec<(&str, &str)> =
            path.append_headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(set, headers);
    }

    #[test]
    fn a_tag_in_a_header_chooses_if_the_cluster_wants_it() {
        let routing = routing(true);
        check(&routing, "hello.ns.example.com", None, "hello-00002", &[(DEFAULT_ROUTE_HEADER, "true")]);
        check(&routing, "hello.ns.example.com", Some("none"), "hello-00002", &[(DEFAULT_ROUTE_HEADER, "true")]);
        check(&routing, "hello.ns.example.com:80", Some("old"), "hello-00001", &[]);
        check(&routing, "hello.ns", Some("old"), "hello-00001", &[]);
        check(&routing, "old-hello.ns.example.com", None, "hello-00001", &[(TAG_HEADER, "old")]);
    }

    #[test]
    fn a_tag_in_a_header_is_ignored_otherwise() {
        let routing = routing(false);
        check(&routing, "HELLO.ns.example.com", Some("old"), "hello-00002", &[]);
        check(&routing, "old-hello.ns.svc", None, "hello-00001", &[]);
        assert_eq!(routing.find("none.ns.example.com"), None);
    }

    #[test]
    fn whoever_is_chosen_is_named_in_headers() {
        let routing = routing(false);
        let split = &routing.find("old-hello.ns").unwrap().paths[0].splits[0];
        assert_eq!((split.percent, split.append_headers[REVISION_HEADER].as_str()), (100, "hello-00001"));
        assert_eq!(split.append_headers[NAMESPACE_HEADER], "ns");
    }

    #[test]
    fn chance_follows_the_percents() {
        let routing = routing(false);
        let path = &routing.find("hello.ns").unwrap().paths[0];
        let count = |name: &str| (0..100).filter(|random| path.choose(*random).unwrap().revision == name).count();
        assert_eq!((count("hello-00002"), count("hello-00001")), (30, 70));
        assert_eq!(path.choose(u64::MAX), path.choose(u64::MAX % 100));
        assert_eq!(Path::default().choose(7), None);
    }
}
