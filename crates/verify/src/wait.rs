//! Waiting for something, with a deadline, and telling meanwhile what is waited for.

use std::{cell::RefCell, time::Duration};

use cluster::ClusterError;
use tokio::time::{Instant, sleep};

use crate::failure::{Failure, Result};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the same is told again.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long something may stand in the way before nothing more is hoped for.
const STUCK_FOR: Duration = Duration::from_secs(150);

/// What a look has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// It is there.
    Done(T),
    /// Not yet, and how far it is.
    Wait(String),
    /// Something stands in the way that rarely goes away by itself.
    Stuck(String),
}

impl<T> Look<T> {
    /// What a failed question means: what passes by itself is waited for.
    pub fn failed(error: ClusterError) -> Result<Self> {
        if error.is_passing() { Ok(Self::Wait(error.to_string())) } else { Err(error.into()) }
    }
}

/// Where progress is told.
pub struct Teller {
    sink: Box<dyn Fn(&str)>,
    last: RefCell<Option<(String, Instant)>>,
}

impl Teller {
    /// Tells line by line.
    pub fn new(sink: impl Fn(&str) + 'static) -> Self {
        Self { sink: Box::new(sink), last: RefCell::default() }
    }

    /// Tells a line.
    pub fn tell(&self, line: &str) {
        (self.sink)(line);
    }

    /// Tells how far something is: when that has changed, and now and then.
    fn waiting(&self, what: &str, how: &str, since: Duration) {
        let text = format!("waiting for {what}: {how}");
        let mut last = self.last.borrow_mut();
        let is_known = |(told, at): &(String, Instant)| *told == text && at.elapsed() < TELL_EVERY;
        if !last.as_ref().is_some_and(is_known) {
            self.tell(&format!("  {text}, {}", duration(since)));
            *last = Some((text, Instant::now()));
        }
    }
}

/// Waits for something; `what` is a noun, such as "zero pods".
///
/// # Errors
/// What the look fails with; or how far it was when the time was over, or when something stood in the way for too long
pub async fn until<T>(
    teller: &Teller,
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<Look<T>>,
) -> Result<T> {
    let began = Instant::now();
    let mut stuck_since = None;
    loop {
        let how = match look().await? {
            Look::Done(found) => return Ok(found),
            Look::Wait(how) => {
                stuck_since = None;
                how
            }
            Look::Stuck(how) => {
                let since = *stuck_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= STUCK_FOR {
                    return Err(Failure::new(format!(
                        "{what}: for {} there has been no way on: {how}",
                        duration(since.elapsed())
                    )));
                }
                how
            }
        };
        if began.elapsed() >= within {
            return Err(Failure::new(format!("{what}: not within {}: {how}", duration(within))));
        }
        teller.waiting(what, &how, began.elapsed());
        sleep(LOOK_EVERY).await;
    }
}

/// Such as "1.5 s", "34 s" and "2 min 5 s".
pub fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::{cell::RefCell, rc::Rc};

    use super::*;

    fn recorded() -> (Teller, Rc<RefCell<Vec<String>>>) {
        let lines = Rc::new(RefCell::new(vec![]));
        let told = lines.clone();
        (Teller::new(move |line| told.borrow_mut().push(line.to_owned())), lines)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_waited_for_is_told_when_it_changes_and_every_ten_seconds() {
        let (teller, lines) = recorded();
        let mut n = 0;
        let found = until(&teller, "zero pods", Duration::from_secs(60), async || {
            n += 1;
            Ok(match n {
                1..=12 => Look::Wait("2 left".to_owned()),
                13 => Look::Wait("1 left".to_owned()),
                _ => Look::Done("none"),
            })
        });
        assert_eq!(found.await.unwrap(), "none");
        assert_eq!(
            *lines.borrow(),
            [
                "  waiting for zero pods: 2 left, 0.0 s",
                "  waiting for zero pods: 2 left, 10 s",
                "  waiting for zero pods: 1 left, 12 s"
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_tells_how_far_it_was() {
        let (teller, _) = recorded();
        let waiting = until::<()>(&teller, "zero pods", Duration::from_secs(150), async || {
            Ok(Look::Wait("one is Terminating".to_owned()))
        });
        assert_eq!(waiting.await.unwrap_err().says, "zero pods: not within 2 min 30 s: one is Terminating");
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_in_the_way_ends_the_waiting_only_if_it_stays() {
        let (teller, _) = recorded();
        let began = Instant::now();
        let stuck = until::<()>(&teller, "the web", Duration::from_secs(6000), async || {
            let seconds = began.elapsed().as_secs();
            Ok(if seconds == 100 { Look::Wait("pulling".into()) } else { Look::Stuck("no such image".into()) })
        });
        let failure = stuck.await.unwrap_err();
        assert!(failure.says.ends_with("there has been no way on: no such image"), "{}", failure.says);
        assert_eq!(began.elapsed().as_secs(), 101 + STUCK_FOR.as_secs());
    }
}
