//! The journald driver's entries (<https://docs.docker.com/engine/logging/drivers/journald/>) in systemd's native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::collections::BTreeMap;

use runtime::logs::Stream;

use crate::calendar;
use crate::message::{Message, Origin};
use crate::options::{OptionError, Options};
use crate::tag;

/// syslog's levels again.
const ERROR: &str = "3";
const INFORMATIONAL: &str = "6";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    tag: String,
    attributes: BTreeMap<String, String>,
}

impl Settings {
    pub(crate) fn of(options: &Options<'_>, origin: &Origin) -> Result<Settings, OptionError> {
        let attributes = tag::attributes(options, origin)?;
        let named = attributes.into_iter().map(|(name, value)| (field_name(&name), value));
        Ok(Settings {
            tag: tag::of(options, origin)?,
            attributes: named.filter(|(name, _)| !name.is_empty()).collect(),
        })
    }

    /// One entry: a datagram, or the content of a sealed file where it is longer than one.
    pub fn encode(&self, origin: &Origin, message: &Message) -> Vec<u8> {
        let priority = match message.stream {
            Stream::Stdout => INFORMATIONAL,
            Stream::Stderr => ERROR,
        };
        let micro = calendar::rfc3339_micro(message.time);
        let mut out = Vec::new();
        let own: [(&str, &[u8]); 9] = [
            ("MESSAGE", &message.bytes),
            ("PRIORITY", priority.as_bytes()),
            ("CONTAINER_ID", origin.short_id().as_bytes()),
            ("CONTAINER_ID_FULL", origin.id.as_bytes()),
            ("CONTAINER_NAME", origin.name.as_bytes()),
            ("CONTAINER_TAG", self.tag.as_bytes()),
            ("IMAGE_NAME", origin.image_name.as_bytes()),
            ("SYSLOG_IDENTIFIER", self.tag.as_bytes()),
            ("SYSLOG_TIMESTAMP", micro.as_bytes()),
        ];
        for (name, value) in own {
            field(name, value, &mut out);
        }
        for (name, value) in &self.attributes {
            field(name, value.as_bytes(), &mut out);
        }
        if let Some(part) = &message.part {
            if !part.last {
                field("CONTAINER_PARTIAL_MESSAGE", b"true", &mut out);
            }
            field("CONTAINER_PARTIAL_ID", part.id.as_bytes(), &mut out);
            field("CONTAINER_PARTIAL_ORDINAL", part.ordinal.to_string().as_bytes(), &mut out);
            field("CONTAINER_PARTIAL_LAST", if part.last { b"true" } else { b"false" }, &mut out);
        }
        out
    }
}

/// "KEY=value\n", or where the value has line ends: the key, "\n", a 64-bit little-endian length, the value, "\n".
fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// "Field names must be composed of uppercase letters, numbers and underscores, but must not start with an underscore":
/// as Docker's driver turns names of labels into them.
fn field_name(name: &str) -> String {
    let letter = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' => letter.to_ascii_uppercase(),
        _ => '_',
    };
    name.chars().map(letter).collect::<String>().trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Part, example};
    use crate::options::example::options;

    fn entry(pairs: &[(&str, &str)], message: &Message) -> Vec<u8> {
        let map = options(pairs);
        let origin = example::origin();
        Settings::of(&Options::new("journald", &map), &origin).expect("good options").encode(&origin, message)
    }

    #[test]
    fn an_entry_has_dockers_fields() {
        let pairs = [("tag", "{{.Name}}"), ("labels", "com.example.tier")];
        let text = String::from_utf8(entry(&pairs, &example::message("hello"))).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        for expected in [
            "MESSAGE=hello",
            "PRIORITY=6",
            "CONTAINER_ID=5790672ab6a0",
            "CONTAINER_NAME=foobar",
            "CONTAINER_TAG=foobar",
            "IMAGE_NAME=hello-world",
            "SYSLOG_IDENTIFIER=foobar",
            "SYSLOG_TIMESTAMP=2015-08-07T18:33:19.250000Z",
            "COM_EXAMPLE_TIER=front",
        ] {
            assert!(lines.contains(&expected), "{expected} is not in {lines:?}");
        }
        assert!(!text.contains("PARTIAL"));
    }

    /// The example of systemd's page, in its binary form.
    #[test]
    fn a_value_with_a_line_end_carries_its_length() {
        let mut out = Vec::new();
        field("MESSAGE", b"foo\nbar", &mut out);
        assert_eq!(out, b"MESSAGE\n\x07\0\0\0\0\0\0\0foo\nbar\n");
    }

    #[test]
    fn parts_of_long_lines_are_told() {
        let part = |last| Some(Part { id: "7".to_owned(), ordinal: 3, last });
        let text = |last| {
            let message = Message { stream: Stream::Stderr, part: part(last), ..example::message("x") };
            String::from_utf8(entry(&[], &message)).expect("text")
        };
        assert!(text(false).contains("PRIORITY=3\n"));
        assert!(text(false).contains("CONTAINER_PARTIAL_MESSAGE=true\nCONTAINER_PARTIAL_ID=7\n"));
        assert!(
            !text(true).contains("CONTAINER_PARTIAL_MESSAGE") && text(true).contains("CONTAINER_PARTIAL_LAST=true")
        );
    }

    #[test]
    fn names_become_fields_as_docker_makes_them() {
        assert_eq!(field_name("com.amazonaws.ecs.task-arn"), "COM_AMAZONAWS_ECS_TASK_ARN");
        assert_eq!(field_name("_hidden"), "HIDDEN");
        assert_eq!(field_name("é"), "");
    }
}
