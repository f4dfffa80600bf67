//! One daemon for a data directory.
//!
//! A daemon that is killed may leave a child that it has forked for a task and that has not executed anything yet: for that
//! moment the child holds all that its parent held, this lock among it, and the API's port and the store's file. So the lock
//! says whose it is. Where that process has gone, the next daemon waits for its children, and finds all of it free.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// In the state directory.
const FILE: &str = "lock";
/// For the children of one that has gone: each executes something at once, as soon as it gets a processor.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// Held until it is dropped, or its process ends, however it does.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is there to be dropped")] Flock<File>);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("another daemon uses {}", .0.display())]
    Taken(PathBuf),
    #[error("{} cannot be locked", path.display())]
    Io {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

/// Blocks while children of a daemon that has gone are still here.
pub fn take(state_directory: &Path) -> Result<Lock, Error> {
    let path = state_directory.join(FILE);
    let failed = |cause| Error::Io { path: path.clone(), cause };
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(failed)?;
    let since = Instant::now();
    let mut lock = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => break lock,
            Err((unlocked, Errno::EWOULDBLOCK)) => file = unlocked,
            Err((_, errno)) => return Err(failed(errno.into())),
        }
        if is_alive(&holder(&mut file).map_err(failed)?) || since.elapsed() > PATIENCE {
            return Err(Error::Taken(state_directory.to_owned()));
        }
        std::thread::sleep(PAUSE);
    };
    let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(own().as_bytes()));
    written.map_err(failed)?;
    Ok(Lock(lock))
}

/// A process's number and when it began, which together no other process of this boot has.
fn own() -> String {
    let pid = std::process::id();
    format!("{pid} {}", began(pid).unwrap_or_default())
}

fn holder(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn is_alive(holder: &str) -> bool {
    let Some((pid, when)) = holder.split_once(' ') else { return false };
    pid.parse().is_ok_and(|pid| began(pid).is_some_and(|began| began == when))
}

/// Field 22 of /proc/PID/stat (proc_pid_stat(5)), in clock ticks since the boot; nothing for a process that has ended.
fn began(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have any characters.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let has_ended = matches!(state, "Z" | "X");
    fields.nth(18).filter(|_| !has_ended).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_lives_keeps_others_out_and_whoever_has_gone_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = take(directory.path()).expect("nobody has it");
        assert!(matches!(take(directory.path()), Err(Error::Taken(_))));
        // As a child has it whose parent was killed: locked, and the one whose it was is no more.
        fs::write(directory.path().join(FILE), "1 0").expect("written");
        let child = std::thread::spawn(move || {
            std::thread::sleep(10 * PAUSE);
            drop(first);
        });
        take(directory.path()).expect("it waits for the child");
        child.join().expect("it ends");
    }
}
