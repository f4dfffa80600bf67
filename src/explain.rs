//! `coracle explain`: where a task would go, or what each container instance lacks for it.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::api_client::{Api, Endpoint};
use crate::failure::{BAD_INPUT, FAILED, Failure, Outcome};
use crate::options::{Options, Output};
use crate::{cluster, definition, output};

/// Tell where a task would go now, or what each container instance lacks for it
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo coracle explain examples/hello.json
  sudo coracle explain --cluster default --launch-type FARGATE web:3
  sudo coracle explain --strategy binpack=memory --constraint 'attribute:rack == 7' web

Nothing is registered and nothing started. The exit code is 0 when there is a place for the task, 1 when there is none.")]
pub(crate) struct Arguments {
    /// A file with a task definition (- is standard input), or the FAMILY or FAMILY:REVISION of one that is registered.
    #[arg(value_name = "FILE|FAMILY[:REVISION]")]
    task_definition: String,
    /// The cluster.
    #[arg(long, value_name = "NAME", default_value = "default")]
    cluster: String,
    /// As in RunTask; the cluster's own strategy, or EC2, otherwise.
    #[arg(long, value_enum, value_name = "TYPE", ignore_case = true)]
    launch_type: Option<LaunchType>,
    /// random, binpack=cpu, spread=attribute:ecs.availability-zone, …; may be given more than once.
    #[arg(long, value_name = "TYPE[=FIELD]")]
    strategy: Vec<String>,
    /// distinctInstance, or an expression of the cluster query language; may be given more than once.
    #[arg(long, value_name = "EXPRESSION")]
    constraint: Vec<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum LaunchType {
    Ec2,
    Fargate,
    External,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    let question = question(arguments)?;
    let api = Api::need(options, &Endpoint::default(), "explain")?;
    // What is wrong with the question is told apart from a task that has no place.
    let told = api.own("/explain", &question).map_err(|failure| failure.exit(BAD_INPUT))?;
    if arguments.output.is_json() {
        output::print_json(&told)?;
    } else {
        output::print(&text(&told, &arguments.cluster))?;
    }
    Ok(if told["fits"].is_null() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn question(arguments: &Arguments) -> Result<Value, Failure> {
    let given = arguments.task_definition.as_str();
    let launch_type = arguments.launch_type.and_then(|kind| kind.to_possible_value());
    let mut question = json!({"runTask": {
        "cluster": arguments.cluster,
        "launchType": launch_type.as_ref().map(|kind| kind.get_name()),
        "placementStrategy": arguments.strategy.iter().map(|text| strategy(text)).collect::<Vec<_>>(),
        "placementConstraints": arguments.constraint.iter().map(|text| constraint(text)).collect::<Vec<_>>(),
    }});
    if !is_file(given) {
        question["runTask"]["taskDefinition"] = json!(given);
        return Ok(question);
    }
    let document = definition::load(Path::new(given))?;
    let report = definition::check(&document)?;
    if report.errors().next().is_some() {
        return Err(Failure::new(format!("{} has errors", definition::shown(Path::new(given))))
            .exit(BAD_INPUT)
            .next(format!("coracle lint {given}")));
    }
    question["definition"] = Value::Object(document.value.clone());
    Ok(question)
}

/// What has a dot or a slash can be no family; all else is a file where there is one.
fn is_file(given: &str) -> bool {
    given == "-" || given.contains(['/', '.']) && !given.starts_with("arn:") || Path::new(given).is_file()
}

fn strategy(text: &str) -> Value {
    match text.split_once('=') {
        Some((kind, field)) => json!({"type": kind, "field": field}),
        None => json!({"type": text}),
    }
}

fn constraint(text: &str) -> Value {
    if text == "distinctInstance" { json!({"type": text}) } else { json!({"type": "memberOf", "expression": text}) }
}

fn text(told: &Value, cluster: &str) -> String {
    let instance = |of: &Value| cluster::short(of["containerInstanceArn"].as_str().unwrap_or_default());
    let of = |row: &Value, name: &str| output::printable(row[name].as_str().unwrap_or_default());
    if !told["fits"].is_null() {
        return format!("There is a place on {} ({}).\n", of(&told["fits"], "hostName"), instance(&told["fits"]));
    }
    let lacks = told["lacks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if lacks.is_empty() {
        return format!("Cluster {cluster} has no container instance that could take it.\n");
    }
    let rows = lacks.iter().map(|row| vec![instance(row), of(row, "hostName"), of(row, "reason"), of(row, "detail")]);
    output::table(&["INSTANCE", "HOST", "REASON", "WHY"], rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_says_what_it_lacks() {
        let lack = |reason: &str, detail: &str| {
            json!({"containerInstanceArn": "arn:aws:ecs:us-east-1:123456789012:container-instance/default/9f2e3d4c5b6a79880123456789abcdef",
                "hostName": "alpha", "reason": reason, "detail": detail})
        };
        let told = json!({"fits": null, "lacks": [lack("RESOURCE:MEMORY", "needs 512 MiB, 380 free")]});
        assert_eq!(
            text(&told, "default"),
            "INSTANCE       HOST    REASON            WHY\n9f2e3d4c5b6a   alpha   RESOURCE:MEMORY   needs 512 MiB, 380 free\n"
        );
        assert_eq!(
            text(&json!({"fits": lack("", ""), "lacks": []}), "default"),
            "There is a place on alpha (9f2e3d4c5b6a).\n"
        );
        assert!(text(&json!({"fits": null, "lacks": []}), "web").contains("Cluster web has no container instance"));
    }

    #[test]
    fn files_are_told_from_families() {
        for (given, file) in [
            ("web", false),
            ("web:3", false),
            ("arn:aws:ecs:us-east-1:123456789012:task-definition/web:3", false),
            ("web.json", true),
            ("./web", true),
            ("-", true),
        ] {
            assert_eq!(is_file(given), file, "{given}");
        }
    }
}
