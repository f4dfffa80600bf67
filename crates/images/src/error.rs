//! What goes wrong with images on this host, as opposed to with a registry.

use std::io;
use std::path::PathBuf;

use crate::document::DocumentError;
use crate::layer::LayerError;
use crate::reference::{NotAReference, Reference};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the image store's file {} is damaged; remove it and pull or import the image again", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("image {reference} is not in the store; `coracle image ls` lists what is, `coracle image pull` fetches it")]
    NotFound { reference: Box<Reference> },
    #[error("{what} cannot be used")]
    Document {
        what: String,
        #[source]
        source: DocumentError,
    },
    #[error("layer {layer} cannot be used")]
    Layer {
        layer: String,
        #[source]
        source: LayerError,
    },
    #[error("{what}")]
    Archive { what: String },
    #[error("the archive cannot be read")]
    ArchiveRead {
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the archive names an image wrongly")]
    Name(#[source] NotAReference),
    #[error("it is not known which layers are in use, so nothing was removed")]
    InUse(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("blob {digest} of {reference} is not in the store any more; remove the image and pull it again")]
    BlobGone { reference: Box<Reference>, digest: crate::Digest },
}

/// For `map_err` on system calls: what was being done, and to which path.
pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Error {
    let path = path.into();
    move |source| Error::Io { doing, path, source: source.into() }
}
