//! What a function is to be: parsed from `key=value,…`, validated, nothing touched yet.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use bytesize::ByteSize;
use http::uri::PathAndQuery;

use crate::RuntimeError;

/// One function: which component, where it listens, what it may see and what it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSpec {
    /// Name in logs and revisions: lower-case letters, digits and dashes.
    pub name: String,
    /// The component's file.
    pub component: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The one directory its guests may read.
    pub mount: Option<Mount>,
    /// Path that answers 2xx once an instance with a mounted directory is warm. Asked before a revision serves.
    pub ready: Option<PathAndQuery>,
    /// The guests' whole environment.
    pub env: Vec<(String, String)>,
    /// What a request may use.
    pub limits: Limits,
}

/// A directory of the host and where guests see it, read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Directory on the host, or a symbolic link to it that may change at any time. It may be missing.
    pub host: PathBuf,
    /// Absolute path inside the guest.
    pub guest: String,
}

/// What a function's requests may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance.
    pub memory_bytes: usize,
    /// From the moment a request has its place to its whole answer.
    pub timeout: Duration,
    /// How long a request may wait for its place.
    pub queue_timeout: Duration,
    /// Request body.
    pub max_body_bytes: usize,
    /// Answer body.
    pub max_response_bytes: usize,
    /// What a guest may log during one request; the rest is dropped and counted.
    pub max_log_bytes: usize,
    /// Places: requests that are computed at once. Further ones wait.
    pub concurrency: usize,
    /// Requests an instance answers before a fresh one takes its turn.
    pub reuse: u32,
    /// How long an instance may wait for its next request before it is dropped.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            timeout: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(30),
            max_body_bytes: 64 << 20,
            max_response_bytes: 64 << 20,
            max_log_bytes: 64 << 10,
            concurrency: std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)),
            reuse: 10_000,
            idle: Duration::from_secs(300),
        }
    }
}

impl FunctionSpec {
    /// A function with default limits, no mount and no environment.
    pub fn new(name: impl Into<String>, component: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            name: name.into(),
            component: component.into(),
            listen,
            mount: None,
            ready: None,
            env: Vec::new(),
            limits: Limits::default(),
        }
    }
}

impl FromStr for FunctionSpec {
    type Err = RuntimeError;

    /// Parses `name=…,component=…,listen=…` and any of `mount=HOST:GUEST`, `ready=/path`, `env=KEY=VALUE` (may
    /// repeat), `memory=512MiB`, `timeout=30s`, `queue-timeout=30s`, `max-body=64MiB`, `max-response=64MiB`,
    /// `max-log=64KiB`, `concurrency=2`, `reuse=10000`, `idle=5min`.
    ///
    /// A comma separates only where `key=` follows, so paths may contain commas.
    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        let pairs = split(text);
        let function = pairs.iter().find(|(key, _)| *key == "name").map_or(text, |(_, name)| name).to_owned();
        parse(&pairs).map_err(|reason| RuntimeError::Spec { function, reason })
    }
}

/// Splits `key=value,key=value` at the commas that a key and an equals sign follow.
fn split(text: &str) -> Vec<(&str, &str)> {
    let starts_pair = |rest: &str| {
        rest.split_once('=').is_some_and(|(key, _)| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        })
    };
    let mut pairs = Vec::new();
    let mut start = 0;
    for (comma, _) in text.match_indices(',').chain([(text.len(), "")]) {
        if comma == text.len() || starts_pair(&text[comma + 1..]) {
            let pair = &text[start..comma];
            pairs.push(pair.split_once('=').unwrap_or((pair, "")));
            start = comma + 1;
        }
    }
    pairs
}

