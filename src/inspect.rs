//! `coracle inspect`: everything known about one task.

use std::process::ExitCode;

use agent::recovery::Network;
use agent_protocol::{ContainerSpec, ContainerStatus, TaskSpec};
use clap::Args;
use ecs::log_options;
use runtime::logs;
use runtime::task_dir::Task;
use serde_json::{Value, json};

use crate::cluster::{Described, Scope};
use crate::failure::{Explain, Outcome};
use crate::options::{Options, require_root};
use crate::target::{self, Known};
use crate::{output, recovery};

/// Show everything about one task as JSON
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  sudo coracle inspect web | jq .containers[].networkBindings\n\nThe members are those of DescribeTasks; what only coracle knows is in `coracle`, for tasks of this host."
)]
pub(crate) struct Arguments {
    /// The task's id, the start of its id, its ARN, its name or its family.
    task: String,
    #[command(flatten)]
    scope: Scope,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    if arguments.scope.endpoint.endpoint.is_none() {
        require_root("inspect")?;
        recovery::recover(&recovery::host(options)?, Network::IfCutShort);
    }
    let shown = match target::known(options, &arguments.scope, &arguments.task).doing("no task to inspect")? {
        Known::Here(task) => json(&task),
        Known::InCluster { described, here: Some(task), .. } => both(&task, &described),
        Known::InCluster { described, here: None, .. } => described.value,
    };
    output::print_json(&shown)?;
    Ok(ExitCode::SUCCESS)
}

/// As the cluster has it, and what only this host knows beside it.
pub(crate) fn both(task: &Task, described: &Described) -> Value {
    let mut value = described.value.clone();
    value["coracle"] = json(task)["coracle"].take();
    value
}

/// DescribeTasks' shape, and what only coracle knows beside it.
pub(crate) fn json(task: &Task) -> Value {
    let spec = &task.spec;
    let mut value = json!(agent::describe::task(spec, task.status.as_ref()));
    let containers: serde_json::Map<String, Value> = spec
        .containers
        .iter()
        .map(|container| {
            let name = &container.definition.name;
            let status = task
                .status
                .as_ref()
                .and_then(|status| status.containers.iter().find(|candidate| candidate.name == *name));
            let known = json!({
                "hostname": container.network.hostname,
                "ipv4Address": container.network.ipv4_address,
                "ipv6Address": container.network.ipv6_address,
                "process": status.and_then(|status| status.process.as_ref()),
                "createdAt": status.and_then(|status| status.created_at),
                "startedAt": status.and_then(|status| status.started_at),
                "finishedAt": status.and_then(|status| status.finished_at),
                "restartCount": status.map(|status| status.restart_count),
                "healthOutput": status.and_then(|status| status.health_output.as_ref()),
                "stuck": status.and_then(|status| status.stuck.as_ref()),
                "startExitCode": status.and_then(|status| status.start_exit_code),
                "startStagesUs": status.map(|status| &status.start_stages_us),
                "log": log(spec, container, status),
                "definition": container.definition,
            });
            (name.to_string(), known)
        })
        .collect();
    value["coracle"] = json!({
        "name": spec.name,
        "networkMode": spec.network_mode,
        "networkInterface": spec.network_interface,
        "stateDirectory": spec.places.state,
        "runDirectory": spec.places.run,
        "cgroup": spec.places.cgroup,
        "supervisor": task.status.as_ref().map(|status| &status.supervisor),
        "endedBy": task.status.as_ref().and_then(|status| status.ended_by.as_ref()),
        "teardownErrors": task.status.as_ref().map(|status| &status.teardown_errors),
        "containers": containers,
    });
    value
}

/// Where a container's output is kept, and what of it could not be.
fn log(spec: &TaskSpec, container: &ContainerSpec, status: Option<&ContainerStatus>) -> Value {
    let driver = container.definition.log_configuration.as_ref().map(|log| log.log_driver.as_str());
    let stream = logs::groups::of_container(spec, container);
    json!({
        "logDriver": driver.unwrap_or(log_options::JSON_FILE),
        "directory": logs::is_kept(container).then(|| logs::directory(spec, container)),
        "logGroupName": stream.as_ref().map(|stream| &stream.about.log_group_name),
        "logStreamName": stream.as_ref().map(|stream| &stream.about.log_stream_name),
        "lostBytes": status.map_or(0, |status| status.log_lost_bytes),
        "error": status.and_then(|status| status.log_error.as_ref()),
        "shipping": log_shipping::shipping(spec, container),
    })
}
