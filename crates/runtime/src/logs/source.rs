//! One container's output, piece by piece, over all its segments.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ecs::{ContainerName, Timestamp};

use super::cursor::Cursor;
use super::position::Position;
use super::record::{Header, Stream, piece_end};
use super::{segment_path, segments};

#[derive(Debug)]
pub(super) struct Source {
    pub(super) container: ContainerName,
    /// The directory of the segments.
    pub(super) logs: PathBuf,
    /// The segment that is being read; nothing before the first.
    segment: Option<(u64, Cursor)>,
    /// Bytes of the current record that have been read.
    inside: usize,
    /// How many bytes of output lie before the next piece: known once something has been read, or from the start.
    bytes: Option<u64>,
    /// The piece that `peek` has shown last.
    piece: Option<Piece>,
}

/// A line, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    record: Header,
    /// In the record's bytes.
    start: usize,
    end: usize,
    /// What the piece takes of the record: the line's end too.
    taken: usize,
    pub(super) partial: bool,
    /// Bytes of output that were removed before they were read, right before this piece.
    pub(super) missing: u64,
}

impl Piece {
    pub(super) fn time(&self) -> Timestamp {
        self.record.time
    }

    pub(super) fn stream(&self) -> Stream {
        self.record.stream
    }
}

/// Where a line begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineStart {
    pub(super) time: Timestamp,
    pub(super) position: Position,
}

impl Source {
    pub(super) fn new(container: ContainerName, logs: PathBuf) -> Source {
        Source { container, logs, segment: None, inside: 0, bytes: None, piece: None }
    }

    /// Goes to a place that has been reached before. Where its segment is gone, reading goes on with the next one.
    pub(super) fn seek(&mut self, position: Position) -> io::Result<()> {
        self.piece = None;
        self.bytes = Some(position.bytes);
        match File::open(segment_path(&self.logs, &self.container, position.segment)) {
            Ok(file) => {
                self.segment = Some((position.segment, Cursor::new(file, position.offset)));
                self.inside = position.inside as usize;
                Ok(())
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                self.segment = None;
                self.inside = 0;
                Ok(())
            }
            Err(cause) => Err(cause),
        }
    }

    /// The place behind the piece that `peek` has shown.
    pub(super) fn end(&self, piece: Piece) -> Position {
        let inside = (piece.start + piece.taken) as u64;
        let (segment, offset) = self.segment.as_ref().map_or((0, 0), |(number, cursor)| (*number, cursor.position()));
        Position { segment, offset, inside, bytes: piece.record.before + inside }
    }

    /// The next piece that is no older than `since`; nothing at the end, for now or for good.
    pub(super) fn peek(&mut self, since: Timestamp) -> io::Result<Option<Piece>> {
        if self.piece.is_some() {
            return Ok(self.piece);
        }
        loop {
            if let Some((_, cursor)) = &mut self.segment {
                while let Some(record) = cursor.peek()? {
                    if self.inside < record.length && record.time >= since {
                        let piece = next_piece(cursor.bytes(record), self.inside, record, self.bytes);
                        self.piece = Some(piece);
                        return Ok(self.piece);
                    }
                    self.bytes = Some(record.before + record.length as u64);
                    self.inside = 0;
                    cursor.advance(record);
                }
            }
            if !self.next_segment()? {
                return Ok(None);
            }
        }
    }

    /// The bytes of the piece that `peek` has shown.
    pub(super) fn bytes(&self, piece: Piece) -> &[u8] {
        let record = self.segment.as_ref().map_or(&[][..], |(_, cursor)| cursor.bytes(piece.record));
        record.get(piece.start..piece.end).unwrap_or_default()
    }

    /// Leaves the piece behind that `peek` has shown.
    pub(super) fn consume(&mut self) {
        let Some(piece) = self.piece.take() else { return };
        self.inside = piece.start + piece.taken;
        self.bytes = Some(piece.record.before + self.inside as u64);
        if self.inside >= piece.record.length
            && let Some((_, cursor)) = &mut self.segment
        {
            cursor.advance(piece.record);
            self.inside = 0;
        }
    }

