//! The splunk driver's events for an HTTP Event Collector (<https://docs.docker.com/engine/logging/drivers/splunk/>,
//! <https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector>).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::syslog::Certificates;
use crate::message::{Message, Origin, stream_name};
use crate::options::{OptionError, Options};
use crate::tag;

const COLLECTOR: &str = "/services/collector/event/1.0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Inline,
    Json,
    Raw,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Of the collector, with its path.
    pub url: String,
    pub token: String,
    pub certificates: Certificates,
    /// Whether the collector is asked, before the first event, if it is one.
    pub verify_connection: bool,
    gzip: Option<u32>,
    format: Format,
    source: Option<String>,
    source_type: Option<String>,
    index: Option<String>,
    tag: String,
    attributes: BTreeMap<String, String>,
}

/// Without the token.
impl std::fmt::Debug for Settings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("splunk::Settings").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Settings {
    pub(crate) fn of(options: &Options<'_>, origin: &Origin) -> Result<Settings, OptionError> {
        let text = |name| options.filled(name).map(str::to_owned);
        let format = match options.filled("splunk-format") {
            None | Some("inline") => Format::Inline,
            Some("json") => Format::Json,
            Some("raw") => Format::Raw,
            Some(other) => {
                let wrong = format!("is an unknown format {other}, supported formats are inline, json and raw");
                return Err(options.bad("splunk-format", wrong));
            }
        };
        let level = options.whole("splunk-gzip-level", -1..=9)?.unwrap_or(-1);
        let level = u32::try_from(level).unwrap_or(Compression::default().level());
        // An empty tag takes it out of the events.
        let tag = if options.text("tag") == Some("") { String::new() } else { tag::of(options, origin)? };
        Ok(Settings {
            url: url(options)?,
            token: options.required("splunk-token")?.to_owned(),
            certificates: Certificates {
                authority: options.filled("splunk-capath").map(|path| Path::new(path).to_owned()),
                own: None,
                unverified: options.flag("splunk-insecureskipverify")?.unwrap_or(false),
                name: text("splunk-caname"),
            },
            verify_connection: options.flag("splunk-verify-connection")?.unwrap_or(true),
            gzip: options.flag("splunk-gzip")?.unwrap_or(false).then_some(level),
            format,
            source: text("splunk-source"),
            source_type: text("splunk-sourcetype"),
            index: text("splunk-index"),
            tag,
            attributes: tag::attributes(options, origin)?,
        })
    }

    /// Events one after another, as the collector takes them.
    pub fn encode(&self, origin: &Origin, messages: &[Message]) -> Vec<u8> {
        let mut body = Vec::new();
        for message in messages {
            if let Some(event) = self.event(message) {
                body.extend_from_slice(self.envelope(origin, message, event).to_string().as_bytes());
            }
        }
        body
    }

    /// The request's body, with what `Content-Encoding` says of it.
    pub fn body(&self, events: Vec<u8>) -> (Vec<u8>, Option<&'static str>) {
        let Some(level) = self.gzip else { return (events, None) };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        // Writing to memory does not fail.
        match encoder.write_all(&events).and_then(|()| encoder.finish()) {
            Ok(packed) => (packed, Some("gzip")),
            Err(_) => (events, None),
        }
    }

    fn envelope(&self, origin: &Origin, message: &Message, event: Value) -> Value {
        let milliseconds = message.time.epoch_ms;
        let mut envelope = json!({
            "event": event,
            "time": format!("{}.{:06}", milliseconds / 1000, milliseconds % 1000 * 1000),
            "host": origin.hostname,
        });
        for (name, value) in [("source", &self.source), ("sourcetype", &self.source_type), ("index", &self.index)] {
            if let Some(value) = value {
                envelope[name] = Value::String(value.clone());
            }
        }
        envelope
    }

    /// Nothing for a blank line in raw format: "empty or whitespace-only messages are not accepted by HEC".
    fn event(&self, message: &Message) -> Option<Value> {
        let text = String::from_utf8_lossy(&message.bytes);
        let line = match self.format {
            Format::Inline => Value::String(text.into_owned()),
            Format::Json => {
                // Only whole JSON is JSON; the bytes are the container's, so a value of ours may differ in spelling.
                let is_json = serde_json::from_slice::<&RawValue>(&message.bytes).is_ok();
                let parsed = if is_json { serde_json::from_slice(&message.bytes).ok() } else { None };
                parsed.unwrap_or_else(|| Value::String(text.into_owned()))
            }
            Format::Raw if text.trim().is_empty() => return None,
            Format::Raw => return Some(Value::String(format!("{}{text}", self.raw_prefix()))),
        };
        let mut event = Map::new();
        event.insert("line".to_owned(), line);
        event.insert("source".to_owned(), stream_name(message.stream).into());
        if !self.tag.is_empty() {
            event.insert("tag".to_owned(), self.tag.clone().into());
        }
        if !self.attributes.is_empty() {
            event.insert("attrs".to_owned(), json!(self.attributes));
        }
        Some(Value::Object(event))
    }

