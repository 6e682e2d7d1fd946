//! `fovea watch`: the functions as they are, live; a line per change where nobody looks at a screen.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anyhow::Result;
use api::functions::Status;
use clap::Args;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    admin::{self, Admin},
    changes::{self, Change, Kind},
    screen::{self, Screen},
    signals::StopSignals,
    view,
};

/// Between two looks at the runtime.
const PAUSE: Duration = Duration::from_millis(250);

/// Changes that are remembered for the screen.
const REMEMBERED: usize = 100;

/// Changes that are shown however long the table is.
const SHOWN: usize = 6;

/// What `fovea watch` can be told.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    admin: admin::AdminArgs,
}

/// Watches until a signal asks it to stop. A runtime that goes away while it is watched is waited for.
pub fn run(options: &Options, out: &mut impl Write) -> Result<()> {
    let admin = Admin::new(&options.admin)?;
    admin::block_on(async {
        let mut stop = StopSignals::listen()?;
        let first = tokio::select! {
            first = admin.status() => first?,
            () = stop.next() => return Ok(()),
        };
        if io::stdout().is_terminal() {
            let mut watcher = OnScreen::new(Screen::enter(out)?, &admin, first);
            watcher.draw()?;
            follow(&admin, &mut stop, |look| watcher.take(look)).await
        } else {
            let mut watcher = InLines::new(out);
            watcher.take(Ok(first))?;
            follow(&admin, &mut stop, |look| watcher.take(look)).await
        }
    })
}

async fn follow(
    admin: &Admin,
    stop: &mut StopSignals,
    mut take: impl FnMut(Result<Status>) -> io::Result<()>,
) -> Result<()> {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let look = async {
            ticks.tick().await;
            admin.status().await
        };
        tokio::select! {
            look = look => take(look)?,
            () = stop.next() => return Ok(()),
        }
    }
}

/// Prints changes.
struct InLines<W> {
    out: W,
    last: Status,
    is_away: bool,
}

impl<W: Write> InLines<W> {
    fn new(out: W) -> Self {
        Self { out, last: Status::default(), is_away: false }
    }

    fn take(&mut self, look: Result<Status>) -> io::Result<()> {
        match look {
            Ok(status) => {
                if std::mem::take(&mut self.is_away) {
                    self.line(status.at_unix_ms, "the runtime answers again")?;
                }
                for change in changes::between(&self.last, &status) {
                    self.line(change.at_unix_ms, &change.to_string())?;
                }
                self.last = status;
            }
            Err(error) if !self.is_away => {
                self.is_away = true;
                self.line(Timestamp::now().as_millisecond(), &format!("{error:#}"))?;
            }
            Err(_) => {}
        }
        self.out.flush()
    }

    fn line(&mut self, at_unix_ms: i64, text: &str) -> io::Result<()> {
        let mut lines = Vec::new();
        view::wrap(text, 0, usize::MAX, &mut lines);
        writeln!(self.out, "{} {}", time(at_unix_ms, "%Y-%m-%dT%H:%M:%S.%3fZ"), lines.concat())
    }
}

/// Draws the table and the newest changes.
struct OnScreen<'a, W: Write> {
    screen: Screen<W>,
    admin: &'a Admin,
    last: Status,
    /// Why there was no answer to the last look.
    problem: Option<String>,
    /// Newest first.
    changes: VecDeque<Change>,
}

impl<'a, W: Write> OnScreen<'a, W> {
    fn new(screen: Screen<W>, admin: &'a Admin, first: Status) -> Self {
        let decided = changes::between(&Status::default(), &first);
        let changes = decided.into_iter().filter(|change| change.kind == Kind::Decision).rev().collect();
        Self { screen, admin, last: first, problem: None, changes }
    }

    fn take(&mut self, look: Result<Status>) -> io::Result<()> {
        match look {
            Ok(status) => {
                for change in changes::between(&self.last, &status) {
                    self.changes.push_front(change);
                }
                self.changes.truncate(REMEMBERED);
                self.last = status;
                self.problem = None;
            }
            Err(error) => self.problem = Some(format!("{error:#}")),
        }
        self.draw()
    }

