//! How requests name things: a short name or id, or an ARN in its old or its long form. An ARN's region and account are not
//! asked: names are the same in all regions, and there is one account.
//!
//! A name that cannot be one is an InvalidParameterException; whether there is such a thing is another question.

use std::sync::Arc;

use ecs::arn::Arn;
use ecs::operations::{ApiError, ErrorCode};
use ecs::{ContainerInstanceId, TaskId};

use crate::records::{Cluster, ContainerInstance, TaskDefinitionRecord};
use crate::state::State;

/// "If you do not specify a cluster, the default cluster is assumed" (every operation with one).
pub const DEFAULT_CLUSTER: &str = "default";
/// Of clusters, families and capacity providers.
pub const MAX_NAME_LENGTH: usize = 255;
/// Of task and container instance ids: today's, and the UUIDs of before 2018, which name nothing here.
const ID_LENGTHS: [usize; 2] = [TaskId::LENGTH, 36];

/// 1 to 255 of `[a-zA-Z0-9-_]`.
pub fn is_name(given: &str) -> bool {
    let grammar = given.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    !given.is_empty() && given.len() <= MAX_NAME_LENGTH && grammar
}

/// A member that must be there and not be empty. `member` as Amazon's errors have it: `TaskDefinition`.
pub fn required<'a>(given: &'a Option<String>, member: &str) -> Result<&'a str, ApiError> {
    match given.as_deref() {
        Some(value) if !value.trim().is_empty() => Ok(value),
        _ => Err(ApiError::invalid(format!("{member} can not be blank."))),
    }
}

/// A list of names that must hold 1 to `most` of them. `member` as Amazon's errors have it: `Tasks`.
pub fn required_list<'a>(given: &'a Option<Vec<String>>, member: &str, most: usize) -> Result<&'a [String], ApiError> {
    let list = given.as_deref().unwrap_or_default();
    if list.is_empty() {
        return Err(ApiError::invalid(format!("{member} cannot be empty.")));
    }
    if list.len() > most {
        return Err(ApiError::invalid(format!("{member} can have at most {most} items.")));
    }
    Ok(list)
}

/// One of a model's enumeration, or Amazon's refusal.
pub fn one_of<'a>(given: &str, values: &[&'a str], member: &str) -> Result<&'a str, ApiError> {
    let found = values.iter().find(|value| **value == given);
    found.copied().ok_or_else(|| ApiError::invalid(format!("{member} should be one of [{}]", values.join(","))))
}

/// `include`: every item must be of the model.
pub fn included(given: &Option<Vec<String>>, values: &[&str]) -> Result<(), ApiError> {
    for item in given.as_deref().unwrap_or_default() {
        one_of(item, values, "include")?;
    }
    Ok(())
}

/// Whether a response is to hold what `include` asks for by this name.
pub fn includes(given: &Option<Vec<String>>, name: &str) -> bool {
    given.as_deref().unwrap_or_default().iter().any(|item| item == name)
}

/// A cluster's name out of its name or ARN.
pub fn cluster_name(given: Option<&str>) -> Result<&str, ApiError> {
    let Some(given) = given else { return Ok(DEFAULT_CLUSTER) };
    let name = match path_of(given, "cluster")? {
        None => given,
        Some(path) => match path.as_slice() {
            [name] => name,
            _ => return Err(separators()),
        },
    };
    if is_name(name) {
        return Ok(name);
    }
    Err(ApiError::invalid(format!("Cluster must match ^[a-zA-Z0-9\\-_]{{1,255}}$, but was {name}")))
}

impl State {
    /// The ACTIVE cluster that a request names.
    pub fn cluster(&self, given: &Option<String>) -> Result<&Arc<Cluster>, ApiError> {
        let name = cluster_name(given.as_deref())?;
        match self.clusters.get(name) {
            Some(cluster) if cluster.active => Ok(cluster),
            Some(_) => Err(ApiError::client("The referenced cluster was inactive.")),
            None => Err(cluster_not_found()),
        }
    }

    /// A container instance of this cluster, INACTIVE ones included.
    pub fn instance_of(&self, cluster: &str, id: &ContainerInstanceId) -> Option<&Arc<ContainerInstance>> {
        self.instances.get(id).filter(|instance| instance.cluster == cluster)
    }

    /// What `family`, `family:revision` or an ARN names; the newest ACTIVE one of a family.
    pub fn definition(&self, named: &DefinitionName<'_>) -> Option<&Arc<TaskDefinitionRecord>> {
        match named.revision {
            Some(revision) => self.task_definitions.get(&(named.family.to_owned(), revision)),
            None => self.newest_active(named.family),
        }
    }

