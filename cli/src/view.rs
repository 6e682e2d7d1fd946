//! The runtime's functions as lines of text, for any width of the screen; asks nobody and prints nothing.

use api::functions::{Activity, Decision, Phase, RevisionStatus, ServiceStatus, Status};

const INDENT: &str = "  ";

const HEADINGS: [&str; 9] = ["REVISION", "PHASE", "ACTIVITY", "READY", "RUN", "WAIT", "STABLE", "PANIC", "MODE"];

/// Columns of words; the others are numbers and stand to the right.
const WORDS: [usize; 4] = [0, 1, 2, 8];

/// Every function with its traffic and its revisions, in lines of at most `columns` where words allow it.
pub fn lines(status: &Status, columns: usize) -> Vec<String> {
    if status.services.is_empty() {
        return vec!["no functions; `fovea apply FILE` makes one".into()];
    }
    let mut lines = Vec::new();
    for service in &status.services {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        of_service(service, status.at_unix_ms, columns, &mut lines);
    }
    lines
}

fn of_service(service: &ServiceStatus, now_unix_ms: i64, columns: usize, lines: &mut Vec<String>) {
    let ready = if service.ready { "ready" } else { "not ready" };
    wrap(&format!("{}  {ready}  {}", service.label(), service.url), 0, columns, lines);
    if let Some(reason) = &service.reason {
        wrap(reason, 1, columns, lines);
    }
    wrap(&format!("traffic  {}", traffic(service)), 1, columns, lines);
    if service.revisions.is_empty() {
        return;
    }
    lines.push(String::new());
    let rows: Vec<_> = service.revisions.iter().map(cells).collect();
    let mut widths = HEADINGS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    // Where a long name would push the figures off the screen, it gets a line of its own.
    let whole = widths.iter().sum::<usize>() + INDENT.len() * widths.len();
    let own_line = whole > columns;
    if own_line {
        widths[0] = HEADINGS[0].len();
    }
    lines.push(row(&HEADINGS.map(str::to_owned), &widths));
    for (revision, mut cells) in service.revisions.iter().zip(rows) {
        if own_line {
            lines.push(format!("{INDENT}{}", std::mem::take(&mut cells[0])));
        }
        lines.push(row(&cells, &widths));
        for note in notes(revision, now_unix_ms) {
            wrap(&note, 2, columns, lines);
        }
    }
}

fn cells(revision: &RevisionStatus) -> [String; 9] {
    [
        revision.name.clone(),
        phase(revision.phase).into(),
        activity(revision.activity).into(),
        instances(revision),
        revision.running.to_string(),
        revision.waiting.to_string(),
        format!("{:.2}", revision.stable_concurrency),
        format!("{:.2}", revision.panic_concurrency),
        revision.mode.clone(),
    ]
}

fn row(cells: &[String; 9], widths: &[usize; 9]) -> String {
    let mut line = String::new();
    for (n, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        let cell = if WORDS.contains(&n) { format!("{cell:width$}") } else { format!("{cell:>width$}") };
        line.push_str(INDENT);
        line.push_str(&cell);
    }
    line.truncate(line.trim_end().len());
    line
}

/// What else there is to say of a revision.
fn notes(revision: &RevisionStatus, now_unix_ms: i64) -> Vec<String> {
    let mut parts = Vec::new();
    if revision.panicking {
        parts.push("panic mode".to_owned());
    }
    if revision.draining > 0 {
        parts.push(format!("{} draining", revision.draining));
    }
    if revision.requests > 0 {
        let failed = if revision.failures > 0 { format!(", {} failed", revision.failures) } else { String::new() };
        parts.push(format!("{}{failed}", count(revision.requests, "request", "requests")));
    }
    if revision.cold_starts > 0 {
        parts.push(cold_starts(revision.cold_starts, revision.last_cold_start_ms));
    }
    let mut notes: Vec<_> = revision.reason.iter().cloned().collect();
    notes.extend((!parts.is_empty()).then(|| parts.join("; ")));
    let latest = revision.decisions.first();
    notes.extend(latest.map(|latest| format!("{} {}", age(now_unix_ms - latest.at_unix_ms), decision(latest))));
    notes
}

