//! What held and what did not: a table for people, JSON for programs, an exit code for shells.

use std::{collections::BTreeMap, fmt, future::Future, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    failure::{Failure, Result},
    wait::{Teller, duration},
};

/// Every step, in order. What comes before [`NAMESPACE`] and that itself decide whether anything is begun.
pub const STEPS: [&str; 19] = [
    PRECONDITIONS,
    NAMESPACE,
    "bad manifests",
    "manifests",
    "ready",
    "doctor",
    "data set",
    "training",
    "serving",
    "prediction",
    "to zero",
    "cold request",
    "burst",
    "second version",
    "canary",
    "promotion",
    "roll back",
    "to zero again",
    CLEAN_UP,
];

/// Whether the cluster has what is needed.
pub const PRECONDITIONS: &str = "preconditions";

/// The namespace of the run.
pub const NAMESPACE: &str = "namespace";

/// Removing what was made.
pub const CLEAN_UP: &str = "clean up";

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Held,
    /// Not as it should be.
    Failed,
    /// It was not tried.
    Skipped,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// What was found out when something held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// In a sentence.
    pub says: String,
    /// By name with its unit, such as `cold_seconds`.
    pub figures: BTreeMap<&'static str, f64>,
}

impl<T: Into<String>> From<T> for Held {
    fn from(says: T) -> Self {
        Self { says: says.into(), ..Self::default() }
    }
}

impl Held {
    /// With a figure.
    pub fn figure(mut self, name: &'static str, value: f64) -> Self {
        self.figures.insert(name, value);
        self
    }
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Which.
    pub step: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
    /// What was found out, or why not.
    #[serde(flatten)]
    pub told: Failure,
    /// By name with its unit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<&'static str, f64>,
}

/// What became of all steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Id of the run, on everything that it made.
    pub run: String,
    /// Where it took place.
    pub namespace: String,
    /// How long it took.
    pub seconds: f64,
    /// In order.
    pub steps: Vec<Step>,
}

/// A report that is being written.
pub struct Book<'a> {
    teller: &'a Teller,
    began: Instant,
    current: Option<(&'static str, Instant)>,
    steps: Vec<Step>,
}

impl<'a> Book<'a> {
    /// Without any step.
    pub fn new(teller: &'a Teller) -> Self {
        Self { teller, began: Instant::now(), current: None, steps: vec![] }
    }

    /// Takes a step; `None` if it fails. What is seen then, is gathered by the second future.
    pub async fn step<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = Result<(T, Held)>>,
        look: impl Future<Output = Failure>,
    ) -> Option<T> {
        self.teller.tell(&format!("==> {step}"));
        self.current = Some((step, Instant::now()));
        match work.await {
            Ok((found, held)) => {
                self.write(step, Outcome::Held, Failure::new(held.says), held.figures);
                Some(found)
            }
            Err(failure) => {
                self.teller.tell(&format!("  failed: {}", failure.says));
                let Failure { seen, mend, .. } = look.await;
                let mut failure = failure.seen(seen);
                failure.mend.extend(mend);
                self.write(step, Outcome::Failed, failure, BTreeMap::new());
                None
            }
        }
    }

    /// How a step ended; `None` if it has not.
    pub fn outcome(&self, step: &str) -> Option<Outcome> {
        self.steps.iter().find(|written| written.step == step).map(|written| written.outcome)
    }

    /// Writes that a step is not taken.
    pub fn skip(&mut self, step: &'static str, why: impl Into<String>) {
        self.write(step, Outcome::Skipped, Failure::new(why), BTreeMap::new());
    }

    /// Writes what is not there yet: the step that was interrupted, and those that were never begun.
    pub fn close(&mut self, interrupted: bool) {
        if interrupted {
            let step = self.current.map_or(PRECONDITIONS, |(step, _)| step);
            self.write(step, Outcome::Failed, Failure::new("interrupted"), BTreeMap::new());
        }
        let failed = self.steps.iter().rev().find(|step| step.outcome == Outcome::Failed).map(|step| step.step);
        for step in STEPS {
            if step != CLEAN_UP && self.steps.iter().all(|written| written.step != step) {
                let because = failed.map_or_else(String::new, |failed| format!(", for \"{failed}\" did not hold"));
                self.skip(step, format!("not tried{because}"));
            }
        }
    }

    fn write(&mut self, step: &'static str, outcome: Outcome, told: Failure, figures: BTreeMap<&'static str, f64>) {
        let took = self.current.take().filter(|(current, _)| *current == step);
        let took = took.map_or(Duration::ZERO, |(_, began)| began.elapsed());
        if outcome == Outcome::Held {
            self.teller.tell(&format!("  held after {}: {}", duration(took), told.says));
        }
        self.steps.push(Step { step, outcome, seconds: took.as_secs_f64(), told, figures });
    }

    /// The report as it is now.
    pub fn report(self, run: &str, namespace: &str) -> Report {
        let seconds = self.began.elapsed().as_secs_f64();
        Report { run: run.to_owned(), namespace: namespace.to_owned(), seconds, steps: self.steps }
    }
}

