//! How the progress of a run is told: bars on a terminal, lines elsewhere, JSON for programs.
//!
//! Who cannot be told is no reason to stop: training goes on without them.

use std::{io::Write, time::Duration};

use api::train::{Candidate, CandidateState, EpochMetrics, Progress, Results};
use indicatif::{MultiProgress, ProgressBar};
use serde_json::json;
use store::Run;

use crate::{bar::style, words};

/// Redraws of what moves by itself.
const TICK: Duration = Duration::from_millis(120);

/// Who is told.
pub trait Show {
    /// The run was made.
    fn begin(&mut self, run: &Run);
    /// Something happened.
    fn progress(&mut self, progress: &Progress);
    /// A sentence for people.
    fn note(&mut self, note: &str);
    /// The run has ended; its results, if it has any.
    fn end(&mut self, results: Option<&Results>);
}

/// One JSON object per line.
pub struct Json<W> {
    out: Option<W>,
}

impl<W: Write> Json<W> {
    pub fn new(out: W) -> Self {
        Self { out: Some(out) }
    }

    fn line(&mut self, value: &impl serde::Serialize) {
        let Some(out) = &mut self.out else { return };
        let line = serde_json::to_string(value).expect("plain data serialises");
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            self.out = None;
        }
    }
}

impl<W: Write> Show for Json<W> {
    fn begin(&mut self, run: &Run) {
        self.line(&json!({"event": "run", "run": run.id(), "spec": run.spec}));
    }

    fn progress(&mut self, progress: &Progress) {
        self.line(progress);
    }

    fn note(&mut self, note: &str) {
        self.line(&json!({"event": "note", "note": note}));
    }

    fn end(&mut self, results: Option<&Results>) {
        if let Some(results) = results {
            self.line(&json!({"event": "results", "results": results}));
        }
    }
}

/// A line for each thing that has come to an end.
pub struct Lines<W> {
    out: W,
    stage: String,
    has_candidates: bool,
}

impl<W: Write> Lines<W> {
    pub fn new(out: W) -> Self {
        Self { out, stage: String::new(), has_candidates: false }
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}");
    }
}

impl<W: Write> Show for Lines<W> {
    fn begin(&mut self, run: &Run) {
        self.line(&beginning(run));
    }

    fn progress(&mut self, progress: &Progress) {
        match progress {
            Progress::Stage { stage, .. } if *stage == self.stage => {}
            Progress::Stage { stage, seconds, .. } => {
                self.stage.clone_from(stage);
                self.line(&format!("{:>9}  {}", words::seconds(*seconds), words::stage(stage)));
            }
            Progress::Candidate(candidate) if candidate.state != CandidateState::Running => {
                if !std::mem::replace(&mut self.has_candidates, true) {
                    self.line(CANDIDATES);
                }
                self.line(&candidate_row(candidate));
            }
            Progress::Epoch(metrics) => {
                self.line(&format!("{:>9}  {}", words::seconds(metrics.seconds), epoch(metrics)))
            }
            Progress::Resumed { epoch, .. } => self.line(&resumed(*epoch)),
            Progress::Candidate(_) | Progress::Ranking { .. } | Progress::Step { .. } | Progress::End { .. } => {}
        }
    }

    fn note(&mut self, note: &str) {
        self.line(note);
    }

    fn end(&mut self, _: Option<&Results>) {}
}

/// A bar that shows what is being done, under a growing table of what was tried.
pub struct Bars {
    screen: MultiProgress,
    bar: ProgressBar,
    kind: Kind,
    /// What the last epoch came to, shown during the next one.
    last_epoch: String,
    has_candidates: bool,
}

/// What the bar shows at the moment.
#[derive(PartialEq)]
enum Kind {
    Waiting,
    Stage,
    Search,
    Epochs,
}

impl Bars {
    pub fn new() -> Self {
        let screen = MultiProgress::new();
        let bar = screen.add(ProgressBar::new(0).with_style(style("{spinner} {wide_msg} {elapsed}")));
        bar.enable_steady_tick(TICK);
        bar.set_message("starting the trainer");
        Self { screen, bar, kind: Kind::Waiting, last_epoch: String::new(), has_candidates: false }
    }

