//! A supervisor reduced to what the tests of the container side ask of one: it runs the first container of a task and
//! does what its standard input says. libcontainer must not be called in a test's own process, which has threads.
//!
//! `one_container TASK.json STDOUT-FILE`: prints one JSON object a line: `started`, then an answer to each line of
//! input, and `exited` at the end. `hold` anything else and it waits to be killed, which is what a container that
//! executes /proc/self/exe gets.

use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;

use agent_protocol::TaskSpec;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use runtime::cgroup::{self, Cgroups};
use runtime::launch::{self, StartInput};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, task, output] = arguments.as_slice() else {
        nix::unistd::pause();
        return Ok(());
    };
    let task: TaskSpec = serde_json::from_slice(&std::fs::read(task)?)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let cgroups = Cgroups::detect()?;
    cgroups.prepare_task(&task)?;
    cgroups.enter_supervisor_leaf(&task.places.supervisor_cgroup)?;
    let outcome = run(&task, &cgroups, output);
    let container = &task.containers[0];
    let mut errors = launch::remove(&task, container, &cgroups);
    errors.extend(cgroups.remove_task(&task).iter().map(ToString::to_string));
    say(&json!({ "removed": errors }));
    outcome
}

fn run(task: &TaskSpec, cgroups: &Cgroups, output: &str) -> Result<(), Box<dyn std::error::Error>> {
    let container = &task.containers[0];
    let path = cgroup::of_container(task, &container.definition.name);
    let output = File::options().create(true).append(true).open(output)?;
    let input = File::open("/dev/null")?;
    let started = launch::create_and_start(&StartInput {
        task,
        container,
        network_namespace: None,
        stdio: [input.as_fd(), output.as_fd(), output.as_fd()],
        cgroups,
    });
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            say(&json!({ "failed": error.to_string(), "exitCode": error.exit_code }));
            return Ok(());
        }
    };
    say(&json!({ "started": started.init, "stages": started.stages_us }));
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "kill" => cgroups.kill(&path)?,
            "wait" => break,
            other => return Err(format!("{other:?} is not a request").into()),
        }
        say(&json!("done"));
    }
    let code = match waitid(Id::PIDFd(started.pidfd.as_fd()), WaitPidFlag::WEXITED)? {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => return Err(format!("{other:?} is no end").into()),
    };
    say(&json!({ "exited": code, "oomKills": cgroups.oom_kills(&path) }));
    Ok(())
}

fn say(value: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).expect("the test reads our output");
}
