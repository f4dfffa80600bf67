//! Going through one segment, record by record, while it may still grow.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::record::{HEADER_BYTES, Header, MAX_RECORD_BYTES};

/// One read takes up to this much: the longest record fits.
const READ_BYTES: usize = HEADER_BYTES + MAX_RECORD_BYTES;

#[derive(Debug)]
pub(super) struct Cursor {
    file: File,
    /// Where in the file the buffer's first byte is.
    offset: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the current record begins.
    at: usize,
    /// Bytes here begin no record: the tail is torn, and nothing behind it can be trusted.
    torn: bool,
}

impl Cursor {
    pub(super) fn new(file: File, offset: u64) -> Cursor {
        Cursor { file, offset, buffer: Vec::new(), at: 0, torn: false }
    }

    pub(super) fn position(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// The current record's header once the whole record is there; nothing at the end, for now or for good.
    pub(super) fn peek(&mut self) -> io::Result<Option<Header>> {
        if self.torn {
            return Ok(None);
        }
        if let Some(header) = self.whole() {
            return Ok(Some(header));
        }
        if self.torn {
            return Ok(None);
        }
        // What is left of an unfinished record is read again: its writer may have taken it back meanwhile.
        self.offset = self.position();
        self.at = 0;
        self.buffer.resize(READ_BYTES, 0);
        let mut filled = 0;
        while filled < self.buffer.len() {
            match self.file.read_at(&mut self.buffer[filled..], self.offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    self.buffer.truncate(filled);
                    return Err(cause);
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(self.whole())
    }

    /// The bytes of the record that `peek` has just shown.
    pub(super) fn bytes(&self, header: Header) -> &[u8] {
        let start = self.at + HEADER_BYTES;
        self.buffer.get(start..start + header.length).unwrap_or_default()
    }

    /// To the record after the one that `peek` has shown.
    pub(super) fn advance(&mut self, header: Header) {
        self.at += HEADER_BYTES + header.length;
    }

    fn whole(&mut self) -> Option<Header> {
        let head = self.buffer.get(self.at..)?.first_chunk::<HEADER_BYTES>()?;
        let Some(header) = Header::decode(head) else {
            self.torn = true;
            return None;
        };
        (self.buffer.len() - self.at - HEADER_BYTES >= header.length).then_some(header)
    }
}
