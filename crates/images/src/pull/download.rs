//! One layer: its blob comes over the network on this side, and a thread unpacks it on the other.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::{Pull, PullError, Wanted, in_background};
use crate::error::{Error, io as failed};
use crate::ingest::{Ingest, Keep, Staged};
use crate::layer::{self, At, Chunks, FileChunks, LayerError, Promised, Unpacked};
use crate::limits::{MAX_ATTEMPTS, MAX_STALLS, MAX_WAITING_CHUNKS, MIN_BYTES_PER_SECOND};
use crate::store::Store;

pub(super) enum Outcome {
    Staged(Staged),
    /// Another process or task has it in hand.
    Busy(Wanted),
}

pub(super) async fn fetch_layer(work: &Arc<Pull>, layer: Wanted) -> Result<Outcome, PullError> {
    let store = work.store.clone();
    let digest = layer.descriptor.digest;
    let started = in_background(move || start(&store, digest)).await?;
    let Some(mut ingest) = started else { return Ok(Outcome::Busy(layer)) };
    loop {
        let mut have = ingest.have()?;
        if have > layer.descriptor.size {
            ingest.restart()?;
            have = 0;
        }
        let attempt;
        (ingest, attempt) = fetch(work, &layer, ingest, have).await;
        let failure = match attempt {
            Ok(unpacked) => return Ok(Outcome::Staged(Staged { ingest, unpacked })),
            Err(failure) => failure,
        };
        match failure {
            Failure::Download(error) => return Err(error),
            Failure::Store(error) => return Err(error.into()),
            Failure::Layer(error) => {
                // Bytes that gave a wrong layer are of no use to anybody.
                ingest.restart()?;
                // Those of an earlier attempt may have been damaged at rest; what has just come is the registry's own.
                if have > 0 && error.is_damage() {
                    work.progress.restarted(&digest);
                    continue;
                }
                return Err(refusal(&layer, error));
            }
        }
    }
}

fn refusal(layer: &Wanted, error: LayerError) -> PullError {
    if error.is_hosts() {
        return PullError::Store(Error::Layer { layer: layer.descriptor.digest.to_string(), source: error });
    }
    let what = format!("layer {}", layer.descriptor.digest);
    let why = match &error {
        LayerError::BlobDigest { .. } | LayerError::BlobSize { .. } => {
            "the registry sent something else than the manifest promises"
        }
        LayerError::DiffId { .. } => "its content is not what the image's configuration promises",
        LayerError::Extract(_) => "it cannot be unpacked",
    };
    PullError::Corrupt { what, why: why.to_owned(), source: Some(Box::new(error)) }
}

/// Locks the download. A blob whose layer is gone from the store is taken up as a complete download.
fn start(store: &Store, digest: crate::Digest) -> Result<Option<Ingest>, Error> {
    let partial = store.dir.join("ingest").join(digest.hex());
    let blob = store.blob_path(&digest);
    match rustix::fs::renameat_with(rustix::fs::CWD, &blob, rustix::fs::CWD, &partial, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::NOENT | Errno::EXIST | Errno::INVAL | Errno::NOSYS) => {}
        Err(error) => return Err(failed("take up", blob)(error)),
    }
    Ingest::try_start(store, &digest.hex())
}

enum Failure {
    Download(PullError),
    Layer(LayerError),
    Store(Error),
}

/// The first `have` bytes are from the file, the rest from the network.
async fn fetch(work: &Arc<Pull>, layer: &Wanted, ingest: Ingest, have: u64) -> (Ingest, Result<Unpacked, Failure>) {
    let (pieces, incoming) = mpsc::channel(MAX_WAITING_CHUNKS);
    let size = layer.descriptor.size;
    let promised = Promised { blob: Some(layer.descriptor.digest), size: Some(size), diff_id: Some(layer.diff_id) };
    let unpacking = tokio::task::spawn_blocking(move || {
        let result = unpack(&ingest, incoming, have, size, promised);
        (ingest, result)
    });
    work.progress.bytes(&layer.descriptor.digest, have);
    let downloaded = Download { work, layer, at: have, pieces }.run().await;
    let (ingest, unpacked) = match unpacking.await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    // A download that broke off is why the unpacker failed, not the other way round.
    let result = match (downloaded, unpacked) {
        (Ok(()), unpacked) => unpacked,
        (Err(error), _) => Err(Failure::Download(error)),
    };
    (ingest, result)
}

fn unpack(
    ingest: &Ingest,
    incoming: mpsc::Receiver<Bytes>,
    have: u64,
    size: u64,
    promised: Promised,
) -> Result<Unpacked, Failure> {
    let blob = ingest.blob();
    let open = || -> Result<(File, File), Error> {
        let clone = || blob.file.try_clone().map_err(failed("open", &blob.path));
        Ok((clone()?, clone()?))
    };
    let (old, new) = open().map_err(Failure::Store)?;
    let root = ingest.new_tree().map_err(Failure::Store)?;
    let chunks = Resumed {
        old: Some(FileChunks::new(At { file: old, offset: 0 }, have)),
        new: Keep { chunks: FromNetwork { pieces: incoming, left: size - have }, file: new, at: have },
    };
    layer::unpack(Box::new(chunks), root, promised).map_err(Failure::Layer)
}

