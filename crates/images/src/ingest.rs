//! Work in hand: a blob on its way in and the layer being unpacked from it.
//!
//! `ingest/<key>` is the blob so far, and its lock; `ingest/<key>.tree` the directory. The key of a download is its
//! digest, so that what a killed process has fetched is found again.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, io};
use crate::extract::remove;
use crate::layer::{Chunks, Compression, Unpacked};
use crate::lock::{self, Locked};
use crate::store::{Layer, Store, sync_dir};

/// Between two flushes while layers are unpacked.
const WRITEBACK_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Ingest {
    blob: Option<Locked>,
    /// A partial blob is worth keeping when it has a digest to be found by.
    keep_partial: bool,
    tree: PathBuf,
}

impl Ingest {
    /// `None` while another process or task works on the same key.
    pub(crate) fn try_start(store: &Store, key: &str) -> Result<Option<Self>, Error> {
        let locked = Locked::try_at(store.dir.join("ingest").join(key))?;
        Ok(locked.map(|blob| Ingest::on(blob, true)))
    }

    /// For content whose digest is not known yet.
    pub(crate) fn anonymous(store: &Store) -> Result<Self, Error> {
        Ok(Ingest::on(Locked::unique(store, "ingest", "tmp")?, false))
    }

    fn on(blob: Locked, keep_partial: bool) -> Self {
        let mut tree = blob.path.clone().into_os_string();
        tree.push(".tree");
        Ingest { blob: Some(blob), keep_partial, tree: tree.into() }
    }

    pub(crate) fn blob(&self) -> &Locked {
        self.blob.as_ref().expect("only commit takes it, and commit takes the whole")
    }

    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Bytes of the blob that an earlier attempt left.
    pub(crate) fn have(&self) -> Result<u64, Error> {
        let blob = self.blob();
        blob.file.metadata().map(|metadata| metadata.len()).map_err(io("look at", &blob.path))
    }

    /// Throws the partial blob away.
    pub(crate) fn restart(&self) -> Result<(), Error> {
        let blob = self.blob();
        blob.file.set_len(0).map_err(io("empty", &blob.path))
    }

    /// A new, empty directory for the layer: mode 0755 and root's, which is what a container sees as `/` where the
    /// archive says nothing.
    pub(crate) fn new_tree(&self) -> Result<OwnedFd, Error> {
        remove_path(&self.tree)?;
        std::fs::DirBuilder::new().mode(0o700).create(&self.tree).map_err(io("make", &self.tree))?;
        let fs = self.tree.join("fs");
        std::fs::create_dir(&fs).map_err(io("make", &fs))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&fs, flags, Mode::empty()).map_err(io("open", &fs))?;
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755)).map_err(io("set the mode of", &fs))?;
        Ok(opened)
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let Some(blob) = &self.blob else { return };
        let is_empty = blob.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        let tree = remove_path(&self.tree);
        let file = if self.keep_partial && !is_empty {
            Ok(())
        } else {
            std::fs::remove_file(&blob.path).map_err(io("remove", &blob.path))
        };
        for error in [tree, file].into_iter().filter_map(Result::err) {
            // The next `open` tries again.
            tracing::warn!(error = &error as &dyn std::error::Error, "could not clear away an unfinished layer");
        }
    }
}

/// A layer whose digests are checked and which only has to be put in place.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) ingest: Ingest,
    pub(crate) unpacked: Unpacked,
}

