//! Whether a new version comes into use: only if it is not worse than the present one by more than a margin, on
//! pictures that neither was fitted on.

use api::train::Promotion;

/// By how much a new version may be worse unless something else is asked for, 0..=1.
pub const DEFAULT_MARGIN: f64 = 0.02;

/// Fewer pictures than this decide nothing.
pub const LEAST_PICTURES: usize = 20;

/// How the two versions did on the pictures that both were asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// How many.
    pub pictures: usize,
    /// Of those, recognised by the version in use.
    pub present_right: usize,
    /// Of those, recognised by the new version.
    pub new_right: usize,
}

/// What is known about the version in use.
#[derive(Clone, Debug, PartialEq)]
pub enum Present {
    /// There is none.
    None,
    /// There is one, but its answers cannot be held against the new one's.
    Incomparable {
        /// Its number.
        version: u32,
        /// Why, as the end of a sentence.
        because: String,
    },
    /// Both were asked.
    Compared {
        /// Its number.
        version: u32,
        /// How they did.
        counts: Counts,
    },
}

/// Decides, with the reason in one sentence or two.
///
/// `keeps`: whether the version in use stays in use, whatever the verdict is, because publishing decides who serves
///
/// # Units
/// `margin`: share of pictures, 0..=1
pub fn decide(present: Present, margin: f64, keeps: bool) -> Promotion {
    let (version, verdict) = match present {
        Present::None => (None, Verdict::passed("No version was in use.".into())),
        Present::Incomparable { version, because } => {
            let takes = if keeps { WOULD_TAKE } else { TAKES };
            (Some(version), Verdict::passed(format!("{takes} v{version} without a comparison: {because}.")))
        }
        Present::Compared { version, counts } => (Some(version), compared(version, counts, margin, keeps)),
    };
    let Verdict { passed, counts, mut reason } = verdict;
    let stays = keeps && version.is_some();
    if stays {
        reason.push_str(" Nothing has changed yet: who serves is decided by publishing.");
    }
    let share =
        |right: fn(&Counts) -> usize| counts.as_ref().map(|counts| right(counts) as f64 / counts.pictures as f64);
    Promotion {
        compared_with: version,
        pictures: counts.map_or(0, |counts| counts.pictures as u64),
        present_accuracy: share(|counts| counts.present_right),
        new_accuracy: share(|counts| counts.new_right),
        margin,
        passed: Some(passed),
        promoted: passed && !stays,
        reason,
    }
}

const TAKES: &str = "It takes the place of";
const WOULD_TAKE: &str = "It would take the place of";

struct Verdict {
    passed: bool,
    /// Where both were asked about at least one picture.
    counts: Option<Counts>,
    reason: String,
}

impl Verdict {
    fn passed(reason: String) -> Self {
        Self { passed: true, counts: None, reason }
    }
}

fn compared(version: u32, counts: Counts, margin: f64, keeps: bool) -> Verdict {
    let Counts { pictures, present_right, new_right } = counts;
    let n = pictures as f64;
    let (present, new) = (percent(present_right as f64 / n), percent(new_right as f64 / n));
    let takes = if keeps { WOULD_TAKE } else { TAKES };
    if pictures < LEAST_PICTURES {
        let few = match pictures {
            0 => format!("there are no test pictures that v{version} was not fitted on"),
            1 => format!("there is 1 test picture that v{version} was not fitted on"),
            _ => format!("there are {pictures} test pictures that v{version} was not fitted on"),
        };
        let them = if pictures == 1 { "it" } else { "them" };
        let figures = match pictures {
            0 => String::new(),
            _ => format!(" (of {them} it recognises {new}, v{version} {present})"),
        };
        let reason = format!(
            "{takes} v{version} without a comparison: {few}, and fewer than {LEAST_PICTURES} decide nothing{figures}."
        );
        return Verdict { passed: true, counts: (pictures > 0).then_some(counts), reason };
    }
    // In whole pictures, so that a difference of exactly the margin is never a matter of rounding.
    let passed = new_right as f64 >= present_right as f64 - margin * n - 1e-9;
    let verdict = match (passed, keeps) {
        (true, _) => takes,
        (false, false) => "It does not take the place of",
        (false, true) => "It would not take the place of",
    };
    let bound = if passed { "no more than the" } else { "more than the" };
    let how = match new_right.cmp(&present_right) {
        std::cmp::Ordering::Less => format!("which is worse by {bound} {} allowed", percent(margin)),
        std::cmp::Ordering::Equal => "which is the same".to_owned(),
        std::cmp::Ordering::Greater => "which is better".to_owned(),
    };
    let reason = format!(
        "{verdict} v{version}: of {pictures} test pictures that neither was fitted on it recognises {new}, v{version} \
         {present}, {how}."
    );
    Verdict { passed, counts: Some(counts), reason }
}

