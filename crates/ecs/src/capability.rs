//! What a task definition asks of the container instance that runs it, as the attributes by which Amazon's agent tells what
//! it can do: DescribeTaskDefinition's `requiresAttributes`
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-placement-constraints.html#attributes>).
//!
//! Amazon documents the names, not which member asks for which; the rules are read off registered definitions.

use std::collections::BTreeSet;

use crate::task_definition::{
    ContainerDefinition, FirelensType, IpcMode, NetworkMode, PidMode, Secret, TaskDefinition,
};

/// The log drivers of a container instance, with `none`, which no definition can ask for.
pub const LOG_DRIVERS: [&str; 8] =
    ["awsfirelens", "awslogs", "fluentd", "gelf", "journald", "json-file", "splunk", "syslog"];
/// Minor versions of Docker's remote API that Amazon's agent tells of, all of version 1.
pub const REMOTE_APIS: std::ops::RangeInclusive<u32> = 17..=44;

const SECRETS_MANAGER: &str = ":secretsmanager:";

/// Everything that `required` can ask for: what an instance tells that has it all.
pub fn all() -> Vec<String> {
    let apis = REMOTE_APIS.map(remote_api);
    let drivers = LOG_DRIVERS.into_iter().map(log_driver);
    apis.chain(drivers).chain(FIXED.into_iter().map(str::to_owned)).collect()
}

const PRIVILEGED: &str = "com.amazonaws.ecs.capability.privileged-container";
const SELINUX: &str = "com.amazonaws.ecs.capability.selinux";
const APPARMOR: &str = "com.amazonaws.ecs.capability.apparmor";
const ECR_AUTH: &str = "com.amazonaws.ecs.capability.ecr-auth";
const TASK_ROLE: &str = "com.amazonaws.ecs.capability.task-iam-role";
const TASK_ROLE_HOST: &str = "com.amazonaws.ecs.capability.task-iam-role-network-host";
const TASK_ENI: &str = "ecs.capability.task-eni";
const ROLE_ECR: &str = "ecs.capability.execution-role-ecr-pull";
const ROLE_LOGS: &str = "ecs.capability.execution-role-awslogs";
const HEALTH: &str = "ecs.capability.container-health-check";
const ORDERING: &str = "ecs.capability.container-ordering";
const TASK_LIMITS: &str = "ecs.capability.task-cpu-mem-limit";
const REGISTRY_AUTH: &str = "ecs.capability.private-registry-authentication.secretsmanager";
const SSM_VARIABLES: &str = "ecs.capability.secrets.ssm.environment-variables";
const ASM_VARIABLES: &str = "ecs.capability.secrets.asm.environment-variables";
const SSM_LOGS: &str = "ecs.capability.secrets.ssm.bootstrap.log-driver";
const ASM_LOGS: &str = "ecs.capability.secrets.asm.bootstrap.log-driver";
const NAMESPACES: &str = "ecs.capability.pid-ipc-namespace-sharing";
const APP_MESH: &str = "ecs.capability.aws-appmesh";
const FLUENTD: &str = "ecs.capability.firelens.fluentd";
const FLUENT_BIT: &str = "ecs.capability.firelens.fluentbit";
const FIRELENS_FILE: &str = "ecs.capability.firelens.options.config.file";
const FIRELENS_S3: &str = "ecs.capability.firelens.options.config.s3";
const EFS: &str = "ecs.capability.efs";
const EFS_AUTH: &str = "ecs.capability.efsAuth";
const ENV_FILES: &str = "ecs.capability.env-files.s3";
const PORT_RANGE: &str = "ecs.capability.network.container-port-range";
const RESTART: &str = "ecs.capability.container-restart-policy";
const FAULTS: &str = "ecs.capability.fault-injection";

const FIXED: [&str; 29] = [
    PRIVILEGED,
    SELINUX,
    APPARMOR,
    ECR_AUTH,
    TASK_ROLE,
    TASK_ROLE_HOST,
    TASK_ENI,
    ROLE_ECR,
    ROLE_LOGS,
    HEALTH,
    ORDERING,
    TASK_LIMITS,
    REGISTRY_AUTH,
    SSM_VARIABLES,
    ASM_VARIABLES,
    SSM_LOGS,
    ASM_LOGS,
    NAMESPACES,
    APP_MESH,
    FLUENTD,
    FLUENT_BIT,
    FIRELENS_FILE,
    FIRELENS_S3,
    EFS,
    EFS_AUTH,
    ENV_FILES,
    PORT_RANGE,
    RESTART,
    FAULTS,
];

