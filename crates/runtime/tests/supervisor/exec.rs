//! Further processes in a running container: streams, exit codes, terminals, and what ends them.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd};

use crate::host::{Host, name};
use agent_protocol::TaskSpec;
use agent_protocol::command::Exec;
use runtime::client::{self, Client, ClientError};

const FOREVER: &str = "echo ready; trap 'exit 0' TERM; sleep 600 & wait";

fn running(host: &Host) -> TaskSpec {
    let task = host.script(1, FOREVER);
    host.start(&task);
    host.says(&task, "app", "ready");
    task
}

fn end(host: &Host, task: &TaskSpec) {
    connect(task).kill("").expect("taken");
    host.stopped(task);
    host.assert_gone(&task.places);
}

fn connect(task: &TaskSpec) -> Client {
    client::connect(&task.places).expect("runs")
}

fn shell(script: &str) -> Exec {
    Exec {
        container: name("app"),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        environment: vec!["GREETING=hello".to_owned()],
        user: None,
        working_directory: Some("/tmp".to_owned()),
        terminal: false,
        terminal_size: None,
        debug: None,
    }
}

#[test]
fn streams_environment_and_exit_code_are_the_process_own() {
    let host = Host::new();
    let task = running(&host);
    let (stdin, mut to_process) = pipe().expect("a pipe");
    let (mut from_process, stdout) = pipe().expect("a pipe");
    let (mut complaints, stderr) = pipe().expect("a pipe");
    let stdio: [BorrowedFd<'_>; 3] = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let script = "echo $GREETING from $PWD $$; cat; echo oops >&2; exit 42";
    let execution = connect(&task).exec(&shell(script), stdio).expect("started");
    drop((stdin, stdout, stderr));
    to_process.write_all(b"and back\n").expect("it reads");
    drop(to_process);
    let (mut out, mut err) = (String::new(), String::new());
    from_process.read_to_string(&mut out).expect("it ends");
    complaints.read_to_string(&mut err).expect("it ends");
    assert!(out.starts_with("hello from /tmp ") && out.ends_with("\nand back\n"), "{out}");
    assert_eq!(err, "oops\n");
    assert_eq!(execution.wait().expect("an exit code"), 42);
    assert_eq!(host.status(&task).containers[0].exit_code, None);
    end(&host, &task);
}

#[test]
fn a_terminal_is_a_terminal() {
    let host = Host::new();
    let task = running(&host);
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size >/dev/null && echo terminal; read line; echo got $line; exit 7";
    let (execution, master) = connect(&task).exec_with_terminal(&shell(script)).expect("started");
    let mut master = File::from(master);
    master.write_all(b"typed\n").expect("it reads");
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    // The master's read fails with EIO when the last slave is closed.
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
    }
    let seen = String::from_utf8(seen).expect("text");
    assert!(seen.contains("terminal\r\n") && seen.contains("got typed\r\n"), "{seen}");
    assert_eq!(execution.wait().expect("an exit code"), 7);
    end(&host, &task);
}

#[test]
fn closing_the_connection_hangs_up() {
    let host = Host::new();
    let task = running(&host);
    let (mut told, stdout) = pipe().expect("a pipe");
    let null = File::open("/dev/null").expect("open");
    let script = "trap 'echo hung up; exit 1' HUP; echo up; while true; do sleep 0.05; done";
    let execution =
        connect(&task).exec(&shell(script), [null.as_fd(), stdout.as_fd(), stdout.as_fd()]).expect("started");
    drop(stdout);
    let mut up = [0; 3];
    told.read_exact(&mut up).expect("it is up");
    drop(execution);
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("it ends");
    assert_eq!(rest, "hung up\n");
    end(&host, &task);
}

#[test]
fn what_cannot_be_started_is_refused_and_changes_nothing() {
    let host = Host::new();
    let task = running(&host);
    let null = File::open("/dev/null").expect("open");
    let stdio = || [null.as_fd(), null.as_fd(), null.as_fd()];
    let refusal = |exec: &Exec| match connect(&task).exec(exec, stdio()).map(|execution| execution.wait()) {
        Err(ClientError::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    };
    let nowhere = Exec { container: name("ghost"), ..shell("true") };
    assert_eq!(refusal(&nowhere), "the task has no container ghost");
    let nothing = Exec { command: vec!["/bin/nope".to_owned()], ..shell("true") };
    assert!(refusal(&nothing).contains("/bin/nope"), "{}", refusal(&nothing));
    let nobody = Exec { user: Some("ghost".to_owned()), ..shell("true") };
    assert!(refusal(&nobody).contains("ghost"), "{}", refusal(&nobody));
    end(&host, &task);
}
