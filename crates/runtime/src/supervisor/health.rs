//! Health checks as they run: a further process in the container for each, its output, its end. When one runs and what
//! its exit code means is the lifecycle's.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use agent_protocol::TaskSpec;
use agent_protocol::command::Exec;
use ecs::task_definition::HealthCheck;
use ecs::{ContainerName, Timestamp};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::execution::Around;
use super::journal::chain;
use crate::cgroup::{self, Cgroups};
use crate::exec::Launch;
use crate::process_identity;

/// What is kept of a check's output, as Docker keeps it.
const OUTPUT_BYTES: usize = 4096;

/// Reads of one check's output before the others get their turn; what a check floods its pipe with is thrown away.
const READS_PER_TURN: usize = 16;

/// How often a check's processes are looked for and killed, in case that they fork meanwhile.
const KILL_ROUNDS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Checks {
    running: Vec<Check>,
}

#[derive(Debug)]
struct Check {
    container: ContainerName,
    process: Process,
    /// Standard output and error, until it ends.
    pipe: Option<File>,
    output: Vec<u8>,
}

#[derive(Debug)]
enum Process {
    Starting(Launch),
    Running { pid: i32, pidfd: OwnedFd },
}

/// A check's result.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) container: ContainerName,
    /// Nothing when it could not be run.
    pub(super) exit_code: Option<i32>,
    pub(super) output: String,
}

impl Checks {
    /// Begins a check; `advance` or `ended` tell how it went. The error is why it cannot be run.
    pub(super) fn begin(
        &mut self,
        name: &ContainerName,
        check: &HealthCheck,
        around: &Around<'_>,
    ) -> Result<(), String> {
        let wanted = Exec {
            container: name.clone(),
            command: command(check)?,
            environment: Vec::new(),
            user: None,
            working_directory: None,
            terminal: false,
            terminal_size: None,
            debug: None,
        };
        let streams = || -> io::Result<(File, [OwnedFd; 3])> {
            let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            let errors = writer.try_clone()?;
            Ok((File::from(reader), [File::open("/dev/null")?.into(), writer, errors]))
        };
        let (pipe, stdio) = streams().map_err(|cause| format!("no pipe for its output: {}", chain(&cause)))?;
        let launch = around.begin(&wanted, Some(&stdio))?;
        let process = Process::Starting(launch);
        self.running.push(Check { container: name.clone(), process, pipe: Some(pipe), output: Vec::new() });
        Ok(())
    }

    /// What to poll for.
    pub(super) fn interest(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.running.iter().flat_map(|check| {
            let report = match &check.process {
                Process::Starting(launch) => Some(launch.interest()),
                Process::Running { .. } => None,
            };
            report.into_iter().chain(check.pipe.as_ref().map(AsRawFd::as_raw_fd))
        })
    }

    /// When `advance` is to be called though nothing has happened.
    pub(super) fn look_again_at(&self, now: Timestamp) -> Option<Timestamp> {
        let starting = self.running.iter().filter_map(|check| match &check.process {
            Process::Starting(launch) => Some(launch.left()),
            Process::Running { .. } => None,
        });
        starting.min().map(|left| now.plus_ms(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).saturating_add(1)))
    }

    pub(super) fn serve_output(&mut self, ready: &[RawFd]) {
        for check in &mut self.running {
            if check.pipe.as_ref().is_some_and(|pipe| ready.contains(&pipe.as_raw_fd())) {
                check.read();
            }
        }
    }

    /// The checks that could not be run. To be called before an ended child is waited for.
    pub(super) fn advance(&mut self) -> Vec<Ended> {
        let mut failed = Vec::new();
        self.running.retain_mut(|check| {
            let Process::Starting(launch) = &mut check.process else { return true };
            match launch.advance() {
                None => true,
                Some(Ok(executed)) => {
                    check.process = Process::Running { pid: executed.pid, pidfd: executed.pidfd };
                    true
                }
                Some(Err(error)) => {
                    let container = check.container.clone();
                    failed.push(Ended { container, exit_code: None, output: chain(&error) });
                    false
                }
            }
        });
        failed
    }

    /// The check whose process has ended, if it is one.
    pub(super) fn ended(&mut self, pid: i32, exit_code: i32) -> Option<Ended> {
        let is = |check: &Check| matches!(check.process, Process::Running { pid: own, .. } if own == pid);
        let place = self.running.iter().position(is)?;
        let mut check = self.running.swap_remove(place);
        check.read();
        let output = String::from_utf8_lossy(&check.output).into_owned();
        Some(Ended { container: check.container, exit_code: Some(exit_code), output })
    }

    /// Kills the container's check with the processes of its session, and forgets it.
    pub(super) fn abandon(&mut self, container: &ContainerName, task: &TaskSpec, cgroups: &Cgroups) {
        self.running.retain(|check| {
            if check.container != *container {
                return true;
            }
            // One that has not begun ends with its launch.
            if let Process::Running { pid, pidfd } = &check.process {
                kill_session(*pid, cgroups, &cgroup::of_container(task, container));
                // It is not waited for yet, so this is nobody else.
                let _ = process_identity::signal(pidfd.as_fd(), libc::SIGKILL);
            }
            false
        });
    }

    /// What runs in the container is killed with its cgroup.
    pub(super) fn container_ended(&mut self, container: &ContainerName) {
        self.running.retain(|check| check.container != *container);
    }
}

