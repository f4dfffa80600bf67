//! Amazon Resource Names of ECS in the long format
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-account-settings.html#ecs-resource-ids>).

use crate::{ContainerInstanceId, ContainerName, TaskId, hash};

/// Whose resources are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    pub region: &'a str,
    /// Twelve digits.
    pub account_id: &'a str,
}

impl Account<'_> {
    /// For what is named by no type of its own: `task/default/…` with an id as somebody wrote it.
    pub fn arn(self, resource: &str) -> String {
        format!("arn:aws:ecs:{}:{}:{resource}", self.region, self.account_id)
    }

    pub fn cluster(self, cluster: &str) -> String {
        self.arn(&format!("cluster/{cluster}"))
    }

    pub fn task(self, cluster: &str, task: &TaskId) -> String {
        self.arn(&format!("task/{cluster}/{task}"))
    }

    /// The same for as long as the task lives, whoever asks.
    pub fn container(self, cluster: &str, task: &TaskId, container: &ContainerName) -> String {
        self.arn(&format!("container/{cluster}/{task}/{}", part_id(task, container.as_str())))
    }

    pub fn task_definition(self, family: &str, revision: u32) -> String {
        self.arn(&format!("task-definition/{family}:{revision}"))
    }

    pub fn container_instance(self, cluster: &str, instance: &ContainerInstanceId) -> String {
        self.arn(&format!("container-instance/{cluster}/{instance}"))
    }

    pub fn capacity_provider(self, name: &str) -> String {
        self.arn(&format!("capacity-provider/{name}"))
    }
}

/// An ARN of ECS in its parts; which of them make sense together is the reader's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arn<'a> {
    pub region: &'a str,
    pub account_id: &'a str,
    /// `cluster`, `task`, `container-instance`, ….
    pub kind: &'a str,
    /// What follows the kind, between slashes: at least one part.
    pub path: Vec<&'a str>,
}

impl<'a> Arn<'a> {
    /// Nothing for what is no ARN, or one of another service.
    pub fn read(given: &'a str) -> Option<Arn<'a>> {
        let mut parts = given.splitn(6, ':');
        let [prefix, _partition, service, region, account_id, resource] = std::array::from_fn(|_| parts.next());
        if prefix? != "arn" || service? != "ecs" {
            return None;
        }
        let (kind, path) = resource?.split_once('/')?;
        Some(Arn { region: region?, account_id: account_id?, kind, path: path.split('/').collect() })
    }
}

/// A task's id out of its ARN, or the id itself: all that Amazon's operations take for a task.
pub fn task_id(given: &str) -> Option<TaskId> {
    let id = match given.strip_prefix("arn:") {
        None => given,
        Some(rest) => {
            let mut parts = rest.splitn(5, ':');
            let service = parts.nth(1)?;
            let (kind, path) = parts.nth(2)?.split_once('/')?;
            if service != "ecs" || kind != "task" {
                return None;
            }
            path.rsplit('/').next()?
        }
    };
    TaskId::try_from(id.to_owned()).ok()
}

/// Of the elastic network interface's attachment to a task of awsvpc mode, which is known before the interface is.
pub fn attachment_id(task: &TaskId) -> String {
    // A container's name has no slash.
    part_id(task, "attachment/")
}

/// The UUID of a part of a task. The control plane, which tells of it first, and the task's host, which tells the task's
/// own containers, come to the same one: an id's uniqueness is the task's, and the name only tells its parts apart.
fn part_id(task: &TaskId, name: &str) -> String {
    uuid(hash::fnv1a(task.as_str().bytes().chain([0]).chain(name.bytes())).to_be_bytes())
}

/// A random UUID, version 4 of RFC 9562: six of the 128 bits say so.
pub fn uuid(mut random: [u8; 16]) -> String {
    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Account<'static> = Account { region: "eu-central-1", account_id: "123456789012" };

    #[test]
    fn arns_are_in_the_long_format() {
        let task = TaskId::from_bytes([0xab; 16]);
        let id = "abababababababababababababababab";
        assert_eq!(HERE.cluster("default"), "arn:aws:ecs:eu-central-1:123456789012:cluster/default");
        assert_eq!(HERE.task("prod", &task), format!("arn:aws:ecs:eu-central-1:123456789012:task/prod/{id}"));
        assert_eq!(
            HERE.container("prod", &task, &"web".to_owned().try_into().expect("a name")),
            format!("arn:aws:ecs:eu-central-1:123456789012:container/prod/{id}/bbd344a9-4a88-4a90-85e3-57c712f7457f")
        );
        assert_eq!(attachment_id(&task), "c650e8ee-8b53-4c52-b220-b1a8e1c97f87");
        assert_eq!(
            HERE.task_definition("console-sample-app", 7),
            "arn:aws:ecs:eu-central-1:123456789012:task-definition/console-sample-app:7"
        );
    }

    #[test]
    fn an_arn_is_read_in_parts() {
        let arn = Arn::read("arn:aws-cn:ecs:r:123456789012:task-definition/web:7").expect("an ARN");
        assert_eq!((arn.region, arn.kind, arn.path), ("r", "task-definition", vec!["web:7"]));
        assert_eq!(Arn::read("arn:aws:ecs:r:1:task/prod/0c").expect("an ARN").path, ["prod", "0c"]);
        for given in
            ["", "web", "arn:aws:ecs:r:1", "arn:aws:ecs:r:1:cluster", "arn:aws:sqs:r:1:task/x", "x:aws:ecs:r:1:a/b"]
        {
            assert_eq!(Arn::read(given), None, "{given}");
        }
    }

    #[test]
    fn a_task_is_found_by_id_and_by_both_forms_of_its_arn() {
        let task = TaskId::from_bytes([0x0c; 16]);
        for given in [task.to_string(), HERE.task("default", &task), format!("arn:aws:ecs:eu-central-1:1:task/{task}")]
        {
            assert_eq!(task_id(&given), Some(task.clone()), "{given}");
        }
        let service = format!("arn:aws:ecs:eu-central-1:1:service/default/{task}");
        for given in ["", "arn:", "arn:aws:ecs", "arn:aws:sqs:r:1:task/x", "0C0C", &service] {
            assert_eq!(task_id(given), None, "{given}");
        }
    }
}
