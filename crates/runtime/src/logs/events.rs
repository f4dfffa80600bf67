//! Lines into events: what `awslogs-datetime-format` and `awslogs-multiline-pattern` ask for. Done while reading, so
//! that writing stays as fast as without them. Pure.
//!
//! An event begins with a line that matches and goes on until the next one, over both streams of its container, as in
//! Docker's awslogs driver.

use ecs::Timestamp;
use ecs::log_options::EventStart;

use super::position::Position;
use super::reader::Record;
use super::record::Stream;

/// PutLogEvents takes no event of more than 1,048,576 bytes with the 26 that it counts for each
/// (<https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html>).
pub const MAX_EVENT_BYTES: usize = (1 << 20) - 26;

/// An event whose end has not come for so long is whole, milliseconds: Docker's driver looks every five seconds.
pub const EVENT_PATIENCE_MS: u64 = 5_000;

/// One or several lines, without the last one's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of its first line, as the time.
    pub stream: Stream,
    pub time: Timestamp,
    /// The last line has no end: it goes on in the next event, or it was the stream's last.
    pub partial: bool,
    pub bytes: Vec<u8>,
    /// Right behind it: where a reader of the container goes on.
    pub end: Position,
    /// As `Record::missing`.
    pub missing: u64,
}

/// Joins the records of one container.
#[derive(Clone, Debug)]
pub struct Joiner {
    start: Option<EventStart>,
    open: Option<Event>,
}

impl Joiner {
    /// Without a start every record is an event.
    pub fn new(start: Option<EventStart>) -> Joiner {
        Joiner { start, open: None }
    }

    /// Takes the next record. Returns the event that has ended by it; a container without a start gets its record back.
    pub fn push(&mut self, record: &Record<'_>) -> Option<Event> {
        let event = Event {
            stream: record.stream,
            time: record.time,
            partial: record.partial,
            bytes: record.bytes.to_vec(),
            end: record.end,
            missing: record.missing,
        };
        let Some(start) = &self.start else { return Some(event) };
        if let Some(open) = &mut self.open {
            let goes_on = open.partial || !start.begins(record.bytes);
            if goes_on && open.bytes.len() + 1 + record.bytes.len() <= MAX_EVENT_BYTES {
                if !open.partial {
                    open.bytes.push(b'\n');
                }
                open.bytes.extend_from_slice(record.bytes);
                (open.partial, open.end) = (record.partial, record.end);
                open.missing += record.missing;
                return None;
            }
        }
        self.open.replace(event)
    }

    /// The open event, as it is: at the end, or after `EVENT_PATIENCE_MS`.
    pub fn flush(&mut self) -> Option<Event> {
        self.open.take()
    }

    /// Whether an event waits for its end.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ecs::ContainerName;
    use std::collections::BTreeMap;

    fn joiner(option: &str, value: &str) -> Joiner {
        let options = BTreeMap::from([(option.to_owned(), value.to_owned())]);
        Joiner::new(EventStart::of(&options).expect("a pattern"))
    }

    fn joined(joiner: &mut Joiner, records: &[(&str, bool)]) -> Vec<String> {
        let container = ContainerName::try_from("app".to_owned()).expect("a name");
        let mut events = Vec::new();
        for (number, (line, partial)) in records.iter().enumerate() {
            let end = Position { bytes: number as u64, ..Position::default() };
            events.extend(joiner.push(&Record {
                source: 0,
                container: &container,
                stream: Stream::Stdout,
                time: Timestamp::from_epoch_ms(number as u64),
                partial: *partial,
                bytes: line.as_bytes(),
                end,
                missing: 0,
            }));
        }
        events.extend(joiner.flush());
        events
            .into_iter()
            .map(|event| {
                format!("{} {} {}", event.time.epoch_ms, event.end.bytes, String::from_utf8_lossy(&event.bytes))
            })
            .collect()
    }

    fn whole<'a>(lines: &[&'a str]) -> Vec<(&'a str, bool)> {
        lines.iter().map(|line| (*line, false)).collect()
    }

    /// <https://docs.docker.com/engine/logging/drivers/awslogs/>, the example of awslogs-datetime-format.
    #[test]
    fn a_date_begins_an_event() {
        let lines = whole(&[
            "[May 01, 2017 19:00:01] A message was logged",
            "[May 01, 2017 19:00:04] Another multi-line message was logged",
            "Some random message",
            "with some random words",
            "[May 01, 2017 19:01:32] Another message was logged",
        ]);
        let mut joiner = joiner("awslogs-datetime-format", r"\[%b %d, %Y %H:%M:%S\]");
        assert_eq!(
            joined(&mut joiner, &lines),
            [
                "0 0 [May 01, 2017 19:00:01] A message was logged",
                "1 3 [May 01, 2017 19:00:04] Another multi-line message was logged\nSome random message\nwith some \
                 random words",
                "4 4 [May 01, 2017 19:01:32] Another message was logged",
            ]
        );
    }

    /// The same page's example of awslogs-multiline-pattern.
    #[test]
    fn a_pattern_begins_an_event() {
        let lines = whole(&[
            "INFO A message was logged",
            "INFO Another multi-line message was logged",
            "     Some random message",
            "INFO Another message was logged",
        ]);
        let events = joined(&mut joiner("awslogs-multiline-pattern", "^INFO"), &lines);
        assert_eq!(events.len(), 3);
        assert_eq!(events[1], "1 2 INFO Another multi-line message was logged\n     Some random message");
    }

    #[test]
    fn parts_of_a_line_are_one_line_and_no_event_is_too_long() {
        let mut start = joiner("awslogs-multiline-pattern", "^INFO");
        assert_eq!(joined(&mut start, &[("INFO a", true), ("INFO b", false), ("c", false)]), ["0 2 INFO aINFO b\nc"]);
        let long = "x".repeat(MAX_EVENT_BYTES / 2);
        let events = joined(&mut start, &whole(&["INFO", &long, &long, "end"]));
        assert_eq!(events.iter().map(String::len).collect::<Vec<_>>(), [long.len() + 9, long.len() + 8]);
        let mut none = Joiner::new(None);
        assert_eq!(joined(&mut none, &whole(&["a", "b"])), ["0 0 a", "1 1 b"]);
    }
}
