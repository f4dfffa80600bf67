//! Members of a container definition.

use super::{Here, INT_MAX, Kind, Rule, Shape, TEXTS, member, no_effect, partly, refused, works};
use crate::grammar;
use crate::size::{MAX_MEMORY_MIB, MIN_MEMORY_MIB};

const MEMORY: Rule = Rule::Within(MIN_MEMORY_MIB as i64, MAX_MEMORY_MIB as i64);
const PORT: Rule = Rule::Within(0, u16::MAX as i64);
const ANY_SECONDS: Rule = Rule::Within(0, INT_MAX);
const NO_HEALTH_CHECKS: &str = "health checks are not run yet; nothing watches this container's health";
const NO_VOLUMES: &str = "volumes are not made yet";
const IN_THE_IMAGE: &str = "put the data into the image";
const LOCAL_LOGS: &str = "kept as local log files; read them with `coracle logs`";

pub static CONTAINER_DEFINITION: Shape = Shape {
    name: "ContainerDefinition",
    members: &[
        works("name", Kind::Text).required().rule(Rule::Grammar(grammar::container_name)),
        works("image", Kind::Text).required().rule(Rule::Grammar(grammar::image)),
        works("cpu", Kind::Integer).within(0, INT_MAX),
        works("memory", Kind::Integer).rule(MEMORY),
        works("memoryReservation", Kind::Integer).rule(MEMORY),
        works("essential", Kind::Boolean),
        works("portMappings", Kind::List(&Kind::Structure(&PORT_MAPPING))),
        works("entryPoint", TEXTS),
        works("command", TEXTS),
        works("environment", Kind::List(&Kind::Structure(&ENVIRONMENT_VARIABLE))),
        works("dependsOn", Kind::List(&Kind::Structure(&DEPENDENCY))),
        works("startTimeout", Kind::Integer).rule(ANY_SECONDS),
        works("stopTimeout", Kind::Integer).rule(ANY_SECONDS),
        works("hostname", Kind::Text).rule(Rule::Grammar(grammar::hostname)),
        works("user", Kind::Text).rule(Rule::Grammar(grammar::user)),
        works("workingDirectory", Kind::Text).rule(Rule::Grammar(grammar::working_directory)),
        works("disableNetworking", Kind::Boolean),
        partly("privileged", Kind::Boolean, "unless the host disables privileged containers"),
        works("readonlyRootFilesystem", Kind::Boolean)
            .shown_by("tests/host/confinement.rs: a_read_only_root_file_system_is_read_only"),
        works("dnsServers", TEXTS).rule(Rule::Grammar(grammar::ip_address)),
        works("dnsSearchDomains", TEXTS).rule(Rule::Grammar(grammar::search_domain)),
        works("extraHosts", Kind::List(&Kind::Structure(&HOST_ENTRY))),
        partly(
            "dockerSecurityOptions",
            TEXTS,
            "no-new-privileges, seccomp:unconfined, and apparmor:… and label:… where the host has the module",
        )
        .rule(Rule::Grammar(grammar::security_option)),
        works("dockerLabels", Kind::TextMap),
        works("ulimits", Kind::List(&Kind::Structure(&ULIMIT))),
        works("systemControls", Kind::List(&Kind::Structure(&SYSTEM_CONTROL))),
        works("linuxParameters", Kind::Structure(&LINUX_PARAMETERS)),
        works("logConfiguration", Kind::Structure(&LOG_CONFIGURATION)),
        works("repositoryCredentials", Kind::Structure(&REPOSITORY_CREDENTIALS))
            .shown_by("tests/host/secrets.rs: an_image_is_pulled_with_the_login_that_the_store_has"),
        no_effect("healthCheck", Kind::Structure(&HEALTH_CHECK), NO_HEALTH_CHECKS),
        no_effect("restartPolicy", Kind::Structure(&RESTART_POLICY), "containers are not restarted inside a task yet"),
        no_effect("versionConsistency", Kind::Text, "a tag is looked up again for every task that has to pull it")
            .one_of(&["enabled", "disabled"]),
        works("links", TEXTS).shown_by("tests/host/links.rs: a_linked_container_is_reached_by_its_names"),
        works("environmentFiles", Kind::List(&Kind::Structure(&ENVIRONMENT_FILE)))
            .shown_by("tests/host/environment.rs: files_come_from_s3_and_from_this_host"),
        refused("mountPoints", Kind::List(&Kind::Structure(&MOUNT_POINT)), NO_VOLUMES, IN_THE_IMAGE),
        refused("volumesFrom", Kind::List(&Kind::Structure(&VOLUME_FROM)), NO_VOLUMES, IN_THE_IMAGE),
        works("secrets", Kind::List(&Kind::Structure(&SECRET)))
            .shown_by("tests/host/secrets.rs: secrets_reach_their_container_and_nobody_else"),
        refused(
            "interactive",
            Kind::Boolean,
            "containers have no standard input",
            "use `coracle exec -it` for a shell",
        ),
        refused("pseudoTerminal", Kind::Boolean, "containers have no terminal", "use `coracle exec -it` for a shell"),
        partly(
            "resourceRequirements",
            Kind::List(&Kind::Structure(&RESOURCE_REQUIREMENT)),
            "whole GPUs, as device nodes: the image brings the driver's libraries",
        ),
        refused(
            "firelensConfiguration",
            Kind::Structure(&FIRELENS),
            "log routers are not fed yet",
            "remove the router container; every container's output is kept in local log files",
        ),
        refused("credentialSpecs", TEXTS, "Active Directory credentials are not fetched", "remove credentialSpecs"),
    ],
};

