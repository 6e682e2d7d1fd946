//! What a trainer leaves in the run's folder, so that another one can go on where it died: how far the final fit is, and
//! what the search's trials answered.
//!
//! Nothing here is read once the run has ended; a file that is damaged or belongs to other settings counts as none.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use api::train::{EpochMetrics, Settings};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Result, TrainerError,
    model::Weights,
    train::{Keeper, Kept},
};

const FOLDER: &str = "checkpoint";
const FIT: &str = "fit";
const TRIALS: &str = "trials.jsonl";

/// Time between two checkpoints of a fit, at least.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// A checkpoint takes at most one part in so many of the time, unless the interval is zero.
const MOST_SHARE: u32 = 20;

/// A run's folder of checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
}

impl Checkpoints {
    /// Those of a run, by its folder.
    ///
    /// # Errors
    /// `Store` if the folder cannot be made
    pub fn of(run: &Path) -> Result<Self> {
        let dir = run.join(FOLDER);
        fs::create_dir_all(&dir).map_err(TrainerError::write(&dir))?;
        Ok(Self { dir })
    }

    /// Removes everything from a run's folder: the run has ended.
    pub fn clear(run: &Path) {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_dir_all(run.join(FOLDER));
    }

    /// The final fit's keeper.
    pub fn fit(&self, settings: &Settings, interval: Duration) -> FitKeeper {
        FitKeeper { path: self.dir.join(FIT), settings: settings.clone(), interval, due: None }
    }

    /// The last epoch of the final fit that was kept, whatever its settings; 0 if there is none.
    pub fn last_epoch(&self) -> u32 {
        fs::read(self.dir.join(FIT)).ok().and_then(|bytes| decode(&bytes, None)).map_or(0, |kept| kept.epoch)
    }

    /// The search's trials until now.
    ///
    /// # Errors
    /// `Store` if no more can be added
    pub fn trials(&self) -> Result<Trials> {
        let path = self.dir.join(TRIALS);
        let text = fs::read_to_string(&path).unwrap_or_default();
        // A crash may have cut the last line off; what comes behind it would never be read again.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut known = vec![];
        let mut bytes = 0;
        for line in whole.lines() {
            let Ok(trial) = serde_json::from_str(line) else { break };
            known.push(trial);
            bytes += line.len() as u64 + 1;
        }
        let file = File::options().create(true).append(true).open(&path);
        let file = file.and_then(|file| file.set_len(bytes).map(|()| file)).map_err(TrainerError::write(&path))?;
        known.reverse();
        Ok(Trials { path, file, known })
    }
}

/// Keeps the final fit's state after an epoch, though not more often than is worth it.
#[derive(Debug)]
pub struct FitKeeper {
    path: PathBuf,
    settings: Settings,
    interval: Duration,
    due: Option<Instant>,
}

impl Keeper for FitKeeper {
    fn restore(&mut self) -> Result<Option<Kept>> {
        Ok(fs::read(&self.path).ok().and_then(|bytes| decode(&bytes, Some(&self.settings))))
    }

    fn keep(&mut self, kept: &Kept) -> Result<()> {
        let started = Instant::now();
        if self.due.is_some_and(|due| started < due) {
            return Ok(());
        }
        store::write_atomic(&self.path, &encode(kept, &self.settings))?;
        if !self.interval.is_zero() {
            self.due = Some(Instant::now() + self.interval.max(started.elapsed() * MOST_SHARE));
        }
        Ok(())
    }
}

/// What stands in front of the numbers.
#[derive(Serialize, Deserialize)]
struct Head {
    settings: Settings,
    epoch: u32,
    steps: u64,
    curves: Vec<EpochMetrics>,
    /// Lengths of the optimiser's tensors.
    state: Vec<usize>,
    /// Bits of the deciding figure, epoch, lengths of the weights.
    best: (u64, u32, Vec<usize>),
}

