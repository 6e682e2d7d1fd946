//! Whether a split of requests is the one that was asked for: the exact binomial test.

/// How probable something at least as improbable as `hits` of `n` is, where each hits with probability `p`: the exact
/// two-sided binomial test.
///
/// # Units
/// `p` in 0..=1; result in 0..=1
///
/// # Source
/// The sum over all counts that are no more probable than the one that was seen, as R's `binom.test` takes it.
pub fn binomial_two_sided(hits: u32, n: u32, p: f64) -> f64 {
    let probabilities = probabilities(n, p);
    let Some(seen) = probabilities.get(hits as usize).copied() else { return 0.0 };
    // What is as probable may differ in its last digits.
    let bound = seen * (1.0 + 1e-7);
    probabilities.iter().filter(|probability| **probability <= bound).sum::<f64>().min(1.0)
}

/// The counts of hits that pass the test: those from the first to the second.
pub fn accepted(n: u32, p: f64, false_alarms: f64) -> Option<(u32, u32)> {
    let passes = |hits: &u32| binomial_two_sided(*hits, n, p) >= false_alarms;
    Some(((0..=n).find(passes)?, (0..=n).rev().find(passes)?))
}

/// Of each count of hits from 0 to `n`.
fn probabilities(n: u32, p: f64) -> Vec<f64> {
    if p <= 0.0 || p >= 1.0 {
        let certain = if p <= 0.0 { 0 } else { n };
        return (0..=n).map(|hits| f64::from(u8::from(hits == certain))).collect();
    }
    let mut log = f64::from(n) * (1.0 - p).ln();
    let mut probabilities = vec![log.exp()];
    for hits in 1..=n {
        log += (f64::from(n - hits + 1) / f64::from(hits)).ln() + p.ln() - (1.0 - p).ln();
        probabilities.push(log.exp());
    }
    probabilities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hits: u32, n: u32, p: f64, expected: f64) {
        let told = binomial_two_sided(hits, n, p);
        assert!((told - expected).abs() <= 1e-9 + 1e-6 * expected, "{told} is not {expected}");
    }

    /// By hand: fair coins, and `n` small enough to be counted.
    #[test]
    fn small_cases_are_those_counted_by_hand() {
        check(5, 10, 0.5, 1.0);
        check(0, 10, 0.5, 2.0 / 1024.0);
        check(8, 10, 0.5, 2.0 * (45.0 + 10.0 + 1.0) / 1024.0);
        // Of three at a fifth: none 0.512, one 0.384, two 0.096, three 0.008.
        check(2, 3, 0.2, 0.104);
        check(3, 3, 0.2, 0.008);
        check(0, 3, 0.2, 1.0);
    }

    #[test]
    fn no_hit_where_each_must_hit_is_impossible() {
        check(9, 10, 1.0, 0.0);
        check(10, 10, 1.0, 1.0);
        check(1, 10, 0.0, 0.0);
        check(11, 10, 0.5, 0.0);
    }

    #[test]
    fn what_is_accepted_lies_around_the_mean_and_what_is_far_does_not() {
        let (least, most) = accepted(400, 0.2, 1e-6).expect("the mean is accepted");
        assert!(least < 80 && most > 80);
        for hits in [least - 1, most + 1] {
            assert!(binomial_two_sided(hits, 400, 0.2) < 1e-6);
        }
        // Half as many and half as many again are refused.
        assert!(least > 40 && most < 125, "{least} to {most}");
    }

    #[test]
    fn all_counts_together_are_certain() {
        for (n, p) in [(1, 0.5), (400, 0.2), (3000, 0.01)] {
            let sum: f64 = probabilities(n, p).iter().sum();
            assert!((sum - 1.0).abs() < 1e-9, "{n}, {p}: {sum}");
        }
    }
}