    fn become_(&mut self, kind: Kind) {
        if self.kind == kind {
            return;
        }
        let template = match kind {
            Kind::Waiting => "{spinner} {wide_msg} {elapsed}",
            Kind::Stage | Kind::Epochs => "{spinner} {prefix} {bar:24} {pos}/{len}  {wide_msg} {elapsed}",
            Kind::Search => "{spinner} {prefix} {bar:24} {pos} of {len} s  {wide_msg} {elapsed}",
        };
        self.bar.set_style(style(template));
        self.bar.set_message("");
        self.kind = kind;
    }

    fn print(&self, line: &str) {
        let _ = self.screen.println(line);
    }
}

impl Show for Bars {
    fn begin(&mut self, run: &Run) {
        self.print(&beginning(run));
    }

    fn progress(&mut self, progress: &Progress) {
        match progress {
            Progress::Stage { stage, done, total, .. } => {
                self.become_(if stage == "search" { Kind::Search } else { Kind::Stage });
                self.bar.set_prefix(words::stage(stage).to_owned());
                self.bar.set_length(*total);
                self.bar.set_position(*done);
            }
            Progress::Candidate(candidate) if candidate.state == CandidateState::Running => {
                self.bar.set_message(format!("trying {}", words::settings(&candidate.settings)));
            }
            Progress::Candidate(candidate) => {
                if !std::mem::replace(&mut self.has_candidates, true) {
                    self.print(CANDIDATES);
                }
                self.print(&candidate_row(candidate));
            }
            Progress::Step { epoch, step, steps, loss, remaining_seconds, .. } => {
                self.become_(Kind::Epochs);
                self.bar.set_prefix(format!("epoch {epoch}"));
                self.bar.set_length(*steps);
                self.bar.set_position(*step);
                let left = words::seconds(*remaining_seconds);
                self.bar.set_message(format!("loss {loss:.3}  {}  {left} left", self.last_epoch));
            }
            Progress::Epoch(metrics) => {
                let whole = if metrics.epoch > 0 { metrics.step * u64::from(metrics.epochs) } else { 0 };
                self.become_(Kind::Epochs);
                self.last_epoch = figures(metrics);
                self.bar.set_prefix(format!("epoch {}", metrics.epoch));
                self.bar.set_length(whole / u64::from(metrics.epoch.max(1)));
                self.bar.set_position(metrics.step);
                let left = words::seconds(metrics.remaining_seconds);
                self.bar.set_message(format!("{}  {left} left", self.last_epoch));
            }
            Progress::Resumed { epoch, .. } => self.print(&resumed(*epoch)),
            Progress::Ranking { .. } | Progress::End { .. } => {}
        }
    }

    fn note(&mut self, note: &str) {
        self.print(note);
    }

    fn end(&mut self, _: Option<&Results>) {
        self.bar.finish_and_clear();
    }
}

fn beginning(run: &Run) -> String {
    format!("run {}  dataset {}  model {}", run.id(), run.spec.dataset, run.spec.model)
}

fn resumed(epoch: u32) -> String {
    match epoch {
        0 => "another trainer begins anew".to_owned(),
        epoch => format!("another trainer goes on after epoch {epoch}"),
    }
}

/// Headings of [`candidate_row`].
const CANDIDATES: &str = "    #  ROUND  ACCURACY   LOSS     TIME  SETTINGS";

/// A candidate in one line, under the headings whatever comes later.
fn candidate_row(candidate: &Candidate) -> String {
    let Candidate { number, settings, state, rounds, val_accuracy, val_loss, seconds, reason, .. } = candidate;
    let (accuracy, loss, time) = (words::ratio(*val_accuracy), words::ratio(*val_loss), words::seconds(*seconds));
    let ended = match (state, reason) {
        (CandidateState::Tried | CandidateState::Running, _) => String::new(),
        (state, Some(reason)) => format!(": {}, {reason}", state.name()),
        (state, None) => format!(": {}", state.name()),
    };
    let settings = words::settings(settings);
    format!("  {number:>3}  {rounds:>5}  {accuracy:>8}  {loss:>5}  {time:>7}  {settings}{ended}")
}

