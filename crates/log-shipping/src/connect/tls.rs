//! What a TLS connection to a log service trusts: the host's roots, one given authority, or, on request, anybody.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::encode::syslog::Certificates;

/// # Errors
/// A file that cannot be read or is no certificate.
pub(super) fn config(certificates: &Certificates) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = if certificates.unverified {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody { provider }))
    } else {
        builder.with_root_certificates(roots(certificates.authority.as_deref())?)
    };
    match &certificates.own {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let shown = |path: &Path, error: rustls::pki_types::pem::Error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
            };
            let chain = certificates_in(certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| shown(key, error))?;
            builder.with_client_auth_cert(chain, secret).map_err(io::Error::other)
        }
    }
}

fn roots(authority: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(path) => {
            for certificate in certificates_in(path)? {
                roots.add(certificate).map_err(io::Error::other)?;
            }
        }
        None => {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn certificates_in(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let shown = |error: rustls::pki_types::pem::Error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    CertificateDer::pem_file_iter(path).map_err(shown)?.map(|certificate| certificate.map_err(shown)).collect()
}

/// `…-insecureskipverify` and `syslog-tls-skip-verify`: the connection is encrypted, and nobody knows to whom.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
