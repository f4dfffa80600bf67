//! `coracle status`: the clusters on one screen of 80 columns.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use ecs::Timestamp;
use ecs::operations::shapes::{Cluster, ContainerInstance, Resource};
use ecs::task::{DesiredStatus, StopCode};
use serde_json::{Value, json};
use server::daemon;

use crate::api_client::{Api, read};
use crate::cluster::{self, Described, Scope};
use crate::failure::{Failure, Outcome};
use crate::options::{Options, Output};
use crate::{clock, credentials, output, time_text};

const COLUMNS: usize = 80;
/// Stopped tasks of one cluster that are looked at for problems, and problems that are shown.
const LOOKED_AT: usize = 1_000;
const PROBLEMS: usize = 5;
/// "A list of up to 100 cluster names or full cluster Amazon Resource Name (ARN) entries."
const DESCRIBED: usize = 100;

/// Show the clusters on one screen: instances, tasks, and what went wrong of late
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo coracle status
  watch sudo coracle status
  coracle status --endpoint https://192.0.2.10:4870 --output json

What is shown of CPU and memory is what tasks have reserved, of what the instance registered.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    let api = Api::need(options, &arguments.scope.endpoint, "status")?;
    let status = Status::of(&api, options, &arguments.scope)?;
    if arguments.output.is_json() {
        output::print_json(&status.json())?;
    } else {
        output::print(&status.text(clock::now()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that is shown.
#[derive(Debug, Default)]
struct Status {
    listens_on: Vec<String>,
    region: Option<String>,
    clusters: Vec<Cluster>,
    /// With the name of its cluster.
    instances: Vec<(String, ContainerInstance)>,
    /// All that the clusters want, and those of the stopped that were looked at.
    tasks: Vec<Described>,
    stopped: usize,
}

impl Status {
    fn of(api: &Api, options: &Options, scope: &Scope) -> Result<Status, Failure> {
        let mut status = Status::default();
        if api.is_of_this_host() {
            let run = options.roots()?.run;
            let told = credentials::find(&run.join(daemon::WHERE))?;
            status.listens_on = vec![told.endpoint, run.join(daemon::SOCKET).display().to_string()];
            status.region = Some(told.region);
        } else {
            status.listens_on.extend(scope.endpoint.endpoint.clone());
        }
        let names = cluster::clusters(api, scope)?;
        for some in names.chunks(DESCRIBED) {
            let mut answer = api.call("DescribeClusters", &json!({"clusters": some}))?;
            status.clusters.extend(read::<Vec<Cluster>>("DescribeClusters", &mut answer, "clusters")?);
        }
        for name in &names {
            let instances = cluster::instances(api, name)?;
            status.instances.extend(instances.into_iter().map(|instance| (name.clone(), instance)));
            let wanted = cluster::arns(api, name, DesiredStatus::Running)?;
            let mut stopped = cluster::arns(api, name, DesiredStatus::Stopped)?;
            status.stopped += stopped.len();
            stopped.truncate(LOOKED_AT);
            status.tasks.extend(cluster::describe(api, name, &[wanted, stopped].concat())?);
        }
        Ok(status)
    }

    fn by_status(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for task in &self.tasks {
            *counts.entry(cluster::name_of(&task.task.last_status)).or_default() += 1;
        }
        counts
    }

    /// Tasks that ended otherwise than somebody wanted, the newest first.
    fn problems(&self) -> Vec<&Described> {
        let mut problems: Vec<&Described> = self.tasks.iter().filter(|task| is_problem(task)).collect();
        problems.sort_by_key(|task| std::cmp::Reverse(task.task.stopped_at));
        problems.truncate(PROBLEMS);
        problems
    }

    fn json(&self) -> Value {
        let instances: Vec<&ContainerInstance> = self.instances.iter().map(|(_, instance)| instance).collect();
        json!({
            "endpoints": self.listens_on,
            "region": self.region,
            "clusters": self.clusters,
            "containerInstances": instances,
            "tasks": self.by_status(),
            "problems": self.problems().iter().map(|task| &task.value).collect::<Vec<_>>(),
        })
    }

    fn text(&self, now: Timestamp) -> String {
        let region = self.region.as_ref().map(|region| format!(" ({region})")).unwrap_or_default();
        let parts = [
            format!("The API is at {}{region}", self.listens_on.join(" and ")),
            self.clusters_text(),
            self.instances_text(),
            self.tasks_text(),
            self.problems_text(now),
        ];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        let lines: String = parts.map(|part| format!("{}\n\n", part.trim_end())).collect();
        // A path may be as long as it likes; all else is made to fit.
        format!("{}\n", lines.trim_end())
    }

    fn clusters_text(&self) -> String {
        if self.clusters.is_empty() {
            return "There is no cluster yet: aws ecs create-cluster, or coracle serve with an agent.".to_owned();
        }
        let count = |count: Option<i64>| count.unwrap_or(0).to_string();
        let row = |cluster: &Cluster| {
            vec![
                cluster.cluster_name.clone().unwrap_or_default(),
                cluster.status.clone().unwrap_or_default(),
                count(cluster.registered_container_instances_count),
                count(cluster.running_tasks_count),
                count(cluster.pending_tasks_count),
            ]
        };
        let header = ["CLUSTER", "STATUS", "INSTANCES", "RUNNING", "PENDING"];
        output::table_within(COLUMNS, &header, self.clusters.iter().map(row).collect())
    }

    fn instances_text(&self) -> String {
        if self.instances.is_empty() {
            return "No container instance: `coracle serve` without --no-agent makes this host one.".to_owned();
        }
        let several = self.clusters.len() > 1;
        let row = |(cluster, instance): &(String, ContainerInstance)| {
            let status = instance.status.as_deref().unwrap_or_default();
            let connected = if instance.agent_connected == Some(true) { "" } else { ", gone" };
            let tasks = instance.running_tasks_count.unwrap_or(0) + instance.pending_tasks_count.unwrap_or(0);
            let mut row = vec![
                cluster::short(instance.container_instance_arn.as_deref().unwrap_or_default()),
                cluster::host_name(instance),
                format!("{status}{connected}"),
                used(instance, "CPU", ""),
                used(instance, "MEMORY", " MiB"),
                tasks.to_string(),
            ];
            if several {
                row.insert(1, cluster.clone());
            }
            row
        };
        let mut header = vec!["INSTANCE", "HOST", "STATUS", "CPU", "MEMORY", "TASKS"];
        if several {
            header.insert(1, "CLUSTER");
        }
        output::table_within(COLUMNS, &header, self.instances.iter().map(row).collect())
    }

    fn tasks_text(&self) -> String {
        let mut counts = self.by_status();
        let looked_at = counts.get("STOPPED").copied().unwrap_or(0);
        // Those that were not looked at have stopped long ago, or are about to.
        let further = self.stopped.saturating_sub(
            self.tasks.iter().filter(|task| task.task.desired_status == DesiredStatus::Stopped).count(),
        );
        if looked_at + further > 0 {
            counts.insert("STOPPED".to_owned(), looked_at + further);
        }
        let counts: Vec<String> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
        if counts.is_empty() { "No tasks.".to_owned() } else { format!("Tasks: {}", counts.join(", ")) }
    }

    fn problems_text(&self, now: Timestamp) -> String {
        let problems = self.problems();
        if problems.is_empty() {
            return String::new();
        }
        let mut text = "Problems of late:\n".to_owned();
        for one in problems {
            let ago = one.task.stopped_at.map(|at| time_text::span(now.ms_since(at))).unwrap_or_default();
            let code = cluster::exit_code(&one.task).map(|code| format!(" (exit code {code})")).unwrap_or_default();
            let reason = one.task.stopped_reason.as_deref().unwrap_or("no reason is known");
            let head = format!("  {ago:>4} ago  {}  {}{code}", cluster::short(&one.task.task_arn), one.definition());
            text.push_str(&format!("{}\n", output::cut(&output::printable(&head), COLUMNS)));
            text.push_str(&format!("            {}\n", output::cut(&output::printable(reason), COLUMNS - 12)));
        }
        text
    }
}

fn is_problem(task: &Described) -> bool {
    let failed = || cluster::exit_code(&task.task).is_none_or(|code| code != 0);
    match task.task.stop_code {
        _ if !task.is_stopped() => false,
        Some(StopCode::TaskFailedToStart | StopCode::SpotInterruption | StopCode::TerminationNotice) => true,
        Some(StopCode::EssentialContainerExited) => failed(),
        Some(StopCode::UserInitiated | StopCode::ServiceSchedulerInitiated) => false,
        None => failed(),
    }
}

/// `900/3900 MiB`: what tasks have reserved of what is registered.
fn used(instance: &ContainerInstance, name: &str, unit: &str) -> String {
    let value = |resources: &[Resource]| {
        resources
            .iter()
            .find(|resource| resource.name.as_deref() == Some(name))
            .and_then(|resource| resource.integer_value)
    };
    match (value(&instance.registered_resources), value(&instance.remaining_resources)) {
        (Some(registered), Some(remaining)) => {
            format!("{}/{registered}{unit}", registered.saturating_sub(remaining))
        }
        (Some(registered), None) => format!("{registered}{unit}"),
        (None, _) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::described;

    const NOW: Timestamp = Timestamp::from_epoch_ms(1_795_398_837_042);

    fn sample() -> Status {
        let resource = |name: &str, value: i64| json!({"name": name, "type": "INTEGER", "integerValue": value});
        let instance = json!({
            "containerInstanceArn": "arn:aws:ecs:us-east-1:123456789012:container-instance/default/9f2e3d4c5b6a79880123456789abcdef",
            "ec2InstanceId": "alpha", "status": "ACTIVE", "agentConnected": false, "runningTasksCount": 1, "pendingTasksCount": 0,
            "registeredResources": [resource("CPU", 2048), resource("MEMORY", 3900)],
            "remainingResources": [resource("CPU", 1536), resource("MEMORY", 3000)],
        });
        let failed = json!({"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stopCode": "TaskFailedToStart",
            "stoppedAt": 1_795_398_717.0, "containers": [],
            "stoppedReason": format!("CannotPullContainerError: {}", "registry ".repeat(20))});
        let ended =
            json!({"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stopCode": "UserInitiated", "containers": []});
        Status {
            listens_on: vec!["http://127.0.0.1:4870".to_owned(), "/run/coracle/coracle.sock".to_owned()],
            region: Some("us-east-1".to_owned()),
            clusters: vec![
                serde_json::from_value(json!({"clusterName": "default", "status": "ACTIVE", "registeredContainerInstancesCount": 1, "runningTasksCount": 1}))
                    .expect("a cluster"),
            ],
            instances: vec![("default".to_owned(), serde_json::from_value(instance).expect("an instance"))],
            tasks: vec![described(json!({})), described(failed), described(ended)],
            stopped: 7,
        }
    }

    #[test]
    fn a_cluster_is_one_screen() {
        let text = sample().text(NOW);
        let wanted = "\
The API is at http://127.0.0.1:4870 and /run/coracle/coracle.sock (us-east-1)

CLUSTER   STATUS   INSTANCES   RUNNING   PENDING
default   ACTIVE   1           1         0

INSTANCE       HOST    STATUS         CPU        MEMORY         TASKS
9f2e3d4c5b6a   alpha   ACTIVE, gone   512/2048   900/3900 MiB   1

Tasks: 1 RUNNING, 7 STOPPED

Problems of late:
    2m ago  1f2e3d4c5b6a  web:3
            CannotPullContainerError: registry registry registry registry regis…
";
        assert_eq!(text, wanted);
        assert!(text.lines().all(|line| line.chars().count() <= 81), "{text}");
    }

    #[test]
    fn nothing_is_said_as_nothing() {
        let text = Status { listens_on: vec!["http://a".to_owned()], ..Status::default() }.text(NOW);
        assert!(text.contains("There is no cluster yet") && text.ends_with("No tasks.\n"), "{text}");
    }

    #[test]
    fn problems_are_what_nobody_wanted() {
        let status = sample();
        assert_eq!(status.problems().len(), 1);
        assert_eq!(status.json()["problems"][0]["stopCode"], "TaskFailedToStart");
        assert_eq!(status.json()["tasks"], json!({"RUNNING": 1, "STOPPED": 2}));
    }
}
