//! The fluentd driver's entries (<https://docs.docker.com/engine/logging/drivers/fluentd/>) in the Forward mode of
//! fluentd's protocol (<https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>), and awsfirelens, which is
//! the same over the log router's socket.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::msgpack;
use crate::message::{Message, Origin, stream_name};
use crate::options::{Address, OptionError, Options, host_and_port};
use crate::tag;

const HOST: &str = "127.0.0.1";
const PORT: u16 = 24224;
/// Docker's default, "1s".
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// Whether the receiver is asked to acknowledge each batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// A batch counts as shipped when it is acknowledged, and not before.
    Demanded,
    /// As `Demanded`, until it shows that the receiver never acknowledges: the protocol leaves it free to.
    Hoped,
    /// The receiver is known not to: fluentd's input `unix`.
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub address: Address,
    pub acknowledgement: Acknowledgement,
    pub retry_wait: Duration,
    /// After so many attempts in vain, a batch is given up and counted as lost; never, unless given.
    pub max_retries: Option<u64>,
    sub_second_precision: bool,
    tag: String,
    attributes: BTreeMap<String, String>,
}

impl Settings {
    pub(crate) fn of(options: &Options<'_>, origin: &Origin) -> Result<Settings, OptionError> {
        if options.filled("fluentd-async").is_some() && options.filled("fluentd-async-connect").is_some() {
            return Err(options.bad("fluentd-async-connect", "is the old name of fluentd-async: give one of them"));
        }
        // Shipping is always apart from the container, so these are checked and have nothing more to say.
        for name in ["fluentd-async", "fluentd-async-connect"] {
            options.flag(name)?;
        }
        options.duration("fluentd-async-reconnect-interval")?;
        let retries = options.whole("fluentd-max-retries", 0..=i64::from(i32::MAX))?;
        let acknowledgement = match options.flag("fluentd-request-ack")? {
            Some(true) => Acknowledgement::Demanded,
            Some(false) => Acknowledgement::Never,
            None => Acknowledgement::Hoped,
        };
        Ok(Settings {
            address: address(options)?,
            acknowledgement,
            retry_wait: options.duration("fluentd-retry-wait")?.unwrap_or(RETRY_WAIT),
            max_retries: retries.and_then(|retries| u64::try_from(retries).ok()),
            sub_second_precision: options.flag("fluentd-sub-second-precision")?.unwrap_or(false),
            tag: tag::of(options, origin)?,
            attributes: tag::attributes(options, origin)?,
        })
    }

    /// What Amazon's agent makes of awsfirelens: tag `<container>-firelens-<task id>`, sub-second precision, the
    /// router's socket. The options are the router's.
    pub(crate) fn of_firelens(tag: String, socket: &Path, acknowledgement: Acknowledgement) -> Settings {
        Settings {
            address: Address::UnixOfContainer(socket.to_owned()),
            acknowledgement,
            retry_wait: RETRY_WAIT,
            max_retries: None,
            sub_second_precision: true,
            tag,
            attributes: BTreeMap::new(),
        }
    }

    /// `[tag, [[time, record], …], option]`; the option has `chunk` where an acknowledgement is asked for.
    pub fn encode(&self, origin: &Origin, messages: &[Message], chunk: Option<&str>, out: &mut Vec<u8>) {
        msgpack::array(3, out);
        msgpack::string(self.tag.as_bytes(), out);
        msgpack::array(messages.len(), out);
        for message in messages {
            msgpack::array(2, out);
            if self.sub_second_precision {
                msgpack::event_time(message.time, out);
            } else {
                msgpack::unsigned(message.time.epoch_ms / 1000, out);
            }
            self.record(origin, message, out);
        }
        msgpack::map(1 + usize::from(chunk.is_some()), out);
        msgpack::string(b"size", out);
        msgpack::unsigned(messages.len() as u64, out);
        if let Some(chunk) = chunk {
            msgpack::string(b"chunk", out);
            msgpack::string(chunk.as_bytes(), out);
        }
    }

