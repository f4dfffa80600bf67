//! TLS against a server of this process, with certificates that nobody but the tests trusts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Outlet;
use crate::batch::Batch;
use crate::driver::Driver;
use crate::encode::{splunk, syslog};
use crate::message::example;
use crate::options::Options;

/// Valid for 127.0.0.1 until 2100, signed by `ca.crt` beside it.
fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/tests/tls").join(name)
}

/// Serves one connection: says `answer` after the first bytes, and gives back what came until the end.
fn serve(answer: &'static [u8]) -> (u16, JoinHandle<Vec<u8>>) {
    let path = certificate("good.pem");
    let chain = CertificateDer::pem_file_iter(&path).expect("a file").collect::<Result<Vec<_>, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_file(&path).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("TLS 1.3").with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("somebody comes");
        let connection = ServerConnection::new(Arc::new(config)).expect("a good configuration");
        let mut stream = StreamOwned::new(connection, stream);
        let mut came = Vec::new();
        let mut buffer = [0; 4096];
        // A client that does not trust us hangs up.
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            came.extend_from_slice(&buffer[..count]);
            if !answer.is_empty() && stream.write_all(answer).and_then(|()| stream.flush()).is_err() {
                break;
            }
        }
        came
    });
    (port, thread)
}

fn batch() -> Batch {
    let mut batch = Batch::default();
    batch.messages.push(example::message("over TLS"));
    batch
}

fn options(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn send_syslog(further: &[(&str, String)]) -> (Result<(), String>, Vec<u8>) {
    let (port, server) = serve(b"");
    let address = [("syslog-address", format!("tcp+tls://127.0.0.1:{port}")), ("syslog-format", "rfc5424".to_owned())];
    let options = options(&[&address[..], further].concat());
    let settings = syslog::Settings::of(&Options::new("syslog", &options), &example::origin()).expect("good options");
    let mut outlet = Outlet::new(Driver::Syslog(settings), example::origin());
    let sent = outlet.send(&batch()).map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)));
    drop(outlet);
    (sent, server.join().expect("the server ends with its connection"))
}

#[test]
fn syslog_over_tls_trusts_the_given_authority_and_nobody_else_unless_told_to() {
    let authority = ("syslog-tls-ca-cert", certificate("ca.crt").display().to_string());
    for further in [authority, ("syslog-tls-skip-verify", "1".to_owned())] {
        let (sent, came) = send_syslog(&[further]);
        assert_eq!(sent, Ok(()));
        let text = String::from_utf8(came).expect("text");
        // RFC 5425 counts its octets.
        assert!(text.contains(" <30>1 2015-08-07T18:33:19Z ") && text.ends_with("over TLS\n"), "{text}");
    }
    let (sent, came) = send_syslog(&[]);
    assert!(sent.expect_err("nobody knows that authority").contains("UnknownIssuer"));
    assert!(came.is_empty());
}

#[test]
fn splunk_over_https() {
    let send = |further: &[(&str, String)], answer| {
        let (port, server) = serve(answer);
        let address = [
            ("splunk-url", format!("https://127.0.0.1:{port}")),
            ("splunk-token", "t".to_owned()),
            ("splunk-verify-connection", "false".to_owned()),
        ];
        let options = options(&[&address[..], further].concat());
        let settings =
            splunk::Settings::of(&Options::new("splunk", &options), &example::origin()).expect("good options");
        let mut outlet = Outlet::new(Driver::Splunk(Box::new(settings)), example::origin());
        let sent = outlet.send(&batch()).map_err(|error| format!("{error:?}"));
        drop(outlet);
        (sent, String::from_utf8_lossy(&server.join().expect("the server ends with its connection")).into_owned())
    };
    let authority = [("splunk-capath", certificate("ca.crt").display().to_string())];
    let (sent, came) = send(&authority, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert_eq!(sent, Ok(()));
    assert!(came.starts_with("POST /services/collector/event/1.0 HTTP/1.1\r\n") && came.contains("over TLS"), "{came}");
    let (sent, _) = send(&authority, b"HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbad");
    assert!(sent.expect_err("no such token").contains("Unwilling"));
    let (sent, _) = send(&authority, b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert!(sent.expect_err("events that are wrong").contains("Refused"));
    let (sent, came) = send(&[], b"");
    assert!(sent.expect_err("nobody knows that authority").contains("Unreachable"));
    assert!(came.is_empty());
}
