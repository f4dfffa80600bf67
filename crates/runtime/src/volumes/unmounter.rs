//! A task's file systems, unmounted each by a child: with the last mount of a file system the kernel writes what is
//! still to be written and takes its leave of the server, and if that does not answer, waits. Then the child is killed,
//! which ends the leave-taking; one that still has something to write keeps nobody else.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::fork::{self, Fork, Parent};
use crate::process_identity;

/// For all file systems of a task together, which are unmounted side by side: a second of it is enough for a server
/// that answers.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until a killed child has ended.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// A child that unmounts. Whoever reaps the supervisor's children reaps it too.
struct Unmounter<'a> {
    place: &'a Path,
    process: OwnedFd,
    report: PipeReader,
    said: String,
}

/// Takes away what is mounted at `places`, in the caller's mount namespace. Returns what went wrong.
pub(super) fn unmount_all(places: &[PathBuf]) -> Vec<String> {
    let mut errors = Vec::new();
    let mut at_work = Vec::new();
    for place in places {
        match Unmounter::begin(place) {
            Ok(unmounter) => at_work.push(unmounter),
            Err(error) => errors.push(format!("cannot unmount {}: {error}", place.display())),
        }
    }
    wait(&mut at_work, UNMOUNT_TIMEOUT, &mut errors);
    for unmounter in &at_work {
        // It may have ended meanwhile.
        let _ = process_identity::signal(unmounter.process.as_fd(), libc::SIGKILL);
    }
    wait(&mut at_work, KILL_TIMEOUT, &mut errors);
    errors.extend(at_work.iter().map(|left| {
        format!("{} is unmounted when its server answers: there is still something to write", left.place.display())
    }));
    errors
}

/// Until all have ended, who are then gone from the list.
fn wait(at_work: &mut Vec<Unmounter<'_>>, timeout: Duration, errors: &mut Vec<String>) {
    let begun = Instant::now();
    loop {
        at_work.retain_mut(|unmounter| match unmounter.outcome() {
            Some(outcome) => {
                errors.extend(outcome.err().map(|why| format!("cannot unmount {}: {why}", unmounter.place.display())));
                false
            }
            None => true,
        });
        let left = timeout.saturating_sub(begun.elapsed());
        if at_work.is_empty() || left.is_zero() {
            return;
        }
        let mut waiting: Vec<PollFd<'_>> =
            at_work.iter().map(|unmounter| PollFd::new(unmounter.report.as_fd(), PollFlags::POLLIN)).collect();
        // An interrupted wait is one that ends early. Rounded up, so that the last one is not a busy one.
        let left_ms = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        let _ = poll(&mut waiting, PollTimeout::from(left_ms));
    }
}

impl Unmounter<'_> {
    fn begin(place: &Path) -> io::Result<Unmounter<'_>> {
        let (report, writer) = io::pipe()?;
        fcntl(&report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let parent = std::process::id();
        let pid = match fork::fork_into(None, Parent::Caller)? {
            Fork::Child => fork::run_child(parent, || {
                // If it gets stuck, it must hold none of the supervisor's locks, sockets and ports.
                fork::place_descriptors(&mut [(writer.as_raw_fd(), 0)])?;
                match umount2(place, MntFlags::MNT_DETACH) {
                    // It did not come to a mount.
                    Ok(()) | Err(Errno::EINVAL) => Ok(()),
                    Err(errno) => say(errno),
                }
            }),
            Fork::Parent { pid } => pid,
        };
        // Not waited for yet, so the number is still its own; and if it cannot be held, it does its work all the same.
        let process = process_identity::open_number(pid)?;
        Ok(Unmounter { place, process, report, said: String::new() })
    }

    /// Nothing while it is at work: its end of the pipe closes when it ends.
    fn outcome(&mut self) -> Option<Result<(), String>> {
        match self.report.read_to_string(&mut self.said) {
            Ok(_) if self.said.is_empty() => Some(Ok(())),
            Ok(_) => Some(Err(std::mem::take(&mut self.said))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error.to_string())),
        }
    }
}

/// In the child, whose standard input is the pipe.
fn say(errno: Errno) -> io::Result<()> {
    // SAFETY: just placed there, and closed by nobody before this process ends.
    let pipe = unsafe { std::os::fd::BorrowedFd::borrow_raw(0) };
    let mut pipe = std::fs::File::from(pipe.try_clone_to_owned()?);
    pipe.write_all(errno.to_string().as_bytes())
}