/// Names, without values, sorted; each once. GPUs are none of them: an instance has them as a resource.
pub fn required(definition: &TaskDefinition) -> Vec<String> {
    let mut names = Names::default();
    of_task(definition, &mut names);
    for container in &definition.container_definitions {
        of_container(container, definition, &mut names);
        of_secrets(container, &mut names);
        of_logs(container, definition, &mut names);
    }
    names.0.into_iter().collect()
}

#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn when(&mut self, asked: bool, name: &str) {
        if asked {
            self.0.insert(name.to_owned());
        }
    }

    fn api(&mut self, asked: bool, minor: u32) {
        if asked {
            self.0.insert(remote_api(minor));
        }
    }
}

fn remote_api(minor: u32) -> String {
    format!("com.amazonaws.ecs.capability.docker-remote-api.1.{minor}")
}

fn log_driver(name: &str) -> String {
    format!("com.amazonaws.ecs.capability.logging-driver.{name}")
}

fn of_task(definition: &TaskDefinition, names: &mut Names) {
    let mode = definition.effective_network_mode();
    let awsvpc = mode == NetworkMode::Awsvpc;
    names.when(awsvpc, TASK_ENI);
    names.api(awsvpc, 18);
    let task_role = definition.task_role_arn.is_some();
    names.when(task_role && mode != NetworkMode::Host, TASK_ROLE);
    names.when(task_role && mode == NetworkMode::Host, TASK_ROLE_HOST);
    // "Not supported" on Fargate is no matter here: there the size is the task's, and no instance is asked for it.
    names.when((definition.cpu.is_some() || definition.memory.is_some()) && !awsvpc, TASK_LIMITS);
    let pid = matches!(definition.pid_mode, Some(PidMode::Host | PidMode::Task));
    let ipc = matches!(definition.ipc_mode, Some(IpcMode::Host | IpcMode::Task | IpcMode::None));
    names.when(pid || ipc, NAMESPACES);
    names.when(definition.proxy_configuration.is_some(), APP_MESH);
    names.when(definition.enable_fault_injection == Some(true), FAULTS);
    for volume in &definition.volumes {
        let efs = volume.efs_volume_configuration.as_ref();
        names.when(efs.is_some(), EFS);
        names.when(efs.is_some_and(|efs| efs.authorization_config.is_some()), EFS_AUTH);
        names.api(volume.docker_volume_configuration.is_some(), 25);
    }
}

fn of_container(container: &ContainerDefinition, definition: &TaskDefinition, names: &mut Names) {
    let ecr = container.image.contains(".dkr.ecr.") && container.image.contains(".amazonaws.com");
    names.when(ecr, ECR_AUTH);
    names.api(ecr, 19);
    names.when(ecr && definition.execution_role_arn.is_some(), ROLE_ECR);
    names.when(container.repository_credentials.is_some(), REGISTRY_AUTH);
    names.when(container.privileged == Some(true), PRIVILEGED);
    for option in &container.docker_security_options {
        names.when(option.starts_with("label:"), SELINUX);
        names.when(option.starts_with("apparmor:"), APPARMOR);
    }
    names.api(!container.ulimits.is_empty(), 18);
    names.api(container.memory_reservation.is_some(), 21);
    names.when(container.health_check.is_some(), HEALTH);
    names.api(container.health_check.is_some(), 24);
    names.api(container.health_check.as_ref().is_some_and(|check| check.start_period.is_some()), 29);
    let linux = container.linux_parameters.as_ref();
    names.api(linux.is_some_and(|linux| linux.init_process_enabled == Some(true)), 25);
    names.api(linux.is_some_and(|linux| linux.shared_memory_size.is_some() || !linux.tmpfs.is_empty()), 22);
    let ordered = container.start_timeout.is_some() || !container.depends_on.is_empty();
    names.when(ordered, ORDERING);
    names.when(!container.environment_files.is_empty(), ENV_FILES);
    names.when(container.port_mappings.iter().any(|mapping| mapping.container_port_range.is_some()), PORT_RANGE);
    names.when(container.restart_policy.as_ref().is_some_and(|policy| policy.enabled), RESTART);
}

fn of_secrets(container: &ContainerDefinition, names: &mut Names) {
    let manager = |secret: &Secret| secret.value_from.contains(SECRETS_MANAGER);
    names.when(container.secrets.iter().any(manager), ASM_VARIABLES);
    names.when(container.secrets.iter().any(|secret| !manager(secret)), SSM_VARIABLES);
    let options = container.log_configuration.iter().flat_map(|log| &log.secret_options);
    for secret in options {
        names.when(true, if manager(secret) { ASM_LOGS } else { SSM_LOGS });
    }
}

