//! StartTask (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StartTask.html>): one task on each of the named
//! instances, if it fits there.

use ecs::operations::shapes::Failure;
use ecs::operations::tasks::{StartTaskRequest, StartTaskResponse};
use ecs::{ContainerInstanceId, LaunchType};
use scheduler::{Fleet, Wanted};

use super::answered;
use super::launch::Launch;
use super::making::{self, MAX_TASKS, Wish};
use crate::answer::{Answer, Context};
use crate::draft::Draft;
use crate::explain::{self, Verdict};
use crate::names;
use crate::placing;
use crate::records::{InstanceStatus, TaskRecord};
use crate::state::{self, State};

const MAX_STARTED_BY: usize = 36;

pub fn start(context: &mut Context, request: &StartTaskRequest) -> Answer<StartTaskResponse> {
    let state = context.state;
    let cluster = state.cluster(&request.cluster)?;
    let named = names::required_list(&request.container_instances, "Container instances", MAX_TASKS)?;
    let order = making::order(state, cluster, &wish(request))?;
    let mut draft = Draft::new(state);
    let (mut ids, mut failures) = (Vec::new(), Vec::new());
    for given in named {
        let id = names::instance(given, &cluster.name)?;
        let arn = |id: &str| context.account().arn(&format!("container-instance/{}/{id}", cluster.name));
        let arn = names::missing_arn(given, arn);
        let failure = |reason: &str, detail: Option<String>| Failure {
            arn: Some(arn.clone()),
            reason: Some(reason.to_owned()),
            detail,
        };
        let Some(instance) = id.and_then(|id| state.instance_of(&cluster.name, &id)) else {
            failures.push(failure("MISSING", None));
            continue;
        };
        if instance.status == InstanceStatus::Inactive {
            failures.push(failure("INACTIVE", None));
            continue;
        }
        let launch = Launch { launch_type: LaunchType::Ec2, provider: None, platform_version: None };
        let task = order.task(&launch, context)?;
        match fits(draft.state(), &task, &instance.id) {
            Ok(()) => {
                ids.push(task.id.clone());
                draft.put_task(placing::placed(task, instance.id.clone()));
            }
            Err(line) => failures.push(failure(line.reason, Some(line.detail))),
        }
    }
    let tasks = ids.iter().filter_map(|id| draft.state().tasks.get(id));
    let tasks = tasks.map(|task| answered(draft.state(), task, context.account())).collect();
    Ok((StartTaskResponse { tasks, failures }, draft.finish()))
}

fn wish(request: &StartTaskRequest) -> Wish<'_> {
    Wish {
        task_definition: &request.task_definition,
        overrides: &request.overrides,
        network_configuration: &request.network_configuration,
        group: &request.group,
        started_by: &request.started_by,
        most_started_by: MAX_STARTED_BY,
        tags: &request.tags,
        propagate_tags: &request.propagate_tags,
        managed_tags: request.enable_ecs_managed_tags.unwrap_or(false),
        enable_execute_command: request.enable_execute_command.unwrap_or(false),
        volume_configurations: &request.volume_configurations,
        constraints: &[],
    }
}

/// Resources and attributes of the one instance count; constraints and strategies are for those who choose.
fn fits(state: &State, task: &TaskRecord, id: &ContainerInstanceId) -> Result<(), explain::Line> {
    let mut alone = Fleet::default();
    if let Some(instance) = state.fleets.get(&task.cluster).and_then(|fleet| fleet.instance(id)) {
        alone.put_instance(instance.clone());
    }
    for claim in state.living_tasks(id).filter_map(|task| state::claim(task)) {
        alone.put_claim(claim);
    }
    let found = placing::with_wanted(state, task, |wanted| {
        explain::explain(&alone, &Wanted { constraints: &[], strategies: &[], ..wanted.clone() })
    });
    let report = match found {
        Verdict::Fits(_) => return Ok(()),
        Verdict::Fails(report) => report,
    };
    match report.lines.into_iter().next() {
        Some(line) => Err(line),
        None => Err(explain::Line {
            instance: id.clone(),
            host_name: String::new(),
            reason: "INACTIVE",
            detail: "the instance is not ACTIVE".to_owned(),
        }),
    }
}
