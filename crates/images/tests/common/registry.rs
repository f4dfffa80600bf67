//! A registry that does what a test tells it: HTTP/1.1 on loopback, one thread a connection.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn range_from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Instead of the body's true length.
    pub(crate) claimed_length: Option<usize>,
    pub(crate) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    KeepOpen,
    /// After the body, whatever length was claimed.
    Close,
    /// Nothing more comes until the registry is dropped.
    Stall,
    /// After the body, one byte each time so many milliseconds have passed.
    Drip(u64),
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, headers: Vec::new(), body: body.into(), claimed_length: None, then: Then::KeepOpen }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Reply::new(200, body)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Claims the whole, sends only so much and closes.
    pub(crate) fn cut(mut self, at: usize) -> Self {
        self.claimed_length = Some(self.body.len());
        self.body.truncate(at);
        self.then = Then::Close;
        self
    }
}

type Answer = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

struct Shared {
    answer: Answer,
    requests: Mutex<Vec<Request>>,
    closing: AtomicBool,
    closed: (Mutex<bool>, Condvar),
}

pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Registry {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Registry::listen(None, answer)
    }

    /// With the certificate and key of `tests/tls/<name>.pem`.
    pub(crate) fn start_tls(name: &str, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let path = tls_file(&format!("{name}.pem"));
        let certificate = CertificateDer::from_pem_file(&path).unwrap();
        let key = PrivateKeyDer::from_pem_file(&path).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        Registry::listen(Some(Arc::new(config)), answer)
    }

    fn listen(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            requests: Mutex::default(),
            closing: AtomicBool::new(false),
            closed: Default::default(),
        });
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if server.closing.load(Ordering::SeqCst) {
                    return;
                }
                let server = Arc::clone(&server);
                let (stream, tls) = (stream.unwrap(), tls.clone());
                // A client that goes away in the middle is a part of the tests.
                std::thread::spawn(move || match tls {
                    None => drop(serve(&server, stream)),
                    Some(tls) => {
                        let connection = rustls::ServerConnection::new(tls).unwrap();
                        drop(serve(&server, rustls::StreamOwned::new(connection, stream)));
                    }
                });
            }
        });
        Registry { address, shared }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        *self.shared.closed.0.lock().unwrap() = true;
        self.shared.closed.1.notify_all();
        // Wakes the accepting thread so that it sees that it is over.
        drop(TcpStream::connect(self.address));
    }
}

pub(crate) fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

fn serve(shared: &Shared, stream: impl Read + Write) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        shared.requests.lock().unwrap().push(request.clone());
        let reply = (shared.answer)(&request);
        let length = reply.claimed_length.unwrap_or(reply.body.len());
        let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {length}\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let stream = reader.get_mut();
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&reply.body)?;
        stream.flush()?;
        match reply.then {
            Then::KeepOpen => {}
            Then::Close => return Ok(()),
            Then::Stall => {
                let closed = shared.closed.0.lock().unwrap();
                drop(shared.closed.1.wait_while(closed, |closed| !*closed).unwrap());
                return Ok(());
            }
            Then::Drip(milliseconds) => loop {
                let closed = shared.closed.0.lock().unwrap();
                let wait = std::time::Duration::from_millis(milliseconds);
                let (closed, _) = shared.closed.1.wait_timeout_while(closed, wait, |closed| !*closed).unwrap();
                if *closed {
                    return Ok(());
                }
                drop(closed);
                stream.write_all(b"x")?;
            },
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<impl Read>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").and_then(|length: &String| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, headers, body }))
}

/// Serves blobs by digest and manifests by tag or digest, as a well-behaved registry does.
pub(crate) struct Content {
    pub(crate) tags: HashMap<String, (Vec<u8>, &'static str)>,
    pub(crate) blobs: HashMap<String, Vec<u8>>,
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Content {
    /// One image of these layers, tagged `1`; the blobs are compressed with gzip.
    pub(crate) fn image(layers: &[&[u8]]) -> Self {
        let blobs: Vec<Vec<u8>> = layers.iter().map(|layer| super::gzip(layer)).collect();
        Content::of(&blobs, layers)
    }

    pub(crate) fn of(blobs: &[Vec<u8>], layers: &[&[u8]]) -> Self {
        let config = super::config(layers);
        let manifest = super::manifest(&config, blobs);
        let mut content = Content { tags: HashMap::new(), blobs: HashMap::new() };
        content.tag("1", manifest, MANIFEST);
        content.blobs.insert(digest(&config), config);
        for blob in blobs {
            content.blobs.insert(digest(blob), blob.clone());
        }
        content
    }

    pub(crate) fn tag(&mut self, tag: &str, manifest: Vec<u8>, kind: &'static str) {
        self.tags.insert(digest(&manifest), (manifest.clone(), kind));
        self.tags.insert(tag.to_owned(), (manifest, kind));
    }

    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let last = request.path.rsplit('/').next().unwrap_or_default();
        if request.path.contains("/manifests/") {
            return match self.tags.get(last) {
                Some((manifest, kind)) => Reply::ok(manifest.clone())
                    .with("Content-Type", *kind)
                    .with("Docker-Content-Digest", digest(manifest)),
                None => Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
            };
        }
        let Some(blob) = self.blobs.get(last) else { return Reply::new(404, "") };
        match request.range_from() {
            Some(from) if from < blob.len() => Reply::new(206, &blob[from..])
                .with("Content-Range", format!("bytes {from}-{}/{}", blob.len() - 1, blob.len())),
            Some(_) => Reply::new(416, ""),
            None => Reply::ok(blob.clone()),
        }
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", super::sha256(bytes))
}
