//! Task scale-in protection, as a task asks for it at `$ECS_AGENT_URI/task-protection/v1/state`
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html>).
//!
//! The state lies in the task's directory and outlives every process; `of` is what whoever stops tasks of services reads.
//! Amazon's agent passes a request on to ECS, which protects tasks of services alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agent_protocol::TaskSpec;
use ecs::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub const FILE_NAME: &str = "protection.json";
/// "The default is 2 hours", and "up to 48 hours" (same page).
pub const DEFAULT_MINUTES: u64 = 120;
pub const MAX_MINUTES: u64 = 2880;

const MINUTE_MS: u64 = 60_000;
const FILE_MODE: u32 = 0o600;

/// As it was asked for last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// Nothing: not protected.
    protected_until: Option<Timestamp>,
}

/// How a task stands at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// When it ends by itself; nothing where there is none.
    pub until: Option<Timestamp>,
}

impl Protection {
    pub fn is_enabled(self) -> bool {
        self.until.is_some()
    }

    /// As UpdateTaskProtection shows a `ProtectedTask`.
    pub(crate) fn shown(self, task_arn: &str) -> Value {
        json!({"protection": {
            "ExpirationDate": self.until.map(Timestamp::rfc3339),
            "ProtectionEnabled": self.is_enabled(),
            "TaskArn": task_arn,
        }})
    }
}

/// ECS gives the tasks that a service starts the group `service:<name>`, and no others.
const GROUP_OF_SERVICE: &str = "service:";

/// Whether this is a task that ECS protects.
pub(crate) fn is_offered(task: &TaskSpec) -> bool {
    task.group.starts_with(GROUP_OF_SERVICE)
}

/// "The specified task is not part of an Amazon ECS service"
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_failures_messages.html>); the agent tells a failure
/// with status 200.
pub(crate) fn refused(task_arn: &str) -> Value {
    json!({"failure": {"Arn": task_arn, "Detail": null, "Reason": "TASK_NOT_VALID"}})
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    Protect { minutes: u64 },
    Release,
}

/// Amazon's words for what is wrong with a request; all are an InvalidParameterException.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadUpdate {
    #[error("UpdateTaskProtection: failed to decode request")]
    Malformed,
    #[error("Invalid request: does not contain 'ProtectionEnabled' field")]
    NoFlag,
    #[error("expiresInMinutes must be between 1 and {MAX_MINUTES}")]
    Minutes,
}

impl Update {
    /// Reads `{"ProtectionEnabled": true, "ExpiresInMinutes": 60}`. As with the agent's decoder a name's case does not
    /// matter, null is as good as nothing, and a member that nobody knows is an error.
    pub(crate) fn read(body: &[u8]) -> Result<Update, BadUpdate> {
        let members: Map<String, Value> = serde_json::from_slice(body).map_err(|_| BadUpdate::Malformed)?;
        let (mut enabled, mut minutes) = (None, None);
        for (name, value) in members {
            match name.to_ascii_lowercase().as_str() {
                "protectionenabled" if value.is_null() => {}
                "expiresinminutes" if value.is_null() => {}
                "protectionenabled" => enabled = Some(value.as_bool().ok_or(BadUpdate::Malformed)?),
                "expiresinminutes" => minutes = Some(value.as_i64().ok_or(BadUpdate::Malformed)?),
                _ => return Err(BadUpdate::Malformed),
            }
        }
        match (enabled.ok_or(BadUpdate::NoFlag)?, minutes) {
            (false, _) => Ok(Update::Release),
            (true, None) => Ok(Update::Protect { minutes: DEFAULT_MINUTES }),
            (true, Some(minutes)) => {
                let minutes = u64::try_from(minutes).ok().filter(|minutes| (1..=MAX_MINUTES).contains(minutes));
                Ok(Update::Protect { minutes: minutes.ok_or(BadUpdate::Minutes)? })
            }
        }
    }

