//! DescribeTasks and ListTasks.

use std::ops::Bound;
use std::sync::Arc;

use ecs::operations::ApiError;
use ecs::operations::tasks::{DescribeTasksRequest, DescribeTasksResponse, ListTasksRequest, ListTasksResponse};
use ecs::task::DesiredStatus;
use ecs::{LaunchType, TaskId};

use super::{any_cluster, failure};
use crate::answer::{Answer, Context};
use crate::names;
use crate::page::{self, Asked, Page};
use crate::records::TaskRecord;
use crate::shown;
use crate::state::{By, service_of};

/// "A list of up to 100 task IDs or full ARN entries."
const MAX_TASKS: usize = 100;
const INCLUDES: [&str; 1] = ["TAGS"];
const DESIRED_STATUSES: [&str; 3] = ["RUNNING", "PENDING", "STOPPED"];

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>.
pub fn describe(context: &mut Context, request: &DescribeTasksRequest) -> Answer<DescribeTasksResponse> {
    let cluster = any_cluster(context, &request.cluster)?;
    let given = request.tasks.as_deref().unwrap_or_default();
    if given.len() > MAX_TASKS {
        return Err(ApiError::invalid(format!("Tasks cannot be more than {MAX_TASKS}.")));
    }
    let given = names::required_list(&request.tasks, "Tasks", MAX_TASKS)?;
    names::included(&request.include, &INCLUDES)?;
    let with_tags = names::includes(&request.include, "TAGS");
    let account = context.account();
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for one in given {
        let id = names::task(one, &cluster.name)?;
        let task = id.and_then(|id| context.state.tasks.get(&id)).filter(|task| task.cluster == cluster.name);
        match task {
            Some(task) => {
                let mut shown = shown::task(context.state, task, account);
                if with_tags {
                    shown.tags = task.tags.clone();
                }
                tasks.push(shown);
            }
            None => failures.push(failure(context, &cluster.name, one, "MISSING")),
        }
    }
    Ok((DescribeTasksResponse { tasks, failures }, Default::default()))
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html>. Tasks come in the order of their ids.
pub fn list(context: &mut Context, request: &ListTasksRequest) -> Answer<ListTasksResponse> {
    let cluster = any_cluster(context, &request.cluster)?;
    let filter = Filter::read(context, &cluster.name, request)?;
    let filters = [
        Some(cluster.name.as_str()),
        request.container_instance.as_deref(),
        request.family.as_deref(),
        request.started_by.as_deref(),
        request.service_name.as_deref(),
        request.desired_status.as_deref(),
        request.launch_type.as_deref(),
        request.daemon_name.as_deref(),
    ];
    let page = Page::read(Asked {
        operation: "ListTasks",
        filters: &filters,
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
        limits: page::LONG,
    })?;
    let after =
        page.after().map(|key| TaskId::try_from(key.to_owned()).map_err(|_| page::invalid_token())).transpose()?;
    let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let sought = filter.desired.filter(|_| !filter.nothing);
    let sought = sought.and_then(|desired| context.state.tasks_with(&cluster.name, desired, filter.narrowest()));
    let tasks = sought.into_iter().flat_map(|tasks| tasks.range((start, Bound::Unbounded)));
    let account = context.account();
    let listed = tasks.filter(|(_, task)| filter.takes(task)).map(|(id, task)| (id.to_string(), task));
    let (tasks, next_token) = page.cut(listed);
    let task_arns = tasks.into_iter().map(|task| account.task(&task.cluster, &task.id)).collect();
    Ok((ListTasksResponse { task_arns, next_token }, Default::default()))
}

struct Filter<'a> {
    /// Nothing for PENDING: "Amazon ECS never sets the desired status of a task to that value".
    desired: Option<DesiredStatus>,
    instance: Option<ecs::ContainerInstanceId>,
    family: Option<&'a str>,
    started_by: Option<&'a str>,
    service: Option<&'a str>,
    launch_type: Option<LaunchType>,
    /// Of a thing that is not here.
    nothing: bool,
}

impl<'a> Filter<'a> {
    fn read(context: &Context<'_>, cluster: &str, request: &'a ListTasksRequest) -> Result<Filter<'a>, ApiError> {
        let others = [&request.container_instance, &request.family, &request.service_name];
        if request.started_by.is_some() && others.iter().any(|other| other.is_some()) {
            let words = "When you specify startedBy as the filter, it must be the only filter that you use.";
            return Err(ApiError::invalid(words));
        }
        let desired = match request.desired_status.as_deref() {
            None => Some(DesiredStatus::Running),
            Some(given) => match names::one_of(given, &DESIRED_STATUSES, "desiredStatus")? {
                "STOPPED" => Some(DesiredStatus::Stopped),
                "PENDING" => None,
                _ => Some(DesiredStatus::Running),
            },
        };
        let launch_type = match request.launch_type.as_deref() {
            None => None,
            Some(given) => Some(
                LaunchType::read(given)
                    .map_err(|_| ApiError::invalid("launchType should be one of [EC2,FARGATE,EXTERNAL]"))?,
            ),
        };
        let instance = match &request.container_instance {
            None => None,
            Some(given) => {
                let id = names::instance(given, cluster)?;
                let known = id.filter(|id| context.state.instance_of(cluster, id).is_some());
                Some(known.ok_or_else(|| ApiError::invalid("The specified container instance was not found."))?)
            }
        };
        // A service is named by its name or its ARN, whose last part is the name.
        let service = request.service_name.as_deref().map(|given| given.rsplit('/').next().unwrap_or(given));
        Ok(Filter {
            desired,
            instance,
            family: request.family.as_deref(),
            started_by: request.started_by.as_deref(),
            service,
            launch_type,
            nothing: request.daemon_name.is_some(),
        })
    }

    /// The filter that leaves the fewest tasks to look at, most likely.
    fn narrowest(&self) -> Option<By> {
        let service = || self.service.map(|name| By::Service(name.to_owned()));
        let started_by = || self.started_by.map(|by| By::StartedBy(by.to_owned()));
        let family = || self.family.map(|family| By::Family(family.to_owned()));
        self.instance.clone().map(By::Instance).or_else(service).or_else(started_by).or_else(family)
    }

    fn takes(&self, task: &Arc<TaskRecord>) -> bool {
        self.desired == Some(task.desired_status)
            && self.instance.as_ref().is_none_or(|id| task.instance.as_ref() == Some(id) && !task.is_fargate())
            && self.family.is_none_or(|family| task.family == family)
            && self.started_by.is_none_or(|by| task.started_by.as_deref() == Some(by))
            && self.service.is_none_or(|name| service_of(task) == Some(name))
            && self.launch_type.is_none_or(|launch_type| task.launch_type == launch_type.name())
    }
}
