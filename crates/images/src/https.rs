//! HTTP(S) connections to elsewhere: name resolution that leaves link-local addresses out, proxies of the environment,
//! TLS. Registries are reached through this, and whatever else this host fetches for a task.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

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

use crate::registry::is_forbidden;

pub type Client = hyper_util::client::legacy::Client<HttpsConnector<Connector>, Full<Bytes>>;

/// An HTTP/2 stream's and a connection's receive windows: with the default of 64 KiB a fast network idles.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A file of certificates to trust that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificates in {} cannot be used: {why}", path.display())]
pub struct BadCertificate {
    pub path: PathBuf,
    pub why: String,
}

/// `certificates` are files in PEM whose certificates are trusted beside the host's. To be used in a tokio runtime.
pub fn client(certificates: &[PathBuf], connect_timeout: Duration) -> Result<Client, BadCertificate> {
    let mut http = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(connect_timeout));
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

/// The system's roots, Mozilla's for hosts that have none, and those given.
pub fn tls(certificates: &[PathBuf]) -> Result<rustls::ClientConfig, BadCertificate> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for path in certificates {
        add(&mut roots, path).map_err(|why| BadCertificate { path: path.clone(), why })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn add(roots: &mut rustls::RootCertStore, path: &Path) -> Result<(), String> {
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The client's error without its own words, which say only that there is one: its cause stands for it.
#[derive(Debug)]
pub struct Broken(pub hyper_util::client::legacy::Error);

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

/// Plain TCP, or a tunnel through the proxy that the environment names for https addresses.
#[derive(Clone)]
pub struct Connector {
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

/// The system's resolver without the addresses where nobody is to be asked.
#[derive(Clone)]
pub struct Resolver(GaiResolver);

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
                return Err(io::Error::other(format!("{shown} has no address that may be asked")));
            }
            Ok(addresses.into_iter())
        })
    }
}
