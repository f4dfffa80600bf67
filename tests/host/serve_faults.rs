//! Faults of `coracle serve` at each stage of a task's way, from the request to the removal: it is killed there, a call
//! fails there, or a thread hangs there. Whatever it was, the daemon comes back, the request means one task, and that one
//! runs once or has a reason, is stopped once, and leaves nothing behind. And another build takes fifty tasks over.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::fault::{self, Call, Fault, Point, Side, Sight};
use crate::support::{
    Host, PATIENCE, Running, audit, cgroups, definition, image, is_emulated, process, wait_at_most, wait_for,
};

const RUN: Sight = Sight(Call::Read, &["x-amz-target: AmazonEC2ContainerServiceV20141113.RunTask"]);
const STOP: Sight = Sight(Call::Read, &["x-amz-target: AmazonEC2ContainerServiceV20141113.StopTask"]);
const ANSWER: Sight = Sight(Call::Write, &["HTTP/1.1 200"]);
const PAGES: Sight = Sight(Call::Write, &["state/state.redb"]);
const SYNC: Sight = Sight(Call::Sync, &["state/state.redb"]);
const ASSIGNMENT: Sight = Sight(Call::Open, &["/.assignment.json.new"]);
const ASSIGNMENT_SYNC: Sight = Sight(Call::Sync, &["/.assignment.json.new"]);
const ASSIGNMENT_RENAME: Sight = Sight(Call::Rename, &["/.assignment.json.new"]);
const MARK: Sight = Sight(Call::Open, &["agent/tasks/."]);
const MARK_RENAME: Sight = Sight(Call::Rename, &["agent/tasks/."]);
const DIRECTORY: Sight = Sight(Call::MakeDirectory, &["/data/tasks/", "/logs"]);
const FORK: Sight = Sight(Call::Fork, &[]);
const SPEC: Sight = Sight(Call::Rename, &["/.task.json.new"]);
const GO: Sight = Sight(Call::Write, &[r#"{"request":"go""#]);
const WATCH: Sight = Sight(Call::Write, &[r#"{"request":"watch""#]);
const RUNS: Sight = Sight(Call::Read, &[r#""last_status":"RUNNING","desired_status""#]);
const TELL_STOP: Sight = Sight(Call::Write, &[r#"{"request":"stop""#]);
const STOPPED: Sight = Sight(Call::Read, &[r#""last_status":"STOPPED","desired_status""#]);
const REMOVE: Sight = Sight(Call::Remove, &["/data/tasks/"]);
const UNMARK: Sight = Sight(Call::Remove, &["agent/tasks/"]);

const fn before(name: &'static str, way: &'static [Sight]) -> Point {
    Point { name, way, side: Side::Before }
}

const fn after(name: &'static str, way: &'static [Sight]) -> Point {
    Point { name, way, side: Side::After }
}

/// A commit is pages, a sync, the byte that makes them the state, and a sync.
const POINTS: &[Point] = &[
    after("RunTask is read", &[RUN]),
    before("RunTask's commit", &[RUN, PAGES]),
    before("RunTask's commit, its pages synced", &[RUN, PAGES, SYNC]),
    before("RunTask's commit, its mark synced", &[RUN, PAGES, SYNC, PAGES, SYNC]),
    after("RunTask's commit", &[RUN, PAGES, SYNC, PAGES, SYNC]),
    before("RunTask's answer", &[RUN, ANSWER]),
    after("RunTask's answer", &[RUN, ANSWER]),
    before("the assignment is written", &[RUN, ASSIGNMENT]),
    before("the assignment is synced", &[RUN, ASSIGNMENT_SYNC]),
    before("the assignment is put in its place", &[RUN, ASSIGNMENT_RENAME]),
    after("the assignment is put in its place", &[RUN, ASSIGNMENT_RENAME]),
    before("the mark is written", &[RUN, MARK]),
    before("the mark is put in its place", &[RUN, MARK_RENAME]),
    after("the mark is put in its place", &[RUN, MARK_RENAME]),
    before("the task's directories", &[MARK_RENAME, DIRECTORY]),
    after("the task's directories", &[MARK_RENAME, DIRECTORY]),
    before("the supervisor is forked", &[MARK_RENAME, FORK]),
    after("the supervisor is forked", &[MARK_RENAME, FORK]),
    before("task.json is put in its place", &[SPEC]),
    after("task.json is put in its place", &[SPEC]),
    before("the supervisor gets its task", &[GO]),
    after("the supervisor gets its task", &[GO]),
    before("the supervisor is watched", &[WATCH]),
    after("the supervisor is watched", &[WATCH]),
    after("the supervisor says RUNNING", &[RUNS]),
    before("the commit of RUNNING", &[RUNS, PAGES]),
    before("the commit of RUNNING, its pages synced", &[RUNS, PAGES, SYNC]),
    after("the commit of RUNNING", &[RUNS, PAGES, SYNC, PAGES, SYNC]),
    after("StopTask is read", &[STOP]),
    before("StopTask's commit", &[STOP, PAGES]),
    after("StopTask's commit", &[STOP, PAGES, SYNC, PAGES, SYNC]),
    before("StopTask's answer", &[STOP, ANSWER]),
    before("the stop's assignment is written", &[STOP, ASSIGNMENT]),
    after("the stop's assignment is put in its place", &[STOP, ASSIGNMENT_RENAME]),
    before("the supervisor is told to stop", &[STOP, TELL_STOP]),
    after("the supervisor is told to stop", &[STOP, TELL_STOP]),
    after("the supervisor says STOPPED", &[STOPPED]),
    before("the commit of STOPPED", &[STOPPED, PAGES]),
    before("the commit of STOPPED, its pages synced", &[STOPPED, PAGES, SYNC]),
    after("the commit of STOPPED", &[STOPPED, PAGES, SYNC, PAGES, SYNC]),
];

/// Of one that keeps stopped tasks for a second.
const REMOVALS: &[Point] = &[
    before("the assignment without the task is written", &[STOPPED, ASSIGNMENT]),
    after("the assignment without the task is put in its place", &[STOPPED, ASSIGNMENT_RENAME]),
    before("the task's directory goes", &[STOPPED, ASSIGNMENT_RENAME, REMOVE]),
    after("the task's directory goes", &[STOPPED, ASSIGNMENT_RENAME, REMOVE]),
    before("the mark goes", &[STOPPED, ASSIGNMENT_RENAME, UNMARK]),
    after("the mark goes", &[STOPPED, ASSIGNMENT_RENAME, UNMARK]),
];

const EXIT_CODE: i64 = 7;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// What the container says first.
const WAITING: &str = "waiting";

/// How long stopped tasks stay on their instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retention {
    Hours,
    OneSecond,
}

/// Nobody answers, or breaks off: the daemon may have ended.
#[derive(Debug)]
struct Gone;

/// `coracle serve`, which may end at any time, and comes back.
struct Daemon<'a> {
    host: &'a Host,
    retention: Retention,
    running: Option<Running>,
}

impl<'a> Daemon<'a> {
    fn start(host: &'a Host, retention: Retention) -> Self {
        let mut daemon = Daemon { host, retention, running: None };
        daemon.start_again();
        daemon
    }

    fn start_again(&mut self) {
        let mut command = self.host.command(["-v", "serve", "--listen", "127.0.0.1:0"]);
        command.env("ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached");
        if self.retention == Retention::OneSecond {
            command.env("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "1s");
        }
        let running = Running::start(&mut command);
        running.wait_for_errors("connected to the control plane");
        self.running = Some(running);
    }

    fn pid(&self) -> i32 {
        self.running.as_ref().expect("it was started").pid()
    }

    /// Nothing is left of the one that was there but what it has written down.
    fn kill(&mut self) {
        process::kill(self.pid());
        self.running = None;
    }

    /// Another one, if this one has ended.
    fn come_back(&mut self) {
        const A_MOMENT: Duration = Duration::from_millis(1);
        if self.running.as_ref().is_some_and(|running| running.ends_within(A_MOMENT)) {
            self.start_again();
        }
    }

    fn ask(&self, operation: &str, body: &Value) -> Result<Value, Gone> {
        let answer = self.exchange(operation, &body.to_string()).map_err(|_| Gone)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(Gone)?;
        // A daemon whose store has failed says so while it goes.
        if head.starts_with("HTTP/1.1 500") || head.starts_with("HTTP/1.1 503") {
            return Err(Gone);
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{operation}: {answer}");
        serde_json::from_str(body).map_err(|_| Gone)
    }

    fn exchange(&self, operation: &str, body: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.host.places.run_dir().join("coracle.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.1\r\n\
             x-amz-target: AmazonEC2ContainerServiceV20141113.{operation}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Asks the same until somebody answers.
    fn ask_until_answered(&mut self, operation: &str, body: &Value) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok(answer) = self.ask(operation, body) {
                return answer;
            }
            assert!(Instant::now() < end, "nobody answers {operation} {body}");
            self.come_back();
        }
    }

    fn finish(self) {
        let running = self.running.expect("it was started");
        running.signal(libc::SIGTERM);
        running.wait().ok();
    }
}

/// One request's task from there to its end, as its client sees it. Whatever breaks off is asked again.
struct Life {
    token: String,
    arn: Option<String>,
    stop_was_asked: bool,
    ran: bool,
    ended: Option<Value>,
    runtime_ids: BTreeSet<String>,
}

impl Life {
    fn new(token: String) -> Self {
        Life { token, arn: None, stop_was_asked: false, ran: false, ended: None, runtime_ids: BTreeSet::new() }
    }

    fn id(&self) -> &str {
        self.arn.as_deref().and_then(|arn| arn.rsplit('/').next()).expect("it was run")
    }

    fn go_on(&mut self, daemon: &Daemon<'_>) -> Result<(), Gone> {
        let request = json!({"taskDefinition": "test", "clientToken": self.token, "startedBy": self.token});
        let run = daemon.ask("RunTask", &request)?;
        let arn = run["tasks"][0]["taskArn"].as_str().unwrap_or_else(|| panic!("no task: {run}")).to_owned();
        if let Some(known) = &self.arn {
            assert_eq!(*known, arn, "one token, one task");
        }
        self.arn = Some(arn);
        self.until(daemon, |status| matches!(status, "RUNNING" | "STOPPED"))?;
        if self.ended.is_none() {
            daemon.host.wait_until_it_waits(self.id());
            self.stop_was_asked = true;
            daemon.ask("StopTask", &json!({"task": self.arn, "reason": "enough"}))?;
            self.until(daemon, |status| status == "STOPPED")?;
        }
        // It is committed, and the daemon goes on.
        self.look(daemon).map(|_| ())
    }

    fn look(&mut self, daemon: &Daemon<'_>) -> Result<Value, Gone> {
        let answer = daemon.ask("DescribeTasks", &json!({"tasks": [self.arn]}))?;
        let task = answer["tasks"][0].clone();
        assert!(task.is_object(), "{} is lost: {answer}", self.token);
        let containers = task["containers"].as_array().expect("a list");
        self.runtime_ids.extend(containers.iter().filter_map(|one| one["runtimeId"].as_str().map(str::to_owned)));
        self.ran |= task["lastStatus"] == "RUNNING";
        if let Some(ended) = &self.ended {
            assert_eq!(*ended, task, "what has stopped stays as it is");
        }
        if task["lastStatus"] == "STOPPED" {
            self.ended = Some(task.clone());
        } else {
            assert!(!self.stop_was_asked || task["lastStatus"] != "PENDING", "{task}");
        }
        Ok(task)
    }

    fn until(&mut self, daemon: &Daemon<'_>, is_there: impl Fn(&str) -> bool) -> Result<(), Gone> {
        let end = Instant::now() + PATIENCE;
        loop {
            let task = self.look(daemon)?;
            if task["lastStatus"].as_str().is_some_and(&is_there) {
                return Ok(());
            }
            assert!(Instant::now() < end, "it stays {task}");
            std::thread::park_timeout(BETWEEN_LOOKS);
        }
    }

    /// Where stopped tasks do not stay. Who has given up has nothing more to wait for.
    fn until_removed(&self, daemon: &Daemon<'_>, has_given_up: impl Fn() -> bool) -> Result<(), Gone> {
        if daemon.retention == Retention::Hours {
            return Ok(());
        }
        let data = daemon.host.places.data_dir();
        // One whose supervisor has not quite gone after that second is tried again after a minute.
        let end = Instant::now() + 3 * PATIENCE;
        while data.join("tasks").join(self.id()).exists() || data.join("agent/tasks").join(self.id()).exists() {
            daemon.ask("ListClusters", &json!({}))?;
            assert!(Instant::now() < end, "it is not removed");
            if has_given_up() {
                return Err(Gone);
            }
            std::thread::park_timeout(BETWEEN_LOOKS);
        }
        // A call whose effect is seen may not have returned yet; whoever traces it has seen it do so before the next answer.
        daemon.ask("ListClusters", &json!({})).map(|_| ())
    }

    /// What must be so whatever has happened.
    fn check(&self, daemon: &mut Daemon<'_>, name: &str) {
        let ended = self.ended.as_ref().expect("it has ended");
        let reason = ended["stoppedReason"].as_str().unwrap_or_default();
        assert!(!reason.is_empty() && ended["stopCode"].is_string(), "{name}: it has a reason: {ended}");
        assert!(self.runtime_ids.len() <= 1, "{name}: begun more than once: {:?}", self.runtime_ids);
        if self.ran {
            assert_eq!(ended["containers"][0]["exitCode"], EXIT_CODE, "{name}: {ended}");
            assert_eq!(reason, "enough", "{name}");
        } else {
            assert_eq!(ended["stopCode"], "TaskFailedToStart", "{name}: {ended}");
        }
        let query = |status| json!({"startedBy": self.token, "desiredStatus": status});
        for (status, wanted) in [("RUNNING", 0), ("STOPPED", 1)] {
            let listed = daemon.ask_until_answered("ListTasks", &query(status));
            assert_eq!(listed["taskArns"].as_array().map(Vec::len), Some(wanted), "{name}: {listed}");
        }
        if daemon.retention == Retention::Hours && self.ran {
            let log = daemon.host.coracle(["logs", self.id()]).ok().stdout;
            assert_eq!(log.matches(WAITING).count(), 1, "{name}: begun more than once: {log}");
        }
        let host = daemon.host;
        wait_for(&format!("everything of the task to go after: {name}"), || {
            let left = audit::leftovers(&host.places, &host.namespace);
            left.iter().all(|one| one.contains(" serve ") || one.starts_with("socket ")).then_some(())
        });
    }
}

/// Where the processor is emulated one of eight, of each fault others.
fn chosen(points: &[Point], fault: Fault) -> Vec<&Point> {
    if !is_emulated() {
        return points.iter().collect();
    }
    let first = match fault {
        Fault::Kill => 0,
        Fault::Error => 3,
        Fault::Stall => 5,
    };
    let some: Vec<&Point> = points.iter().skip(first).step_by(8).collect();
    // Past what the test runner keeps to itself of a test that passes.
    let _ = writeln!(io::stderr(), "{fault:?} at {} of {} points: the processor is emulated", some.len(), points.len());
    some
}

/// Each point in its turn, one daemon after the other on one host.
fn at_each(points: &[Point], fault: Fault, retention: Retention) {
    let host = Host::new();
    host.import_probe();
    let mut daemon = Daemon::start(&host, retention);
    let container = definition::container("main", &["wait", "7"], &json!({"stopTimeout": 20}));
    daemon.ask("RegisterTaskDefinition", &definition::bridge_task(&[container])).expect("it answers");
    for (number, point) in chosen(points, fault).into_iter().enumerate() {
        let name = format!("{fault:?} {:?} {}", point.side, point.name);
        let mut life = Life::new(format!("token-{number}"));
        let (_, happened) = fault::during(daemon.pid(), point, fault, |happened| {
            life.go_on(&daemon)?;
            // A removal that could not be done is tried again after a minute, or by the next daemon at once.
            life.until_removed(&daemon, || fault == Fault::Error && happened.load(Ordering::SeqCst))
        });
        assert!(happened, "{name}: it never came to that; {:?}", life.ended);
        let end = Instant::now() + 4 * PATIENCE;
        daemon.come_back();
        if fault == Fault::Error && retention == Retention::OneSecond {
            daemon.kill();
            daemon.start_again();
        }
        while life.go_on(&daemon).and_then(|()| life.until_removed(&daemon, || false)).is_err() {
            assert!(Instant::now() < end, "{name}: it does not come back");
            daemon.come_back();
        }
        life.check(&mut daemon, &name);
        // The next one finds what this one has written down.
        if number % 2 == 0 {
            daemon.kill();
            daemon.start_again();
            life.go_on(&daemon).expect("it answers");
        }
    }
    daemon.finish();
    host.finish();
}

#[test]
fn killed_at_each_stage_of_a_tasks_way() {
    at_each(POINTS, Fault::Kill, Retention::Hours);
}

#[test]
fn a_call_that_fails_at_each_stage_of_a_tasks_way() {
    at_each(POINTS, Fault::Error, Retention::Hours);
}

#[test]
fn a_thread_that_hangs_at_each_stage_of_a_tasks_way() {
    at_each(POINTS, Fault::Stall, Retention::Hours);
}

#[test]
fn each_fault_at_each_stage_of_a_tasks_removal() {
    for fault in [Fault::Kill, Fault::Error, Fault::Stall] {
        at_each(REMOVALS, fault, Retention::OneSecond);
    }
}

/// One file that is lost, or not to be read, is no other instance's coming: its tasks would be nobody's.
#[test]
fn an_instance_that_has_lost_a_file_is_still_itself() {
    let host = Host::new();
    host.import_probe();
    let mut daemon = Daemon::start(&host, Retention::Hours);
    let container = definition::container("main", &["wait", "7"], &json!({"stopTimeout": 20}));
    daemon.ask("RegisterTaskDefinition", &definition::task(&[container])).expect("it answers");
    let run = daemon.ask("RunTask", &json!({"taskDefinition": "test"})).expect("it answers");
    let arn = run["tasks"][0]["taskArn"].clone();
    let describe = |daemon: &Daemon<'_>, status: &str| {
        wait_for(&format!("the task to be {status}"), || {
            let task = daemon.ask("DescribeTasks", &json!({"tasks": [arn]})).ok()?["tasks"][0].take();
            (task["lastStatus"] == status).then_some(task)
        })
    };
    let before = describe(&daemon, "RUNNING");
    let id = arn.as_str().and_then(|arn| arn.rsplit('/').next()).expect("an ARN").to_owned();
    host.wait_until_it_waits(&id);
    let processes_before = processes(&host);
    for lost in ["agent/instance.json".to_owned(), format!("agent/tasks/{id}")] {
        daemon.kill();
        fs::remove_file(host.places.data_dir().join(&lost)).expect("it was there");
        daemon.start_again();
        assert_eq!(before, describe(&daemon, "RUNNING"), "without {lost}");
        assert_eq!(processes_before, processes(&host), "without {lost}");
    }
    let instances = daemon.ask("ListContainerInstances", &json!({})).expect("it answers");
    assert_eq!(instances["containerInstanceArns"].as_array().map(Vec::len), Some(1), "{instances}");
    daemon.ask("StopTask", &json!({"task": arn})).expect("it answers");
    assert_eq!(describe(&daemon, "STOPPED")["containers"][0]["exitCode"], EXIT_CODE);
    daemon.finish();
    host.finish();
}

const TASKS: usize = 50;
/// RunTask starts ten at once.
const AT_ONCE: usize = 10;

/// The first processes of each container.
fn processes(host: &Host) -> BTreeSet<(String, Vec<i32>)> {
    let containers = cgroups::below(&host.places.cgroup_parent).into_iter().filter(|one| one.ends_with("main"));
    containers.map(|one| (one.display().to_string(), cgroups::processes(&one))).collect()
}

/// As a package manager puts a new version in its place: other bytes under the same name, while the old ones run.
#[test]
fn another_build_takes_fifty_running_tasks_over() {
    let host = Host::with_own_program();
    host.import(&image::probe_image(), image::PROBE).ok();
    let mut daemon = Daemon::start(&host, Retention::Hours);
    let wait = definition::container("main", &["wait", "7"], &json!({"stopTimeout": 30, "memory": 6}));
    daemon.ask("RegisterTaskDefinition", &definition::task(&[wait])).expect("it answers");
    let mut arns = Vec::new();
    for _ in 0..TASKS / AT_ONCE {
        let run = daemon.ask("RunTask", &json!({"taskDefinition": "test", "count": AT_ONCE})).expect("it answers");
        arns.extend(run["tasks"].as_array().expect("a list").iter().map(|task| task["taskArn"].clone()));
    }
    let all_are = |daemon: &Daemon<'_>, status: &str| {
        wait_at_most(5 * PATIENCE, &format!("all tasks to be {status}"), || {
            let shown = daemon.ask("DescribeTasks", &json!({"tasks": arns})).ok()?["tasks"].take();
            let shown = shown.as_array().expect("a list").clone();
            (shown.len() == TASKS && shown.iter().all(|task| task["lastStatus"] == status)).then_some(shown)
        })
    };
    let before = all_are(&daemon, "RUNNING");
    for arn in &arns {
        host.wait_until_it_waits(arn.as_str().expect("an ARN"));
    }
    let processes_before = processes(&host);
    let other = host.places.root.join("coracle.new");
    let mut build = fs::read(host.program()).expect("it can be read");
    build.extend_from_slice(b"another build");
    fs::write(&other, build).expect("written");
    fs::set_permissions(&other, fs::metadata(host.program()).expect("it is there").permissions()).expect("set");
    fs::rename(&other, host.program()).expect("a program that runs can be replaced");
    daemon.kill();
    daemon.start_again();
    let after = all_are(&daemon, "RUNNING");
    assert_eq!(before, after, "nothing of them has changed");
    assert_eq!(processes_before, processes(&host), "they are the same processes");
    let id = |arn: &Value| arn.as_str().and_then(|arn| arn.rsplit('/').next()).expect("an ARN").to_owned();
    let first = id(&arns[0]);
    host.coracle(["exec", &first, "--", "/bin/probe", "say", "ahoy"]).ok().prints(&["ahoy"]);
    host.coracle(["logs", &first]).ok().prints(&[WAITING]);
    for arn in &arns {
        daemon.ask("StopTask", &json!({"task": arn})).expect("it answers");
    }
    for task in all_are(&daemon, "STOPPED") {
        assert_eq!(task["containers"][0]["exitCode"], EXIT_CODE, "{task}");
    }
    daemon.finish();
    host.finish();
}
