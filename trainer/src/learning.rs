//! From a plan to a fitted network: searched for or stated, with answers from outside the fit to calibrate it on.

use std::collections::HashSet;

use api::train::{Candidate, Plan, Search, Settings};

use crate::{
    Result,
    answers::Answers,
    calibration::{self, Labelled, calibrated},
    checkpoint::Checkpoints,
    familiarity,
    family::{self, Fitted, Rows, Task},
    features::FeatureSource,
    monitor::Monitor,
    search::{
        self, Found, Question,
        proposals::{Known, Proposals},
        schedule::Schedule,
    },
    train::Keeper,
    trials::Trials,
};

/// The pictures that may be learnt from: the train split, then the validation split.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    /// Its pictures are the pool's.
    pub task: &'a Task<'a>,
    /// Rows of the train split.
    pub n_train: usize,
    /// Of each row; lookalikes have the same.
    pub groups: &'a [usize],
    /// How many times its budget a search may take before the clock stops it.
    pub overrun: f64,
}

/// What learning comes to.
#[derive(Debug)]
pub struct Learned {
    /// Those of the final fit.
    pub settings: Settings,
    /// The final fit.
    pub fitted: Fitted,
    /// Its answers to the whole pool: `[pool, n_classes]`, at temperature 1, strange pictures' made smaller
    pub logits: Vec<f32>,
    /// Answers to pictures from outside the fit, of the network itself or of the same settings in the cross-validation:
    /// what it is calibrated on.
    pub held_out: HeldOut,
    /// Answers to further pictures, of other candidates' fits that had left them out: at those fits' own temperatures.
    pub further: HeldOut,
    /// What the search found, if there was one.
    pub found: Option<Found>,
}

/// Answers to pictures from outside the fit.
#[derive(Clone, Debug, Default)]
pub struct HeldOut {
    /// Rows of the pool.
    pub rows: Vec<usize>,
    /// `[rows, n_classes]`, at temperature 1, strange pictures' made smaller
    pub logits: Vec<f32>,
}

impl Learned {
    /// The chosen candidate's line on the leaderboard, if there was a search.
    pub fn chosen(&self) -> Option<&Candidate> {
        self.found.as_ref().and_then(|found| found.leaderboard.first())
    }
}

/// Learns as planned.
///
/// Stated settings are fitted on the train split, and the validation split chooses the epoch. After a search over few
/// pictures both are fitted on, for as many epochs as in the cross-validation; over many, they keep their roles.
///
/// # Errors
/// Whatever keeps the run from a network
pub fn learn(
    pool: &Pool,
    plan: &Plan,
    source: &mut dyn FeatureSource,
    checkpoints: &Checkpoints,
    keeper: impl FnOnce(&Settings) -> Box<dyn Keeper>,
    monitor: &mut Monitor,
) -> Result<Learned> {
    let n = pool.task.pictures.len();
    let all: Vec<usize> = (0..n).collect();
    let (train, validation) = all.split_at(pool.n_train);
    let (settings, rows, found) = match plan {
        Plan::Manual(settings) => (settings.clone(), Rows { train, validation }, None),
        Plan::Auto(asked) => {
            let labels = pool.task.pictures.labels();
            let schedule = Schedule::new(labels, pool.groups, pool.n_train, asked.seed);
            let n_final = if schedule.cross_validated { n } else { train.len() };
            let found = search(pool, asked, &schedule, n_final, source, checkpoints, monitor)?;
            let settings = found.settings.clone();
            if schedule.cross_validated {
                // As in the trials, nothing is left that could choose an epoch.
                let rows = Rows { train: &all, validation: &[] };
                (Settings { patience: 0, ..settings }, rows, Some(found))
            } else {
                (settings, Rows { train, validation }, Some(found))
            }
        }
    };
    let mut keeper = keeper(&settings);
    let mut fitted = family::fit(pool.task, &settings, rows, source, &mut *keeper, monitor)?;
    let of_pool = monitor.timed("calibrate", |monitor| answers(pool.task, &fitted, &all, source, monitor))?;
    let (rows, of_held_out) = match &found {
        Some(found) if rows.validation.is_empty() => (found.rows.clone(), found.answers.clone()),
        _ => (rows.validation.to_vec(), of_pool.last(rows.validation.len())),
    };
    let usual = familiarity::usual(&of_held_out.strangeness);
    fitted.set_usual(usual);
    let held_out = HeldOut { rows, logits: of_held_out.dimmed(usual) };
    let others = found.as_ref().map_or(&[][..], |found| &found.others);
    let further = further(others, &held_out.rows, pool.task.pictures.labels(), pool.task.n_classes);
    Ok(Learned { settings, logits: of_pool.dimmed(usual), fitted, held_out, further, found })
}

