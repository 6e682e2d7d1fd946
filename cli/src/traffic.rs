//! `fovea traffic`: who gets which part of a function's requests.

use std::io::Write;

use anyhow::{Result, ensure};
use api::functions::TrafficTarget;
use clap::Args;

use crate::{
    admin::{self, Admin},
    view,
};

/// What `fovea traffic` can be told.
#[derive(Args)]
pub struct Options {
    /// The function, such as inference or default/inference
    name: String,

    /// Who gets how much: latest=10, inference-00002=90, or with a tag inference-00002=90@old; one alone gets all.
    /// Revisions and tags that are not named get nothing and go
    #[arg(required = true, value_name = "REVISION=PERCENT[@TAG]", value_parser = target)]
    targets: Vec<Target>,

    #[command(flatten)]
    admin: admin::AdminArgs,
}

/// One part, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    revision: String,
    percent: Option<i64>,
    tag: Option<String>,
}

/// Edits the split and prints what comes of it.
pub fn run(options: &Options, out: &mut impl Write) -> Result<()> {
    let targets = wishes(&options.targets)?;
    let admin = Admin::new(&options.admin)?;
    let service = admin::block_on(async {
        let status = admin.status().await?;
        admin.set_traffic(admin::find(&status, &options.name)?, &targets).await
    })?;
    writeln!(out, "{}  {}", service.label(), view::traffic(&service))?;
    Ok(())
}

fn target(text: &str) -> Result<Target, String> {
    let (rest, tag) = match text.split_once('@') {
        Some((rest, tag)) => (rest, Some(tag.to_owned())),
        None => (text, None),
    };
    let (revision, percent) = match rest.split_once('=') {
        Some((revision, percent)) => {
            let percent = percent.strip_suffix('%').unwrap_or(percent);
            let number = percent.parse().map_err(|_| format!("{percent:?} is no percentage; expected 0 to 100"))?;
            (revision, Some(number))
        }
        None => (rest, None),
    };
    match revision {
        "" => Err("expected a revision's name, or latest".into()),
        revision => Ok(Target { revision: revision.to_owned(), percent, tag }),
    }
}

/// As the runtime is asked. What the parts come to together is its business.
fn wishes(targets: &[Target]) -> Result<Vec<TrafficTarget>> {
    let alone = targets.len() == 1;
    targets
        .iter()
        .map(|Target { revision, percent, tag }| {
            ensure!(percent.is_some() || alone, "{revision} has no percentage; say {revision}=10, for example");
            let named = (revision != "latest").then_some(revision.as_str());
            Ok(TrafficTarget::part(named, percent.unwrap_or(100), tag.as_deref()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[track_caller]
    fn check(typed: &[&str], expected: Result<&[TrafficTarget], &str>) {
        let targets: Result<Vec<_>, _> = typed.iter().map(|text| target(text)).collect();
        let wished = targets.and_then(|targets| wishes(&targets).map_err(|error| error.to_string()));
        assert_eq!(wished, expected.map(<[_]>::to_vec).map_err(str::to_owned));
    }

    #[test]
    fn parts_are_spelled_as_manifests_spell_them() {
        check(&["latest"], Ok(&[TrafficTarget::part(None, 100, None)]));
        check(&["f-00001"], Ok(&[TrafficTarget::part(Some("f-00001"), 100, None)]));
        check(&["f-00001@old"], Ok(&[TrafficTarget::part(Some("f-00001"), 100, Some("old"))]));
        check(
            &["latest=10%", "f-00002=90@stable", "f-00001=0@old"],
            Ok(&[
                TrafficTarget::part(None, 10, None),
                TrafficTarget::part(Some("f-00002"), 90, Some("stable")),
                TrafficTarget::part(Some("f-00001"), 0, Some("old")),
            ]),
        );
    }

    #[test]
    fn parts_beyond_reason_are_the_runtimes_to_refuse() {
        check(
            &["latest=150", "f-00001=-50"],
            Ok(&[TrafficTarget::part(None, 150, None), TrafficTarget::part(Some("f-00001"), -50, None)]),
        );
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        check(&["latest=all"], Err("\"all\" is no percentage; expected 0 to 100"));
        check(&["=10"], Err("expected a revision's name, or latest"));
        check(&["latest=10", "f-00001"], Err("f-00001 has no percentage; say f-00001=10, for example"));
    }
}
