//! The search with made-up fits and a made-up clock.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use api::{
    backbone::{Installed, Sides},
    train::{CandidateState, Family, Hyperparameters},
};

use super::{proposals::Known, *};

/// Fits that take as long as they should, and are right about a share of pictures that follows from the settings.
struct MadeUp<'a> {
    labels: &'a [u32],
    accuracy: fn(&Settings) -> f64,
    /// Seconds of features, of a fit on 100 pictures, and multiply-adds of an answer.
    costs: fn(&Settings) -> (f64, f64, u64),
    /// How much slower the machine is than the reference.
    pace: f64,
    budget: f64,
    clock: f64,
    told: Vec<Candidate>,
    ranked: Vec<Vec<u32>>,
    fits: Vec<(Settings, usize)>,
}

const N_CLASSES: usize = 4;

impl Bench for MadeUp<'_> {
    fn cost(&self, settings: &Settings, pictures: usize) -> Result<Cost> {
        if settings.hidden_units > 0 {
            return Err(TrainerError::Settings(vec!["hidden layers are out of order".into()]));
        }
        let (features_seconds, per_hundred, per_picture) = (self.costs)(settings);
        let epochs = f64::from(settings.epochs) / f64::from(Settings::defaults(settings.family, 32).epochs);
        Ok(Cost {
            features: (features_seconds > 0.0).then(|| format!("{:?} {}", settings.backbone, settings.input_size)),
            features_seconds,
            fit_seconds: per_hundred * epochs * pictures as f64 / 100.0,
            after_seconds: 0.0,
            per_picture,
        })
    }

    fn must_stop(&mut self, planned: f64, ahead: f64) -> Result<bool> {
        Ok(is_late(self.clock, planned, ahead, DEFAULT_OVERRUN * self.budget))
    }

    fn fit(&mut self, settings: &Settings, fold: &Fold) -> Result<(Answers, f64)> {
        if settings.learning_rate > 1e-3 && settings.family == Family::Linear {
            return Err(TrainerError::Diverged { epoch: 1, step: 1, learning_rate: 0.5 });
        }
        let seconds = self.pace * self.cost(settings, fold.train.len())?.fit_seconds;
        self.clock += seconds;
        self.fits.push((settings.clone(), fold.train.len()));
        let answer = |&row: &usize| {
            // Exactly that share is right; at another size they are other ones.
            let draw = (row * 61 + settings.input_size as usize) % self.labels.len();
            let right = (draw as f64) < (self.accuracy)(settings) * self.labels.len() as f64;
            let class = (self.labels[row] as usize + usize::from(!right)) % N_CLASSES;
            (0..N_CLASSES).map(move |c| if c == class { 3.0 } else { 0.0 })
        };
        let logits = fold.asked.iter().flat_map(answer).collect();
        Ok((Answers { logits, strangeness: vec![1.0; fold.asked.len()] }, seconds))
    }

    fn tell(&mut self, candidate: &Candidate) -> Result<()> {
        self.told.push(candidate.clone());
        Ok(())
    }

    fn rank(&mut self, numbers: &[u32]) -> Result<()> {
        self.ranked.push(numbers.to_vec());
        Ok(())
    }
}

/// Heads are quick and cheap; the tuned backbone is slow and good.
fn usual_costs(settings: &Settings) -> (f64, f64, u64) {
    let area = f64::from(settings.input_size).powi(2) / 224f64.powi(2);
    match settings.family {
        Family::Linear | Family::Mlp => (3.0 * area, 0.1, (400e6 * area) as u64),
        Family::FineTune => (0.0, 8.0 * area, (400e6 * area) as u64),
        Family::SeparableCnn => (0.0, 2.0, 3_000_000),
        Family::Cnn => (0.0, 3.0, 6_000_000),
    }
}

fn usual_accuracy(settings: &Settings) -> f64 {
    match (settings.family, settings.backbone.as_deref()) {
        (Family::FineTune, _) => 0.96,
        (Family::Linear, Some("good")) if settings.input_size == 224 => 0.9,
        (Family::Linear, _) => 0.8,
        _ => 0.5,
    }
}

