//! How numbers, times and states are told to people.

use std::borrow::Borrow;

use api::{
    dataset::RejectReason,
    functions::{Activity, Phase, Stage},
    model::DoubtScore,
    train::{Augmentation, CandidateState, Family, RunState},
};
use bytesize::ByteSize;
use jiff::Timestamp;

/// `93.4 %`.
pub fn percent(ratio: impl Borrow<f64>) -> String {
    format!("{:.1} %", 100.0 * ratio.borrow())
}

/// `93.4 %`.
pub fn probability(probability: impl Borrow<f32>) -> String {
    percent(f64::from(*probability.borrow()))
}

/// `93.4 %`, or a dash where there is no figure.
pub fn percent_or_dash(ratio: impl Borrow<Option<f64>>) -> String {
    ratio.borrow().map_or_else(|| "–".to_owned(), percent)
}

/// `1.5 percentage points`.
pub fn points(difference: impl Borrow<f64>) -> String {
    format!("{:.1} percentage points", 100.0 * difference.borrow())
}

/// `3,412,345`.
pub fn thousands(n: impl Borrow<u64>) -> String {
    let digits = n.borrow().to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// `12.3 MB`.
pub fn bytes(bytes: impl Borrow<u64>) -> String {
    ByteSize::b(*bytes.borrow()).display().si().to_string()
}

/// `0.4321`, or a dash where there is no figure.
pub fn loss_or_dash(loss: impl Borrow<Option<f64>>) -> String {
    loss.borrow().map_or_else(|| "–".to_owned(), |loss| format!("{loss:.4}"))
}

/// `0.8 s`, `42 s`, `3 min 20 s`, `2 h 5 min`.
pub fn seconds(seconds: impl Borrow<f64>) -> String {
    let seconds = *seconds.borrow();
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 10.0 => format!("{:.1} s", seconds.max(0.0)),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `2026-11-23 06:45 UTC` of an RFC 3339 time in UTC; anything else stays as it is.
pub fn minute(rfc3339: &str) -> String {
    match (rfc3339.get(..10), rfc3339.get(10..11), rfc3339.get(11..16)) {
        (Some(day), Some("T"), Some(time)) => format!("{day} {time} UTC"),
        _ => rfc3339.to_owned(),
    }
}

/// `2026-11-23 06:45:12 UTC`.
pub fn second(unix_ms: impl Borrow<i64>) -> String {
    timestamp(*unix_ms.borrow()).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `2026-11-23T06:45:12.345Z`.
pub fn rfc3339(unix_ms: impl Borrow<i64>) -> String {
    timestamp(*unix_ms.borrow()).to_string()
}

fn timestamp(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `4.1 ms`, `412 ms`.
pub fn milliseconds(ms: impl Borrow<f64>) -> String {
    let ms = *ms.borrow();
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// `1 picture`, `2 pictures`.
pub fn count(n: impl Borrow<u64>, one: &str, many: &str) -> String {
    let n = *n.borrow();
    format!("{n} {}", if n == 1 { one } else { many })
}

/// How many runs begin before one that waits.
pub fn ahead(n: impl Borrow<usize>) -> String {
    match *n.borrow() {
        0 => "the next to begin".to_owned(),
        1 => "1 run is in front of it".to_owned(),
        n => format!("{n} runs are in front of it"),
    }
}

/// A state as a word.
pub fn state(state: impl Borrow<RunState>) -> &'static str {
    match state.borrow() {
        RunState::Queued => "waiting",
        RunState::Running => "training",
        ended => ended.name(),
    }
}

/// A state as the name of a CSS class.
pub fn state_class(state: impl Borrow<RunState>) -> &'static str {
    match state.borrow() {
        RunState::Queued | RunState::Running => "state busy",
        RunState::Succeeded => "state good",
        RunState::Failed => "state bad",
        RunState::Cancelled => "state",
    }
}

/// Where a candidate of a search stands, in a word or two.
pub fn candidate(state: impl Borrow<CandidateState>) -> &'static str {
    match state.borrow() {
        CandidateState::Unfinished => "not finished",
        other => other.name(),
    }
}

/// What an accuracy outside the fit rests on: `52 pictures in 5 folds`.
///
/// `folds`: 0 for the validation split; `pictures`: 0 where nobody counted them
pub fn basis(pictures: impl Borrow<u64>, folds: impl Borrow<u32>) -> String {
    let (pictures, folds) = (*pictures.borrow(), *folds.borrow());
    let counted = count(pictures, "picture", "pictures");
    match (pictures, count(u64::from(folds), "fold", "folds")) {
        (0, _) if folds == 0 => "validation split".to_owned(),
        (0, folds) => format!("mean of {folds}"),
        (_, _) if folds == 0 => format!("{counted} of the validation split"),
        (_, folds) => format!("{counted} in {folds}"),
    }
}

/// `85.1 to 97.5 %` of the bounds of a share.
pub fn interval(bounds: impl Borrow<[f64; 2]>) -> String {
    let [least, most] = bounds.borrow().map(|bound| 100.0 * bound);
    format!("{least:.1} to {most:.1} %")
}

/// Multiply-adds for a picture: `6.1 M`, `383 M`; a dash where they are not known.
pub fn work(multiply_adds: impl Borrow<Option<u64>>) -> String {
    match multiply_adds.borrow().map(|n| n as f64 / 1e6) {
        Some(millions) if millions < 10.0 => format!("{millions:.1} M"),
        Some(millions) => format!("{millions:.0} M"),
        None => "–".to_owned(),
    }
}

/// Where a candidate of a search stands, as the name of a CSS class.
pub fn candidate_class(state: impl Borrow<CandidateState>) -> &'static str {
    match state.borrow() {
        CandidateState::Running => "state busy",
        CandidateState::Chosen => "state good",
        CandidateState::Failed => "state bad",
        CandidateState::Tried | CandidateState::Dropped | CandidateState::Unfinished => "state",
    }
}

/// Whether a candidate won.
pub fn is_chosen(state: impl Borrow<CandidateState>) -> bool {
    *state.borrow() == CandidateState::Chosen
}

/// What doubt looks at, for people.
pub fn doubt(score: impl Borrow<DoubtScore>) -> &'static str {
    match score.borrow() {
        DoubtScore::Confidence => "largest probability",
        DoubtScore::Energy => "energy (how strongly any class speaks)",
    }
}

