//! How far countable work is: a bar on a terminal, a plain line now and then elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::words;

/// Work that is quicker than this is not told of in lines.
const QUICK: Duration = Duration::from_secs(5);

/// Longest time between two lines.
const SELDOM: Duration = Duration::from_secs(60);

/// Counts pieces of work, from any thread.
pub struct Bar(Shown);

enum Shown {
    Bar(ProgressBar),
    Lines(Instant, Mutex<Lines>),
}

impl Bar {
    /// Of `n` pieces, on standard error.
    pub fn new(doing: &'static str, n: usize) -> Self {
        if !io::stderr().is_terminal() {
            return Self(Shown::Lines(Instant::now(), Mutex::new(Lines::new(doing, n as u64))));
        }
        let bar = ProgressBar::new(n as u64).with_message(doing);
        Self(Shown::Bar(bar.with_style(style("{msg} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta} left"))))
    }

    /// One more is done.
    pub fn step(&self) {
        match &self.0 {
            Shown::Bar(bar) => bar.inc(1),
            Shown::Lines(started, lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(line) = lines.step(started.elapsed()) {
                    let _ = writeln!(io::stderr(), "{line}");
                }
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Which pieces of work a line is written of: the longer it goes on, the rarer.
struct Lines {
    doing: &'static str,
    n: u64,
    done: u64,
    /// When the next line is due, from the begin.
    next: Duration,
}

impl Lines {
    fn new(doing: &'static str, n: u64) -> Self {
        Self { doing, n, done: 0, next: QUICK }
    }

    /// One more is done so long after the begin; the line about it, if one is due.
    fn step(&mut self, elapsed: Duration) -> Option<String> {
        self.done += 1;
        if elapsed < self.next || self.done >= self.n {
            return None;
        }
        self.next = elapsed + (elapsed / 2).clamp(QUICK, SELDOM);
        let Self { doing, n, done, .. } = self;
        let seconds = elapsed.as_secs_f64();
        let left = words::seconds(seconds * (*n - *done) as f64 / *done as f64);
        let rate = *done as f64 / seconds;
        Some(format!("{:>9}  {doing} {done} of {n}  {rate:.1} per second  {left} left", words::seconds(seconds)))
    }
}

/// A style without colours; `template` is one of this program's own.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the program's own templates are sound").progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_work_is_not_told_of_and_long_work_ever_more_seldom() {
        let told_at = |n: u64, step: Duration| {
            let mut lines = Lines::new("evaluating", n);
            let told = (1..=n as u32).filter(|at| lines.step(step * *at).is_some());
            told.collect::<Vec<_>>()
        };
        assert_eq!(told_at(49, Duration::from_millis(100)), Vec::<u32>::new());
        assert_eq!(told_at(100, Duration::from_secs(1)), [5, 10, 15, 23, 35, 53, 80]);
        let hour = told_at(3600, Duration::from_secs(1));
        assert!(hour.windows(2).all(|pair| pair[1] - pair[0] <= 61) && hour.len() < 70, "{hour:?}");
    }

    #[test]
    fn a_line_tells_how_far_it_is_how_fast_and_how_long_still() {
        let mut lines = Lines::new("classifying", 100);
        lines.done = 19;
        let line = lines.step(Duration::from_secs(10));
        assert_eq!(line.as_deref(), Some("     10 s  classifying 20 of 100  2.0 per second  40 s left"));
    }
}
