//! AWS's wire protocol as functions from bytes to bytes: a request's head and body become an operation of Amazon ECS with
//! its caller, a reply or an error becomes a response. Signatures are verified here.
//!
//! This crate knows the operations and nothing of what they do. It never reads a clock, a file or a socket, never keeps a
//! secret beyond the call, and never panics on what a client sends: sockets, time-outs and the reading of a body up to
//! [`body_limit`] are the server's.

mod call;
mod decode;
mod encode;
mod json;
pub mod limits;
mod refusal;
pub mod sigv4;

pub use call::{Auth, Call, Caller};
pub use decode::{body_limit, decode};
pub use encode::{encode, refuse};
pub use refusal::Refusal;
pub use sigv4::{Key, Secret};
