//! Reading a task's logs: all its containers in the order of time, from the beginning or the last lines, once or
//! following until the task has stopped.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use agent_protocol::TaskSpec;
use ecs::task::LastStatus;
use ecs::{ContainerName, Timestamp};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::cursor::Cursor;
use super::record::{Header, Stream};
use super::{segment_path, segments};
use crate::status_file;
use crate::task_dir::{LOGS_NAME, supervised};

/// How often a follower asks whether the supervisor still lives; everything else wakes it at once.
const LIVENESS_MS: u16 = 1000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Wait for more until the task has stopped.
    pub follow: bool,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// Only the last so many lines of all containers together.
    pub tail: Option<usize>,
    /// All of them when empty.
    pub containers: Vec<ContainerName>,
}

/// One line, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub container: &'a ContainerName,
    pub stream: Stream,
    pub time: Timestamp,
    /// No line end follows: the line goes on in the stream's next record, or it was its last without an end.
    pub partial: bool,
    /// Without the line end.
    pub bytes: &'a [u8],
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the task has no container {name}; it has {}", known.join(", "))]
    NoSuchContainer { name: ContainerName, known: Vec<String> },
    #[error("cannot read the logs in {path}", path = path.display())]
    Io {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

#[derive(Debug)]
pub struct Reader {
    state: PathBuf,
    logs: PathBuf,
    sources: Vec<Source>,
    since: Timestamp,
    follow: Option<Inotify>,
    /// The record that was handed out last, to be left behind by the next call.
    current: Option<(usize, Header)>,
}

/// One container's records.
#[derive(Debug)]
struct Source {
    container: ContainerName,
    /// The segment that is being read; nothing before the first.
    segment: Option<(u64, Cursor)>,
}

pub fn read(task: &TaskSpec, options: &ReadOptions) -> Result<Reader, ReadError> {
    let state = task.places.state.clone();
    let logs = state.join(LOGS_NAME);
    let known = || task.containers.iter().map(|container| &container.definition.name);
    if let Some(name) = options.containers.iter().find(|name| !known().any(|known| known == *name)) {
        let known = known().map(ToString::to_string).collect();
        return Err(ReadError::NoSuchContainer { name: name.clone(), known });
    }
    let wanted = known().filter(|name| options.containers.is_empty() || options.containers.contains(name));
    let failed = |cause| ReadError::Io { path: logs.clone(), cause };
    // Watched before anything is read, so that nothing falls between.
    let follow = if options.follow { Some(watch(&state, &logs).map_err(failed)?) } else { None };
    let sources = wanted.map(|name| Source { container: name.clone(), segment: None }).collect();
    let since = options.since.unwrap_or(Timestamp::from_epoch_ms(0));
    let mut reader = Reader { state, logs: logs.clone(), sources, since, follow, current: None };
    if let Some(lines) = options.tail {
        reader.skip_to_tail(lines).map_err(failed)?;
    }
    Ok(reader)
}

fn watch(state: &Path, logs: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(logs, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE)?;
    inotify.add_watch(state, AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF)?;
    Ok(inotify)
}

impl Reader {
    /// The next record; nothing at the end, which a follower reaches when the task has stopped and all is read.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        if let Some((place, header)) = self.current.take()
            && let Some((_, cursor)) = &mut self.sources[place].segment
        {
            cursor.advance(header);
        }
        let Some((place, header)) = self.choose_or_wait().map_err(|cause| self.failed(cause))? else {
            return Ok(None);
        };
        self.current = Some((place, header));
        let source = &self.sources[place];
        let bytes = source.segment.as_ref().map_or(&[][..], |(_, cursor)| cursor.bytes(header));
        Ok(Some(Record {
            container: &source.container,
            stream: header.stream,
            time: header.time,
            partial: header.partial,
            bytes,
        }))
    }

    fn failed(&self, cause: io::Error) -> ReadError {
        ReadError::Io { path: self.logs.clone(), cause }
    }

    fn choose_or_wait(&mut self) -> io::Result<Option<(usize, Header)>> {
        loop {
            if let Some(chosen) = self.choose()? {
                return Ok(Some(chosen));
            }
            if self.follow.is_none() {
                return Ok(None);
            }
            if self.has_ended() {
                // It may have written between our last look and its end.
                return self.choose();
            }
            self.wait()?;
        }
    }

    /// The oldest of the containers' next records.
    fn choose(&mut self) -> io::Result<Option<(usize, Header)>> {
        let mut oldest: Option<(usize, Header)> = None;
        for (place, source) in self.sources.iter_mut().enumerate() {
            if let Some(header) = source.peek(&self.logs, self.since)?
                && oldest.is_none_or(|(_, oldest)| header.time < oldest.time)
            {
                oldest = Some((place, header));
            }
        }
        Ok(oldest)
    }

    /// STOPPED is written after the last byte of output, and nobody writes without a supervisor.
    fn has_ended(&self) -> bool {
        let stopped = status_file::read(&self.state)
            .is_ok_and(|status| status.is_some_and(|status| status.last_status == LastStatus::Stopped));
        stopped || !supervised(&self.state).unwrap_or(false)
    }

    fn wait(&mut self) -> io::Result<()> {
        let Some(inotify) = &self.follow else { return Ok(()) };
        let mut interest = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        match poll(&mut interest, PollTimeout::from(LIVENESS_MS)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(cause) => return Err(cause.into()),
        }
        match inotify.read_events() {
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Places every source at its first record of the last `lines` lines of all.
    fn skip_to_tail(&mut self, lines: usize) -> io::Result<()> {
        let mut starts = Vec::new();
        for place in 0..self.sources.len() {
            let container = self.sources[place].container.clone();
            let end = self.sources[place].last_lines(&self.logs, &container, lines, self.since, |start| {
                starts.push((start.time, place, start.segment, start.offset));
            })?;
            self.sources[place].segment = end;
        }
        starts.sort_unstable();
        let skipped = starts.len().saturating_sub(lines);
        // From the newest to the oldest, so that the oldest of each container stays.
        for (_, place, segment, offset) in starts.drain(skipped..).rev() {
            let file = File::open(segment_path(&self.logs, &self.sources[place].container, segment))?;
            self.sources[place].segment = Some((segment, Cursor::new(file, offset)));
        }
        Ok(())
    }
}

/// Where a line begins.
#[derive(Clone, Copy, Debug)]
struct LineStart {
    time: Timestamp,
    segment: u64,
    offset: u64,
}

impl Source {
    fn peek(&mut self, logs: &Path, since: Timestamp) -> io::Result<Option<Header>> {
        loop {
            if let Some((_, cursor)) = &mut self.segment {
                while let Some(header) = cursor.peek()? {
                    if header.time >= since {
                        return Ok(Some(header));
                    }
                    cursor.advance(header);
                }
            }
            if !self.next_segment(logs)? {
                return Ok(None);
            }
        }
    }

    /// Whether there was a newer segment to go to. The old one is complete then: it is read to its end first.
    fn next_segment(&mut self, logs: &Path) -> io::Result<bool> {
        let after = self.segment.as_ref().map(|(number, _)| *number);
        let next = match after {
            // The usual case costs one failed look-up instead of a listing.
            Some(number) if segment_path(logs, &self.container, number + 1).exists() => Some(number + 1),
            Some(_) | None => {
                segments(logs, &self.container)?.into_iter().find(|number| after.is_none_or(|after| *number > after))
            }
        };
        let Some(number) = next else { return Ok(false) };
        if let Some((_, cursor)) = &mut self.segment
            && cursor.peek()?.is_some()
        {
            // Written between our look at the end and the new segment's birth.
            return Ok(true);
        }
        match File::open(segment_path(logs, &self.container, number)) {
            Ok(file) => self.segment = Some((number, Cursor::new(file, 0))),
            // Rotated away meanwhile: the next listing finds what is left.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
        Ok(true)
    }

    /// Names the beginnings of the last `lines` lines, newest segment first, and returns a cursor at the end.
    fn last_lines(
        &self,
        logs: &Path,
        container: &ContainerName,
        lines: usize,
        since: Timestamp,
        mut found: impl FnMut(LineStart),
    ) -> io::Result<Option<(u64, Cursor)>> {
        let (mut end, mut wanted) = (None, lines);
        for segment in segments(logs, container)?.into_iter().rev() {
            let mut cursor = Cursor::new(File::open(segment_path(logs, container, segment))?, 0);
            let mut starts = VecDeque::new();
            let mut inside_line = [false; 2];
            while let Some(header) = cursor.peek()? {
                let inside = &mut inside_line[header.stream as usize];
                if !*inside && header.time >= since {
                    starts.push_back(LineStart { time: header.time, segment, offset: cursor.position() });
                    if starts.len() > wanted {
                        starts.pop_front();
                    }
                }
                *inside = header.partial;
                cursor.advance(header);
            }
            end = end.or(Some((segment, cursor)));
            wanted -= starts.len();
            starts.into_iter().rev().for_each(&mut found);
            if wanted == 0 {
                break;
            }
        }
        Ok(end)
    }
}
