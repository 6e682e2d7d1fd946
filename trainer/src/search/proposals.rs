//! Which candidates the search considers, in which order: cheap ones first, then variants of what did best.

use api::{
    backbone::{Installed, Sides},
    train::{Augmentation, Family, Hyperparameters, Settings},
};

/// Fewer pictures than this are not enough for a network from scratch to be worth much where there is a backbone.
const LEAST_FOR_SCRATCH: usize = 1000;

/// With as many pictures a budget has time for few epochs of a network from scratch.
const LEAST_FOR_SHORT_SCHEDULES: usize = 3000;

/// Sides in pixels at which a backbone may see pictures, from the most accurate to the fastest.
const SIZES: [u32; 5] = [224, 160, 128, 96, 64];

/// A candidate in several forms, the best one first; the first that the budget allows for is tried.
pub type Proposal = Vec<Settings>;

/// A backbone as far as candidates go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name, the sides that it sees, and whether its blocks can be trained on.
    pub installed: Installed,
    /// Whether it is worth trying only where it is asked for or there is no other.
    pub is_last_resort: bool,
}

impl Known {
    fn fixed_size(&self) -> Option<u32> {
        match self.installed.sides {
            Sides::Only(side) => Some(side),
            Sides::From(_) => None,
        }
    }
}

/// What the candidates follow from.
#[derive(Clone, Debug)]
pub struct Proposals {
    /// What was stated for all of them.
    pub stated: Hyperparameters,
    /// Installed backbones.
    pub backbones: Vec<Known>,
    /// Longer side of the dataset's pictures.
    pub picture_side: u32,
    /// Pictures of the final fit.
    pub n_pictures: usize,
}

impl Proposals {
    /// The candidates of one wave; nothing after the last one.
    ///
    /// `best_head` is the best linear head until now. What depends most on the budget has a wave of its own, so that it
    /// shares what is left with nobody.
    pub fn wave(&self, number: usize, best_head: Option<&Settings>) -> Option<Vec<Proposal>> {
        let scratch_is_first = self.scratch_is_promising();
        let scratch = |wanted: bool| if wanted { self.scratch() } else { vec![] };
        match number {
            0 => {
                let heads = self.backbones().map(|backbone| self.shrinking_head(self.of(Family::Linear, backbone)));
                Some(heads.chain(scratch(scratch_is_first)).collect())
            }
            1 => Some(self.tuned(best_head)),
            2 => Some(self.larger(best_head)),
            3 => Some(self.around(best_head)),
            4 => Some(scratch(!scratch_is_first)),
            _ => None,
        }
    }

    fn of(&self, family: Family, backbone: &Known) -> Settings {
        let input_size = backbone.fixed_size().or(self.stated.input_size);
        let stated =
            Hyperparameters { backbone: Some(backbone.installed.name.clone()), input_size, ..self.stated.clone() };
        stated.settings(family, self.picture_side)
    }

    /// Those that candidates may be built on.
    fn backbones(&self) -> impl Iterator<Item = &Known> {
        let is_bare = self.backbones.iter().all(|backbone| backbone.is_last_resort);
        self.backbones.iter().filter(move |backbone| match &self.stated.backbone {
            Some(name) => *name == backbone.installed.name,
            None => is_bare || !backbone.is_last_resort,
        })
    }

    fn has_fixed_size(&self, settings: &Settings) -> bool {
        let is_it = |backbone: &&Known| settings.backbone.as_ref() == Some(&backbone.installed.name);
        self.stated.input_size.is_some()
            || self.backbones.iter().find(is_it).is_some_and(|it| it.fixed_size().is_some())
    }

    fn scratch_is_promising(&self) -> bool {
        self.n_pictures >= LEAST_FOR_SCRATCH || self.backbones.is_empty()
    }

    /// Networks from scratch; none where a backbone was asked for.
    fn scratch(&self) -> Vec<Proposal> {
        if self.stated.backbone.is_some() {
            return vec![];
        }
        let of = |family| {
            let usual = self.stated.settings(family, self.picture_side);
            if self.n_pictures < LEAST_FOR_SHORT_SCHEDULES { usual } else { short_schedule(usual, &self.stated) }
        };
        [Family::SeparableCnn, Family::Cnn].map(|family| self.shortening(of(family))).into()
    }