impl Check {
    fn read(&mut self) {
        let mut chunk = [0; OUTPUT_BYTES];
        for _ in 0..READS_PER_TURN {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    let room = OUTPUT_BYTES.saturating_sub(self.output.len());
                    self.output.extend_from_slice(&chunk[..count.min(room)]);
                }
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                // A pipe has no other error to give; it would be given again for ever.
                Err(_) => self.pipe = None,
            }
        }
    }
}

/// "a string array representing the command that the container runs to determine if it is healthy. The string array
/// can start with CMD to run the command arguments directly, or CMD-SHELL to run the command with the container's
/// default shell": API_HealthCheck.
fn command(check: &HealthCheck) -> Result<Vec<String>, String> {
    let (kind, rest) = check.command.split_first().ok_or("healthCheck.command is empty")?;
    match kind.as_str() {
        "CMD" => Ok(rest.to_vec()),
        "CMD-SHELL" => Ok(["/bin/sh", "-c"].map(str::to_owned).into_iter().chain(rest.iter().cloned()).collect()),
        other => Err(format!("healthCheck.command begins with CMD or CMD-SHELL, not {other:?}")),
    }
}

/// SIGKILL to everything of the check's session: its program leads it, and what it starts stays in it unless it
/// leaves on purpose.
fn kill_session(leader: i32, cgroups: &Cgroups, path: &std::path::Path) {
    for _ in 0..KILL_ROUNDS {
        // Of a container whose cgroup cannot be read, the leader at least is killed by the caller.
        let listed = cgroups.processes(path).unwrap_or_default();
        let mut killed = false;
        for pid in listed {
            // Held first, then looked at: what the descriptor names cannot change any more.
            let Ok(pidfd) = process_identity::open_number(pid) else { continue };
            if session_of(pid) == Some(leader) {
                killed |= process_identity::signal(pidfd.as_fd(), libc::SIGKILL).unwrap_or(false);
            }
        }
        if !killed {
            return;
        }
    }
}

/// Field 6 of proc_pid_stat(5).
fn session_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_amazons() {
        let of = |words: &[&str]| {
            let command = words.iter().map(|word| (*word).to_owned()).collect();
            super::command(&HealthCheck { command, interval: None, timeout: None, retries: None, start_period: None })
        };
        let words = |words: &[&str]| Ok(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["CMD", "curl", "-f", "x"]), words(&["curl", "-f", "x"]));
        assert_eq!(of(&["CMD-SHELL", "curl x || exit 1"]), words(&["/bin/sh", "-c", "curl x || exit 1"]));
        assert!(of(&["curl", "x"]).is_err());
        assert!(of(&[]).is_err());
    }

    #[test]
    fn our_own_session_is_read_from_proc() {
        // SAFETY: asks for a number.
        let session = unsafe { libc::getsid(0) };
        assert_eq!(session_of(std::process::id().cast_signed()), Some(session));
    }
}
