//! `supervisor.log`: what a supervisor has to say that belongs into no status. It has no terminal and no parent.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ecs::Timestamp;

pub(crate) const NAME: &str = "supervisor.log";

/// A log of this size is not added to any more.
const MAX_BYTES: u64 = 256 << 10;

/// Lines go to standard error, which is the file: a panic's message gets there too.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<File>,
    bytes: u64,
}

impl Journal {
    /// A file that cannot be opened leaves a journal that says nothing.
    pub(crate) fn open(state: &Path) -> Journal {
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(state.join(NAME)).ok();
        let bytes = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
        Journal { file, bytes }
    }

    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    pub(crate) fn say(&mut self, now: Timestamp, what: &str) {
        let line = format!("{}.{:03} {what}\n", now.epoch_ms / 1000, now.epoch_ms % 1000);
        if self.bytes + line.len() as u64 > MAX_BYTES {
            return;
        }
        if let Some(file) = &mut self.file {
            // Nobody is left to be told that telling failed.
            let _ = file.write_all(line.as_bytes());
            self.bytes += line.len() as u64;
        }
    }

    pub(crate) fn complain(&mut self, now: Timestamp, what: &str, cause: &dyn std::error::Error) {
        self.say(now, &format!("{what}: {}", chain(cause)));
    }
}

/// An error with all its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// Standard input and output are nobody's; standard error is the journal.
pub(crate) fn take_standard_streams(journal: &Journal) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    match journal.file() {
        Some(file) => nix::unistd::dup2_stderr(file)?,
        None => nix::unistd::dup2_stderr(&null)?,
    }
    Ok(())
}
