//! Server-sent events: a run's progress, replayed from its file and followed to its end, an upload's, and what the
//! functions do.

use std::{convert::Infallible, time::Duration};

use api::{ErrorBody, functions::Status, train::Progress};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use store::Run;
use tokio::{sync::watch, time};
use tokio_stream::wrappers::WatchStream;

use crate::{
    error::{Result, chain},
    state::AppState,
    uploads::{UploadState, UploadView},
};

/// How often a run's progress file is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// How often the runtime is asked what its functions do, for each who follows them.
const FUNCTIONS_INTERVAL: Duration = Duration::from_millis(500);

/// Where a follower is in a run's progress.
struct Follower {
    run: Run,
    offset: u64,
    /// Events of the file that were read so far.
    read: u64,
    /// Events that the client has already.
    seen: u64,
    ended: bool,
}

/// What one look at a run's folder brought: events with their numbers from 1, the end last.
struct Look {
    follower: Follower,
    fresh: Vec<(u64, Progress)>,
}

impl Follower {
    /// Blocks on the disk.
    fn look(mut self) -> store::Result<Look> {
        // Read before the events: an end that is written down by now comes after all of them.
        let status = self.run.status()?;
        let (lines, offset) = self.run.progress_from(self.offset)?;
        self.offset = offset;
        let mut fresh = vec![];
        for line in lines {
            self.read += 1;
            self.ended |= matches!(line, Progress::End { .. });
            fresh.push((self.read, line));
            if self.ended {
                break;
            }
        }
        if status.state.is_final() && !self.ended {
            self.ended = true;
            self.read += 1;
            let end =
                Progress::End { state: status.state, reason: status.reason, version: status.version, seconds: 0.0 };
            fresh.push((self.read, end));
        }
        let seen = self.seen;
        fresh.retain(|(number, _)| *number > seen);
        Ok(Look { follower: self, fresh })
    }
}

/// Whether a run has ended and the client that has seen `seen` events has seen them all.
pub fn all_seen(run: &Run, seen: u64) -> store::Result<bool> {
    let follower = Follower { run: run.clone(), offset: 0, read: 0, seen, ended: false };
    let look = follower.look()?;
    Ok(look.follower.ended && look.fresh.is_empty())
}

/// The events of a run after the first `seen`, then new ones as they come; ends after the run's end.
///
/// An event's id is its number from 1, its data the JSON of a [`Progress`].
pub fn of_run(state: &AppState, run: Run, seen: u64) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let mut interval = time::interval(FOLLOW_INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let follower = Follower { run, offset: 0, read: 0, seen, ended: false };
    let looks = stream::unfold((Some(follower), interval), |(follower, mut interval)| async move {
        let follower = follower.filter(|follower| !follower.ended)?;
        interval.tick().await;
        let looked = match tokio::task::spawn_blocking(move || follower.look()).await {
            Ok(Ok(look)) => look,
            Ok(Err(e)) => {
                tracing::error!(error = chain(&e), "cannot follow a run");
                return None;
            }
            Err(e) => {
                tracing::error!(error = chain(&e), "cannot follow a run");
                return None;
            }
        };
        Some((looked.fresh, (Some(looked.follower), interval)))
    });
    let events = looks.flat_map(stream::iter).map(|(number, progress)| event(Some(number), &progress));
    Sse::new(events.take_until(state.stopping.clone().cancelled_owned())).keep_alive(KeepAlive::default())
}

/// What an upload does, whenever that changes; ends when it has ended.
pub fn of_upload(
    state: &AppState,
    upload: watch::Receiver<UploadView>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let views = stream::unfold((WatchStream::new(upload), false), |(mut views, ended)| async move {
        if ended {
            return None;
        }
        let view = views.next().await?;
        let ended = view.state != UploadState::Working;
        Some((view, (views, ended)))
    });
    let events = views.map(|view| event(None, &view));
    Sse::new(events.take_until(state.stopping.clone().cancelled_owned())).keep_alive(KeepAlive::default())
}

/// What the functions do, at once and whenever it has changed; an [`ErrorBody`] while the runtime does not tell.
pub fn of_functions(state: &AppState) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let mut interval = time::interval(FUNCTIONS_INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let start = (state.functions.clone(), interval, None);
    let looks = stream::unfold(start, |(functions, mut interval, mut last)| async move {
        loop {
            interval.tick().await;
            let look = functions.status().await.map_err(|error| ErrorBody::from(error.detail()));
            let essence = look.as_ref().map(essence).map_err(Clone::clone);
            if last.as_ref() != Some(&essence) {
                last = Some(essence);
                return Some((look, (functions, interval, last)));
            }
        }
    });
    let events = looks.map(|look| match look {
        Ok(status) => event(None, &status),
        Err(error) => event(None, &error),
    });
    Sse::new(events.take_until(state.stopping.clone().cancelled_owned())).keep_alive(KeepAlive::default())
}

/// Without what is other at every look.
fn essence(status: &Status) -> Status {
    Status { at_unix_ms: 0, resident_bytes: 0, ..status.clone() }
}

fn event(number: Option<u64>, data: &impl serde::Serialize) -> Result<Event, Infallible> {
    let event = Event::default().json_data(data).unwrap_or_else(|_| Event::default().comment("not JSON"));
    Ok(match number {
        Some(number) => event.id(number.to_string()),
        None => event,
    })
}