fn epoch(metrics: &EpochMetrics) -> String {
    let EpochMetrics { epoch, epochs, remaining_seconds, images_per_second, .. } = metrics;
    let left = words::seconds(*remaining_seconds);
    format!("epoch {epoch}/{epochs}  {}  {images_per_second:.0} pictures/s  {left} left", figures(metrics))
}

fn figures(metrics: &EpochMetrics) -> String {
    let EpochMetrics { loss, accuracy, val_loss, val_accuracy, .. } = metrics;
    let validation = match (val_loss, val_accuracy) {
        (Some(loss), Some(accuracy)) => format!("  validation loss {loss:.3}, accuracy {accuracy:.3}"),
        _ => String::new(),
    };
    format!("train loss {loss:.3}, accuracy {accuracy:.3}{validation}")
}

#[cfg(test)]
mod tests {
    use api::train::{Family, Settings};

    use super::*;

    fn metrics() -> EpochMetrics {
        EpochMetrics {
            epoch: 2,
            epochs: 30,
            step: 14,
            loss: 0.5,
            accuracy: 0.75,
            val_loss: Some(0.25),
            val_accuracy: Some(0.875),
            learning_rate: 1e-3,
            images_per_second: 1234.0,
            seconds: 12.25,
            remaining_seconds: 65.0,
        }
    }

    fn candidate(state: CandidateState, reason: Option<&str>) -> Progress {
        Progress::Candidate(Candidate {
            number: 7,
            settings: Settings::defaults(Family::Linear, 32),
            state,
            rounds: 2,
            folds: 5,
            val_accuracy: Some(0.9375),
            val_loss: Some(0.25),
            pictures: 32,
            multiply_adds: None,
            seconds: 1.5,
            reason: reason.map(str::to_owned),
        })
    }

    fn stage(done: u64) -> Progress {
        Progress::Stage { stage: "features".into(), done, total: 9, seconds: 0.5 }
    }

    #[test]
    fn lines_tell_each_stage_once_and_every_candidate_and_epoch_under_headings() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out);
        let events = [
            stage(0),
            stage(9),
            candidate(CandidateState::Running, None),
            candidate(CandidateState::Tried, None),
            candidate(CandidateState::Dropped, Some("others were better")),
            Progress::Resumed { epoch: 1, seconds: 1.0 },
            Progress::Epoch(metrics()),
        ];
        events.iter().for_each(|event| lines.progress(event));
        let expected = "    0.5 s  computing features
    #  ROUND  ACCURACY   LOSS     TIME  SETTINGS
    7      2     0.938  0.250    1.5 s  linear efficientnet-lite0 224 px
    7      2     0.938  0.250    1.5 s  linear efficientnet-lite0 224 px: dropped, others were better
another trainer goes on after epoch 1
     12 s  epoch 2/30  train loss 0.500, accuracy 0.750  validation loss 0.250, accuracy 0.875  1234 pictures/s  \
                        1 min 5 s left
";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn json_is_the_events_as_they_are() {
        let mut out = Vec::new();
        let mut json = Json::new(&mut out);
        let events = [stage(3), Progress::Epoch(metrics())];
        events.iter().for_each(|event| json.progress(event));
        let text = String::from_utf8(out).expect("text");
        let read: Vec<Progress> = text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
        assert_eq!(read, events);
    }

    #[test]
    fn a_reader_that_leaves_is_not_told_any_more_and_ends_nothing() {
        struct Gone(u32);
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                self.0 += 1;
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut gone = Gone(0);
        let mut json = Json::new(&mut gone);
        json.progress(&stage(0));
        json.progress(&stage(1));
        assert_eq!(gone.0, 1);
    }
}