    fn record(&self, origin: &Origin, message: &Message, out: &mut Vec<u8>) {
        let container_name = format!("/{}", origin.name);
        let mut members: Vec<(&str, &[u8])> = vec![
            ("container_id", origin.id.as_bytes()),
            ("container_name", container_name.as_bytes()),
            ("source", stream_name(message.stream).as_bytes()),
            ("log", &message.bytes),
        ];
        members.retain(|(name, _)| !self.attributes.contains_key(*name));
        members.extend(self.attributes.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        let ordinal = message.part.as_ref().map(|part| part.ordinal.to_string());
        if let (Some(part), Some(ordinal)) = (&message.part, &ordinal) {
            let last: &[u8] = if part.last { b"true" } else { b"false" };
            members.push(("partial_message", b"true"));
            members.push(("partial_id", part.id.as_bytes()));
            members.push(("partial_ordinal", ordinal.as_bytes()));
            members.push(("partial_last", last));
        }
        msgpack::map(members.len(), out);
        for (name, value) in members {
            msgpack::string(name.as_bytes(), out);
            msgpack::string(value, out);
        }
    }
}

/// A name for a batch, the same for the same batch: "chunk … MUST be uniquely identifiable": base64 of 16 bytes.
pub fn chunk_name(segment: u64, offset: u64) -> String {
    let mut bytes = segment.to_be_bytes().to_vec();
    bytes.extend_from_slice(&offset.to_be_bytes());
    STANDARD.encode(bytes)
}

/// Whether an answer acknowledges this chunk: `{"ack": "<chunk>"}`. Nothing while it is not whole.
pub fn is_acknowledged(answer: &[u8], chunk: &str) -> Option<bool> {
    let mut expected = Vec::new();
    msgpack::map(1, &mut expected);
    msgpack::string(b"ack", &mut expected);
    msgpack::string(chunk.as_bytes(), &mut expected);
    if answer.len() < expected.len() && expected.starts_with(answer) {
        return None;
    }
    Some(answer == expected)
}

fn address(options: &Options<'_>) -> Result<Address, OptionError> {
    let text = options.filled("fluentd-address").unwrap_or("tcp://127.0.0.1:24224");
    let wrong = |wrong: String| options.bad("fluentd-address", wrong);
    if text.contains("://") {
        let parsed = Address::parse(
            text.strip_prefix("tls://").map_or(text.to_owned(), |rest| format!("tcp+tls://{rest}")).as_str(),
            PORT,
        );
        return match parsed.map_err(wrong)? {
            Address::Udp { .. } | Address::UnixOfContainer(_) | Address::UnixDatagram(_) => {
                Err(wrong(format!("is tcp, tls or unix, not {text}")))
            }
            address @ (Address::Tcp { .. } | Address::Tls { .. } | Address::Unix(_)) => Ok(address),
        };
    }
    // A bare port means this host.
    let place = if text.starts_with(':') { format!("{HOST}{text}") } else { text.to_owned() };
    let (host, port) = host_and_port(&place, PORT).ok_or_else(|| wrong(format!("is host:port, not {text:?}")))?;
    Ok(Address::Tcp { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Part, example};
    use crate::options::example::options;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, OptionError> {
        Settings::of(&Options::new("fluentd", &options(pairs)), &example::origin())
    }

    /// By hand, after the specification of MessagePack: an array of three, a string of six bytes, …
    #[test]
    fn a_batch_is_the_protocols_forward_mode() {
        let settings = settings(&[("tag", "docker"), ("labels", "location")]).expect("good options");
        let origin = example::origin();
        let mut out = Vec::new();
        settings.encode(&origin, &[example::message("hi")], Some("QQ=="), &mut out);
        let mut expected = b"\x93\xa6docker\x91\x92\xce".to_vec();
        expected.extend_from_slice(&1_438_972_399u32.to_be_bytes());
        expected.extend_from_slice(b"\x85\xaccontainer_id\xd9\x40");
        expected.extend_from_slice(origin.id.as_bytes());
        expected
            .extend_from_slice(b"\xaecontainer_name\xa7/foobar\xa6source\xa6stdout\xa3log\xa2hi\xa8location\xa4west");
        expected.extend_from_slice(b"\x82\xa4size\x01\xa5chunk\xa4QQ==");
        assert_eq!(out, expected);
    }

    #[test]
    fn firelens_has_its_tag_event_times_and_the_parts_of_long_lines() {
        let tag = "app-firelens-0123".to_owned();
        let settings = Settings::of_firelens(tag, Path::new("/s"), Acknowledgement::Hoped);
        let part = Part { id: "0a".to_owned(), ordinal: 2, last: false };
        let message = Message { part: Some(part), ..example::message("hi") };
        let mut out = Vec::new();
        settings.encode(&example::origin(), &[message], None, &mut out);
        assert!(out.starts_with(b"\x93\xb1app-firelens-0123\x91\x92\xd7\x00"));
        let tail = b"\xafpartial_message\xa4true\xaapartial_id\xa20a\xafpartial_ordinal\xa12\xacpartial_last\xa5false\x81\xa4size\x01";
        assert!(out.ends_with(tail), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn addresses_take_every_form_of_dockers_documentation() {
        let address = |text: &str| settings(&[("fluentd-address", text)]).map(|settings| settings.address.to_string());
        assert_eq!(settings(&[]).expect("defaults").address.to_string(), "tcp://127.0.0.1:24224");
        assert_eq!(address("fluentdhost:24225").as_deref(), Ok("tcp://fluentdhost:24225"));
        assert_eq!(address("tcp://fluentdhost:24224").as_deref(), Ok("tcp://fluentdhost:24224"));
        assert_eq!(address("unix:///path/to/fluentd.sock").as_deref(), Ok("unix:///path/to/fluentd.sock"));
        assert_eq!(address("tls://fluentdhost").as_deref(), Ok("tcp+tls://fluentdhost:24224"));
        assert!(address("udp://fluentdhost").is_err() && address("host:port").is_err());
    }

    #[test]
    fn an_acknowledgement_is_for_its_own_chunk() {
        let chunk = chunk_name(3, 77);
        assert_eq!(chunk, "AAAAAAAAAAMAAAAAAAAATQ==");
        let mut answer = b"\x81\xa3ack\xb8".to_vec();
        assert_eq!(is_acknowledged(&answer, &chunk), None);
        answer.extend_from_slice(chunk.as_bytes());
        assert_eq!(is_acknowledged(&answer, &chunk), Some(true));
        assert_eq!(is_acknowledged(&answer, &chunk_name(3, 78)), Some(false));
    }

    #[test]
    fn options_that_contradict_or_make_no_sense_are_refused() {
        assert!(settings(&[("fluentd-async", "true"), ("fluentd-async-connect", "true")]).is_err());
        assert!(settings(&[("fluentd-retry-wait", "soon")]).is_err());
        assert!(settings(&[("fluentd-sub-second-precision", "maybe")]).is_err());
        let strict = settings(&[("fluentd-request-ack", "true"), ("fluentd-max-retries", "3")]).expect("good options");
        assert_eq!((strict.acknowledgement, strict.max_retries), (Acknowledgement::Demanded, Some(3)));
    }
}
