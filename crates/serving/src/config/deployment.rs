//! The part of the ConfigMap `config-deployment` that concerns more than Kubernetes' own objects.
//!
//! # Source
//! `pkg/deployment/config.go` of Knative Serving.

use std::time::Duration;

use autoscaler::go::{self, NANOS_PER_SECOND};

use super::{ConfigError, ConfigMapData, parse};

/// How instances are deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentConfig {
    /// How long instances may take to become ready.
    pub progress_deadline: Duration,
}

impl Default for DeploymentConfig {
    fn default() -> Self {
        Self { progress_deadline: Duration::from_secs(600) }
    }
}

impl DeploymentConfig {
    /// Reads the `data` of a ConfigMap; keys that are absent keep their defaults.
    ///
    /// # Errors
    /// A deadline that cannot be read or is out of range, in Knative's words.
    pub fn from_config_map(data: &ConfigMapData) -> Result<Self, ConfigError> {
        let mut nanos = 600 * NANOS_PER_SECOND;
        for key in ["progressDeadline", "progress-deadline"] {
            parse(data, key, &mut nanos, go::parse_duration)?;
        }
        let text = go::format_duration(nanos);
        match u64::try_from(nanos) {
            Err(_) | Ok(0) => {
                Err(ConfigError::refused(format!("progress-deadline cannot be a non-positive duration, was {text}")))
            }
            Ok(_) if nanos % NANOS_PER_SECOND != 0 => {
                Err(ConfigError::refused(format!("progress-deadline must be rounded to a whole second, was: {text}")))
            }
            Ok(nanos) => Ok(Self { progress_deadline: Duration::from_nanos(nanos) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, wanted: Result<u64, &str>) {
        let data = [("progress-deadline".to_owned(), value.to_owned())].into();
        let read = DeploymentConfig::from_config_map(&data);
        let read = read.map(|config| config.progress_deadline.as_secs()).map_err(|error| error.to_string());
        assert_eq!(read, wanted.map_err(str::to_owned));
    }

    #[test]
    fn the_deadline_is_a_positive_number_of_whole_seconds() {
        check("1m30s", Ok(90));
        check("0s", Err("progress-deadline cannot be a non-positive duration, was 0s"));
        check("-1s", Err("progress-deadline cannot be a non-positive duration, was -1s"));
        check("1500ms", Err("progress-deadline must be rounded to a whole second, was: 1.5s"));
        check("90", Err(r#"failed to parse "progress-deadline": time: missing unit in duration "90""#));
    }
}
