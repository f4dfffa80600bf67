//! Members of the task definition itself, volumes included.

use super::container::{CONTAINER_DEFINITION, KEY_VALUE_PAIR};
use super::{INT_MAX, Kind, Member, Rule, Shape, TEXTS, no_effect, partly, read_only, refused, works};
use crate::grammar;

const SWITCH: &[&str] = &["ENABLED", "DISABLED"];

pub static TASK_DEFINITION: Shape = Shape {
    name: "TaskDefinition",
    members: &[
        works("family", Kind::Text).required().rule(Rule::Grammar(grammar::family)),
        works("containerDefinitions", Kind::List(&Kind::Structure(&CONTAINER_DEFINITION))).required(),
        partly("networkMode", Kind::Text, "bridge (the default), host and none; awsvpc comes with a later version")
            .one_of(&["bridge", "host", "awsvpc", "none"]),
        works("cpu", Kind::Text).rule(Rule::Grammar(grammar::task_cpu)),
        works("memory", Kind::Text).rule(Rule::Grammar(grammar::task_memory)),
        works("runtimePlatform", Kind::Structure(&RUNTIME_PLATFORM)),
        partly("requiresCompatibilities", TEXTS, "EC2 and EXTERNAL; a task for others runs here all the same")
            .one_of(&["EC2", "FARGATE", "EXTERNAL", "MANAGED_INSTANCES"]),
        works("tags", Kind::List(&Kind::Structure(&TAG))),
        no_effect(
            "taskRoleArn",
            Kind::Text,
            "there is no credentials endpoint yet, so containers get no AWS credentials",
        ),
        no_effect(
            "executionRoleArn",
            Kind::Text,
            "images are pulled with the host's docker config, logs stay on this host",
        ),
        no_effect(
            "placementConstraints",
            Kind::List(&Kind::Structure(&PLACEMENT_CONSTRAINT)),
            "the task runs on this host",
        ),
        no_effect("enableFaultInjection", Kind::Boolean, "there is no fault injection endpoint yet"),
        no_effect(
            "ephemeralStorage",
            Kind::Structure(&EPHEMERAL_STORAGE),
            "containers share this host's disk without a quota",
        ),
        no_effect("inferenceAccelerators", Kind::List(&Kind::Structure(&ACCELERATOR)), "Elastic Inference has ended"),
        refused(
            "volumes",
            Kind::List(&Kind::Structure(&VOLUME)),
            "volumes are not made yet",
            "put the data into the image",
        ),
        refused(
            "pidMode",
            Kind::Text,
            "process namespaces are not shared yet",
            "leave pidMode out: every container has its own",
        )
        .one_of(&["host", "task"]),
        refused(
            "ipcMode",
            Kind::Text,
            "IPC namespaces are not shared yet",
            "leave ipcMode out: every container has its own",
        )
        .one_of(&["host", "task", "none"]),
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
        works("cpuArchitecture", Kind::Text).one_of(&["X86_64", "ARM64"]),
        works("operatingSystemFamily", Kind::Text).one_of(&[
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
        ]),
    ],
};

static TAG: Shape = Shape {
    name: "Tag",
    members: &[
        works("key", Kind::Text).required().rule(Rule::Grammar(grammar::tag_key)),
        works("value", Kind::Text).rule(Rule::Grammar(grammar::tag_value)),
    ],
};

static PLACEMENT_CONSTRAINT: Shape = Shape {
    name: "TaskDefinitionPlacementConstraint",
    members: &[works("type", Kind::Text).one_of(&["memberOf"]), works("expression", Kind::Text)],
};

pub(super) static EPHEMERAL_STORAGE: Shape =
    Shape { name: "EphemeralStorage", members: &[works("sizeInGiB", Kind::Integer).required().within(21, 200)] };

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
        partly("isolationMode", Kind::Text, "SHARED only").required().one_of(&[
            "SHARED",
            "ISOLATED_SANDBOX",
            "CONFIDENTIAL_SANDBOX",
        ]),
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

static VOLUME: Shape = Shape {
    name: "Volume",
    members: &[
        works("name", Kind::Text).required().rule(Rule::Grammar(grammar::volume_name)),
        works("host", Kind::Structure(&HOST_VOLUME)),
        works("dockerVolumeConfiguration", Kind::Structure(&DOCKER_VOLUME)),
        works("efsVolumeConfiguration", Kind::Structure(&EFS_VOLUME)),
        works("s3filesVolumeConfiguration", Kind::Structure(&S3FILES_VOLUME)),
        works("fsxWindowsFileServerVolumeConfiguration", Kind::Structure(&FSX_VOLUME)),
        works("configuredAtLaunch", Kind::Boolean),
    ],
};

static HOST_VOLUME: Shape = Shape { name: "HostVolumeProperties", members: &[works("sourcePath", Kind::Text)] };

static DOCKER_VOLUME: Shape = Shape {
    name: "DockerVolumeConfiguration",
    members: &[
        works("scope", Kind::Text).one_of(&["task", "shared"]),
        works("autoprovision", Kind::Boolean),
        works("driver", Kind::Text),
        works("driverOpts", Kind::TextMap),
        works("labels", Kind::TextMap),
    ],
};

const TRANSIT_PORT: Member = works("transitEncryptionPort", Kind::Integer).within(0, u16::MAX as i64);

static EFS_VOLUME: Shape = Shape {
    name: "EFSVolumeConfiguration",
    members: &[
        works("fileSystemId", Kind::Text).required(),
        works("rootDirectory", Kind::Text),
        works("transitEncryption", Kind::Text).one_of(SWITCH),
        TRANSIT_PORT,
        works("authorizationConfig", Kind::Structure(&EFS_AUTHORIZATION)),
    ],
};

static EFS_AUTHORIZATION: Shape = Shape {
    name: "EFSAuthorizationConfig",
    members: &[works("accessPointId", Kind::Text), works("iam", Kind::Text).one_of(SWITCH)],
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
