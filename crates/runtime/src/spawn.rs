//! The driver's side of a task's start: begin its supervisor early, hand it the task when all is prepared.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use agent_protocol::task_spec::Places;
use agent_protocol::{Command, ContainerSecrets};
use ecs::{TaskId, Timestamp};

use crate::cgroup::Cgroups;
use crate::client::{Client, ClientError};
use crate::sealed_exe;
use crate::task_dir::{Claim, NewTask};

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "task-supervisor";

/// Where a supervisor finds its start socket.
pub const START_SOCKET: i32 = 3;

/// How long a supervisor may take to answer `Go`; it writes one small file meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What a supervisor is told on its command line. Names no secrets: everybody can read it in /proc.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisorArgs {
    pub id: TaskId,
    pub places: Places,
}

#[derive(Debug, thiserror::Error)]
#[error("task-supervisor is started by coracle itself: ID STATE-DIR RUN-DIR CGROUP SUPERVISOR-CGROUP, not {given:?}")]
pub struct NotSupervisorArgs {
    given: Vec<OsString>,
}

impl SupervisorArgs {
    pub fn to_words(&self) -> Vec<OsString> {
        let Places { state, run, cgroup, supervisor_cgroup } = &self.places;
        let mut words = vec![OsString::from(self.id.as_str())];
        words.extend([state, run, cgroup, supervisor_cgroup].map(|path| path.clone().into_os_string()));
        words
    }

    /// The words after the subcommand.
    pub fn from_words(words: &[OsString]) -> Result<SupervisorArgs, NotSupervisorArgs> {
        let refused = || NotSupervisorArgs { given: words.to_vec() };
        let [id, state, run, cgroup, supervisor_cgroup] = words else { return Err(refused()) };
        let id = id.to_str().and_then(|id| TaskId::try_from(id.to_owned()).ok()).ok_or_else(refused)?;
        let path = |word: &OsStr| PathBuf::from(word);
        let places = Places {
            state: path(state),
            run: path(run),
            cgroup: path(cgroup),
            supervisor_cgroup: path(supervisor_cgroup),
        };
        Ok(SupervisorArgs { id, places })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("cannot make the start socket")]
    Socket(#[source] io::Error),
    #[error("cannot start the task's supervisor")]
    Start(#[source] io::Error),
}

/// A supervisor that waits for its task. Dropping it makes the supervisor remove what there is of the task, its
/// directories included, and end.
#[derive(Debug)]
pub struct StartHandle {
    pub id: TaskId,
    pub places: Places,
    client: Client,
    _claim: Claim,
}

/// What goes with `Go` besides `task.json`.
#[derive(Debug, Default)]
pub struct Handover {
    /// In the order that `NetworkNamespace::Received` counts.
    pub network_namespaces: Vec<OwnedFd>,
    /// In the order of `TaskSpec::service_sockets`.
    pub service_sockets: Vec<OwnedFd>,
    /// Sockets that hold published host ports.
    pub held_ports: Vec<OwnedFd>,
    pub pull_started_at: Option<Timestamp>,
    pub pull_stopped_at: Option<Timestamp>,
    /// Over the socket only; nobody writes them down.
    pub secrets: Vec<ContainerSecrets>,
}

/// Starts the supervisor of a task whose directories were just made. It needs neither `task.json` nor the network
/// yet, so this comes first and costs the start nothing.
pub fn spawn(task: NewTask) -> Result<StartHandle, SpawnError> {
    let (ours, theirs) = UnixStream::pair().map_err(SpawnError::Socket)?;
    ours.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(SpawnError::Socket)?;
    let args = SupervisorArgs { id: task.id.clone(), places: task.places.clone() };
    let words: Vec<OsString> = [OsString::from(SUBCOMMAND)].into_iter().chain(args.to_words()).collect();
    let birthplace = birthplace(&task.places);
    let socket = OwnedFd::from(theirs);
    sealed_exe::spawn_self(&words, &socket, birthplace.as_ref().map(AsFd::as_fd)).map_err(SpawnError::Start)?;
    Ok(StartHandle { id: task.id, places: task.places, client: Client::of_stream(ours), _claim: task.claim })
}

/// The supervisor's own v2 cgroup: being born there is free, moving there later waits for a grace period. What goes
/// wrong here goes wrong again in the supervisor, which says so.
fn birthplace(places: &Places) -> Option<OwnedFd> {
    let cgroups = Cgroups::detect().ok()?;
    cgroups.prepare_supervisor_leaf(&places.supervisor_cgroup).ok()?;
    cgroups.birthplace(&places.supervisor_cgroup).ok()?
}

impl StartHandle {
    /// `task.json` is written and the network stands: returns when the supervisor has made the task its own and
    /// written its first status. From then on the caller may end, however it likes.
    pub fn go(mut self, handover: Handover) -> Result<(), ClientError> {
        let Handover { network_namespaces, service_sockets, held_ports, pull_started_at, pull_stopped_at, secrets } =
            handover;
        let descriptors = network_namespaces.iter().chain(&service_sockets).chain(&held_ports);
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.map(AsFd::as_fd).collect();
        let go = Command::Go {
            network_namespaces: network_namespaces.len(),
            service_sockets: service_sockets.len(),
            pull_started_at,
            pull_stopped_at,
            secrets,
        };
        match self.client.ask(&go, &descriptors) {
            // A supervisor that could not begin has said why before it ended.
            Ok(()) | Err(ClientError::Ended) => self.client.taken(),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_read_as_it_was_written() {
        let id = TaskId::from_bytes([7; 16]);
        let places = Places {
            state: "/var/lib/a b/tasks/x".into(),
            run: "/run/coracle/tasks/x".into(),
            cgroup: "/coracle/x".into(),
            supervisor_cgroup: "/coracle/supervisor-x".into(),
        };
        let args = SupervisorArgs { id, places };
        assert_eq!(SupervisorArgs::from_words(&args.to_words()).expect("the same words"), args);
        let few = SupervisorArgs::from_words(&args.to_words()[..4]).expect_err("a word is missing");
        assert!(few.to_string().contains("started by coracle itself"));
    }
}
