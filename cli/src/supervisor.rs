//! Keeps child processes running, and ends them all.
//!
//! Each service has one task that owns its child: it starts it, waits for its end, pauses and starts it again, until
//! everything is stopped. What happens is told as events; what they mean is the caller's business.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process, kill_process_group, set_parent_process_death_signal,
};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// A program that is to be kept running.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name in messages.
    pub name: &'static str,
    /// What is run.
    pub program: PathBuf,
    /// With which arguments.
    pub arguments: Vec<OsString>,
    /// And which variables on top of our own.
    pub environment: Vec<(&'static str, OsString)>,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Pause before the first new start; doubled before each further one.
    pub shortest_pause: Duration,
    /// Pauses grow no longer.
    pub longest_pause: Duration,
    /// A child that lived this long has recovered: the next pause is the shortest again.
    pub recovered_after: Duration,
    /// From being asked to end until being killed.
    pub grace: Duration,
}

/// What happened to a service.
#[derive(Debug)]
pub enum Event {
    /// It runs.
    Started {
        /// Whose.
        service: &'static str,
        /// Its process.
        pid: u32,
    },
    /// It ended although nobody asked it to.
    Ended {
        /// Whose.
        service: &'static str,
        /// How.
        status: ExitStatus,
        /// Pause before it is started again.
        pause: Duration,
    },
    /// It could not be started.
    NotStarted {
        /// Whose.
        service: &'static str,
        /// Why.
        error: io::Error,
        /// Pause before this is tried again.
        pause: Duration,
    },
    /// It did not end in time when asked to, and was killed.
    Killed {
        /// Whose.
        service: &'static str,
    },
}

/// Running services.
pub struct Supervisor {
    stop: watch::Sender<bool>,
    events: mpsc::UnboundedReceiver<Event>,
    keepers: JoinSet<()>,
}

impl Supervisor {
    /// Starts all services.
    ///
    /// Children are killed when the *thread* that started them ends. Call this on a runtime of a single thread, which
    /// lives as long as they should.
    pub fn start(services: impl IntoIterator<Item = Service>, patience: Patience) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (tell, events) = mpsc::unbounded_channel();
        let mut keepers = JoinSet::new();
        for service in services {
            keepers.spawn(keep(service, patience, stopped.clone(), tell.clone()));
        }
        Self { stop, events, keepers }
    }

    /// The next thing that happens. Waits forever where there are no services.
    pub async fn event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Asks every child to end, kills those that do not in time, and returns what had happened until all were gone.
    pub async fn stop(mut self) -> Vec<Event> {
        self.stop.send_replace(true);
        while self.keepers.join_next().await.is_some() {}
        let mut events = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            events.push(event);
        }
        events
    }
}

