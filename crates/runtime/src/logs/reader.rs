//! Reading logs: all containers of a task, or any streams, in the order of time, from the beginning or the last lines,
//! once or following until the task has stopped.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use agent_protocol::TaskSpec;
use ecs::task::LastStatus;
use ecs::{ContainerName, Timestamp};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::position::Position;
use super::record::Stream;
use super::source::{Piece, Source};
use super::{directory, groups};
use crate::status_file;
use crate::task_dir::supervised;

/// How often a follower asks whether the supervisor still lives; everything else wakes it at once.
const LIVENESS_MS: u16 = 1000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Wait for more until the task has stopped.
    pub follow: bool,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// Nothing newer.
    pub until: Option<Timestamp>,
    /// Only the last so many lines of all containers together.
    pub tail: Option<usize>,
    /// All of them when empty.
    pub containers: Vec<ContainerName>,
    /// Where to go on with a container that was read before; `tail` does not go with it.
    pub from: Vec<(ContainerName, Position)>,
}

/// One line, or a part of one that is longer than `MAX_PIECE_BYTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Which of the sources: the task's wanted containers in their order, or the streams as they were given.
    pub source: usize,
    pub container: &'a ContainerName,
    pub stream: Stream,
    pub time: Timestamp,
    /// No line end follows: the line goes on in the stream's next record, or it was its last without an end.
    pub partial: bool,
    /// Without the line end.
    pub bytes: &'a [u8],
    /// Right behind this record: where a reader of this container goes on after it.
    pub end: Position,
    /// How many bytes of the container's output, right before this record, were removed before they could be read.
    pub missing: u64,
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
    /// For errors.
    place: PathBuf,
    sources: Vec<Source>,
    since: Timestamp,
    until: Timestamp,
    follow: Option<Follow>,
    /// Whose piece was handed out last, to be left behind by the next call.
    current: Option<usize>,
}

#[derive(Debug)]
struct Follow {
    state: PathBuf,
    inotify: Inotify,
    /// The other end is closed when nobody wants more.
    reader: Option<OwnedFd>,
}

/// Why a follower has woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// There may be more.
    ToLook,
    /// Nobody wants it.
    ToEnd,
}

/// A task's output. After the end, `next_record` may be called again: it goes on with what has been written since.
pub fn read(task: &TaskSpec, options: &ReadOptions) -> Result<Reader, ReadError> {
    let known = || task.containers.iter().map(|container| &container.definition.name);
    if let Some(name) = options.containers.iter().find(|name| !known().any(|known| known == *name)) {
        let known = known().map(ToString::to_string).collect();
        return Err(ReadError::NoSuchContainer { name: name.clone(), known });
    }
    let wanted = |name: &ContainerName| options.containers.is_empty() || options.containers.contains(name);
    let containers = task.containers.iter().filter(|container| wanted(&container.definition.name));
    let mut sources: Vec<Source> = containers
        .map(|container| Source::new(container.definition.name.clone(), directory(task, container)))
        .collect();
    let state = task.places.state.clone();
    let failed = |cause| ReadError::Io { path: state.clone(), cause };
    // Watched before anything is read, so that nothing falls between.
    let follow = if options.follow { Some(Follow::begin(&state, &sources).map_err(failed)?) } else { None };
    for source in &mut sources {
        if let Some((_, position)) = options.from.iter().find(|(name, _)| *name == source.container) {
            source.seek(*position).map_err(failed)?;
        }
    }
    let mut reader = Reader::new(state.clone(), sources, follow, options);
    reader.skip_to_tail(options.tail).map_err(failed)?;
    Ok(reader)
}

/// Streams of log groups, whatever tasks wrote them; not followed.
pub fn read_streams(streams: &[groups::LogStream], options: &ReadOptions) -> Result<Reader, ReadError> {
    let place = streams.first().map(|stream| stream.directory.clone()).unwrap_or_default();
    let source =
        |stream: &groups::LogStream| Source::new(stream.about.container_name.clone(), stream.directory.clone());
    let mut reader = Reader::new(place.clone(), streams.iter().map(source).collect(), None, options);
    reader.skip_to_tail(options.tail).map_err(|cause| ReadError::Io { path: place, cause })?;
    Ok(reader)
}

