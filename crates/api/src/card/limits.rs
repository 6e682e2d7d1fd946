//! What a person should keep in mind before relying on a version, in sentences that follow from its figures alone.

use super::{CardData, CardMetrics, named};
use crate::{
    dataset::{ClassCount, Split},
    model::ModelManifest,
    train::{ClassMetrics, Results},
};

/// Train pictures below which a class is called small.
const FEW_TRAIN: u64 = 20;

/// Test pictures below which the figures of a class say little.
const FEW_TEST: u64 = 10;

/// How many times more pictures the largest class may have than the smallest before that is worth saying.
const UNBALANCED: u64 = 3;

/// Side in pixels below which it is worth saying that details are lost.
const SMALL_SIDE: u32 = 100;

/// What limits follow from.
pub(super) struct Limits<'a> {
    pub(super) manifest: &'a ModelManifest,
    pub(super) results: &'a Results,
    pub(super) data: &'a CardData,
    pub(super) metrics: &'a CardMetrics,
}

impl Limits<'_> {
    /// One for each thing to keep in mind, the weightiest first.
    pub(super) fn sentences(&self) -> Vec<String> {
        let all = [
            Some(self.size_of_test()),
            self.origin(),
            self.small_classes(),
            self.little_tested(),
            self.balance(),
            self.weakest(),
            self.suspects(),
            self.calibration(),
            Some(self.doubt()),
            self.resolution(),
        ];
        all.into_iter().flatten().collect()
    }

    fn size_of_test(&self) -> String {
        match (self.metrics.test_accuracy, self.metrics.test_accuracy_interval) {
            (Some(accuracy), Some([from, to])) => format!(
                "Its accuracy of {} was measured on {} test pictures: with 95 % confidence it lies between {} and {} on \
                 pictures like them.",
                percent(accuracy),
                self.metrics.test_pictures,
                percent(from),
                percent(to)
            ),
            _ => "There were no test pictures: how well it does on new pictures is not known.".into(),
        }
    }

    fn origin(&self) -> Option<String> {
        (self.metrics.test_pictures > 0).then(|| {
            "Its test pictures came in the same upload as its train pictures; pictures of another origin may be harder."
                .into()
        })
    }

    fn small_classes(&self) -> Option<String> {
        let few: Vec<String> = self
            .data
            .classes
            .iter()
            .filter(|class| class.train < FEW_TRAIN)
            .map(|class| format!("{} ({})", class.name, class.train))
            .collect();
        let few: Vec<&str> = few.iter().map(String::as_str).collect();
        (!few.is_empty()).then(|| format!("Fewer than {FEW_TRAIN} train pictures: {}.", named(&few)))
    }

    fn little_tested(&self) -> Option<String> {
        let few = self.data.classes.iter().filter(|class| class.test < FEW_TEST).map(|class| class.name.as_str());
        let few: Vec<&str> = few.collect();
        (self.metrics.test_pictures > 0 && !few.is_empty()).then(|| {
            format!(
                "Fewer than {FEW_TEST} test pictures, so that the figures of the class say little: {}.",
                named(&few)
            )
        })
    }

    fn balance(&self) -> Option<String> {
        let by_train = |class: &&ClassCount| class.of(Split::Train);
        let (most, least) =
            (self.data.classes.iter().max_by_key(by_train)?, self.data.classes.iter().min_by_key(by_train)?);
        (most.train >= UNBALANCED * least.train.max(1)).then(|| {
            format!(
                "The classes are unbalanced: {} has {} train pictures, {} has {}; in doubt it leans towards large classes.",
                most.name, most.train, least.name, least.train
            )
        })
    }

    fn weakest(&self) -> Option<String> {
        let recall = |class: &&ClassMetrics| class.recall.unwrap_or(1.0);
        let weakest = self.results.per_class.iter().min_by(|a, b| recall(a).total_cmp(&recall(b)))?;
        let missed = weakest.recall.filter(|recall| *recall < 1.0)?;
        Some(format!(
            "It finds {} least often: {} of its {} test pictures.",
            weakest.label,
            percent(missed),
            weakest.support
        ))
    }

    fn suspects(&self) -> Option<String> {
        match self.data.suspects {
            0 => None,
            1 => Some("1 picture of its dataset probably has a wrong label.".into()),
            n => Some(format!("{n} pictures of its dataset probably have a wrong label.")),
        }
    }

    fn calibration(&self) -> Option<String> {
        let off = self.results.calibration.as_ref()?.test_ece?;
        Some(format!(
            "Its confidence is off by {} on average on the test pictures (expected calibration error).",
            percent(off)
        ))
    }

    fn doubt(&self) -> String {
        match self.manifest.doubt {
            Some(doubt) => format!(
                "It marks answers as unsure where a picture is unlike those it was made from, and {} of pictures of its \
                 classes too; a picture of none of its classes may still get a sure answer.",
                percent(f64::from(doubt.false_alarms))
            ),
            None => {
                "It answers with one of its classes whatever a picture shows, and never says that it is unsure.".into()
            }
        }
    }

    fn resolution(&self) -> Option<String> {
        let (width, height) = (self.manifest.preprocess.width, self.manifest.preprocess.height);
        (width.max(height) < SMALL_SIDE)
            .then(|| format!("It sees pictures at {width} × {height} pixels; what is smaller than that is lost."))
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
