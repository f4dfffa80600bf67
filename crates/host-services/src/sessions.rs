//! One connection to one task's supervisor, from its sockets to the task's end. What goes wrong in one is its own matter:
//! a supervisor that hangs, lies or dies holds up no other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use agent_protocol::task_spec::{Service, ServiceSocket};
use agent_protocol::{TaskSpec, TaskStatus};
use ecs::TaskId;
use ecs::task::ContainerLastStatus;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use runtime::client::{self, ClientError, Served};
use runtime::task_dir::{self, TaskDirError};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::origin::Origin;
use crate::readiness;
use crate::world::Task;

/// What a session has to tell.
#[derive(Debug)]
pub(crate) enum News {
    /// How the task stands: first when it is served, then after every change.
    Stands(Task),
    /// The last word. The next session may do better.
    Ended { task: TaskId, why: Result<(), SessionError> },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the task's supervisor")]
    Supervisor(#[source] ClientError),
    #[error("the connection to the task's supervisor cannot be waited for")]
    Wait(#[source] io::Error),
    #[error("the task's directory")]
    Spec(#[source] TaskDirError),
    #[error("there is no task in the task's directory")]
    NoSpec,
    #[error("the task's directory has another task, {found}")]
    OtherTask { found: TaskId },
    #[error("{given} service sockets were given, and the task has {wanted}")]
    Count { given: usize, wanted: usize },
    #[error("service socket {index} is no socket for {service:?}")]
    Kind { index: usize, service: Service },
    #[error("service socket {index} cannot be used")]
    Use {
        index: usize,
        #[source]
        cause: io::Error,
    },
}

/// One socket that is to be answered on, ready for it.
#[derive(Debug)]
pub(crate) struct Answerable {
    pub(crate) origin: Origin,
    pub(crate) socket: ServedSocket,
}

#[derive(Debug)]
pub(crate) enum ServedSocket {
    Http(TcpListener),
    DnsTcp(TcpListener),
    DnsUdp(UdpSocket),
}

/// A task as its directories tell it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) task: TaskId,
    pub(crate) state: PathBuf,
}

/// Serves a task until its containers have ended, and tells `news` how it stands until its supervisor has gone. `answer`
/// starts whoever answers on a socket.
pub(crate) async fn run(
    service: client::Service,
    place: Place,
    news: mpsc::Sender<News>,
    answer: impl Fn(&mut JoinSet<()>, Answerable),
) {
    let why = serve(service, &place, &news, answer).await;
    // Nobody is told where the process ends.
    let _ = news.send(News::Ended { task: place.task, why }).await;
}

async fn serve(
    service: client::Service,
    place: &Place,
    news: &mpsc::Sender<News>,
    answer: impl Fn(&mut JoinSet<()>, Answerable),
) -> Result<(), SessionError> {
    let mut service = readiness::watch(service).map_err(SessionError::Wait)?;
    let mut spec: Option<Arc<TaskSpec>> = None;
    // They end with this.
    let mut answering = JoinSet::new();
    let mut waiting: Vec<Answerable> = Vec::new();
    loop {
        let mut ready = service.readable_mut().await.map_err(SessionError::Wait)?;
        let served = match ready.get_inner_mut().0.advance() {
            Ok(Some(served)) => served,
            Ok(None) => {
                ready.clear_ready();
                continue;
            }
            Err(ClientError::Ended) => return Ok(()),
            Err(error) => return Err(SessionError::Supervisor(error)),
        };
        match served {
            Served::Sockets(sockets) => {
                let read = Arc::new(read_spec(place)?);
                waiting = answerable(&read, sockets)?;
                spec = Some(read);
            }
            Served::Status(status) => {
                // The sockets come first: `client::Service` knows no other order.
                let Some(spec) = &spec else { continue };
                let over = is_over(&status);
                let task = Task { spec: Arc::clone(spec), status: Arc::from(status) };
                if news.send(News::Stands(task)).await.is_err() {
                    return Ok(());
                }
                if over {
                    // A socket keeps its namespace, and the task's links with it.
                    waiting.clear();
                    answering.shutdown().await;
                }
                waiting.drain(..).for_each(|socket| answer(&mut answering, socket));
            }
        }
        // Whoever has ended is done with; no more than the sockets are there.
        while answering.try_join_next().is_some() {}
    }
}

fn read_spec(place: &Place) -> Result<TaskSpec, SessionError> {
    let spec = task_dir::read_spec(&place.state).map_err(SessionError::Spec)?.ok_or(SessionError::NoSpec)?;
    if spec.id == place.task { Ok(spec) } else { Err(SessionError::OtherTask { found: spec.id }) }
}

/// Nobody is left who could call.
pub(crate) fn is_over(status: &TaskStatus) -> bool {
    status.execution_stopped_at.is_some()
        && status.containers.iter().all(|container| container.last_status == ContainerLastStatus::Stopped)
}

fn answerable(spec: &TaskSpec, sockets: Vec<OwnedFd>) -> Result<Vec<Answerable>, SessionError> {
    let (given, wanted) = (sockets.len(), spec.service_sockets.len());
    if given != wanted {
        return Err(SessionError::Count { given, wanted });
    }
    let pairs = spec.service_sockets.iter().zip(sockets).enumerate();
    pairs
        .map(|(index, (wanted, socket))| {
            let socket = ready(index, wanted.service, socket)?;
            Ok(Answerable { origin: origin(spec, wanted), socket })
        })
        .collect()
}

fn origin(spec: &TaskSpec, socket: &ServiceSocket) -> Origin {
    use agent_protocol::task_spec::NetworkNamespace;
    match socket.namespace {
        NetworkNamespace::Host => Origin::Host { holder: spec.id.clone() },
        NetworkNamespace::Received { .. } => {
            let inside = spec.containers.iter().filter(|container| container.network.namespace == socket.namespace);
            let containers = inside.map(|container| container.definition.name.clone()).collect();
            Origin::Task { task: spec.id.clone(), containers }
        }
    }
}

/// A descriptor that came from elsewhere, if it is what it should be.
fn ready(index: usize, service: Service, socket: OwnedFd) -> Result<ServedSocket, SessionError> {
    let failed = |cause: io::Error| SessionError::Use { index, cause };
    let kind = match getsockopt(&socket, sockopt::SockType) {
        Ok(kind) => Some(kind),
        Err(Errno::ENOTSOCK) => None,
        Err(errno) => return Err(failed(errno.into())),
    };
    let listens = kind == Some(SockType::Stream) && getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false);
    let datagrams = kind == Some(SockType::Datagram);
    let fits = match service {
        Service::Http | Service::DnsTcp => listens,
        Service::DnsUdp => datagrams,
    };
    if !fits {
        return Err(SessionError::Kind { index, service });
    }
    fcntl(socket.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| failed(errno.into()))?;
    let listener = |socket: OwnedFd| TcpListener::from_std(socket.into()).map_err(failed);
    Ok(match service {
        Service::Http => ServedSocket::Http(listener(socket)?),
        Service::DnsTcp => ServedSocket::DnsTcp(listener(socket)?),
        Service::DnsUdp => ServedSocket::DnsUdp(UdpSocket::from_std(socket.into()).map_err(failed)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A supervisor's answer is believed in nothing.
    #[tokio::test]
    async fn what_is_no_such_socket_is_refused() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").expect("open"));
        let udp = || OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").expect("bound"));
        let tcp = || OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").expect("bound"));
        let local = || OwnedFd::from(std::os::unix::net::UnixStream::pair().expect("a pair").0);
        assert!(matches!(ready(0, Service::Http, tcp()), Ok(ServedSocket::Http(_))));
        assert!(matches!(ready(0, Service::DnsUdp, udp()), Ok(ServedSocket::DnsUdp(_))));
        for (service, socket) in [
            (Service::Http, file()),
            (Service::Http, udp()),
            (Service::DnsTcp, local()),
            (Service::DnsUdp, tcp()),
            (Service::DnsUdp, file()),
        ] {
            let refused = ready(3, service, socket).expect_err("not fit");
            assert_eq!(refused.to_string(), format!("service socket 3 is no socket for {service:?}"));
        }
    }
}
