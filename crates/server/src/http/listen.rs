//! Sockets, and what a connection may cost.

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{
    CONNECTIONS, Content, Door, FAREWELL, Front, HEAD_BYTES, STREAMS, TLS_HANDSHAKE_LIMIT, UNREAD_LIMIT, routes,
};
use crate::metrics::Gauge;

/// After an accept that failed, as it does where there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const SOCKET_MODE: u32 = 0o600;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Tcp {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error("cannot listen on {}", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

/// Sockets that clients can already connect to; who does waits for `serve`.
pub struct Listeners {
    tcp: TcpListener,
    unix: UnixListener,
    path: PathBuf,
}

/// Where they are.
#[derive(Clone, Debug)]
pub struct Bound {
    pub address: SocketAddr,
    pub socket: PathBuf,
}

impl Listeners {
    /// The caller holds the lock on the directories, so a socket file that is there is nobody's.
    pub async fn bind(address: SocketAddr, socket: &Path) -> Result<Listeners, Error> {
        let tcp = TcpListener::bind(address).await.map_err(|cause| Error::Tcp { address, cause })?;
        let failed = |cause| Error::Socket { path: socket.to_owned(), cause };
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let unix = UnixListener::bind(socket).map_err(failed)?;
        std::fs::set_permissions(socket, Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        Ok(Listeners { tcp, unix, path: socket.to_owned() })
    }

    pub fn bound(&self) -> io::Result<Bound> {
        Ok(Bound { address: self.tcp.local_addr()?, socket: self.path.clone() })
    }
}

/// Until `ending` says so and what is being answered has been.
pub async fn serve(
    front: Arc<Front>,
    listeners: Listeners,
    tls: Option<Arc<ServerConfig>>,
    mut ending: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let acceptor = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    let end = ending.clone();
    loop {
        tokio::select! {
            accepted = listeners.tcp.accept() => match accepted {
                Ok((stream, _)) => {
                    let Some(place) = place(&front, &places) else { continue };
                    connections.spawn(tcp(Arc::clone(&front), stream, acceptor.clone(), place, end.clone()));
                }
                Err(error) => pause(&error).await,
            },
            accepted = listeners.unix.accept() => match accepted {
                Ok((stream, _)) => {
                    let Some(place) = place(&front, &places) else { continue };
                    let (front, end) = (Arc::clone(&front), end.clone());
                    connections.spawn(async move {
                        let _counted = Gauge::count(&front.metrics.connections);
                        http1(&front, Box::new(stream), Door::Socket, end).await;
                        drop(place);
                    });
                }
                Err(error) => pause(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = told(&mut ending) => break,
        }
    }
    drop(listeners.tcp);
    // The file is the next server's once this one's lock is free.
    let _ = std::fs::remove_file(&listeners.path);
    let _ = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

/// That the end has come; a sender that has gone is the same.
async fn told(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

fn place(front: &Front, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let place = Arc::clone(places).try_acquire_owned().ok();
    if place.is_none() {
        front.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
    }
    place
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "a connection cannot be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn tcp(
    front: Arc<Front>,
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    _place: OwnedSemaphorePermit,
    end: watch::Receiver<bool>,
) {
    let _counted = Gauge::count(&front.metrics.connections);
    // Without either a connection works as well, only slower, or longer than its client deserves.
    let _ = stream.set_nodelay(true);
    let unread_ms = u32::try_from(UNREAD_LIMIT.as_millis()).unwrap_or(u32::MAX);
    let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &unread_ms);
    let Some(acceptor) = acceptor else {
        return http1(&front, Box::new(stream), Door::Tcp { tls: false, certificate: None }, end).await;
    };
    let Ok(Ok(stream)) = timeout(TLS_HANDSHAKE_LIMIT, acceptor.accept(stream)).await else { return };
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(<[_]>::first).map(|first| first.clone().into_owned());
    let is_h2 = session.alpn_protocol() == Some(b"h2");
    let door = Door::Tcp { tls: true, certificate };
    let stream = Box::new(stream);
    if is_h2 { http2(&front, stream, door, end).await } else { http1(&front, stream, door, end).await }
}

/// A socket with or without TLS, behind a pointer: hyper is large, and is compiled once for each type that it serves.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One protocol for each kind of connection: to find out which one a client speaks, hyper waits without a limit.
async fn http1(front: &Arc<Front>, stream: Box<dyn Stream>, door: Door, mut end: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(front.patience.head)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service_fn(|request| answer(front, &door, request)))
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        // What a client does wrong it is told, or it has gone.
        _ = &mut connection => return,
        () = told(&mut end) => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(FAREWELL, connection).await;
}

async fn http2(front: &Arc<Front>, stream: Box<dyn Stream>, door: Door, mut end: watch::Receiver<bool>) {
    let patience = front.patience.head;
    let shared = (Arc::clone(front), door);
    let service = service_fn(move |request| {
        let (front, door) = shared.clone();
        async move { answer(&front, &door, request).await }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .keep_alive_interval(patience)
        .keep_alive_timeout(patience)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        () = told(&mut end) => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(FAREWELL, connection).await;
}

async fn answer(front: &Arc<Front>, door: &Door, request: Request<Incoming>) -> Result<Response<Content>, Infallible> {
    Ok(routes::answer(front, door, request).await)
}