/// How far a revision has come, in a word.
pub fn phase(phase: impl Borrow<Phase>) -> &'static str {
    match phase.borrow() {
        Phase::Preparing => "preparing",
        Phase::Ready => "ready",
        Phase::Failed => "failed",
    }
}

/// How far a revision has come, as the name of a CSS class.
pub fn phase_class(phase: impl Borrow<Phase>) -> &'static str {
    match phase.borrow() {
        Phase::Preparing => "state busy",
        Phase::Ready => "state good",
        Phase::Failed => "state bad",
    }
}

/// How far a publication is, in a word.
pub fn stage(stage: impl Borrow<Stage>) -> &'static str {
    match stage.borrow() {
        Stage::Baking => "baking",
        Stage::Starting => "starting",
        Stage::Failed => "failed",
    }
}

/// How far a publication is, as the name of a CSS class.
pub fn stage_class(stage: impl Borrow<Stage>) -> &'static str {
    match stage.borrow() {
        Stage::Baking | Stage::Starting => "state busy",
        Stage::Failed => "state bad",
    }
}

/// Whether a revision is there for requests, in a word.
pub fn activity(activity: impl Borrow<Activity>) -> &'static str {
    match activity.borrow() {
        Activity::Activating => "activating",
        Activity::Active => "active",
        Activity::Inactive => "inactive",
    }
}

/// A family for people.
pub fn family(family: impl Borrow<Family>) -> &'static str {
    match family.borrow() {
        Family::Linear => "linear head on a backbone",
        Family::Mlp => "head with a hidden layer on a backbone",
        Family::FineTune => "fine-tuned backbone",
        Family::SeparableCnn => "fast CNN from scratch",
        Family::Cnn => "small CNN from scratch",
    }
}

/// A field of runs, settings or results for people.
pub fn figure(name: &str) -> String {
    let known = match name {
        "accuracy" => "Train accuracy",
        "loss" => "Train loss",
        "val_accuracy" => "Validation accuracy",
        "val_loss" => "Validation loss",
        "test_ece" => "Expected calibration error on the test split",
        "test_unsure" => "Unsure on the test split",
        "asked_for" => "Family asked for",
        "budget_seconds" => "Time for the search",
        "learning_rate" => "Peak learning rate",
        "augmentation" => "Random changes (augmentation)",
        "mirrored" => "Looks at the mirrored picture too",
        "clip_norm" => "Longest gradient (gradient clipping)",
        "weight_average" => "Average of weights (EMA)",
        "input_size" => "Side that the network sees, in pixels",
        "seconds" => "Training time",
        "best_epoch" => "Epoch that was kept",
        "parameters" => "Weights",
        "model_bytes" => "Model size",
        "milliseconds_per_picture" => "Time per picture",
        other => return capitalised(other),
    };
    known.to_owned()
}