fn of_logs(container: &ContainerDefinition, definition: &TaskDefinition, names: &mut Names) {
    if let Some(log) = &container.log_configuration {
        names.when(true, &log_driver(&log.log_driver));
        let awslogs = log.log_driver == "awslogs";
        names.api(awslogs, 19);
        names.api(!awslogs, 18);
        names.when(awslogs && definition.execution_role_arn.is_some(), ROLE_LOGS);
    }
    let Some(firelens) = &container.firelens_configuration else { return };
    names.when(firelens.kind == FirelensType::Fluentd, FLUENTD);
    names.when(firelens.kind == FirelensType::Fluentbit, FLUENT_BIT);
    let source = firelens.options.get("config-file-type").map(String::as_str);
    names.when(source == Some("file"), FIRELENS_FILE);
    names.when(source == Some("s3"), FIRELENS_S3);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn names(definition: Value) -> Vec<String> {
        required(&serde_json::from_value(definition).expect("a definition"))
    }

    fn of(container: Value) -> Vec<String> {
        names(json!({"family": "f", "containerDefinitions": [container]}))
    }

    /// The answer in <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-cli-tutorial-fargate.html>, and what
    /// registered definitions of its kind have besides.
    #[test]
    fn a_web_server_on_fargate() {
        let container = json!({"name": "web", "image": "public.ecr.aws/docker/library/httpd:latest"});
        let definition = json!({
            "family": "sample-fargate", "networkMode": "awsvpc", "cpu": "256", "memory": "512",
            "requiresCompatibilities": ["FARGATE"], "containerDefinitions": [container],
        });
        let expected = ["com.amazonaws.ecs.capability.docker-remote-api.1.18", "ecs.capability.task-eni"];
        assert_eq!(names(definition), expected);
    }

    #[test]
    fn a_service_with_roles_logs_secrets_and_a_health_check() {
        let container = json!({
            "name": "web", "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1", "memoryReservation": 128,
            "healthCheck": {"command": ["CMD-SHELL", "true"]},
            "secrets": [
                {"name": "A", "valueFrom": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf"},
                {"name": "B", "valueFrom": "arn:aws:ssm:eu-west-1:123456789012:parameter/b"},
            ],
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g", "awslogs-region": "r"}},
        });
        let definition = json!({
            "family": "web", "networkMode": "awsvpc", "taskRoleArn": "task", "executionRoleArn": "execution",
            "containerDefinitions": [container],
        });
        let expected = [
            "com.amazonaws.ecs.capability.docker-remote-api.1.18",
            "com.amazonaws.ecs.capability.docker-remote-api.1.19",
            "com.amazonaws.ecs.capability.docker-remote-api.1.21",
            "com.amazonaws.ecs.capability.docker-remote-api.1.24",
            "com.amazonaws.ecs.capability.ecr-auth",
            "com.amazonaws.ecs.capability.logging-driver.awslogs",
            "com.amazonaws.ecs.capability.task-iam-role",
            "ecs.capability.container-health-check",
            "ecs.capability.execution-role-awslogs",
            "ecs.capability.execution-role-ecr-pull",
            "ecs.capability.secrets.asm.environment-variables",
            "ecs.capability.secrets.ssm.environment-variables",
            "ecs.capability.task-eni",
        ];
        assert_eq!(names(definition), expected);
    }

    #[test]
    fn plain_definitions_ask_for_nothing() {
        assert!(of(json!({"name": "c", "image": "busybox", "memory": 64})).is_empty());
    }

    #[test]
    fn all_has_everything_that_can_be_asked_for() {
        let all: BTreeSet<String> = all().into_iter().collect();
        let container = json!({
            "name": "c", "image": "x", "privileged": true, "dockerSecurityOptions": ["label:a", "apparmor:b"],
            "ulimits": [{"name": "nofile", "softLimit": 1, "hardLimit": 1}], "startTimeout": 2,
            "linuxParameters": {"initProcessEnabled": true, "sharedMemorySize": 64},
            "environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::b/k.env"}],
            "portMappings": [{"containerPortRange": "1-2"}], "restartPolicy": {"enabled": true},
            "firelensConfiguration": {"type": "fluentd", "options": {"config-file-type": "s3"}},
            "logConfiguration": {"logDriver": "syslog", "secretOptions": [{"name": "a", "valueFrom": "b"}]},
            "repositoryCredentials": {"credentialsParameter": "x"},
        });
        let definition = json!({
            "family": "f", "networkMode": "host", "taskRoleArn": "r", "cpu": "256", "pidMode": "task",
            "enableFaultInjection": true, "containerDefinitions": [container],
            "volumes": [
                {"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs", "authorizationConfig": {}}},
                {"name": "w", "dockerVolumeConfiguration": {}},
            ],
        });
        let asked = names(definition);
        assert!(asked.len() > 20, "{asked:?}");
        assert!(asked.iter().all(|name| all.contains(name)), "{asked:?}");
    }
}
