//! The collection of garbage: marks from names, leases and running tasks, and sweeps the rest. Nothing is counted.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Error, io};
use crate::ingest::{self, Ingest, Partial};
use crate::lease;
use crate::lock;
use crate::reference::Reference;
use crate::store::{Layer, Store};

/// The paths of layers, as `Image` gave them, that running tasks use.
pub type InUse = Result<Vec<PathBuf>, Box<dyn std::error::Error + Send + Sync>>;

/// What was freed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    pub layers: Vec<Digest>,
    pub blobs: Vec<Digest>,
    /// Files' logical sizes, blobs and unfinished downloads.
    pub bytes: u64,
}

impl Store {
    /// Takes the name away, and then everything that only this name kept. `in_use` as in `gc`.
    pub fn remove(&self, reference: &Reference, in_use: impl FnOnce() -> InUse) -> Result<Freed, Error> {
        if !self.forget(reference)? {
            return Err(Error::NotFound { reference: Box::new(reference.clone()) });
        }
        self.gc(in_use)
    }

    /// Removes layers and blobs that no name, no living pull or import and none of `in_use` needs, and downloads that
    /// nobody goes on with. `in_use` is asked when the leases are known and no new one can be had: a task that has
    /// let its lease go is written down by then.
    pub fn gc(&self, in_use: impl FnOnce() -> InUse) -> Result<Freed, Error> {
        let mut freed = Freed::default();
        let exclusive = lock::exclusive(self)?;
        let mut used = lease::leased(self)?;
        used.extend(in_use().map_err(Error::InUse)?.iter().filter_map(|path| diff_id_of(path)));
        for record in self.records()? {
            used.extend([record.digest, record.config_digest]);
            used.extend(record.index_digest);
            used.extend(record.layers.iter().flat_map(|layer| [layer.diff_id, layer.blob]));
        }
        let dead = self.sweep_layers(&mut used, &mut freed)?;
        self.sweep_blobs(&used, &mut freed)?;
        drop(exclusive);
        // Out of sight already, so this may take its time.
        drop(dead);
        freed.bytes += ingest::clean(self, Partial::Remove)?;
        Ok(freed)
    }

    /// Moves unused layers aside; dropping what is returned deletes them.
    fn sweep_layers(&self, used: &mut HashSet<Digest>, freed: &mut Freed) -> Result<Vec<Ingest>, Error> {
        let dir = self.dir.join("layers");
        let mut dead = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(io("list", &dir))? {
            let path = entry.map_err(io("list", &dir))?.path();
            let digest = path.file_name().and_then(|name| Digest::from_hex(name.to_str()?));
            let layer = std::fs::read(path.join("layer.json"))
                .ok()
                .and_then(|json| serde_json::from_slice::<Layer>(&json).ok());
            if let Some(digest) = digest
                && used.contains(&digest)
            {
                // The blob it was unpacked from stays with it, so that it can be exported.
                used.extend(layer.map(|layer| layer.blob));
                continue;
            }
            let aside = Ingest::anonymous(self)?;
            std::fs::rename(&path, aside.tree()).map_err(io("remove", &path))?;
            freed.bytes += layer.map_or(0, |layer| layer.size_bytes);
            freed.layers.extend(digest);
            dead.push(aside);
        }
        Ok(dead)
    }

    fn sweep_blobs(&self, used: &HashSet<Digest>, freed: &mut Freed) -> Result<(), Error> {
        let dir = self.dir.join("blobs/sha256");
        for entry in std::fs::read_dir(&dir).map_err(io("list", &dir))? {
            let entry = entry.map_err(io("list", &dir))?;
            let digest = entry.file_name().to_str().and_then(Digest::from_hex);
            if digest.is_some_and(|digest| used.contains(&digest)) {
                continue;
            }
            let path = entry.path();
            freed.bytes += entry.metadata().map_err(io("look at", &path))?.len();
            std::fs::remove_file(&path).map_err(io("remove", &path))?;
            freed.blobs.extend(digest);
        }
        Ok(())
    }
}

/// However the path to the store is spelt: `…/layers/<hex>/fs`. To keep a layer too many does no harm.
fn diff_id_of(layer: &Path) -> Option<Digest> {
    layer.iter().rev().find_map(|part| Digest::from_hex(part.to_str()?))
}
