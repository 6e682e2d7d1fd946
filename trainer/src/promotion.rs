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

/// Decides, with the reason in one sentence.
///
/// # Units
/// `margin`: share of pictures, 0..=1
pub fn decide(present: Present, margin: f64) -> Promotion {
    let without = |compared_with, pictures, reason: String| Promotion {
        compared_with,
        pictures,
        present_accuracy: None,
        new_accuracy: None,
        margin,
        promoted: true,
        reason,
    };
    match present {
        Present::None => without(None, 0, "No version was in use.".into()),
        Present::Incomparable { version, because } => {
            let reason = format!("It takes the place of v{version} without a comparison: {because}.");
            without(Some(version), 0, reason)
        }
        Present::Compared { version, counts: Counts { pictures, .. } } if pictures < LEAST_PICTURES => {
            let reason = format!(
                "It takes the place of v{version} without a comparison: there are {pictures} test pictures that v{version} \
                 was not fitted on, and fewer than {LEAST_PICTURES} decide nothing."
            );
            without(Some(version), pictures as u64, reason)
        }
        Present::Compared { version, counts } => compared(version, counts, margin),
    }
}

fn compared(version: u32, counts: Counts, margin: f64) -> Promotion {
    let n = counts.pictures as f64;
    let (present, new) = (counts.present_right as f64 / n, counts.new_right as f64 / n);
    // In whole pictures, so that a difference of exactly the margin is never a matter of rounding.
    let promoted = counts.new_right as f64 >= counts.present_right as f64 - margin * n - 1e-9;
    let verdict = if promoted { "It takes the place of" } else { "It does not take the place of" };
    let bound = if promoted { "no more than the" } else { "more than the" };
    let how = match counts.new_right.cmp(&counts.present_right) {
        std::cmp::Ordering::Less => format!("which is worse by {bound} {} allowed", percent(margin)),
        std::cmp::Ordering::Equal => "which is the same".to_owned(),
        std::cmp::Ordering::Greater => "which is better".to_owned(),
    };
    let reason = format!(
        "{verdict} v{version}: of {} test pictures that neither was fitted on it recognises {}, v{version} {}, {how}.",
        counts.pictures,
        percent(new),
        percent(present)
    );
    Promotion {
        compared_with: Some(version),
        pictures: counts.pictures as u64,
        present_accuracy: Some(present),
        new_accuracy: Some(new),
        margin,
        promoted,
        reason,
    }
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
        let decision = decide(Present::Compared { version: 3, counts }, 0.02);
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
        let first = decide(Present::None, 0.02);
        assert_eq!(
            (first.promoted, first.compared_with, first.reason.as_str()),
            (true, None, "No version was in use.")
        );
        let because = "its labels are others".to_owned();
        let other = decide(Present::Incomparable { version: 2, because }, 0.02);
        assert!(other.promoted && other.present_accuracy.is_none());
        assert_eq!(other.reason, "It takes the place of v2 without a comparison: its labels are others.");
        let counts = Counts { pictures: 19, present_right: 19, new_right: 0 };
        let few = decide(Present::Compared { version: 2, counts }, 0.02);
        assert!(few.promoted && few.reason.contains("there are 19 test pictures"), "{}", few.reason);
    }

    #[test]
    fn percents_have_a_decimal_where_it_says_something() {
        assert_eq!([percent(0.945), percent(0.02), percent(1.0)], ["94.5 %", "2 %", "100 %"]);
    }
}
