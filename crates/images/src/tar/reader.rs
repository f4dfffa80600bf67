//! Walks an archive's members in one pass over any stream.

use std::io::{self, Read};

use super::header::{self, Block, Header, Type};
use super::pax::{self, Records};
use super::sparse::{self, Map, Segment};
use super::{BLOCK, Entry, Kind, TarError};
use crate::limits::{BUFFER_BYTES, MAX_SPARSE_SEGMENTS, MAX_TAR_SPECIAL_BYTES};

pub(crate) struct Reader<R> {
    inner: R,
    buffer: Box<[u8]>,
    /// The unread part of the buffer.
    start: usize,
    end: usize,
    /// Bytes of the archive given out so far.
    offset: u64,
    /// Stored bytes of this member not yet given out, and what pads them to a block.
    data: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Reader {
            inner,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            offset: 0,
            data: 0,
            padding: 0,
        }
    }

    /// Where in the archive the next byte is: after `next`, where the member's data begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that this member has stored, which for a sparse file is less than its size.
    pub(crate) fn stored(&self) -> u64 {
        self.data
    }

    /// The next member, or `None` at the end: two blocks of zeros, or a stream that ends between members.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut records = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            self.skip_rest()?;
            let at = self.offset;
            let malformed = |what| TarError::Malformed { offset: at, what };
            let Some(block) = self.header_block()? else { return Ok(None) };
            let header = header::parse(&block).map_err(malformed)?;
            match header.kind {
                Type::Pax => records = Records::parse(&self.special(&header)?).map_err(malformed)?,
                // Docker, containerd and podman ignore what a global header says.
                Type::PaxGlobal => {
                    Records::parse(&self.special(&header)?).map_err(malformed)?;
                }
                Type::GnuLongName => long_name = Some(header::string(&self.special(&header)?).to_vec()),
                Type::GnuLongLink => long_link = Some(header::string(&self.special(&header)?).to_vec()),
                Type::Member(_) | Type::OldFile | Type::OldSparse => {
                    return self.member(&block, header, &records, (long_name, long_link)).map(Some);
                }
            }
        }
    }

    fn member(
        &mut self,
        block: &Block,
        mut header: Header,
        records: &Records,
        (long_name, long_link): (Option<Vec<u8>>, Option<Vec<u8>>),
    ) -> Result<Entry, TarError> {
        let offset = self.offset - BLOCK as u64;
        let malformed = |what: String| TarError::Malformed { offset, what };
        let xattrs = records.apply(&mut header).map_err(malformed)?;
        if let Some(name) = long_name.filter(|name| !name.is_empty()) {
            header.name = name;
        }
        if let Some(link) = long_link.filter(|link| !link.is_empty()) {
            header.link = link;
        }
        let kind = match header.kind {
            Type::Member(kind) => kind,
            Type::OldFile if header.name.ends_with(b"/") => Kind::Directory,
            Type::OldFile | Type::OldSparse => Kind::File,
            Type::Pax | Type::PaxGlobal | Type::GnuLongName | Type::GnuLongLink => unreachable!("next() handles those"),
        };
        let negative = || malformed("its size is negative".to_owned());
        let stored = u64::try_from(header.size).map_err(|_| negative())?;
        self.expect_data(if kind.is_header_only() { 0 } else { stored });
        let sparse = self.sparse_map(block, &mut header, records, kind)?;
        let size = u64::try_from(header.size).map_err(|_| negative())?;
        if let Some(segments) = &sparse {
            sparse::check(segments, size, self.data).map_err(malformed)?;
        }
        let id = |number: i64, what: &str| match u32::try_from(number) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(malformed(format!("its {what} {number} is out of range"))),
        };
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => (id(header.device.0, "major")?, id(header.device.1, "minor")?),
            Kind::File | Kind::HardLink | Kind::Symlink | Kind::Directory | Kind::Fifo => (0, 0),
        };
        Ok(Entry {
            kind,
            mode: u32::try_from(header.mode & 0o7777).expect("twelve bits fit"),
            uid: id(header.uid, "uid")?,
            gid: id(header.gid, "gid")?,
            mtime: header.mtime,
            size: if kind.is_header_only() { 0 } else { size },
            device,
            path: header.name,
            link: header.link,
            xattrs,
            sparse,
        })
    }

    fn sparse_map(
        &mut self,
        block: &Block,
        header: &mut Header,
        records: &Records,
        kind: Kind,
    ) -> Result<Option<Vec<Segment>>, TarError> {
        let offset = self.offset - BLOCK as u64;
        let malformed = |what: String| TarError::Malformed { offset, what };
        if header.kind == Type::OldSparse {
            if !header.is_gnu {
                return Err(malformed("a sparse member without GNU's magic".to_owned()));
            }
            header.size =
                sparse::real_size(block).ok_or_else(|| malformed("its real size is not a number".to_owned()))?;
            let mut numbers = Vec::new();
            let mut extended = sparse::from_block(block, true, &mut numbers).map_err(malformed)?;
            while extended {
                let next = self.block()?.ok_or_else(early_end)?;
                extended = sparse::from_block(&next, false, &mut numbers).map_err(malformed)?;
            }
            return sparse::segments(&numbers).map(Some).map_err(malformed);
        }
        let map = match sparse::from_pax(records, header).map_err(malformed)? {
            None => return Ok(None),
            Some(_) if kind.is_header_only() => return Err(malformed("a sparse map without data".to_owned())),
            Some(map) => map,
        };
        match map {
            Map::Whole(segments) => Ok(Some(segments)),
            Map::InData => self.sparse_map_in_data().map(Some),
        }
    }

    /// Version 1.0: a count and then pairs of decimal numbers, each on a line, padded to whole blocks.
    fn sparse_map_in_data(&mut self) -> Result<Vec<Segment>, TarError> {
        let offset = self.offset;
        let malformed = |what: &str| TarError::Malformed { offset, what: what.to_owned() };
        let mut lines: Vec<u8> = Vec::new();
        let mut numbers: Vec<i64> = Vec::new();
        let mut wanted = 1;
        while numbers.len() < wanted {
            let taken = self.data.min(BLOCK as u64);
            if taken < BLOCK as u64 {
                return Err(malformed("its sparse map is cut short"));
            }
            let block = self.block()?.ok_or_else(early_end)?;
            self.data -= taken;
            lines.extend_from_slice(&block);
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n').filter(|_| numbers.len() < wanted) {
                let number =
                    pax::decimal(&lines[..end]).ok_or_else(|| malformed("its sparse map is not made of numbers"))?;
                lines.drain(..=end);
                numbers.push(number);
                if numbers.len() == 1 {
                    let count = usize::try_from(number).ok().filter(|count| *count <= MAX_SPARSE_SEGMENTS);
                    wanted = 1 + 2 * count.ok_or_else(|| malformed("its sparse map has too many segments"))?;
                }
            }
            if lines.len() > 2 * BLOCK {
                return Err(malformed("its sparse map is not made of numbers"));
            }
        }
        sparse::segments(&numbers[1..]).map_err(|what| malformed(&what))
    }

    /// The next stored bytes of this member, straight from the buffer; empty at its end.
    pub(crate) fn data(&mut self) -> Result<&[u8], TarError> {
        if self.data == 0 {
            return Ok(&[]);
        }
        if self.start == self.end && !self.fill()? {
            return Err(early_end());
        }
        let available = (self.end - self.start) as u64;
        let taken = usize::try_from(available.min(self.data)).expect("no more than the buffer holds");
        let slice = &self.buffer[self.start..self.start + taken];
        self.start += taken;
        self.offset += taken as u64;
        self.data -= taken as u64;
        Ok(slice)
    }

    /// All stored bytes of this member, which must not be more than `limit`.
    pub(crate) fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, TarError> {
        if self.data > limit {
            return Err(TarError::Malformed {
                offset: self.offset,
                what: format!("a member of {} bytes where at most {limit} make sense", self.data),
            });
        }
        let mut all = Vec::new();
        loop {
            match self.data()? {
                [] => return Ok(all),
                slice => all.extend_from_slice(slice),
            }
        }
    }

    /// Reads whatever follows the archive, so that a checksum over the stream is complete.
    pub(crate) fn drain(&mut self) -> Result<(), TarError> {
        self.start = self.end;
        while self.fill()? {
            self.start = self.end;
        }
        Ok(())
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    fn special(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        self.expect_data(u64::try_from(header.size).expect("parse refuses negative sizes"));
        self.read_all(MAX_TAR_SPECIAL_BYTES)
    }

    fn expect_data(&mut self, stored: u64) {
        self.data = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        while !self.data()?.is_empty() {}
        // The last member of an archive need not be padded, so the end may come anywhere in here.
        while self.padding > 0 && (self.start < self.end || self.fill()?) {
            let taken = self.padding.min((self.end - self.start) as u64);
            self.start += usize::try_from(taken).expect("less than a block");
            self.offset += taken;
            self.padding -= taken;
        }
        self.padding = 0;
        Ok(())
    }

    fn header_block(&mut self) -> Result<Option<Block>, TarError> {
        let offset = self.offset;
        match self.block()? {
            None => Ok(None),
            Some(block) if !header::is_zero(&block) => Ok(Some(block)),
            Some(_) => match self.block()? {
                None => Ok(None),
                Some(block) if header::is_zero(&block) => Ok(None),
                Some(_) => {
                    Err(TarError::Malformed { offset, what: "a single block of zeros between members".to_owned() })
                }
            },
        }
    }

    /// `None` when the stream ends right here.
    fn block(&mut self) -> Result<Option<Block>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            if self.start == self.end && !self.fill()? {
                return if filled == 0 { Ok(None) } else { Err(early_end()) };
            }
            let taken = (self.end - self.start).min(BLOCK - filled);
            block[filled..filled + taken].copy_from_slice(&self.buffer[self.start..self.start + taken]);
            self.start += taken;
            filled += taken;
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    /// Refills the empty buffer; `false` at the end of the stream.
    fn fill(&mut self) -> Result<bool, TarError> {
        self.start = 0;
        self.end = 0;
        loop {
            match self.inner.read(&mut self.buffer) {
                Ok(read) => {
                    self.end = read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
    }
}

fn early_end() -> TarError {
    TarError::Read(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle of a member"))
}
