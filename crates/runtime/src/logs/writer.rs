//! The supervisor's side: bytes from a container's pipes into its newest segment, one write for a batch.
//!
//! A full or broken disk never ends a task and never stops its output from being read: what cannot be written is
//! counted, and the status tells.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use ecs::{ContainerName, Timestamp};

use super::record::{Splitter, Stream};
use super::{segment_path, segments};

/// A batch is written when it has this many bytes, or when there is nothing more to read.
const BATCH_BYTES: u64 = 256 << 10;

/// A batch is never cut, so it must be small beside a segment.
const BATCHES_PER_SEGMENT: u64 = 4;

/// Kept between batches; a larger buffer goes back to the kernel.
const BATCH_KEPT_BYTES: usize = 64 << 10;

/// How much of a container's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub segment_bytes: u64,
    pub segments: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { segment_bytes: 20 << 20, segments: 5 }
    }
}

impl Limits {
    /// The json-file driver's `max-size` (`10m`; k, m, g) and `max-file`
    /// (<https://docs.docker.com/engine/logging/drivers/json-file/>); ours where they are absent or make no sense.
    pub fn from_options(options: &BTreeMap<String, String>) -> Limits {
        let ours = Limits::default();
        let size = options.get("max-size").and_then(|size| size_of(size)).filter(|size| *size > 0);
        let count = options.get("max-file").and_then(|count| count.trim().parse().ok()).filter(|count| *count > 0);
        Limits { segment_bytes: size.unwrap_or(ours.segment_bytes), segments: count.unwrap_or(ours.segments) }
    }
}

