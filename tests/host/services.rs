//! The process behind 169.254.170.2: it may be killed, told to end and lied to, and no container sees more of it than a
//! pause; and it goes with the last task.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::netns::{LAN_ADDRESS_OF_HOST, Namespace};
use crate::support::{Host, PATIENCE, Running, cgroups, definition, netlink, process, wait_for};

const KILLS: usize = 20;

fn cgroup(host: &Host) -> PathBuf {
    let parent = host.places.cgroup_parent.trim_start_matches('/');
    cgroups::controller("memory").join(parent).join("host-services")
}

/// The process, when it runs.
pub(crate) fn services(host: &Host) -> i32 {
    wait_for("the host's services", || cgroups::processes(&cgroup(host)).first().copied())
}

/// A task in bridge mode that asks for its own family and its own metadata, on and on.
fn asking(host: &Host) -> Running {
    host.import_probe();
    let containers = [definition::container("main", &["ask-on", "test"], &json!({ "stopTimeout": 2 }))];
    let run = host.start_run(&definition::bridge_task(&containers), &["--name", "asker"]);
    run.wait_for_output("round 1");
    run
}

fn rounds(run: &Running) -> usize {
    run.stdout().matches("round ").count()
}

/// Answers to questions that were asked after this.
#[track_caller]
fn goes_on(run: &Running) {
    let next = rounds(run) + 2;
    run.wait_for_output(&format!("round {next}\n"));
}

#[track_caller]
fn end(host: &Host, run: Running) {
    let said = run.stdout();
    assert!(!said.contains("no answer"), "{said}");
    host.coracle(["stop", "asker"]).ok();
    run.wait();
}

#[test]
fn every_question_is_answered_in_the_end_however_often_the_process_is_killed() {
    let host = Host::new();
    let run = asking(&host);
    let mut last = 0;
    for _ in 0..KILLS {
        let process = services(&host);
        assert_ne!(process, last);
        last = process;
        process::kill(process);
        goes_on(&run);
    }
    end(&host, run);
    host.finish();
}

#[test]
fn told_to_end_it_ends_and_comes_again_when_it_is_called() {
    let host = Host::new();
    let run = asking(&host);
    let first = services(&host);
    // SAFETY: integers; the process was just found in this test's own cgroup.
    assert_eq!(unsafe { libc::kill(first, libc::SIGTERM) }, 0);
    wait_for("another process", || {
        cgroups::processes(&cgroup(&host)).first().filter(|process| **process != first).copied()
    });
    goes_on(&run);
    let log = std::fs::read_to_string(host.places.run_dir().join("host-services.log")).expect("it has a log");
    assert!(log.contains("told to end"), "{log}");
    end(&host, run);
    host.finish();
}

#[test]
fn it_is_one_for_all_tasks_and_has_nothing_of_theirs() {
    let host = Host::new();
    let run = asking(&host);
    let task = host.detach(&definition::bridge_task(&[definition::container("main", &["wait"], &Value::Null)]), &[]);
    let process = services(&host);
    assert_eq!(cgroups::processes(&cgroup(&host)), [process]);
    let own = std::fs::read_link("/proc/self/ns/mnt").expect("procfs");
    let link = |name: &str| std::fs::read_link(format!("/proc/{process}/{name}")).expect("it runs");
    assert_eq!(link("ns/mnt"), own);
    assert_eq!(link("ns/net").display().to_string(), format!("net:[{}]", host.namespace.inode()));
    for stream in ["fd/0", "fd/1"] {
        assert_eq!(link(stream), PathBuf::from("/dev/null"));
    }
    assert_eq!(link("fd/2"), host.places.run_dir().join("host-services.log"));
    host.coracle(["rm", "--force", &task]).ok();
    goes_on(&run);
    assert_eq!(services(&host), process, "the end of one task is not the process's");
    end(&host, run);
    host.finish();
}

/// Somebody clears the run directory: nothing is left to be served, and nothing to be waited for.
#[test]
fn without_its_directory_it_ends() {
    let host = Host::new();
    let tasks = host.places.run_dir().join("tasks");
    // One that fails, so that something is due.
    let impostor = tasks.join(format!("{:032x}", 7));
    std::fs::create_dir_all(&impostor).expect("a test may write to its own directory");
    std::fs::write(impostor.join("ctl"), "").expect("a test may write to its own directory");
    let run = asking(&host);
    let process = services(&host);
    let aside = host.places.run_dir().join("aside");
    std::fs::rename(&tasks, &aside).expect("a test may rename what is its own");
    wait_for("its end", || (!cgroups::processes(&cgroup(&host)).contains(&process)).then_some(()));
    std::fs::rename(&aside, &tasks).expect("a test may rename what is its own");
    goes_on(&run);
    std::fs::remove_dir_all(&impostor).expect("a test may remove what it made");
    end(&host, run);
    host.finish();
}

