//! Staying with a task: its output, its changes of state, and this terminal's Ctrl-C, until it has stopped.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use agent::driver::Started;
use agent::recovery::Network;
use agent::{Host, ending, events};
use agent_protocol::{TaskSpec, TaskStatus};
use ecs::ContainerName;
use ecs::task::{ContainerLastStatus, LastStatus, StopCode};
use nix::sys::signal::{SigSet, Signal};
use runtime::client::{self, ClientError};
use runtime::logs::{self, ReadOptions};
use runtime::task_dir;

use super::console::Console;
use super::report::Report;
use super::signals;
use crate::failure::{Explain, Failure};
use crate::logs::{OwnedRecord, follow_on_thread};
use crate::{clock, recovery, rm, stop};

/// What may wait here while the terminal is slow; then the readers wait, and after them the log files hold it.
const AHEAD: usize = 4096;
/// "If the parameter isn't specified, then the default value of 30 seconds is used": API_ContainerDefinition,
/// stopTimeout.
const DEFAULT_STOP_TIMEOUT_S: u32 = 30;
/// A signal repeated so soon is the same one: timeout(1) signals its command, then the command's whole group. A
/// person's quick second Ctrl-C takes longer.
const ONE_INTERRUPT: Duration = Duration::from_millis(200);
/// SIGTERM comes from programs, which may send it twice and mean it once.
const ONE_TERMINATION: Duration = Duration::from_secs(1);

pub(super) struct AtEnd {
    /// The task's directories go with it.
    pub(super) forget: bool,
    pub(super) timings: bool,
}

pub(super) enum Happening {
    Record(OwnedRecord),
    LogsEnded(Option<logs::ReadError>),
    Status(Box<TaskStatus>),
    WatchEnded(Option<ClientError>),
    Signal {
        signal: Signal,
        at: Instant,
    },
    /// What a container's terminal shows.
    Screen(Vec<u8>),
    ScreenEnded,
    /// The user wants the terminal back.
    LetGo,
}

/// Gives the exit code of `coracle run`.
pub(super) fn stay(host: &Host, started: &Started, report: &mut Report, at_end: AtEnd) -> Result<i32, Failure> {
    let console = Console::of(&started.spec, report.is_json());
    let (sender, happenings) = watch_all(&started.spec, console.as_ref())?;
    let mut stay = Stay {
        spec: &started.spec,
        last: None,
        held: Vec::new(),
        signalled: None,
        logs: true,
        watch: true,
        console,
        sender,
    };
    while (stay.logs || stay.watch || stay.console.as_ref().is_some_and(Console::is_joined))
        && let Ok(happening) = happenings.recv()
    {
        stay.take(happening, report);
        while !report.is_long()
            && let Ok(happening) = happenings.try_recv()
        {
            stay.take(happening, report);
        }
        report.flush();
    }
    if let Some(console) = &mut stay.console {
        console.end(report);
    }
    let status = final_status(host, &started.spec)?;
    stay.status(&status, report);
    stay.held.iter().for_each(|event| report.event(event));
    let code = ending::exit_code(&started.spec, &status);
    if at_end.timings {
        report.timings(&started.stages, &status);
    }
    report.end(&started.spec, &status, code);
    if at_end.forget {
        rm::forget(host, &started.spec.id)?;
    }
    Ok(code)
}

struct Stay<'a> {
    spec: &'a TaskSpec,
    last: Option<TaskStatus>,
    /// The task's own end: told when all output has been.
    held: Vec<events::Event>,
    /// When the first signal came.
    signalled: Option<Instant>,
    logs: bool,
    watch: bool,
    console: Option<Console>,
    /// For what the console starts.
    sender: SyncSender<Happening>,
}

