//! What a supervisor is asked over its sockets: one JSON object a line, answered by one JSON object a line.
//!
//! Two sockets speak this. The *start* socket pair is inherited from the driver and carries `Go`, once; when it
//! closes before that, the supervisor removes what it made and ends. The *ctl* socket in the task's run directory
//! carries all others; it is mode 0600, and only the same user id is served.

use std::path::PathBuf;

use ecs::ContainerName;
use ecs::tagged::Tagged;
use ecs::task::StopCode;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secrets::ContainerSecrets;
use crate::status::TaskStatus;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "camelCase")]
pub enum Command {
    /// `task.json` is written, the network stands. Comes with descriptors: first `network_namespaces` of them, then
    /// the task's `service_sockets`, the rest are sockets that hold published host ports and only need to stay open.
    #[serde(rename_all = "camelCase")]
    Go {
        network_namespaces: usize,
        #[serde(default)]
        service_sockets: usize,
        #[serde(default)]
        pull_started_at: Option<ecs::Timestamp>,
        #[serde(default)]
        pull_stopped_at: Option<ecs::Timestamp>,
        #[serde(default)]
        secrets: Vec<ContainerSecrets>,
    },
    /// As StopTask: the stop signal, each container's stopTimeout, SIGKILL. Answered when the request is taken.
    #[serde(rename_all = "camelCase")]
    Stop { stop_code: StopCode, reason: String },
    /// SIGKILL to everything at once.
    Kill { reason: String },
    /// Answered by `Answer::Status` now and after every change, until the task is STOPPED and the socket closes.
    Watch,
    /// For `host-services`: answered by `Answer::Serve` with the task's service sockets, then as `Watch`. As long as
    /// this connection is open, the supervisor leaves calls on them to whoever has it.
    Serve,
    /// A further process in a running container. Comes with its standard input, output and error, or, with
    /// `terminal`, with none: then `Answer::Terminal` comes back with the master side of a new terminal.
    /// Answered by `Answer::Exited` at its end. Closing the socket sends the process SIGHUP.
    Exec(Exec),
    /// What a running container with `interactive` or `pseudoTerminal` reads from and shows, for the one who has
    /// started it. Answered by `Answer::Attached`.
    Attach { container: ContainerName },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exec {
    pub container: ContainerName,
    pub command: Vec<String>,
    /// `NAME=VALUE`, over the container's own.
    #[serde(default)]
    pub environment: Vec<String>,
    /// As in a container definition; the container's own when absent.
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub working_directory: Option<String>,
    #[serde(default)]
    pub terminal: bool,
    /// Rows and columns that the terminal begins with.
    #[serde(default)]
    pub terminal_size: Option<(u16, u16)>,
    /// Tools that only this process sees, for a container that has none. It is the container's root then, unless
    /// `user` says otherwise.
    #[serde(default)]
    pub debug: Option<DebugTools>,
}

/// A busybox, which is one file under many names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DebugTools {
    /// A static one on this host.
    pub busybox: PathBuf,
    /// The names of its tools.
    pub applets: Vec<String>,
}

/// A status is read by its own type (`ecs::tagged`), the small answers as derived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase", remote = "Self")]
pub enum Answer {
    Taken,
    #[serde(skip_deserializing)]
    Status {
        status: Box<TaskStatus>,
    },
    Terminal,
    /// With a copy of each of the task's service sockets, in the order of `TaskSpec::service_sockets`.
    Serve,
    /// With `terminal`, two descriptors: the master side of the container's terminal, for input and its size, and a
    /// pipe with a copy of everything that the container shows. Without, one: the only writer of the pipe that is its
    /// standard input. Closing that is the end of the input.
    Attached {
        terminal: bool,
    },
    #[serde(rename_all = "camelCase")]
    Exited {
        exit_code: i32,
    },
    Refused {
        reason: String,
    },
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Answer::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Answer, D::Error> {
        #[derive(Deserialize)]
        struct Status {
            status: Box<TaskStatus>,
        }
        let answer = Tagged::read("answer", from)?;
        match answer.tag.as_str() {
            "status" => answer.members().map(|Status { status }| Answer::Status { status }),
            _ => answer.read_with(|text| Answer::deserialize(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::SecretValue;

    /// A member that has the name of an enum's tag would be written twice and never read again.
    #[test]
    fn every_request_and_answer_is_read_as_it_was_written() {
        let exec = Exec {
            container: ContainerName::try_from("web".to_owned()).expect("a good name"),
            command: vec!["sh".to_owned(), "-c".to_owned()],
            environment: vec!["A=1".to_owned()],
            user: Some("1000".to_owned()),
            working_directory: None,
            terminal: true,
            terminal_size: Some((24, 80)),
            debug: Some(DebugTools { busybox: "/bin/busybox".into(), applets: vec!["sh".to_owned()] }),
        };
        let reason = "because".to_owned();
        let commands = [
            Command::Go {
                network_namespaces: 2,
                service_sockets: 6,
                pull_started_at: None,
                pull_stopped_at: None,
                secrets: vec![ContainerSecrets {
                    container: ContainerName::try_from("web".to_owned()).expect("a good name"),
                    environment: vec![("A".to_owned(), SecretValue("1".to_owned()))],
                    files: vec![("/run/a".into(), SecretValue("2".to_owned()))],
                    log_options: [("splunk-token".to_owned(), SecretValue("3".to_owned()))].into(),
                }],
            },
            Command::Stop { stop_code: StopCode::UserInitiated, reason: reason.clone() },
            Command::Kill { reason: reason.clone() },
            Command::Watch,
            Command::Serve,
            Command::Exec(exec),
            Command::Attach { container: ContainerName::try_from("web".to_owned()).expect("a good name") },
        ];
        for command in commands {
            let line = serde_json::to_string(&command).expect("plain data");
            assert_eq!(serde_json::from_str::<Command>(&line).expect(&line), command);
        }
        let answers = [
            Answer::Taken,
            Answer::Terminal,
            Answer::Serve,
            Answer::Attached { terminal: true },
            Answer::Exited { exit_code: 3 },
            Answer::Refused { reason },
        ];
        for answer in answers {
            let line = serde_json::to_string(&answer).expect("plain data");
            assert_eq!(serde_json::from_str::<Answer>(&line).expect(&line), answer);
        }
    }
}
