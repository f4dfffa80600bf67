//! Variables that Amazon's agent adds by itself. Pure.

use agent_protocol::task_spec::Service;
use agent_protocol::{ContainerSecrets, ContainerSpec, TaskSpec};
use ecs::LaunchType;
use ecs::task_definition::KeyValuePair;

/// What AWS's SDKs read to know where they run; its documented values are `AWS_ECS_EC2` and `AWS_ECS_FARGATE`.
const EXECUTION: &str = "AWS_EXECUTION_ENV";
const EC2: &str = "AWS_ECS_EC2";
const FARGATE: &str = "AWS_ECS_FARGATE";
/// Each names an endpoint of the container
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint.html>).
const ENDPOINTS: [(&str, &str); 3] = [
    ("ECS_CONTAINER_METADATA_URI", "http://169.254.170.2/v3/"),
    ("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/"),
    ("ECS_AGENT_URI", "http://169.254.170.2/api/"),
];
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html>)
const CREDENTIALS: (&str, &str) = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/");
/// Since version 1.104.0 of Amazon's agent. Whoever sets one of them has decided on the region.
const REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

pub(crate) fn injected(
    task: &TaskSpec,
    container: &ContainerSpec,
    secrets: Option<&ContainerSecrets>,
) -> Vec<KeyValuePair> {
    let own = container.definition.environment.iter().chain(&container.environment_from_files);
    let own = own.map(|variable| variable.name.as_str());
    let secret = secrets.iter().flat_map(|secrets| &secrets.environment).map(|(name, _)| name.as_str());
    let of_image = container.image.config.env.iter().map(|variable| variable.split('=').next().unwrap_or_default());
    let region_is_set = own.chain(secret).chain(of_image).any(|name| REGION.contains(&name));
    let pair = |name: &str, value: &str| KeyValuePair { name: name.to_owned(), value: value.to_owned() };
    let execution = if task.launch_type == LaunchType::Fargate.name() { FARGATE } else { EC2 };
    let mut injected = vec![pair(EXECUTION, execution)];
    if !region_is_set {
        injected.extend(REGION.iter().map(|name| pair(name, &task.region)));
    }
    if is_served(task, container) {
        let id = &container.endpoint_id;
        injected.extend(ENDPOINTS.iter().map(|(name, place)| pair(name, &format!("{place}{id}"))));
        let credentials = task.credentials_id.iter().map(|id| pair(CREDENTIALS.0, &format!("{}{id}", CREDENTIALS.1)));
        injected.extend(credentials);
    }
    injected
}

/// Whether somebody answers where the container is.
fn is_served(task: &TaskSpec, container: &ContainerSpec) -> bool {
    let mut sockets = task.service_sockets.iter();
    sockets.any(|socket| socket.service == Service::Http && socket.namespace == container.network.namespace)
}

#[cfg(test)]
mod tests {
    use agent_protocol::SecretValue;
    use agent_protocol::task_spec::{NetworkNamespace, ServiceSocket};

    use super::*;
    use crate::example;

    fn names(container: &ContainerSpec, secrets: Option<&ContainerSecrets>) -> Vec<String> {
        let task = example::spec(&["web"]);
        injected(&task, container, secrets).into_iter().map(|pair| pair.name).collect()
    }

    #[test]
    fn endpoints_are_named_where_somebody_answers() {
        let mut task = example::spec(&["web"]);
        task.launch_type = "FARGATE".to_owned();
        task.credentials_id = Some("c0ffee".to_owned());
        task.containers[0].endpoint_id = "e1".to_owned();
        let variables = |task: &TaskSpec| {
            let injected = injected(task, &task.containers[0], None).into_iter();
            injected.map(|pair| format!("{}={}", pair.name, pair.value)).collect::<Vec<_>>()
        };
        let plain = ["AWS_EXECUTION_ENV=AWS_ECS_FARGATE", "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1"];
        assert_eq!(variables(&task), plain);
        task.service_sockets =
            vec![ServiceSocket { namespace: NetworkNamespace::Received { index: 0 }, service: Service::Http }];
        let served = [
            "ECS_CONTAINER_METADATA_URI=http://169.254.170.2/v3/e1",
            "ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/e1",
            "ECS_AGENT_URI=http://169.254.170.2/api/e1",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/c0ffee",
        ];
        assert_eq!(variables(&task), [plain.as_slice(), &served].concat());
        task.credentials_id = None;
        assert_eq!(variables(&task), [plain.as_slice(), &served[..3]].concat());
    }

    #[test]
    fn a_region_that_is_set_anywhere_is_left_alone() {
        let pair = |name: &str| KeyValuePair { name: name.to_owned(), value: "x".to_owned() };
        let plain = example::spec(&["web"]).containers.remove(0);
        assert_eq!(names(&plain, None), ["AWS_EXECUTION_ENV", "AWS_REGION", "AWS_DEFAULT_REGION"]);
        let mut in_definition = plain.clone();
        in_definition.definition.environment.push(pair("AWS_REGION"));
        let mut in_files = plain.clone();
        in_files.environment_from_files.push(pair("AWS_DEFAULT_REGION"));
        let mut in_image = plain.clone();
        in_image.image.config.env.push("AWS_REGION=x".to_owned());
        for container in [&in_definition, &in_files, &in_image] {
            assert_eq!(names(container, None), ["AWS_EXECUTION_ENV"]);
        }
        let secrets = ContainerSecrets {
            container: example::name("web"),
            environment: vec![("AWS_REGION".to_owned(), SecretValue("x".to_owned()))],
            files: Vec::new(),
            log_options: [].into(),
        };
        assert_eq!(names(&plain, Some(&secrets)), ["AWS_EXECUTION_ENV"]);
    }
}
