//! The other end of an agent's session, in the hands of a test: it says what a control plane may say, and waits for what it
//! is told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use agent_protocol::session::{AssignedTask, Assignment, Desired, FromInstance, Generation, Hello, ToInstance};
use ecs::task::{LastStatus, StopCode, Task};
use ecs::{ContainerInstanceId, TaskId, Timestamp};
use serde_json::Value;

use super::{PATIENCE, wait_for};

/// Where agents dial.
pub(crate) struct ControlPlane {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlPlane {
    pub(crate) fn listen(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).expect("a test may listen in its own directory");
        listener.set_nonblocking(true).expect("a socket can be made so");
        Self { listener, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next agent that comes, before it is welcomed.
    pub(crate) fn accept(&self) -> Session {
        loop {
            let stream = wait_for("an agent to come", || self.listener.accept().ok()).0;
            stream.set_nonblocking(false).expect("a socket can be made so");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
            let mut session = Session { stream, hello: None, tasks: BTreeMap::new(), runtime_ids: BTreeMap::new() };
            // One that dialled before it was killed, or gave up, waits in front of the next.
            if session.upgrade().is_err() {
                continue;
            }
            match session.hear() {
                FromInstance::Hello(hello) => session.hello = Some(*hello),
                other => panic!("an agent says Hello first, not {other:?}"),
            }
            return session;
        }
    }

    /// The next agent, welcomed, and its first report: all that it has.
    pub(crate) fn welcome(&self) -> (Session, Vec<Task>) {
        let mut session = self.accept();
        let cluster = session.hello().cluster.clone();
        session.say(&ToInstance::Welcome { instance: instance(), cluster });
        match session.hear() {
            FromInstance::Report { whole: true, tasks } => {
                (session, tasks.into_iter().map(|report| *report.task).collect())
            }
            other => panic!("an agent that is welcome reports all its tasks, not {other:?}"),
        }
    }
}

pub(crate) fn instance() -> ContainerInstanceId {
    ContainerInstanceId::from_bytes([0xaa; 16])
}

pub(crate) fn task_id(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

pub(crate) fn assignment(generation: u64, tasks: Vec<AssignedTask>) -> Assignment {
    Assignment { generation: Generation { epoch: 1, generation }, tasks }
}

pub(crate) fn running(id: &TaskId, definition: &Value) -> AssignedTask {
    AssignedTask {
        id: id.clone(),
        cluster: "harbour".to_owned(),
        region: "eu-west-1".to_owned(),
        account_id: "123456789012".to_owned(),
        definition: Box::new(serde_json::from_value(definition.clone()).expect("a task definition")),
        launch_type: "EC2".to_owned(),
        group: "family:test".to_owned(),
        service: None,
        network: None,
        enable_execute_command: true,
        tags: Vec::new(),
        created_at: Timestamp::from_epoch_ms(1_700_000_000_000),
        desired: Desired::Running,
    }
}

pub(crate) fn stopped(task: AssignedTask) -> AssignedTask {
    let desired = Desired::Stopped { code: StopCode::UserInitiated, reason: "Task stopped by user".to_owned() };
    AssignedTask { desired, ..task }
}

/// One agent's connection.
pub(crate) struct Session {
    stream: UnixStream,
    hello: Option<Hello>,
    /// How each task stood when it was last told.
    tasks: BTreeMap<TaskId, Task>,
    /// Of all its containers that were ever reported: a second start of a task has others.
    runtime_ids: BTreeMap<TaskId, BTreeSet<String>>,
}

impl Session {
    pub(crate) fn hello(&self) -> &Hello {
        self.hello.as_ref().expect("an accepted session has said it")
    }

    /// How often a task of one container has been begun, as far as reports tell.
    pub(crate) fn starts_of(&self, id: &TaskId) -> usize {
        self.runtime_ids.get(id).map_or(0, BTreeSet::len)
    }

    /// The error is that the agent has gone.
    fn upgrade(&mut self) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.stream.read_exact(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    panic!("the agent does not ask for an upgrade")
                }
                read => read?,
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        assert!(head.starts_with("get /agent http/1.1\r\n") && head.contains("upgrade: coracle-agent"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: coracle-agent\r\n\r\n";
        self.stream.write_all(answer.as_bytes())
    }

    pub(crate) fn say(&mut self, message: &ToInstance) {
        let body = serde_json::to_vec(message).expect("plain data");
        let length = u32::try_from(body.len()).expect("a small message");
        let frame = [&length.to_be_bytes()[..], &body].concat();
        self.stream.write_all(&frame).expect("the agent reads");
    }

    pub(crate) fn assign(&mut self, assignment: Assignment) {
        self.say(&ToInstance::Assignment(assignment));
    }

    pub(crate) fn hear(&mut self) -> FromInstance {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("the agent says something");
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).expect("a whole frame");
        let message = serde_json::from_slice(&body).expect("a message");
        if let FromInstance::Report { tasks, .. } = &message {
            for report in tasks {
                let known = self.runtime_ids.entry(report.id.clone()).or_default();
                known.extend(report.task.containers.iter().filter_map(|container| container.runtime_id.clone()));
            }
        }
        if let FromInstance::Report { tasks, .. } = &message {
            self.tasks.extend(tasks.iter().map(|report| (report.id.clone(), (*report.task).clone())));
        }
        message
    }

    /// Hears until something is what is waited for.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, mut look: impl FnMut(FromInstance) -> Option<T>) -> T {
        loop {
            let message = self.hear();
            if let Some(found) = look(message) {
                return found;
            }
        }
    }

    /// Until a report says that a task has come so far, or has stopped.
    #[track_caller]
    pub(crate) fn reported(&mut self, id: &TaskId, status: LastStatus) -> Task {
        loop {
            if let Some(task) = self.tasks.get(id).filter(|task| task.last_status >= status) {
                return task.clone();
            }
            self.hear();
        }
    }

    #[track_caller]
    pub(crate) fn written(&mut self, wanted: u64) {
        self.wait(|message| match message {
            FromInstance::Written { generation } => (generation.generation >= wanted).then_some(()),
            _ => None,
        });
    }
}
