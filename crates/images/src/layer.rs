//! One layer from its blob to a directory, in one pass: hash, decompress, hash again, extract.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::digest::{Digest, Hasher};
use crate::extract::{self, ExtractError, Extracted};
use crate::limits::{BUFFER_BYTES, MAX_COMPRESSION_RATIO, MAX_LAYER_BYTES, MAX_ZSTD_WINDOW_LOG, RATIO_FREE_BYTES};
use crate::tar;

/// Where a blob's bytes come from: a network, a file, or a file and then a network. It gives large pieces, so the call
/// through a pointer costs nothing, and the decoders are compiled once.
pub(crate) trait Chunks {
    /// The next bytes; empty at the end of the blob.
    fn next(&mut self) -> io::Result<Bytes>;
}

/// What the documents promise about a layer. Without promises (a bare root file system) there is nothing to check.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Promised {
    pub(crate) blob: Option<Digest>,
    pub(crate) size: Option<u64>,
    pub(crate) diff_id: Option<Digest>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Unpacked {
    pub(crate) blob: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
    pub(crate) compression: Compression,
    pub(crate) extracted: Extracted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes, as containerd and Docker do; media types are often wrong.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame may come first (zstd:chunked writes its own at the end).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("the blob has digest {actual}, not {promised}")]
    BlobDigest { promised: Digest, actual: Digest },
    #[error("the blob has {actual} bytes, not {promised}")]
    BlobSize { promised: u64, actual: u64 },
    #[error("the unpacked layer has diff id {actual}, not {promised} as the image's configuration says")]
    DiffId { promised: Digest, actual: Digest },
    #[error("cannot unpack the layer")]
    Extract(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<ExtractError> for LayerError {
    fn from(error: ExtractError) -> Self {
        LayerError::Extract(Box::new(error))
    }
}

impl LayerError {
    /// Whether this host, and not the layer, is to blame: its disk is full, say.
    pub(crate) fn is_hosts(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(each) = cause {
            if let Some(error) = each.downcast_ref::<io::Error>() {
                return matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
                );
            }
            cause = each.source();
        }
        false
    }

    /// Whether the blob's bytes are not what was promised, so that fetching them again could help.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            LayerError::BlobDigest { .. } | LayerError::BlobSize { .. } => true,
            LayerError::DiffId { .. } | LayerError::Extract(_) => false,
        }
    }
}

/// Unpacks into an empty directory. On an error the directory holds part of the layer and must be thrown away.
pub(crate) fn unpack(chunks: Box<dyn Chunks + '_>, root: OwnedFd, promised: Promised) -> Result<Unpacked, LayerError> {
    let counts = Rc::new(Counts::default());
    let blob = BlobReader::new(chunks, promised.size, Rc::clone(&counts));
    let (decoder, compression) = decoder(blob).map_err(read_failed)?;
    let hasher = (compression != Compression::None).then(Hasher::new);
    let mut archive = tar::Reader::new(DiffReader { decoder, hasher, counts, out: 0 });
    let extracted = extract::extract(&mut archive, root);
    let diff = archive.into_inner();
    // A blob that is not the promised one explains every other failure, so its digest comes first.
    let mut blob = diff.decoder.into_blob();
    let drained = blob.drain();
    let (actual, size) = (blob.hasher.finish(), blob.read);
    match (&extracted, drained) {
        (_, Ok(())) => check_blob(promised, actual, size)?,
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => return Err(read_failed(error)),
    }
    let extracted = extracted?;
    let diff_id = diff.hasher.map_or(actual, Hasher::finish);
    if let Some(promised) = promised.diff_id.filter(|promised| *promised != diff_id) {
        return Err(LayerError::DiffId { promised, actual: diff_id });
    }
    Ok(Unpacked { blob: actual, size, diff_id, compression, extracted })
}

/// An archive's plain bytes, with the same limits on how it may grow.
pub(crate) fn decompressed<'a>(chunks: Box<dyn Chunks + 'a>) -> io::Result<impl Read + 'a> {
    let counts = Rc::new(Counts::default());
    let (decoder, _) = decoder(BlobReader::new(chunks, None, Rc::clone(&counts)))?;
    Ok(DiffReader { decoder, hasher: None, counts, out: 0 })
}

fn decoder(mut blob: BlobReader<'_>) -> io::Result<(Decoder<'_>, Compression)> {
    let compression = Compression::of(blob.peek()?);
    let decoder = match compression {
        Compression::None => Decoder::None(Box::new(blob)),
        Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(blob))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(blob)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Decoder::Zstd(Box::new(decoder))
        }
    };
    Ok((decoder, compression))
}

fn check_blob(promised: Promised, actual: Digest, size: u64) -> Result<(), LayerError> {
    if let Some(promised) = promised.size.filter(|promised| *promised != size) {
        return Err(LayerError::BlobSize { promised, actual: size });
    }
    match promised.blob.filter(|promised| *promised != actual) {
        Some(promised) => Err(LayerError::BlobDigest { promised, actual }),
        None => Ok(()),
    }
}

