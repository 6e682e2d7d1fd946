//! A bar on the terminal for countable work; nothing where nobody looks.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Counts pieces of work, from any thread.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar of `n` pieces on standard error, if that is a terminal.
    pub fn new(doing: &'static str, n: usize) -> Self {
        let target =
            if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(n as u64), target).with_message(doing);
        Self(bar.with_style(style("{msg} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta} left")))
    }

    /// One more is done.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A style without colours; `template` is one of this program's own.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the program's own templates are sound").progress_chars("━╸─")
}