    /// Whether there was a newer segment to go to. The old one is complete then: it is read to its end first.
    fn next_segment(&mut self) -> io::Result<bool> {
        let after = self.segment.as_ref().map(|(number, _)| *number);
        let next = match after {
            // The usual case costs one failed look-up instead of a listing.
            Some(number) if segment_path(&self.logs, &self.container, number + 1).exists() => Some(number + 1),
            Some(_) | None => segments(&self.logs, &self.container)?
                .into_iter()
                .find(|number| after.is_none_or(|after| *number > after)),
        };
        let Some(number) = next else { return Ok(false) };
        if let Some((_, cursor)) = &mut self.segment
            && cursor.peek()?.is_some()
        {
            // Written between our look at the end and the new segment's birth.
            return Ok(true);
        }
        match File::open(segment_path(&self.logs, &self.container, number)) {
            Ok(file) => {
                self.segment = Some((number, Cursor::new(file, 0)));
                self.inside = 0;
            }
            // Rotated away meanwhile: the next listing finds what is left.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
        Ok(true)
    }

    /// Goes to the end, and returns the beginnings of the last `lines` lines before it, newest first.
    pub(super) fn last_lines(
        &mut self,
        lines: usize,
        since: Timestamp,
        until: Timestamp,
    ) -> io::Result<Vec<LineStart>> {
        let mut found = Vec::new();
        let mut at_end = false;
        for segment in segments(&self.logs, &self.container)?.into_iter().rev() {
            let file = match File::open(segment_path(&self.logs, &self.container, segment)) {
                Ok(file) => file,
                // Rotated away meanwhile.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => break,
                Err(cause) => return Err(cause),
            };
            let mut cursor = Cursor::new(file, 0);
            let starts = line_starts(&mut cursor, segment, lines - found.len(), since..=until)?;
            if !at_end {
                at_end = true;
                self.segment = Some((segment, cursor));
            }
            found.extend(starts.into_iter().rev());
            if found.len() == lines {
                break;
            }
        }
        Ok(found)
    }
}

/// The last `wanted` beginnings of lines in a segment; the cursor is at its end then.
fn line_starts(
    cursor: &mut Cursor,
    segment: u64,
    wanted: usize,
    times: RangeInclusive<Timestamp>,
) -> io::Result<VecDeque<LineStart>> {
    let mut starts = VecDeque::new();
    let mut inside_line = [false; 2];
    while let Some(record) = cursor.peek()? {
        if times.contains(&record.time) && record.length > 0 {
            let bytes = cursor.bytes(record);
            let mut add = |inside: usize| {
                if starts.len() == wanted {
                    starts.pop_front();
                }
                if wanted > 0 {
                    let (inside, offset) = (inside as u64, cursor.position());
                    let position = Position { segment, offset, inside, bytes: record.before + inside };
                    starts.push_back(LineStart { time: record.time, position });
                }
            };
            if !inside_line[record.stream as usize] {
                add(0);
            }
            memchr::memchr_iter(b'\n', bytes)
                .map(|end| end + 1)
                .filter(|start| *start < bytes.len())
                .for_each(&mut add);
        }
        inside_line[record.stream as usize] = record.partial;
        cursor.advance(record);
    }
    Ok(starts)
}

/// The piece of a record that begins at `start`, which is inside of it.
fn next_piece(bytes: &[u8], start: usize, record: Header, known: Option<u64>) -> Piece {
    let rest = &bytes[start..];
    let here = record.before + start as u64;
    let missing = known.map_or(0, |known| here.saturating_sub(known));
    let line = memchr::memchr(b'\n', rest);
    let whole = line.unwrap_or(rest.len());
    let length = piece_end(&rest[..whole]);
    let ended = line.is_some() && length == whole;
    Piece { record, start, end: start + length, taken: length + usize::from(ended), partial: !ended, missing }
}
