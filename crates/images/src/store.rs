//! The images of this host on disk.
//!
//! ```text
//! lock                     shared by whoever adds, exclusive for the collection of garbage; both only for moments
//! blobs/sha256/<hex>       content by digest
//! layers/<diff id>/fs      an unpacked layer, shared by all images that have it
//! layers/<diff id>/layer.json
//! refs/<hash of name>      one JSON record for each name: all that `find` needs
//! ingest/                  work in hand; what no living process holds locked there is rubbish, or a download to resume
//! leases/                  what living processes use that no record names yet
//! ```
//! A file or directory appears under its final name only complete, checked and durable.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::document::Config;
use crate::error::{Error, io};
use crate::ingest;
use crate::lock;
use crate::reference::Reference;

const RECORD_FORMAT: u32 = 1;
/// A record is a configuration and some digests; the configuration came from a document of at most 4 MiB.
const MAX_RECORD_BYTES: u64 = 16 * 1024 * 1024;

/// Cheap to clone; any number of them, in any number of processes, may work on one directory.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) dir: Arc<Path>,
}

/// One name and the image behind it, complete, verified and unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub reference: Reference,
    /// Of the image's own manifest.
    pub digest: Digest,
    /// Of the index that the name stands for, where there is one.
    pub index_digest: Option<Digest>,
    pub config_digest: Digest,
    pub config: Config,
    /// RFC 3339, as the image says.
    pub created: Option<String>,
    /// Unpacked layers, lowest first.
    pub layers: Vec<PathBuf>,
    pub layer_digests: Vec<Layer>,
    /// Sum of the logical sizes of all files in all layers.
    pub size_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub diff_id: Digest,
    pub blob: Digest,
    pub blob_bytes: u64,
    pub media_type: String,
    /// Sum of the logical sizes of its files.
    pub size_bytes: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    pub(crate) reference: Reference,
    pub(crate) digest: Digest,
    pub(crate) index_digest: Option<Digest>,
    pub(crate) config_digest: Digest,
    pub(crate) config: Config,
    pub(crate) created: Option<String>,
    pub(crate) layers: Vec<Layer>,
}