    fn newest_active(&self, family: &str) -> Option<&Arc<TaskDefinitionRecord>> {
        use ecs::operations::registered::TaskDefinitionStatus::Active;
        let all = (family.to_owned(), 0)..=(family.to_owned(), u32::MAX);
        let mut newest_first = self.task_definitions.range(all).rev().map(|(_, record)| record);
        newest_first.find(|record| record.status == Active)
    }
}

pub fn cluster_not_found() -> ApiError {
    ApiError::new(ErrorCode::ClusterNotFound, "Cluster not found.")
}

/// A task's id out of its id or ARN, for a cluster that is already known. Nothing for an id of the old form: no task has one.
pub fn task(given: &str, cluster: &str) -> Result<Option<TaskId>, ApiError> {
    let id = id_in(given, "task", cluster)?;
    check_id(id, "taskId")?;
    Ok(TaskId::try_from(id.to_owned()).ok())
}

/// As for tasks.
pub fn instance(given: &str, cluster: &str) -> Result<Option<ContainerInstanceId>, ApiError> {
    let id = id_in(given, "container-instance", cluster)?;
    check_id(id, "instanceId")?;
    Ok(ContainerInstanceId::try_from(id.to_owned()).ok())
}

fn check_id(id: &str, member: &str) -> Result<(), ApiError> {
    if !ID_LENGTHS.contains(&id.len()) {
        let lengths = ID_LENGTHS.map(|length| length.to_string()).join(",");
        return Err(ApiError::invalid(format!("{member} length should be one of [{lengths}]")));
    }
    if id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(());
    }
    Err(ApiError::invalid(format!("Invalid identifier: {member} {id} holds more than letters, digits and hyphens")))
}

/// What `failures[].arn` says for a name that names nothing: an ARN, made from a bare id as Amazon makes one.
pub fn missing_arn(given: &str, whole: impl FnOnce(&str) -> String) -> String {
    if given.starts_with("arn:") { given.to_owned() } else { whole(given) }
}

fn id_in<'a>(given: &'a str, kind: &str, cluster: &str) -> Result<&'a str, ApiError> {
    let Some(path) = path_of(given, kind)? else { return Ok(given) };
    match path.as_slice() {
        [id] => Ok(id),
        [theirs, id] if *theirs == cluster => Ok(id),
        [theirs, _] => Err(ApiError::invalid(format!(
            "Invalid identifier: Identifier is for cluster {theirs}. Your cluster is {cluster}"
        ))),
        _ => Err(separators()),
    }
}

/// How a request names a task definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefinitionName<'a> {
    pub family: &'a str,
    pub revision: Option<u32>,
}

impl<'a> DefinitionName<'a> {
    pub fn read(given: &'a str) -> Result<DefinitionName<'a>, ApiError> {
        let name = match path_of(given, "task-definition")? {
            None => given,
            Some(path) => match path.as_slice() {
                [name] => name,
                _ => return Err(separators()),
            },
        };
        let (family, revision) = match name.rsplit_once(':') {
            None => (name, None),
            Some((family, revision)) => (family, Some(revision)),
        };
        if !is_name(family) {
            return Err(ApiError::client(format!(
                "Family contains invalid characters or is longer than {MAX_NAME_LENGTH}: {family}"
            )));
        }
        let revision = match revision {
            None => None,
            Some(text) => match text.parse::<u32>() {
                Ok(number) if number > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Some(number),
                _ => return Err(ApiError::invalid(format!("Invalid revision number. Number: {text}"))),
            },
        };
        Ok(DefinitionName { family, revision })
    }

    /// With its revision: what may not be left to "the newest".
    pub fn read_whole(given: &'a str) -> Result<(&'a str, u32), ApiError> {
        let name = DefinitionName::read(given)?;
        let revision = name.revision.ok_or_else(|| ApiError::client("Revision is missing."))?;
        Ok((name.family, revision))
    }
}

/// A capacity provider's name out of its name or ARN.
pub fn capacity_provider(given: &str) -> Result<&str, ApiError> {
    let name = match path_of(given, "capacity-provider")? {
        None => given,
        Some(path) => match path.as_slice() {
            [name] => name,
            _ => return Err(separators()),
        },
    };
    if is_name(name) {
        return Ok(name);
    }
    Err(ApiError::invalid(format!("Capacity provider must match ^[a-zA-Z0-9\\-_]{{1,255}}$, but was {name}")))
}

/// What stands after an ARN's kind; nothing for what is no ARN at all.
fn path_of<'a>(given: &'a str, kind: &str) -> Result<Option<Vec<&'a str>>, ApiError> {
    if !given.starts_with("arn:") {
        return Ok(None);
    }
    let Some(arn) = Arn::read(given) else {
        return Err(ApiError::invalid(format!("Invalid identifier: {given} is not the ARN of an Amazon ECS resource")));
    };
    if arn.kind == kind {
        return Ok(Some(arn.path));
    }
    Err(ApiError::invalid(format!("Invalid identifier: Identifier is for a {}. A {kind} is expected", arn.kind)))
}

