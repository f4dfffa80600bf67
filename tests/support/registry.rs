//! A small OCI registry on a pretend host's loopback that serves images from memory: honestly, or with one fault a
//! repository (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md>).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Host;
use super::image::Blobs;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Layers are answered with other bytes of the same length.
    LayerBytes,
    /// The manifest asked for by digest is another one.
    ManifestBytes,
    /// Half a layer, then the connection is closed, every time.
    ShortLayer,
    /// Half a layer the first time; ranges are honoured after that.
    CutOnce,
    /// The head of a layer and nothing more, the connection open.
    StalledLayer,
    /// The request is taken and never answered.
    Silent,
    /// Blobs are elsewhere: a redirect to this address.
    Redirect(String),
    /// A blob redirects to itself.
    RedirectLoop,
    /// Every answer asks for authentication.
    Unauthorized,
    /// A manifest without an end.
    EndlessManifest,
    /// A layer longer than its descriptor says.
    LongLayer,
    /// 500 to everything.
    Broken,
    /// Anonymous requests are sent for a token to this registry's /token, which wants this user.
    Token(&'static str, &'static str),
    /// Basic authentication.
    Basic(&'static str, &'static str),
    /// The token is to be fetched at this address: somebody else's.
    ForeignRealm(String),
}

/// One repository: every tag is the same image.
#[derive(Clone)]
pub(crate) struct Repository {
    pub(crate) name: String,
    pub(crate) blobs: Blobs,
    pub(crate) fault: Fault,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
}

struct Shelf {
    repositories: Vec<Repository>,
    requests: Mutex<Vec<Request>>,
    address: SocketAddr,
}

pub(crate) struct Registry {
    shelf: Arc<Shelf>,
}

const TOKEN: &str = "a-token-of-the-tests";
/// Longer than any deadline of the program under test; the threads end with the test executable.
const FOR_EVER: Duration = Duration::from_secs(3600);

impl Registry {
    /// Listens on the loopback of `host`.
    pub(crate) fn start(host: &Host, repositories: Vec<Repository>) -> Self {
        Self::start_at(host, Ipv4Addr::LOCALHOST, repositories)
    }

    pub(crate) fn start_at(host: &Host, address: Ipv4Addr, repositories: Vec<Repository>) -> Self {
        let listener = host.namespace.enter(|| TcpListener::bind((address, 0))).expect("the address is the host's");
        let address = listener.local_addr().expect("it is bound");
        let shelf = Arc::new(Shelf { repositories, requests: Mutex::default(), address });
        let serving = Arc::downgrade(&shelf);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(shelf) = serving.upgrade().filter(|shelf| !shelf.closed()) else { return };
                std::thread::spawn(move || {
                    // A client that goes away in the middle is part of the tests.
                    let _ = shelf.serve(stream);
                });
            }
        });
        Self { shelf }
    }

    /// `127.0.0.1:PORT/NAME`.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.shelf.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.shelf.address
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shelf.requests.lock().expect("no request panics").clone()
    }

    /// Stops listening, so that the audit finds no socket.
    pub(crate) fn stop(self, host: &Host) {
        let address = self.shelf.address;
        self.shelf.requests.lock().expect("no request panics").push(Request::closing());
        host.namespace.enter(|| drop(TcpStream::connect(address)));
    }
}

impl Request {
    fn closing() -> Self {
        Self { method: "CLOSE".into(), path: String::new(), authorization: None, range: None }
    }

    fn read(stream: &TcpStream) -> std::io::Result<Option<Self>> {
        let mut lines = BufReader::new(stream.try_clone()?.take(1 << 16)).lines();
        let Some(first) = lines.next().transpose()? else { return Ok(None) };
        let mut words = first.split(' ').map(str::to_owned);
        let mut request = Self {
            method: words.next().unwrap_or_default(),
            path: words.next().unwrap_or_default(),
            authorization: None,
            range: None,
        };
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => request.authorization = Some(value.trim().to_owned()),
                "range" => request.range = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        Ok(Some(request))
    }
}

