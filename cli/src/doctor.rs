//! `fovea doctor`: what a cluster lacks, and the commands that mend it.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use cluster::{
    Cluster,
    connection::Source,
    doctor::{Doctor, Finding, Outcome},
};

use crate::admin;

/// What `fovea doctor` can be told.
#[derive(Args)]
pub struct Options {
    /// The kubeconfig of the cluster [default: KUBECONFIG, or ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// Namespace that Fovea lives in
    #[arg(long, env = "FOVEA_NAMESPACE", default_value = "ml-app", value_name = "NAME")]
    namespace: String,

    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Examines the cluster; the exit code tells whether anything failed.
pub fn run(options: &Options, out: &mut impl Write) -> Result<ExitCode> {
    let source = Source {
        kubeconfig: options.kubeconfig.as_deref(),
        context: options.context.as_deref(),
        namespace: Some(&options.namespace),
    };
    let findings = admin::block_on(async {
        let cluster = Cluster::connect(source).await?;
        Ok(Doctor::new(cluster, env!("CARGO_PKG_VERSION")).examine().await)
    })?;
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        for line in lines(&findings) {
            writeln!(out, "{line}")?;
        }
    }
    let is_bad = findings.iter().any(|finding| finding.outcome == Outcome::Failed);
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn lines(findings: &[Finding]) -> Vec<String> {
    let widest = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut lines = vec![];
    for Finding { check, outcome, says, mend } in findings {
        lines.push(format!("{:7}  {check:widest$}  {says}", word(*outcome)));
        lines.extend(mend.iter().map(|mend| format!("{:7}  {:widest$}  mend: {mend}", "", "")));
    }
    let count = |outcome: Outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    lines.push(format!(
        "{} looked at: {} ok, {} warnings, {} failed, {} unknown",
        findings.len(),
        count(Outcome::Ok),
        count(Outcome::Warning),
        count(Outcome::Failed),
        count(Outcome::Unknown)
    ));
    lines
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Warning => "warning",
        Outcome::Failed => "failed",
        Outcome::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stand_in_columns_with_what_mends_them_beneath() {
        let finding = |check, outcome, mend: Option<&str>| Finding {
            check,
            outcome,
            says: "seen".into(),
            mend: mend.map(str::to_owned),
        };
        let findings =
            [finding("volumes", Outcome::Ok, None), finding("API server", Outcome::Failed, Some("kubectl do"))];
        assert_eq!(
            lines(&findings),
            [
                "ok       volumes     seen",
                "failed   API server  seen",
                "                     mend: kubectl do",
                "2 looked at: 1 ok, 0 warnings, 1 failed, 0 unknown"
            ]
        );
    }
}