async fn keep(
    service: Service,
    patience: Patience,
    mut stopped: watch::Receiver<bool>,
    events: mpsc::UnboundedSender<Event>,
) {
    let name = service.name;
    // A listener that has gone away misses messages; children are looked after all the same.
    let tell = |event| drop(events.send(event));
    let mut pause = patience.shortest_pause;
    loop {
        match spawn(&service) {
            Err(error) => tell(Event::NotStarted { service: name, error, pause }),
            Ok((mut child, pid)) => {
                let started = Instant::now();
                tell(Event::Started { service: name, pid: pid.as_raw_nonzero().get().unsigned_abs() });
                let status = tokio::select! {
                    status = child.wait() => status,
                    () = asked_to_stop(&mut stopped) => {
                        if !end(&mut child, pid, patience.grace).await {
                            tell(Event::Killed { service: name });
                        }
                        return;
                    }
                };
                if started.elapsed() >= patience.recovered_after {
                    pause = patience.shortest_pause;
                }
                match status {
                    Ok(status) => tell(Event::Ended { service: name, status, pause }),
                    Err(error) => tell(Event::NotStarted { service: name, error, pause }),
                }
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = asked_to_stop(&mut stopped) => return,
        }
        pause = (pause * 2).min(patience.longest_pause);
    }
}

/// Returns when everything is to stop, or nobody is left who could say so.
async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Starts a child in a process group of its own, so that a terminal's Ctrl-C reaches only the supervisor.
///
/// What it prints for programs goes nowhere; what it logs for people goes where ours does.
fn spawn(service: &Service) -> io::Result<(Child, Pid)> {
    let mut command = Command::new(&service.program);
    command.args(&service.arguments).envs(service.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).kill_on_drop(true);
    let supervisor = getpid();
    // SAFETY: between fork and exec only two system calls are made; they neither allocate nor lock.
    unsafe {
        command.pre_exec(move || {
            // A supervisor that is killed cannot end its children: the kernel then asks them to.
            set_parent_process_death_signal(Some(Signal::TERM))?;
            if getppid() == Some(supervisor) { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
        });
    }
    let child = command.spawn()?;
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    pid.map(|pid| (child, pid)).ok_or_else(|| io::Error::other("it ended at once"))
}

/// Ends a child and whatever it left in its group. Returns whether it ended of its own accord.
async fn end(child: &mut Child, pid: Pid, grace: Duration) -> bool {
    // Signals to a child that ended meanwhile fail, and that is fine.
    let _ = kill_process(pid, Signal::TERM);
    let ended = matches!(timeout(grace, child.wait()).await, Ok(Ok(_)));
    let _ = kill_process_group(pid, Signal::KILL);
    if !ended {
        let _ = child.wait().await;
    }
    ended
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustix::process::test_kill_process;
    use tokio::{
        io::AsyncReadExt,
        net::unix::pipe::{OpenOptions, Receiver},
    };

    use super::*;

    const PATIENCE: Patience = Patience {
        shortest_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        recovered_after: Duration::from_secs(60),
        grace: Duration::from_secs(20),
    };

    fn shell(script: &str) -> Service {
        Service {
            name: "shell",
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
        }
    }

    async fn next(supervisor: &mut Supervisor) -> Event {
        timeout(Duration::from_secs(20), supervisor.event()).await.expect("something happens")
    }

    async fn started(supervisor: &mut Supervisor) -> Pid {
        match next(supervisor).await {
            Event::Started { pid, .. } => Pid::from_raw(pid.cast_signed()).expect("no process is zero"),
            other => panic!("expected a start, found {other:?}"),
        }
    }

    /// A named pipe that children can write to, and hold open for as long as they live.
    fn pipe(folder: &Path) -> (PathBuf, Receiver) {
        let path = folder.join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("a named pipe");
        let reader = OpenOptions::new().open_receiver(&path).expect("a reader");
        (path, reader)
    }

    /// Waits until a child says that it is up.
    async fn is_up(pipe: &mut Receiver) {
        let mut said = [0; 3];
        let saying = async {
            // Before a first writer came, a read would take its absence for the end.
            pipe.readable().await?;
            pipe.read_exact(&mut said).await
        };
        timeout(Duration::from_secs(20), saying).await.expect("a child writes").expect("a pipe");
        assert_eq!(&said, b"up\n");
    }

    /// Waits until no process holds the pipe's other end.
    async fn is_gone(pipe: &mut Receiver) {
        let mut rest = Vec::new();
        timeout(Duration::from_secs(20), pipe.read_to_end(&mut rest)).await.expect("all end").expect("a pipe");
    }

    #[tokio::test]
    async fn a_killed_child_is_started_again() {
        let mut supervisor = Supervisor::start([shell("exec sleep 1000")], PATIENCE);
        let first = started(&mut supervisor).await;
        kill_process(first, Signal::KILL).expect("it runs");
        assert!(matches!(next(&mut supervisor).await, Event::Ended { status, .. } if !status.success()));
        let second = started(&mut supervisor).await;
        assert_ne!(first, second);
        assert!(supervisor.stop().await.is_empty());
        assert!(test_kill_process(second).is_err(), "it still runs");
    }

    #[tokio::test]
    async fn pauses_double_up_to_the_longest() {
        let mut supervisor = Supervisor::start([shell("exit 7")], PATIENCE);
        for expected in [1, 2, 4, 4] {
            started(&mut supervisor).await;
            match next(&mut supervisor).await {
                Event::Ended { status, pause, .. } => {
                    assert_eq!((status.code(), pause), (Some(7), Duration::from_millis(expected)));
                }
                other => panic!("expected an end, found {other:?}"),
            }
        }
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn a_child_that_lived_long_is_started_again_soon() {
        let patience = Patience { recovered_after: Duration::ZERO, ..PATIENCE };
        let mut supervisor = Supervisor::start([shell("exit 7")], patience);
        for _ in 0..3 {
            started(&mut supervisor).await;
            let event = next(&mut supervisor).await;
            assert!(matches!(event, Event::Ended { pause, .. } if pause == patience.shortest_pause), "{event:?}");
        }
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_tried_again() {
        let service = Service { program: "/nowhere/program".into(), ..shell("") };
        let mut supervisor = Supervisor::start([service], PATIENCE);
        for _ in 0..2 {
            let event = next(&mut supervisor).await;
            assert!(matches!(&event, Event::NotStarted { error, .. } if error.kind() == io::ErrorKind::NotFound));
        }
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn a_child_that_is_asked_to_end_may_tidy_up() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, mut pipe) = pipe(folder.path());
        let tidied = folder.path().join("tidied");
        let script = format!(
            "trap 'echo yes > {}; exit' TERM; echo up > {}; while :; do sleep 0.01; done",
            tidied.display(),
            path.display()
        );
        let mut supervisor = Supervisor::start([shell(&script)], PATIENCE);
        started(&mut supervisor).await;
        is_up(&mut pipe).await;
        assert!(supervisor.stop().await.is_empty());
        assert_eq!(std::fs::read_to_string(tidied).expect("it tidied up"), "yes\n");
    }

    #[tokio::test]
    async fn a_deaf_child_is_killed_with_its_group() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, mut pipe) = pipe(folder.path());
        let script = format!("trap '' TERM; exec 3>{}; sleep 1000 & echo up >&3; wait", path.display());
        let patience = Patience { grace: Duration::from_millis(50), ..PATIENCE };
        let mut supervisor = Supervisor::start([shell(&script)], patience);
        started(&mut supervisor).await;
        is_up(&mut pipe).await;
        let events = supervisor.stop().await;
        assert!(matches!(events[..], [Event::Killed { service: "shell" }]), "{events:?}");
        is_gone(&mut pipe).await;
    }
}
