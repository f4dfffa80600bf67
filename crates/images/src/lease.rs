//! What a living process uses and no record names yet is safe from the collection of garbage.

use std::collections::HashSet;
use std::io::Write;

use crate::digest::Digest;
use crate::error::{Error, io};
use crate::lock::{self, Locked};
use crate::store::{Image, Store};

/// Ends when dropped, or with the process.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    file: Locked,
}

impl Lease {
    pub(crate) fn new(store: &Store) -> Result<Self, Error> {
        let _shared = lock::shared(store)?;
        Ok(Lease { store: store.clone(), file: Locked::unique(store, "leases", "lease")? })
    }

    /// From here on these stay, be they there already or put in place later.
    pub(crate) fn add(&self, digests: &[Digest]) -> Result<(), Error> {
        let _shared = lock::shared(&self.store)?;
        let lines: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
        (&self.file.file).write_all(lines.as_bytes()).map_err(io("write", &self.file.path))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The lock ends anyway, and a lease without a lock is removed by the next collection.
        if let Err(error) = std::fs::remove_file(&self.file.path) {
            tracing::warn!(%error, path = %self.file.path.display(), "could not remove a lease");
        }
    }
}

impl Store {
    /// Keeps an image's layers until the lease is dropped: for the time between `find` and the task's own record.
    pub fn lease(&self, image: &Image) -> Result<Lease, Error> {
        let lease = Lease::new(self)?;
        let mut digests = vec![image.digest, image.config_digest];
        digests.extend(image.layer_digests.iter().flat_map(|layer| [layer.diff_id, layer.blob]));
        lease.add(&digests)?;
        Ok(lease)
    }
}

/// The digests under living leases; dead ones are removed. To be called under the exclusive lock.
pub(crate) fn leased(store: &Store) -> Result<HashSet<Digest>, Error> {
    let dir = store.dir.join("leases");
    let mut digests = HashSet::new();
    for entry in std::fs::read_dir(&dir).map_err(io("list", &dir))? {
        let path = entry.map_err(io("list", &dir))?.path();
        if let Some(dead) = Locked::try_at(path.clone())? {
            std::fs::remove_file(&dead.path).map_err(io("remove", &dead.path))?;
            continue;
        }
        match std::fs::read_to_string(&path) {
            Ok(lines) => digests.extend(lines.lines().filter_map(|line| line.parse::<Digest>().ok())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io("read", path)(error)),
        }
    }
    Ok(digests)
}
