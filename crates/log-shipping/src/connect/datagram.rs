//! Datagrams, over UDP or a local socket. What is sent may still be lost; a service that is down shows, at best, in the
//! error that its host's kernel sends back.

use std::io;
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;

use super::ANSWER_TIMEOUT;
use crate::options::Address;

pub(super) enum Datagrams {
    Udp(UdpSocket),
    Local(UnixDatagram),
}

impl Datagrams {
    pub(super) fn connect(address: &Address) -> io::Result<Datagrams> {
        match address {
            Address::Udp { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                for place in (host.as_str(), *port).to_socket_addrs()? {
                    let own = if place.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    match UdpSocket::bind(own).and_then(|socket| socket.connect(place).map(|()| socket)) {
                        Ok(socket) => return Ok(Datagrams::Udp(socket)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Address::UnixDatagram(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                Ok(Datagrams::Local(socket))
            }
            Address::Tcp { .. } | Address::Tls { .. } | Address::Unix(_) | Address::UnixOfContainer(_) => {
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    pub(super) fn send(&self, datagrams: &[Vec<u8>]) -> io::Result<()> {
        for datagram in datagrams {
            match self {
                Datagrams::Udp(socket) => {
                    socket.send(datagram)?;
                    // A port on this host where nobody listens has answered by now.
                    if let Some(error) = socket.take_error()? {
                        return Err(error);
                    }
                }
                Datagrams::Local(socket) => drop(socket.send(datagram)?),
            }
        }
        Ok(())
    }
}
