//! What goes over the network for one message or a batch, one file a driver. Pure: messages in, bytes out.

pub mod fluentd;
pub mod gelf;
pub mod journald;
mod msgpack;
pub mod splunk;
pub mod syslog;