pub(super) const NO_ACCELERATORS: &str = "GPUs and other accelerators are not handed to containers yet";
pub(super) const REMOVE_ACCELERATORS: &str = "remove resourceRequirements to run without them";

static REPOSITORY_CREDENTIALS: Shape = Shape {
    name: "RepositoryCredentials",
    members: &[works("credentialsParameter", Kind::Text)
        .required()
        .rule(Rule::Grammar(grammar::credentials_parameter))],
};

static PORT_MAPPING: Shape = Shape {
    name: "PortMapping",
    members: &[
        works("containerPort", Kind::Integer).rule(PORT),
        works("hostPort", Kind::Integer).rule(PORT),
        works("protocol", Kind::Text).one_of(&["tcp", "udp"]),
        works("containerPortRange", Kind::Text).rule(Rule::Grammar(grammar::port_range)),
        works("name", Kind::Text).rule(Rule::Grammar(grammar::port_name)),
        no_effect(
            "appProtocol",
            Kind::Text,
            "only Service Connect and gateways read it, and they do not exist here yet",
        )
        .one_of(&["http", "http2", "grpc"]),
    ],
};

/// Also RunTask's overrides have it: a variable of the environment.
pub(super) static ENVIRONMENT_VARIABLE: Shape = Shape {
    name: "KeyValuePair",
    members: &[
        works("name", Kind::Text).required().rule(Rule::Grammar(grammar::variable_name)),
        works("value", Kind::Text),
    ],
};

/// The same shape where it is not the environment.
pub(super) static KEY_VALUE_PAIR: Shape =
    Shape { name: "KeyValuePair", members: &[works("name", Kind::Text), works("value", Kind::Text)] };

static DEPENDENCY: Shape = Shape {
    name: "ContainerDependency",
    members: &[
        works("containerName", Kind::Text).required().rule(Rule::Grammar(grammar::container_name)),
        works("condition", Kind::Text).required().one_of(&["START", "COMPLETE", "SUCCESS", "HEALTHY"]),
    ],
};

static HOST_ENTRY: Shape = Shape {
    name: "HostEntry",
    members: &[
        works("hostname", Kind::Text).required().rule(Rule::Grammar(grammar::hosts_name)),
        works("ipAddress", Kind::Text).required().rule(Rule::Grammar(grammar::ip_address)),
    ],
};

static ULIMIT: Shape = Shape {
    name: "Ulimit",
    members: &[
        works("name", Kind::Text).required().one_of(&[
            "core",
            "cpu",
            "data",
            "fsize",
            "locks",
            "memlock",
            "msgqueue",
            "nice",
            "nofile",
            "nproc",
            "rss",
            "rtprio",
            "rttime",
            "sigpending",
            "stack",
        ]),
        works("softLimit", Kind::Integer).required().within(-1, INT_MAX),
        works("hardLimit", Kind::Integer).required().within(-1, INT_MAX),
    ],
};

static SYSTEM_CONTROL: Shape = Shape {
    name: "SystemControl",
    members: &[works("namespace", Kind::Text).required(), works("value", Kind::Text).required()],
};

static LINUX_PARAMETERS: Shape = Shape {
    name: "LinuxParameters",
    members: &[
        works("capabilities", Kind::Structure(&CAPABILITIES)),
        works("sharedMemorySize", Kind::Integer).within(0, MAX_MEMORY_MIB as i64),
        works("initProcessEnabled", Kind::Boolean),
        partly("maxSwap", Kind::Integer, "together with memory, on hosts whose kernel accounts swap").within(0, INT_MAX),
        partly("swappiness", Kind::Integer, "on hosts with cgroup v1; v2 has no such setting").within(0, 100),
        works("devices", Kind::List(&Kind::Structure(&DEVICE))),
        works("tmpfs", Kind::List(&Kind::Structure(&TMPFS))),
    ],
};

