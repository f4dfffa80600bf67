//! Variables that Amazon's agent adds by itself. Pure.
//!
//! Those that name an endpoint (`ECS_CONTAINER_METADATA_URI_V4`, `ECS_AGENT_URI`,
//! `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`) are not among them: nobody would answer there.

use agent_protocol::{ContainerSecrets, ContainerSpec};
use ecs::task_definition::KeyValuePair;

/// What AWS's SDKs read to know where they run; its documented values are `AWS_ECS_EC2` and `AWS_ECS_FARGATE`.
const EXECUTION: (&str, &str) = ("AWS_EXECUTION_ENV", "AWS_ECS_EC2");
/// Since version 1.104.0 of Amazon's agent. Whoever sets one of them has decided on the region.
const REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

pub(crate) fn injected(
    container: &ContainerSpec,
    secrets: Option<&ContainerSecrets>,
    region: &str,
) -> Vec<KeyValuePair> {
    let own = container.definition.environment.iter().chain(&container.environment_from_files);
    let own = own.map(|variable| variable.name.as_str());
    let secret = secrets.iter().flat_map(|secrets| &secrets.environment).map(|(name, _)| name.as_str());
    let of_image = container.image.config.env.iter().map(|variable| variable.split('=').next().unwrap_or_default());
    let region_is_set = own.chain(secret).chain(of_image).any(|name| REGION.contains(&name));
    let pair = |name: &str, value: &str| KeyValuePair { name: name.to_owned(), value: value.to_owned() };
    let mut injected = vec![pair(EXECUTION.0, EXECUTION.1)];
    if !region_is_set {
        injected.extend(REGION.iter().map(|name| pair(name, region)));
    }
    injected
}

#[cfg(test)]
mod tests {
    use agent_protocol::SecretValue;

    use super::*;
    use crate::example;

    fn names(container: &ContainerSpec, secrets: Option<&ContainerSecrets>) -> Vec<String> {
        injected(container, secrets, "eu-central-1").into_iter().map(|pair| pair.name).collect()
    }

    #[test]
    fn a_region_that_is_set_anywhere_is_left_alone() {
        let pair = |name: &str| KeyValuePair { name: name.to_owned(), value: "x".to_owned() };
        let plain = example::spec(&["web"]).containers.remove(0);
        assert_eq!(names(&plain, None), ["AWS_EXECUTION_ENV", "AWS_REGION", "AWS_DEFAULT_REGION"]);
        assert_eq!(injected(&plain, None, "eu-central-1")[2].value, "eu-central-1");
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
