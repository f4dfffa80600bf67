//! What a task's containers wrote, as their container instance tells it to a reader elsewhere.
//!
//! The control plane asks with `ReadLogs` and passes on what it is told, unread. The instance says `Opened` or `Refused`, then
//! `Records`, and `Ended` last. It sends as many `Records` as it was allowed and waits for `MoreLogs` then, each of which
//! allows one more: a reader that is slow costs memory nowhere, and holds up nothing else of the session.

use ecs::{ContainerName, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

/// Bytes of output in one `Records`; one record more may begin below it.
pub const BATCH_BYTES: usize = 64 << 10;
/// Records of one `Records`, for lines that are empty.
pub const BATCH_RECORDS: usize = 1_024;
/// The largest `tail`.
pub const MOST_LINES: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadLogs {
    pub session: String,
    pub task: TaskId,
    /// How many `Records` may be sent before the first `MoreLogs`.
    pub batches: usize,
    #[serde(default)]
    pub wanted: Wanted,
}

/// Which part of a task's output. A request over HTTP has the same members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wanted {
    /// To go on until the task has stopped.
    pub follow: bool,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// Nothing newer.
    pub until: Option<Timestamp>,
    /// Only the last so many lines of all containers together, at most `MOST_LINES`.
    pub tail: Option<usize>,
    /// All of them when empty.
    pub containers: Vec<ContainerName>,
}

/// One step of a reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Told {
    /// The wanted containers, in the order that the records' `source` counts them.
    Opened(Vec<Source>),
    /// Why nothing is read.
    Refused(String),
    Records(Vec<Record>),
    /// Whole, or up to where it failed.
    Ended {
        failed: Option<String>,
    },
}

/// A container whose output is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    pub container: ContainerName,
    /// Whether its output is kept at all: the driver `none` keeps nothing.
    pub kept: bool,
    /// Of its output, and never to be read.
    #[serde(default)]
    pub lost_bytes: u64,
    #[serde(default)]
    pub lost_cause: Option<String>,
    /// With the driver `awslogs`.
    #[serde(default)]
    pub awslogs: Option<Awslogs>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Awslogs {
    pub group: String,
    pub stream: String,
    /// How its events begin.
    #[serde(default)]
    pub datetime_format: Option<String>,
    #[serde(default)]
    pub multiline_pattern: Option<String>,
}

/// A line, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its container's place in `Opened`.
    pub source: usize,
    pub stream: Stream,
    pub time: Timestamp,
    /// No line end follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// In base64 (RFC 4648, section 4), since output is any bytes.
    pub bytes: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{FromInstance, ToInstance};

    /// What builds of both ends have said since this began: other members may come, none of these goes.
    #[test]
    fn messages_look_as_they_always_did() {
        let task = TaskId::try_from("1f2e3d4c5b6a79880123456789abcdef".to_owned()).expect("an id");
        let container = ContainerName::try_from("app".to_owned()).expect("a name");
        let at = Timestamp::from_epoch_ms(1_795_398_837_042);
        let wanted =
            Wanted { follow: true, since: Some(at), until: None, tail: Some(9), containers: vec![container.clone()] };
        let asked = [
            (
                ToInstance::ReadLogs(ReadLogs { session: "s".to_owned(), task, batches: 4, wanted }),
                r#"{"say":"readLogs","session":"s","task":"1f2e3d4c5b6a79880123456789abcdef","batches":4,"wanted":{"follow":true,"since":1795398837.042,"until":null,"tail":9,"containers":["app"]}}"#,
            ),
            (ToInstance::MoreLogs { session: "s".to_owned() }, r#"{"say":"moreLogs","session":"s"}"#),
            (ToInstance::CloseLogs { session: "s".to_owned() }, r#"{"say":"closeLogs","session":"s"}"#),
        ];
        for (message, text) in asked {
            assert_eq!(serde_json::to_string(&message).expect("plain data"), text);
            assert_eq!(serde_json::from_str::<ToInstance>(text).expect(text), message);
        }
        let awslogs = Awslogs {
            group: "g".to_owned(),
            stream: "t".to_owned(),
            datetime_format: Some("%Y".to_owned()),
            multiline_pattern: None,
        };
        let source = Source { container, kept: true, lost_bytes: 3, lost_cause: None, awslogs: Some(awslogs) };
        let record = Record { source: 0, stream: Stream::Stderr, time: at, partial: true, bytes: "AP8=".to_owned() };
        let told = [
            (
                Told::Opened(vec![source]),
                r#"{"opened":[{"container":"app","kept":true,"lostBytes":3,"lostCause":null,"awslogs":{"group":"g","stream":"t","datetimeFormat":"%Y","multilinePattern":null}}]}"#,
            ),
            (Told::Refused("no".to_owned()), r#"{"refused":"no"}"#),
            (
                Told::Records(vec![record]),
                r#"{"records":[{"source":0,"stream":"stderr","time":1795398837.042,"partial":true,"bytes":"AP8="}]}"#,
            ),
            (Told::Ended { failed: None }, r#"{"ended":{"failed":null}}"#),
        ];
        for (told, text) in told {
            assert_eq!(serde_json::to_string(&told).expect("plain data"), text);
            let message = FromInstance::Logs { session: "s".to_owned(), told };
            let text = format!(r#"{{"say":"logs","session":"s","told":{text}}}"#);
            assert_eq!(serde_json::to_string(&message).expect("plain data"), text);
            assert_eq!(serde_json::from_str::<FromInstance>(&text).expect(&text), message);
        }
        assert_eq!(serde_json::from_str::<Wanted>("{}").expect("all have defaults"), Wanted::default());
    }
}