/// What the best of these candidates say of each picture that is not among the known rows.
fn further(others: &[(Vec<usize>, Answers)], known: &[usize], labels: &[u32], n_classes: usize) -> HeldOut {
    let mut known: HashSet<usize> = known.iter().copied().collect();
    let mut all = HeldOut::default();
    for (rows, answers) in others {
        if rows.iter().all(|row| known.contains(row)) {
            continue;
        }
        let logits = answers.dimmed(familiarity::usual(&answers.strangeness));
        let labels: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
        let temperature = calibration::temperature(Labelled { logits: &logits, labels: &labels, n_classes });
        let logits = calibrated(&logits, temperature);
        for (&row, answer) in rows.iter().zip(logits.chunks_exact(n_classes)) {
            if known.insert(row) {
                all.rows.push(row);
                all.logits.extend_from_slice(answer);
            }
        }
    }
    all
}

/// What a network says of these rows, some at a time so that it can be watched.
fn answers(
    task: &Task,
    fitted: &Fitted,
    rows: &[usize],
    source: &mut dyn FeatureSource,
    monitor: &mut Monitor,
) -> Result<Answers> {
    const AT_ONCE: usize = 1024;
    let mut answers = Answers::default();
    for some in rows.chunks(AT_ONCE) {
        answers.extend(&fitted.answers(task, some, source, monitor)?);
        monitor.stage("calibrate", answers.strangeness.len(), rows.len())?;
    }
    Ok(answers)
}

fn search(
    pool: &Pool,
    asked: &Search,
    schedule: &Schedule,
    n_final: usize,
    source: &mut dyn FeatureSource,
    checkpoints: &Checkpoints,
    monitor: &mut Monitor,
) -> Result<Found> {
    let task = pool.task;
    let question = Question {
        labels: task.pictures.labels(),
        n_classes: task.n_classes,
        schedule,
        n_final,
        budget_seconds: asked.budget_seconds,
    };
    let (backbones, unreadable) = known_backbones(task, asked.stated.backbone.as_deref())?;
    let proposals = Proposals {
        stated: asked.stated.clone(),
        backbones,
        picture_side: task.pictures.width().max(task.pictures.height()),
        n_pictures: task.pictures.len(),
    };
    let known = checkpoints.trials()?;
    let limit_seconds = pool.overrun * asked.budget_seconds;
    let mut bench = Trials { task, source, monitor, known, budget_seconds: asked.budget_seconds, limit_seconds };
    let found = search::search(&question, &proposals, &mut bench)?;
    Ok(Found { notes: [unreadable, found.notes].concat(), ..found })
}

/// Backbones that candidates can be built on: the stated one alone, if one is stated, else all, but for a person's own
/// ones that cannot be read; and a note on each of those.
fn known_backbones(task: &Task, stated: Option<&str>) -> Result<(Vec<Known>, Vec<String>)> {
    let known = |name: &str| -> Result<Known> {
        let backbone = task.backbones.open(name)?;
        Ok(Known { installed: backbone.installed(), is_last_resort: backbone.is_last_resort() })
    };
    if let Some(name) = stated {
        return Ok((vec![known(name)?], vec![]));
    }
    let (mut all, mut notes) = (vec![], vec![]);
    for name in task.backbones.names() {
        match known(&name) {
            Ok(backbone) => all.push(backbone),
            Err(error) if !task.backbones.is_own(&name) => return Err(error),
            Err(error) => {
                notes.push(format!("Backbone {name} was left out of the search: {}.", error.sentence()));
            }
        }
    }
    Ok((all, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_chosen_one_was_not_asked_about_the_best_other_candidate_tells() {
        let of = |logits: &[f32]| Answers { logits: logits.to_vec(), strangeness: vec![0.0; logits.len() / 2] };
        // Both are right about their pictures; the first of them was asked about fewer.
        let better = (vec![0, 3], of(&[9.0, 0.0, 0.0, 9.0]));
        let worse = (vec![0, 1, 2, 3], of(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]));
        let told = further(&[better, worse], &[0], &[0, 0, 1, 1], 2);
        assert_eq!(told.rows, [3, 1, 2], "the known one is left out, the better one goes first");
        assert!(told.logits.chunks_exact(2).zip([1, 0, 1]).all(|(row, label)| row[label] > row[1 - label]));
        assert_eq!(told.logits.len(), 6);
    }
}
