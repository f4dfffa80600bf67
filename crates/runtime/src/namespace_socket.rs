//! A connection that begins inside a container's network namespace, for `coracle port-forward`: it reaches what
//! listens on the container's own loopback, in every network mode.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use agent_protocol::ProcessIdentity;
use nix::sched::{CloneFlags, setns};

use crate::process_identity;

/// A loopback answers at once, or its listener's queue is full.
const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// Connects to the port on the loopback, 127.0.0.1 or else ::1, of the network namespace of exactly this process.
/// Takes a thread for as long as it lasts: a namespace is entered by a thread, and ours is not to be left there.
///
/// # Errors
/// The process has ended (`NotFound`), or nobody listens there.
pub fn connect(process: &ProcessIdentity, port: u16) -> io::Result<TcpStream> {
    let namespace = File::open(format!("/proc/{}/ns/net", process.pid));
    if process_identity::open(process)?.is_none() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the container has ended"));
    }
    let namespace = namespace?;
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            let timeout = Duration::from_millis(CONNECT_TIMEOUT_MS);
            let v4 = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), timeout);
            // The first answer is the better one: most containers have no IPv6 at all.
            v4.or_else(|error| {
                TcpStream::connect_timeout(&SocketAddr::from((Ipv6Addr::LOCALHOST, port)), timeout).map_err(|_| error)
            })
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the connecting thread panicked")))
    })
}
