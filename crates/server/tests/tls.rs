//! An address of the network: TLS with the own authority, HTTP/2, and hosts that join.

mod support;
#[path = "support/agent.rs"]
mod support_agent;

use std::sync::Arc;

use agent_protocol::session::{FromInstance, MAX_FRAME_BYTES, ToInstance};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use server::frames;
use support::{Rig, response};
use support_agent::hello;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

async fn rig() -> Rig {
    Rig::with(|options| {
        options.any_key = false;
        options.listen = "0.0.0.0:0".parse().expect("an address");
    })
    .await
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

async fn connect(rig: &Rig, identity: Option<Identity>, alpn: &[u8]) -> TlsStream<TcpStream> {
    let authority = rig.options.data_directory.join("state/tls/ca.pem");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("a certificate")).expect("trusted");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).expect("an identity"),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let port = rig.address.rsplit(':').next().expect("a port");
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.expect("it listens");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("trusted")
}

async fn post(rig: &Rig, path: &str, body: &str) -> (u16, Value) {
    let mut stream = connect(rig, None, b"http/1.1").await;
    let asked = format!("POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(asked.as_bytes()).await.expect("written");
    let answer = response(&mut stream).await.expect("an answer");
    (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
}

async fn token(rig: &Rig) -> String {
    let mut stream = rig.unix().await;
    stream
        .write_all(b"POST /join-tokens?life_s=60 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await
        .expect("written");
    let answer = response(&mut stream).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert!(answer["certificateAuthority"].as_str().expect("a certificate").contains("BEGIN CERTIFICATE"));
    answer["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn http_2_is_spoken_and_signatures_are_asked_for() {
    let rig = rig().await;
    let stream = connect(&rig, None, b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    for (path, status) in [("/healthz", StatusCode::OK), ("/events", StatusCode::BAD_REQUEST)] {
        let request =
            Request::get(format!("https://127.0.0.1{path}")).body(Full::<Bytes>::default()).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
        answer.into_body().collect().await.expect("a body");
    }
}

#[tokio::test]
async fn a_client_without_tls_is_told_nothing() {
    let rig = rig().await;
    let port = rig.address.rsplit(':').next().expect("a port").to_owned();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.expect("it listens");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").await.expect("written");
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn a_host_joins_once_and_is_itself_from_then_on() {
    let rig = rig().await;
    let token = token(&rig).await;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let join = |token: &str, key: &[u8]| json!({"token": token, "publicKey": STANDARD.encode(key)}).to_string();
    let (status, _) = post(&rig, "/agent/join", &join(&token, b"no key")).await;
    assert_eq!(status, 400, "a mistake does not cost the token");
    let (status, joined) = post(&rig, "/agent/join", &join(&token, key.public_key_raw())).await;
    assert_eq!(status, 200, "{joined}");
    let (status, _) = post(&rig, "/agent/join", &join(&token, key.public_key_raw())).await;
    assert_eq!(status, 403, "used");

    let pem = joined["certificate"].as_str().expect("a certificate");
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let identity = || -> Option<Identity> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Some((vec![certificate.clone()], key))
    };
    let id = joined["containerInstance"].as_str().expect("an id");
    let stranger = "00000000000000000000000000000000";
    for (identity, said, status) in [(identity(), id, 101), (identity(), stranger, 403), (None, id, 403)] {
        let mut stream = connect(&rig, identity, b"http/1.1").await;
        let asked = format!(
            "GET /agent HTTP/1.1\r\nHost: here\r\nConnection: upgrade\r\nUpgrade: coracle-agent\r\n\
             x-coracle-container-instance: {said}\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await.expect("written");
        assert_eq!(response(&mut stream).await.expect("an answer").status, status, "{said}");
        if status != 101 {
            continue;
        }
        let mut hello = hello(None);
        hello.cluster = "default".to_owned();
        frames::write(&mut stream, &FromInstance::Hello(Box::new(hello))).await.expect("written");
        match frames::read(&mut stream, MAX_FRAME_BYTES).await.expect("a message") {
            ToInstance::Welcome { instance, .. } => assert_eq!(instance.as_str(), id),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn of_two_that_come_with_one_token_one_joins() {
    let rig = rig().await;
    let token = token(&rig).await;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let body = json!({"token": token, "publicKey": STANDARD.encode(key.public_key_raw())}).to_string();
    let answers = tokio::join!(post(&rig, "/agent/join", &body), post(&rig, "/agent/join", &body));
    let mut statuses = [answers.0.0, answers.1.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403]);
}