fn parse(pairs: &[(&str, &str)]) -> Result<FunctionSpec, String> {
    let (mut name, mut component, mut listen, mut mount, mut ready) = (None, None, None, None, None);
    let mut env = Vec::new();
    let mut limits = Limits::default();
    let mut seen = Vec::new();
    for &(key, value) in pairs {
        if key != "env" && seen.contains(&key) {
            return Err(format!("`{key}` is given twice"));
        }
        seen.push(key);
        match key {
            "name" => name = Some(parse_name(value)?),
            "component" => component = Some(parse_path(key, value)?),
            "listen" => listen = Some(parse_as(key, value, "an address such as 127.0.0.1:8081")?),
            "mount" => mount = Some(parse_mount(value)?),
            "ready" => ready = Some(parse_ready(value)?),
            "env" => env.push(parse_env(value)?),
            "memory" => limits.memory_bytes = parse_size(key, value)?,
            "timeout" => limits.timeout = parse_duration(key, value)?,
            "queue-timeout" => limits.queue_timeout = parse_duration(key, value)?,
            "max-body" => limits.max_body_bytes = parse_size(key, value)?,
            "max-response" => limits.max_response_bytes = parse_size(key, value)?,
            "max-log" => limits.max_log_bytes = parse_size(key, value)?,
            "concurrency" => limits.concurrency = parse_count(key, value)? as usize,
            "reuse" => limits.reuse = parse_count(key, value)?,
            "idle" => limits.idle = parse_duration(key, value)?,
            _ => return Err(format!("unknown key `{key}`; known are {KEYS}")),
        }
    }
    let required = |key: &str| format!("`{key}=` is missing");
    Ok(FunctionSpec {
        name: name.ok_or_else(|| required("name"))?,
        component: component.ok_or_else(|| required("component"))?,
        listen: listen.ok_or_else(|| required("listen"))?,
        mount,
        ready,
        env,
        limits,
    })
}

const KEYS: &str = "name, component, listen, mount, ready, env, memory, timeout, queue-timeout, max-body, \
                    max-response, max-log, concurrency, reuse and idle";

fn parse_as<T: FromStr>(key: &str, value: &str, expected: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("`{key}={value}` is not {expected}"))
}

fn parse_name(value: &str) -> Result<String, String> {
    let valid = (1..=63).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !value.starts_with('-')
        && !value.ends_with('-');
    if valid {
        Ok(value.to_owned())
    } else {
        Err(format!("`name={value}` must be 1 to 63 lower-case letters, digits and inner dashes"))
    }
}

fn parse_path(key: &str, value: &str) -> Result<PathBuf, String> {
    if value.is_empty() { Err(format!("`{key}=` needs a path")) } else { Ok(PathBuf::from(value)) }
}

fn parse_mount(value: &str) -> Result<Mount, String> {
    match value.rsplit_once(':') {
        Some((host, guest)) if !host.is_empty() && guest.len() > 1 && guest.starts_with('/') => {
            Ok(Mount { host: PathBuf::from(host), guest: guest.to_owned() })
        }
        _ => Err(format!("`mount={value}` is not HOSTDIR:/guest/path")),
    }
}

fn parse_ready(value: &str) -> Result<PathAndQuery, String> {
    if value.starts_with('/') {
        parse_as("ready", value, "a path such as /health/ready")
    } else {
        Err(format!("`ready={value}` is not a path such as /health/ready"))
    }
}

fn parse_env(value: &str) -> Result<(String, String), String> {
    match value.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`env={value}` is not env=KEY=VALUE")),
    }
}

fn parse_size(key: &str, value: &str) -> Result<usize, String> {
    let size: ByteSize = parse_as(key, value, "a size such as 512MiB")?;
    match usize::try_from(size.as_u64()) {
        Ok(bytes @ 1..) => Ok(bytes),
        _ => Err(format!("`{key}={value}` must be at least one byte")),
    }
}

fn parse_duration(key: &str, value: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(value)
        .map_err(|_| format!("`{key}={value}` is not a time with its unit, such as 30s or 500ms"))?;
    if (Duration::from_millis(1)..=LONGEST).contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("`{key}={value}` is not between 1ms and one day"))
    }
}