fn read_failed(error: io::Error) -> LayerError {
    LayerError::Extract(Box::new(error))
}

#[derive(Default)]
struct Counts {
    blob: Cell<u64>,
}

/// The blob as a buffered reader, hashed and counted as it passes.
struct BlobReader<'a> {
    chunks: Box<dyn Chunks + 'a>,
    chunk: Bytes,
    hasher: Hasher,
    read: u64,
    promised: Option<u64>,
    counts: Rc<Counts>,
    /// After a failure the count and the hash lack something, and prove nothing any more.
    failed: bool,
}

impl<'a> BlobReader<'a> {
    fn new(chunks: Box<dyn Chunks + 'a>, promised: Option<u64>, counts: Rc<Counts>) -> Self {
        BlobReader { chunks, chunk: Bytes::new(), hasher: Hasher::new(), read: 0, promised, counts, failed: false }
    }

    fn more(&mut self) -> io::Result<Bytes> {
        let more = self.counted();
        self.failed |= more.is_err();
        more
    }

    fn counted(&mut self) -> io::Result<Bytes> {
        let chunk = self.chunks.next()?;
        self.hasher.update(&chunk);
        self.read += chunk.len() as u64;
        self.counts.blob.set(self.read);
        match self.promised {
            Some(promised) if self.read > promised => {
                Err(io::Error::other(format!("the blob goes on after the {promised} bytes it should have")))
            }
            Some(_) | None => Ok(chunk),
        }
    }

    /// Enough of the start to know its compression.
    fn peek(&mut self) -> io::Result<&[u8]> {
        while self.chunk.len() < 4 {
            let next = self.more()?;
            if next.is_empty() {
                break;
            }
            let mut joined = BytesMut::from(&self.chunk[..]);
            joined.extend_from_slice(&next);
            self.chunk = joined.freeze();
        }
        Ok(&self.chunk)
    }

    fn drain(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("the blob could not be read to its end"));
        }
        self.chunk = Bytes::new();
        while !self.more()?.is_empty() {}
        Ok(())
    }
}

impl BufRead for BlobReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.is_empty() {
            self.chunk = self.more()?;
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, amount: usize) {
        bytes::Buf::advance(&mut self.chunk, amount);
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(into.len());
        into[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

enum Decoder<'a> {
    None(Box<BlobReader<'a>>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BlobReader<'a>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BlobReader<'a>>>),
}

impl<'a> Decoder<'a> {
    fn into_blob(self) -> BlobReader<'a> {
        match self {
            Decoder::None(blob) => *blob,
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.finish(),
        }
    }
}

/// The decompressed layer, hashed, and stopped when it grows out of all proportion.
struct DiffReader<'a> {
    decoder: Decoder<'a>,
    /// None where the blob is not compressed, for then both digests are the same.
    hasher: Option<Hasher>,
    counts: Rc<Counts>,
    out: u64,
}

impl Read for DiffReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Decoders give a little at a time; a full buffer makes hashing and writing cheaper.
        let mut filled = 0;
        while filled < into.len() {
            let rest = &mut into[filled..];
            let read = match &mut self.decoder {
                Decoder::None(blob) => blob.read(rest)?,
                Decoder::Gzip(decoder) => decoder.read(rest)?,
                Decoder::Zstd(decoder) => decoder.read(rest)?,
            };
            if read == 0 {
                break;
            }
            filled += read;
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&into[..filled]);
        }
        self.out += filled as u64;
        check_growth(self.out, self.counts.blob.get())?;
        Ok(filled)
    }
}

fn check_growth(out: u64, blob: u64) -> io::Result<()> {
    if out > MAX_LAYER_BYTES {
        return Err(io::Error::other(format!(
            "the layer is larger than {MAX_LAYER_BYTES} bytes, which is this host's limit"
        )));
    }
    if out > RATIO_FREE_BYTES && out / MAX_COMPRESSION_RATIO > blob {
        return Err(io::Error::other(format!(
            "the layer grows more than {MAX_COMPRESSION_RATIO} times when decompressed"
        )));
    }
    Ok(())
}

/// A file's content in large pieces.
pub(crate) struct FileChunks<R> {
    file: R,
    buffer: BytesMut,
    left: u64,
}

impl<R: Read> FileChunks<R> {
    pub(crate) fn new(file: R, length: u64) -> Self {
        FileChunks { file, buffer: BytesMut::new(), left: length }
    }
}

impl<R: Read> Chunks for FileChunks<R> {
    fn next(&mut self) -> io::Result<Bytes> {
        let length = usize::try_from(self.left.min(BUFFER_BYTES as u64)).expect("no more than a buffer");
        self.buffer.resize(length, 0);
        let mut read = 0;
        while read < length {
            match self.file.read(&mut self.buffer[read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.truncate(read);
        self.left -= read as u64;
        Ok(self.buffer.split().freeze())
    }
}

/// Reads a file from a position of its own, so that several threads may read it at once.
pub(crate) struct At {
    pub(crate) file: std::fs::File,
    pub(crate) offset: u64,
}

impl Read for At {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = std::os::unix::fs::FileExt::read_at(&self.file, into, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
