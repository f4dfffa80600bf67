//! The container that `coracle run` gives its own standard input to, and, where this is a terminal, shows raw: the
//! first one with `interactive`, else the first with `pseudoTerminal`.
//!
//! On a terminal, Ctrl-C goes to the container like every other key. Ctrl-P Ctrl-Q takes the terminal back, as in
//! Docker: from then on the container's input is closed to us, its output comes by lines, and Ctrl-C stops the task.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;

use agent_protocol::{TaskSpec, TaskStatus};
use ecs::ContainerName;
use ecs::task::ContainerLastStatus;
use nix::sys::signal::SigSet;
use runtime::client::{self, Attachment, ClientError};

use super::attached::Happening;
use super::report::Report;
use crate::exec::terminal::{Raw, resize};
use crate::logs::OwnedRecord;

/// Lines that wait until the container is attached to; one that says more before that is shown by lines.
const MAX_HELD: usize = 1024;
/// Ctrl-P and Ctrl-Q.
const LET_GO: [u8; 2] = [0x10, 0x11];
/// What a terminal takes for the end of its input (VEOF of termios(3)).
const END_OF_INPUT: u8 = 0x04;

pub(super) struct Console {
    container: ContainerName,
    interactive: bool,
    /// The container has a terminal and we have one, on both sides.
    raw: bool,
    state: State,
}

enum State {
    /// For the container to run. What it has said meanwhile will be on its screen.
    Waiting { held: Vec<OwnedRecord> },
    /// Its screen is shown here.
    Joined { raw: Option<Raw> },
    /// Its output comes by lines.
    Lines,
}

impl Console {
    pub(super) fn of(spec: &TaskSpec, json: bool) -> Option<Console> {
        let definitions = || spec.containers.iter().map(|container| &container.definition);
        let interactive = definitions().find(|definition| definition.interactive == Some(true));
        let definition =
            interactive.or_else(|| definitions().find(|definition| definition.pseudo_terminal == Some(true)))?;
        let raw = definition.pseudo_terminal == Some(true)
            && !json
            && io::stdout().is_terminal()
            && io::stdin().is_terminal();
        let interactive = definition.interactive == Some(true);
        let state = State::Waiting { held: Vec::new() };
        (raw || interactive).then(|| Console { container: definition.name.clone(), interactive, raw, state })
    }

    /// The signals that tell of a new size. To be held back before any thread exists.
    pub(super) fn hold_back_window_changes(&self) {
        if self.raw {
            // Without it a change of size ends nothing, it is only not seen.
            let _ = window_changes().thread_block();
        }
    }

    /// Whether a piece of output is to be shown as a line.
    pub(super) fn shows_as_line(&mut self, record: OwnedRecord) -> Vec<OwnedRecord> {
        if !self.raw || *record.piece().container != self.container {
            return vec![record];
        }
        match &mut self.state {
            State::Waiting { held } if held.len() < MAX_HELD => {
                held.push(record);
                Vec::new()
            }
            State::Joined { .. } => Vec::new(),
            State::Waiting { .. } | State::Lines => vec![record],
        }
    }

    /// Joins the container once it runs.
    pub(super) fn look(
        &mut self,
        spec: &TaskSpec,
        status: &TaskStatus,
        to: &SyncSender<Happening>,
        report: &mut Report,
    ) {
        let State::Waiting { .. } = self.state else { return };
        let found = status.containers.iter().find(|container| container.name == self.container);
        match found.map(|container| container.last_status) {
            Some(ContainerLastStatus::Running) => match self.join(spec, to) {
                Ok(state) => {
                    report.set_raw(matches!(state, State::Joined { raw: Some(_) }));
                    self.leave(state, report);
                }
                Err(ClientError::Gone { .. } | ClientError::Ended | ClientError::Refused { .. }) => self.end(report),
                Err(error) => {
                    report.problem(&agent::recovery::chain(&error));
                    self.end(report);
                }
            },
            Some(ContainerLastStatus::Stopped) => self.end(report),
            Some(ContainerLastStatus::Pending) | None => {}
        }
    }

    /// The container's screen is no more, or the user has let go of it.
    pub(super) fn end(&mut self, report: &mut Report) {
        report.set_raw(false);
        self.leave(State::Lines, report);
    }

