//! The smallest program that runs a task: a driver that starts a supervisor out of itself, and that supervisor.
//! The tests of this crate drive it as the real binary drives `coracle task-supervisor`.
//!
//! ```text
//! supervisor start DATA-DIR RUN-DIR CGROUP-PARENT < task.json     start a task and leave it running
//! supervisor waver DATA-DIR RUN-DIR CGROUP-PARENT < task.json     prepare it, and end without a word
//! ```

use std::error::Error;
use std::ffi::OsString;
use std::io::Read;
use std::process::ExitCode;

use agent_protocol::TaskSpec;
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
    if verb == "start" {
        handle.go(Handover::default())?;
    }
    Ok(())
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