/// Who gets which part, in one line.
pub fn traffic(service: &ServiceStatus) -> String {
    if service.traffic.is_empty() {
        return "nobody".into();
    }
    let shares = service.traffic.iter().map(|share| {
        let latest = if share.latest { " (latest)" } else { "" };
        let tag = share.tag.as_ref().map(|tag| format!(" @{tag}")).unwrap_or_default();
        let url = share.url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
        format!("{}% {}{latest}{tag}{url}", share.percent, share.revision)
    });
    shares.collect::<Vec<_>>().join(", ")
}

/// `1/2`: instances that take requests, and those there should be.
pub fn instances(revision: &RevisionStatus) -> String {
    match revision.desired {
        ..0 => format!("{}/?", revision.ready),
        desired => format!("{}/{desired}", revision.ready),
    }
}

/// `1 -> 2: why`.
pub fn decision(decision: &Decision) -> String {
    format!("{} -> {}: {}", decision.ready, decision.desired, decision.reason)
}

/// `3 cold starts, the last 412 ms`.
pub fn cold_starts(n: u64, last_ms: Option<f64>) -> String {
    let last = match last_ms.map(milliseconds) {
        Some(last) if n == 1 => format!(", {last}"),
        Some(last) => format!(", the last {last}"),
        None => String::new(),
    };
    count(n, "cold start", "cold starts") + &last
}

/// A phase in one word.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "preparing",
        Phase::Ready => "ready",
        Phase::Failed => "failed",
    }
}

/// An activity in one word.
pub fn activity(activity: Activity) -> &'static str {
    match activity {
        Activity::Activating => "activating",
        Activity::Active => "active",
        Activity::Inactive => "inactive",
    }
}

/// How long ago: `now`, `5 s ago`, `3 min ago`, `2 h ago`, `4 d ago`.
pub fn age(ms: i64) -> String {
    match ms / 1000 {
        ..1 => "now".into(),
        s @ ..60 => format!("{s} s ago"),
        s @ ..3600 => format!("{} min ago", s / 60),
        s @ ..86_400 => format!("{} h ago", s / 3600),
        s => format!("{} d ago", s / 86_400),
    }
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.1} ms"),
        ..10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Adds `text` in lines of at most `columns`, those after the first further in. A longer word stays whole; line breaks
