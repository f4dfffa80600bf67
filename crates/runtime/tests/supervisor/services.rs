//! The sockets at 169.254.170.2: handed out to the host's services, which are started when somebody calls, and again
//! when they have died, and never keep a task from ending.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use agent_protocol::TaskSpec;
use agent_protocol::task_spec::{NetworkNamespace, Service, ServiceSocket};
use ecs::task::LastStatus;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::cgroup::Cgroups;
use runtime::client::{self, ClientError, Served};
use runtime::host_services;

use crate::host::{Host, wait_until};

const FOREVER: &str = "echo ready; trap 'exit 0' TERM; sleep 600 & wait";

/// Asked this often, a process that is killed meanwhile has been started again.
const TRIES: u32 = 400;

/// A running task with this many service sockets, and their ports.
fn task_with_sockets(host: &Host, serial: u8, count: usize) -> (TaskSpec, Vec<u16>) {
    let mut task = host.script(serial, FOREVER);
    let socket = ServiceSocket { namespace: NetworkNamespace::Host, service: Service::DnsUdp };
    task.service_sockets = vec![socket; count];
    let output = host.drive("start", &task);
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stderr), host.journal(&task));
    let ports = String::from_utf8(output.stdout).expect("text");
    host.says(&task, "app", "ready");
    (task, ports.lines().map(|port| port.parse().expect("a port")).collect())
}

/// Asks until there is an answer: the process that gave it.
fn ask(port: u16) -> i32 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    for number in 0..TRIES {
        socket.send_to(format!("{number}").as_bytes(), (Ipv4Addr::LOCALHOST, port)).expect("sent");
        let mut answer = [0; 64];
        if let Ok(length) = socket.recv(&mut answer) {
            let answer = std::str::from_utf8(&answer[..length]).expect("text");
            return answer.split(' ').next_back().expect("words").parse().expect("a process id");
        }
    }
    panic!("nobody answers at port {port}");
}

fn end(host: &Host, task: &TaskSpec) {
    client::connect(&task.places).expect("runs").kill("").expect("taken");
    host.stopped(task);
    host.assert_gone(&task.places);
}

fn assert_no_services(host: &Host) {
    let cgroups = Cgroups::detect().expect("cgroups");
    let leaf = host_services::cgroup(&host.roots);
    wait_until("the host's services are gone", || !cgroups.exists(&leaf));
}

#[test]
fn who_calls_is_answered_by_one_process_for_all_tasks() {
    let host = Host::new();
    let (one, ports) = task_with_sockets(&host, 1, 2);
    let (two, others) = task_with_sockets(&host, 2, 1);
    let cgroups = Cgroups::detect().expect("cgroups");
    let leaf = host_services::cgroup(&host.roots);
    assert!(!cgroups.exists(&leaf), "nobody has called");
    let first = ask(ports[0]);
    assert_eq!((ask(ports[1]), ask(others[0])), (first, first));
    assert_eq!(cgroups.processes(&leaf).expect("readable").into_iter().collect::<Vec<_>>(), [first]);
    // It is nobody's but its own: what ends a task does not end it.
    end(&host, &one);
    assert_eq!(ask(others[0]), first);
    end(&host, &two);
    assert_no_services(&host);
}

#[test]
fn a_process_that_was_killed_is_started_again_by_whoever_is_called() {
    let host = Host::new();
    let (task, ports) = task_with_sockets(&host, 1, 1);
    let mut last = 0;
    for _ in 0..5 {
        let process = ask(ports[0]);
        assert_ne!(process, last);
        kill(Pid::from_raw(process), Signal::SIGKILL).expect("it runs");
        last = process;
    }
    ask(ports[0]);
    end(&host, &task);
    assert_no_services(&host);
}

#[test]
fn a_task_with_ports_is_looked_after_without_calling() {
    let host = Host::new();
    let mut task = host.script(1, FOREVER);
    task.network_mode = ecs::task_definition::NetworkMode::Bridge;
    let binding = serde_json::json!({"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 8080, "protocol": "tcp"});
    task.containers[0].network.bindings = vec![serde_json::from_value(binding).expect("a binding")];
    host.start(&task);
    let (cgroups, leaf) = (Cgroups::detect().expect("cgroups"), host_services::cgroup(&host.roots));
    let process = || cgroups.processes(&leaf).unwrap_or_default().into_iter().next();
    wait_until("the host's services run", || process().is_some());
    let first = process().expect("it runs");
    kill(Pid::from_raw(first), Signal::SIGKILL).expect("it runs");
    wait_until("they run again", || process().is_some_and(|process| process != first));
    end(&host, &task);
    assert_no_services(&host);
}

/// Someone who takes the sockets and then nothing more, as a process that hangs.
#[test]
fn who_serves_and_hangs_holds_nothing_up() {
    let host = Host::new();
    let (task, _) = task_with_sockets(&host, 1, 3);
    let mut hanging = client::serve(&task.places.run).expect("a running task");
    let wait = |service: &client::Service| {
        let mut watched = [PollFd::new(service.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::NONE).expect("polled");
    };
    wait(&hanging);
    match hanging.advance() {
        Ok(Some(Served::Sockets(sockets))) => assert_eq!(sockets.len(), 3),
        other => panic!("{other:?}"),
    }
    let status = loop {
        match hanging.advance() {
            Ok(Some(Served::Status(status))) => break status,
            Ok(None) => wait(&hanging),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(status.last_status, LastStatus::Running);
    end(&host, &task);
    // All that it missed, and then the end.
    let mut last = None;
    let error = loop {
        match hanging.advance() {
            Ok(Some(Served::Status(status))) => last = Some(status.last_status),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ClientError::Ended), "{error:?}");
    assert_eq!(last, Some(LastStatus::Stopped));
    assert_no_services(&host);
}

#[test]
fn sockets_that_are_not_the_tasks_are_refused() {
    let host = Host::new();
    let mut task = host.script(1, FOREVER);
    let socket = ServiceSocket { namespace: NetworkNamespace::Host, service: Service::Http };
    task.service_sockets = vec![socket; 65];
    let output = host.drive("start", &task);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("65 service sockets came with Go"), "{said}");
    wait_until("nothing is left", || !task.places.state.exists());
}