struct Case {
    n: usize,
    n_train: usize,
    budget: f64,
    pace: f64,
    backbones: Vec<&'static str>,
    accuracy: fn(&Settings) -> f64,
    costs: fn(&Settings) -> (f64, f64, u64),
}

fn case() -> Case {
    Case {
        n: 200,
        n_train: 170,
        budget: 70.0,
        pace: 1.0,
        backbones: vec!["plain", "good"],
        accuracy: usual_accuracy,
        costs: usual_costs,
    }
}

struct Ran {
    found: Result<Found>,
    told: Vec<Candidate>,
    ranked: Vec<Vec<u32>>,
    fits: Vec<(Settings, usize)>,
    clock: f64,
}

fn known(name: &&str) -> Known {
    let installed = Installed { name: (*name).to_owned(), sides: Sides::From(1), is_trainable: true };
    Known { installed, is_last_resort: false }
}

fn run(case: &Case) -> Ran {
    run_stated(case, Hyperparameters::default())
}

fn run_stated(case: &Case, stated: Hyperparameters) -> Ran {
    let labels: Vec<u32> = (0..case.n).map(|row| (row % N_CLASSES) as u32).collect();
    let schedule = Schedule::new(&labels, &(0..case.n).collect::<Vec<_>>(), case.n_train, 1);
    let question = Question {
        labels: &labels,
        n_classes: N_CLASSES,
        schedule: &schedule,
        n_final: case.n,
        budget_seconds: case.budget,
    };
    let proposals = Proposals {
        stated,
        backbones: case.backbones.iter().map(known).collect(),
        picture_side: 32,
        n_pictures: case.n,
    };
    let mut bench = MadeUp {
        labels: &labels,
        accuracy: case.accuracy,
        costs: case.costs,
        pace: case.pace,
        budget: case.budget,
        clock: 0.0,
        told: vec![],
        ranked: vec![],
        fits: vec![],
    };
    let found = search(&question, &proposals, &mut bench);
    Ran { found, told: bench.told, ranked: bench.ranked, fits: bench.fits, clock: bench.clock }
}

#[test]
fn the_best_family_on_the_best_backbone_wins_within_the_budget() {
    let ran = run(&case());
    let found = ran.found.unwrap();
    assert_eq!((found.settings.family, found.settings.backbone.as_deref()), (Family::FineTune, Some("good")));
    let final_fit = usual_costs(&found.settings).1 * 2.0;
    assert!(ran.clock + final_fit <= 70.0, "the trials took {} s", ran.clock);
    let beginning = format!("Fine-tuned good at {} px", found.settings.input_size);
    assert!(found.sentence.starts_with(&beginning) && found.sentence.contains(" won: "), "{}", found.sentence);
    assert!(found.sentence.contains("-fold cross-validation against "), "{}", found.sentence);
    assert_eq!(found.rows.len() * N_CLASSES, found.answers.logits.len());
    assert!(found.rows.len() >= 40);
    let others = found.others.iter().flat_map(|(rows, _)| rows);
    let asked: HashSet<usize> = found.rows.iter().chain(others).copied().collect();
    assert!(found.rows.len() < 200 && asked.len() == 200, "heads were asked about what the chosen one was not");
}

#[test]
fn few_pictures_decide_against_what_can_be_tried_but_once_only_if_it_is_clearly_worse() {
    fn close(settings: &Settings) -> f64 {
        if settings.family == Family::FineTune { 0.85 } else { usual_accuracy(settings) }
    }
    fn clear(settings: &Settings) -> f64 {
        if settings.family == Family::FineTune { 0.4 } else { usual_accuracy(settings) }
    }
    let tried = |accuracy| {
        let found = run(&Case { accuracy, budget: 50.0, ..case() }).found.unwrap();
        let tuned = found.leaderboard.iter().find(|candidate| candidate.settings.family == Family::FineTune).unwrap();
        assert!((1..3).contains(&tuned.rounds), "{} rounds", tuned.rounds);
        (found.settings.family, tuned.val_accuracy.unwrap(), found.sentence)
    };
    let (family, accuracy, sentence) = tried(close);
    assert!(family == Family::FineTune && accuracy < 0.825, "{family:?} {accuracy}: {sentence}");
    assert!(
        sentence.contains("which is not clearly better on the pictures that the budget allowed both"),
        "{sentence}"
    );
    assert_eq!(tried(clear).0, Family::Linear);
}

