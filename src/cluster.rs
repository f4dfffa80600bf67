//! The cluster as the API tells it: its tasks, its container instances, and which task somebody means.

use std::collections::BTreeMap;

use clap::Args;
use ecs::operations::shapes::ContainerInstance;
use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus, Task};
use ecs::{TaskId, Timestamp};
use serde_json::{Value, json};

use crate::api_client::{Api, Endpoint, read};
use crate::failure::{BAD_INPUT, Explain, Failure};
use crate::{output, show, time_text};

/// What one Describe call takes: "A list of up to 100 task IDs or full ARN entries."
const DESCRIBED: usize = 100;
/// Digits of an id that people are shown.
const SHORT_ID: usize = 12;
/// Candidates that an error names.
const CANDIDATES: usize = 5;
const FAMILY: &str = "family";

/// What of an API a command is about.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Only this cluster; all of them otherwise.
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
}

/// A task as DescribeTasks has it.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) cluster: String,
    pub(crate) task: Task,
    pub(crate) value: Value,
}

/// What follows the last slash of an ARN.
pub(crate) fn last(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

pub(crate) fn short(arn: &str) -> String {
    last(arn).chars().take(SHORT_ID).collect()
}

impl Described {
    pub(crate) fn id(&self) -> &str {
        last(&self.task.task_arn)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.task.last_status == LastStatus::Stopped
    }

    pub(crate) fn definition(&self) -> &str {
        last(&self.task.task_definition_arn)
    }

    /// `RUNNING for 5m`, `STOPPED (143) 2h ago`.
    pub(crate) fn status(&self, now: Timestamp) -> String {
        let task = &self.task;
        let name = name_of(&task.last_status);
        let since = |at: Option<Timestamp>| at.map(|at| time_text::span(now.ms_since(at)));
        match task.last_status {
            LastStatus::Running if task.desired_status == DesiredStatus::Stopped => format!("{name}, to be stopped"),
            LastStatus::Running => since(task.started_at).map_or(name.clone(), |span| format!("{name} for {span}")),
            LastStatus::Stopped => {
                let code = exit_code(task).map(|code| format!(" ({code})")).unwrap_or_default();
                let span = since(task.stopped_at).map(|span| format!(" {span} ago")).unwrap_or_default();
                format!("{name}{code}{span}")
            }
            LastStatus::Provisioning
            | LastStatus::Pending
            | LastStatus::Activating
            | LastStatus::Deactivating
            | LastStatus::Stopping
            | LastStatus::Deprovisioning => name,
        }
    }

    /// Names; what is not running says how it stands.
    pub(crate) fn containers(&self) -> String {
        let shown = self.task.containers.iter().map(|container| {
            let name = &container.name;
            match (container.last_status, container.exit_code, container.health_status) {
                (ContainerLastStatus::Running, _, HealthStatus::Healthy) => format!("{name} (healthy)"),
                (ContainerLastStatus::Running, _, HealthStatus::Unhealthy) => format!("{name} (unhealthy)"),
                (ContainerLastStatus::Running, _, HealthStatus::Unknown) => name.to_string(),
                (ContainerLastStatus::Stopped, Some(code), _) => format!("{name} ({code})"),
                (ContainerLastStatus::Stopped, None, _) => format!("{name} (stopped)"),
                (ContainerLastStatus::Pending, _, _) => format!("{name} (pending)"),
            }
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn address(&self) -> String {
        let details = self.task.attachments.iter().flat_map(|attachment| &attachment.details);
        let addresses = details.filter(|detail| detail.name == "privateIPv4Address").map(|detail| detail.value.clone());
        output::printable(&addresses.collect::<Vec<_>>().join(", "))
    }

    pub(crate) fn ports(&self) -> String {
        let cells = self.task.containers.iter().map(|container| show::ports_cell(&container.network_bindings));
        cells.filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// A service's task is called by it; all else has no name.
    pub(crate) fn name(&self) -> String {
        output::printable(self.task.group.strip_prefix("service:").unwrap_or_default())
    }
}

/// Amazon's spelling of a status.
pub(crate) fn name_of(status: &impl serde::Serialize) -> String {
    match serde_json::to_value(status) {
        Ok(Value::String(name)) => name,
        // Of a plain enumeration neither happens.
        Ok(_) | Err(_) => String::new(),
    }
}

/// The first that is not 0 says most.
pub(crate) fn exit_code(task: &Task) -> Option<i32> {
    let codes = || task.containers.iter().filter_map(|container| container.exit_code);
    codes().find(|code| *code != 0).or_else(|| codes().next())
}

/// Names of clusters: the one that was asked for, or all.
pub(crate) fn clusters(api: &Api, scope: &Scope) -> Result<Vec<String>, Failure> {
    if let Some(cluster) = &scope.cluster {
        return Ok(vec![last(cluster).to_owned()]);
    }
    let arns = api.list("ListClusters", &json!({}), "clusterArns")?;
    let mut names: Vec<String> = arns.iter().map(|arn| last(arn).to_owned()).collect();
    names.sort_unstable();
    Ok(names)
}

/// The ARNs of a cluster's tasks.
pub(crate) fn arns(api: &Api, cluster: &str, desired: DesiredStatus) -> Result<Vec<String>, Failure> {
    let request = json!({"cluster": cluster, "desiredStatus": name_of(&desired)});
    api.list("ListTasks", &request, "taskArns")
}

/// Tasks that have gone in between are left out.
pub(crate) fn describe(api: &Api, cluster: &str, arns: &[String]) -> Result<Vec<Described>, Failure> {
    let mut all = Vec::new();
    for some in arns.chunks(DESCRIBED) {
        let mut answer = api.call("DescribeTasks", &json!({"cluster": cluster, "tasks": some, "include": ["TAGS"]}))?;
        let values: Vec<Value> = read("DescribeTasks", &mut answer, "tasks")?;
        for value in values {
            let task = ecs::json::typed(&value).doing("reading a task of the answer to DescribeTasks")?;
            all.push(Described { cluster: cluster.to_owned(), task, value });
        }
    }
    Ok(all)
}

pub(crate) fn instances(api: &Api, cluster: &str) -> Result<Vec<ContainerInstance>, Failure> {
    let arns = api.list("ListContainerInstances", &json!({"cluster": cluster}), "containerInstanceArns")?;
    let mut all = Vec::new();
    for some in arns.chunks(DESCRIBED) {
        let request = json!({"cluster": cluster, "containerInstances": some});
        let mut answer = api.call("DescribeContainerInstances", &request)?;
        all.extend(read::<Vec<ContainerInstance>>("DescribeContainerInstances", &mut answer, "containerInstances")?);
    }
    Ok(all)
}

/// What people call an instance: its host, or the start of its id.
pub(crate) fn host_name(instance: &ContainerInstance) -> String {
    let id = || short(instance.container_instance_arn.as_deref().unwrap_or_default());
    output::printable(&instance.ec2_instance_id.clone().unwrap_or_else(id))
}

/// Host names by the ids of container instances.
pub(crate) fn hosts(instances: &[ContainerInstance]) -> BTreeMap<String, String> {
    let id =
        |instance: &ContainerInstance| last(instance.container_instance_arn.as_deref().unwrap_or_default()).to_owned();
    instances.iter().map(|instance| (id(instance), host_name(instance))).collect()
}

/// Where a task is: its host's name, or nothing when it is nowhere yet.
pub(crate) fn host_of<'a>(task: &Task, hosts: &'a BTreeMap<String, String>) -> Option<&'a str> {
    hosts.get(last(task.container_instance_arn.as_deref()?)).map(String::as_str)
}

/// The same with one question to the API.
pub(crate) fn ask_host_of(api: &Api, described: &Described) -> Result<Option<String>, Failure> {
    let Some(arn) = &described.task.container_instance_arn else { return Ok(None) };
    let request = json!({"cluster": described.cluster, "containerInstances": [arn]});
    let mut answer = api.call("DescribeContainerInstances", &request)?;
    let found: Vec<ContainerInstance> = read("DescribeContainerInstances", &mut answer, "containerInstances")?;
    Ok(found.first().map(host_name))
}

/// What `wanted` may be, likeliest first.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Whole(&'a str),
    Prefix(&'a str),
    Family(&'a str),
}

fn readings(wanted: &str) -> Vec<Wanted<'_>> {
    let id = last(wanted);
    if TaskId::try_from(id.to_owned()).is_ok() {
        return vec![Wanted::Whole(id)];
    }
    let is_hex = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_arn = wanted.contains('/');
    let prefix = is_hex.then_some(Wanted::Prefix(id));
    let family = (!is_arn && !wanted.is_empty()).then_some(Wanted::Family(wanted));
    prefix.into_iter().chain(family).collect()
}

/// The task of the cluster that is meant by its id, the start of it, its ARN, its family or `FAMILY:REVISION`. One that runs
/// comes before those that have stopped.
///
/// # Errors
/// Several are meant, or the API does not answer.
pub(crate) fn find(api: &Api, scope: &Scope, wanted: &str) -> Result<Option<Described>, Failure> {
    let clusters = clusters(api, scope)?;
    for reading in readings(wanted) {
        for desired in [DesiredStatus::Running, DesiredStatus::Stopped] {
            let mut found = Vec::new();
            for cluster in &clusters {
                found.extend(matching(api, cluster, desired, &reading)?);
            }
            match found.as_slice() {
                [] => {}
                [one] => return Ok(Some(one.clone())),
                several => return Err(ambiguous(wanted, several)),
            }
        }
    }
    Ok(None)
}

fn matching(api: &Api, cluster: &str, desired: DesiredStatus, wanted: &Wanted) -> Result<Vec<Described>, Failure> {
    match *wanted {
        Wanted::Whole(id) => {
            let found = describe(api, cluster, &[id.to_owned()])?;
            Ok(found.into_iter().filter(|one| one.task.desired_status == desired).collect())
        }
        Wanted::Prefix(prefix) => {
            let mut ids = arns(api, cluster, desired)?;
            ids.retain(|arn| last(arn).starts_with(prefix));
            // More than an error names need not be looked at.
            ids.truncate(CANDIDATES + 1);
            describe(api, cluster, &ids)
        }
        Wanted::Family(wanted) => {
            let family = wanted.split(':').next().unwrap_or(wanted);
            let request = json!({"cluster": cluster, "desiredStatus": name_of(&desired), FAMILY: family});
            let ids = api.list("ListTasks", &request, "taskArns")?;
            let mut found = describe(api, cluster, &ids)?;
            found.retain(|one| wanted == family || one.definition() == wanted);
            Ok(found)
        }
    }
}

fn ambiguous(wanted: &str, several: &[Described]) -> Failure {
    let mut names: Vec<String> = several
        .iter()
        .take(CANDIDATES)
        .map(|one| format!("{} ({}, {})", short(&one.task.task_arn), one.definition(), name_of(&one.task.last_status)))
        .collect();
    if several.len() > CANDIDATES {
        names.push("…".to_owned());
    }
    Failure::new(format!("{wanted:?} means several tasks: {}", names.join(", ")))
        .exit(BAD_INPUT)
        .next("the id of one of them, or --cluster NAME")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_epoch_ms(1_795_398_837_042);

    /// As DescribeTasks answers: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>.
    pub(crate) fn described(members: Value) -> Described {
        let mut value = json!({
            "taskArn": "arn:aws:ecs:us-east-1:123456789012:task/default/1f2e3d4c5b6a79880123456789abcdef",
            "taskDefinitionArn": "arn:aws:ecs:us-east-1:123456789012:task-definition/web:3",
            "clusterArn": "arn:aws:ecs:us-east-1:123456789012:cluster/default",
            "group": "family:web",
            "launchType": "EC2",
            "lastStatus": "RUNNING",
            "desiredStatus": "RUNNING",
            "healthStatus": "UNKNOWN",
            "version": 3,
            "createdAt": 1_795_398_000.042,
            "startedAt": 1_795_398_537.042,
            "containers": [{
                "containerArn": "arn:aws:ecs:us-east-1:123456789012:container/default/1f2e/0",
                "taskArn": "arn:aws:ecs:us-east-1:123456789012:task/default/1f2e3d4c5b6a79880123456789abcdef",
                "name": "main", "image": "nginx", "lastStatus": "RUNNING", "healthStatus": "HEALTHY", "cpu": "0",
                "networkBindings": [{"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 8080, "protocol": "tcp"}],
            }],
        });
        for (name, member) in members.as_object().expect("members") {
            value[name] = member.clone();
        }
        let task = serde_json::from_value(value.clone()).expect("a task");
        Described { cluster: "default".to_owned(), task, value }
    }

    #[test]
    fn a_task_is_told_in_a_row() {
        let one = described(json!({}));
        assert_eq!(one.status(NOW), "RUNNING for 5m");
        assert_eq!((one.definition(), one.containers().as_str()), ("web:3", "main (healthy)"));
        assert_eq!(one.ports(), "8080->80/tcp");
        let one = described(json!({"desiredStatus": "STOPPED", "group": "service:api"}));
        assert_eq!((one.status(NOW).as_str(), one.name().as_str()), ("RUNNING, to be stopped", "api"));
        let mut containers = one.value["containers"].clone();
        containers[0]["lastStatus"] = json!("STOPPED");
        containers[0]["exitCode"] = json!(143);
        let stopped = json!({"lastStatus": "STOPPED", "stoppedAt": 1_795_391_637.0, "containers": containers});
        let one = described(stopped);
        assert_eq!((one.status(NOW).as_str(), one.containers().as_str()), ("STOPPED (143) 2h ago", "main (143)"));
    }

    #[test]
    fn what_somebody_means_is_an_id_or_a_family() {
        let id = "1f2e3d4c5b6a79880123456789abcdef";
        let arn = format!("arn:aws:ecs:us-east-1:123456789012:task/default/{id}");
        assert_eq!(readings(&arn), [Wanted::Whole(id)]);
        assert_eq!(readings("1f2e"), [Wanted::Prefix("1f2e"), Wanted::Family("1f2e")]);
        assert_eq!(readings("web:3"), [Wanted::Family("web:3")]);
        assert_eq!(readings("default/1f2e"), [Wanted::Prefix("1f2e")]);
        assert_eq!(readings(""), []);
    }
}
