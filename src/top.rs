//! `coracle top`: the processes of a task's containers.

use std::process::ExitCode;

use clap::Args;
use ecs::ContainerName;
use runtime::cgroup::{self, Cgroups};
use runtime::processes::{self, Process};
use serde_json::{Value, json};

use crate::failure::{Explain, Outcome};
use crate::options::{Options, Output, require_root};
use crate::{output, target};

/// List the processes of a task's containers
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle top web\n  sudo coracle top web sidecar --output json\n\nPID is the number on this host, INSIDE the one that the container sees."
)]
pub(crate) struct Arguments {
    /// The task's id, the start of its id, its name or its family.
    task: String,
    /// Only this container.
    container: Option<String>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("top")?;
    let task = target::running(options, &arguments.task)?;
    let containers: Vec<ContainerName> = match &arguments.container {
        Some(named) => {
            let container = target::container(&task, Some(named), "")?;
            target::process(&task, &container)?;
            vec![container]
        }
        None => {
            let names = task.spec.containers.iter().map(|container| container.definition.name.clone());
            names.filter(|name| target::status(&task, name).is_some_and(target::runs)).collect()
        }
    };
    let cgroups = Cgroups::detect()?;
    let mut found: Vec<(ContainerName, Process)> = Vec::new();
    for container in containers {
        let first = target::status(&task, &container).and_then(|status| status.process.as_ref());
        let listed = processes::list(&cgroups, &cgroup::of_container(&task.spec, &container), first)
            .doing(format!("listing the processes of container {container}"))?;
        found.extend(listed.into_iter().map(|process| (container.clone(), process)));
    }
    if arguments.output.is_json() {
        output::print_json(&found.iter().map(|(container, process)| as_json(container, process)).collect::<Vec<_>>())?;
    } else {
        let rows = found.iter().map(|(container, process)| row(container, process)).collect();
        output::print(&output::table(
            &["CONTAINER", "PID", "INSIDE", "PARENT", "USER", "STATE", "CPU TIME", "MEMORY", "COMMAND"],
            rows,
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(container: &ContainerName, process: &Process) -> Vec<String> {
    vec![
        container.to_string(),
        process.pid.to_string(),
        process.pid_inside.to_string(),
        process.parent.to_string(),
        output::printable(&process.user),
        process.state.to_string(),
        cpu_time(process.cpu_ms),
        output::bytes(process.rss_bytes),
        output::printable(&process.command),
    ]
}

fn as_json(container: &ContainerName, process: &Process) -> Value {
    json!({
        "container": container,
        "pid": process.pid,
        "pidInside": process.pid_inside,
        "parent": process.parent,
        "user": process.user,
        "uid": process.uid,
        "state": process.state,
        "cpuMs": process.cpu_ms,
        "rssBytes": process.rss_bytes,
        "command": process.command,
    })
}

/// `1:02:03.45`, as top(1) has it.
fn cpu_time(ms: u64) -> String {
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let hundredths = ms / 10 % 100;
    match hours {
        0 => format!("{minutes}:{seconds:02}.{hundredths:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}.{hundredths:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_top_tells_them() {
        for (ms, text) in [(0, "0:00.00"), (1_230, "0:01.23"), (59_999, "0:59.99"), (3_723_450, "1:02:03.45")] {
            assert_eq!(cpu_time(ms), text);
        }
    }
}