fn separators() -> ApiError {
    ApiError::invalid("Invalid identifier: Unexpected number of separators")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "0123456789abcdef0123456789abcdef";

    fn message<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        result.expect_err("refused").to_string()
    }

    #[test]
    fn clusters_are_named_by_name_and_arn() {
        assert_eq!(cluster_name(None), Ok("default"));
        assert_eq!(cluster_name(Some("prod")), Ok("prod"));
        assert_eq!(cluster_name(Some("arn:aws:ecs:eu-west-1:123456789012:cluster/prod")), Ok("prod"));
        for (given, refusal) in [
            ("", "InvalidParameterException: Cluster must match ^[a-zA-Z0-9\\-_]{1,255}$, but was "),
            ("a b", "InvalidParameterException: Cluster must match ^[a-zA-Z0-9\\-_]{1,255}$, but was a b"),
            (
                "arn:aws:ecs:r:1:cluster/arn:aws:ecs:r:1:cluster/x",
                "InvalidParameterException: Invalid identifier: Unexpected number of separators",
            ),
            (
                "arn:aws:ecs:r:1:service/x",
                "InvalidParameterException: Invalid identifier: Identifier is for a service. A cluster is expected",
            ),
            (
                "arn:aws:sqs:r:1:x",
                "InvalidParameterException: Invalid identifier: arn:aws:sqs:r:1:x is not the ARN of an Amazon ECS resource",
            ),
        ] {
            assert_eq!(message(cluster_name(Some(given))), refusal, "{given}");
        }
        assert!(cluster_name(Some(&"x".repeat(256))).is_err());
    }

    #[test]
    fn tasks_are_named_by_id_and_both_arns() {
        let id = TaskId::try_from(TASK.to_owned()).expect("an id");
        let old = format!("arn:aws:ecs:r:1:task/{TASK}");
        let long = format!("arn:aws:ecs:r:1:task/prod/{TASK}");
        for given in [TASK, &old, &long] {
            assert_eq!(task(given, "prod"), Ok(Some(id.clone())), "{given}");
        }
        assert_eq!(task("c5cba4eb-5dad-405e-96db-71ef8eefe6a8", "prod"), Ok(None));
        assert_eq!(
            message(task(&long, "default")),
            "InvalidParameterException: Invalid identifier: Identifier is for cluster prod. Your cluster is default"
        );
        assert_eq!(message(task("web", "prod")), "InvalidParameterException: taskId length should be one of [32,36]");
        assert_eq!(
            message(instance("web", "prod")),
            "InvalidParameterException: instanceId length should be one of [32,36]"
        );
        assert!(task(&format!("arn:aws:ecs:r:1:task/a/b/{TASK}"), "prod").is_err());
    }

    #[test]
    fn definitions_are_named_by_family_revision_and_arn() {
        let web = |revision| Ok(DefinitionName { family: "web", revision });
        assert_eq!(DefinitionName::read("web"), web(None));
        assert_eq!(DefinitionName::read("web:7"), web(Some(7)));
        assert_eq!(DefinitionName::read("arn:aws:ecs:r:1:task-definition/web:7"), web(Some(7)));
        assert_eq!(DefinitionName::read("arn:aws:ecs:r:1:task-definition/web"), web(None));
        for given in ["web:x", "web:0", "web:-1", "web:+1", "web:", "web:99999999999"] {
            let text = given.split_once(':').expect("with a revision").1;
            let refusal = format!("InvalidParameterException: Invalid revision number. Number: {text}");
            assert_eq!(message(DefinitionName::read(given)), refusal);
        }
        assert_eq!(message(DefinitionName::read_whole("web")), "ClientException: Revision is missing.");
        assert!(DefinitionName::read("we b").is_err() && DefinitionName::read(":1").is_err());
    }
}
