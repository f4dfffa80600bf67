//! The supervisor's side: bytes from a container's pipes into its newest segment, one write for what one read brought.
//!
//! A full or broken disk never ends a task: what cannot be written is counted, and the status tells. Output that is
//! shipped in blocking mode is never lost: the writer says that nothing more must be read until it can be kept.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use ecs::log_options::Mode;
use ecs::{ContainerName, Timestamp};

use super::cursor::Cursor;
use super::limits::{Limits, Shipping};
use super::position::{Shipped, read_shipped};
use super::record::{Cut, HEADER_BYTES, Header, MAX_PIECE_BYTES, Stream, cut};
use super::{segment_path, segments};

/// One read takes up to this much of a container that writes a lot, and so much less of one that does not.
const LONG_READ_BYTES: usize = 128 << 10;
pub(crate) const SHORT_READ_BYTES: usize = 16 << 10;

/// Before what is read there is room for a header and the line that was begun.
const ROOM_BEFORE: usize = HEADER_BYTES + MAX_PIECE_BYTES;

/// A record is never cut, so one read must be small beside a segment.
const READS_PER_SEGMENT: u64 = 4;
const SMALLEST_READ_BYTES: usize = 64;

/// A segment holds at most this part of the time that output is kept.
const SEGMENTS_PER_AGE: u64 = 4;

const NOT_SHIPPED: &str = "the log's backend has not taken it in time";

/// Output that could not be kept, since the supervisor began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub bytes: u64,
    /// The latest cause.
    pub cause: Option<String>,
}

#[derive(Debug)]
pub struct Writer {
    logs: PathBuf,
    container: ContainerName,
    limits: Limits,
    /// The newest; nothing while it could not be made.
    segment: Option<Segment>,
    /// Every segment that exists, oldest first.
    kept: VecDeque<Kept>,
    next_number: u64,
    /// How many bytes of output all segments have held so far.
    written: u64,
    /// The begun line of each stream, never longer than a piece.
    pending: [Vec<u8>; 2],
    /// As the shipper said when it was last asked.
    shipped: Shipped,
    /// A record that could not be written and must not be lost.
    stuck: Option<Vec<u8>>,
    lost: Lost,
    /// The part of it that was removed before it was shipped.
    unshipped: u64,
}