#[test]
fn a_candidate_that_was_not_tried_is_told_what_a_trial_would_take() {
    let boards = (20..100).step_by(4).map(|budget| run(&Case { budget: f64::from(budget), ..case() }).found.unwrap());
    let candidates: Vec<Candidate> = boards.flat_map(|found| found.leaderboard).collect();
    let refused = |candidate: &&Candidate| {
        candidate
            .reason
            .as_deref()
            .is_some_and(|reason| reason.contains("which the budget has not beside the final fit"))
    };
    let (untried, tried): (Vec<_>, Vec<_>) =
        candidates.iter().filter(refused).partition(|candidate| candidate.rounds == 0);
    assert!(!untried.is_empty(), "no budget was tight enough");
    let begins = |candidate: &Candidate, with| candidate.reason.as_deref().unwrap().starts_with(with);
    assert!(untried.iter().all(|candidate| begins(candidate, "a trial would take")), "{untried:?}");
    assert!(tried.iter().all(|candidate| begins(candidate, "another round would take")), "{tried:?}");
}

#[test]
fn the_same_question_has_the_same_answer_on_a_machine_of_another_speed() {
    let (usual, slower) = (run(&case()), run(&Case { pace: 1.3, ..case() }));
    assert_eq!(usual.fits, slower.fits);
    assert_eq!(usual.found.unwrap().sentence, slower.found.unwrap().sentence);
}

#[test]
fn a_machine_that_is_far_too_slow_is_stopped_by_the_clock_and_says_so() {
    let ran = run(&Case { pace: 8.0, ..case() });
    let found = ran.found.unwrap();
    assert!(ran.clock < DEFAULT_OVERRUN * 60.0, "the trials took {} s", ran.clock);
    assert!(found.notes.iter().any(|note| note.contains("cut short by the clock")), "{:?}", found.notes);
    for candidate in &found.leaderboard {
        assert_ne!(candidate.state, CandidateState::Running);
        assert!(candidate.rounds > 0 || candidate.reason.is_some(), "{candidate:?}");
    }
}

#[test]
fn what_the_budget_does_not_allow_for_is_dropped_with_its_reason() {
    fn costs(settings: &Settings) -> (f64, f64, u64) {
        let (features, fit, per_picture) = usual_costs(settings);
        if settings.family == Family::FineTune { (0.0, 400.0, per_picture) } else { (features, fit, per_picture) }
    }
    let found = run(&Case { costs, ..case() }).found.unwrap();
    assert_eq!(found.settings.family, Family::Linear);
    let tuned = found.leaderboard.iter().find(|candidate| candidate.settings.family == Family::FineTune).unwrap();
    assert_eq!((tuned.state, tuned.rounds, tuned.val_accuracy), (CandidateState::Dropped, 0, None));
    assert!(tuned.reason.as_deref().unwrap().contains("s of the budget were left"), "{:?}", tuned.reason);
}

#[test]
fn candidates_that_fail_are_lines_and_not_the_end() {
    let found = run(&case()).found.unwrap();
    let failed: Vec<_> = found.leaderboard.iter().filter(|c| c.state == CandidateState::Failed).collect();
    let reasons: Vec<_> = failed.iter().map(|candidate| candidate.reason.as_deref().unwrap()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("hidden layers are out of order")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("training diverged")), "{reasons:?}");
    assert_eq!(found.leaderboard[0].state, CandidateState::Chosen);
}

