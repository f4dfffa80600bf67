//! The gelf driver's messages (<https://docs.docker.com/engine/logging/drivers/gelf/>) and GELF's own way over UDP and
//! TCP (<https://go2docs.graylog.org/current/getting_in_log_data/gelf.html>).

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use runtime::logs::Stream;
use serde_json::{Map, Value, json};

use crate::calendar;
use crate::message::{Message, Origin};
use crate::options::{Address, OptionError, Options};
use crate::tag;

/// GELF's levels are syslog's.
const ERROR: u8 = 3;
const INFORMATIONAL: u8 = 6;
/// `flate.BestSpeed`, the default of Docker's driver.
const BEST_SPEED: i64 = 1;

/// "Chunked GELF: magic bytes 0x1e 0x0f, message id 8 bytes, sequence number 1 byte, sequence count 1 byte."
const CHUNK_MAGIC: [u8; 2] = [0x1e, 0x0f];
const CHUNK_HEADER_BYTES: usize = 12;
/// What go-gelf sends in one datagram, its header included: below the MTU of an Ethernet with room for tunnels.
const CHUNK_BYTES: usize = 1420;
/// "A message must not consist of more than 128 chunks."
const MAX_CHUNKS: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Gzip(u32),
    Zlib(u32),
    Plain,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub address: Address,
    packing: Packing,
    tag: String,
    attributes: BTreeMap<String, String>,
}

/// A message that GELF cannot carry over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes needs more than {MAX_CHUNKS} chunks")]
pub struct TooLong {
    pub bytes: usize,
}

impl Settings {
    pub(crate) fn of(options: &Options<'_>, origin: &Origin) -> Result<Settings, OptionError> {
        let text = options.required("gelf-address")?;
        // A port must be given: "please provide gelf-address as proto://host:port".
        let address = Address::parse(text, 0).map_err(|wrong| options.bad("gelf-address", wrong))?;
        match &address {
            Address::Udp { port, .. } | Address::Tcp { port, .. } if *port > 0 => {}
            Address::Udp { .. } | Address::Tcp { .. } => {
                return Err(options.bad("gelf-address", "please provide gelf-address as proto://host:port"));
            }
            Address::Tls { .. } | Address::Unix(_) | Address::UnixOfContainer(_) | Address::UnixDatagram(_) => {
                return Err(options.bad("gelf-address", "endpoint needs to be TCP or UDP"));
            }
        }
        let is_tcp = matches!(address, Address::Tcp { .. });
        let of_tcp = ["gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"];
        let of_udp = ["gelf-compression-type", "gelf-compression-level"];
        let (foreign, proto) = if is_tcp { (of_udp, "UDP") } else { (of_tcp, "TCP") };
        if let Some(name) = foreign.into_iter().find(|name| options.text(name).is_some()) {
            return Err(options.bad(name, format!("is only for {proto} endpoints")));
        }
        for name in of_tcp {
            options.whole(name, 0..=i64::from(i32::MAX))?;
        }
        Ok(Settings {
            address,
            packing: if is_tcp { Packing::Plain } else { packing(options)? },
            tag: tag::of(options, origin)?,
            attributes: tag::attributes(options, origin)?,
        })
    }

    /// The message as JSON.
    pub fn encode(&self, origin: &Origin, message: &Message) -> Vec<u8> {
        let mut fields = Map::new();
        let level = match message.stream {
            Stream::Stdout => INFORMATIONAL,
            Stream::Stderr => ERROR,
        };
        let own = json!({
            "version": "1.1",
            "host": origin.hostname,
            "short_message": String::from_utf8_lossy(&message.bytes),
            "timestamp": message.time.epoch_ms as f64 / 1000.0,
            "level": level,
            "_command": origin.command,
            "_container_id": origin.id,
            "_container_name": origin.name,
            "_created": calendar::rfc3339(origin.created),
            "_image_id": origin.image_id,
            "_image_name": origin.image_name,
            "_tag": self.tag,
        });
        if let Value::Object(own) = own {
            fields.extend(own);
        }
        for (name, value) in &self.attributes {
            let name = if name.starts_with('_') { name.clone() } else { format!("_{name}") };
            fields.insert(name, Value::String(value.clone()));
        }
        Value::Object(fields).to_string().into_bytes()
    }

    /// What one message is on the wire of UDP: a datagram, or its chunks. `id` tells messages apart.
    ///
    /// # Errors
    /// It is too long for the protocol.
    pub fn datagrams(&self, message: &[u8], id: u64) -> Result<Vec<Vec<u8>>, TooLong> {
        let packed = pack(message, self.packing);
        if packed.len() <= CHUNK_BYTES {
            return Ok(vec![packed]);
        }
        let pieces: Vec<&[u8]> = packed.chunks(CHUNK_BYTES - CHUNK_HEADER_BYTES).collect();
        if pieces.len() > MAX_CHUNKS {
            return Err(TooLong { bytes: message.len() });
        }
        let count = pieces.len() as u8;
        let chunk = |(place, piece): (usize, &&[u8])| {
            let mut chunk = CHUNK_MAGIC.to_vec();
            chunk.extend_from_slice(&id.to_be_bytes());
            chunk.extend_from_slice(&[place as u8, count]);
            chunk.extend_from_slice(piece);
            chunk
        };
        Ok(pieces.iter().enumerate().map(chunk).collect())
    }
}

