//! RunTask's `launchType` (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>), and which
//! network modes each has
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-networking.html>).

use crate::task_definition::{NetworkMode, TaskDefinition};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchType {
    Ec2,
    Fargate,
    /// As on ECS Anywhere: a host that is not Amazon's.
    External,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchTypeError {
    #[error("{given:?} is no launch type; the launch types are EC2, FARGATE and EXTERNAL")]
    Unknown { given: String },
    #[error("the task definition's requiresCompatibilities are {}; {launch_type} is not among them", required.join(", "))]
    NotRequired { launch_type: &'static str, required: Vec<String> },
    #[error("launch type FARGATE has network mode awsvpc only; this task definition has {mode}")]
    FargateMode { mode: NetworkMode },
    #[error("launch type FARGATE needs the task's own cpu and memory; this task definition has no {member}")]
    FargateSize { member: &'static str },
}

impl LaunchType {
    pub fn name(self) -> &'static str {
        match self {
            LaunchType::Ec2 => "EC2",
            LaunchType::Fargate => "FARGATE",
            LaunchType::External => "EXTERNAL",
        }
    }

    pub fn read(given: &str) -> Result<LaunchType, LaunchTypeError> {
        let all = [LaunchType::Ec2, LaunchType::Fargate, LaunchType::External];
        let found = all.into_iter().find(|launch_type| launch_type.name() == given);
        found.ok_or_else(|| LaunchTypeError::Unknown { given: given.to_owned() })
    }

    /// Whether Amazon has this network mode there. Here awsvpc works for external instances as well.
    pub fn has_at_amazon(self, mode: NetworkMode) -> bool {
        match (self, mode) {
            (LaunchType::Ec2, NetworkMode::Awsvpc | NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None) => {
                true
            }
            (LaunchType::Fargate, mode) => mode == NetworkMode::Awsvpc,
            (LaunchType::External, mode) => mode != NetworkMode::Awsvpc,
        }
    }
}

/// The launch type of a run: what was asked for, or what the definition requires, or a host that is not Amazon's.
///
/// # Errors
/// One that the definition is not compatible with.
pub fn choose(asked: Option<LaunchType>, definition: &TaskDefinition) -> Result<LaunchType, LaunchTypeError> {
    let required = &definition.requires_compatibilities;
    let launch_type = match asked {
        None if required.len() == 1 && required[0] == LaunchType::Fargate.name() => LaunchType::Fargate,
        None => return Ok(LaunchType::External),
        Some(asked) => asked,
    };
    if !required.is_empty() && !required.iter().any(|name| name == launch_type.name()) {
        return Err(LaunchTypeError::NotRequired { launch_type: launch_type.name(), required: required.clone() });
    }
    if launch_type == LaunchType::Fargate {
        let mode = definition.effective_network_mode();
        if !launch_type.has_at_amazon(mode) {
            return Err(LaunchTypeError::FargateMode { mode });
        }
        let missing = [("cpu", &definition.cpu), ("memory", &definition.memory)];
        if let Some((member, _)) = missing.into_iter().find(|(_, value)| value.is_none()) {
            return Err(LaunchTypeError::FargateSize { member });
        }
    }
    Ok(launch_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(members: serde_json::Value) -> TaskDefinition {
        let mut whole = json!({"family": "f", "containerDefinitions": [{"name": "a", "image": "x", "memory": 4}]});
        let members = members.as_object().expect("an object").clone();
        whole.as_object_mut().expect("an object").extend(members);
        serde_json::from_value(whole).expect("a task definition")
    }

    #[test]
    fn a_definition_for_fargate_alone_is_fargates() {
        let fargate =
            json!({"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"});
        assert_eq!(choose(None, &definition(fargate.clone())), Ok(LaunchType::Fargate));
        let refused = choose(Some(LaunchType::Ec2), &definition(fargate)).expect_err("it is not required");
        assert!(refused.to_string().contains("EC2 is not among them"), "{refused}");
        let both = json!({"requiresCompatibilities": ["EC2", "FARGATE"], "networkMode": "awsvpc"});
        assert_eq!(choose(None, &definition(both.clone())), Ok(LaunchType::External));
        assert_eq!(choose(Some(LaunchType::Ec2), &definition(both.clone())), Ok(LaunchType::Ec2));
        assert!(matches!(
            choose(Some(LaunchType::Fargate), &definition(both)),
            Err(LaunchTypeError::FargateSize { member: "cpu" })
        ));
        assert!(matches!(
            choose(Some(LaunchType::Fargate), &definition(json!({}))),
            Err(LaunchTypeError::FargateMode { mode: NetworkMode::Bridge })
        ));
        assert_eq!(choose(None, &definition(json!({}))), Ok(LaunchType::External));
    }

    /// "The available network modes for Linux": awsvpc, bridge, host and none on EC2; awsvpc on Fargate; bridge, host
    /// and none on external instances
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-anywhere.html#ecs-anywhere-considerations>).
    #[test]
    fn modes_of_launch_types_are_amazons() {
        let modes = [NetworkMode::Awsvpc, NetworkMode::Bridge, NetworkMode::Host, NetworkMode::None];
        let table = [
            (LaunchType::Ec2, [true, true, true, true]),
            (LaunchType::Fargate, [true, false, false, false]),
            (LaunchType::External, [false, true, true, true]),
        ];
        for (launch_type, expected) in table {
            assert_eq!(modes.map(|mode| launch_type.has_at_amazon(mode)), expected, "{launch_type:?}");
        }
        assert!(LaunchType::read("fargate").is_err());
        assert_eq!(LaunchType::read("FARGATE"), Ok(LaunchType::Fargate));
    }
}