    fn leave(&mut self, next: State, report: &mut Report) {
        if let State::Waiting { held } = std::mem::replace(&mut self.state, next)
            && matches!(self.state, State::Lines)
        {
            held.iter().for_each(|record| report.record(record));
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        matches!(self.state, State::Joined { .. })
    }

    fn join(&self, spec: &TaskSpec, to: &SyncSender<Happening>) -> Result<State, ClientError> {
        match client::connect(&spec.places)?.attach(&self.container)? {
            Attachment::Input(input) => {
                // Ends with this process: a read of standard input cannot be taken back.
                std::thread::spawn(move || feed_pipe(File::from(input)));
                Ok(State::Lines)
            }
            // Whoever reads our output reads lines; nobody looks at the screen.
            Attachment::Terminal { master, shown } if !self.raw => {
                drop(shown);
                std::thread::spawn(move || feed_terminal(File::from(master)));
                Ok(State::Lines)
            }
            Attachment::Terminal { master, shown } => Ok(self.show(master, shown, to)),
        }
    }

    fn show(&self, master: OwnedFd, shown: OwnedFd, to: &SyncSender<Happening>) -> State {
        resize(&master);
        // A terminal that cannot be made raw still shows what comes.
        let raw = if self.interactive { Raw::enter().ok() } else { None };
        if self.interactive
            && let Ok(input) = master.try_clone()
        {
            let to = to.clone();
            std::thread::spawn(move || feed_keys(File::from(input), &to));
        }
        std::thread::spawn(move || {
            while window_changes().wait().is_ok() {
                resize(&master);
            }
        });
        let to = to.clone();
        std::thread::spawn(move || {
            let mut shown = File::from(shown);
            let mut chunk = [0; 8192];
            while let Ok(count) = shown.read(&mut chunk)
                && count > 0
                && to.send(Happening::Screen(chunk[..count].to_vec())).is_ok()
            {}
            // Nobody listens any more only when this process is at its end.
            to.send(Happening::ScreenEnded).ok();
        });
        State::Joined { raw }
    }
}

fn window_changes() -> SigSet {
    [nix::sys::signal::Signal::SIGWINCH].into_iter().collect()
}

fn feed_pipe(mut to: File) {
    // A container that reads no more is no error of this command's.
    io::copy(&mut io::stdin().lock(), &mut to).ok();
}

fn feed_terminal(mut to: File) {
    if io::copy(&mut io::stdin().lock(), &mut to).is_ok() {
        to.write_all(&[END_OF_INPUT]).ok();
    }
}

/// Until the keys that let go of it.
fn feed_keys(mut to: File, happenings: &SyncSender<Happening>) {
    let mut held_back = false;
    let mut chunk = [0; 1024];
    while let Ok(count) = io::stdin().lock().read(&mut chunk)
        && count > 0
    {
        let (keys, let_go) = keys(&chunk[..count], &mut held_back);
        if to.write_all(&keys).is_err() {
            return;
        }
        if let_go {
            happenings.send(Happening::LetGo).ok();
            return;
        }
    }
}

/// What of `typed` goes to the container, and whether the keys that let go of it are in there. The first of the two
/// is held back until the next key is known.
fn keys(typed: &[u8], held_back: &mut bool) -> (Vec<u8>, bool) {
    let mut keys = Vec::with_capacity(typed.len() + 1);
    for &key in typed {
        if std::mem::take(held_back) {
            if key == LET_GO[1] {
                return (keys, true);
            }
            keys.push(LET_GO[0]);
        }
        if key == LET_GO[0] {
            *held_back = true;
        } else {
            keys.push(key);
        }
    }
    (keys, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_that_let_go_are_found_across_reads_and_nothing_else_is_lost() {
        let mut held_back = false;
        assert_eq!(keys(b"ab\x10", &mut held_back), (b"ab".to_vec(), false));
        assert_eq!(keys(b"c\x03", &mut held_back), (b"\x10c\x03".to_vec(), false));
        assert_eq!(keys(b"\x10\x10", &mut held_back), (b"\x10".to_vec(), false));
        assert_eq!(keys(b"\x11rest", &mut held_back), (Vec::new(), true));
    }
}
