//! Which task a person means: by id, prefix of an id, name or family. Pure.

use agent_protocol::{TaskSpec, TaskStatus};
use ecs::TaskId;
use ecs::task::LastStatus;

/// A task of this host, as its directory tells.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownTask {
    pub spec: TaskSpec,
    /// Absent until its supervisor has written it once.
    pub status: Option<TaskStatus>,
}

impl KnownTask {
    pub fn is_stopped(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.last_status == LastStatus::Stopped)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    #[error("no task of this host has the id, name or family {text:?}")]
    Nobody { text: String },
    #[error("{text:?} means more than one task: {}", ids(matches))]
    Several { text: String, matches: Vec<TaskId> },
}

fn ids(ids: &[TaskId]) -> String {
    ids.iter().map(|id| short(id)).collect::<Vec<_>>().join(", ")
}

/// As many digits as tables show; enough to tell the tasks of one host apart.
pub const SHORT_ID: usize = 12;

pub fn short(id: &TaskId) -> &str {
    id.as_str().get(..SHORT_ID).unwrap_or(id.as_str())
}

/// A name comes before an id, an id before a family. Of several, the one that is not STOPPED is meant.
pub fn find<'a>(tasks: &'a [KnownTask], text: &str) -> Result<&'a KnownTask, NotFound> {
    let questions: [fn(&KnownTask, &str) -> bool; 3] = [is_named, has_id, is_of_family];
    for question in questions {
        let matches: Vec<&KnownTask> = tasks.iter().filter(|task| question(task, text)).collect();
        if let Some(task) = only(&matches, text)? {
            return Ok(task);
        }
    }
    Err(NotFound::Nobody { text: text.to_owned() })
}

fn only<'a>(matches: &[&'a KnownTask], text: &str) -> Result<Option<&'a KnownTask>, NotFound> {
    let live: Vec<&KnownTask> = matches.iter().copied().filter(|task| !task.is_stopped()).collect();
    match (matches, live.as_slice()) {
        ([], _) => Ok(None),
        ([task], _) | (_, [task]) => Ok(Some(task)),
        (_, _) => Err(NotFound::Several {
            text: text.to_owned(),
            matches: matches.iter().map(|task| task.spec.id.clone()).collect(),
        }),
    }
}

fn is_named(task: &KnownTask, text: &str) -> bool {
    task.spec.name.as_deref() == Some(text)
}

/// The id, a prefix of it, or the whole ARN.
fn has_id(task: &KnownTask, text: &str) -> bool {
    let id = if text.starts_with("arn:") { text.rsplit('/').next().unwrap_or(text) } else { text };
    !id.is_empty() && task.spec.id.as_str().starts_with(id)
}

fn is_of_family(task: &KnownTask, text: &str) -> bool {
    text == task.spec.family || text == format!("{}:{}", task.spec.family, task.spec.revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn known(byte: u8, name: Option<&str>, family: &str, stopped: bool) -> KnownTask {
        let mut spec = example::spec(&["web"]);
        spec.id = TaskId::from_bytes([byte; 16]);
        spec.name = name.map(str::to_owned);
        spec.family = family.to_owned();
        let mut status = example::status(&["web"]);
        status.last_status = if stopped { LastStatus::Stopped } else { LastStatus::Running };
        KnownTask { spec, status: Some(status) }
    }

    fn first_byte(found: Result<&KnownTask, NotFound>) -> String {
        found.expect("somebody is meant").spec.id.as_str()[..2].to_owned()
    }

    #[test]
    fn a_task_is_found_by_each_of_its_names() {
        let tasks = [known(0xab, Some("front"), "shop", false), known(0xcd, None, "mill", false)];
        for (text, expected) in [
            ("front", "ab"),
            ("abab", "ab"),
            ("shop", "ab"),
            ("shop:3", "ab"),
            ("c", "cd"),
            ("mill", "cd"),
            (&format!("arn:aws:ecs:us-east-1:000000000000:task/default/{}", "cd".repeat(16)), "cd"),
        ] {
            assert_eq!(first_byte(find(&tasks, text)), expected, "{text}");
        }
        assert!(matches!(find(&tasks, "nobody"), Err(NotFound::Nobody { .. })));
        assert!(matches!(find(&tasks, ""), Err(NotFound::Nobody { .. })));
    }

    #[test]
    fn of_several_the_living_one_is_meant() {
        let tasks = [known(1, None, "shop", true), known(2, None, "shop", false), known(3, None, "shop", true)];
        assert_eq!(first_byte(find(&tasks, "shop")), "02");
        let ambiguous = [known(1, None, "shop", true), known(2, None, "shop", true)];
        let error = find(&ambiguous, "shop").expect_err("two dead ones");
        assert_eq!(error.to_string(), "\"shop\" means more than one task: 010101010101, 020202020202");
    }
}
