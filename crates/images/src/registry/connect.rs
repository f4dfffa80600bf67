//! Connections: name resolution that leaves link-local addresses out, proxies of the environment, TLS.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tower_service::Service;

use super::endpoint::is_forbidden;
use crate::pull::{Deadlines, PullError};

pub(super) type Client = hyper_util::client::legacy::Client<HttpsConnector<Connector>, Full<Bytes>>;

/// An HTTP/2 stream's and a connection's receive windows: with the default of 64 KiB a fast network idles.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

pub(super) fn client(certificates: Option<&Path>, deadlines: &Deadlines) -> Result<Client, PullError> {
    let mut http = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(deadlines.connect));
    let connector = Connector { http, proxies: Arc::new(Matcher::from_env()) };
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls(certificates)?)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(connector);
    Ok(hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .build(connector))
}

/// The system's roots, Mozilla's for hosts that have none, and what lies in the registry's own folder.
fn tls(certificates: Option<&Path>) -> Result<rustls::ClientConfig, PullError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for path in certificates.map(certificate_files).transpose()?.unwrap_or_default() {
        let wrong = |why: String| PullError::Credentials { path: path.clone(), why };
        for certificate in CertificateDer::pem_file_iter(&path).map_err(|error| wrong(error.to_string()))? {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// `*.crt`, as Docker's certs.d has them.
fn certificate_files(dir: &Path) -> Result<Vec<std::path::PathBuf>, PullError> {
    let wrong = |error: io::Error| PullError::Credentials { path: dir.to_owned(), why: error.to_string() };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The client's error without its own words, which say only that there is one: its cause stands for it.
#[derive(Debug)]
pub(super) struct Broken(pub(super) hyper_util::client::legacy::Error);

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(cause) => fmt::Display::fmt(cause, out),
            None => fmt::Display::fmt(&self.0, out),
        }
    }
}

impl StdError for Broken {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()?.source()
    }
}

/// No connection, or one that broke, with a hint where the cause has a known cure.
pub(super) fn unreachable(host: String, error: impl StdError + Send + Sync + 'static) -> PullError {
    let mut hint = "";
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(each) = cause {
        let text = each.to_string();
        if text.contains("NotValidYet") || text.contains("not valid yet") {
            hint = "; its certificate is not valid yet, so check this host's clock";
        } else if text.contains("UnknownIssuer") {
            hint = "; its certificate is signed by nobody known here: lay its CA's certificate out as <certificates>/<host>/ca.crt";
        } else if text.contains("InvalidContentType") || text.contains("corrupt message") {
            hint = "; it does not speak TLS: name it as insecure if plain HTTP is meant";
        }
        cause = each.source();
    }
    PullError::Unreachable { host, hint, source: Box::new(error) }
}

/// Plain TCP, or a tunnel through the proxy that the environment names for https addresses.
#[derive(Clone)]
pub(super) struct Connector {
    http: HttpConnector<Resolver>,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let proxy = self.proxies.intercept(&to).filter(|_| to.scheme_str() == Some("https"));
        let Some(proxy) = proxy else {
            let connecting = self.http.call(to);
            return Box::pin(async move { connecting.await.map_err(Into::into) });
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.http.clone());
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        Box::pin(async move { tunnel.call(to).await.map_err(Into::into) })
    }
}

/// The system's resolver without the addresses where no registry is.
#[derive(Clone)]
pub(super) struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let shown = name.as_str().to_owned();
        let resolving = self.0.call(name);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = resolving.await?.filter(|address| !is_forbidden(address.ip())).collect();
            if addresses.is_empty() {
                return Err(io::Error::other(format!("{shown} has no address where a registry could be")));
            }
            Ok(addresses.into_iter())
        })
    }
}
