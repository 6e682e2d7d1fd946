//! Which ready instance a request gets.
//!
//! # Source
//! `pkg/activator/net/lb_policy.go`.

use fastrand::Rng;

/// Greatest limit with which requests are packed onto the first instances.
const MAX_PACKED: u32 = 3;

/// How the activator chooses.
pub(crate) enum Policy {
    /// Without a limit: of two random instances the one that runs fewer requests.
    TwoChoices(Rng),
    /// With a small limit: the first that has a free place.
    First,
    /// Otherwise: in turn, among those that have a free place.
    RoundRobin {
        /// Where the next search starts.
        next: usize,
    },
}

impl Policy {
    /// The one for this limit of requests that an instance runs at once; 0 is none.
    pub(crate) fn new(container_concurrency: u32) -> Self {
        match container_concurrency {
            0 => Self::TwoChoices(Rng::new()),
            1..=MAX_PACKED => Self::First,
            _ => Self::RoundRobin { next: 0 },
        }
    }

    /// Position of the chosen one among `n_ready` instances.
    pub(crate) fn pick(
        &mut self,
        n_ready: usize,
        running: impl Fn(usize) -> usize,
        has_room: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match self {
            Self::TwoChoices(rng) => {
                let (one, other) = match n_ready {
                    0 => return None,
                    1 => return Some(0),
                    2 => (0, 1),
                    _ => {
                        let one = rng.usize(..n_ready);
                        let other = rng.usize(..n_ready - 1);
                        (one, if other >= one { other + 1 } else { other })
                    }
                };
                let (ones, others) = (running(one), running(other));
                Some(if ones < others || (ones == others && rng.bool()) { one } else { other })
            }
            Self::First => (0..n_ready).find(|&position| has_room(position)),
            Self::RoundRobin { next } => {
                // There may be fewer instances than last time.
                let start = if *next < n_ready { *next } else { 0 };
                let picked = (start..n_ready).chain(0..start).find(|&position| has_room(position))?;
                *next = picked + 1;
                Some(picked)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn the_limit_decides_the_policy() {
        assert!(matches!(Policy::new(0), Policy::TwoChoices(_)));
        for limit in [1, 2, 3] {
            assert!(matches!(Policy::new(limit), Policy::First), "{limit}");
        }
        assert!(matches!(Policy::new(4), Policy::RoundRobin { .. }));
    }

    #[track_caller]
    fn picks(policy: &mut Policy, running: &[usize], limit: usize) -> Option<usize> {
        policy.pick(running.len(), |position| running[position], |position| running[position] < limit)
    }

    #[test]
    fn small_limits_pack_the_first_instances() {
        let policy = &mut Policy::First;
        assert_eq!(picks(policy, &[0, 0, 0], 2), Some(0));
        assert_eq!(picks(policy, &[1, 0, 0], 2), Some(0));
        assert_eq!(picks(policy, &[2, 1, 0], 2), Some(1));
        assert_eq!(picks(policy, &[2, 2, 2], 2), None);
        assert_eq!(picks(policy, &[], 2), None);
    }

    #[test]
    fn round_robin_goes_on_after_the_last_pick_and_skips_full_ones() {
        let policy = &mut Policy::new(4);
        assert_eq!(picks(policy, &[0, 0, 0], 4), Some(0));
        assert_eq!(picks(policy, &[0, 0, 0], 4), Some(1));
        assert_eq!(picks(policy, &[0, 0, 4], 4), Some(0), "the full one is skipped");
        assert_eq!(picks(policy, &[4, 4, 4], 4), None);
        assert_eq!(picks(policy, &[0, 0, 0], 4), Some(1), "finding none moves nothing");
        assert_eq!(picks(policy, &[0], 4), Some(0), "fewer instances start anew");
    }

    #[test]
    fn the_less_loaded_of_two_is_picked() {
        let policy = &mut Policy::new(0);
        for _ in 0..100 {
            assert_eq!(picks(policy, &[3, 2], usize::MAX), Some(1));
            assert_eq!(picks(policy, &[2, 3], usize::MAX), Some(0));
            assert_eq!(picks(policy, &[9], usize::MAX), Some(0));
        }
        assert_eq!(picks(policy, &[], usize::MAX), None);
    }

    #[test]
    fn two_different_ones_are_compared() {
        let policy = &mut Policy::TwoChoices(Rng::with_seed(1));
        let mut seen = [0; 4];
        for _ in 0..1000 {
            seen[picks(policy, &[5, 0, 0, 0], usize::MAX).unwrap()] += 1;
        }
        assert_eq!(seen[0], 0, "the most loaded one loses against any other");
        assert!(seen[1..].iter().all(|&n| n > 200), "the others share: {seen:?}");
    }

    #[test]
    fn equals_share() {
        let policy = &mut Policy::TwoChoices(Rng::with_seed(1));
        let firsts = (0..1000).filter(|_| picks(policy, &[1, 1], usize::MAX) == Some(0)).count();
        assert!((400..600).contains(&firsts), "{firsts} of 1000");
    }
}