/// and control characters of foreign texts do not reach the screen.
pub fn wrap(text: &str, indents: usize, columns: usize, lines: &mut Vec<String>) {
    let mut line = INDENT.repeat(indents);
    let mut is_empty = true;
    // Double spaces set columns apart and stay, except where a line ends.
    for word in text.split([' ', '\n', '\t']) {
        let word: String = word.chars().filter(|c| !c.is_control()).collect();
        let length = line.chars().count() + 1 + word.chars().count();
        if !is_empty && length > columns {
            lines.push(line.trim_end().to_owned());
            line = INDENT.repeat(indents + 1);
            is_empty = true;
        }
        if is_empty && word.is_empty() {
            continue;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(&word);
        is_empty = false;
    }
    lines.push(line.trim_end().to_owned());
}

#[cfg(test)]
pub mod tests {
    use api::functions::TrafficShare;

    use super::*;

    /// A function with two revisions, the newer one busy, at second 100.
    pub fn inference() -> Status {
        let decision =
            Decision { at_unix_ms: 95_000, desired: 2, ready: 1, reason: "1.50 in flight, 0.70 wanted each".into() };
        let busy = RevisionStatus {
            name: "inference-00002".into(),
            phase: Phase::Ready,
            reachable: true,
            activity: Activity::Active,
            mode: "Serve".into(),
            desired: 2,
            ready: 1,
            running: 1,
            waiting: 3,
            stable_concurrency: 1.5,
            panic_concurrency: 2.254,
            panicking: true,
            requests: 128,
            failures: 2,
            cold_starts: 3,
            last_cold_start_ms: Some(4.125),
            decisions: vec![decision],
            ..RevisionStatus::default()
        };
        let idle = RevisionStatus {
            name: "inference-00001".into(),
            phase: Phase::Ready,
            activity: Activity::Inactive,
            mode: "Proxy".into(),
            ..RevisionStatus::default()
        };
        let share = |revision: &str, percent| TrafficShare { revision: revision.into(), percent, ..Default::default() };
        let service = ServiceStatus {
            namespace: "default".into(),
            name: "inference".into(),
            url: "http://127.0.0.1:8082/".into(),
            ready: true,
            traffic: vec![
                TrafficShare { latest: true, ..share("inference-00002", 90) },
                TrafficShare { tag: Some("old".into()), ..share("inference-00001", 10) },
            ],
            revisions: vec![busy, idle],
            ..ServiceStatus::default()
        };
        Status { at_unix_ms: 100_000, resident_bytes: 41 << 20, services: vec![service], ..Status::default() }
    }

    #[track_caller]
    fn check(status: &Status, columns: usize, expected: &str) {
        let text = lines(status, columns).join("\n");
        assert_eq!(text, expected, "\n{text}\n");
    }

    #[test]
    fn everything_that_matters_fits_into_eighty_columns() {
        let expected = "\
inference  ready  http://127.0.0.1:8082/
  traffic  90% inference-00002 (latest), 10% inference-00001 @old

  REVISION         PHASE  ACTIVITY  READY  RUN  WAIT  STABLE  PANIC  MODE
  inference-00002  ready  active      1/2    1     3    1.50   2.25  Serve
    panic mode; 128 requests, 2 failed; 3 cold starts, the last 4.1 ms
    5 s ago 1 -> 2: 1.50 in flight, 0.70 wanted each
  inference-00001  ready  inactive    0/0    0     0    0.00   0.00  Proxy";
        check(&inference(), 80, expected);
        check(&inference(), usize::MAX, expected);
    }

    #[test]
    fn a_narrow_screen_wraps_words_and_gives_names_their_own_lines() {
        let mut status = inference();
        let service = &mut status.services[0];
        service.ready = false;
        service.reason = Some("the revision\nfailed\u{1b}[2J".into());
        service.revisions.truncate(1);
        service.revisions[0].phase = Phase::Failed;
        service.revisions[0].reason = Some("the component cannot be read".into());
        check(
            &status,
            66,
            "\
inference  not ready  http://127.0.0.1:8082/
  the revision failed[2J
  traffic  90% inference-00002 (latest), 10% inference-00001 @old

  REVISION  PHASE   ACTIVITY  READY  RUN  WAIT  STABLE  PANIC  MODE
  inference-00002
            failed  active      1/2    1     3    1.50   2.25  Serve
    the component cannot be read
    panic mode; 128 requests, 2 failed; 3 cold starts, the last
      4.1 ms
    5 s ago 1 -> 2: 1.50 in flight, 0.70 wanted each",
        );
    }

    #[test]
    fn no_line_is_wider_than_the_screen_as_long_as_words_allow_it() {
        let mut status = inference();
        status.services[0].namespace = "a-namespace-of-considerable-length".into();
        status.services[0].revisions[1].name = "a-function-with-a-name-that-is-as-long-as-names-may-be-00001".into();
        for columns in [80, 100, 200] {
            for line in lines(&status, columns) {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn what_is_not_known_yet_is_not_a_number() {
        assert_eq!(instances(&RevisionStatus { desired: -1, ..RevisionStatus::default() }), "0/?");
        check(&Status::default(), 80, "no functions; `fovea apply FILE` makes one");
    }

    #[test]
    fn times_grow_coarser_as_they_grow_longer() {
        let told = [-5, 999, 1000, 59_999, 60_000, 7_200_000, 200_000_000].map(age);
        assert_eq!(told, ["now", "now", "1 s ago", "59 s ago", "1 min ago", "2 h ago", "2 d ago"]);
        assert_eq!([0.04, 9.96, 412.4, 12_345.0].map(milliseconds), ["0.0 ms", "10.0 ms", "412 ms", "12.3 s"]);
        assert_eq!(cold_starts(1, Some(4.0)), "1 cold start, 4.0 ms");
    }
}
