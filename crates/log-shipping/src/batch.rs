//! Messages on their way together: read from a container's segments, sent and recorded as one.

use ecs::ContainerName;
use runtime::logs::{MAX_PIECE_BYTES, Position, ReadError, Reader, Stream};

use crate::message::{Message, Part};

/// Limits of a batch. Docker's splunk driver posts a thousand at once.
pub(crate) const MAX_MESSAGES: usize = 1000;
const MAX_BYTES: usize = 256 << 10;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Message>,
    /// One for each message.
    marks: Vec<Mark>,
    /// Where the first message begins; names the batch.
    pub(crate) start: Position,
    /// Right behind the last message.
    pub(crate) end: Position,
    /// Bytes of output that were removed before they could be read, before and between the messages.
    pub(crate) missing_bytes: u64,
}

/// Where a message ends, and how many bytes before it are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    end: Position,
    missing: u64,
}

/// The lines that are longer than a piece and not at their end, one for each stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenLines {
    stdout: Option<Part>,
    stderr: Option<Part>,
}

impl OpenLines {
    /// Which part of a line a piece is; nothing for a line in one piece. A long line is cut at no less than three
    /// bytes below the limit, so a shorter first piece without an end is a stream's last words.
    fn part(&mut self, stream: Stream, partial: bool, length: usize, place: Position) -> Option<Part> {
        let open = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let part = match open.take() {
            Some(before) => Part { id: before.id, ordinal: before.ordinal + 1, last: !partial },
            None if partial && length + 3 >= MAX_PIECE_BYTES => {
                Part { id: format!("{:032x}{:032x}", place.segment, place.bytes), ordinal: 1, last: false }
            }
            None => return None,
        };
        if !part.last {
            *open = Some(part.clone());
        }
        Some(part)
    }
}

impl Batch {
    /// What is there now, at most `most` messages; empty when nothing is. `from` is where the reader stands.
    pub(crate) fn read(
        reader: &mut Reader,
        from: Position,
        most: usize,
        open: &mut OpenLines,
    ) -> Result<Batch, ReadError> {
        let mut batch = Batch { start: from, end: from, ..Batch::default() };
        let mut bytes = 0;
        while batch.messages.len() < most.min(MAX_MESSAGES) && bytes < MAX_BYTES {
            let Some(record) = reader.next_record()? else { break };
            let part = open.part(record.stream, record.partial, record.bytes.len(), record.end);
            bytes += record.bytes.len();
            batch.end = record.end;
            batch.missing_bytes += record.missing;
            let message = Message { stream: record.stream, time: record.time, bytes: record.bytes.to_vec(), part };
            batch.marks.push(Mark { end: record.end, missing: record.missing });
            batch.messages.push(message);
        }
        Ok(batch)
    }

    /// What was read right behind this.
    pub(crate) fn append(&mut self, more: Batch) {
        self.end = if more.messages.is_empty() { self.end } else { more.end };
        self.missing_bytes += more.missing_bytes;
        self.messages.extend(more.messages);
        self.marks.extend(more.marks);
    }

    /// Two batches, one after the other; each has something where this one has two messages or more.
    pub(crate) fn halves(&self) -> (Batch, Batch) {
        let middle = self.messages.len() / 2;
        let between = self.marks.get(middle.wrapping_sub(1)).map_or(self.start, |mark| mark.end);
        let half = |range: std::ops::Range<usize>, start, end| Batch {
            messages: self.messages[range.clone()].to_vec(),
            marks: self.marks[range.clone()].to_vec(),
            start,
            end,
            missing_bytes: self.marks[range].iter().map(|mark| mark.missing).sum(),
        };
        (half(0..middle, self.start, between), half(middle..self.messages.len(), between, self.end))
    }

    /// The container's bytes in it, line ends included.
    pub(crate) fn bytes(&self) -> u64 {
        (self.end.bytes - self.start.bytes.min(self.end.bytes)).saturating_sub(self.missing_bytes)
    }
}

/// The reader's options for one container from a place on.
pub(crate) fn options(container: &ContainerName, from: Position) -> runtime::logs::ReadOptions {
    runtime::logs::ReadOptions {
        containers: vec![container.clone()],
        from: vec![(container.clone(), from)],
        ..runtime::logs::ReadOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_for_each_stream_and_last_words_are_no_part() {
        let mut open = OpenLines::default();
        let place = |bytes| Position { bytes, ..Position::default() };
        let long = MAX_PIECE_BYTES;
        assert_eq!(open.part(Stream::Stdout, false, 10, place(10)), None);
        assert_eq!(open.part(Stream::Stdout, true, 10, place(20)), None);
        let first = open.part(Stream::Stdout, true, long, place(30)).expect("a part");
        assert_eq!((first.ordinal, first.last), (1, false));
        assert_eq!(open.part(Stream::Stderr, false, 5, place(40)), None);
        let second = open.part(Stream::Stdout, true, 100, place(50)).expect("a part");
        let last = open.part(Stream::Stdout, false, 5, place(60)).expect("a part");
        assert_eq!((second.ordinal, last.ordinal, last.last), (2, 3, true));
        assert!(first.id == second.id && second.id == last.id);
        assert_eq!(open.part(Stream::Stdout, false, 5, place(70)), None);
    }
}