/// Supervisors that refuse, lie, flood and hang, beside one that does not.
#[test]
fn one_supervisor_is_no_other_tasks_matter() {
    let host = Host::new();
    let tasks = host.places.run_dir().join("tasks");
    let answers: [&[u8]; 5] = [
        b"{\"answer\":\"refused\",\"reason\":\"not a command: unknown variant `serve`\"}\n",
        b"\x00\xff\n",
        b"{\"answer\":\"serve\"}\n",
        b"{\"answer\":\"taken\"}\n{\"answer\":\"serve\"}\n",
        b"",
    ];
    let mut impostors = Vec::new();
    for (number, answer) in answers.into_iter().enumerate() {
        let directory = tasks.join(format!("{number:032x}"));
        std::fs::create_dir_all(&directory).expect("a test may write to its own directory");
        let listener = UnixListener::bind(directory.join("ctl")).expect("a test may listen there");
        let flood = vec![b'x'; 8 << 20];
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 64];
                let asked = stream.read(&mut request).unwrap_or(0);
                if asked == 0 {
                    return;
                }
                let _ = stream.write_all(if number == 1 { &flood } else { answer });
                // Held open for as long as the other side wants it.
                std::thread::spawn(move || stream.read(&mut [0; 64]));
            }
        });
        impostors.push(directory);
    }
    let run = asking(&host);
    goes_on(&run);
    let process = services(&host);
    goes_on(&run);
    assert_eq!(services(&host), process);
    for directory in &impostors {
        std::fs::remove_dir_all(directory).expect("a test may remove what it made");
    }
    end(&host, run);
    host.finish();
}

/// What an echo server says, within a second: whoever waits for the firewall asks again.
fn say(from: &Namespace, port: u16) -> io::Result<String> {
    from.enter(|| {
        let second = Duration::from_secs(1);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((LAN_ADDRESS_OF_HOST, port)), second)?;
        stream.set_read_timeout(Some(second))?;
        stream.write_all(b"ahoy\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// Waits until the table has as many elements in each of its sets.
fn restored(host: &Host, before: &BTreeMap<String, usize>) {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = host.namespace.enter(netlink::nft_elements).expect("readable");
        if now == *before {
            return;
        }
        let log = || std::fs::read_to_string(host.places.run_dir().join("host-services.log")).unwrap_or_default();
        assert!(Instant::now() < end, "{now:?}\n{before:?}\n{}", log());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn server(host_port: u16) -> Value {
    let members = json!({ "portMappings": [{ "containerPort": 80, "hostPort": host_port }], "stopTimeout": 2 });
    definition::bridge_task(&[definition::container("main", &["tcp-echo", "80"], &members)])
}

/// `nft flush ruleset`, as the distribution's own service does it at its start.
#[test]
fn what_is_flushed_is_back_and_what_has_ended_stays_away() {
    let host = Host::new();
    host.import_probe();
    let neighbour = host.neighbour();
    let tasks: Vec<String> = [8080, 8081].map(|port| host.detach(&server(port), &[])).into();
    let mut own = server(80);
    own["networkMode"] = json!("awsvpc");
    let own = host.detach(&own, &[]);
    let answers = |port| say(&neighbour.namespace, port).is_ok_and(|answer| answer.contains("said ahoy")).then_some(());
    wait_for("the published ports", || answers(8080).and(answers(8081)));
    let before = host.namespace.enter(netlink::nft_elements).expect("readable");
    for _ in 0..3 {
        services(&host);
        host.namespace.enter(netlink::nft_flush).expect("flushed");
        restored(&host, &before);
        answers(8080).and(answers(8081)).expect("the ports answer");
    }
    // While nobody watches.
    process::kill(services(&host));
    host.namespace.enter(netlink::nft_flush).expect("flushed");
    restored(&host, &before);
    // A flush and an end at once.
    host.namespace.enter(netlink::nft_flush).expect("flushed");
    host.coracle(["rm", "--force", &tasks[0]]).ok();
    wait_for("the other task's port", || answers(8081));
    assert!(say(&neighbour.namespace, 8080).is_err(), "the port is closed with its task");
    for task in [&tasks[1], &own] {
        host.coracle(["rm", "--force", task]).ok();
    }
    drop(neighbour);
    host.finish();
}
