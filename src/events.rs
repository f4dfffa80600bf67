//! `coracle events`: state changes of tasks and container instances as they happen.

use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::api_client::Api;
use crate::cluster::{self, Scope};
use crate::failure::{Explain, Failure, Outcome};
use crate::options::{Options, Output};
use crate::output;

const TASK: &str = "ECS Task State Change";
const INSTANCE: &str = "ECS Container Instance State Change";

/// Print state changes of tasks and container instances as they happen
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo coracle events
  sudo coracle events --output json | jq -r 'select(.detail.stopCode) | .detail.stoppedReason'

With --output json, each line is an event in EventBridge's shape. detail.version grows with each change of one task or
instance: who reads too slowly misses events, and sees it there.")]
pub(crate) struct Arguments {
    /// Go on until the daemon ends. It may be left out: events are not kept, so there are none but those to come.
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    let api = Api::need(options, &arguments.scope.endpoint, "events")?;
    let events = BufReader::new(api.stream("/events")?);
    if !arguments.follow {
        eprintln!("coracle: following until the daemon ends");
    }
    let mut out = std::io::stdout().lock();
    for line in events.lines() {
        let line = line.doing("following the cluster's events")?;
        let event: Value = serde_json::from_str(&line).doing("reading an event")?;
        if !is_of(&event, arguments.scope.cluster.as_deref()) {
            continue;
        }
        let shown = if arguments.output.is_json() { line } else { text(&event) };
        match writeln!(out, "{shown}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written.doing("writing to standard output")?,
        }
    }
    Err(Failure::new("the daemon has ended").next("coracle events follows the next one"))
}

fn is_of(event: &Value, cluster: Option<&str>) -> bool {
    let arn = event["detail"]["clusterArn"].as_str().unwrap_or_default();
    cluster.is_none_or(|cluster| cluster::last(cluster) == cluster::last(arn))
}

/// `2026-11-23T01:53:57Z  task      1f2e3d4c5b6a  web:3  RUNNING`.
fn text(event: &Value) -> String {
    let detail = &event["detail"];
    let of = |name: &str| detail[name].as_str().unwrap_or_default();
    let time = event["time"].as_str().unwrap_or_default();
    let told = match event["detail-type"].as_str() {
        Some(TASK) => {
            let wanted =
                if of("desiredStatus") == "STOPPED" && of("lastStatus") != "STOPPED" { ", to be stopped" } else { "" };
            let reason = Some(of("stoppedReason")).filter(|reason| !reason.is_empty());
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            format!(
                "task      {}  {}  {}{wanted}{}{reason}",
                cluster::short(of("taskArn")),
                cluster::last(of("taskDefinitionArn")),
                of("lastStatus"),
                codes(detail),
            )
        }
        Some(INSTANCE) => {
            let connected = if detail["agentConnected"] == true { "connected" } else { "not connected" };
            let (id, host) = (cluster::short(of("containerInstanceArn")), of("ec2InstanceId"));
            format!("instance  {id}  {host}  {}, {connected}", of("status"))
        }
        Some(kind) => format!("{kind}  {}", event["resources"][0].as_str().unwrap_or_default()),
        None => event.to_string(),
    };
    output::printable(&format!("{time}  {told}"))
}

/// ` (main 0, sidecar 143)`, of a task that has stopped.
fn codes(detail: &Value) -> String {
    if detail["lastStatus"] != "STOPPED" {
        return String::new();
    }
    let containers = detail["containers"].as_array().into_iter().flatten();
    let codes = containers
        .filter_map(|container| Some(format!("{} {}", container["name"].as_str()?, container["exitCode"].as_i64()?)));
    let codes: Vec<String> = codes.collect();
    if codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// After the examples of <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_cwe_events.html>.
    #[test]
    fn an_event_is_one_line() {
        let task = |members: Value| {
            let mut detail = json!({
                "taskArn": "arn:aws:ecs:us-west-2:111122223333:task/FargateCluster/c13b4cb40f1f4fe4a2971f76ae5a47ad",
                "taskDefinitionArn": "arn:aws:ecs:us-west-2:111122223333:task-definition/sample-fargate:1",
                "clusterArn": "arn:aws:ecs:us-west-2:111122223333:cluster/FargateCluster",
                "lastStatus": "RUNNING", "desiredStatus": "RUNNING",
            });
            for (name, member) in members.as_object().expect("members") {
                detail[name] = member.clone();
            }
            json!({"detail-type": TASK, "time": "2020-01-23T17:57:58Z", "detail": detail})
        };
        let head = "2020-01-23T17:57:58Z  task      c13b4cb40f1f  sample-fargate:1  ";
        assert_eq!(text(&task(json!({}))), format!("{head}RUNNING"));
        assert_eq!(text(&task(json!({"desiredStatus": "STOPPED"}))), format!("{head}RUNNING, to be stopped"));
        let ended = json!({"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stoppedReason": "Essential container in task exited",
            "containers": [{"name": "FargateApp", "exitCode": 137}]});
        assert_eq!(text(&task(ended)), format!("{head}STOPPED (FargateApp 137): Essential container in task exited"));
        assert!(is_of(&task(json!({})), Some("FargateCluster")) && !is_of(&task(json!({})), Some("default")));
        let instance = json!({"detail-type": INSTANCE, "time": "2016-12-06T16:41:06Z", "detail": {
            "agentConnected": true, "status": "ACTIVE", "ec2InstanceId": "alpha\u{1b}",
            "containerInstanceArn": "arn:aws:ecs:us-east-1:111122223333:container-instance/default/b54a2a04046f4331a9d74583e0b54cf7"}});
        assert_eq!(text(&instance), "2016-12-06T16:41:06Z  instance  b54a2a04046f  alpha\u{fffd}  ACTIVE, connected");
    }
}
