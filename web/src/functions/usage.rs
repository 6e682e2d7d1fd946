//! Which version of a model gets which part of the requests, read back from what an engine tells of its functions.

use api::functions::{Phase, Publication, Stage, Status};

/// What a version is used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its part of the requests, 0 to 100.
    pub percent: u32,
    /// Where it is on its way to a part.
    pub publication: Option<Publication>,
}

impl Usage {
    /// By the registry's own pointer, which functions follow where no engine tells.
    pub fn pointed(is_current: bool) -> Self {
        Self { percent: if is_current { 100 } else { 0 }, publication: None }
    }

    /// Whether it gets requests, or is about to.
    pub fn is_wanted(&self) -> bool {
        self.percent > 0 || self.publication.as_ref().is_some_and(|publication| publication.stage != Stage::Failed)
    }

    /// Of a version, as an engine tells it; `None` if no function serves any version of the model.
    pub fn of(status: &Status, model: &str, version: u32) -> Option<Self> {
        let serving = status.services.iter().filter(|service| {
            service.revisions.iter().any(|revision| revision.model().is_some_and(|(name, _)| name == model))
        });
        let mut usage = None;
        for service in serving {
            let usage: &mut Self = usage.get_or_insert_default();
            let is_it =
                |name: &str| service.revisions.iter().find(|r| r.name == name && r.model() == Some((model, version)));
            let shares = service.traffic.iter().filter(|share| is_it(&share.revision).is_some());
            usage.percent += shares.map(|share| share.percent).sum::<u32>();
            let newest = service.latest_created.as_deref().and_then(is_it);
            let stage = match newest.map(|revision| revision.phase) {
                Some(Phase::Preparing) => Stage::Starting,
                Some(Phase::Failed) => Stage::Failed,
                Some(Phase::Ready) | None => continue,
            };
            let percent = service.traffic.iter().filter(|share| share.latest).map(|share| share.percent).sum();
            let reason = newest.and_then(|revision| revision.reason.clone());
            usage.publication = Some(Publication { model: model.to_owned(), version, percent, stage, reason });
        }
        let mine = |publication: &&Publication| publication.model == model && publication.version == version;
        if let Some(baking) = status.publications.iter().find(mine) {
            usage.get_or_insert_default().publication = Some(baking.clone());
        }
        // A wish for one version says nothing of the others, so long as nothing serves.
        usage
    }

    /// The version that gets most of a model's requests.
    pub fn most_used(status: &Status, model: &str) -> Option<u32> {
        let revisions = status.services.iter().flat_map(|service| &service.revisions);
        let versions =
            revisions.filter_map(|r| r.model().filter(|(name, _)| *name == model).map(|(_, version)| version));
        let used = versions.filter_map(|version| {
            let usage = Self::of(status, model, version)?;
            (usage.percent > 0).then_some((usage.percent, version))
        });
        used.max().map(|(_, version)| version)
    }
}

#[cfg(test)]
mod tests {
    use api::functions::{RevisionStatus, ServiceStatus, TrafficShare};

    use super::*;

    fn status(newest: Phase) -> Status {
        let revision = |name: &str, version: u32, phase| RevisionStatus {
            name: name.into(),
            phase,
            mounted: vec![format!("/models/models/pets/v{version}")],
            ..RevisionStatus::default()
        };
        let share = |revision: &str, percent, latest| TrafficShare {
            revision: revision.into(),
            percent,
            latest,
            ..TrafficShare::default()
        };
        let ready = if newest == Phase::Ready { "f-2" } else { "f-1" };
        let service = ServiceStatus {
            latest_created: Some("f-2".into()),
            latest_ready: Some(ready.into()),
            traffic: vec![share(ready, 20, true), share("f-1", 80, false)],
            revisions: vec![revision("f-2", 2, newest), revision("f-1", 1, Phase::Ready)],
            ..ServiceStatus::default()
        };
        Status { services: vec![service], ..Status::default() }
    }

    fn percent(status: &Status, version: u32) -> Option<u32> {
        Usage::of(status, "pets", version).map(|usage| usage.percent)
    }

    #[test]
    fn parts_are_those_of_the_revisions_that_were_baked_with_a_version() {
        let live = status(Phase::Ready);
        assert_eq!([1, 2, 3].map(|version| percent(&live, version)), [Some(80), Some(20), Some(0)]);
        assert_eq!(Usage::of(&live, "other", 1), None);
        assert_eq!(Usage::most_used(&live, "pets"), Some(1));
        assert_eq!(Usage::most_used(&live, "other"), None);
    }

    #[test]
    fn a_revision_that_is_not_ready_is_on_its_way_with_the_part_it_will_get() {
        let coming = status(Phase::Preparing);
        assert_eq!([1, 2].map(|version| percent(&coming, version)), [Some(100), Some(0)]);
        let publication = Usage::of(&coming, "pets", 2).and_then(|usage| usage.publication);
        assert_eq!(publication.map(|p| (p.percent, p.stage)), Some((20, Stage::Starting)));
        let failed = Usage::of(&status(Phase::Failed), "pets", 2).and_then(|usage| usage.publication);
        assert_eq!(failed.map(|p| p.stage), Some(Stage::Failed));
    }

    #[test]
    fn what_is_being_baked_is_on_its_way_before_any_revision_knows_it() {
        let baking = Publication { model: "pets".into(), version: 3, percent: 5, stage: Stage::Baking, reason: None };
        let baking = Status { publications: vec![baking], ..status(Phase::Ready) };
        let usage = Usage::of(&baking, "pets", 3);
        assert_eq!(usage.and_then(|usage| usage.publication).map(|p| p.stage), Some(Stage::Baking));
    }
}
