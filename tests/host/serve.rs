//! A container instance and its control plane: the agent against a control plane that the test plays, and `coracle serve`
//! as a whole.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use agent_protocol::session::{FromInstance, OpenExec, ToInstance};
use ecs::task::{LastStatus, StopCode, Task};
use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, Session, assignment, instance, running, stopped, task_id};
use crate::support::netns::{self, LAN_ADDRESS_OF_HOST};
use crate::support::{Host, Running, audit, cgroups, definition, process, unique, wait_for};

/// A host whose agent dials a control plane of the test's.
struct Harbour {
    host: Host,
    plane: ControlPlane,
}

impl Harbour {
    fn new() -> Self {
        let host = Host::new();
        host.import_probe();
        let plane = ControlPlane::listen(host.places.root.join("plane.sock"));
        Self { host, plane }
    }

    fn agent(&self) -> Running {
        Running::start(&mut self.command())
    }

    fn command(&self) -> Command {
        let socket = self.plane.path().to_str().expect("a path of a test").to_owned();
        let mut command = self.host.command(["-v", "agent", "--region", "eu-west-1", "--socket", &socket]);
        command.env("ECS_CLUSTER", "harbour").env("ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached");
        command
    }

    /// The processes of one of a task's containers.
    fn processes(&self, task: &ecs::TaskId, container: &str) -> Vec<i32> {
        let end = format!("{task}/{container}");
        let of_container =
            cgroups::below(&self.host.places.cgroup_parent).into_iter().filter(|one| one.ends_with(&end));
        let mut found: Vec<i32> = of_container.flat_map(|cgroup| cgroups::processes(&cgroup)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn finish(self, agent: Running) {
        agent.signal(libc::SIGTERM);
        agent.wait().ok();
        drop(self.plane);
        self.host.finish();
    }
}

fn waits() -> Value {
    definition::bridge_task(&[definition::container("main", &["wait", "7"], &json!({"stopTimeout": 20}))])
}

fn exit_code(task: &Task) -> Option<i32> {
    task.containers[0].exit_code
}

#[test]
fn a_task_of_an_assignment_runs_and_stops() {
    let harbour = Harbour::new();
    let agent = harbour.agent();
    let (mut session, before) = harbour.plane.welcome();
    assert_eq!(before.len(), 0);
    let hello = session.hello().clone();
    assert_eq!((hello.cluster.as_str(), hello.instance), ("harbour", None));
    assert!(hello.cpu >= 1024 && hello.memory_mib > 0 && hello.reserved_ports.contains(&51_678));
    let id = task_id(1);
    let task = running(&id, &waits());
    session.assign(assignment(1, vec![task.clone()]));
    session.written(1);
    let reported = session.reported(&id, LastStatus::Running);
    assert_eq!(reported.task_arn, format!("arn:aws:ecs:eu-west-1:123456789012:task/harbour/{id}"));
    assert_eq!((reported.created_at, reported.launch_type.as_str()), (task.created_at, "EC2"));
    assert!(reported.containers[0].runtime_id.is_some() && reported.started_at.is_some());
    // It is a task of this host like any other.
    let listed = harbour.host.coracle(["ps", "--output", "json"]).ok().json();
    assert_eq!(listed[0]["taskArn"], reported.task_arn);
    wait_for("the container to wait", || {
        harbour.host.coracle(["logs", id.as_str()]).ok().stdout.contains("waiting").then_some(())
    });
    session.assign(assignment(2, vec![stopped(task)]));
    let ended = session.reported(&id, LastStatus::Stopped);
    assert_eq!((ended.stop_code, exit_code(&ended)), (Some(StopCode::UserInitiated), Some(7)));
    assert_eq!(ended.stopped_reason.as_deref(), Some("Task stopped by user"));
    session.assign(assignment(3, Vec::new()));
    session.written(3);
    harbour.finish(agent);
}

#[test]
fn an_agent_that_is_killed_takes_its_tasks_over_without_touching_them() {
    let harbour = Harbour::new();
    let agent = harbour.agent();
    let (mut session, _) = harbour.plane.welcome();
    let ids = [task_id(1), task_id(2)];
    let tasks = ids.each_ref().map(|id| running(id, &waits()));
    session.assign(assignment(5, tasks.to_vec()));
    for id in &ids {
        session.reported(id, LastStatus::Running);
        harbour.host.wait_until_it_waits(id.as_str());
    }
    let processes = harbour.processes(&ids[0], "main");
    assert_eq!(processes.len(), 1);
    process::kill(agent.pid());
    drop((agent, session));
    // One ends while nobody looks.
    harbour.host.coracle(["stop", ids[1].as_str()]).ok();
    let agent = harbour.agent();
    let (mut session, whole) = harbour.plane.welcome();
    assert_eq!(session.hello().written.generation, 5, "the assignment was written down");
    assert_eq!(session.hello().instance.as_ref(), Some(&instance()));
    assert_eq!(whole.len(), 2, "{whole:?}");
    let ended = session.reported(&ids[1], LastStatus::Running);
    assert_eq!((ended.last_status, ended.stop_code), (LastStatus::Stopped, Some(StopCode::UserInitiated)));
    session.reported(&ids[0], LastStatus::Running);
    assert_eq!(harbour.processes(&ids[0], "main"), processes, "the container was not interrupted");
    // What is older, or as old, does nothing: neither starts nor stops.
    session.assign(assignment(4, Vec::new()));
    session.assign(assignment(5, vec![stopped(tasks[0].clone()), running(&task_id(3), &waits())]));
    session.assign(assignment(6, vec![tasks[0].clone()]));
    session.written(6);
    assert_eq!(harbour.processes(&ids[0], "main"), processes);
    assert_eq!(harbour.processes(&task_id(3), "main"), Vec::<i32>::new());
    session.assign(assignment(7, vec![stopped(tasks[0].clone())]));
    let ended = session.reported(&ids[0], LastStatus::Stopped);
    assert_eq!(exit_code(&ended), Some(7));
    harbour.finish(agent);
}

#[test]
fn a_task_that_leaves_the_assignment_is_stopped_and_runs_on_without_a_control_plane() {
    let harbour = Harbour::new();
    let agent = harbour.agent();
    let (mut session, _) = harbour.plane.welcome();
    let id = task_id(1);
    session.assign(assignment(1, vec![running(&id, &waits())]));
    session.reported(&id, LastStatus::Running);
    // The control plane goes: nothing happens to the task, nor does a new agent without one stop it.
    drop(session);
    process::kill(agent.pid());
    drop(agent);
    let agent = harbour.agent();
    let (mut session, _) = harbour.plane.welcome();
    assert_eq!(harbour.processes(&id, "main").len(), 1);
    session.assign(assignment(2, Vec::new()));
    session.written(2);
    wait_for("the task to go", || harbour.processes(&id, "main").is_empty().then_some(()));
    wait_for("it to have stopped", || (harbour.host.inspect(id.as_str())["lastStatus"] == "STOPPED").then_some(()));
    harbour.finish(agent);
}

#[test]
fn a_start_that_fails_is_a_stopped_task_with_amazons_reason_and_is_never_tried_again() {
    let harbour = Harbour::new();
    let agent = harbour.agent();
    let (mut session, _) = harbour.plane.welcome();
    let mut no_image = waits();
    no_image["containerDefinitions"][0]["image"] = json!("127.0.0.1:1/nobody/nothing:1");
    let mut no_secret = waits();
    no_secret["containerDefinitions"][0]["secrets"] = json!([{"name": "A", "valueFrom": "/nobody/knows"}]);
    let port = json!({"portMappings": [{"containerPort": 80, "hostPort": 8080}], "stopTimeout": 2});
    let taken = definition::bridge_task(&[definition::container("main", &["wait"], &port)]);
    let cases = [
        (task_id(1), no_image, "CannotPullContainerError: container main: image 127.0.0.1:1/nobody/nothing:1"),
        (task_id(2), no_secret, "ResourceInitializationError: unable to pull secrets or registry auth"),
        (task_id(4), taken.clone(), "CannotStartContainerError: "),
    ];
    let holder = running(&task_id(3), &taken);
    session.assign(assignment(1, vec![holder.clone()]));
    session.reported(&holder.id, LastStatus::Running);
    let failing: Vec<_> = cases.iter().map(|(id, definition, _)| running(id, definition)).collect();
    session.assign(assignment(2, [vec![holder.clone()], failing.clone()].concat()));
    let mut missing: Vec<_> = cases.iter().map(|(id, _, reason)| (id.clone(), *reason)).collect();
    session.wait(|message| {
        let FromInstance::Report { tasks, .. } = message else { return None };
        for report in tasks.iter().filter(|report| report.task.last_status == LastStatus::Stopped) {
            assert_eq!(report.task.stop_code, Some(StopCode::TaskFailedToStart), "{report:?}");
            let said = report.task.stopped_reason.clone().expect("a reason");
            let (_, wanted) = missing.iter().find(|(id, _)| *id == report.id).expect("one of those that fail");
            assert!(said.starts_with(wanted), "{said:?} does not begin with {wanted:?}");
            missing.retain(|(id, _)| *id != report.id);
        }
        missing.is_empty().then_some(())
    });
    process::kill(agent.pid());
    drop((agent, session));
    let agent = harbour.agent();
    let (mut session, whole) = harbour.plane.welcome();
    let stopped_ones = whole.iter().filter(|task| task.last_status == LastStatus::Stopped).count();
    assert_eq!((whole.len(), stopped_ones), (4, 3), "{whole:?}");
    session.assign(assignment(3, vec![stopped(holder.clone())]));
    session.reported(&holder.id, LastStatus::Stopped);
    harbour.finish(agent);
}

#[test]
fn a_task_that_is_stopped_before_it_starts_never_starts() {
    let harbour = Harbour::new();
    let agent = harbour.agent();
    let (mut session, _) = harbour.plane.welcome();
    let id = task_id(1);
    let task = running(&id, &waits());
    session.assign(assignment(1, vec![stopped(task.clone())]));
    let ended = session.reported(&id, LastStatus::Stopped);
    assert_eq!((ended.stop_code, ended.started_at), (Some(StopCode::UserInitiated), None));
    // Nothing of what comes later can start it.
    session.assign(assignment(2, vec![task]));
    session.written(2);
    assert_eq!(harbour.processes(&id, "main"), Vec::<i32>::new());
    // A start and its stop in one breath: it may have run or not, and it ends.
    let ids: Vec<_> = (10..20).map(task_id).collect();
    session.assign(assignment(3, ids.iter().map(|id| running(id, &waits())).collect()));
    session.assign(assignment(4, ids.iter().map(|id| stopped(running(id, &waits()))).collect()));
    let mut left = ids.clone();
    session.wait(|message| {
        let FromInstance::Report { tasks, .. } = message else { return None };
        let ended: Vec<_> = tasks.iter().filter(|report| report.task.last_status == LastStatus::Stopped).collect();
        left.retain(|id| !ended.iter().any(|report| report.id == *id));
        left.is_empty().then_some(())
    });
    harbour.finish(agent);
}

const KILLS: u8 = 12;
/// A whole start takes about this long in a debug build on a busy machine.
const LONGEST: Duration = Duration::from_millis(200);

fn a_moment() -> Duration {
    let dice = u32::from_str_radix(&unique(), 16).expect("hexadecimal digits");
    LONGEST.mul_f64(f64::from(dice) / f64::from(u32::MAX))
}

#[test]
fn an_agent_that_is_killed_during_a_start_never_starts_a_task_twice() {
    let harbour = Harbour::new();
    let port = json!({"portMappings": [{"containerPort": 80, "hostPort": 8080}], "stopTimeout": 10});
    let definition = definition::bridge_task(&[definition::container("main", &["wait", "7"], &port)]);
    let mut agent = harbour.agent();
    let (mut session, _) = harbour.plane.welcome();
    for round in 0..KILLS {
        let id = task_id(round);
        let task = running(&id, &definition);
        let generation = u64::from(round) * 10 + 1;
        let moment = a_moment();
        session.assign(assignment(generation, vec![task.clone()]));
        agent.ends_within(moment);
        process::kill(agent.pid());
        drop(agent);
        drop(session);
        agent = harbour.agent();
        session = harbour.plane.welcome().0;
        session.assign(assignment(generation + 1, vec![task.clone()]));
        let settled = session.reported(&id, LastStatus::Running);
        if settled.last_status == LastStatus::Running {
            session.assign(assignment(generation + 2, vec![stopped(task)]));
            session.reported(&id, LastStatus::Stopped);
        } else {
            assert_eq!(settled.stop_code, Some(StopCode::TaskFailedToStart), "round {round}: {settled:?}");
        }
        assert!(session.starts_of(&id) <= 1, "round {round}, killed after {moment:?}");
        // All that may be here is the agent with its own socket.
        wait_for("everything of the task to go", || {
            let left = audit::leftovers(&harbour.host.places, &harbour.host.namespace);
            left.iter().all(|one| one.contains(" agent ") || one.starts_with("socket ")).then_some(())
        });
    }
    harbour.finish(agent);
}

#[test]
fn commands_run_side_by_side_in_a_tasks_container() {
    let harbour = Harbour::new();
    let agent = harbour.agent();
    let (mut session, _) = harbour.plane.welcome();
    let id = task_id(1);
    let task = running(&id, &waits());
    session.assign(assignment(1, vec![task.clone()]));
    session.reported(&id, LastStatus::Running);
    let open = |session: &mut Session, name: &str, command: &[&str]| {
        let container = ecs::ContainerName::try_from("main".to_owned()).expect("a name");
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let open = OpenExec { session: name.to_owned(), task: id.clone(), container, command, rows: 30, columns: 90 };
        session.say(&ToInstance::OpenExec(open));
    };
    open(&mut session, "ends", &["/bin/probe", "exit", "9"]);
    open(&mut session, "stays", &["/bin/probe", "forever"]);
    open(&mut session, "fails", &["/bin/nothing"]);
    open(&mut session, "says", &["/bin/probe", "say", "ahoy"]);
    let (mut said, mut ended, mut refused) = (String::new(), Vec::new(), 0);
    session.wait(|message| {
        match message {
            FromInstance::ExecOutput { session, bytes } if session == "says" => {
                said.push_str(&String::from_utf8_lossy(&bytes));
            }
            FromInstance::ExecEnded { session, exit_code } => ended.push((session, exit_code)),
            FromInstance::ExecOpened { session, refused: Some(_) } if session == "fails" => refused += 1,
            _ => {}
        }
        let is_over = |name: &str| ended.iter().any(|(session, _)| session == name);
        (is_over("ends") && is_over("says") && (refused == 1 || is_over("fails"))).then_some(())
    });
    assert!(ended.contains(&("ends".to_owned(), 9)) && said.contains("ahoy"), "{ended:?} {said:?}");
    // Those that have ended may still be on their way out, and this one may not have begun.
    wait_for("one command to run still", || (harbour.processes(&id, "main").len() == 2).then_some(()));
    session.say(&ToInstance::ExecResize { session: "stays".to_owned(), rows: 40, columns: 100 });
    session.say(&ToInstance::CloseExec { session: "stays".to_owned() });
    wait_for("the command to be hung up on", || (harbour.processes(&id, "main").len() == 1).then_some(()));
    // A command of a task that is not here is refused.
    let container = ecs::ContainerName::try_from("main".to_owned()).expect("a name");
    let nowhere = OpenExec {
        session: "nowhere".to_owned(),
        task: task_id(9),
        container,
        command: vec!["/bin/probe".to_owned()],
        rows: 1,
        columns: 1,
    };
    session.say(&ToInstance::OpenExec(nowhere));
    session.wait(|message| match message {
        FromInstance::ExecOpened { session, refused: Some(_) } if session == "nowhere" => Some(()),
        _ => None,
    });
    session.assign(assignment(2, vec![stopped(task)]));
    session.reported(&id, LastStatus::Stopped);
    harbour.finish(agent);
}

/// The disk's copy is what counts, so a host that starts again without its control plane goes on.
#[test]
fn what_was_never_begun_starts_from_the_disk_and_a_standalone_task_of_an_earlier_boot_does_not() {
    let harbour = Harbour::new();
    let data = harbour.host.places.data_dir();
    let tasks = [running(&task_id(1), &waits()), {
        let mut service = running(&task_id(2), &waits());
        service.service = Some("web".to_owned());
        service
    }];
    let kept = json!({"bootId": "an-earlier-one", "assignment": assignment(3, tasks.to_vec())});
    fs::create_dir_all(&data).expect("a test may write to its own directory");
    fs::write(data.join("assignment.json"), kept.to_string()).expect("written");
    let agent = harbour.agent();
    // Nobody has welcomed it yet.
    let plane = &harbour.plane;
    let waiting = plane.accept();
    wait_for("the service's task to run", || (harbour.processes(&task_id(2), "main").len() == 1).then_some(()));
    drop(waiting);
    let (mut session, whole) = plane.welcome();
    let standalone = whole.iter().find(|task| task.task_arn.ends_with(task_id(1).as_str())).expect("it is reported");
    assert_eq!(
        (standalone.last_status, standalone.stop_code),
        (LastStatus::Stopped, Some(StopCode::TerminationNotice))
    );
    assert!(standalone.stopped_reason.as_deref().is_some_and(|reason| reason.starts_with("Host EC2 (instance ")));
    session.assign(assignment(4, vec![stopped(tasks[1].clone())]));
    session.reported(&task_id(2), LastStatus::Stopped);
    harbour.finish(agent);
}

/// What a reboot leaves: directories of tasks whose supervisors are gone, all of another boot.
#[test]
fn after_a_reboot_a_services_task_runs_again_and_a_standalone_one_does_not() {
    let harbour = Harbour::new();
    let data = harbour.host.places.data_dir();
    let agent = harbour.agent();
    let (mut session, _) = harbour.plane.welcome();
    let standalone = running(&task_id(1), &waits());
    let mut service = running(&task_id(2), &waits());
    service.service = Some("web".to_owned());
    session.assign(assignment(1, vec![standalone.clone(), service.clone()]));
    let before = [&standalone, &service].map(|task| session.reported(&task.id, LastStatus::Running));
    process::kill(agent.pid());
    drop((agent, session));
    for task in [&standalone, &service] {
        // A supervisor's identity, and its container's: both die with the power.
        let status = data.join("tasks").join(task.id.as_str()).join("status.json");
        let read: Value = serde_json::from_slice(&fs::read(&status).expect("a status")).expect("JSON");
        process::kill(read["supervisor"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process"));
        for process in harbour.processes(&task.id, "main") {
            process::kill(process);
        }
        let boot_id = read["supervisor"]["boot_id"].as_str().expect("a boot").to_owned();
        for file in [status, data.join("agent/tasks").join(task.id.as_str()), data.join("assignment.json")] {
            let text = fs::read_to_string(&file).expect("it is there");
            fs::write(&file, text.replace(&boot_id, "an-earlier-boot")).expect("written");
        }
    }
    let agent = harbour.agent();
    let (mut session, _) = harbour.plane.welcome();
    let ended = session.reported(&standalone.id, LastStatus::Stopped);
    assert_eq!(ended.stop_code, Some(StopCode::TerminationNotice), "{ended:?}");
    assert!(ended.stopped_reason.as_deref().is_some_and(|reason| reason.starts_with("Host EC2 (instance ")));
    let again = session.reported(&service.id, LastStatus::Running);
    assert_eq!(again.last_status, LastStatus::Running, "{again:?}");
    assert_ne!(again.containers[0].runtime_id, before[1].containers[0].runtime_id);
    assert!(again.version > before[1].version, "what is reported now is newer than what was");
    session.assign(assignment(2, vec![stopped(service.clone())]));
    session.reported(&service.id, LastStatus::Stopped);
    harbour.finish(agent);
}

#[test]
fn starts_are_left_alone_by_the_commands_that_clean_up() {
    let harbour = Harbour::new();
    let agent = harbour.agent();
    let (mut session, _) = harbour.plane.welcome();
    let tasks: Vec<_> = (1..=12).map(|number| running(&task_id(number), &waits())).collect();
    session.assign(assignment(1, tasks.clone()));
    let own = definition::task(&[definition::container("main", &["exit", "0"], &Value::Null)]);
    for _ in 0..6 {
        harbour.host.coracle(["ps"]).ok();
        harbour.host.run(&own, &[]).ok();
    }
    for task in &tasks {
        let reported = session.reported(&task.id, LastStatus::Running);
        assert_eq!(reported.last_status, LastStatus::Running, "{reported:?}");
        harbour.host.wait_until_it_waits(task.id.as_str());
    }
    session.assign(assignment(2, tasks.iter().cloned().map(stopped).collect()));
    for task in &tasks {
        assert_eq!(exit_code(&session.reported(&task.id, LastStatus::Stopped)), Some(7));
    }
    harbour.finish(agent);
}

/// `coracle serve`, asked over its socket as root of the host asks.
pub(crate) struct Served {
    pub(crate) daemon: Running,
    socket: PathBuf,
}

impl Served {
    pub(crate) fn start(host: &Host) -> Self {
        Self::start_with(host, &["--dev", "--listen", "127.0.0.1:0"])
    }

    pub(crate) fn start_with(host: &Host, words: &[&str]) -> Self {
        let mut command = host.command([&["-v", "serve"], words].concat());
        command.env("ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached");
        let daemon = Running::start(&mut command);
        daemon.wait_for_errors("the API is at");
        let said = daemon.stderr();
        let line = said.lines().find(|line| line.contains("the API is at")).expect("it says where");
        let socket = line.rsplit(' ').next().expect("a path is the last word");
        Self { socket: PathBuf::from(socket), daemon }
    }

    pub(crate) fn ask(&self, operation: &str, body: &Value) -> Value {
        let target = format!("x-amz-target: AmazonEC2ContainerServiceV20141113.{operation}\r\n");
        self.post("/", &format!("content-type: application/x-amz-json-1.1\r\n{target}"), &body.to_string())
    }

    pub(crate) fn post(&self, path: &str, headers: &str, body: &str) -> Value {
        let mut stream = UnixStream::connect(&self.socket).expect("the socket listens");
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert!(head.starts_with("HTTP/1.1 200"), "{path} {headers}: {answer}");
        value
    }

    /// Of an answer that is no operation's.
    fn status(&self, path: &str) -> u16 {
        let mut stream = UnixStream::connect(&self.socket).expect("the socket listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status: {answer}"))
    }

    pub(crate) fn described(&self, arn: &str, status: &str) -> Value {
        wait_for(&format!("{arn} to be {status}"), || {
            let task = self.ask("DescribeTasks", &json!({"tasks": [arn]}))["tasks"][0].clone();
            (task["lastStatus"] == status).then_some(task)
        })
    }

    pub(crate) fn run_task(&self, definition: &Value) -> String {
        self.ask("RegisterTaskDefinition", definition);
        let run = self.ask("RunTask", &json!({"taskDefinition": definition["family"]}));
        run["tasks"][0]["taskArn"].as_str().unwrap_or_else(|| panic!("no task: {run}")).to_owned()
    }
}

#[test]
fn run_task_runs_and_stop_task_stops_it() {
    let host = Host::new();
    host.import_probe();
    let served = Served::start(&host);
    let arn = served.run_task(&waits());
    let task = served.described(&arn, "RUNNING");
    assert_eq!(task["desiredStatus"], "RUNNING");
    host.wait_until_it_waits(&arn);
    served.ask("StopTask", &json!({"task": arn, "reason": "enough"}));
    let task = served.described(&arn, "STOPPED");
    assert_eq!((&task["stoppedReason"], &task["containers"][0]["exitCode"]), (&json!("enough"), &json!(7)));
    served.daemon.signal(libc::SIGTERM);
    served.daemon.wait().ok();
    host.finish();
}

/// With its word that it listens, a daemon has the instance that RunTask looks for; so has one that says that it is ready.
#[test]
fn who_is_told_that_the_api_is_there_gets_a_task_at_once() {
    let host = Host::new();
    host.import_probe();
    for _ in 0..5 {
        let served = Served::start(&host);
        assert_eq!(served.status("/readyz"), 200);
        let arn = served.run_task(&waits());
        served.ask("StopTask", &json!({"task": arn}));
        served.described(&arn, "STOPPED");
        served.daemon.signal(libc::SIGTERM);
        served.daemon.wait().ok();
        // The next one has never heard of this instance.
        for name in ["state", "agent", "assignment.json"] {
            let path = host.places.data_dir().join(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it is there");
        }
    }
    let without = Served::start_with(&host, &["--dev", "--no-agent", "--listen", "127.0.0.1:0"]);
    assert_eq!(without.status("/readyz"), 200, "there is no instance to wait for");
    without.daemon.signal(libc::SIGTERM);
    without.daemon.wait().ok();
    // An instance that is refused never makes it ready, and the API is there all the same.
    let words = ["--dev", "--cluster", "nowhere", "--listen", "127.0.0.1:0"];
    let refused = Served::start_with(&host, &words);
    assert_eq!((refused.status("/healthz"), refused.status("/readyz")), (200, 503));
    refused.daemon.signal(libc::SIGTERM);
    refused.daemon.wait().ok();
    host.finish();
}

#[test]
fn a_daemon_that_is_killed_finds_its_tasks_running() {
    let host = Host::new();
    host.import_probe();
    let served = Served::start(&host);
    let arn = served.run_task(&waits());
    let before = served.described(&arn, "RUNNING");
    process::kill(served.daemon.pid());
    drop(served);
    let served = Served::start(&host);
    let after = served.described(&arn, "RUNNING");
    for member in ["startedAt", "containerInstanceArn"] {
        assert_eq!(before[member], after[member], "{member}");
    }
    assert_eq!(before["containers"][0]["runtimeId"], after["containers"][0]["runtimeId"]);
    served.ask("StopTask", &json!({"task": arn}));
    served.described(&arn, "STOPPED");
    served.daemon.signal(libc::SIGTERM);
    served.daemon.wait().ok();
    host.finish();
}

/// A second host, with its own network, directories and cgroups, that is let in by a token and known by its key afterwards.
#[test]
fn a_further_host_joins_by_token_and_comes_back_without_one() {
    let (host, further) = (Host::new(), Host::new());
    netns::cable(&host.namespace, &further.namespace);
    further.import_probe();
    let listen = format!("{LAN_ADDRESS_OF_HOST}:4870");
    let served = Served::start_with(&host, &["--listen", &listen]);
    let invitation = served.post("/join-tokens", "", "");
    let token = invitation["token"].as_str().expect("a token").to_owned();
    let authority = invitation["certificateAuthority"].as_str().expect("a certificate");
    let authority = further.file("ca.pem", authority);
    let authority = authority.to_str().expect("a path of a test");
    let agent = |words: &[&str]| {
        let mut command = further.command([&["-v", "agent", "--server", &listen], words].concat());
        command.env("ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached").env("ECS_INSTANCE_ATTRIBUTES", r#"{"deck": "lower"}"#);
        Running::start(&mut command)
    };
    agent(&[]).wait().refused(&["has not joined", "token"]);
    agent(&["--join", "wrong", "--ca", authority]).wait().refused(&["the join token is unknown, used or expired"]);
    let first = agent(&["--join", &token, "--ca", authority]);
    first.wait_for_errors("connected to the control plane");
    let listed = served.ask("ListContainerInstances", &json!({"filter": "attribute:deck == lower"}));
    let instances = listed["containerInstanceArns"].as_array().expect("a list").clone();
    assert_eq!(instances.len(), 1, "{listed}");
    let all = served.ask("ListContainerInstances", &json!({}));
    assert_eq!(all["containerInstanceArns"].as_array().map(Vec::len), Some(2), "{all}");
    let definition = definition::task(&[definition::container("main", &["wait", "7"], &json!({"stopTimeout": 20}))]);
    served.ask("RegisterTaskDefinition", &definition);
    let started = served.ask("StartTask", &json!({"taskDefinition": "test", "containerInstances": [instances[0]]}));
    let arn = started["tasks"][0]["taskArn"].as_str().unwrap_or_else(|| panic!("no task: {started}")).to_owned();
    let before = served.described(&arn, "RUNNING");
    assert_eq!(before["containerInstanceArn"], instances[0]);
    further.wait_until_it_waits(&arn);
    process::kill(first.pid());
    drop(first);
    let second = agent(&[]);
    second.wait_for_errors("connected to the control plane");
    let after = served.described(&arn, "RUNNING");
    assert_eq!(before["containers"][0]["runtimeId"], after["containers"][0]["runtimeId"]);
    served.ask("StopTask", &json!({"task": arn}));
    assert_eq!(served.described(&arn, "STOPPED")["containers"][0]["exitCode"], 7);
    for process in [second, served.daemon] {
        process.signal(libc::SIGTERM);
        process.wait().ok();
    }
    further.finish();
    host.finish();
}