#[derive(Debug)]
struct Segment {
    file: File,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    number: u64,
    /// How many bytes of output came before it.
    before: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Writer {
    /// Never fails: a directory that cannot be written to shows in `lost`, when there is something to lose.
    pub fn new(logs: PathBuf, container: ContainerName, limits: Limits) -> Writer {
        let mut writer = Writer {
            logs,
            container,
            limits,
            segment: None,
            kept: VecDeque::new(),
            next_number: 0,
            written: 0,
            pending: [Vec::new(), Vec::new()],
            shipped: Shipped::default(),
            stuck: None,
            lost: Lost::default(),
            unshipped: 0,
        };
        // A directory that cannot be read cannot be written to either, which the first write tells.
        let _ = writer.adopt();
        writer
    }

    /// Goes on behind what an earlier writer has left.
    fn adopt(&mut self) -> io::Result<()> {
        for number in segments(&self.logs, &self.container)? {
            self.next_number = number + 1;
            let file = File::open(segment_path(&self.logs, &self.container, number))?;
            let modified = file.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let last = Timestamp::from_epoch_ms(u64::try_from(modified.as_millis()).unwrap_or(u64::MAX));
            let mut cursor = Cursor::new(file, 0);
            let first = cursor.peek()?;
            let before = first.map_or(self.written, |header| header.before);
            self.kept.push_back(Kept { number, before, first: first.map_or(last, |header| header.time), last });
            while let Some(header) = cursor.peek()? {
                self.written = header.before + header.length as u64;
                cursor.advance(header);
            }
        }
        Ok(())
    }

    /// Reads once from `source` what one stream brought at `time`, and keeps it. Returns how many bytes there were;
    /// none at the stream's end. `scratch` is shared by all writers of a process.
    pub fn take_from(
        &mut self,
        stream: Stream,
        source: &mut impl Read,
        time: Timestamp,
        scratch: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let (short, long) = (ROOM_BEFORE + SHORT_READ_BYTES, ROOM_BEFORE + LONG_READ_BYTES);
        if scratch.len() < short {
            scratch.resize(short, 0);
        }
        let begun = self.pending[stream as usize].len();
        let begin = HEADER_BYTES + begun;
        let most = usize::try_from(self.limits.segment_bytes / READS_PER_SEGMENT).unwrap_or(usize::MAX);
        let room = (scratch.len() - ROOM_BEFORE).min(most.max(SMALLEST_READ_BYTES));
        let count = source.read(&mut scratch[begin..begin + room])?;
        if count == 0 {
            return Ok(0);
        }
        scratch[HEADER_BYTES..begin].copy_from_slice(&self.pending[stream as usize]);
        let Cut { length, partial } = cut(&scratch[HEADER_BYTES..begin + count]);
        let pending = &mut self.pending[stream as usize];
        pending.clear();
        pending.extend_from_slice(&scratch[HEADER_BYTES + length..begin + count]);
        self.append(stream, partial, length, time, scratch);
        if count == room && scratch.len() < long {
            scratch.resize(long, 0);
        } else if count < SHORT_READ_BYTES / 2 && scratch.len() > short {
            // Back to the kernel.
            *scratch = Vec::new();
        }
        Ok(count)
    }

    /// The stream has ended: what it wrote after its last line end is a record too.
    pub fn end(&mut self, stream: Stream, time: Timestamp, scratch: &mut Vec<u8>) {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        let length = pending.len();
        scratch.resize(scratch.len().max(HEADER_BYTES + length), 0);
        scratch[HEADER_BYTES..HEADER_BYTES + length].copy_from_slice(&pending);
        self.append(stream, true, length, time, scratch);
    }

    pub fn lost(&self) -> &Lost {
        &self.lost
    }

    /// Whether nothing more may be read for now, so that nothing is lost; `look_again` tells when that is over.
    pub fn must_wait(&self) -> bool {
        self.stuck.is_some() || self.blocking().is_some_and(|shipping| self.backlog() >= shipping.buffer_bytes)
    }

    /// Asks the shipper how far it is, and tries again what could not be written. True when output was lost.
    pub fn look_again(&mut self) -> bool {
        if let Some(record) = self.stuck.take()
            && let Err((record, _)) = self.write(record)
        {
            self.stuck = Some(record);
        }
        let lost = self.lost.bytes;
        if self.limits.shipping.is_some() {
            self.ask_shipper();
        }
        self.lost.bytes != lost
    }

    /// Whether the shipper has everything that was written, by the latest look.
    pub fn is_shipped(&self) -> bool {
        self.backlog() == 0
    }

    /// Keeps the record whose bytes lie in `scratch` behind the room for its header.
    fn append(&mut self, stream: Stream, partial: bool, length: usize, time: Timestamp, scratch: &mut [u8]) {
        if length == 0 || !self.limits.kept {
            return;
        }
        if let Some(record) = self.stuck.take()
            && let Err((record, cause)) = self.write(record)
        {
            // Whoever reads on although it was told to wait has a reason: the container has ended.
            self.lose(record.len() - HEADER_BYTES, &cause);
        }
        let header = Header { stream, partial, length, time, before: self.written };
        scratch[..HEADER_BYTES].copy_from_slice(&header.encode());
        let record = &scratch[..HEADER_BYTES + length];
        if let Err(cause) = self.make_room(record.len() as u64, time).and_then(|()| self.write_to_segment(record)) {
            if self.blocking().is_some() {
                self.stuck = Some(record.to_vec());
            } else {
                self.lose(length, &cause);
            }
            return;
        }
        self.kept_now(length, time);
    }

    /// A record that was stuck. It comes back with its cause when it still cannot be written.
    fn write(&mut self, mut record: Vec<u8>) -> Result<(), (Vec<u8>, io::Error)> {
        let header = record.first_chunk().and_then(Header::decode).expect("a stuck record is one of ours");
        record[..HEADER_BYTES].copy_from_slice(&Header { before: self.written, ..header }.encode());
        match self.make_room(record.len() as u64, header.time).and_then(|()| self.write_to_segment(&record)) {
            Ok(()) => {
                self.kept_now(header.length, header.time);
                Ok(())
            }
            Err(cause) => Err((record, cause)),
        }
    }

    fn kept_now(&mut self, length: usize, time: Timestamp) {
        self.written += length as u64;
        if let Some(newest) = self.kept.back_mut() {
            newest.last = time;
        }
        if self.blocking().is_some_and(|shipping| self.backlog() >= shipping.buffer_bytes) {
            self.ask_shipper();
        }
    }

    fn write_to_segment(&mut self, record: &[u8]) -> io::Result<()> {
        let Some(segment) = &mut self.segment else { return Err(io::ErrorKind::NotFound.into()) };
        match segment.file.write_all(record) {
            Ok(()) => {
                segment.bytes += record.len() as u64;
                Ok(())
            }
            Err(cause) => {
                // Half a record must not stay in front of the next one.
                if segment.file.set_len(segment.bytes).is_err() {
                    self.segment = None;
                }
                Err(cause)
            }
        }
    }

    /// Goes to a new segment where the newest cannot take so many bytes more, or holds enough time.
    fn make_room(&mut self, bytes: u64, time: Timestamp) -> io::Result<()> {
        let long =
            |kept: &Kept| self.limits.max_age_ms.is_some_and(|age| time.ms_since(kept.first) > age / SEGMENTS_PER_AGE);
        let is_full = |segment: &Segment| {
            segment.bytes > 0
                && (segment.bytes.saturating_add(bytes) > self.limits.segment_bytes
                    || self.kept.back().is_some_and(long))
        };
        if self.segment.as_ref().is_some_and(|segment| !is_full(segment)) {
            return Ok(());
        }
        match self.next_segment() {
            Ok(file) => {
                self.segment = Some(Segment { file, bytes: 0 });
                let number = self.next_number - 1;
                self.kept.push_back(Kept { number, before: self.written, first: time, last: time });
                self.remove_old(time);
                Ok(())
            }
            // An old segment that is too long is better than none.
            Err(cause) if self.segment.is_some() => {
                self.lost.cause = Some(cause.to_string());
                Ok(())
            }
            Err(cause) => Err(cause),
        }
    }

    fn next_segment(&mut self) -> io::Result<File> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(segment_path(&self.logs, &self.container, self.next_number))?;
        self.next_number += 1;
        Ok(file)
    }