/// SHA-256 of all that follows; length of the head, head as JSON, numbers.
fn encode(kept: &Kept, settings: &Settings) -> Vec<u8> {
    let lengths = |tensors: &[Vec<f32>]| tensors.iter().map(Vec::len).collect::<Vec<_>>();
    let head = Head {
        settings: settings.clone(),
        epoch: kept.epoch,
        steps: kept.steps,
        curves: kept.curves.clone(),
        state: lengths(&kept.state),
        best: (kept.best.0.to_bits(), kept.best.1, lengths(&kept.best.2)),
    };
    let head = serde_json::to_vec(&head).expect("plain data serialises");
    let mut body = (head.len() as u64).to_le_bytes().to_vec();
    body.extend(head);
    for value in kept.state.iter().chain(&kept.best.2).flatten() {
        body.extend(value.to_le_bytes());
    }
    let mut bytes = Sha256::digest(&body).to_vec();
    bytes.append(&mut body);
    bytes
}

fn decode(bytes: &[u8], settings: Option<&Settings>) -> Option<Kept> {
    let (digest, body) = bytes.split_at_checked(32)?;
    if Sha256::digest(body).as_slice() != digest {
        return None;
    }
    let (length, rest) = body.split_first_chunk::<8>()?;
    let (head, numbers) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let head: Head = serde_json::from_slice(head).ok()?;
    if settings.is_some_and(|settings| *settings != head.settings) {
        return None;
    }
    let mut numbers = numbers.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    let mut tensors = |lengths: &[usize]| -> Option<Weights> {
        let tensors: Weights = lengths.iter().map(|&length| numbers.by_ref().take(length).collect()).collect();
        tensors.iter().zip(lengths).all(|(tensor, &length)| tensor.len() == length).then_some(tensors)
    };
    let state = tensors(&head.state)?;
    let (figure, epoch, lengths) = head.best;
    let best = (f64::from_bits(figure), epoch, tensors(&lengths)?);
    Some(Kept { epoch: head.epoch, steps: head.steps, state, curves: head.curves, best })
}

/// What became of one trial, or of the search as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trial {
    /// It answered.
    Answered {
        /// What was fitted.
        settings: Settings,
        /// Bits of the logits.
        logits: Vec<u32>,
        /// Bits of how strange each picture was.
        strangeness: Vec<u32>,
        /// What it took.
        seconds: f64,
    },
    /// It failed.
    Failed {
        /// What was to be fitted.
        settings: Settings,
        /// Why, in one sentence.
        reason: String,
    },
    /// The clock stopped the search in front of the next one.
    Stopped,
}

/// Trials in the order in which they were made: those of dead trainers first, then new ones are added.
#[derive(Debug)]
pub struct Trials {
    path: PathBuf,
    file: File,
    /// Last first.
    known: Vec<Trial>,
}

impl Trials {
    /// What a dead trainer came to in this place; nothing where it did not get so far.
    pub fn next_known(&mut self) -> Option<Trial> {
        self.known.pop()
    }

    /// The same, without going on.
    pub fn peek_known(&self) -> Option<&Trial> {
        self.known.last()
    }

    /// Drops all of them: they belong to another search.
    ///
    /// # Errors
    /// `Store` if the file cannot be emptied
    pub fn forget(&mut self) -> Result<()> {
        self.known.clear();
        self.file.set_len(0).map_err(TrainerError::write(&self.path))
    }