    /// A backbone trained on: the one that the recipe was made with, or where it is missing the one under the best head.
    fn tuned(&self, best_head: Option<&Settings>) -> Vec<Proposal> {
        let named = |name: Option<&String>| self.backbones().find(|known| Some(&known.installed.name) == name);
        let usual = Settings::defaults(Family::FineTune, self.picture_side).backbone;
        let under_head = || named(best_head?.backbone.as_ref());
        let Some(backbone) = named(usual.as_ref()).or_else(under_head).filter(|known| known.installed.is_trainable)
        else {
            return vec![];
        };
        // Inputs that are hardly larger than the pictures cost more of what they show than training on brings.
        let is_large = |form: &Settings| form.input_size >= 2 * self.picture_side;
        let mut forms = self.shrinking(self.of(Family::FineTune, backbone));
        let n_large = forms.iter().take_while(|form| is_large(form)).count();
        forms.truncate(n_large.max(1));
        vec![forms.into_iter().flat_map(|form| self.with_half_the_epochs(form)).collect()]
    }

    /// A backbone trained on, and the same in half the epochs, for which it takes steps twice as large.
    fn with_half_the_epochs(&self, settings: Settings) -> impl Iterator<Item = Settings> + use<> {
        let factor = if self.stated.learning_rate.is_none() { 2.0 } else { 1.0 };
        let half = self.shortening(settings.clone()).into_iter().nth(1);
        let half = half.map(|half| Settings { learning_rate: factor * half.learning_rate, ..half });
        [settings].into_iter().chain(half)
    }

    /// The best head on larger inputs, where the first wave had no room for their features.
    fn larger(&self, best_head: Option<&Settings>) -> Vec<Proposal> {
        let Some(best) = best_head.filter(|best| !self.has_fixed_size(best)) else { return vec![] };
        let usual = self.stated.settings(best.family, self.picture_side).input_size;
        let sizes = SIZES.into_iter().filter(|size| (best.input_size + 1..=usual).contains(size));
        let forms: Proposal = sizes.map(|input_size| Settings { input_size, ..best.clone() }).collect();
        if forms.is_empty() { vec![] } else { vec![forms] }
    }

    /// Variants of the best head.
    fn around(&self, best_head: Option<&Settings>) -> Vec<Proposal> {
        let Some(best) = best_head else { return vec![] };
        let mut proposals = vec![];
        if self.stated.learning_rate.is_none() {
            let learning_rate = (best.learning_rate * 3.0).min(1.0);
            proposals.push(vec![Settings { learning_rate, ..best.clone() }]);
        }
        if let Some(backbone) = self.backbones().find(|known| Some(&known.installed.name) == best.backbone.as_ref()) {
            proposals.push(vec![Settings { input_size: best.input_size, ..self.of(Family::Mlp, backbone) }]);
        }
        if !self.has_fixed_size(best)
            && let Some(&input_size) = SIZES.iter().find(|&&size| size < best.input_size)
        {
            proposals.push(vec![Settings { input_size, ..best.clone() }]);
        }
        proposals
    }

    /// The same at smaller and smaller input sizes, and in the end without variants of the pictures.
    fn shrinking(&self, settings: Settings) -> Proposal {
        let mut forms = vec![settings.clone()];
        if !self.has_fixed_size(&settings) {
            let smaller = SIZES.into_iter().filter(|&size| size < settings.input_size);
            forms.extend(smaller.map(|input_size| Settings { input_size, ..settings.clone() }));
        }
        if self.stated.augmentation.is_none()
            && settings.family != Family::FineTune
            && let Some(last) = forms.last()
        {
            forms.push(Settings { augmentation: Augmentation::None, ..last.clone() });
        }
        forms
    }

    /// A head at smaller and smaller input sizes, each with all, a quarter and an eighth of its epochs: steps on many
    /// pictures cost more than features.
    fn shrinking_head(&self, settings: Settings) -> Proposal {
        let forms = self.shrinking(settings);
        let shorter = |settings: Settings| {
            let forms = self.shortening(settings);
            [0, 2, 3].into_iter().filter_map(move |halvings| forms.get(halvings).cloned())
        };
        forms.into_iter().flat_map(shorter).collect()
    }

    /// The same with fewer and fewer epochs.
    fn shortening(&self, settings: Settings) -> Proposal {
        let mut forms = vec![settings];
        while self.stated.epochs.is_none()
            && let Some(last) = forms.last()
            && last.epochs > 1
        {
            let epochs = last.epochs / 2;
            forms.push(Settings { epochs, ..last.clone() });
        }
        forms
    }
}