impl Staged {
    pub(crate) fn layer(&self) -> Layer {
        let suffix = match self.unpacked.compression {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        Layer {
            diff_id: self.unpacked.diff_id,
            blob: self.unpacked.blob,
            blob_bytes: self.unpacked.size,
            media_type: format!("{}{suffix}", crate::document::OCI_LAYER),
            size_bytes: self.unpacked.extracted.bytes,
        }
    }
}

/// Makes layers durable, then visible. One syncfs(2) stands for an fsync of each of their files.
pub(crate) fn commit(store: &Store, staged: Vec<Staged>) -> Result<(), Error> {
    if staged.is_empty() {
        return Ok(());
    }
    for each in &staged {
        let path = each.ingest.tree.join("layer.json");
        let json = serde_json::to_vec(&each.layer()).expect("a layer is strings and numbers");
        std::fs::write(&path, json).map_err(io("write", path))?;
    }
    let root = File::open(&store.dir).map_err(io("open", &*store.dir))?;
    rustix::fs::syncfs(&root).map_err(io("make durable", &*store.dir))?;
    let shared = lock::shared(store)?;
    for mut each in staged {
        let place = store.layer_dir(&each.unpacked.diff_id);
        match std::fs::rename(&each.ingest.tree, &place) {
            Ok(()) => {}
            // Another got there first with the same content from another blob; dropping the ingest clears ours away.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists
                ) =>
            {
                remove_path(&each.ingest.tree)?;
            }
            Err(error) => return Err(io("put in place", place)(error)),
        }
        let from = each.ingest.blob().path.clone();
        let to = store.blob_path(&each.unpacked.blob);
        std::fs::rename(&from, &to).map_err(io("put in place", to))?;
        each.ingest.blob = None;
    }
    sync_dir(&store.dir.join("layers"))?;
    sync_dir(&store.dir.join("blobs/sha256"))?;
    drop(shared);
    Ok(())
}

/// Sends what is being written to the disk while more is still coming, so that `commit` has little left to wait for.
/// Stops when dropped.
#[derive(Debug)]
pub(crate) struct Writeback {
    stop: Arc<(Mutex<bool>, Condvar)>,
}

impl Writeback {
    pub(crate) fn start(store: &Store) -> Result<Self, Error> {
        let root = File::open(&store.dir).map_err(io("open", &*store.dir))?;
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let (flag, bell) = &*stopped;
            loop {
                let waiting = flag.lock().expect("no holder panics");
                let (now, _) =
                    bell.wait_timeout_while(waiting, WRITEBACK_PAUSE, |stop| !*stop).expect("no holder panics");
                if *now {
                    return;
                }
                drop(now);
                // Only a help: whether the data are safe is `commit`'s to find out.
                if let Err(error) = rustix::fs::syncfs(&root) {
                    tracing::warn!(%error, "could not write layers back early");
                }
            }
        });
        Ok(Writeback { stop })
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        *self.stop.0.lock().expect("no holder panics") = true;
        self.stop.1.notify_all();
    }
}

/// Passes a blob on and appends it to the ingest's file on the way.
pub(crate) struct Keep<C> {
    pub(crate) chunks: C,
    pub(crate) file: File,
    pub(crate) at: u64,
}

impl<C: Chunks> Chunks for Keep<C> {
    fn next(&mut self) -> std::io::Result<Bytes> {
        let chunk = self.chunks.next()?;
        self.file.write_all_at(&chunk, self.at)?;
        self.at += chunk.len() as u64;
        Ok(chunk)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partial {
    Keep,
    Remove,
}

/// Removes what dead processes left under `ingest/`; gives the bytes of partial blobs removed.
pub(crate) fn clean(store: &Store, partial: Partial) -> Result<u64, Error> {
    let dir = store.dir.join("ingest");
    let mut freed = 0;
    for entry in std::fs::read_dir(&dir).map_err(io("list", &dir))? {
        let path = entry.map_err(io("list", &dir))?.path();
        let is_tree = path.extension().is_some_and(|extension| extension == "tree");
        let is_temporary = path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"tmp-"));
        if !is_tree && !is_temporary && partial == Partial::Keep {
            continue;
        }
        let key = if is_tree { path.with_extension("") } else { path.clone() };
        let Some(locked) = Locked::try_at(key)? else { continue };
        if is_tree {
            remove_path(&path)?;
        }
        let metadata = locked.file.metadata().map_err(io("look at", &locked.path))?;
        if metadata.len() == 0 || is_temporary || partial == Partial::Remove {
            freed += metadata.len();
            std::fs::remove_file(&locked.path).map_err(io("remove", &locked.path))?;
        }
    }
    Ok(freed)
}

pub(crate) fn remove_path(path: &Path) -> Result<(), Error> {
    let parent = path.parent().expect("what is removed lies in the store");
    let name = path.file_name().expect("what is removed has a name");
    let parent = File::open(parent).map_err(io("open", parent))?;
    remove::tree(parent.as_fd(), name.as_bytes()).map_err(io("remove", path))
}
