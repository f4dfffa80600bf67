//! The resolver on sockets of the loopback, with name servers that do as they are told.

mod forwarding;
mod own_names;
mod scene;
mod upstream;
