//! The API at a URL: TCP or TLS, each request signed.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::environment::sigv4::{self, Credentials};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tokio_rustls::TlsConnector;

use super::http::Exchange;
use super::{Duplex, Stream};
use crate::clock;
use crate::failure::{BAD_INPUT, Explain, Failure};
use crate::serve::REGION;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
const SERVICE: &str = "ecs";

#[derive(Debug)]
pub(super) struct Web {
    url: Url,
    credentials: Credentials,
    region: String,
    certificates: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Url {
    tls: bool,
    /// As the Host header has it.
    authority: String,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

impl Web {
    pub(super) fn new(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Web, Failure> {
        let url = Url::read(url).ok_or_else(|| {
            Failure::new(format!("{url:?} is no URL of an API"))
                .exit(BAD_INPUT)
                .next("one such as https://192.0.2.10:4870, without a path")
        })?;
        let key = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
        let (access_key_id, secret_access_key) = key.ok_or_else(|| {
            Failure::new("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")
                .exit(BAD_INPUT)
                .next("the lines that `coracle credentials` prints on the host of the API")
        })?;
        let session_token = variable("AWS_SESSION_TOKEN");
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        Ok(Web {
            url,
            credentials: Credentials { access_key_id, secret_access_key, session_token },
            region: region.unwrap_or_else(|| REGION.to_owned()),
            certificates: variable("AWS_CA_BUNDLE").map(PathBuf::from).into_iter().collect(),
        })
    }

    pub(super) fn send(
        &self,
        exchange: &Exchange<'_>,
        patience: Option<Duration>,
    ) -> Result<Box<dyn Stream + Send>, Failure> {
        let doing = || format!("reaching {}", self.url.authority);
        let tcp = self.connect().doing(doing()).next("start it there with: sudo coracle serve --listen ADDR:PORT")?;
        tcp.set_nodelay(true).doing(doing())?;
        tcp.set_read_timeout(patience).doing(doing())?;
        let mut stream: Box<dyn Stream + Send> =
            if self.url.tls { self.tls(tcp).doing(doing())? } else { Box::new(tcp) };
        let request = exchange.bytes(&self.url.authority, &self.signed(exchange));
        stream.write_all(&request).and_then(|()| stream.flush()).doing(doing())?;
        Ok(stream)
    }

    pub(super) async fn duplex(&self) -> Result<(Box<dyn Duplex>, String), Failure> {
        let doing = || format!("reaching {}", self.url.authority);
        let tcp = self.connect().doing(doing())?;
        tcp.set_nodelay(true).doing(doing())?;
        tcp.set_nonblocking(true).doing(doing())?;
        let tcp = tokio::net::TcpStream::from_std(tcp).doing(doing())?;
        let host = self.url.authority.clone();
        if !self.url.tls {
            return Ok((Box::new(tcp), host));
        }
        let config = images::https::tls(&self.certificates)?;
        let name = ServerName::try_from(self.url.host.clone())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.doing(doing())?;
        Ok((Box::new(stream), host))
    }

    /// The first address that takes a connection.
    fn connect(&self) -> std::io::Result<TcpStream> {
        let mut failed = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for address in (self.url.host.as_str(), self.url.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn tls(&self, mut tcp: TcpStream) -> Result<Box<dyn Stream + Send>, Failure> {
        let config = images::https::tls(&self.certificates)?;
        let name = ServerName::try_from(self.url.host.clone())?;
        let mut connection = ClientConnection::new(Arc::new(config), name)?;
        // Now rather than with the first byte, so that its failure is told as what it is.
        while connection.is_handshaking() {
            connection
                .complete_io(&mut tcp)
                .doing("TLS")
                .next("AWS_CA_BUNDLE=FILE, with the certificate that `coracle serve` names at its start")?;
        }
        Ok(Box::new(StreamOwned::new(connection, tcp)))
    }

    fn signed(&self, exchange: &Exchange<'_>) -> Vec<(&'static str, String)> {
        let date = sigv4::date(clock::now());
        let hash = sigv4::body_sha256(exchange.body);
        let mut added = vec![("x-amz-content-sha256", hash.clone()), ("x-amz-date", date.clone())];
        added.extend(self.credentials.session_token.clone().map(|token| ("x-amz-security-token", token)));
        let mut headers: Vec<(&str, &str)> = vec![("host", &self.url.authority)];
        headers.extend(exchange.headers);
        headers.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
        headers.sort_unstable();
        let request = sigv4::Request {
            method: exchange.method,
            path: exchange.path,
            headers: &headers,
            date: &date,
            region: &self.region,
            service: SERVICE,
            body_sha256: &hash,
        };
        let authorization = sigv4::authorization(&request, &self.credentials);
        added.push(("authorization", authorization));
        added
    }
}

impl Url {
    fn read(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if !authority.bytes().all(plain) {
            return None;
        }
        let default = if tls { HTTPS_PORT } else { HTTP_PORT };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, if port.is_empty() { default } else { port.strip_prefix(':')?.parse().ok()? })
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (authority, default),
            },
        };
        let (authority, host) = (authority.to_owned(), host.to_owned());
        (!host.is_empty()).then_some(Url { tls, authority, host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_hosts_and_ports() {
        for (text, tls, host, port) in [
            ("http://127.0.0.1:4870", false, "127.0.0.1", 4870),
            ("https://ecs.example/", true, "ecs.example", 443),
            ("http://[::1]:80", false, "::1", 80),
            ("https://[fd00::2]", true, "fd00::2", 443),
        ] {
            let url = Url::read(text).expect(text);
            assert_eq!((url.tls, url.host.as_str(), url.port), (tls, host, port), "{text}");
        }
        let bad = ["", "127.0.0.1:4870", "ftp://a", "http://", "http://a/b", "http://a:b", "http://a b", "http://[::1"];
        for bad in bad.into_iter().chain(["http://:1", "http://a\r\nx: y"]) {
            assert_eq!(Url::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_missing_key_is_named() {
        let failure = Web::new("http://127.0.0.1:1", |_| None).expect_err("no key");
        assert!(failure.chain[0].contains("AWS_SECRET_ACCESS_KEY"), "{failure}");
    }
}
