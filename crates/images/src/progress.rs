//! What a pull or an import tells while it works, so that somebody may draw it.

use crate::digest::Digest;

/// Called from several threads at once, many times a second; must not block.
pub trait Progress: Send + Sync {
    /// A layer of `size` bytes is about to be fetched or read.
    fn layer(&self, _layer: &Digest, _size: u64) {}
    /// A layer was there already.
    fn present(&self, _layer: &Digest) {}
    /// So many bytes more of it have arrived.
    fn bytes(&self, _layer: &Digest, _count: u64) {}
    /// Everything of it counts from zero again.
    fn restarted(&self, _layer: &Digest) {}
    /// It is unpacked and verified.
    fn unpacked(&self, _layer: &Digest) {}
    /// Everything is durable and named.
    fn done(&self) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
