//! What a container with a terminal shows, for the one who is attached to it, beside its log.
//!
//! Whoever is attached and does not read holds the container's output up, as a terminal does after Ctrl-S; whoever has
//! gone holds nothing up.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// What is kept of the output before anybody is attached, bytes: a program's greeting.
const GREETING_BYTES: usize = 16 << 10;

/// Of the pipe to the one who is attached; the kernel may give less.
const PIPE_BYTES: i32 = 256 << 10;

#[derive(Debug)]
pub(super) enum Screen {
    /// Nobody has been attached yet.
    Unseen {
        greeting: Vec<u8>,
    },
    Seen(Viewer),
    /// Whoever was attached has gone.
    Left,
}

#[derive(Debug)]
pub(super) struct Viewer {
    pipe: File,
    /// What the pipe has not taken yet.
    pending: Vec<u8>,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen::Unseen { greeting: Vec::new() }
    }

    /// A pipe that everything goes to from the beginning on, or, for a second one, from now on.
    pub(super) fn attach(&mut self) -> io::Result<OwnedFd> {
        if matches!(self, Screen::Seen(_)) {
            self.flush();
        }
        let pending = match self {
            Screen::Seen(_) => return Err(io::Error::other("somebody is attached to its terminal already")),
            Screen::Unseen { greeting } => std::mem::take(greeting),
            Screen::Left => Vec::new(),
        };
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // Without CAP_SYS_RESOURCE a host with many pipes keeps them small: slower, not wrong.
        let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        *self = Screen::Seen(Viewer { pipe: File::from(writer), pending });
        self.flush();
        Ok(reader)
    }

    pub(super) fn show(&mut self, bytes: &[u8]) {
        match self {
            Screen::Unseen { greeting } => {
                let room = GREETING_BYTES.saturating_sub(greeting.len());
                greeting.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Screen::Seen(viewer) => viewer.pending.extend_from_slice(bytes),
            Screen::Left => {}
        }
        self.flush();
    }

    /// Where the pipe is full: poll it, and take no more output before it is not.
    pub(super) fn behind(&self) -> Option<RawFd> {
        match self {
            Screen::Seen(viewer) if !viewer.pending.is_empty() => Some(viewer.pipe.as_raw_fd()),
            Screen::Seen(_) | Screen::Unseen { .. } | Screen::Left => None,
        }
    }

    pub(super) fn flush(&mut self) {
        let Screen::Seen(viewer) = self else { return };
        while !viewer.pending.is_empty() {
            match viewer.pipe.write(&viewer.pending) {
                Ok(count) => drop(viewer.pending.drain(..count)),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    *self = Screen::Left;
                    return;
                }
            }
        }
        viewer.pending = Vec::new();
    }
}
