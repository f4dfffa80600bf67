//! Network namespaces. One is held by a descriptor alone: when the last holder and the last process in it are gone,
//! the kernel removes it and every link in it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use ecs::ContainerName;
use nix::sched::{CloneFlags, unshare};

use crate::attach::ServiceKind;
use crate::netlink::{self, Protocol, Socket};
use crate::service_sockets::{self, ServiceError};
use crate::sysctl;

/// A new network namespace with its loopback link up, a socket that speaks for it, and its service sockets.
pub(crate) struct Namespace {
    pub(crate) descriptor: OwnedFd,
    pub(crate) socket: Socket,
    pub(crate) services: Vec<(ServiceKind, OwnedFd)>,
}

impl Namespace {
    /// A further descriptor of it.
    pub(crate) fn again(&self, container: &ContainerName) -> Result<OwnedFd, crate::error::Error> {
        self.descriptor.try_clone().map_err(|source| crate::error::Error::Namespace {
            container: container.clone(),
            source: Error::Descriptor(source),
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no further descriptor for the network namespace")]
    Descriptor(#[source] io::Error),
    #[error("cannot start a thread to make a network namespace in")]
    Thread(#[source] io::Error),
    #[error("the kernel refuses a new network namespace")]
    Unshare(#[source] io::Error),
    #[error("cannot open /proc/thread-self/ns/net")]
    Open(#[source] io::Error),
    #[error("the new network namespace cannot be told to believe no router")]
    Setting(#[source] sysctl::Error),
    #[error("no netlink socket in the new network namespace")]
    Socket(#[source] netlink::Error),
    #[error("the task's metadata cannot be reached in the new network namespace")]
    Services(#[source] ServiceError),
}

/// Begins to make `count` namespaces side by side. Each is made by a thread of its own that ends with it, so no
/// other thread is ever in the wrong one.
pub(crate) fn begin(count: usize) -> Result<Vec<thread::JoinHandle<Result<Namespace, Error>>>, Error> {
    (0..count)
        .map(|_| {
            thread::Builder::new().name("netns".into()).stack_size(THREAD_STACK).spawn(make).map_err(Error::Thread)
        })
        .collect()
}

/// Bytes; the thread makes a few dozen system calls.
const THREAD_STACK: usize = 128 * 1024;

/// Runs `work` in a new, empty network namespace on a thread of its own; the namespace ends with it.
pub(crate) fn within_new<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Unshare(errno.into()))?;
            Ok(work())
        });
        match worker.map_err(Error::Thread)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn make() -> Result<Namespace, Error> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Unshare(errno.into()))?;
    believe_no_router()?;
    let descriptor = OwnedFd::from(File::open("/proc/thread-self/ns/net").map_err(Error::Open)?);
    let mut socket = Socket::open(Protocol::Route).map_err(Error::Socket)?;
    let services = service_sockets::open(&mut socket).map_err(Error::Services)?;
    Ok(Namespace { descriptor, socket, services })
}

/// No link of a task's will take a neighbour's word for where to send its packets: it has its routes.
fn believe_no_router() -> Result<(), Error> {
    if sysctl::has_ipv6() {
        sysctl::write(&sysctl::accept_router_advertisements("default"), "0").map_err(Error::Setting)?;
    }
    Ok(())
}