#[test]
fn when_every_candidate_fails_the_run_fails_with_their_reasons() {
    fn costs(_: &Settings) -> (f64, f64, u64) {
        panic!("never asked for what cannot be built")
    }
    let labels = [0, 1, 0, 1];
    let schedule = Schedule::new(&labels, &[0, 1, 2, 3], 4, 1);
    let question =
        Question { labels: &labels, n_classes: N_CLASSES, schedule: &schedule, n_final: 4, budget_seconds: 60.0 };
    let stated = Hyperparameters { hidden_units: Some(8), family: None, ..Hyperparameters::default() };
    let proposals = Proposals { stated, backbones: vec![], picture_side: 32, n_pictures: 4 };
    struct Broken;
    impl Bench for Broken {
        fn cost(&self, _: &Settings, _: usize) -> Result<Cost> {
            Err(TrainerError::Settings(vec!["no such network".into()]))
        }
        fn must_stop(&mut self, _: f64, _: f64) -> Result<bool> {
            Ok(false)
        }
        fn fit(&mut self, settings: &Settings, _: &Fold) -> Result<(Answers, f64)> {
            costs(settings);
            Ok((Answers::default(), 0.0))
        }
        fn tell(&mut self, _: &Candidate) -> Result<()> {
            Ok(())
        }
        fn rank(&mut self, _: &[u32]) -> Result<()> {
            Ok(())
        }
    }
    let error = search(&question, &proposals, &mut Broken).unwrap_err();
    assert!(error.to_string().contains("no such network"), "{error}");
}

#[test]
fn within_one_standard_error_the_network_that_is_cheaper_to_ask_wins() {
    fn accuracy(settings: &Settings) -> f64 {
        match settings.family {
            Family::Linear if settings.input_size == 224 => 0.905,
            Family::Linear => 0.9,
            _ => 0.5,
        }
    }
    let found = run(&Case { accuracy, backbones: vec!["one"], ..case() }).found.unwrap();
    assert_eq!((found.settings.family, found.settings.input_size), (Family::Linear, 160));
    assert!(found.sentence.contains("is within one standard error by cross-entropy"), "{}", found.sentence);
    assert!(found.sentence.contains("2.0 times the work for a picture"), "{}", found.sentence);
}

#[test]
fn every_candidate_is_told_from_its_beginning_to_its_end() {
    let ran = run(&case());
    let found = ran.found.unwrap();
    for candidate in &found.leaderboard {
        let told: Vec<_> = ran.told.iter().filter(|told| told.number == candidate.number).collect();
        assert_eq!(told.last().copied(), Some(candidate));
        assert!(candidate.rounds == 0 || told[0].state == CandidateState::Running);
    }
    let mut numbers: Vec<_> = found.leaderboard.iter().map(|candidate| candidate.number).collect();
    let chosen = numbers[0];
    let was_tried = |one: &&Candidate| one.val_accuracy.is_some() && one.state != CandidateState::Failed;
    let behind: Vec<_> = found.leaderboard[1..].iter().filter(was_tried).map(|one| one.number).collect();
    let told: Vec<_> = ran.ranked.last().unwrap().iter().copied().filter(|number| *number != chosen).collect();
    assert_eq!(behind, told, "behind the chosen one the lines stand as they were told last");
    assert!(ran.ranked.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", ran.ranked);
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>());
}

#[test]
fn many_pictures_are_searched_on_a_part_of_them() {
    let ran = run(&Case { n: 12_000, n_train: 10_000, budget: 600.0, ..case() });
    let found = ran.found.unwrap();
    assert!(found.leaderboard[0].val_accuracy.is_some());
    assert_eq!(found.leaderboard[0].folds, 0);
    assert!(ran.fits.iter().all(|(_, fitted)| *fitted <= 5000), "{:?}", ran.fits);
    assert!(found.rows.iter().all(|row| *row >= 10_000), "only the validation split is asked about");
}

