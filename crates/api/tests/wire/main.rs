//! The wire: requests and signatures as clients make them, against the crate's outside.

mod requests;
mod signatures;
mod signer;