/// A share for people: `94.5 %`.
pub fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(present_right: usize, new_right: usize, promoted: bool, reason: &str) {
        let counts = Counts { pictures: 100, present_right, new_right };
        let decision = decide(Present::Compared { version: 3, counts }, 0.02, false);
        assert_eq!(decision.passed, Some(promoted));
        assert_eq!((decision.promoted, decision.reason.as_str()), (promoted, reason));
        assert_eq!(decision.new_accuracy, Some(new_right as f64 / 100.0));
    }

    #[test]
    fn a_version_that_is_worse_by_more_than_the_margin_stays_out_of_use() {
        check(
            90,
            93,
            true,
            "It takes the place of v3: of 100 test pictures that neither was fitted on it recognises 93 %, v3 90 %, which \
             is better.",
        );
        check(
            90,
            90,
            true,
            "It takes the place of v3: of 100 test pictures that neither was fitted on it recognises 90 %, v3 90 %, which \
             is the same.",
        );
        check(
            90,
            88,
            true,
            "It takes the place of v3: of 100 test pictures that neither was fitted on it recognises 88 %, v3 90 %, which \
             is worse by no more than the 2 % allowed.",
        );
        check(
            90,
            87,
            false,
            "It does not take the place of v3: of 100 test pictures that neither was fitted on it recognises 87 %, v3 90 \
             %, which is worse by more than the 2 % allowed.",
        );
    }

    #[test]
    fn what_cannot_be_compared_is_promoted_and_said() {
        let first = decide(Present::None, 0.02, false);
        assert_eq!(
            (first.promoted, first.compared_with, first.reason.as_str()),
            (true, None, "No version was in use.")
        );
        let because = "its labels are others".to_owned();
        let other = decide(Present::Incomparable { version: 2, because }, 0.02, false);
        assert!(other.promoted && other.present_accuracy.is_none());
        assert_eq!(other.reason, "It takes the place of v2 without a comparison: its labels are others.");
        let counts = Counts { pictures: 19, present_right: 19, new_right: 0 };
        let few = decide(Present::Compared { version: 2, counts }, 0.02, false);
        assert!(few.promoted && few.passed == Some(true));
        assert_eq!((few.present_accuracy, few.new_accuracy), (Some(1.0), Some(0.0)));
        assert_eq!(
            few.reason,
            "It takes the place of v2 without a comparison: there are 19 test pictures that v2 was not fitted on, and fewer \
             than 20 decide nothing (of them it recognises 0 %, v2 100 %)."
        );
        let none = Counts { pictures: 0, present_right: 0, new_right: 0 };
        let none = decide(Present::Compared { version: 2, counts: none }, 0.02, false);
        assert!(none.present_accuracy.is_none() && none.reason.ends_with("decide nothing."), "{}", none.reason);
    }

    #[test]
    fn what_passed_where_publishing_decides_would_take_the_place_and_has_not() {
        let of = |new_right| {
            let counts = Counts { pictures: 100, present_right: 90, new_right };
            decide(Present::Compared { version: 3, counts }, 0.02, true)
        };
        let passed = of(93);
        assert_eq!((passed.passed, passed.promoted), (Some(true), false));
        assert!(passed.reason.starts_with("It would take the place of v3: "), "{}", passed.reason);
        assert!(passed.reason.ends_with(" Nothing has changed yet: who serves is decided by publishing."));
        let held_back = of(80);
        assert_eq!((held_back.passed, held_back.promoted), (Some(false), false));
        assert!(held_back.reason.starts_with("It would not take the place of v3: "), "{}", held_back.reason);
        let first = decide(Present::None, 0.02, true);
        assert_eq!((first.promoted, first.reason.as_str()), (true, "No version was in use."));
    }

    #[test]
    fn percents_have_a_decimal_where_it_says_something() {
        assert_eq!([percent(0.945), percent(0.02), percent(1.0)], ["94.5 %", "2 %", "100 %"]);
    }
}