    fn raw_prefix(&self) -> String {
        let mut prefix = String::new();
        if !self.tag.is_empty() {
            prefix.push_str(&format!("{} ", self.tag));
        }
        for (name, value) in &self.attributes {
            prefix.push_str(&format!("{name}={value} "));
        }
        prefix
    }
}

/// "expected format scheme://dns_name_or_ip:port".
fn url(options: &Options<'_>) -> Result<String, OptionError> {
    let text = options.required("splunk-url")?;
    let wrong = || options.bad("splunk-url", format!("is expected as scheme://dns_name_or_ip:port, not {text:?}"));
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let place = rest.strip_suffix('/').unwrap_or(rest);
    let bare = !place.is_empty() && !place.contains(['/', '?', '#', '@', ' ']);
    if !matches!(scheme, "http" | "https") || !bare {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{place}{COLLECTOR}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example;
    use crate::options::example::options;

    const URL: (&str, &str) = ("splunk-url", "https://your_splunkhost:8088");
    const TOKEN: (&str, &str) = ("splunk-token", "176FCEBF-4CF5-4EDF-91BC-703796522D20");

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, OptionError> {
        Settings::of(&Options::new("splunk", &options(pairs)), &example::origin())
    }

    fn events(pairs: &[(&str, &str)], line: &str) -> Vec<Value> {
        let body = settings(pairs).expect("good options").encode(&example::origin(), &[example::message(line)]);
        serde_json::Deserializer::from_slice(&body).into_iter().map(|event| event.expect("JSON")).collect()
    }

    /// The examples of Docker's page: inline, JSON and raw, with `--log-opt tag="{{.Name}}/{{.FullID}}" --log-opt
    /// labels=location --log-opt env=TEST`.
    #[test]
    fn the_formats_of_dockers_documentation() {
        let common = [URL, TOKEN, ("tag", "{{.ImageName}}/{{.Name}}"), ("labels", "location"), ("env", "TEST")];
        let with = |format: &'static str| [&common[..], &[("splunk-format", format)]].concat();
        let event = |format, line| events(&with(format), line).remove(0)["event"].clone();
        assert_eq!(
            event("inline", "my message"),
            json!({ "attrs": { "TEST": "false", "location": "west" }, "tag": "hello-world/foobar", "source": "stdout", "line": "my message" })
        );
        assert_eq!(event("json", r#"{"foo": "bar"}"#)["line"], json!({ "foo": "bar" }));
        assert_eq!(event("json", "my message")["line"], "my message");
        assert_eq!(event("raw", "my message"), "hello-world/foobar TEST=false location=west my message");
        assert_eq!(events(&with("raw"), "  "), Vec::<Value>::new());
    }

    #[test]
    fn the_envelope_has_time_host_and_what_is_given() {
        let given = [("splunk-source", "/s"), ("splunk-sourcetype", "_json"), ("splunk-index", "main")];
        let event = events(&[&[URL, TOKEN, ("tag", "")], &given[..]].concat(), "x").remove(0);
        let expected = json!({
            "event": { "line": "x", "source": "stdout" }, "time": "1438972399.250000", "host": "HOSTNAME",
            "source": "/s", "sourcetype": "_json", "index": "main",
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn the_url_gets_the_collectors_path_and_the_token_is_never_shown() {
        let settings = settings(&[URL, TOKEN]).expect("good options");
        assert_eq!(settings.url, "https://your_splunkhost:8088/services/collector/event/1.0");
        assert!(!format!("{settings:?}").contains("176FCEBF"));
        let text = |pairs: &[(&str, &str)]| super::tests::settings(pairs).expect_err("bad options").to_string();
        assert_eq!(text(&[TOKEN]), "splunk: splunk-url is expected");
        assert_eq!(text(&[URL]), "splunk: splunk-token is expected");
        for wrong in ["splunk:8088", "ftp://a", "https://a/path", "https://a?x", "https://"] {
            assert!(text(&[("splunk-url", wrong), TOKEN]).contains("scheme://dns_name_or_ip:port"), "{wrong}");
        }
        assert!(text(&[URL, TOKEN, ("splunk-format", "xml")]).contains("inline, json and raw"));
    }
}
