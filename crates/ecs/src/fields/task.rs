//! Members of the task definition itself, volumes included.

use super::container::{CONTAINER_DEFINITION, KEY_VALUE_PAIR};
use super::{Here, INT_MAX, Kind, Member, Rule, Shape, TEXTS, no_effect, partly, read_only, refused, works};
use crate::grammar;

const SWITCH: &[&str] = &["ENABLED", "DISABLED"];

pub(super) const OWN_LOGINS: &str = "no role is assumed: images, secrets and logs go by this host's own logins";

/// Of the definition and of its overrides.
pub(super) const TASK_ROLE: Member = Member {
    name: "taskRoleArn",
    kind: Kind::Text,
    required: false,
    rule: Rule::Any,
    extensions: &[],
    here: Here::Mapped(
        "no role is assumed: the task gets the credentials that this host's store of secrets has under the role's ARN",
    ),
    shown_by: Some("tests/host/metadata.rs: credentials_come_from_the_hosts_store_and_protection_is_for_services"),
};

pub static TASK_DEFINITION: Shape = Shape {
    name: "TaskDefinition",
    members: &[
        works("family", Kind::Text)
            .required()
            .rule(Rule::Grammar(grammar::family))
            .shown_by("tests/host/run.rs: a_detached_task_is_listed_shown_entered_stopped_and_removed"),
        works("containerDefinitions", Kind::List(&Kind::Structure(&CONTAINER_DEFINITION))).required(),
        works("networkMode", Kind::Text)
            .one_of(&["bridge", "host", "awsvpc", "none"])
            .shown_by("tests/host/awsvpc.rs: twenty_tasks_listen_on_port_80"),
        works("cpu", Kind::Text)
            .rule(Rule::Grammar(grammar::task_cpu))
            .shown_by("tests/host/limits.rs: task_cpu_throttles"),
        works("memory", Kind::Text)
            .rule(Rule::Grammar(grammar::task_memory))
            .shown_by("tests/host/limits.rs: task_size_is_a_hard_limit_on_the_parent"),
        works("runtimePlatform", Kind::Structure(&RUNTIME_PLATFORM)),
        partly("requiresCompatibilities", TEXTS, "EC2, FARGATE and EXTERNAL; a task for others runs here all the same")
            .one_of(&["EC2", "FARGATE", "EXTERNAL", "MANAGED_INSTANCES"])
            .shown_by("tests/host/awsvpc.rs: a_definition_for_fargate_runs_as_one"),
        works("tags", Kind::List(&Kind::Structure(&TAG))),
        TASK_ROLE,
        no_effect("executionRoleArn", Kind::Text, OWN_LOGINS),
        no_effect(
            "placementConstraints",
            Kind::List(&Kind::Structure(&PLACEMENT_CONSTRAINT)),
            "the task runs on this host",
        ),
        no_effect("enableFaultInjection", Kind::Boolean, "there is no fault injection endpoint yet"),
        works("ephemeralStorage", Kind::Structure(&EPHEMERAL_STORAGE)),
        no_effect("inferenceAccelerators", Kind::List(&Kind::Structure(&ACCELERATOR)), "Elastic Inference has ended"),
        works("volumes", Kind::List(&Kind::Structure(&VOLUME))),
        works("pidMode", Kind::Text)
            .one_of(&["host", "task"])
            .shown_by("tests/host/namespaces.rs: pid_mode_task_is_one_namespace_with_an_init_of_its_own"),
        works("ipcMode", Kind::Text)
            .one_of(&["host", "task", "none"])
            .shown_by("tests/host/namespaces.rs: ipc_mode_task_shares_memory_queues_and_sysctls"),
        refused(
            "proxyConfiguration",
            Kind::Structure(&PROXY_CONFIGURATION),
            "App Mesh works in network mode awsvpc only and has ended",
            "remove it together with the proxy container",
        ),
        works("trustedExecutionConfiguration", Kind::Structure(&TRUSTED_EXECUTION)),
        read_only("taskDefinitionArn", Kind::Text),
        read_only("revision", Kind::Integer).within(0, INT_MAX),
        read_only("status", Kind::Text),
        read_only("requiresAttributes", Kind::List(&Kind::Structure(&ATTRIBUTE))),
        read_only("compatibilities", TEXTS),
        read_only("registeredAt", Kind::Timestamp),
        read_only("deregisteredAt", Kind::Timestamp),
        read_only("deleteRequestedAt", Kind::Timestamp),
        read_only("registeredBy", Kind::Text),
    ],
};