struct Resumed {
    old: Option<FileChunks<At>>,
    new: Keep<FromNetwork>,
}

impl Chunks for Resumed {
    fn next(&mut self) -> io::Result<Bytes> {
        if let Some(old) = &mut self.old {
            let chunk = old.next()?;
            if !chunk.is_empty() {
                return Ok(chunk);
            }
            self.old = None;
        }
        self.new.next()
    }
}

struct FromNetwork {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
}

impl Chunks for FromNetwork {
    fn next(&mut self) -> io::Result<Bytes> {
        match self.pieces.blocking_recv() {
            Some(piece) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Ok(piece)
            }
            None if self.left == 0 => Ok(Bytes::new()),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the download broke off")),
        }
    }
}

/// Requests until every byte has come, each going on where the last broke off.
struct Download<'a> {
    work: &'a Pull,
    layer: &'a Wanted,
    at: u64,
    pieces: mpsc::Sender<Bytes>,
}

impl Download<'_> {
    async fn run(mut self) -> Result<(), PullError> {
        let (mut fruitless, mut stalls) = (0, 0);
        for _ in 0..MAX_ATTEMPTS {
            if self.at >= self.layer.descriptor.size {
                return Ok(());
            }
            let before = self.at;
            let (error, may_help) = match self.attempt().await {
                Ok(Attempt::UnpackerStopped) => return Ok(()),
                Ok(Attempt::BodyEnded) if self.at >= self.layer.descriptor.size => return Ok(()),
                // An end that came too early may be a connection that broke.
                Ok(Attempt::BodyEnded) => (self.too_short(), true),
                Err(error @ PullError::Stalled { .. }) => {
                    stalls += 1;
                    (error, stalls < MAX_STALLS)
                }
                Err(error) => {
                    let may_help = error.is_transient();
                    (error, may_help)
                }
            };
            fruitless = if self.at > before { 1 } else { fruitless + 1 };
            if !may_help || fruitless >= error.max_attempts() {
                return Err(error);
            }
            tokio::time::sleep(self.work.registry.pause(fruitless, &error)).await;
        }
        Err(self.too_short())
    }

    fn too_short(&self) -> PullError {
        PullError::Corrupt {
            what: format!("layer {}", self.layer.descriptor.digest),
            why: format!(
                "the registry sends {} of the {} bytes that the manifest promises",
                self.at, self.layer.descriptor.size
            ),
            source: None,
        }
    }

    async fn attempt(&mut self) -> Result<Attempt, PullError> {
        let stream = self.work.registry.blob(&self.layer.descriptor.digest, self.at).await?;
        // A registry that starts earlier than asked repeats what is known; its digest is checked with the rest.
        let mut repeated = self.at - stream.from;
        let mut body = stream.body;
        let mut speed = Speed::new(self.work.deadlines.speed_window);
        loop {
            let waiting = Instant::now();
            let frame = match tokio::time::timeout(self.work.deadlines.stall, body.frame()).await {
                Ok(None) => return Ok(Attempt::BodyEnded),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    let host = self.work.registry.host().to_owned();
                    return Err(PullError::Unreachable { host, hint: "", source: Box::new(error) });
                }
                Err(_) => return Err(self.stalled("no byte came", self.work.deadlines.stall)),
            };
            let Ok(mut data) = frame.into_data() else { continue };
            if speed.is_too_slow(waiting.elapsed(), data.len() as u64) {
                return Err(self.stalled("hardly a byte came", self.work.deadlines.speed_window));
            }
            let skipped = repeated.min(data.len() as u64);
            repeated -= skipped;
            bytes::Buf::advance(&mut data, usize::try_from(skipped).expect("no longer than the data"));
            if data.is_empty() {
                continue;
            }
            self.at += data.len() as u64;
            self.work.progress.bytes(&self.layer.descriptor.digest, data.len() as u64);
            if self.pieces.send(data).await.is_err() {
                return Ok(Attempt::UnpackerStopped);
            }
        }
    }

    fn stalled(&self, what: &str, after: Duration) -> PullError {
        PullError::Stalled {
            host: self.work.registry.host().to_owned(),
            what: what.to_owned(),
            seconds: after.as_secs(),
        }
    }
}

enum Attempt {
    BodyEnded,
    /// It has an error to tell, or enough.
    UnpackerStopped,
}

/// Counts only the time spent waiting for the network, not for the unpacker.
struct Speed {
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Speed {
    fn new(window: Duration) -> Self {
        Speed { window, waited: Duration::ZERO, bytes: 0 }
    }

    fn is_too_slow(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.window {
            return false;
        }
        let least = self.waited.as_secs_f64() * MIN_BYTES_PER_SECOND as f64;
        let slow = (self.bytes as f64) < least;
        *self = Speed::new(self.window);
        slow
    }
}