impl Store {
    /// Makes what is missing (mode 0700) and clears away what a killed process left.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let store = Store { dir: dir.into() };
        if !store.dir.join("leases").is_dir() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            for part in ["blobs/sha256", "layers", "refs", "ingest", "leases"] {
                let path = store.dir.join(part);
                builder.create(&path).map_err(io("make", path))?;
            }
        }
        ingest::clean(&store, ingest::Partial::Keep)?;
        Ok(store)
    }

    pub(crate) fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(diff_id.hex())
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    fn record_path(&self, reference: &Reference) -> PathBuf {
        self.dir.join("refs").join(Digest::of(reference.key().to_string().as_bytes()).hex())
    }

    /// The image of that name, if it can run right now. Reads one small file and looks at the layers' directories;
    /// never the network.
    pub fn find(&self, reference: &Reference) -> Result<Option<Image>, Error> {
        if let Some(record) = self.read_record(&self.record_path(reference))? {
            return Ok(self.image(record));
        }
        // The same content under another name of the same repository, or of any: a digest is a digest.
        let Some(digest) = reference.digest() else { return Ok(None) };
        for record in self.records()? {
            if record.digest == *digest || record.index_digest == Some(*digest) {
                return Ok(self.image(Record { reference: reference.clone(), ..record }));
            }
        }
        Ok(None)
    }

    /// Every image, by name.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let mut images: Vec<Image> = self.records()?.into_iter().filter_map(|record| self.image(record)).collect();
        images.sort_unstable_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// As `find`, but the manifest and the configuration as they were fetched, too.
    pub fn inspect(&self, reference: &Reference) -> Result<Inspected, Error> {
        let image = self.find(reference)?.ok_or_else(|| Error::NotFound { reference: Box::new(reference.clone()) })?;
        let document = |digest: Digest| -> Result<serde_json::Value, Error> {
            let bytes = self.read_blob(&image.reference, &digest)?;
            serde_json::from_slice(&bytes).map_err(|source| Error::Record { path: self.blob_path(&digest), source })
        };
        Ok(Inspected { manifest: document(image.digest)?, config: document(image.config_digest)?, image })
    }

    pub(crate) fn read_blob(&self, reference: &Reference, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.blob_path(digest);
        match std::fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(bytes),
            Ok(_) => Err(Error::BlobGone { reference: Box::new(reference.clone()), digest: *digest }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::BlobGone { reference: Box::new(reference.clone()), digest: *digest })
            }
            Err(error) => Err(io("read", path)(error)),
        }
    }

    /// What is known of an unpacked layer; `None` where it is not there.
    pub(crate) fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>, Error> {
        let path = self.layer_dir(diff_id).join("layer.json");
        match std::fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|source| Error::Record { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("read", path)(error)),
        }
    }

    pub(crate) fn records(&self) -> Result<Vec<Record>, Error> {
        let dir = self.dir.join("refs");
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(io("list", &dir))? {
            let path = entry.map_err(io("list", &dir))?.path();
            records.extend(self.read_record(&path)?);
        }
        Ok(records)
    }

    fn read_record(&self, path: &Path) -> Result<Option<Record>, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("read", path)(error)),
        };
        let record: Record =
            serde_json::from_slice(&bytes).map_err(|source| Error::Record { path: path.to_owned(), source })?;
        // A store that a later version wrote: the image is pulled or imported again rather than misread.
        Ok((record.format == RECORD_FORMAT).then_some(record))
    }

    /// `None` when a layer is gone, so that whoever asks pulls the image again.
    fn image(&self, record: Record) -> Option<Image> {
        let layers: Vec<PathBuf> =
            record.layers.iter().map(|layer| self.layer_dir(&layer.diff_id).join("fs")).collect();
        layers.iter().all(|layer| layer.is_dir()).then(|| Image {
            reference: record.reference,
            digest: record.digest,
            index_digest: record.index_digest,
            config_digest: record.config_digest,
            config: record.config,
            created: record.created,
            layers,
            size_bytes: record.layers.iter().map(|layer| layer.size_bytes).sum(),
            layer_digests: record.layers,
        })
    }

    /// Names an image whose layers and documents are already in place.
    pub(crate) fn name(&self, image: NewImage) -> Result<Image, Error> {
        let record = Record {
            format: RECORD_FORMAT,
            reference: image.reference,
            digest: image.digest,
            index_digest: image.index_digest,
            config_digest: image.config_digest,
            config: image.config,
            created: image.created,
            layers: image.layers,
        };
        let json = serde_json::to_vec(&record).expect("a record is strings, numbers and lists");
        if json.len() as u64 > MAX_RECORD_BYTES {
            return Err(Error::Archive {
                what: format!("the configuration of {} is too large to keep", record.reference),
            });
        }
        let _shared = lock::shared(self)?;
        let path = self.record_path(&record.reference);
        self.write_file(&path, &json)?;
        let reference = record.reference.clone();
        self.image(record).ok_or_else(|| Error::NotFound { reference: Box::new(reference) })
    }

    /// A small file, whole and durable or not there at all.
    pub(crate) fn write_file(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let temporary = lock::Locked::unique(self, "ingest", "tmp")?;
        let from = temporary.path.clone();
        let mut file: &File = &temporary.file;
        file.write_all(content).map_err(io("write", &from))?;
        file.sync_all().map_err(io("make durable", &from))?;
        std::fs::rename(&from, path).map_err(io("put in place", path))?;
        let dir = path.parent().expect("every file of the store is in a directory");
        sync_dir(dir)
    }

    pub(crate) fn put_document(&self, content: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(content);
        let path = self.blob_path(&digest);
        // What is there under the right name and length may still be damaged, and rewriting a few kilobytes is cheap.
        self.write_file(&path, content)?;
        Ok(digest)
    }

    pub(crate) fn forget(&self, reference: &Reference) -> Result<bool, Error> {
        let path = self.record_path(reference);
        match std::fs::remove_file(&path) {
            Ok(()) => sync_dir(&self.dir.join("refs")).map(|()| true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io("remove", path)(error)),
        }
    }
}

/// What `name` needs.
pub(crate) struct NewImage {
    pub(crate) reference: Reference,
    pub(crate) digest: Digest,
    pub(crate) index_digest: Option<Digest>,
    pub(crate) config_digest: Digest,
    pub(crate) config: Config,
    pub(crate) created: Option<String>,
    pub(crate) layers: Vec<Layer>,
}

/// An image with its documents.
#[derive(Clone, Debug)]
pub struct Inspected {
    pub image: Image,
    pub manifest: serde_json::Value,
    pub config: serde_json::Value,
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("make durable", dir))
}
