//! Reads what `cargo test` prints, passes on what matters and adds it up.

use std::fmt;

/// Sums over every test program of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    passed: u64,
    failed: u64,
    skipped: u64,
    notes: Vec<String>,
    in_output_of_passed: bool,
}

impl Summary {
    /// Takes one line of `cargo test -- --show-output`.
    ///
    /// Returns whether people should see it: what passing tests print is kept back, except that their `skipped: …`
    /// lines become notes.
    pub fn take(&mut self, line: &str) -> bool {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.in_output_of_passed = false;
            self.add(counts);
        } else if line == "failures:" {
            self.in_output_of_passed = false;
        } else if line == "successes:" {
            self.in_output_of_passed = true;
        }
        if self.in_output_of_passed && line.starts_with("skipped: ") && !self.notes.iter().any(|note| note == line) {
            self.notes.push(line.to_owned());
        }
        !self.in_output_of_passed
    }

    /// Counts of `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
    fn add(&mut self, counts: &str) {
        let counts = counts.split_once(". ").map_or(counts, |(_, counts)| counts);
        for count in counts.split("; ") {
            let Some((n, what)) = count.split_once(' ') else { continue };
            let Ok(n) = n.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += n,
                "failed" => self.failed += n,
                "ignored" => self.skipped += n,
                _ => {}
            }
        }
    }

    /// Counts something that never reported: a test program that crashed, a build that failed.
    pub fn add_failure(&mut self) {
        self.failed += 1;
    }

    /// Whether any test failed.
    pub fn has_failures(&self) -> bool {
        self.failed > 0
    }

    /// Whether all that ran passed, and something ran.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// What passing tests left out because something optional was not there.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "
running 3 tests
test a ... ok
test b ... ignored
test c ... FAILED

successes:

---- a stdout ----
noise
skipped: no shared folder


successes:
    a

failures:

---- c stdout ----
skipped: not a note, for this test failed

failures:
    c

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 2 tests
test d ... ok
test e ... ok

successes:

---- e stdout ----
skipped: no shared folder

successes:
    d
    e

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 12.50s
";

    fn read(run: &str) -> (Summary, String) {
        let mut summary = Summary::default();
        let shown: Vec<&str> = run.lines().filter(|line| summary.take(line)).collect();
        (summary, shown.join("\n"))
    }

    #[test]
    fn counts_of_all_programs_add_up() {
        let (summary, _) = read(RUN);
        assert_eq!(summary.to_string(), "3 passed, 1 failed, 1 skipped");
        assert!(summary.has_failures() && !summary.is_good());
    }

    #[test]
    fn only_the_failed_tests_output_is_shown() {
        let (_, shown) = read(RUN);
        assert!(shown.contains("not a note, for this test failed"), "{shown}");
        assert!(shown.contains("test d ... ok"), "{shown}");
        assert!(!shown.contains("noise") && !shown.contains("no shared folder"), "{shown}");
    }

    #[test]
    fn what_passing_tests_left_out_is_noted_once() {
        let (summary, _) = read(RUN);
        assert_eq!(summary.notes(), ["skipped: no shared folder"]);
    }

    #[test]
    fn a_run_without_tests_or_with_a_crash_is_not_good() {
        let mut summary = Summary::default();
        assert!(!summary.is_good());
        summary.take("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        assert!(summary.is_good());
        summary.add_failure();
        assert_eq!(summary.to_string(), "2 passed, 1 failed, 0 skipped");
        assert!(!summary.is_good());
    }
}