impl Stay<'_> {
    fn take(&mut self, happening: Happening, report: &mut Report) {
        match happening {
            Happening::Record(record) => match &mut self.console {
                Some(console) => console.shows_as_line(record).iter().for_each(|record| report.record(record)),
                None => report.record(&record),
            },
            Happening::Screen(bytes) => {
                if self.console.as_ref().is_some_and(Console::is_joined) {
                    report.screen(&bytes);
                }
            }
            Happening::ScreenEnded => self.leave_console(report),
            Happening::LetGo => {
                self.leave_console(report);
                report.problem("this terminal is yours again; Ctrl-C stops the task");
            }
            Happening::LogsEnded(error) => {
                self.logs = false;
                if let Some(error) = error {
                    report.problem(&format!("no more output can be shown: {}", agent::recovery::chain(&error)));
                }
            }
            Happening::Status(status) => self.status(&status, report),
            Happening::WatchEnded(error) => {
                self.watch = false;
                if let Some(error) = error {
                    report.problem(&agent::recovery::chain(&error));
                }
            }
            Happening::Signal { signal, at } => self.signal(signal, at, report),
        }
    }

    fn leave_console(&mut self, report: &mut Report) {
        if let Some(console) = &mut self.console {
            console.end(report);
        }
    }

    fn status(&mut self, status: &TaskStatus, report: &mut Report) {
        if let Some(console) = &mut self.console {
            console.look(self.spec, status, &self.sender, report);
        }
        for event in events::between(self.last.as_ref(), status, clock::now()) {
            match event {
                events::Event::Task { last_status: LastStatus::Stopped, .. } => self.held.push(event),
                events::Event::Task { .. }
                | events::Event::Container { .. }
                | events::Event::Health { .. }
                | events::Event::Restarted { .. }
                | events::Event::Stuck { .. } => report.event(&event),
            }
        }
        self.last = Some(status.clone());
    }

    /// The first asks, as StopTask does; every further one kills.
    fn signal(&mut self, signal: Signal, at: Instant, report: &mut Report) {
        let wish = wish(signal, self.signalled.map(|first| at.saturating_duration_since(first)));
        self.signalled.get_or_insert(at);
        let asked = match wish {
            Wish::Nothing => return,
            Wish::Stop => {
                report.stopping(&still_running(self.spec, self.last.as_ref()));
                client::connect(&self.spec.places)
                    .and_then(|mut client| client.stop(StopCode::UserInitiated, stop::STOPPED_BY_USER))
            }
            Wish::Kill => {
                report.killing();
                client::connect(&self.spec.places).and_then(|mut client| client.kill(stop::STOPPED_BY_USER))
            }
        };
        match asked {
            // It is ending or has ended; the watch tells.
            Ok(()) | Err(ClientError::Gone { .. } | ClientError::Ended) => {}
            Err(error) => report.problem(&agent::recovery::chain(&error)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    Stop,
    Kill,
}

/// What a signal means that comes so long after the first one.
fn wish(signal: Signal, after_first: Option<Duration>) -> Wish {
    let one = if signal == Signal::SIGINT { ONE_INTERRUPT } else { ONE_TERMINATION };
    match after_first {
        None => Wish::Stop,
        Some(after) if after <= one => Wish::Nothing,
        Some(_) => Wish::Kill,
    }
}

/// The containers that have not stopped, with the seconds that each may take.
fn still_running<'a>(spec: &'a TaskSpec, status: Option<&TaskStatus>) -> Vec<(&'a ContainerName, u32)> {
    let stopped = |name: &ContainerName| {
        let mut known = status.iter().flat_map(|status| &status.containers);
        known.any(|known| known.name == *name && known.last_status == ContainerLastStatus::Stopped)
    };
    spec.containers
        .iter()
        .map(|container| &container.definition)
        .filter(|definition| !stopped(&definition.name))
        .map(|definition| (&definition.name, definition.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT_S)))
        .collect()
}

fn watch_all(
    spec: &TaskSpec,
    console: Option<&Console>,
) -> Result<(SyncSender<Happening>, Receiver<Happening>), Failure> {
    let (sender, happenings) = sync_channel(AHEAD);
    // Before any of the threads below exists: all inherit the mask, and only one takes these signals.
    signals::hold_back()?;
    if let Some(console) = console {
        console.hold_back_window_changes();
    }
    watch_signals(signals::of_users(), sender.clone());
    watch_status(spec, sender.clone());
    let ours = sender.clone();
    let options = ReadOptions { follow: true, ..ReadOptions::default() };
    follow_on_thread(spec, &options, move |item| match item {
        Some(Ok(record)) => sender.send(Happening::Record(record)).is_ok(),
        Some(Err(error)) => sender.send(Happening::LogsEnded(Some(error))).is_ok(),
        None => sender.send(Happening::LogsEnded(None)).is_ok(),
    })?;
    Ok((ours, happenings))
}

fn watch_signals(signals: SigSet, sender: SyncSender<Happening>) {
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait()
            && sender.send(Happening::Signal { signal, at: Instant::now() }).is_ok()
        {}
    });
}

fn watch_status(spec: &TaskSpec, sender: SyncSender<Happening>) {
    let places = spec.places.clone();
    std::thread::spawn(move || {
        let mut lost = None;
        match client::connect(&places).and_then(client::Client::watch) {
            Ok(watch) => {
                for status in watch {
                    match status {
                        Ok(status) => {
                            if sender.send(Happening::Status(Box::new(status))).is_err() {
                                return;
                            }
                        }
                        Err(error) => lost = Some(error),
                    }
                }
            }
            // It has ended already; its file has the last word.
            Err(ClientError::Gone { .. }) => {}
            Err(error) => lost = Some(error),
        }
        // Nobody listens any more only when this process is at its end.
        sender.send(Happening::WatchEnded(lost)).ok();
    });
}

/// `status.json` after the supervisor's end. Where the supervisor was killed, recovery writes one.
pub(super) fn final_status(host: &Host, spec: &TaskSpec) -> Result<TaskStatus, Failure> {
    let read = || task_dir::read(&host.roots, &spec.id).doing("reading how the task ended");
    let stopped = |task: Option<task_dir::Task>| {
        task.and_then(|task| task.status).filter(|status| status.last_status == LastStatus::Stopped)
    };
    if let Some(status) = stopped(read()?) {
        return Ok(status);
    }
    recovery::recover(host, Network::IfCutShort);
    stopped(read()?).ok_or_else(|| {
        Failure::new(format!("how task {} ended is not known", spec.id)).next(format!("coracle inspect {}", spec.id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_repeat_that_a_person_could_mean_kills() {
        let after = |ms| Some(Duration::from_millis(ms));
        let table = [
            (Signal::SIGINT, None, Wish::Stop),
            (Signal::SIGTERM, None, Wish::Stop),
            (Signal::SIGINT, after(0), Wish::Nothing),
            (Signal::SIGINT, after(200), Wish::Nothing),
            (Signal::SIGINT, after(300), Wish::Kill),
            (Signal::SIGTERM, after(0), Wish::Nothing),
            (Signal::SIGTERM, after(900), Wish::Nothing),
            (Signal::SIGTERM, after(1_100), Wish::Kill),
        ];
        for (signal, since, expected) in table {
            assert_eq!(wish(signal, since), expected, "{signal} after {since:?}");
        }
    }
}
