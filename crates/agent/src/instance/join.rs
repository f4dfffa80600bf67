//! Joining a control plane on another host: a key made here, a certificate for it in exchange for a single-use token, and
//! from then on connections in both of whose directions the other side is known.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ecs::ContainerInstanceId;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::disk::{self, Disk, DiskError, Durability, Identity};

/// As `server::http` has them.
const UPGRADE_TO: &str = "coracle-agent";
const INSTANCE_HEADER: &str = "x-coracle-container-instance";
/// Of a certificate and its authority's.
const ANSWER_BYTES: usize = 64 << 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The key, in PKCS #8, and the certificates; beside `instance.json`.
const CREDENTIAL: &str = "credential.json";

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("{} cannot be used", path.display())]
    Authority {
        path: PathBuf,
        #[source]
        cause: rustls::pki_types::pem::Error,
    },
    #[error("a key cannot be made")]
    Key,
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    #[error("the certificate that came is none")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    #[error("cannot reach the control plane at {server}")]
    Connect {
        server: String,
        #[source]
        cause: io::Error,
    },
    #[error("the control plane's answer is not understood")]
    Answer(#[source] io::Error),
    #[error("the control plane refused: {0}")]
    Refused(String),
    #[error("this host has not joined {server}: a token is needed (coracle serve's host makes one)")]
    NoToken { server: String },
}

/// Where the control plane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Server {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => write!(out, "[{address}]:{}", self.port),
            _ => write!(out, "{}:{}", self.host, self.port),
        }
    }
}

/// What this host shows to its control plane.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credential {
    server: String,
    instance: ContainerInstanceId,
    /// PKCS #8, in base64.
    key: String,
    certificate: String,
    certificate_authority: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ask<'a> {
    token: &'a str,
    public_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Joined {
    container_instance: ContainerInstanceId,
    certificate: String,
    certificate_authority: String,
}

/// One end of a connection that carries frames.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<Stream: AsyncRead + AsyncWrite + Unpin + Send> Duplex for Stream {}

/// Dials with this host's own certificate.
#[derive(Clone)]
pub struct Dial {
    server: Server,
    instance: ContainerInstanceId,
    tls: TlsConnector,
}

/// The credential that is kept, or a new one in exchange for `token`.
///
/// # Errors
/// There is neither, or nobody gives one.
pub async fn dial(
    data: &Path,
    server: Server,
    token: Option<&str>,
    authority: Option<&Path>,
) -> Result<Dial, JoinError> {
    let disk = Disk::open(data)?;
    let path = disk.agent().join(CREDENTIAL);
    let kept: Option<Credential> = disk::read(&path)?;
    let credential = match (kept.filter(|kept| kept.server == server.to_string()), token, authority) {
        (Some(kept), _, _) => kept,
        (None, Some(token), Some(authority)) => {
            let joined = join(&server, token, authority).await?;
            let bytes = serde_json::to_vec(&joined).expect("plain data");
            disk::write(&path, &bytes, Durability::Disk)?;
            joined
        }
        (None, _, _) => return Err(JoinError::NoToken { server: server.to_string() }),
    };
    let instance = credential.instance.clone();
    // The id that the certificate is of, whoever this host was before.
    let same = disk.identity()?.is_some_and(|known| known.instance == instance);
    if !same {
        disk.write_identity(&Identity { instance: instance.clone(), cluster: String::new() })?;
    }
    Ok(Dial { tls: TlsConnector::from(Arc::new(own_config(&credential)?)), server, instance })
}

impl Dial {
    pub async fn connect(&self) -> io::Result<Box<dyn Duplex>> {
        let stream = secured(&self.server, &self.tls).await?;
        upgraded(stream, &self.server.to_string(), Some(&self.instance)).await
    }
}

