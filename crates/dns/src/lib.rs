//! What a resolver decides: which names are a host's own and what they mean, what is cached and for how long, and how
//! an answer from elsewhere is passed on. Bytes in, bytes out. Pure: sockets and the clock are `host-services`'.
//!
//! A query is read by `query`, looked for in `zone`, then in `cache`; else `forward` says what to ask a name server and
//! what its reply is worth. All of them end in an `Answer`, which is written for the one who asked: its id, its spelling
//! of the name, its limit of length.
//!
//! `simple-dns` writes our own records. What passes through is walked over by `wire` and otherwise left as it came: the
//! crate refuses whole messages with a type that it does not know (TLSA, SSHFP, URI, …) or with the reserved bit set,
//! and what a resolver passes on is none of its business.

mod answer;
pub mod cache;
pub mod forward;
pub mod kind;
mod query;
mod wire;
pub mod zone;

pub use answer::{Answer, MAX_TTL_S};
pub use cache::Cache;
pub use query::{Edns, MAX_QUERY, MAX_UDP_PAYLOAD, Query, Rejection, Transport};
pub use zone::Zone;