fn head(status: &str, headers: &[(&str, String)]) -> String {
    let mut text = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n"
}

fn answer(mut to: &TcpStream, status: &str, headers: &[(&str, String)], body: &[u8]) -> std::io::Result<()> {
    let mut headers = headers.to_vec();
    headers.push(("content-length", body.len().to_string()));
    to.write_all(head(status, &headers).as_bytes())?;
    to.write_all(body)
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let word = u32::from_be_bytes([0, group[0], *group.get(1).unwrap_or(&0), *group.get(2).unwrap_or(&0)]);
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63] as char;
            out.push(if place > group.len() { '=' } else { digit });
        }
    }
    out
}

impl Shelf {
    fn closed(&self) -> bool {
        self.requests.lock().is_ok_and(|requests| requests.last().is_some_and(|last| last.method == "CLOSE"))
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let Some(request) = Request::read(&stream)? else { return Ok(()) };
        self.requests.lock().expect("no request panics").push(request.clone());
        if request.path.starts_with("/token") {
            return self.token(&stream, &request);
        }
        let path = request.path.trim_start_matches("/v2/");
        // The name has slashes of its own; what is asked for starts at the last word but one.
        let Some((rest, last)) = path.rsplit_once('/') else {
            return answer(&stream, "200 OK", &[], b"{}");
        };
        let Some((name, kind)) = rest.rsplit_once('/') else {
            return answer(&stream, "404 Not Found", &[], b"{}");
        };
        let Some(repository) = self.repositories.iter().find(|repository| repository.name == name) else {
            let body = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
            return answer(&stream, "404 Not Found", &[("content-type", "application/json".into())], body);
        };
        if let Some(challenge) = self.challenge(repository, &request) {
            let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
            return answer(&stream, "401 Unauthorized", &[("www-authenticate", challenge)], body);
        }
        match (&repository.fault, kind) {
            (Fault::Broken, _) => answer(&stream, "500 Internal Server Error", &[], b"oh dear"),
            (Fault::Silent, _) => wait_for_hang_up(stream),
            (_, "manifests") => manifest(&stream, &request, repository, last),
            (_, "blobs") => self.blob(stream, &request, repository, last),
            _ => answer(&stream, "404 Not Found", &[], b"{}"),
        }
    }

    /// What an unauthenticated request is told, where the repository wants authentication.
    fn challenge(&self, repository: &Repository, request: &Request) -> Option<String> {
        let realm = |address: &str| {
            format!(
                "Bearer realm=\"http://{address}/token\",service=\"tests\",scope=\"repository:{}:pull\"",
                repository.name
            )
        };
        let given = request.authorization.as_deref();
        match &repository.fault {
            Fault::Unauthorized => Some(realm(&self.address.to_string())),
            Fault::ForeignRealm(address) => Some(realm(address)),
            Fault::Token(..) if given != Some(&format!("Bearer {TOKEN}")) => Some(realm(&self.address.to_string())),
            Fault::Basic(user, password)
                if given != Some(&format!("Basic {}", base64(&format!("{user}:{password}")))) =>
            {
                Some("Basic realm=\"tests\"".to_owned())
            }
            _ => None,
        }
    }

