//! Rules about where a container's output goes.

use std::collections::HashSet;

use super::place::Place;
use super::{Findings, Severity};
use crate::log_options;

const LOCAL_LOGS: &str = "kept as local log files; read them with `coracle logs`";

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    let containers = root.items("containerDefinitions");
    let routers: Vec<&Place<'_>> =
        containers.iter().filter(|container| container.member("firelensConfiguration").is_some()).collect();
    for router in routers.iter().skip(1) {
        let message = format!("{} routes the task's logs already; a task has one log router", routers[0].path);
        findings.error(router.path_of("firelensConfiguration"), message);
    }
    for container in &containers {
        if let Some(log) = container.member("logConfiguration") {
            configuration(container, &log, !routers.is_empty(), findings);
        }
        if let Some(router) = container.member("firelensConfiguration") {
            firelens(&router, findings);
        }
    }
}

fn configuration(container: &Place<'_>, log: &Place<'_>, has_router: bool, findings: &mut Findings) {
    let driver = log.text("logDriver").unwrap_or_default();
    let options = log.member("options");
    let option = |name: &str| options.as_ref().and_then(|options| options.text(name)).filter(|text| !text.is_empty());
    log_options::check(log, findings);
    if matches!(driver, log_options::AWSLOGS | log_options::JSON_FILE) {
        findings.add(Severity::Mapped, log.path_of("logDriver"), format!("{driver:?}: {LOCAL_LOGS}"));
    }
    if driver == "awsfirelens" {
        if container.member("firelensConfiguration").is_some() {
            findings.error(log.path_of("logDriver"), "a log router cannot route its own output");
            findings.hint("give it another log driver, such as awslogs");
        } else if !has_router {
            findings.error(log.path_of("logDriver"), "awsfirelens needs a container with firelensConfiguration");
        }
    }
    let mut seen = HashSet::new();
    for secret in log.items("secretOptions") {
        let Some(name) = secret.text("name") else { continue };
        if !seen.insert(name) {
            findings.error(secret.path_of("name"), format!("{name} is given twice; keep one of them"));
        } else if option(name).is_some() {
            findings.error(secret.path_of("name"), format!("{name} is among the options as well; keep one of them"));
        }
    }
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_FirelensConfiguration.html>
fn firelens(router: &Place<'_>, findings: &mut Findings) {
    let Some(options) = router.member("options") else { return };
    let members = options.value.as_object().into_iter().flatten();
    for (name, value) in members {
        let value = value.as_str().unwrap_or_default();
        let wrong = match name.as_str() {
            "enable-ecs-log-metadata" if !matches!(value, "true" | "false") => "is true or false",
            "config-file-type" if !matches!(value, "s3" | "file") => "is s3 or file",
            "config-file-type" if options.text("config-file-value").is_none() => "wants config-file-value beside it",
            "config-file-value" if options.text("config-file-type").is_none() => "wants config-file-type beside it",
            "enable-ecs-log-metadata" | "config-file-type" | "config-file-value" => continue,
            _ => "is no option of a log router",
        };
        findings.error(options.path_of(name), format!("{name} {wrong}"));
    }
}
