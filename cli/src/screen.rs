//! The terminal: how wide it is, and a picture on it that is drawn anew in place.

use std::io::{self, IsTerminal, Write};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    queue,
    style::Print,
    terminal::{
        BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
        EnterAlternateScreen, LeaveAlternateScreen, size,
    },
};

/// A terminal that does not tell its size.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Columns that a line may have; without bounds where no screen bounds it.
pub fn columns() -> usize {
    if io::stdout().is_terminal() { columns_and_rows().0 } else { usize::MAX }
}

/// The terminal's size at this moment.
pub fn columns_and_rows() -> (usize, usize) {
    let (columns, rows) = size().ok().filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(USUAL_SIZE);
    (columns.into(), rows.into())
}

/// The alternate screen; what was there before comes back when this is dropped.
pub struct Screen<W: Write> {
    out: W,
}

impl<W: Write> Screen<W> {
    /// Takes the terminal that `out` leads to.
    pub fn enter(out: W) -> io::Result<Self> {
        let mut screen = Self { out };
        queue!(screen.out, EnterAlternateScreen, Hide, DisableLineWrap)?;
        screen.out.flush()?;
        Ok(screen)
    }

    /// Shows these lines from the top of a terminal of this size; what is wider or longer is cut off. Nothing is blanked
    /// before it is written over, so that nothing flickers.
    pub fn draw(&mut self, lines: &[String], (columns, rows): (usize, usize)) -> io::Result<()> {
        let mut frame = Vec::new();
        queue!(frame, BeginSynchronizedUpdate)?;
        let shown = lines.len().min(rows);
        for (row, line) in (0..).zip(&lines[..shown]) {
            let line: String = line.chars().take(columns).collect();
            queue!(frame, MoveTo(0, row), Print(&line))?;
            // After a full line the cursor stays on its last character, and would take that away.
            if line.chars().count() < columns {
                queue!(frame, Clear(ClearType::UntilNewLine))?;
            }
        }
        if shown < rows
            && let Ok(row) = u16::try_from(shown)
        {
            queue!(frame, MoveTo(0, row), Clear(ClearType::FromCursorDown))?;
        }
        queue!(frame, EndSynchronizedUpdate)?;
        self.out.write_all(&frame)?;
        self.out.flush()
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = queue!(self.out, EnableLineWrap, Show, LeaveAlternateScreen).and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], size: (usize, usize), expected: &str) {
        let mut out = Vec::new();
        let mut screen = Screen::enter(&mut out).expect("memory takes everything");
        let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
        screen.draw(&lines, size).expect("memory takes everything");
        drop(screen);
        let written = String::from_utf8(out).expect("text");
        let drawn = written.strip_prefix("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2026h").expect("it enters and begins");
        let drawn = drawn.strip_suffix("\x1b[?2026l\x1b[?7h\x1b[?25h\x1b[?1049l").expect("it ends and gives back");
        assert_eq!(drawn, expected, "{drawn:?}");
    }

    #[test]
    fn a_frame_is_written_over_the_last_one() {
        check(&["one", "two"], (80, 24), "\x1b[1;1Hone\x1b[K\x1b[2;1Htwo\x1b[K\x1b[3;1H\x1b[J");
    }

    #[test]
    fn a_full_screen_loses_neither_its_last_column_nor_its_last_line() {
        check(&["one", "three", "four"], (3, 2), "\x1b[1;1Hone\x1b[2;1Hthr");
    }
}
