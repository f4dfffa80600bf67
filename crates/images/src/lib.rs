//! Container images on this host: names, a content-addressed store, registries, archives, and layers unpacked once.
//!
//! Nothing of an image becomes visible in the store before its digest and its layers' diff ids are checked, and a digest
//! that is present never touches the network. This crate mounts nothing and starts nothing.

mod build;
mod digest;
mod document;
mod error;
mod export;
mod extract;
mod gc;
pub mod hello;
pub mod https;
mod import;
mod ingest;
pub mod inside;
mod layer;
mod lease;
pub mod limits;
mod lock;
mod platform;
mod progress;
mod pull;
mod reference;
mod registry;
mod store;
mod tar;
pub mod tree;

pub use digest::{Digest, NotADigest};
pub use document::{Config, DocumentError};
pub use error::Error;
pub use export::{Format, export};
pub use gc::{Freed, InUse};
pub use import::{ImportOptions, Source, import};
pub use layer::LayerError;
pub use lease::Lease;
pub use platform::{NotAPlatform, Platform};
pub use progress::{Progress, Silent};
pub use pull::{Deadlines, GivenLogin, PullError, PullOptions, pull};
pub use reference::{NotAReference, Reference};
pub use store::{Image, Inspected, Layer, Store};