static RUNTIME_PLATFORM: Shape = Shape {
    name: "RuntimePlatform",
    members: &[
        works("cpuArchitecture", Kind::Text)
            .one_of(&["X86_64", "ARM64"])
            .shown_by("crates/ecs/tests/definitions.rs: each_file_gets_the_findings_beside_it"),
        works("operatingSystemFamily", Kind::Text)
            .one_of(&[
                "LINUX",
                "WINDOWS_SERVER_2016_FULL",
                "WINDOWS_SERVER_2019_FULL",
                "WINDOWS_SERVER_2019_CORE",
                "WINDOWS_SERVER_2004_CORE",
                "WINDOWS_SERVER_20H2_CORE",
                "WINDOWS_SERVER_2022_CORE",
                "WINDOWS_SERVER_2022_FULL",
                "WINDOWS_SERVER_2025_CORE",
                "WINDOWS_SERVER_2025_FULL",
            ])
            .shown_by("crates/ecs/tests/definitions.rs: each_file_gets_the_findings_beside_it"),
    ],
};

static TAG: Shape = Shape {
    name: "Tag",
    members: &[
        works("key", Kind::Text)
            .required()
            .rule(Rule::Grammar(grammar::tag_key))
            .shown_by("tests/host/members.rs: a_definitions_tags_are_the_tasks"),
        works("value", Kind::Text)
            .rule(Rule::Grammar(grammar::tag_value))
            .shown_by("tests/host/members.rs: a_definitions_tags_are_the_tasks"),
    ],
};

static PLACEMENT_CONSTRAINT: Shape = Shape {
    name: "TaskDefinitionPlacementConstraint",
    members: &[works("type", Kind::Text).one_of(&["memberOf"]), works("expression", Kind::Text)],
};

pub(super) static EPHEMERAL_STORAGE: Shape = Shape {
    name: "EphemeralStorage",
    members: &[works("sizeInGiB", Kind::Integer)
        .required()
        .within(21, 200)
        .shown_by("tests/host/storage.rs: a_task_that_fills_its_storage_fills_nobody_elses")],
};

static ACCELERATOR: Shape = Shape {
    name: "InferenceAccelerator",
    members: &[works("deviceName", Kind::Text).required(), works("deviceType", Kind::Text).required()],
};

static PROXY_CONFIGURATION: Shape = Shape {
    name: "ProxyConfiguration",
    members: &[
        works("type", Kind::Text).one_of(&["APPMESH"]),
        works("containerName", Kind::Text).required(),
        works("properties", Kind::List(&Kind::Structure(&KEY_VALUE_PAIR))),
    ],
};

static TRUSTED_EXECUTION: Shape = Shape {
    name: "TrustedExecutionConfiguration",
    members: &[
        partly("isolationMode", Kind::Text, "SHARED only")
            .required()
            .one_of(&["SHARED", "ISOLATED_SANDBOX", "CONFIDENTIAL_SANDBOX"])
            .shown_by("crates/ecs/tests/definitions.rs: each_file_gets_the_findings_beside_it"),
        no_effect("attestationPolicy", Kind::Text, "tasks in isolation mode SHARED are not attested"),
    ],
};

static ATTRIBUTE: Shape = Shape {
    name: "Attribute",
    members: &[
        read_only("name", Kind::Text),
        read_only("value", Kind::Text),
        read_only("targetType", Kind::Text),
        read_only("targetId", Kind::Text),
    ],
};

/// Tests of volumes.
const HOST_PATHS: &str = "tests/host/volumes.rs: paths_of_the_host_are_made_kept_and_shared";
const SHARED: &str = "tests/host/volumes.rs: shared_volumes_outlive_their_tasks";
const DRIVER: &str = "tests/host/volumes.rs: driver_options_mount_file_systems_and_other_drivers_are_refused";
const PLAIN_EFS: &str = "tests/host/volumes.rs: a_server_that_cannot_be_mounted_costs_one_task_and_no_more";
const EFS_HELPER: &str = "tests/host/volumes.rs: what_needs_a_mount_helper_is_refused_without_it";
const WITH_HELPER: &str = "where amazon-efs-utils is installed, else refused; the task's own role is not handed over";
const ON_THE_HOST: &str = "mount it on the host and name it as host.sourcePath";

