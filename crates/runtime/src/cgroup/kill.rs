//! SIGKILL to everything in a cgroup, and the wait until it is gone. Processes are found by their cgroup and
//! signalled by pidfd: never by a number that may have become somebody else's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::hierarchy::write;
use super::{CgroupError, Cgroups, below};
use crate::process_identity;

/// How long a killed process may take to end before it is called stuck, milliseconds. A process in
/// uninterruptible sleep takes as long as its device does.
const MAX_WAIT_MS: u64 = 10_000;
/// A further look at what may have been forked meanwhile, or ended without our seeing, milliseconds.
const LOOK_AGAIN_MS: u64 = 20;

impl Cgroups {
    /// Kills everything in `path` and below it and waits until it has ended. A cgroup that does not exist is empty.
    ///
    /// # Errors
    /// The tree cannot be read, or something outlives SIGKILL by ten seconds.
    pub fn kill(&self, path: &Path) -> Result<(), CgroupError> {
        let start = Instant::now();
        self.signal(path)?;
        loop {
            let mut ending = Vec::new();
            for pid in self.processes(path)? {
                match process_identity::open_number(pid) {
                    Ok(pidfd) => ending.push((pid, pidfd)),
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(source) => {
                        let path = PathBuf::from(format!("/proc/{pid}"));
                        return Err(CgroupError::Io { action: "hold", path, source });
                    }
                }
            }
            // What is still listed now was ours when its descriptor was opened.
            let still = self.processes(path)?;
            ending.retain(|(pid, _)| still.contains(pid));
            if still.is_empty() {
                return Ok(());
            }
            for (_, pidfd) in &ending {
                // It may have ended meanwhile; whatever else happens shows in the next look.
                let _ = process_identity::signal(pidfd.as_fd(), libc::SIGKILL);
            }
            let waited = start.elapsed();
            if waited > Duration::from_millis(MAX_WAIT_MS) {
                return Err(CgroupError::StillThere { path: path.to_owned(), waited_ms: MAX_WAIT_MS });
            }
            wait_for_one(&ending);
        }
    }

    /// Sends SIGKILL to everything in `path` and below it, frozen or not, without waiting. Returns what was still there
    /// then: an ended process that nobody has waited for is not.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub fn kill_once(&self, path: &Path) -> Result<Vec<i32>, CgroupError> {
        if !self.is_populated(path) {
            return Ok(Vec::new());
        }
        self.signal(path)?;
        let listed = self.processes(path)?;
        let mut held = Vec::new();
        for pid in listed {
            match process_identity::open_number(pid) {
                Ok(pidfd) => held.push((pid, pidfd)),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(source) => {
                    let path = PathBuf::from(format!("/proc/{pid}"));
                    return Err(CgroupError::Io { action: "hold", path, source });
                }
            }
        }
        // What is still listed now was ours when its descriptor was opened.
        let still = self.processes(path)?;
        held.retain(|(pid, _)| still.contains(pid));
        for (_, pidfd) in &held {
            // It may have ended meanwhile; whatever else happens shows in the next look.
            let _ = process_identity::signal(pidfd.as_fd(), libc::SIGKILL);
        }
        Ok(still.into_iter().collect())
    }

    /// Lets what is killed in a cgroup below `path` die though somebody froze `path` (v1; v2 kills what is frozen).
    pub fn thaw(&self, path: &Path) {
        if let Some(freezer) = self.v1_of("freezer") {
            // Only what somebody froze needs it; without the cgroup there is nothing to thaw.
            let _ = write(&below(&freezer.mount, path).join("freezer.state"), "THAWED");
        }
    }

    /// Whether something runs in `path` or below it. Every process of a container is born in its v2 cgroup, so where
    /// there is one it knows for all hierarchies.
    fn is_populated(&self, path: &Path) -> bool {
        let Some(unified) = &self.v2 else { return true };
        match fs::read_to_string(below(&unified.mount, path).join("cgroup.events")) {
            Ok(events) => !events.lines().any(|line| line == "populated 0"),
            // Without the cgroup there is nothing in it; whatever else fails shows in what follows.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Sends SIGKILL to everything in `path` and below it, without waiting.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub fn signal(&self, path: &Path) -> Result<(), CgroupError> {
        if let Some(unified) = &self.v2 {
            let kill = below(&unified.mount, path).join("cgroup.kill");
            match write(&kill, "1") {
                Ok(()) => {}
                // Before Linux 5.14, or no such cgroup: the processes are signalled one by one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(CgroupError::Io { action: "write", path: kill, source }),
            }
        }
        // A container's own processes must not be stopped where they could not die.
        if let Some(freezer) = self.v1_of("freezer") {
            thaw(&below(&freezer.mount, path));
        }
        Ok(())
    }

    /// Everything that runs in `path` and below it, in any hierarchy.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub fn processes(&self, path: &Path) -> Result<BTreeSet<i32>, CgroupError> {
        let mut found = BTreeSet::new();
        for mount in self.mounts() {
            collect(&below(mount, path), &mut found)?;
        }
        Ok(found)
    }
}

/// Only what somebody froze needs it; without the cgroup there is nothing to thaw.
fn thaw(directory: &Path) {
    let _ = write(&directory.join("freezer.state"), "THAWED");
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            thaw(&entry.path());
        }
    }
}

fn collect(directory: &Path, found: &mut BTreeSet<i32>) -> Result<(), CgroupError> {
    let gone =
        |error: &io::Error| error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV);
    let procs = directory.join("cgroup.procs");
    match fs::read_to_string(&procs) {
        // Zero is a process that this pid namespace does not see.
        Ok(list) => found.extend(list.lines().filter_map(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid > 0)),
        Err(error) if gone(&error) => return Ok(()),
        Err(source) => return Err(CgroupError::Io { action: "read", path: procs, source }),
    }
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(()),
        Err(source) => return Err(CgroupError::Io { action: "list", path: directory.to_owned(), source }),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found)?;
        }
    }
    Ok(())
}

fn wait_for_one(ending: &[(i32, OwnedFd)]) {
    let mut fds: Vec<PollFd<'_>> =
        ending.iter().map(|(_, pidfd)| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)).collect();
    // An interrupted or failed wait only means that the next look comes sooner.
    let _ = poll(&mut fds, PollTimeout::try_from(LOOK_AGAIN_MS).unwrap_or(PollTimeout::ZERO));
}
