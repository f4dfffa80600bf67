//! RunTask (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>).

use ecs::operations::shapes::{Failure, PlacementStrategy};
use ecs::operations::tasks::{RunTaskRequest, RunTaskResponse};
use ecs::operations::{ApiError, ErrorCode};
use ecs::task_definition::PlacementConstraint;
use ecs::{LaunchType, TaskId, hash};
use scheduler::{Constraints, Strategy, Unplaceable};

use super::answered;
use super::launch::{self, Asked};
use super::making::{self, MAX_TASKS, Wish};
use crate::answer::capacity_providers::BUILT_IN;
use crate::answer::{Answer, Context};
use crate::change::Record;
use crate::draft::Draft;
use crate::explain::{self, Verdict};
use crate::placing;
use crate::records::{ReservedToken, TaskRecord};

const MAX_STRATEGIES: usize = 5;
const MAX_STARTED_BY: usize = 128;
const MAX_TOKEN_LENGTH: usize = 64;
/// Tasks of one cluster that wait for an instance of their capacity provider.
const MAX_WAITING: usize = 500;
/// Instances that one answer tells of.
const MAX_FAILURES: usize = 100;
const NO_INSTANCES: &str = "No Container Instances were found in your cluster.";
const NO_FARGATE: &str =
    "Capacity is unavailable at this time. Please try again later or in a different availability zone";

pub fn run(context: &mut Context, request: &RunTaskRequest) -> Answer<RunTaskResponse> {
    let state = context.state;
    let cluster = state.cluster(&request.cluster)?;
    let token = token(request)?;
    if let Some(token) = &token
        && let Some(known) = state.tokens.get(&(cluster.name.clone(), token.clone()))
    {
        return repeated(context, known, request).map(|response| (response, Default::default()));
    }
    let mut run = Run { draft: Draft::new(state), ids: Vec::new(), failures: Vec::new(), full: Vec::new() };
    let order = making::order(state, cluster, &wish(request))?;
    let (constraints, strategies) = (constraints(request)?, strategies(request)?);
    for launch in launch::of_each(cluster, &asked(request), count(request)?)? {
        if launch.launch_type == LaunchType::Fargate {
            nothing_to_choose(constraints, strategies)?;
        }
        let task = order.task(&launch, context)?;
        let task = TaskRecord { strategies: strategies.to_vec(), client_token: token.clone(), ..task };
        run.add(context, task)?;
    }
    let Run { mut draft, ids, failures, .. } = run;
    if let Some(token) = token.filter(|_| !ids.is_empty()) {
        let (cluster, used_at) = (cluster.name.clone(), context.now);
        let request = fingerprint(request)?;
        draft.put(Record::Token(ReservedToken { cluster, token, request, tasks: ids.clone(), used_at }));
    }
    let tasks = ids.iter().filter_map(|id| draft.state().tasks.get(id));
    let tasks = tasks.map(|task| answered(draft.state(), task, context.account())).collect();
    Ok((RunTaskResponse { tasks, failures }, draft.finish()))
}

/// Where the first task of such a RunTask would go now, or why nowhere. Nothing changes.
///
/// # Errors
/// As RunTask's.
pub fn explain(context: &mut Context, request: &RunTaskRequest) -> Result<Verdict, ApiError> {
    let cluster = context.state.cluster(&request.cluster)?;
    let order = making::order(context.state, cluster, &wish(request))?;
    let (_, strategies) = (constraints(request)?, strategies(request)?);
    let launches = launch::of_each(cluster, &asked(request), 1)?;
    let launch = launches.first().ok_or_else(|| ApiError::invalid(NO_INSTANCES))?;
    let task = TaskRecord { strategies: strategies.to_vec(), ..order.task(launch, context)? };
    Ok(explain::task(context.state, &task))
}

fn wish(request: &RunTaskRequest) -> Wish<'_> {
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
        constraints: request.placement_constraints.as_deref().unwrap_or_default(),
    }
}

fn asked(request: &RunTaskRequest) -> Asked<'_> {
    Asked {
        launch_type: request.launch_type.as_deref(),
        strategy: request.capacity_provider_strategy.as_deref().unwrap_or_default(),
        platform_version: request.platform_version.as_deref(),
    }
}

fn count(request: &RunTaskRequest) -> Result<usize, ApiError> {
    let count = usize::try_from(request.count.unwrap_or(1)).ok().filter(|count| (1..=MAX_TASKS).contains(count));
    count.ok_or_else(|| ApiError::invalid(format!("count should be between 1 and {MAX_TASKS}.")))
}