/// Longer than any sensible limit, and short enough for every clock.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn parse_count(key: &str, value: &str) -> Result<u32, String> {
    let count = parse_as(key, value, "a whole number")?;
    if (1..=100_000).contains(&count) { Ok(count) } else { Err(format!("`{key}={value}` is not between 1 and 100000")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const LEAST: &str = "name=preprocess,component=p.wasm,listen=127.0.0.1:8081";

    #[track_caller]
    fn refuses(text: &str, because: &str) {
        let error = text.parse::<FunctionSpec>().unwrap_err().to_string();
        assert!(error.contains(because), "{text}: {error}");
    }

    #[test]
    fn every_key_lands_where_it_belongs() {
        let spec: FunctionSpec = "name=inference,component=target/i.wasm,listen=127.0.0.1:8082,\
             mount=data/models/classifier/current:/model,ready=/health/ready,env=LOG=a=b,env=TZ=UTC,memory=1GiB,\
             timeout=5s,queue-timeout=250ms,max-body=1MiB,max-response=2MiB,max-log=3KiB,concurrency=3,reuse=7,idle=1min"
            .parse()
            .unwrap();
        let expected = FunctionSpec {
            name: "inference".into(),
            component: "target/i.wasm".into(),
            listen: "127.0.0.1:8082".parse().unwrap(),
            mount: Some(Mount { host: "data/models/classifier/current".into(), guest: "/model".into() }),
            ready: Some(PathAndQuery::from_static("/health/ready")),
            env: vec![("LOG".into(), "a=b".into()), ("TZ".into(), "UTC".into())],
            limits: Limits {
                memory_bytes: 1 << 30,
                timeout: Duration::from_secs(5),
                queue_timeout: Duration::from_millis(250),
                max_body_bytes: 1 << 20,
                max_response_bytes: 2 << 20,
                max_log_bytes: 3 << 10,
                concurrency: 3,
                reuse: 7,
                idle: Duration::from_secs(60),
            },
        };
        assert_eq!(spec, expected);
    }

    #[test]
    fn what_is_not_given_takes_its_default() {
        let spec: FunctionSpec = LEAST.parse().unwrap();
        assert_eq!(spec, FunctionSpec::new("preprocess", "p.wasm", "127.0.0.1:8081".parse().unwrap()));
    }

    #[test]
    fn paths_may_contain_commas_and_equals_signs() {
        let spec: FunctionSpec = "name=a,component=/x,y/b=c.wasm,listen=[::1]:1,mount=/m:n,o:/model".parse().unwrap();
        assert_eq!(spec.component, PathBuf::from("/x,y/b=c.wasm"));
        assert_eq!(spec.mount.unwrap().host, PathBuf::from("/m:n,o"));
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        refuses("", "unknown key ``");
        refuses("component=p.wasm,listen=127.0.0.1:1", "`name=` is missing");
        refuses("name=a,listen=127.0.0.1:1", "`component=` is missing");
        refuses("name=a,component=p.wasm", "`listen=` is missing");
        refuses("name=A,component=p.wasm,listen=127.0.0.1:1", "lower-case");
        for (extra, because) in [
            ("memroy=1GiB", "unknown key `memroy`"),
            ("name=b", "`name` is given twice"),
            ("timeout=30", "not a time with its unit"),
            ("timeout=0s", "between 1ms and one day"),
            ("memory=lots", "not a size"),
            ("memory=0", "at least one byte"),
            ("concurrency=0", "between 1 and 100000"),
            ("mount=/data", "HOSTDIR:/guest/path"),
            ("mount=/data:model", "HOSTDIR:/guest/path"),
            ("ready=health", "not a path"),
            ("env=KEY", "env=KEY=VALUE"),
        ] {
            refuses(&format!("{LEAST},{extra}"), because);
        }
        refuses("name=a,component=p.wasm,listen=localhost:1", "not an address");
    }
}