fn packing(options: &Options<'_>) -> Result<Packing, OptionError> {
    // -1 is the library's own choice.
    let level = options.whole("gelf-compression-level", -1..=9)?.unwrap_or(BEST_SPEED);
    let level = u32::try_from(level).unwrap_or(Compression::default().level());
    match options.filled("gelf-compression-type") {
        None | Some("gzip") => Ok(Packing::Gzip(level)),
        Some("zlib") => Ok(Packing::Zlib(level)),
        Some("none") => Ok(Packing::Plain),
        Some(other) => Err(options.bad("gelf-compression-type", format!("is gzip, zlib or none, not {other:?}"))),
    }
}

fn pack(message: &[u8], packing: Packing) -> Vec<u8> {
    // Writing to memory does not fail.
    let packed = match packing {
        Packing::Plain => return message.to_vec(),
        Packing::Gzip(level) => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(message).and_then(|()| encoder.finish())
        }
        Packing::Zlib(level) => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(message).and_then(|()| encoder.finish())
        }
    };
    packed.unwrap_or_else(|_| message.to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::message::example;
    use crate::options::example::options;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, OptionError> {
        Settings::of(&Options::new("gelf", &options(pairs)), &example::origin())
    }

    const UDP: (&str, &str) = ("gelf-address", "udp://1.2.3.4:12201");

    /// The members of GELF 1.1 that are required, and Docker's own with a leading underscore.
    #[test]
    fn a_message_has_the_members_of_gelf_1_1() {
        let settings = settings(&[UDP, ("labels", "location"), ("tag", "t")]).expect("good options");
        let message = Message { stream: Stream::Stderr, ..example::message("short") };
        let value: Value = serde_json::from_slice(&settings.encode(&example::origin(), &message)).expect("JSON");
        assert_eq!(value["version"], "1.1");
        assert_eq!((value["host"].as_str(), value["short_message"].as_str()), (Some("HOSTNAME"), Some("short")));
        assert_eq!((value["timestamp"].as_f64(), value["level"].as_u64()), (Some(1_438_972_399.25), Some(3)));
        assert_eq!((value["_location"].as_str(), value["_tag"].as_str()), (Some("west"), Some("t")));
        assert_eq!(value["_container_name"], "foobar");
    }

    #[test]
    fn a_long_message_is_cut_into_chunks_that_tell_their_place() {
        let settings = settings(&[UDP, ("gelf-compression-type", "none")]).expect("good options");
        assert_eq!(settings.datagrams(&[b'x'; 1420], 1).expect("short"), [vec![b'x'; 1420]]);
        let chunks = settings.datagrams(&[b'x'; 3000], 0x0102_0304_0506_0708).expect("long");
        assert_eq!(chunks.len(), 3);
        for (place, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk[..12], [0x1e, 0x0f, 1, 2, 3, 4, 5, 6, 7, 8, place as u8, 3]);
        }
        assert_eq!(chunks.iter().map(|chunk| chunk.len() - 12).sum::<usize>(), 3000);
        assert_eq!(settings.datagrams(&[b'x'; 1408 * 128 + 1], 1), Err(TooLong { bytes: 1408 * 128 + 1 }));
    }

    #[test]
    fn compression_is_gzip_unless_told_otherwise() {
        let unpacked = |pairs: &[(&str, &str)]| {
            let packed = settings(pairs).expect("good options").datagrams(b"hello", 1).expect("short").remove(0);
            let mut text = String::new();
            match packed.as_slice() {
                [0x1f, 0x8b, ..] => flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).map(|_| "gzip"),
                _ => flate2::read::ZlibDecoder::new(&packed[..]).read_to_string(&mut text).map(|_| "zlib"),
            }
            .map(|kind| (kind, text.clone()))
        };
        assert_eq!(unpacked(&[UDP]).expect("packed"), ("gzip", "hello".to_owned()));
        assert_eq!(unpacked(&[UDP, ("gelf-compression-type", "zlib")]).expect("packed"), ("zlib", "hello".to_owned()));
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let text = |pairs: &[(&str, &str)]| settings(pairs).expect_err("bad options").to_string();
        assert_eq!(text(&[]), "gelf: gelf-address is expected");
        assert!(text(&[("gelf-address", "udp://logs")]).contains("proto://host:port"));
        assert!(text(&[("gelf-address", "unix:///x")]).contains("TCP or UDP"));
        assert!(text(&[("gelf-address", "tcp://a:1"), ("gelf-compression-type", "none")]).contains("UDP"));
        assert!(text(&[UDP, ("gelf-compression-level", "10")]).contains("-1 to 9"));
    }
}