    /// Removes what is more than the limits allow, but nothing that a blocking shipper still needs.
    fn remove_old(&mut self, now: Timestamp) {
        if self.limits.shipping.is_some() {
            self.ask_shipper();
        }
        while let (Some(&oldest), Some(&next)) = (self.kept.front(), self.kept.get(1)) {
            let too_many = self.kept.len() as u64 > self.limits.segments;
            let too_old = self.limits.max_age_ms.is_some_and(|age| now.ms_since(oldest.last) > age);
            let still_needed = next.before > self.shipped.position.bytes;
            let goes = match self.limits.shipping {
                None => too_many || too_old,
                Some(Shipping { mode: Mode::Blocking, .. }) => (too_many || too_old) && !still_needed,
                Some(Shipping { mode: Mode::NonBlocking, buffer_bytes }) => {
                    let enough_without = self.written - next.before >= buffer_bytes;
                    too_many || too_old || (still_needed && enough_without)
                }
            };
            if !goes {
                break;
            }
            match fs::remove_file(segment_path(&self.logs, &self.container, oldest.number)) {
                // It is tried again at the next segment.
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    self.lost.cause = Some(cause.to_string());
                    break;
                }
                Ok(()) | Err(_) => {
                    self.kept.pop_front();
                }
            }
        }
        self.count_unshipped(self.shipped);
    }

    fn blocking(&self) -> Option<Shipping> {
        self.limits.shipping.filter(|shipping| shipping.mode == Mode::Blocking)
    }

    /// How many bytes wait to be shipped.
    fn backlog(&self) -> u64 {
        self.written.saturating_sub(self.shipped.position.bytes)
    }

    fn ask_shipper(&mut self) {
        match read_shipped(&self.logs, &self.container) {
            Ok(shipped) => {
                self.count_unshipped(shipped);
                self.shipped = shipped;
            }
            // What cannot be read has not moved.
            Err(cause) => self.lost.cause = Some(format!("no shipping position: {cause}")),
        }
    }

    /// What was removed before it was shipped is lost; the number may shrink when the shipper had it in hand.
    fn count_unshipped(&mut self, shipped: Shipped) {
        if self.limits.shipping.is_none() {
            return;
        }
        let oldest = self.kept.front().map_or(self.written, |oldest| oldest.before);
        let lost = shipped.lost_bytes(oldest);
        if lost != self.unshipped {
            self.lost.bytes = self.lost.bytes.saturating_sub(self.unshipped) + lost;
            self.unshipped = lost;
            self.lost.cause = Some(NOT_SHIPPED.to_owned());
        }
    }

    fn lose(&mut self, bytes: usize, cause: &io::Error) {
        self.lost.bytes += bytes as u64;
        self.lost.cause = Some(cause.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Position, write_shipped};
    use proptest::prelude::*;

    const SECOND: Timestamp = Timestamp::from_epoch_ms(1000);

    fn name() -> ContainerName {
        ContainerName::try_from("app".to_owned()).expect("a name")
    }

    fn take(writer: &mut Writer, mut data: &[u8], time: Timestamp) {
        let mut scratch = Vec::new();
        while writer.take_from(Stream::Stdout, &mut data, time, &mut scratch).expect("readable") > 0 {}
    }

    /// What a reader would print, and how much it missed.
    fn read_back(logs: &std::path::Path) -> (Vec<u8>, u64) {
        let mut source = crate::logs::source::Source::new(name(), logs.to_owned());
        let (mut out, mut missing) = (Vec::new(), 0);
        while let Some(piece) = source.peek(Timestamp::from_epoch_ms(0)).expect("readable") {
            out.extend_from_slice(source.bytes(piece));
            if !piece.partial {
                out.push(b'\n');
            }
            missing += piece.missing;
            source.consume();
        }
        (out, missing)
    }

    #[test]
    fn the_oldest_segments_go() {
        let logs = tempfile::tempdir().expect("a directory");
        let limits = Limits { segment_bytes: 100, segments: 2, ..Limits::default() };
        let mut writer = Writer::new(logs.path().to_owned(), name(), limits);
        for _ in 0..5 {
            take(&mut writer, &[[b'x'; 60].as_slice(), b"\n"].concat(), SECOND);
        }
        assert_eq!(segments(logs.path(), &name()).expect("listed"), [3, 4]);
        let again = Writer::new(logs.path().to_owned(), name(), limits);
        assert_eq!((again.next_number, again.written, again.kept.len()), (5, 5 * 61, 2));
        assert_eq!(writer.lost(), &Lost::default());
    }

    #[test]
    fn what_is_too_old_goes_when_something_is_written() {
        let logs = tempfile::tempdir().expect("a directory");
        let limits = Limits { max_age_ms: Some(40_000), ..Limits::default() };
        let mut writer = Writer::new(logs.path().to_owned(), name(), limits);
        for second in [0, 9, 12, 30, 61] {
            take(&mut writer, format!("{second}\n").as_bytes(), Timestamp::from_epoch_ms(second * 1000));
        }
        // A segment spans ten seconds at most: 0 and 9 s, 12 s, 30 s, 61 s.
        assert_eq!(read_back(logs.path()).0, b"30\n61\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let mut writer = Writer::new(PathBuf::from("/nonexistent/logs"), name(), Limits::default());
        take(&mut writer, b"one\ntwo\nthr", SECOND);
        writer.end(Stream::Stdout, SECOND, &mut Vec::new());
        assert_eq!(writer.lost().bytes, 11);
        assert!(writer.lost().cause.as_deref().is_some_and(|cause| cause.contains("No such file")));
    }

    fn shipped(mode: Mode, buffer_bytes: u64) -> Limits {
        let shipping = Some(Shipping { mode, buffer_bytes });
        Limits { segment_bytes: 4096, segments: 100, shipping, ..Limits::default() }
    }

    #[test]
    fn without_a_shipper_the_oldest_is_lost_and_counted_to_the_byte() {
        // No multiple of a segment's lines.
        const BUFFER_BYTES: u64 = 10_050;
        let logs = tempfile::tempdir().expect("a directory");
        let mut writer = Writer::new(logs.path().to_owned(), name(), shipped(Mode::NonBlocking, BUFFER_BYTES));
        for number in 0..1000 {
            take(&mut writer, format!("{number:099}\n").as_bytes(), SECOND);
            assert!(!writer.must_wait());
            let written = (number + 1) * 100;
            assert!(written - writer.lost().bytes >= written.min(BUFFER_BYTES), "{number}");
        }
        let (kept, _) = read_back(logs.path());
        assert!(kept.len() as u64 >= BUFFER_BYTES && kept.len() < 15_000, "{}", kept.len());
        assert_eq!(writer.lost().bytes, 100_000 - kept.len() as u64);
        // A shipper that comes now finds a gap of that size, and says so; nothing is counted twice.
        let position = Position { bytes: 100_000, segment: 99, ..Position::default() };
        let missing_bytes = writer.lost().bytes;
        write_shipped(logs.path(), &name(), &Shipped { position, missing_bytes }).expect("written");
        writer.look_again();
        assert_eq!(writer.lost().bytes, 100_000 - kept.len() as u64);
    }

    #[test]
    fn a_blocking_writer_waits_and_loses_nothing() {
        let logs = tempfile::tempdir().expect("a directory");
        let mut limits = shipped(Mode::Blocking, 10_000);
        limits.segments = 1;
        let mut writer = Writer::new(logs.path().to_owned(), name(), limits);
        let mut lines = 0;
        while !writer.must_wait() {
            take(&mut writer, format!("{lines:099}\n").as_bytes(), SECOND);
            lines += 1;
        }
        assert_eq!((lines, read_back(logs.path()).0.len()), (100, 10_000));
        writer.look_again();
        assert!(writer.must_wait());
        let position = Position { bytes: 9_000, ..Position::default() };
        write_shipped(logs.path(), &name(), &Shipped { position, missing_bytes: 0 }).expect("written");
        writer.look_again();
        assert!(!writer.must_wait());
        // What is shipped goes at the next segment; the third, of which a part is not, stays.
        take(&mut writer, &b"next segment\n".repeat(400), SECOND);
        assert_eq!(segments(logs.path(), &name()).expect("listed"), [2, 3, 4]);
        assert_eq!(writer.lost(), &Lost::default());
    }

    #[test]
    fn a_blocking_writer_keeps_what_a_broken_disk_did_not_take() {
        let logs = tempfile::tempdir().expect("a directory");
        let place = logs.path().join("later");
        let mut writer = Writer::new(place.clone(), name(), shipped(Mode::Blocking, 10_000));
        take(&mut writer, b"kept\n", SECOND);
        assert!(writer.must_wait() && writer.lost().bytes == 0);
        fs::create_dir(&place).expect("made");
        writer.look_again();
        assert!(!writer.must_wait());
        assert_eq!(read_back(&place).0, b"kept\n");
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
                Just(vec![b'x'; MAX_PIECE_BYTES]),
                Just(vec![b'y'; MAX_PIECE_BYTES - 1]),
                Just("€".repeat(9000).into_bytes()),
                Just(vec![b'\n']),
            ], 0..12), segment_bytes in 256u64..100_000)
        {
            let logs = tempfile::tempdir().expect("a directory");
            let limits = Limits { segment_bytes, segments: 100_000, ..Limits::default() };
            let mut writer = Writer::new(logs.path().to_owned(), name(), limits);
            for piece in &pieces {
                take(&mut writer, piece, SECOND);
            }
            writer.end(Stream::Stdout, SECOND, &mut Vec::new());
            let (printed, missing) = read_back(logs.path());
            prop_assert_eq!(printed, pieces.concat());
            prop_assert_eq!(missing, 0);
        }
    }
}