static CAPABILITIES: Shape = Shape {
    name: "KernelCapabilities",
    members: &[
        works("add", TEXTS).rule(Rule::Grammar(grammar::capability)),
        works("drop", TEXTS).rule(Rule::Grammar(grammar::capability)),
    ],
};

static DEVICE: Shape = Shape {
    name: "Device",
    members: &[
        works("hostPath", Kind::Text).required(),
        works("containerPath", Kind::Text),
        works("permissions", TEXTS).one_of(&["read", "write", "mknod"]),
    ],
};

static TMPFS: Shape = Shape {
    name: "Tmpfs",
    members: &[
        works("containerPath", Kind::Text).required(),
        works("size", Kind::Integer).required().within(1, INT_MAX),
        works("mountOptions", TEXTS).rule(Rule::Grammar(grammar::tmpfs_option)),
    ],
};

static LOG_CONFIGURATION: Shape = Shape {
    name: "LogConfiguration",
    members: &[
        member("logDriver", Kind::Text, Here::Mapped(LOCAL_LOGS)).required().one_of(&[
            "awslogs",
            "json-file",
            "awsfirelens",
            "fluentd",
            "gelf",
            "journald",
            "splunk",
            "syslog",
        ]),
        partly("options", Kind::TextMap, "max-size and max-file are followed; others are accepted as they are"),
        no_effect("secretOptions", Kind::List(&Kind::Structure(&SECRET)), "local log files need no secrets"),
    ],
};

static SECRET: Shape = Shape {
    name: "Secret",
    members: &[
        works("name", Kind::Text).required().rule(Rule::Grammar(grammar::secret_name)),
        works("valueFrom", Kind::Text).required().rule(Rule::Grammar(grammar::value_from)),
    ],
};

static HEALTH_CHECK: Shape = Shape {
    name: "HealthCheck",
    members: &[
        works("command", TEXTS).required(),
        // Their ranges are rules of `lint::life`, whose messages are Amazon's.
        works("interval", Kind::Integer),
        works("timeout", Kind::Integer),
        works("retries", Kind::Integer),
        works("startPeriod", Kind::Integer),
    ],
};

static RESTART_POLICY: Shape = Shape {
    name: "ContainerRestartPolicy",
    members: &[
        works("enabled", Kind::Boolean).required(),
        works("ignoredExitCodes", Kind::List(&Kind::Integer)),
        works("restartAttemptPeriod", Kind::Integer).within(60, 1800),
    ],
};

pub(super) static ENVIRONMENT_FILE: Shape = Shape {
    name: "EnvironmentFile",
    members: &[
        works("value", Kind::Text).required().rule(Rule::Grammar(grammar::environment_file)),
        works("type", Kind::Text).required().one_of(&["s3"]),
    ],
};

static MOUNT_POINT: Shape = Shape {
    name: "MountPoint",
    members: &[
        works("sourceVolume", Kind::Text).required(),
        works("containerPath", Kind::Text).required(),
        works("readOnly", Kind::Boolean),
    ],
};

static VOLUME_FROM: Shape = Shape {
    name: "VolumeFrom",
    members: &[works("sourceContainer", Kind::Text).required(), works("readOnly", Kind::Boolean)],
};

pub(super) static RESOURCE_REQUIREMENT: Shape = Shape {
    name: "ResourceRequirement",
    members: &[
        works("value", Kind::Text),
        works("type", Kind::Text).required().one_of(&["GPU", "InferenceAccelerator", "NeuronDevice"]),
        works("sharingStrategy", Kind::Structure(&SHARING_STRATEGY)),
    ],
};

static SHARING_STRATEGY: Shape =
    Shape { name: "SharingStrategy", members: &[works("nvidiaMps", Kind::Structure(&NVIDIA_MPS))] };

static NVIDIA_MPS: Shape = Shape {
    name: "NvidiaMpsAllocation",
    members: &[
        works("memory", Kind::Integer).required().within(1, INT_MAX),
        works("maxComputePercent", Kind::Integer).within(1, 100),
    ],
};

static FIRELENS: Shape = Shape {
    name: "FirelensConfiguration",
    members: &[works("type", Kind::Text).required().one_of(&["fluentd", "fluentbit"]), works("options", Kind::TextMap)],
};