    fn draw(&mut self) -> io::Result<()> {
        let (columns, rows) = screen::columns_and_rows();
        let mut head = Vec::new();
        match &self.problem {
            Some(problem) => view::wrap(problem, 0, columns, &mut head),
            None => {
                let (at, mebibytes) = (time(self.last.at_unix_ms, "%H:%M:%S UTC"), self.last.resident_bytes >> 20);
                head.push(format!("{}  {at}  {mebibytes} MiB  Ctrl-C ends", self.admin.name()));
            }
        }
        head.push(String::new());
        self.screen.draw(&frame(head, &self.last, &self.changes, columns, rows), (columns, rows))
    }
}

/// The picture: the head, as much of the table as there is room for, and the newest changes in the rest.
fn frame(
    mut lines: Vec<String>,
    status: &Status,
    changes: &VecDeque<Change>,
    columns: usize,
    rows: usize,
) -> Vec<String> {
    let table = view::lines(status, columns);
    let for_changes = if changes.is_empty() { 0 } else { 1 + changes.len().min(SHOWN) };
    let room = rows.saturating_sub(lines.len() + for_changes).max(1);
    if table.len() <= room {
        lines.extend(table);
    } else {
        let hidden = table.len() - (room - 1);
        lines.extend(table.into_iter().take(room - 1));
        lines.push(format!("{hidden} more lines; make the window higher, or see `fovea status`"));
    }
    if !changes.is_empty() {
        lines.push(String::new());
    }
    for change in changes {
        if lines.len() >= rows {
            break;
        }
        let text = format!("{} {change}", view::age(status.at_unix_ms - change.at_unix_ms));
        view::wrap(&text, 0, columns, &mut lines);
    }
    lines.truncate(rows);
    lines
}

fn time(unix_ms: i64, format: &str) -> String {
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::view::tests::inference;

    fn changes() -> VecDeque<Change> {
        let mut changes: VecDeque<_> = changes::between(&Status::default(), &inference()).into();
        changes.make_contiguous().reverse();
        changes
    }

    #[test]
    fn the_newest_changes_stand_below_the_table() {
        let lines = frame(vec!["head".into()], &inference(), &changes(), 80, 40);
        assert_eq!(lines[1], "inference  ready  http://127.0.0.1:8082/");
        assert_eq!(lines[9], "");
        assert!(lines[10].starts_with("now inference-00002 is ready, active"), "{lines:?}");
        assert_eq!(
            lines.last().map(String::as_str),
            Some("5 s ago inference-00002 1 -> 2: 1.50 in flight, 0.70 wanted each")
        );
    }

    #[test]
    fn a_low_screen_is_never_overrun_and_says_what_it_hides() {
        for rows in 1..20 {
            let lines = frame(vec!["head".into(), String::new()], &inference(), &changes(), 80, rows);
            assert!(lines.len() <= rows, "{rows}: {lines:?}");
        }
        let lines = frame(vec!["head".into()], &inference(), &VecDeque::new(), 80, 5);
        assert_eq!(lines[3..], ["", "5 more lines; make the window higher, or see `fovea status`"]);
    }

    #[test]
    fn lines_tell_each_change_once_with_its_time_and_a_runtime_that_goes_and_comes() {
        let mut out = Vec::new();
        let mut watcher = InLines::new(&mut out);
        watcher.take(Ok(inference())).expect("memory takes everything");
        watcher.take(Ok(inference())).expect("memory takes everything");
        for _ in 0..3 {
            watcher.take(Err(anyhow!("nothing answers"))).expect("memory takes everything");
        }
        watcher.take(Ok(Status { at_unix_ms: 102_345, ..inference() })).expect("memory takes everything");
        let told = String::from_utf8(out).expect("text");
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines[0], "1970-01-01T00:01:35.000Z inference-00002 1 -> 2: 1.50 in flight, 0.70 wanted each");
        assert_eq!(lines.len(), 8, "{told}");
        assert!(lines[6].ends_with("Z nothing answers"), "{told}");
        assert_eq!(lines[7], "1970-01-01T00:01:42.345Z the runtime answers again");
    }
}