static VOLUME: Shape = Shape {
    name: "Volume",
    members: &[
        works("name", Kind::Text)
            .required()
            .rule(Rule::Grammar(grammar::volume_name))
            .shown_by("tests/host/volumes.rs: a_scratch_volume_is_shared_filled_once_and_gone_with_its_task"),
        works("host", Kind::Structure(&HOST_VOLUME)),
        works("dockerVolumeConfiguration", Kind::Structure(&DOCKER_VOLUME)),
        partly(
            "efsVolumeConfiguration",
            Kind::Structure(&EFS_VOLUME),
            "NFS 4.1 to the file system's own name, or to CORACLE_EFS_ENDPOINT",
        )
        .shown_by(PLAIN_EFS),
        refused(
            "s3filesVolumeConfiguration",
            Kind::Structure(&S3FILES_VOLUME),
            "S3 Files needs an agent of Amazon's",
            ON_THE_HOST,
        ),
        refused(
            "fsxWindowsFileServerVolumeConfiguration",
            Kind::Structure(&FSX_VOLUME),
            "the share's password cannot be handed to its mount in a safe way yet",
            ON_THE_HOST,
        ),
        partly("configuredAtLaunch", Kind::Boolean, "false only: there are no services yet to configure it")
            .shown_by("tests/host/volumes.rs: driver_options_mount_file_systems_and_other_drivers_are_refused"),
    ],
};

static HOST_VOLUME: Shape =
    Shape { name: "HostVolumeProperties", members: &[works("sourcePath", Kind::Text).shown_by(HOST_PATHS)] };

static DOCKER_VOLUME: Shape = Shape {
    name: "DockerVolumeConfiguration",
    members: &[
        works("scope", Kind::Text).one_of(&["task", "shared"]).shown_by(SHARED),
        works("autoprovision", Kind::Boolean).shown_by(SHARED),
        partly("driver", Kind::Text, "local only").shown_by(DRIVER),
        partly("driverOpts", Kind::TextMap, "type, device and o of Docker's local driver").shown_by(DRIVER),
        works("labels", Kind::TextMap).shown_by(SHARED),
    ],
};

const TRANSIT_PORT: Member = works("transitEncryptionPort", Kind::Integer).within(0, u16::MAX as i64);

static EFS_VOLUME: Shape = Shape {
    name: "EFSVolumeConfiguration",
    members: &[
        works("fileSystemId", Kind::Text).required().shown_by(PLAIN_EFS),
        works("rootDirectory", Kind::Text).shown_by(PLAIN_EFS),
        partly("transitEncryption", Kind::Text, WITH_HELPER).one_of(SWITCH).shown_by(EFS_HELPER),
        partly("transitEncryptionPort", Kind::Integer, WITH_HELPER).within(0, u16::MAX as i64).shown_by(EFS_HELPER),
        works("authorizationConfig", Kind::Structure(&EFS_AUTHORIZATION)),
    ],
};

static EFS_AUTHORIZATION: Shape = Shape {
    name: "EFSAuthorizationConfig",
    members: &[
        partly("accessPointId", Kind::Text, WITH_HELPER).shown_by(EFS_HELPER),
        partly("iam", Kind::Text, WITH_HELPER).one_of(SWITCH).shown_by(EFS_HELPER),
    ],
};

static S3FILES_VOLUME: Shape = Shape {
    name: "S3FilesVolumeConfiguration",
    members: &[
        works("fileSystemArn", Kind::Text).required(),
        works("rootDirectory", Kind::Text),
        TRANSIT_PORT,
        works("accessPointArn", Kind::Text),
    ],
};

static FSX_VOLUME: Shape = Shape {
    name: "FSxWindowsFileServerVolumeConfiguration",
    members: &[
        works("fileSystemId", Kind::Text).required(),
        works("rootDirectory", Kind::Text).required(),
        works("authorizationConfig", Kind::Structure(&FSX_AUTHORIZATION)).required(),
    ],
};

static FSX_AUTHORIZATION: Shape = Shape {
    name: "FSxWindowsFileServerAuthorizationConfig",
    members: &[works("credentialsParameter", Kind::Text).required(), works("domain", Kind::Text).required()],
};
