//! Asks 169.254.170.2 again and again, as containers do: a name of the resolver, and the container's own metadata.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use crate::load::say;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
/// How long one answer is waited for before the question is asked anew, as clients do.
const WAIT: Duration = Duration::from_millis(200);
const TRIES: u32 = 200;

/// One round after the other until it is killed: `round N`, or why there is none.
pub(crate) fn ask_on(name: &str) -> i32 {
    let Ok(metadata) = std::env::var("ECS_CONTAINER_METADATA_URI_V4") else {
        say(&["no ECS_CONTAINER_METADATA_URI_V4"]);
        return 1;
    };
    let path = metadata.trim_start_matches(&format!("http://{ADDRESS}")).to_owned();
    for round in 1_u16.. {
        let asked = again_and_again(|| resolve(name, round)).and_then(|()| again_and_again(|| get(&path)));
        if let Err(error) = asked {
            say(&["no answer:", &error.to_string()]);
            return 1;
        }
        say(&["round", &round.to_string()]);
    }
    0
}

/// Until it is killed: a new name and a word without meaning to the resolver, and connections that say nothing to both
/// services, as many at a time as the limit of open files allows. Says once that it is well under way.
pub(crate) fn flood() -> i32 {
    const AT_A_TIME: usize = 500;
    const WELL_UNDER_WAY: u32 = 5000;
    let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else { return 1 };
    let mut held = std::collections::VecDeque::new();
    for round in 0_u32.. {
        let name = format!("n{round}.example");
        // What does not fit is lost.
        let _ = socket.send_to(&query(&name, round as u16), SocketAddrV4::new(ADDRESS, 53));
        let _ = socket.send_to(&round.to_be_bytes(), SocketAddrV4::new(ADDRESS, 53));
        if round % 8 == 0 {
            let port = if round % 16 == 0 { 80 } else { 53 };
            held.extend(TcpStream::connect_timeout(&SocketAddrV4::new(ADDRESS, port).into(), WAIT / 20));
            if held.len() > AT_A_TIME {
                held.pop_front();
            }
        }
        if round == WELL_UNDER_WAY {
            say(&["flooding"]);
        }
    }
    0
}

fn again_and_again(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut last = io::Error::other("never tried");
    for _ in 0..TRIES {
        match attempt() {
            Ok(()) => return Ok(()),
            // At once: a client would wait as well.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => std::thread::sleep(WAIT / 10),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// For A records (RFC 1035, 4.1).
fn query(name: &str, id: u16) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// A query which must have an answer.
fn resolve(name: &str, id: u16) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.send_to(&query(name, id), SocketAddrV4::new(ADDRESS, 53))?;
    let mut reply = [0; 512];
    let (length, from) = socket.recv_from(&mut reply)?;
    let reply = &reply[..length];
    let answers = reply.get(6..8).map(|count| u16::from_be_bytes([count[0], count[1]]));
    if !reply.starts_with(&id.to_be_bytes()) || answers.is_none_or(|count| count == 0) {
        let text = format!("{name} is not known: {reply:?} from {from}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(())
}

fn get(path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddrV4::new(ADDRESS, 80).into(), WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {ADDRESS}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    // Too many requests is an answer too, for somebody who asks as fast as this.
    let later = answer.is_empty() || answer.starts_with("HTTP/1.1 429 ");
    let kind = if later { io::ErrorKind::ConnectionReset } else { io::ErrorKind::InvalidData };
    Err(io::Error::new(kind, answer))
}