    /// Adds one.
    ///
    /// # Errors
    /// `Store` if the volume is full
    pub fn add(&mut self, trial: &Trial) -> Result<()> {
        let mut line = serde_json::to_vec(trial).expect("plain data serialises");
        line.push(b'\n');
        self.file.write_all(&line).map_err(TrainerError::write(&self.path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use api::train::Family;

    use super::*;

    fn kept(epoch: u32) -> Kept {
        let metrics = EpochMetrics {
            epoch,
            epochs: 9,
            step: 40,
            loss: 0.1 + 0.2,
            accuracy: 0.5,
            val_loss: None,
            val_accuracy: None,
            learning_rate: 1e-3,
            images_per_second: 10.0,
            seconds: 1.0,
            remaining_seconds: 2.0,
        };
        let state = vec![vec![1.0, -0.0, f32::MIN_POSITIVE], vec![0.1]];
        Kept { epoch, steps: 40, state, curves: vec![metrics], best: (0.1 + 0.7, 2, vec![vec![3.5], vec![]]) }
    }

    #[test]
    fn a_fit_goes_on_with_the_very_numbers_it_was_left_with() {
        let run = tempfile::tempdir().unwrap();
        let settings = Settings::defaults(Family::Cnn, 32);
        let checkpoints = Checkpoints::of(run.path()).unwrap();
        let mut keeper = checkpoints.fit(&settings, Duration::ZERO);
        assert!(keeper.restore().unwrap().is_none() && checkpoints.last_epoch() == 0);
        keeper.keep(&kept(3)).unwrap();
        let restored = checkpoints.fit(&settings, Duration::ZERO).restore().unwrap().unwrap();
        assert_eq!(restored, kept(3));
        assert_eq!(checkpoints.last_epoch(), 3);

        let other = Settings { epochs: settings.epochs + 1, ..settings };
        assert!(checkpoints.fit(&other, Duration::ZERO).restore().unwrap().is_none(), "that was another fit");
        Checkpoints::clear(run.path());
        assert!(!run.path().join(FOLDER).exists());
    }

    #[test]
    fn a_damaged_checkpoint_is_none() {
        let run = tempfile::tempdir().unwrap();
        let settings = Settings::defaults(Family::Cnn, 32);
        let checkpoints = Checkpoints::of(run.path()).unwrap();
        let mut keeper = checkpoints.fit(&settings, Duration::ZERO);
        keeper.keep(&kept(3)).unwrap();
        let whole = fs::read(&keeper.path).unwrap();
        for at in [0, 35, 50, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&keeper.path, &bytes).unwrap();
            assert!(keeper.restore().unwrap().is_none(), "byte {at} is another one");
            fs::write(&keeper.path, &whole[..at]).unwrap();
            assert!(keeper.restore().unwrap().is_none(), "{at} bytes are left");
        }
    }

    #[test]
    fn checkpoints_that_follow_too_closely_are_left_out() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path()).unwrap();
        let mut keeper = checkpoints.fit(&Settings::defaults(Family::Cnn, 32), Duration::from_secs(3600));
        keeper.keep(&kept(1)).unwrap();
        keeper.keep(&kept(2)).unwrap();
        assert_eq!(checkpoints.last_epoch(), 1);
    }

    #[test]
    fn trials_come_back_in_their_order_and_a_torn_line_is_none() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path()).unwrap();
        let settings = Settings::defaults(Family::Cnn, 32);
        let logits = vec![(0.1f32 + 0.2).to_bits(), f32::NAN.to_bits()];
        let answered =
            Trial::Answered { settings: settings.clone(), logits, strangeness: vec![0.5f32.to_bits()], seconds: 1.5 };
        let failed = Trial::Failed { settings, reason: "it was too hard".into() };
        let mut trials = checkpoints.trials().unwrap();
        assert_eq!(trials.next_known(), None);
        trials.add(&answered).unwrap();
        trials.add(&failed).unwrap();
        let path = trials.path.clone();
        let torn = [fs::read(&path).unwrap().as_slice(), b"{\"answered\":{\"sett"].concat();
        fs::write(&path, torn).unwrap();

        let mut trials = checkpoints.trials().unwrap();
        assert_eq!(trials.peek_known(), Some(&answered));
        assert_eq!(
            (trials.next_known(), trials.next_known(), trials.next_known()),
            (Some(answered), Some(failed), None)
        );
        trials.add(&Trial::Stopped).unwrap();
        assert_eq!(checkpoints.trials().unwrap().known.first(), Some(&Trial::Stopped));
        assert_eq!(checkpoints.trials().unwrap().known.len(), 3);
    }
}