#[test]
fn among_many_pictures_networks_from_scratch_are_tried_on_and_a_second_backbone_waits() {
    fn accuracy(settings: &Settings) -> f64 {
        if settings.family.has_backbone() { 0.9 } else { 0.6 }
    }
    fn costs(settings: &Settings) -> (f64, f64, u64) {
        let (features, fit, per_picture) = usual_costs(settings);
        (features * 60.0, fit / 50.0, per_picture)
    }
    let many = Case { n: 12_000, n_train: 10_000, budget: 200.0, accuracy, costs, ..case() };
    let board = run(&many).found.unwrap().leaderboard;
    let scratch = board.iter().filter(|candidate| !candidate.settings.family.has_backbone());
    assert_eq!(scratch.map(|candidate| candidate.rounds).max(), Some(2), "{board:?}");
    let is_head_on = |candidate: &&Candidate, name| {
        candidate.settings.family == Family::Linear && candidate.settings.backbone.as_deref() == Some(name)
    };
    assert!(board.iter().find(|candidate| is_head_on(candidate, "plain")).unwrap().rounds > 0);
    let waits = board.iter().find(|candidate| is_head_on(candidate, "good")).unwrap();
    assert_eq!((waits.state, waits.rounds), (CandidateState::Dropped, 0));
    assert!(waits.reason.as_deref().unwrap().contains("that is left to others"), "{:?}", waits.reason);

    let found = run(&Case { budget: 20_000.0, ..many }).found.unwrap();
    assert!(found.leaderboard.iter().filter(|candidate| is_head_on(candidate, "good")).any(|head| head.rounds > 0));
}

#[test]
fn the_final_fit_gets_the_epochs_that_the_budget_has_left_for_it() {
    fn accuracy(settings: &Settings) -> f64 {
        if settings.family == Family::Cnn { 0.9 } else { 0.5 }
    }
    // All epochs of the network from scratch take more than the budget.
    fn costs(settings: &Settings) -> (f64, f64, u64) {
        let (features, fit, per_picture) = usual_costs(settings);
        (features * 4.0, if settings.family == Family::Cnn { 4.0 } else { fit }, per_picture)
    }
    let many = |stated| {
        let case = Case { n: 12_000, n_train: 10_000, budget: 300.0, accuracy, costs, ..case() };
        let ran = run_stated(&case, stated);
        (ran.found.unwrap(), ran.clock)
    };
    let (found, clock) = many(Hyperparameters::default());
    let tried = found.leaderboard[0].settings.clone();
    let usual = Settings::defaults(Family::Cnn, 32).epochs;
    let epochs = found.settings.epochs;
    assert!(tried.epochs < epochs && epochs < usual, "{} epochs were tried, {epochs} are left", tried.epochs);
    assert_eq!(Settings { epochs: tried.epochs, ..found.settings.clone() }, tried);
    let final_fit = |epochs: u32| 4.0 * f64::from(epochs) / f64::from(usual) * 120.0;
    assert!(clock + final_fit(epochs) <= 300.0, "the trials took {clock} s");
    let told = format!("trials with {} of {epochs} epochs", tried.epochs);
    assert!(found.notes.iter().any(|note| note.contains(&told)), "{:?}", found.notes);

    let (found, _) = many(Hyperparameters { epochs: Some(2), ..Hyperparameters::default() });
    assert_eq!((found.settings.family, found.settings.epochs), (Family::Cnn, 2), "what a person states stays");
}

#[test]
fn a_budget_that_is_too_short_for_anything_takes_the_cheapest_untried_and_says_so() {
    fn costs(settings: &Settings) -> (f64, f64, u64) {
        let (features, fit, per_picture) = usual_costs(settings);
        (features * 1e3, fit * 1e3, per_picture)
    }
    let found = run(&Case { costs, ..case() }).found.unwrap();
    assert!(found.sentence.contains("was taken untried"), "{}", found.sentence);
    assert!(found.rows.is_empty() && found.answers.logits.is_empty());
    assert!(found.notes.iter().any(|note| note.contains("too short for this many pictures")), "{:?}", found.notes);
}