    fn token(&self, stream: &TcpStream, request: &Request) -> std::io::Result<()> {
        let wanted = self.repositories.iter().find_map(|repository| match &repository.fault {
            Fault::Token(user, password) => Some(format!("Basic {}", base64(&format!("{user}:{password}")))),
            _ => None,
        });
        if wanted.is_some() && wanted != request.authorization {
            return answer(stream, "401 Unauthorized", &[], b"{}");
        }
        let body = format!(r#"{{"token":"{TOKEN}","expires_in":300}}"#);
        answer(stream, "200 OK", &[("content-type", "application/json".into())], body.as_bytes())
    }

    fn blob(&self, stream: TcpStream, request: &Request, repository: &Repository, digest: &str) -> std::io::Result<()> {
        let Some(blob) = repository.blobs.blobs.get(digest) else {
            let body = br#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
            return answer(&stream, "404 Not Found", &[], body);
        };
        let is_layer = repository.blobs.layer_digests.iter().any(|layer| layer == digest);
        if !is_layer {
            return answer(&stream, "200 OK", &[], blob);
        }
        let whole = [("content-length", blob.len().to_string()), ("accept-ranges", "bytes".to_owned())];
        match &repository.fault {
            Fault::LayerBytes => {
                let other: Vec<u8> = blob.iter().rev().copied().collect();
                answer(&stream, "200 OK", &[], &other)
            }
            Fault::ShortLayer => half(&stream, blob, &whole),
            Fault::CutOnce => match range_start(request) {
                Some(start) if start < blob.len() => {
                    let range = format!("bytes {start}-{}/{}", blob.len() - 1, blob.len());
                    answer(&stream, "206 Partial Content", &[("content-range", range)], &blob[start..])
                }
                Some(_) | None if self.asked_before(&request.path) => answer(&stream, "200 OK", &[], blob),
                Some(_) | None => half(&stream, blob, &whole),
            },
            Fault::StalledLayer => {
                (&stream).write_all(head("200 OK", &whole).as_bytes())?;
                (&stream).write_all(&blob[..16])?;
                wait_for_hang_up(stream)
            }
            Fault::Redirect(address) => {
                answer(&stream, "307 Temporary Redirect", &[("location", address.clone())], b"")
            }
            Fault::RedirectLoop => {
                let location = ("location", request.path.clone());
                answer(&stream, "307 Temporary Redirect", &[location], b"")
            }
            Fault::LongLayer => {
                let longer = [blob.as_slice(), &[0u8; 4096]].concat();
                answer(&stream, "200 OK", &[], &longer)
            }
            _ => answer(&stream, "200 OK", &[], blob),
        }
    }

    fn asked_before(&self, path: &str) -> bool {
        let requests = self.requests.lock().expect("no request panics");
        requests.iter().filter(|request| request.path == path).count() > 1
    }
}

fn range_start(request: &Request) -> Option<usize> {
    request.range.as_deref()?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
}

fn half(mut stream: &TcpStream, blob: &[u8], headers: &[(&str, String)]) -> std::io::Result<()> {
    stream.write_all(head("200 OK", headers).as_bytes())?;
    stream.write_all(&blob[..blob.len() / 2])
}

fn manifest(stream: &TcpStream, request: &Request, repository: &Repository, reference: &str) -> std::io::Result<()> {
    let mut body = repository.blobs.manifest.clone();
    if reference.starts_with("sha256:") && reference != repository.blobs.manifest_digest {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        return answer(stream, "404 Not Found", &[], body);
    }
    let mut headers = vec![
        ("content-type", "application/vnd.oci.image.manifest.v1+json".to_owned()),
        ("docker-content-digest", repository.blobs.manifest_digest.clone()),
    ];
    match repository.fault {
        Fault::ManifestBytes => body.extend_from_slice(b"\n"),
        Fault::EndlessManifest => {
            (&*stream).write_all(head("200 OK", &headers).as_bytes())?;
            loop {
                (&*stream).write_all(&[b' '; 1 << 16])?;
            }
        }
        _ => {}
    }
    if request.method == "HEAD" {
        headers.push(("content-length", body.len().to_string()));
        return (&*stream).write_all(head("200 OK", &headers).as_bytes());
    }
    answer(stream, "200 OK", &headers, &body)
}

/// Keeps the connection open, silent, until the other side closes it.
fn wait_for_hang_up(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(FOR_EVER))?;
    let mut byte = [0u8; 1];
    while stream.read(&mut byte)? > 0 {}
    Ok(())
}