impl Follow {
    fn begin(state: &Path, sources: &[Source]) -> io::Result<Follow> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        for logs in sources.iter().map(|source| &source.logs).collect::<BTreeSet<_>>() {
            match inotify.add_watch(logs, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE) {
                // A log group's stream of a container that has not started: the second look finds it.
                Err(nix::errno::Errno::ENOENT) if logs.parent() != Some(state) => {}
                other => other.map(drop)?,
            }
        }
        inotify.add_watch(state, AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF)?;
        Ok(Follow { state: state.to_owned(), inotify, reader: None })
    }

    /// STOPPED is written after the last byte of output, and nobody writes without a supervisor.
    fn has_ended(&self) -> bool {
        let stopped = status_file::read(&self.state)
            .is_ok_and(|status| status.is_some_and(|status| status.last_status == LastStatus::Stopped));
        stopped || !supervised(&self.state).unwrap_or(false)
    }

    fn wait(&self) -> io::Result<Woken> {
        let mut interest = vec![PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        // Its end is told without being asked for.
        interest.extend(self.reader.iter().map(|reader| PollFd::new(reader.as_fd(), PollFlags::empty())));
        match poll(&mut interest, PollTimeout::from(LIVENESS_MS)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(cause) => return Err(cause.into()),
        }
        if interest.get(1).and_then(PollFd::any).unwrap_or(false) {
            return Ok(Woken::ToEnd);
        }
        match self.inotify.read_events() {
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(Woken::ToLook),
            Err(cause) => Err(cause.into()),
        }
    }
}

impl Reader {
    fn new(place: PathBuf, sources: Vec<Source>, follow: Option<Follow>, options: &ReadOptions) -> Reader {
        let since = options.since.unwrap_or(Timestamp::from_epoch_ms(0));
        let until = options.until.unwrap_or(Timestamp::from_epoch_ms(u64::MAX));
        Reader { place, sources, since, until, follow, current: None }
    }

    /// A follower is at its end as well once the other end of this pipe or socket is closed.
    pub fn end_with(&mut self, reader: OwnedFd) {
        if let Some(follow) = &mut self.follow {
            follow.reader = Some(reader);
        }
    }

    /// The next record; nothing at the end, which a follower reaches when the task has stopped and all is read.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        self.leave_current();
        let chosen = self.choose_or_wait().map_err(|cause| self.failed(cause))?;
        Ok(chosen.map(|(place, piece)| self.hand_out(place, piece)))
    }

    /// The next record that is there already; a follower that gets nothing asks `next_record`.
    pub fn next_at_once(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        self.leave_current();
        let chosen = self.choose().map_err(|cause| self.failed(cause))?;
        let chosen = chosen.filter(|(_, piece)| piece.time() <= self.until);
        Ok(chosen.map(|(place, piece)| self.hand_out(place, piece)))
    }

    fn leave_current(&mut self) {
        if let Some(place) = self.current.take() {
            self.sources[place].consume();
        }
    }

    fn hand_out(&mut self, place: usize, piece: Piece) -> Record<'_> {
        self.current = Some(place);
        let source = &self.sources[place];
        Record {
            source: place,
            container: &source.container,
            stream: piece.stream(),
            time: piece.time(),
            partial: piece.partial,
            bytes: source.bytes(piece),
            end: source.end(piece),
            missing: piece.missing,
        }
    }

    fn failed(&self, cause: io::Error) -> ReadError {
        ReadError::Io { path: self.place.clone(), cause }
    }

    fn choose_or_wait(&mut self) -> io::Result<Option<(usize, Piece)>> {
        loop {
            if let Some(chosen) = self.choose()? {
                return Ok(Some(chosen).filter(|(_, piece)| piece.time() <= self.until));
            }
            let Some(follow) = &self.follow else { return Ok(None) };
            if follow.has_ended() || now() > self.until {
                // It may have written between our last look and its end.
                return Ok(self.choose()?.filter(|(_, piece)| piece.time() <= self.until));
            }
            match follow.wait()? {
                Woken::ToLook => {}
                Woken::ToEnd => return Ok(None),
            }
        }
    }

    /// The oldest of the containers' next pieces.
    fn choose(&mut self) -> io::Result<Option<(usize, Piece)>> {
        let mut oldest: Option<(usize, Piece)> = None;
        for (place, source) in self.sources.iter_mut().enumerate() {
            if let Some(piece) = source.peek(self.since)?
                && oldest.is_none_or(|(_, oldest)| piece.time() < oldest.time())
            {
                oldest = Some((place, piece));
            }
        }
        Ok(oldest)
    }

    /// Places every source at its first piece of the last `lines` lines of all.
    fn skip_to_tail(&mut self, lines: Option<usize>) -> io::Result<()> {
        let Some(lines) = lines else { return Ok(()) };
        let mut starts = Vec::new();
        for (place, source) in self.sources.iter_mut().enumerate() {
            let found = source.last_lines(lines, self.since, self.until)?;
            starts.extend(found.into_iter().map(|start| (start.time, place, start.position)));
        }
        starts.sort_unstable();
        let skipped = starts.len().saturating_sub(lines);
        // From the newest to the oldest, so that the oldest of each container stays.
        for (_, place, position) in starts.drain(skipped..).rev() {
            self.sources[place].seek(position)?;
        }
        Ok(())
    }
}

/// A clock before 1970 reads as 1970.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_epoch_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
