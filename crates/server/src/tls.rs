//! The control plane's certificate authority: its own certificate, those of container instances, and the server's side of
//! TLS. Certificates have no end that a host with a wrong clock could reach; what ends an instance's right is that it is
//! deregistered.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecs::ContainerInstanceId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::files;

/// In the state directory.
pub const DIRECTORY: &str = "tls";
pub const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
const AUTHORITY_NAME: &str = "coracle";
/// Below it each container instance has its name.
const INSTANCE_DOMAIN: &str = "container-instance.coracle";
/// The uncompressed point of a P-256 key (SEC 1, 2.3.3).
const PUBLIC_KEY_BYTES: usize = 65;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("a certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    #[error("{} cannot be used", path.display())]
    Pem {
        path: PathBuf,
        #[source]
        cause: rustls::pki_types::pem::Error,
    },
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("TLS cannot ask instances for certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("the public key is no uncompressed point of P-256")]
    PublicKey,
}

pub struct Authority {
    /// Where clients find what to trust.
    pub path: PathBuf,
    pub certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and key that somebody else has made.
#[derive(Clone, Debug)]
pub struct Given {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn find_or_make(state_directory: &Path) -> Result<Authority, Error> {
        let directory = state_directory.join(DIRECTORY);
        let (path, key_path) = (directory.join(CERTIFICATE), directory.join(KEY));
        let found = (files::read(&key_path)?, files::read(&path)?);
        if let (Some(key), Some(certificate)) = found {
            let key = KeyPair::from_pem(&String::from_utf8_lossy(&key))?;
            let certificate_pem = String::from_utf8_lossy(&certificate).into_owned();
            return Ok(Authority { path, certificate_pem, issuer: Issuer::new(authority_params(), key) });
        }
        files::make_directory(&directory)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate_pem = authority_params().self_signed(&key)?.pem();
        files::write(&key_path, key.serialize_pem().as_bytes())?;
        files::write(&path, certificate_pem.as_bytes())?;
        Ok(Authority { path, certificate_pem, issuer: Issuer::new(authority_params(), key) })
    }

    /// For a container instance that made `public_key` and keeps the other half.
    pub fn certify(&self, instance: &ContainerInstanceId, public_key: &[u8]) -> Result<String, Error> {
        if public_key.len() != PUBLIC_KEY_BYTES || public_key[0] != 4 {
            return Err(Error::PublicKey);
        }
        let mut params = leaf_params(instance.as_str());
        params.subject_alt_names = vec![SanType::DnsName(instance_name(instance).try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&Point(public_key), &self.issuer)?.pem())
    }

    /// `names` are what clients may call this host.
    pub fn server(&self, names: &[String], given: Option<&Given>) -> Result<ServerConfig, Error> {
        let (chain, key) = match given {
            Some(given) => (certificates(&given.certificate)?, private_key(&given.key)?),
            None => self.own_certificate(names)?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()?)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn certificate(&self) -> Result<CertificateDer<'static>, Error> {
        CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())
            .map_err(|cause| Error::Pem { path: self.path.clone(), cause })
    }

    /// Made anew at each start: addresses come and go, and nobody but the authority is remembered.
    fn own_certificate(
        &self,
        names: &[String],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = leaf_params("coracle serve");
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((vec![certificate.der().clone(), self.certificate()?], PrivateKeyDer::Pkcs8(key)))
    }
}

/// Whether a certificate, which TLS has found to be of our authority, is this instance's.
pub fn is_of(certificate: &CertificateDer<'_>, instance: &ContainerInstanceId) -> bool {
    let Ok(name) = ServerName::try_from(instance_name(instance)) else { return false };
    let parsed = ParsedCertificate::try_from(certificate);
    parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
}

fn instance_name(instance: &ContainerInstanceId) -> String {
    format!("{instance}.{INSTANCE_DOMAIN}")
}

/// The same each time, so that the key alone says who the issuer is.
fn authority_params() -> CertificateParams {
    let mut params = leaf_params(AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = false;
    params
}

fn leaf_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    params.distinguished_name = distinguished;
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(2099, 12, 31);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

struct Point<'a>(&'a [u8]);

impl PublicKeyData for Point<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|cause| Error::Pem { path: path.to_owned(), cause })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|cause| Error::Pem { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_known_by_its_certificate() {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::find_or_make(directory.path()).expect("made");
        let again = Authority::find_or_make(directory.path()).expect("found");
        assert_eq!(authority.certificate_pem, again.certificate_pem);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let ids = [1, 2].map(|byte| ContainerInstanceId::from_bytes([byte; 16]));
        let pem = again.certify(&ids[0], key.public_key_raw()).expect("certified");
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        assert!(is_of(&certificate, &ids[0]) && !is_of(&certificate, &ids[1]));
        assert!(matches!(authority.certify(&ids[0], b"short"), Err(Error::PublicKey)));
        authority
            .server(&["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()], None)
            .expect("configured");
    }
}
