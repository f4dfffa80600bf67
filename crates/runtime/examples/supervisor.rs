//! The smallest program that runs a task: a driver that starts a supervisor out of itself, and that supervisor.
//! The tests of this crate drive it as the real binary drives `coracle task-supervisor`.
//!
//! ```text
//! supervisor start DATA-DIR RUN-DIR CGROUP-PARENT < task.json     start a task and leave it running
//! supervisor waver DATA-DIR RUN-DIR CGROUP-PARENT < task.json     prepare it, and end without a word
//! ```
//!
//! `start` makes each of the task's service sockets a UDP socket of loopback and prints their ports. As `host-services` it
//! answers on them what it was told, followed by its own process id.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Read};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use agent_protocol::TaskSpec;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runtime::client::{self, Served, Service};
use runtime::host_services::{self, HostServices};
use runtime::spawn::{Handover, SUBCOMMAND, SupervisorArgs, spawn};
use runtime::supervisor::supervise;
use runtime::task_dir::{self, Roots};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == SUBCOMMAND) {
        return match SupervisorArgs::from_words(&words[1..]) {
            Ok(args) => supervise(args, |_, _| Vec::new()),
            Err(error) => complain(&error),
        };
    }
    if words.first().is_some_and(|word| word == host_services::SUBCOMMAND) {
        return match serve(&words[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(error.as_ref()),
        };
    }
    match drive(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(error.as_ref()),
    }
}

fn drive(words: &[OsString]) -> Result<(), Box<dyn Error>> {
    let [verb, data, run, cgroup_parent] = words else {
        return Err("usage: supervisor start|waver DATA-DIR RUN-DIR CGROUP-PARENT < task.json".into());
    };
    let roots = Roots { data: data.into(), run: run.into(), cgroup_parent: cgroup_parent.into() };
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json)?;
    let mut spec: TaskSpec = serde_json::from_str(&json)?;
    let task = task_dir::create(&roots, &spec.id)?;
    spec.places = task.places.clone();
    let handle = spawn(task)?;
    task_dir::write_spec(&spec)?;
    let sockets = spec.service_sockets.iter().map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
    let sockets: Vec<UdpSocket> = sockets.collect::<io::Result<_>>()?;
    for socket in &sockets {
        println!("{}", socket.local_addr()?.port());
    }
    let service_sockets = sockets.into_iter().map(OwnedFd::from).collect();
    if verb == "start" {
        handle.go(Handover { service_sockets, ..Handover::default() })?;
    }
    Ok(())
}

/// One round for all tasks that are there, until the last of them has ended its connection.
fn serve(words: &[OsString]) -> Result<(), Box<dyn Error>> {
    let roots = host_services::from_words(words)?;
    let (process, _log) = HostServices::begin(&roots)?;
    let tasks = std::fs::read_dir(roots.run.join("tasks"))?.flatten();
    let mut services: Vec<Service> = tasks.filter_map(|task| client::serve(&task.path()).ok()).collect();
    let mut sockets: Vec<UdpSocket> = Vec::new();
    while !services.is_empty() {
        let watched = services.iter().map(AsFd::as_fd).chain(sockets.iter().map(AsFd::as_fd));
        let mut watched: Vec<PollFd<'_>> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        poll(&mut watched, PollTimeout::NONE)?;
        services.retain_mut(|service| {
            loop {
                match service.advance() {
                    Ok(Some(Served::Sockets(copies))) => sockets.extend(copies.into_iter().map(UdpSocket::from)),
                    Ok(Some(Served::Status(_))) => {}
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
        });
        for socket in &sockets {
            socket.set_nonblocking(true)?;
            let mut request = [0; 64];
            if let Ok((length, from)) = socket.recv_from(&mut request) {
                let said = String::from_utf8_lossy(&request[..length]);
                socket.send_to(format!("{said} {}", std::process::id()).as_bytes(), from)?;
            }
        }
    }
    Ok(process.end()?)
}

fn complain(error: &dyn Error) -> ExitCode {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        line = format!("{line}: {next}");
        cause = next.source();
    }
    eprintln!("{line}");
    ExitCode::FAILURE
}