/// A stage that was timed, as a heading beside its time.
pub fn timing(stage: &str) -> String {
    let known = match stage {
        "verify" => "Reading the dataset",
        "features" => "Features of the pictures",
        "search" => "Fits of the search",
        "fit" | "train" => "Final fit",
        "calibrate" => "Calibration",
        "evaluate" => "Test pictures",
        "export" => "Export",
        "check" => "Comparison of two engines",
        other => return capitalised(other),
    };
    known.to_owned()
}

fn capitalised(name: &str) -> String {
    let spaced = name.replace('_', " ");
    let mut letters = spaced.chars();
    let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{capital}{}", letters.as_str())
}

/// A family in one word.
pub fn family_short(family: impl Borrow<Family>) -> &'static str {
    match family.borrow() {
        Family::Linear => "linear",
        Family::Mlp => "hidden layer",
        Family::FineTune => "fine-tuned",
        Family::SeparableCnn => "fast CNN",
        Family::Cnn => "CNN",
    }
}

/// An augmentation for people.
pub fn augmentation(augmentation: impl Borrow<Augmentation>) -> &'static str {
    match augmentation.borrow() {
        Augmentation::None => "none",
        Augmentation::Flip => "mirror",
        Augmentation::FlipShift => "mirror and shift",
        Augmentation::Full => "mirror, shift, size and light",
    }
}

/// A reason for people, as a heading above the files it concerns.
pub fn reason(reason: impl Borrow<RejectReason>) -> &'static str {
    match reason.borrow() {
        RejectReason::Stray => "not in a class folder",
        RejectReason::UnsafePath => "unsafe path",
        RejectReason::UnsupportedFormat => "no supported picture",
        RejectReason::Undecodable => "broken",
        RejectReason::TooLarge => "too large",
        RejectReason::TooSmall => "too small",
        RejectReason::ProcessingFailed => "preprocessing fails at it",
        RejectReason::Duplicate => "duplicate",
        RejectReason::ConflictingLabels => "under several labels",
        RejectReason::Leak => "would leak between splits",
    }
}

/// Which of eleven shades (0 to 10) stands for a share of a whole.
pub fn shade(part: impl Borrow<u64>, whole: impl Borrow<u64>) -> u64 {
    let (part, whole) = (*part.borrow(), *whole.borrow());
    if whole == 0 { 0 } else { (10 * part).div_ceil(whole).min(10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_grow_coarser_as_they_grow_longer() {
        for (given, told) in
            [(-1.0, "0.0 s"), (0.84, "0.8 s"), (42.4, "42 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 5 min")]
        {
            assert_eq!(seconds(given), told);
        }
    }

    #[test]
    fn times_are_told_to_the_minute_and_foreign_texts_stay() {
        assert_eq!(minute("2026-11-23T06:45:12Z"), "2026-11-23 06:45 UTC");
        assert_eq!(minute("später"), "später");
    }

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 3_412_345].map(thousands), ["0", "999", "1,000", "3,412,345"]);
        assert_eq!([1_500, 13_600_000].map(bytes), ["1.5 kB", "13.6 MB"]);
        assert_eq!([0, 1, 2].map(ahead), ["the next to begin", "1 run is in front of it", "2 runs are in front of it"]);
        assert_eq!(figure("val_loss"), "Validation loss");
        assert_eq!(figure("weight_decay"), "Weight decay");
    }

    #[test]
    fn moments_are_told_to_people_and_to_programs() {
        assert_eq!(second(1_795_416_312_345), "2026-11-23 06:45:12 UTC");
        assert_eq!(rfc3339(1_795_416_312_345), "2026-11-23T06:45:12.345Z");
        assert_eq!([milliseconds(4.06), milliseconds(411.6)], ["4.1 ms", "412 ms"]);
    }

    #[test]
    fn an_accuracy_is_told_with_what_it_rests_on() {
        assert_eq!([basis(52, 5), basis(1, 1)], ["52 pictures in 5 folds", "1 picture in 1 fold"]);
        assert_eq!([basis(30, 0), basis(0, 0)], ["30 pictures of the validation split", "validation split"]);
        assert_eq!(basis(0, 5), "mean of 5 folds");
        assert_eq!(interval([0.851, 0.975]), "85.1 to 97.5 %");
        assert_eq!([Some(6_120_000), Some(383_400_000), None].map(work), ["6.1 M", "383 M", "–"]);
    }

    #[test]
    fn any_part_of_a_whole_has_a_shade_and_nothing_has_none() {
        assert_eq!([shade(0, 50), shade(1, 50), shade(49, 50), shade(50, 50), shade(0, 0)], [0, 1, 10, 10, 0]);
    }
}
