//! Rules about how a container is watched and restarted.

use super::Findings;
use super::place::Place;

/// "You can specify a maximum of 50 container exit codes", API_ContainerRestartPolicy.
const MAX_IGNORED_EXIT_CODES: usize = 50;
/// API_HealthCheck: "between 5 and 300 seconds", "between 2 and 60 seconds", "between 1 and 10 retries", "between 0 and
/// 300 seconds".
const HEALTH_CHECK_RANGES: [(&str, i64, i64); 4] =
    [("interval", 5, 300), ("timeout", 2, 60), ("retries", 1, 10), ("startPeriod", 0, 300)];

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    for container in root.items("containerDefinitions") {
        let name = container.text("name").unwrap_or_default();
        if let Some(check) = container.member("healthCheck") {
            command(&check, findings);
            ranges(&check, name, findings);
        }
        if let Some(policy) = container.member("restartPolicy") {
            let codes = policy.items("ignoredExitCodes").len();
            if codes > MAX_IGNORED_EXIT_CODES {
                let message = format!("{codes} exit codes; at most {MAX_IGNORED_EXIT_CODES} are ignored");
                findings.error(policy.path_of("ignoredExitCodes"), message);
            }
        }
    }
}

/// "The string array must start with CMD to run the command arguments directly, or CMD-SHELL to run the command with
/// the container's default shell", API_HealthCheck. `NONE` is Docker's word for no check, which Amazon's agent hands on.
fn command(check: &Place<'_>, findings: &mut Findings) {
    let path = check.path_of("command");
    if findings.is_about(&path) {
        return;
    }
    let words: Vec<&str> = check.items("command").iter().filter_map(|word| word.value.as_str()).collect();
    let right = match words.split_first() {
        Some((&"NONE", rest)) => rest.is_empty(),
        Some((&"CMD-SHELL", rest)) => rest.len() == 1,
        Some((&"CMD", rest)) => !rest.is_empty(),
        Some(_) | None => false,
    };
    if !right {
        findings.error(path, "a health check begins with CMD or CMD-SHELL");
        findings.hint(
            "write [\"CMD-SHELL\", \"curl -f http://localhost/ || exit 1\"] or [\"CMD\", \"PROGRAM\", \"ARGUMENT\"]",
        );
    }
}

/// Amazon's words are known for too many retries.
fn ranges(check: &Place<'_>, container: &str, findings: &mut Findings) {
    for (name, least, most) in HEALTH_CHECK_RANGES {
        let Some(value) = check.number(name) else { continue };
        let (bound, limit) = match value {
            value if value < least => ("greater than or equal to the minimum", least),
            value if value > most => ("less than or equal to the maximum", most),
            _ => continue,
        };
        let words = format!("Health check {name} must be {bound} allowed value {limit} for container '{container}'.");
        findings.client_exception(check.path_of(name), words);
    }
}
