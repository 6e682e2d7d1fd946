//! Defaults, limits and refusals.

use serde::Deserialize;
use serde_json::Value;
use serving::admission::{default_changed, default_new};
use serving::config::{Config, DefaultsConfig};
use serving::manifest::decode;
use serving::name::child_name;
use serving::resource::{ObjectMeta, Service};
use serving::validation::{
    validate_revision_name, validate_service, validate_service_update, validate_timeout_seconds,
};

use crate::{Data, replay, same};

/// Who submits everything.
const USER: Option<&str> = Some("tester");

#[test]
fn config_defaults_are_read_or_refused_alike() {
    #[derive(Deserialize)]
    struct Vector {
        data: Option<Data>,
        error: String,
        expect: Option<Values>,
        expect_ok: bool,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Values {
        allow_container_concurrency_zero: bool,
        container_concurrency: i64,
        container_concurrency_max_limit: i64,
        max_revision_timeout_seconds: i64,
        revision_idle_timeout_seconds: i64,
        revision_response_start_timeout_seconds: i64,
        revision_timeout_seconds: i64,
    }

    replay("config_defaults", |vector: Vector| {
        let read = DefaultsConfig::from_config_map(&vector.data.unwrap_or_default());
        same("ok", read.is_ok(), vector.expect_ok)?;
        let error = read.as_ref().err().map(ToString::to_string).unwrap_or_default();
        same("error", error, vector.error)?;
        let values = read.ok().map(|config| Values {
            allow_container_concurrency_zero: config.allow_container_concurrency_zero,
            container_concurrency: config.container_concurrency,
            container_concurrency_max_limit: config.container_concurrency_max_limit,
            max_revision_timeout_seconds: config.max_revision_timeout_seconds,
            revision_idle_timeout_seconds: config.revision_idle_timeout_seconds,
            revision_response_start_timeout_seconds: config.revision_response_start_timeout_seconds,
            revision_timeout_seconds: config.revision_timeout_seconds,
        });
        same("values", values, vector.expect)
    });
}

#[test]
fn services_are_defaulted_and_refused_alike() {
    #[derive(Deserialize)]
    struct Vector {
        config_autoscaler: Option<Data>,
        config_defaults: Option<Data>,
        service: Value,
        expect_defaulted: Value,
        expect_error: String,
    }

    replay("service_admission", |vector: Vector| {
        let mut config = Config::default();
        for (name, data) in
            [("config-autoscaler", vector.config_autoscaler), ("config-defaults", vector.config_defaults)]
        {
            config.set(name, &data.unwrap_or_default()).map_err(|error| error.to_string())?;
        }
        let service: Service = decode(vector.service).map_err(|error| error.to_string())?;
        let service = default_new(service, &config, USER);
        same("defaulted", serde_json::to_value(&service).unwrap(), vector.expect_defaulted)?;
        same("error", validate_service(&service, &config).to_string(), vector.expect_error)
    });
}

#[test]
fn changed_services_are_refused_alike() {
    #[derive(Deserialize)]
    struct Vector {
        stored: Value,
        submitted: Value,
        expect_error: String,
    }

    replay("service_update", |vector: Vector| {
        let config = Config::default();
        let read = |service| decode::<Service>(service).map_err(|error| error.to_string());
        let stored = read(vector.stored)?;
        let service = default_changed(read(vector.submitted)?, &stored, &config, USER);
        let error = validate_service_update(&service, &stored, &config).to_string();
        // The vectors leave out the differences themselves.
        let error = match error.split_once('\n') {
            Some((message, _)) if message.contains("without a name change") => format!("{message} (diff follows)"),
            _ => error,
        };
        same("error", error, vector.expect_error)
    });
}

#[test]
fn revision_names_are_refused_alike() {
    #[derive(Deserialize)]
    struct Vector {
        parent_name: String,
        parent_generate_name: String,
        template_name: String,
        template_generate_name: String,
        expect_error: String,
    }

    replay("validate_revision_name", |vector: Vector| {
        let parent = ObjectMeta {
            name: vector.parent_name,
            generate_name: vector.parent_generate_name,
            ..ObjectMeta::default()
        };
        let errors = validate_revision_name(&parent, &vector.template_name, &vector.template_generate_name);
        same("error", errors.to_string(), vector.expect_error)
    });
}

#[test]
fn timeouts_are_refused_alike() {
    #[derive(Deserialize)]
    struct Vector {
        timeout_seconds: i64,
        expect_error: String,
    }

    replay("validate_timeout_seconds", |vector: Vector| {
        let errors = validate_timeout_seconds(vector.timeout_seconds, &DefaultsConfig::default());
        same("error", errors.to_string(), vector.expect_error)
    });
}

#[test]
fn children_are_named_alike() {
    #[derive(Deserialize)]
    struct Vector {
        parent: String,
        suffix: String,
        expect: String,
    }

    replay("child_name", |vector: Vector| same("name", child_name(&vector.parent, &vector.suffix), vector.expect));
}