fn constraints(request: &RunTaskRequest) -> Result<&[PlacementConstraint], ApiError> {
    let constraints = request.placement_constraints.as_deref().unwrap_or_default();
    Constraints::check(constraints).map_err(|error| invalid(&error))?;
    Ok(constraints)
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PlacementStrategy.html>.
fn strategies(request: &RunTaskRequest) -> Result<&[PlacementStrategy], ApiError> {
    let strategies = request.placement_strategy.as_deref().unwrap_or_default();
    if strategies.len() > MAX_STRATEGIES {
        return Err(ApiError::invalid(format!("placementStrategy can have at most {MAX_STRATEGIES} items.")));
    }
    for strategy in strategies {
        Strategy::read(strategy).map_err(|error| invalid(&error))?;
    }
    Ok(strategies)
}

/// With the whole chain of causes.
fn invalid(error: &dyn std::error::Error) -> ApiError {
    let causes = std::iter::successors(Some(error), |error| error.source());
    ApiError::invalid(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

fn nothing_to_choose(constraints: &[PlacementConstraint], strategies: &[PlacementStrategy]) -> Result<(), ApiError> {
    if !constraints.is_empty() {
        return Err(ApiError::invalid("Placement constraints are not supported with FARGATE launch type."));
    }
    if !strategies.is_empty() {
        return Err(ApiError::invalid("Placement strategies are not supported with FARGATE launch type."));
    }
    Ok(())
}

/// One call's tasks, each placed before the next is.
struct Run {
    draft: Draft,
    ids: Vec<TaskId>,
    failures: Vec<Failure>,
    /// Launch types without room: what one task did not find, the next one like it will not either.
    full: Vec<String>,
}

impl Run {
    fn add(&mut self, context: &mut Context<'_>, task: TaskRecord) -> Result<(), ApiError> {
        let waits = task.capacity_provider.as_deref().is_some_and(|name| !BUILT_IN.contains(&name));
        if !waits && self.full.contains(&task.launch_type) {
            return Ok(());
        }
        let unplaceable = match placing::choose(self.draft.state(), &task, context.ids) {
            Ok(instance) => {
                self.put(placing::placed(task, instance));
                return Ok(());
            }
            Err(unplaceable) => unplaceable,
        };
        if waits {
            let waiting = self.draft.state().waiting.values().filter(|waiting| waiting.cluster == task.cluster);
            if waiting.count() >= MAX_WAITING {
                let words = format!("{MAX_WAITING} tasks of the cluster are PROVISIONING, which is the limit.");
                return Err(ApiError::new(ErrorCode::LimitExceeded, words));
            }
            self.put(TaskRecord { version: 1, ..task });
            return Ok(());
        }
        let fargate = task.is_fargate();
        if unplaceable.lacks.is_empty() && !fargate {
            return Err(ApiError::invalid(NO_INSTANCES));
        }
        self.failures.extend(self.told(context, &task, &unplaceable));
        self.full.push(task.launch_type);
        Ok(())
    }

    fn put(&mut self, task: TaskRecord) {
        self.ids.push(task.id.clone());
        self.draft.put_task(task);
    }

    /// A failure for each instance. On Fargate there is no instance to be named, so it is one for all.
    fn told(&self, context: &Context<'_>, task: &TaskRecord, unplaceable: &Unplaceable) -> Vec<Failure> {
        let Some(fleet) = self.draft.state().fleets.get(&task.cluster) else {
            return vec![Failure { arn: None, reason: Some(NO_FARGATE.to_owned()), detail: None }];
        };
        let lines = explain::report(fleet, unplaceable).lines;
        if task.is_fargate() {
            let reason = placing::most_common(lines.iter().map(|line| line.reason)).to_owned();
            let told: Vec<String> = lines.iter().take(MAX_FAILURES).map(|line| line.detail.clone()).collect();
            return vec![Failure { arn: None, reason: Some(reason), detail: Some(told.join("; ")) }];
        }
        let failure = |line: explain::Line| Failure {
            arn: Some(context.account().container_instance(&task.cluster, &line.instance)),
            reason: Some(line.reason.to_owned()),
            detail: Some(line.detail),
        };
        lines.into_iter().take(MAX_FAILURES).map(failure).collect()
    }
}

fn token(request: &RunTaskRequest) -> Result<Option<String>, ApiError> {
    let Some(token) = request.client_token.as_deref().filter(|token| !token.is_empty()) else { return Ok(None) };
    let printable = token.bytes().all(|byte| (33..=126).contains(&byte));
    if token.len() > MAX_TOKEN_LENGTH || !printable {
        let words = format!("clientToken should be up to {MAX_TOKEN_LENGTH} ASCII characters in the range of 33-126.");
        return Err(ApiError::invalid(words));
    }
    Ok(Some(token.to_owned()))
}

/// "If you retry a request that completed successfully using the same client token and the same parameters, the retry
/// succeeds without performing any further actions"
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html>).
fn repeated(
    context: &Context<'_>,
    known: &ReservedToken,
    request: &RunTaskRequest,
) -> Result<RunTaskResponse, ApiError> {
    if known.request != fingerprint(request)? {
        let ids = known.tasks.iter().map(|id| context.account().task(&known.cluster, id)).collect();
        let words = "The clientToken has been used for a RunTask with other parameters.";
        return Err(ApiError { resource_ids: ids, ..ApiError::new(ErrorCode::Conflict, words) });
    }
    let tasks = known.tasks.iter().filter_map(|id| context.state.tasks.get(id));
    let tasks = tasks.map(|task| answered(context.state, task, context.account())).collect();
    Ok(RunTaskResponse { tasks, failures: Vec::new() })
}

/// Of the members that are there, but for the token and the cluster under which it is kept: the same for the same request in
/// every version.
fn fingerprint(request: &RunTaskRequest) -> Result<String, ApiError> {
    let unwritten = |error: serde_json::Error| ApiError::new(ErrorCode::Server, error.to_string());
    let mut members = match ecs::json::value_of(request).map_err(unwritten)? {
        serde_json::Value::Object(members) => members,
        other => return Ok(other.to_string()),
    };
    members.retain(|name, value| !value.is_null() && !matches!(name.as_str(), "clientToken" | "cluster"));
    let text = serde_json::to_string(&members).map_err(unwritten)?;
    Ok(format!("{:032x}", hash::fnv1a(text.bytes())))
}