    fn protection(self, now: Timestamp) -> Protection {
        match self {
            Update::Protect { minutes } => Protection { until: Some(now.plus_ms(minutes * MINUTE_MS)) },
            Update::Release => Protection::default(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ProtectionError {
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProtectionError {
    let path = path.to_owned();
    move |source| ProtectionError::Io { action, path, source }
}

/// The protection of the task whose state directory this is (`TaskSpec::places.state`).
///
/// # Errors
/// Its file is there and cannot be read.
pub fn of(state: &Path, now: Timestamp) -> Result<Protection, ProtectionError> {
    let path = state.join(FILE_NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Protection::default()),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let record: Record = serde_json::from_slice(&text).map_err(io::Error::other).map_err(failed("read", &path))?;
    Ok(Protection { until: record.protected_until.filter(|until| *until > now) })
}

/// Replaces the file whole. A task whose directory is gone stays gone.
pub(crate) fn update(state: &Path, update: Update, now: Timestamp) -> Result<Protection, ProtectionError> {
    let protection = update.protection(now);
    let (path, temporary) = (state.join(FILE_NAME), state.join(".protection.json.new"));
    let text = serde_json::to_vec(&Record { protected_until: protection.until }).expect("plain data");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(&temporary).map_err(failed("create", &temporary))?;
    file.write_all(&text).map_err(failed("write", &temporary))?;
    file.sync_data().map_err(failed("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(failed("replace", &path))?;
    Ok(protection)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_epoch_ms(1_795_398_837_042);

    #[test]
    fn requests_as_the_agent_reads_them() {
        use BadUpdate::{Malformed, Minutes, NoFlag};
        for (body, expected) in [
            (r#"{"ProtectionEnabled": true}"#, Ok(Update::Protect { minutes: 120 })),
            (r#"{"protectionEnabled": true, "expiresInMinutes": 1}"#, Ok(Update::Protect { minutes: 1 })),
            (r#"{"ProtectionEnabled": true, "ExpiresInMinutes": 2880}"#, Ok(Update::Protect { minutes: 2880 })),
            (r#"{"ProtectionEnabled": true, "ExpiresInMinutes": null}"#, Ok(Update::Protect { minutes: 120 })),
            (r#"{"ProtectionEnabled": false, "ExpiresInMinutes": 5000}"#, Ok(Update::Release)),
            (r#"{"ProtectionEnabled": true, "ExpiresInMinutes": 0}"#, Err(Minutes)),
            (r#"{"ProtectionEnabled": true, "ExpiresInMinutes": -1}"#, Err(Minutes)),
            (r#"{"ProtectionEnabled": true, "ExpiresInMinutes": 2881}"#, Err(Minutes)),
            (r#"{"ProtectionEnabled": true, "ExpiresInMinutes": 1.5}"#, Err(Malformed)),
            (r#"{"ProtectionEnabled": "true"}"#, Err(Malformed)),
            (r#"{"ProtectionEnabled": true, "Other": 1}"#, Err(Malformed)),
            (r#"{"ProtectionEnabled": null}"#, Err(NoFlag)),
            ("{}", Err(NoFlag)),
            ("[]", Err(Malformed)),
            ("", Err(Malformed)),
        ] {
            assert_eq!(Update::read(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn protection_outlives_its_process_and_ends_in_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path();
        assert_eq!(of(state, NOW).expect("no file is no protection"), Protection::default());
        let protected = update(state, Update::Protect { minutes: 60 }, NOW).expect("it can be written");
        let end = NOW.plus_ms(3_600_000);
        assert_eq!(protected, Protection { until: Some(end) });
        assert_eq!(of(state, NOW.plus_ms(3_599_999)).expect("it was written"), protected);
        assert!(!of(state, end).expect("it was written").is_enabled());
        assert_eq!(
            protected.shown("arn"),
            json!({"protection":
                {"ExpirationDate": "2026-11-23T02:53:57.042Z", "ProtectionEnabled": true, "TaskArn": "arn"}})
        );
        update(state, Update::Release, NOW).expect("it can be written");
        let released = of(state, NOW).expect("it was written");
        assert_eq!(
            released.shown("arn"),
            json!({"protection": {"ExpirationDate": null, "ProtectionEnabled": false, "TaskArn": "arn"}})
        );
        fs::write(state.join(FILE_NAME), "{").expect("a test may write");
        assert!(of(state, NOW).is_err());
        assert!(update(&state.join("gone"), Update::Release, NOW).is_err());
    }
}