/// A session with a control plane of this very host, whose socket only root can open.
pub async fn connect_here(socket: &Path) -> io::Result<Box<dyn Duplex>> {
    let stream = UnixStream::connect(socket).await?;
    upgraded(stream, "localhost", None).await
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(authority: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in authority {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn own_config(credential: &Credential) -> Result<ClientConfig, JoinError> {
    let pem = |text: &str| {
        let each = CertificateDer::pem_slice_iter(text.as_bytes());
        each.collect::<Result<Vec<_>, _>>().map_err(JoinError::Certificate)
    };
    let key = STANDARD.decode(&credential.key).map_err(|_| JoinError::Key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let roots = roots(pem(&credential.certificate_authority)?).map_err(JoinError::Tls)?;
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = config.map_err(JoinError::Tls)?.with_root_certificates(roots);
    let mut config = config.with_client_auth_cert(pem(&credential.certificate)?, key).map_err(JoinError::Tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn join(server: &Server, token: &str, authority: &Path) -> Result<Credential, JoinError> {
    let unusable = |cause| JoinError::Authority { path: authority.to_owned(), cause };
    let trusted = CertificateDer::pem_file_iter(authority).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let roots = roots(trusted.map_err(unusable)?).map_err(JoinError::Tls)?;
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let mut config = config.map_err(JoinError::Tls)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(|_| JoinError::Key)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random);
    let public_key = STANDARD.encode(pair.map_err(|_| JoinError::Key)?.public_key().as_ref());
    let body = serde_json::to_vec(&Ask { token, public_key }).expect("plain data");
    let connect = |cause| JoinError::Connect { server: server.to_string(), cause };
    let stream = secured(server, &connector).await.map_err(connect)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri("/agent/join")
        .header(HOST, server.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| JoinError::Answer(io::Error::other(error)))?;
    let response = asked(stream, request).await.map_err(JoinError::Answer)?;
    let status = response.status();
    let body = body_of(response).await.map_err(JoinError::Answer)?;
    if status != StatusCode::OK {
        return Err(JoinError::Refused(refusal(status, &body)));
    }
    let joined: Joined = serde_json::from_slice(&body).map_err(|error| JoinError::Answer(error.into()))?;
    Ok(Credential {
        server: server.to_string(),
        instance: joined.container_instance,
        key: STANDARD.encode(key.as_ref()),
        certificate: joined.certificate,
        certificate_authority: joined.certificate_authority,
    })
}

async fn secured(server: &Server, connector: &TlsConnector) -> io::Result<impl Duplex + use<>> {
    let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
    let connecting = async {
        let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        // Without it a session works as well, only slower.
        stream.set_nodelay(true).ok();
        connector.connect(name, stream).await
    };
    tokio::time::timeout(CONNECT_LIMIT, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn asked(stream: impl Duplex + 'static, request: Request<Full<Bytes>>) -> io::Result<Response<Incoming>> {
    let asking = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // It ends with the response's body, or with the upgrade.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(io::Error::other)
    };
    tokio::time::timeout(ANSWER_LIMIT, asking).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn body_of(response: Response<Incoming>) -> io::Result<Bytes> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES);
    let reading = tokio::time::timeout(ANSWER_LIMIT, body.collect());
    let collected = reading.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    collected.map(http_body_util::Collected::to_bytes).map_err(io::Error::other)
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = said.and_then(|said| said["message"].as_str().map(str::to_owned));
    message.unwrap_or_else(|| status.to_string())
}

async fn upgraded(
    stream: impl Duplex + 'static,
    host: &str,
    instance: Option<&ContainerInstanceId>,
) -> io::Result<Box<dyn Duplex>> {
    let mut request =
        Request::builder().uri("/agent").header(HOST, host).header(CONNECTION, "upgrade").header(UPGRADE, UPGRADE_TO);
    if let Some(instance) = instance {
        request = request.header(INSTANCE_HEADER, instance.as_str());
    }
    let request = request.body(Full::default()).map_err(io::Error::other)?;
    let mut response = asked(stream, request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = body_of(response).await?;
        return Err(io::Error::other(refusal(status, &body)));
    }
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(io::Error::other)?;
    Ok(Box::new(TokioIo::new(upgraded)))
}