fn size_of(size: &str) -> Option<u64> {
    let size = size.trim().to_ascii_lowercase();
    let size = size.strip_suffix('b').unwrap_or(&size);
    let (digits, unit) = match size.char_indices().last()? {
        (end, 'k') => (&size[..end], 1 << 10),
        (end, 'm') => (&size[..end], 1 << 20),
        (end, 'g') => (&size[..end], 1 << 30),
        (_, _) => (size, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

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
    /// Nothing while the newest segment could not be made.
    segment: Option<Segment>,
    next_number: u64,
    stdout: Splitter,
    stderr: Splitter,
    lost: Lost,
}

#[derive(Debug)]
struct Segment {
    file: File,
    bytes: u64,
}

impl Writer {
    /// Never fails: a directory that cannot be written to shows in `lost`, when there is something to lose.
    pub fn new(logs: PathBuf, container: ContainerName, limits: Limits) -> Writer {
        // A directory that cannot be listed cannot be written to either, which the first write tells.
        let next_number = segments(&logs, &container).ok().and_then(|numbers| numbers.last().map(|last| last + 1));
        Writer {
            logs,
            container,
            limits,
            segment: None,
            next_number: next_number.unwrap_or(0),
            stdout: Splitter::new(Stream::Stdout),
            stderr: Splitter::new(Stream::Stderr),
            lost: Lost::default(),
        }
    }

    /// Bytes of one stream, which arrived at `time`. `batch` is scratch space, shared by all writers of a process.
    pub fn take(&mut self, stream: Stream, mut data: &[u8], time: Timestamp, batch: &mut Vec<u8>) {
        while !data.is_empty() {
            batch.clear();
            let enough = (self.limits.segment_bytes / BATCHES_PER_SEGMENT).clamp(1, BATCH_BYTES);
            let taken = self.splitter(stream).split(data, time, enough as usize, batch);
            self.append(batch, taken);
            data = &data[taken..];
        }
        if batch.capacity() > BATCH_KEPT_BYTES {
            *batch = Vec::new();
        }
    }

    /// The stream has ended.
    pub fn end(&mut self, stream: Stream, time: Timestamp, batch: &mut Vec<u8>) {
        batch.clear();
        self.splitter(stream).end(time, batch);
        self.append(batch, batch.len());
    }

    pub fn lost(&self) -> &Lost {
        &self.lost
    }

    fn splitter(&mut self, stream: Stream) -> &mut Splitter {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// `worth`: how many bytes of output are lost when this fails.
    fn append(&mut self, batch: &[u8], worth: usize) {
        if batch.is_empty() {
            return;
        }
        let full = |segment: &Segment| {
            segment.bytes > 0 && segment.bytes.saturating_add(batch.len() as u64) > self.limits.segment_bytes
        };
        if self.segment.as_ref().is_none_or(full) {
            match self.next_segment() {
                Ok(segment) => self.segment = Some(segment),
                // An old segment that is too long is better than none.
                Err(cause) if self.segment.is_some() => self.lost.cause = Some(cause.to_string()),
                Err(cause) => return self.lose(worth, &cause),
            }
        }
        let Some(segment) = &mut self.segment else { return };
        match segment.file.write_all(batch) {
            Ok(()) => segment.bytes += batch.len() as u64,
            Err(cause) => {
                // Half a batch must not stay in front of the next one.
                if segment.file.set_len(segment.bytes).is_err() {
                    self.segment = None;
                }
                self.lose(worth, &cause);
            }
        }
    }

    fn next_segment(&mut self) -> io::Result<Segment> {
        let number = self.next_number;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(segment_path(&self.logs, &self.container, number))?;
        self.next_number += 1;
        if let Some(oldest) = number.checked_sub(self.limits.segments) {
            match fs::remove_file(segment_path(&self.logs, &self.container, oldest)) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => self.lost.cause = Some(cause.to_string()),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Segment { file, bytes: 0 })
    }

    fn lose(&mut self, bytes: usize, cause: &io::Error) {
        self.lost.bytes += bytes as u64;
        self.lost.cause = Some(cause.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_options_set_the_limits_and_nonsense_does_not() {
        let limits = |size: &str, count: &str| {
            let options = [("max-size", size), ("max-file", count)];
            Limits::from_options(
                &options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            )
        };
        assert_eq!(limits("10m", "3"), Limits { segment_bytes: 10 << 20, segments: 3 });
        assert_eq!(limits("1G", "1"), Limits { segment_bytes: 1 << 30, segments: 1 });
        assert_eq!(limits("512KB", "2"), Limits { segment_bytes: 512 << 10, segments: 2 });
        assert_eq!(limits("4096", "2"), Limits { segment_bytes: 4096, segments: 2 });
        assert_eq!(limits("-1", "0"), Limits::default());
        assert_eq!(limits("99999999999999999999g", "many"), Limits::default());
        assert_eq!(limits("", "é"), Limits::default());
    }

    #[test]
    fn the_oldest_segments_go() {
        let logs = tempfile::tempdir().expect("a directory");
        let name = ContainerName::try_from("app".to_owned()).expect("a name");
        let limits = Limits { segment_bytes: 100, segments: 2 };
        let mut writer = Writer::new(logs.path().to_owned(), name.clone(), limits);
        let mut batch = Vec::new();
        for _ in 0..5 {
            writer.take(Stream::Stdout, &[b'x'; 60], Timestamp::from_epoch_ms(1), &mut batch);
            writer.take(Stream::Stdout, b"\n", Timestamp::from_epoch_ms(1), &mut batch);
        }
        assert_eq!(segments(logs.path(), &name).expect("listed"), [3, 4]);
        let again = Writer::new(logs.path().to_owned(), name, limits);
        assert_eq!((again.next_number, writer.lost().clone()), (5, Lost::default()));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let name = ContainerName::try_from("app".to_owned()).expect("a name");
        let mut writer = Writer::new(PathBuf::from("/nonexistent/logs"), name, Limits::default());
        writer.take(Stream::Stderr, b"one\ntwo\nthr", Timestamp::from_epoch_ms(1), &mut Vec::new());
        assert_eq!(writer.lost().bytes, 11);
        assert!(writer.lost().cause.as_deref().is_some_and(|cause| cause.contains("No such file")));
    }
}
