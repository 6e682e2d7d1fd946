//! Which candidate is published, and the sentence that says why.

use api::train::{Family, Settings};

use super::{
    board::{Entry, ranking},
    schedule::Schedule,
};
use crate::promotion::percent;

/// A network that is this much cheaper to ask is preferred unless it is clearly worse.
const CHEAPER: f64 = 0.6;

/// The candidate to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Its position among the entries.
    pub chosen: usize,
    /// Why, in one sentence.
    pub sentence: String,
}

/// Chooses among the tried candidates whose final fit is affordable; nothing if there are none.
///
/// The best one is chosen, unless one that is much cheaper to ask was tried as much and is within one standard error of
/// it.
///
/// # Source
/// The rule of one standard error: Breiman et al., "Classification and regression trees", 1984
pub fn choose(entries: &[Entry], schedule: &Schedule, affordable: impl Fn(&Entry) -> bool) -> Option<Choice> {
    let order: Vec<usize> = ranking(entries, schedule).into_iter().filter(|&at| affordable(&entries[at])).collect();
    let &best = order.first()?;
    let simpler = order.iter().copied().filter(|&at| {
        let entry = &entries[at];
        let comparison = entries[best].against(entry, schedule);
        entry.rounds() == entries[best].rounds()
            && !entries[best].is_tried_in_part()
            && (entry.cost.per_picture as f64) < CHEAPER * entries[best].cost.per_picture as f64
            && comparison.advantage <= comparison.error
    });
    let simplest = simpler.min_by_key(|&at| entries[at].cost.per_picture);
    let chosen = simplest.unwrap_or(best);
    let next = order.iter().copied().find(|&at| at != chosen);
    let mut sentence =
        format!("{} won: {}", capitalised(&describe(&entries[chosen].settings)), figure(entries, chosen));
    match (simplest, next) {
        (Some(_), _) => {
            let (theirs, _) = entries[best].against(&entries[chosen], schedule).accuracies;
            let times = entries[best].cost.per_picture as f64 / entries[chosen].cost.per_picture.max(1) as f64;
            sentence.push_str(&format!(
                "; {} had {} and is within one standard error by cross-entropy, but takes {times:.1} times the work for a \
                 picture.",
                describe(&entries[best].settings),
                percent(theirs)
            ));
        }
        (None, Some(next)) => {
            let comparison = entries[chosen].against(&entries[next], schedule);
            let (mine, theirs) = comparison.accuracies;
            let rival = describe(&entries[next].settings);
            let same = if entries[chosen].rounds() < entries[next].rounds() { " on these pictures" } else { "" };
            let decided = match theirs >= mine {
                true if entries[chosen].effort < 1.0 => ", which had all of its epochs",
                _ if entries[chosen].is_cut_short && comparison.advantage < 0.0 => {
                    ", which is not clearly better on the pictures that the budget allowed both"
                }
                true if comparison.advantage < 0.0 => ", which gains less from more pictures",
                true => ", which is no better by cross-entropy",
                false => "",
            };
            sentence.push_str(&format!(" against {} of the next{same}, {rival}{decided}.", percent(theirs)));
        }
        (None, None) => sentence.push_str("; nothing else could be tried within the budget."),
    }
    Some(Choice { chosen, sentence })
}

/// For a choice that no trial stands behind.
pub fn untried(settings: &Settings, budget_seconds: f64) -> String {
    format!(
        "{} was taken untried: it costs the least, and nothing could be tried within {budget_seconds} s.",
        capitalised(&describe(settings))
    )
}

fn figure(entries: &[Entry], at: usize) -> String {
    let accuracy = percent(entries[at].told.val_accuracy.unwrap_or_default());
    match entries[at].told.folds {
        0 => format!("{accuracy} of held-out pictures"),
        1 => format!("{accuracy} in one part of a cross-validation"),
        folds => format!("{accuracy} in {folds}-fold cross-validation"),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Settings for people: `fine-tuned efficientnet-lite2 at 160 px`.
pub fn describe(settings: &Settings) -> String {
    let backbone = settings.backbone.as_deref().unwrap_or("a backbone");
    let size = settings.input_size;
    let what = match settings.family {
        Family::Linear => format!("a linear head on {backbone}"),
        Family::Mlp => format!("a head with {} hidden units on {backbone}", settings.hidden_units),
        Family::FineTune => format!("fine-tuned {backbone}"),
        Family::SeparableCnn => "a fast CNN from scratch".to_owned(),
        Family::Cnn => "a CNN from scratch".to_owned(),
    };
    let default = Settings::defaults(settings.family, size);
    let rate = settings.learning_rate;
    let rate = if rate == default.learning_rate { String::new() } else { format!(" with learning rate {rate}") };
    let mirrored = if settings.mirrored { " (mirror images averaged)" } else { "" };
    format!("{what} at {size} px{rate}{mirrored}")
}
