//! What a cluster's ConfigMaps set for all Services. Keys that Knative does not know, and those that only concern
//! certificates, images and Kubernetes' own objects, are ignored.

mod defaults;
mod deployment;
mod features;
mod network;
mod template;

use std::collections::BTreeMap;
use std::fmt::Display;

use autoscaler::{AutoscalerConfig, go};
use thiserror::Error;

use crate::gc::GcConfig;

pub use defaults::DefaultsConfig;
pub use deployment::DeploymentConfig;
pub use features::{Features, Flag, SecurePodDefaults};
pub use network::{DomainConfig, NetworkConfig};
pub(crate) use network::{DomainValues, TagValues};
pub use template::Template;

/// The `data` of a ConfigMap.
pub type ConfigMapData = BTreeMap<String, String>;

/// Why a ConfigMap is refused, in Knative's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn refused(message: impl Display) -> Self {
        Self(message.to_string())
    }
}

/// The settings of a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// `config-autoscaler`
    pub autoscaler: AutoscalerConfig,
    /// `config-defaults`
    pub defaults: DefaultsConfig,
    /// `config-deployment`
    pub deployment: DeploymentConfig,
    /// `config-domain`
    pub domain: DomainConfig,
    /// `config-features`
    pub features: Features,
    /// `config-gc`
    pub gc: GcConfig,
    /// `config-network`
    pub network: NetworkConfig,
}

impl Config {
    /// Names of the ConfigMaps that are read.
    pub const NAMES: [&str; 7] = [
        "config-autoscaler",
        "config-defaults",
        "config-deployment",
        "config-domain",
        "config-features",
        "config-gc",
        "config-network",
    ];

    /// Replaces what one ConfigMap sets; keys absent from it get Knative's defaults.
    ///
    /// Answers whether a ConfigMap of that name is read at all.
    ///
    /// # Errors
    /// What Knative's own check of the ConfigMap says; nothing is replaced then.
    pub fn set(&mut self, name: &str, data: &ConfigMapData) -> Result<bool, ConfigError> {
        match name {
            "config-autoscaler" => {
                self.autoscaler = AutoscalerConfig::from_config_map(data).map_err(ConfigError::refused)?;
            }
            "config-defaults" => self.defaults = DefaultsConfig::from_config_map(data)?,
            "config-deployment" => self.deployment = DeploymentConfig::from_config_map(data)?,
            "config-domain" => self.domain = DomainConfig::from_config_map(data)?,
            "config-features" => self.features = Features::from_config_map(data),
            "config-gc" => self.gc = GcConfig::from_config_map(data)?,
            "config-network" => self.network = NetworkConfig::from_config_map(data)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Reads a value if it is there.
fn parse<T, E: Display>(
    data: &ConfigMapData,
    key: &str,
    target: &mut T,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<(), ConfigError> {
    if let Some(text) = data.get(key) {
        *target = parse(text).map_err(|cause| ConfigError(format!("failed to parse {}: {cause}", go::quote(key))))?;
    }
    Ok(())
}

/// Reads a 64-bit integer if it is there.
pub(crate) fn parse_int64(data: &ConfigMapData, key: &str, target: &mut i64) -> Result<(), ConfigError> {
    parse(data, key, target, go::parse_int)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn every_config_map_that_is_read_has_a_name() {
        for name in Config::NAMES {
            assert_eq!(Config::default().set(name, &BTreeMap::new()), Ok(true), "{name}");
        }
        assert_eq!(Config::default().set("config-logging", &BTreeMap::new()), Ok(false));
    }

    #[test]
    fn an_empty_config_map_sets_knatives_defaults() {
        let mut config = Config::default();
        for name in Config::NAMES {
            config.set(name, &BTreeMap::new()).unwrap();
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn a_refused_config_map_changes_nothing() {
        let mut config = Config::default();
        let data = BTreeMap::from([("stable-window".to_owned(), "1s".to_owned())]);
        let error = config.set("config-autoscaler", &data).unwrap_err();
        assert_eq!(error.to_string(), "stable-window = 1s, must be in [6s; 1h0m0s] range");
        assert_eq!(config, Config::default());
    }
}