impl Report {
    /// 0 if everything held, 1 if something did not, 2 if nothing could be begun.
    pub fn exit_code(&self) -> u8 {
        let is = |step: &Step, outcome| step.outcome == outcome;
        let could_not_begin =
            |step: &Step| [PRECONDITIONS, NAMESPACE].contains(&step.step) && is(step, Outcome::Failed);
        if self.steps.iter().any(could_not_begin) {
            return 2;
        }
        // Nothing is removed where that was the wish.
        let all_held = self
            .steps
            .iter()
            .all(|step| is(step, Outcome::Held) || step.step == CLEAN_UP && is(step, Outcome::Skipped));
        u8::from(!all_held)
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.step == name)
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.steps.iter().filter(|step| step.outcome == outcome).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.steps.iter().map(|step| step.step.len()).max().unwrap_or(0);
        for Step { step, outcome, seconds, told, .. } in &self.steps {
            writeln!(f, "{:7}  {step:widest$}  {seconds:7.1} s  {}", outcome.word(), told.says)?;
        }
        for Step { step, told, .. } in self.steps.iter().filter(|step| step.outcome == Outcome::Failed) {
            if !told.seen.is_empty() {
                writeln!(f, "\nseen when \"{step}\" failed:")?;
                told.seen.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
            if !told.mend.is_empty() {
                writeln!(f, "\nto mend \"{step}\", or to look further:")?;
                told.mend.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
        }
        writeln!(
            f,
            "\n{} held, {} failed, {} skipped; run {} in namespace {}, {}",
            self.count(Outcome::Held),
            self.count(Outcome::Failed),
            self.count(Outcome::Skipped),
            self.run,
            self.namespace,
            duration(Duration::from_secs_f64(self.seconds))
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use tokio::time::sleep;

    use super::*;

    async fn written(fails: &'static str) -> Report {
        let teller = Teller::new(|_| {});
        let mut book = Book::new(&teller);
        for step in STEPS {
            let work = async {
                sleep(Duration::from_millis(1500)).await;
                if step == fails { Err(Failure::new("it is not so")) } else { Ok(((), Held::from("it is so"))) }
            };
            let look = async { Failure::default().seen(["pod a: Pending".to_owned()]).mend("kubectl get pods") };
            if book.step(step, work, look).await.is_none() {
                break;
            }
        }
        book.close(false);
        book.report("r1", "n1")
    }

    #[tokio::test(start_paused = true)]
    async fn the_exit_code_tells_whether_all_held_something_failed_or_nothing_was_begun() {
        for (fails, code) in [("", 0), ("burst", 1), (CLEAN_UP, 1), (NAMESPACE, 2), (PRECONDITIONS, 2)] {
            assert_eq!(written(fails).await.exit_code(), code, "{fails}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_follows_a_failure_is_told_as_skipped_for_it() {
        let report = written("canary").await;
        assert_eq!(report.steps.len(), STEPS.len() - 1, "cleaning up is nobody else's to write");
        let promotion = report.step("promotion").unwrap();
        assert_eq!((promotion.outcome, promotion.seconds), (Outcome::Skipped, 0.0));
        assert_eq!(promotion.told.says, "not tried, for \"canary\" did not hold");
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_has_timings_and_what_was_seen_when_something_failed() {
        let text = written("to zero").await.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "held     preconditions       1.5 s  it is so");
        assert!(lines.contains(&"failed   to zero             1.5 s  it is not so"), "{text}");
        assert!(text.contains("seen when \"to zero\" failed:\n  pod a: Pending\n"), "{text}");
        assert!(text.contains("to mend \"to zero\", or to look further:\n  kubectl get pods\n"), "{text}");
        assert!(text.ends_with("10 held, 1 failed, 7 skipped; run r1 in namespace n1, 16 s\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn as_json_every_step_has_its_outcome_seconds_and_figures() {
        let teller = Teller::new(|_| {});
        let mut book = Book::new(&teller);
        let work = async { Ok(((), Held::from("woke").figure("cold_seconds", 2.5))) };
        book.step("cold request", work, async { Failure::default() }).await.unwrap();
        let json = serde_json::to_value(book.report("r1", "n1")).unwrap();
        assert_eq!(
            json["steps"][0],
            serde_json::json!({
                "step": "cold request", "outcome": "held", "seconds": 0.0, "says": "woke", "seen": [], "mend": [],
                "figures": {"cold_seconds": 2.5},
            })
        );
    }
}