/// Settings of a network from scratch that sees each picture a few times only: larger steps, and pictures less changed.
fn short_schedule(usual: Settings, stated: &Hyperparameters) -> Settings {
    Settings {
        batch_size: stated.batch_size.unwrap_or(64),
        learning_rate: stated.learning_rate.unwrap_or(3e-3),
        label_smoothing: stated.label_smoothing.unwrap_or(0.1),
        augmentation: stated.augmentation.unwrap_or(Augmentation::Flip),
        ..usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposals(n_pictures: usize, backbones: &[&str], stated: Hyperparameters) -> Proposals {
        let known = |name: &&str| Known {
            installed: Installed { name: (*name).to_owned(), sides: Sides::From(1), is_trainable: true },
            is_last_resort: name.starts_with("weak"),
        };
        let backbones = backbones.iter().map(known).collect();
        Proposals { stated, backbones, picture_side: 32, n_pictures }
    }

    fn families(wave: &[Proposal]) -> Vec<Family> {
        wave.iter().map(|forms| forms[0].family).collect()
    }

    #[test]
    fn few_pictures_begin_with_heads_and_end_with_networks_from_scratch() {
        let few = proposals(200, &["a", "b"], Hyperparameters::default());
        let first = few.wave(0, None).expect("a first wave");
        assert_eq!(families(&first), [Family::Linear, Family::Linear]);
        let best = first[1][0].clone();
        let second = few.wave(1, Some(&best)).expect("a second wave");
        assert_eq!(families(&second), [Family::FineTune]);
        assert_eq!(few.wave(2, Some(&best)), Some(vec![]), "its inputs are as large as they get");
        let fourth = few.wave(3, Some(&best)).expect("a fourth wave");
        assert!(second.iter().chain(&fourth).flatten().all(|settings| settings.backbone.as_deref() == Some("b")));
        assert_eq!(families(&few.wave(4, Some(&best)).expect("a fifth wave")), [Family::SeparableCnn, Family::Cnn]);
        assert_eq!(few.wave(5, Some(&best)), None);
    }

    #[test]
    fn a_head_whose_inputs_the_first_wave_made_small_is_tried_on_larger_ones() {
        let sizes = |stated: Hyperparameters| {
            let few = proposals(1500, &["a"], stated);
            let first = few.wave(0, None).expect("a first wave");
            let best = Settings { input_size: 96, ..first[0][0].clone() };
            let third = few.wave(2, Some(&best)).expect("a third wave");
            assert!(third.iter().flatten().all(|settings| settings.family == best.family));
            third.iter().flatten().map(|settings| settings.input_size).collect::<Vec<_>>()
        };
        assert_eq!(sizes(Hyperparameters::default()), [224, 160, 128]);
        assert!(sizes(Hyperparameters { input_size: Some(96), ..Hyperparameters::default() }).is_empty());
    }

    #[test]
    fn many_pictures_or_no_backbone_begin_with_networks_from_scratch_too() {
        let many = proposals(5000, &["a"], Hyperparameters::default());
        let wave = many.wave(0, None).expect("a first wave");
        assert_eq!(families(&wave), [Family::Linear, Family::SeparableCnn, Family::Cnn]);
        assert_eq!((wave[2][0].batch_size, wave[2][0].augmentation), (64, Augmentation::Flip));
        let stated = Hyperparameters { batch_size: Some(16), ..Hyperparameters::default() };
        let wave = proposals(5000, &["a"], stated).wave(0, None).expect("a first wave");
        assert_eq!(wave[2][0].batch_size, 16, "what is stated stays");
        let bare = proposals(50, &[], Hyperparameters::default());
        let wave = bare.wave(0, None).expect("a first wave");
        assert_eq!(families(&wave), [Family::SeparableCnn, Family::Cnn]);
        assert!((1..4).all(|number| bare.wave(number, None) == Some(vec![])));
    }

    #[test]
    fn forms_shrink_and_shorten_towards_what_any_budget_allows() {
        let wave = proposals(5000, &["a"], Hyperparameters::default()).wave(0, None).expect("a first wave");
        let heads: Vec<_> = wave[0].iter().map(|settings| (settings.input_size, settings.epochs)).collect();
        assert_eq!(heads[..4], [(224, 60), (224, 15), (224, 7), (160, 60)]);
        assert_eq!(heads[heads.len() - 1], (64, 7));
        assert!(wave[2].windows(2).all(|pair| pair[1].epochs < pair[0].epochs));
        assert_eq!(wave[2].last().map(|settings| settings.epochs), Some(1));
    }

    #[test]
    fn a_backbone_of_one_size_is_asked_at_that_size_and_trained_on_only_where_it_can_be() {
        let mut proposals = proposals(200, &["mine"], Hyperparameters::default());
        let installed = &mut proposals.backbones[0].installed;
        (installed.sides, installed.is_trainable) = (Sides::Only(227), false);
        let first = proposals.wave(0, None).expect("a first wave");
        let second = proposals.wave(1, Some(&first[0][0])).expect("a second wave");
        let fourth = proposals.wave(3, Some(&first[0][0])).expect("a fourth wave");
        assert_eq!(proposals.wave(2, Some(&first[0][0])), Some(vec![]));
        for settings in first.iter().chain(&second).chain(&fourth).flatten() {
            assert_eq!(settings.input_size, 227);
            assert_ne!(settings.family, Family::FineTune);
        }
    }

    #[test]
    fn a_last_resort_is_tried_where_it_is_named_or_nothing_else_is_there() {
        #[track_caller]
        fn check(installed: &[&str], named: Option<&str>, tried: &[&str]) {
            let stated = Hyperparameters { backbone: named.map(str::to_owned), ..Hyperparameters::default() };
            let proposals = proposals(200, installed, stated);
            let first = proposals.wave(0, None).expect("a first wave");
            let names: Vec<_> = first.iter().filter_map(|forms| forms[0].backbone.as_deref()).collect();
            assert_eq!(names, tried);
            let later = (1..5).filter_map(|number| proposals.wave(number, Some(&first[0][0]))).flatten().flatten();
            let backbones: Vec<_> = later.filter_map(|settings| settings.backbone).collect();
            assert!(
                !backbones.is_empty() && backbones.iter().all(|name| tried.contains(&name.as_str())),
                "{backbones:?}"
            );
        }
        check(&["a", "b", "weak"], None, &["a", "b"]);
        check(&["a", "weak"], Some("weak"), &["weak"]);
        check(&["weak"], None, &["weak"]);
        check(&["weak", "weaker"], None, &["weak", "weaker"]);
    }

    #[test]
    fn fine_tuning_takes_the_backbone_that_its_recipe_was_made_with() {
        let usual = Settings::defaults(Family::FineTune, 32).backbone.expect("it has a backbone");
        let proposals = proposals(200, &["a", &usual], Hyperparameters::default());
        let first = proposals.wave(0, None).expect("a first wave");
        let second = proposals.wave(1, Some(&first[0][0])).expect("a second wave");
        assert_eq!((second[0][0].family, second[0][0].backbone.as_ref()), (Family::FineTune, Some(&usual)));
        let fourth = proposals.wave(3, Some(&first[0][0])).expect("a fourth wave");
        assert_eq!(fourth[0][0].backbone.as_deref(), Some("a"));
    }

    #[test]
    fn fine_tuning_is_proposed_on_inputs_larger_than_the_pictures_and_in_half_the_epochs_with_larger_steps() {
        let forms = |picture_side, stated: Hyperparameters| {
            let proposals = Proposals { picture_side, ..proposals(200, &["a"], stated) };
            let best = proposals.wave(0, None).expect("a first wave")[0][0].clone();
            proposals.wave(1, Some(&best)).expect("a second wave").remove(0)
        };
        let sizes = |picture_side| {
            let mut sizes: Vec<_> =
                forms(picture_side, Hyperparameters::default()).iter().map(|form| form.input_size).collect();
            sizes.dedup();
            sizes
        };
        assert_eq!(sizes(28), [192, 160, 128, 96, 64]);
        assert_eq!(sizes(64), [192, 160, 128]);
        assert_eq!(sizes(512), [192]);
        let of = |form: &Settings| (form.epochs, form.learning_rate);
        let usual = of(&Settings::defaults(Family::FineTune, 32));
        let usually = forms(32, Hyperparameters::default());
        assert_eq!([of(&usually[0]), of(&usually[1])], [usual, (usual.0 / 2, 2.0 * usual.1)]);
        let stated = forms(32, Hyperparameters { learning_rate: Some(1e-3), ..Hyperparameters::default() });
        assert_eq!([of(&stated[0]), of(&stated[1])], [(usual.0, 1e-3), (usual.0 / 2, 1e-3)]);
        let stated = forms(32, Hyperparameters { epochs: Some(3), ..Hyperparameters::default() });
        assert!(stated.iter().all(|form| of(form) == (3, usual.1)));
    }

    #[test]
    fn what_is_stated_is_kept_by_every_candidate() {
        let stated = Hyperparameters {
            backbone: Some("b".into()),
            input_size: Some(96),
            epochs: Some(7),
            learning_rate: Some(0.05),
            seed: Some(9),
            ..Hyperparameters::default()
        };
        let proposals = proposals(5000, &["a", "b"], stated);
        let best = proposals.wave(0, None).expect("a first wave")[0][0].clone();
        for settings in (0..5).filter_map(|number| proposals.wave(number, Some(&best))).flatten().flatten() {
            assert_eq!(settings.backbone.as_deref(), Some("b"));
            assert_eq!((settings.input_size, settings.epochs, settings.seed), (96, 7, 9));
            assert_eq!(settings.learning_rate, 0.05);
        }
    }
}
