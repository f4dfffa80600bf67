//! A task's output as it is told to readers on other hosts, and the same of this host's own tasks: one shape for whoever
//! prints it. Pure; the reading itself is in `runtime`.

use agent_protocol::logs::{Awslogs, Record, Source};
use agent_protocol::{ContainerSpec, TaskSpec, TaskStatus};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ecs::ContainerName;
use runtime::logs::{self, groups};

/// The wanted containers, all where none is named, in the order of the reader's sources.
pub fn sources(spec: &TaskSpec, status: Option<&TaskStatus>, wanted: &[ContainerName]) -> Vec<Source> {
    let is_wanted = |container: &&ContainerSpec| wanted.is_empty() || wanted.contains(&container.definition.name);
    let source = |container: &ContainerSpec| {
        let name = &container.definition.name;
        let status = status.and_then(|status| status.containers.iter().find(|status| status.name == *name));
        let awslogs = groups::of_container(spec, container).map(|stream| Awslogs {
            group: stream.about.log_group_name,
            stream: stream.about.log_stream_name,
            datetime_format: stream.about.datetime_format,
            multiline_pattern: stream.about.multiline_pattern,
        });
        Source {
            container: name.clone(),
            kept: logs::is_kept(container),
            lost_bytes: status.map_or(0, |status| status.log_lost_bytes),
            lost_cause: status.and_then(|status| status.log_error.clone()),
            awslogs,
        }
    };
    spec.containers.iter().filter(is_wanted).map(source).collect()
}

/// A record as it crosses to another host.
pub fn wire(record: &logs::Record<'_>) -> Record {
    Record {
        source: record.source,
        stream: record.stream,
        time: record.time,
        partial: record.partial,
        bytes: STANDARD.encode(record.bytes),
    }
}

/// # Errors
/// They are no base64.
pub fn bytes(record: &Record) -> Result<Vec<u8>, base64::DecodeError> {
    STANDARD.decode(&record.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ecs::Timestamp;
    use runtime::logs::{Position, Stream};

    #[test]
    fn any_bytes_cross_as_they_are() {
        let container = ContainerName::try_from("app".to_owned()).expect("a name");
        let all: Vec<u8> = (0..=255).collect();
        // RFC 4648, section 10.
        for (bytes, text) in [(&b""[..], Some("")), (b"f", Some("Zg==")), (b"foobar", Some("Zm9vYmFy")), (&all, None)] {
            let crossing = wire(&logs::Record {
                source: 3,
                container: &container,
                stream: Stream::Stderr,
                time: Timestamp::from_epoch_ms(7),
                partial: true,
                bytes,
                end: Position::default(),
                missing: 0,
            });
            assert!(text.is_none_or(|text| crossing.bytes == text), "{crossing:?}");
            assert_eq!((crossing.source, crossing.stream, crossing.partial), (3, Stream::Stderr, true));
            assert_eq!(super::bytes(&crossing).expect("base64"), bytes);
        }
        let broken = Record {
            source: 0,
            stream: Stream::Stdout,
            time: Timestamp::from_epoch_ms(0),
            partial: false,
            bytes: "?".to_owned(),
        };
        assert!(super::bytes(&broken).is_err());
    }
}
