//! Who gets which part of a function's requests when one revision is given a part: the arithmetic of canaries, of
//! promoting and of rolling back. The same for every engine.

use crate::functions::{ServiceStatus, TrafficShare, TrafficTarget};

/// Who is to get a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver<'a> {
    /// The revision that the next template makes. Until it is ready, those who serve now go on to get everything.
    Next,
    /// This one.
    Revision(&'a str),
}

/// The wishes that give `percent` to one revision, and what is left to those that serve now, in their present proportion
/// to each other. Tags stay with their revisions.
///
/// `None` if something is left and nobody is there to get it.
pub fn share_out(service: &ServiceStatus, receiver: Receiver<'_>, percent: u32) -> Option<Vec<TrafficTarget>> {
    let percent = percent.min(100);
    let named = match receiver {
        Receiver::Next => None,
        // The newest one is named as such, so that what is published after it takes its place.
        Receiver::Revision(name) => Some(name).filter(|_| !is_newest(service, name)),
    };
    let mut others: Vec<(&str, u32)> = Vec::new();
    for TrafficShare { revision, percent, .. } in service.traffic.iter().filter(|share| share.percent > 0) {
        if receiver == Receiver::Revision(revision) {
            continue;
        }
        match others.iter_mut().find(|(name, _)| name == revision) {
            Some((_, sum)) => *sum += percent,
            None => others.push((revision, *percent)),
        }
    }
    let mut targets = vec![TrafficTarget::part(named, i64::from(percent), None)];
    if percent < 100 {
        let parts = proportional(100 - percent, &others)?;
        let kept = others.iter().zip(parts).filter(|(_, part)| *part > 0);
        targets.extend(kept.map(|((name, _), part)| TrafficTarget::part(Some(name), i64::from(part), None)));
    }
    let tagged = service.traffic.iter().filter_map(|share| {
        let revision = (!share.latest).then_some(share.revision.as_str());
        Some(TrafficTarget::part(revision, 0, Some(share.tag.as_deref()?)))
    });
    targets.extend(tagged);
    Some(targets)
}

fn is_newest(service: &ServiceStatus, revision: &str) -> bool {
    let newest = Some(revision);
    service.latest_ready.as_deref() == newest && service.latest_created.as_deref() == newest
}

/// `whole` in parts like those given, by largest remainder; the earlier of equals first.
fn proportional(whole: u32, given: &[(&str, u32)]) -> Option<Vec<u32>> {
    let sum: u32 = given.iter().map(|(_, part)| part).sum();
    let exact = |part: u32| (whole * part / sum, whole * part % sum);
    let mut parts: Vec<_> = (sum > 0).then(|| given.iter().map(|(_, part)| exact(*part)).collect())?;
    let rest = whole - parts.iter().map(|(part, _)| part).sum::<u32>();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(parts[*at].1));
    for at in order.into_iter().take(rest as usize) {
        parts[at].0 += 1;
    }
    Some(parts.into_iter().map(|(part, _)| part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(revision: &str, percent: u32, tag: Option<&str>) -> TrafficShare {
        TrafficShare { revision: revision.into(), percent, tag: tag.map(str::to_owned), ..TrafficShare::default() }
    }

    fn latest(revision: &str, percent: u32) -> TrafficShare {
        TrafficShare { latest: true, ..share(revision, percent, None) }
    }

    fn service(newest: &str, traffic: Vec<TrafficShare>) -> ServiceStatus {
        let newest = Some(newest.to_owned());
        ServiceStatus { latest_created: newest.clone(), latest_ready: newest, traffic, ..ServiceStatus::default() }
    }

    #[track_caller]
    fn check(service: &ServiceStatus, receiver: Receiver<'_>, percent: u32, expected: &[(Option<&str>, i64)]) {
        let targets = share_out(service, receiver, percent).expect("somebody gets the rest");
        let told: Vec<_> = targets.iter().map(|t| (t.revision_name.as_deref(), t.percent.unwrap_or(0))).collect();
        assert_eq!(told, expected);
        assert_eq!(told.iter().map(|(_, percent)| percent).sum::<i64>(), 100);
    }

    #[test]
    fn a_canary_leaves_the_rest_to_who_serves_now() {
        let one = service("f-1", vec![latest("f-1", 100)]);
        check(&one, Receiver::Next, 20, &[(None, 20), (Some("f-1"), 80)]);
        check(&one, Receiver::Next, 100, &[(None, 100)]);
        let two = service("f-2", vec![latest("f-2", 20), share("f-1", 80, None)]);
        check(&two, Receiver::Next, 10, &[(None, 10), (Some("f-2"), 18), (Some("f-1"), 72)]);
    }

    #[test]
    fn a_canary_grows_is_promoted_and_rolled_back() {
        let canary = service("f-2", vec![latest("f-2", 20), share("f-1", 80, None)]);
        check(&canary, Receiver::Revision("f-2"), 50, &[(None, 50), (Some("f-1"), 50)]);
        check(&canary, Receiver::Revision("f-2"), 100, &[(None, 100)]);
        check(&canary, Receiver::Revision("f-1"), 100, &[(Some("f-1"), 100)]);
    }

    #[test]
    fn parts_are_whole_and_come_to_a_hundred() {
        let three = service("f-3", vec![latest("f-3", 34), share("f-2", 33, None), share("f-1", 33, None)]);
        check(&three, Receiver::Next, 50, &[(None, 50), (Some("f-3"), 17), (Some("f-2"), 17), (Some("f-1"), 16)]);
        check(&three, Receiver::Next, 99, &[(None, 99), (Some("f-3"), 1)]);
    }

    #[test]
    fn a_ready_revision_that_is_not_the_newest_is_named() {
        let mut coming = service("f-2", vec![latest("f-2", 100)]);
        coming.latest_created = Some("f-3".into());
        check(&coming, Receiver::Revision("f-2"), 100, &[(Some("f-2"), 100)]);
    }

    #[test]
    fn tags_stay_with_their_revisions() {
        let tagged = service("f-2", vec![latest("f-2", 100), share("f-1", 0, Some("old"))]);
        let targets = share_out(&tagged, Receiver::Next, 100);
        let expected = vec![TrafficTarget::part(None, 100, None), TrafficTarget::part(Some("f-1"), 0, Some("old"))];
        assert_eq!(targets, Some(expected));
    }

    #[test]
    fn a_part_of_nothing_is_not_to_be_had() {
        assert_eq!(share_out(&service("f-1", vec![latest("f-1", 100)]), Receiver::Revision("f-1"), 20), None);
        assert_eq!(share_out(&service("f-1", vec![]), Receiver::Next, 20), None);
        assert!(share_out(&service("f-1", vec![]), Receiver::Next, 100).is_some());
    }
}
