//! `coracle lint`: everything there is to say about a task definition, at once; and what every member of one does here.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::failure::{FAILED, Outcome};
use crate::options::Output;
use crate::{definition, output};

/// Check a task definition: errors, fields without effect here, fields that become something else
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  coracle lint web.json\n  aws ecs describe-task-definition --task-definition web | coracle lint -\n  coracle lint --members\n\nThe exit code is 1 if there are errors; other findings do not change it."
)]
pub(crate) struct Arguments {
    /// A task definition as JSON (RegisterTaskDefinition's input or DescribeTaskDefinition's answer); - is standard input.
    #[arg(required_unless_present = "members")]
    file: Option<PathBuf>,
    /// Print what becomes of every member of a task definition and of RunTask's overrides, and check nothing.
    #[arg(long, conflicts_with = "file")]
    members: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Some(file) = &arguments.file else { return members(&arguments.output) };
    let document = definition::load(file)?;
    let report = definition::check(&document)?;
    let errors = report.errors().count();
    if arguments.output.is_json() {
        let findings: Vec<Value> = report.findings.iter().map(definition::finding_json).collect();
        output::print_json(&json!({"errors": errors, "findings": findings}))?;
    } else {
        let colours = output::colours(&std::io::stdout());
        let mut text: String =
            report.findings.iter().map(|finding| definition::finding_text(finding, colours)).collect();
        text.push_str(&summary(errors, report.findings.len() - errors));
        output::print(&text)?;
    }
    Ok(ExitCode::from(if errors > 0 { FAILED } else { 0 }))
}

/// The table that the checks walk, for people and for those who compare it with Amazon's model.
fn members(output: &Output) -> Outcome {
    if output.is_json() {
        output::print_json(&ecs::fields::json())?;
    } else {
        output::print(&ecs::fields::markdown())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(errors: usize, others: usize) -> String {
    let count = |number: usize, noun: &str| match number {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    };
    format!("{}, {}\n", count(errors, "error"), count(others, "other finding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        assert_eq!(summary(0, 0), "no errors, no other findings\n");
        assert_eq!(summary(1, 2), "1 error, 2 other findings\n");
    }
}
