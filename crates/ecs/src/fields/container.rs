//! Members of a container definition.

use super::{INT_MAX, Kind, Rule, Shape, TEXTS, no_effect, partly, refused, works};
use crate::grammar;
use crate::size::{MAX_MEMORY_MIB, MIN_MEMORY_MIB};

const MEMORY: Rule = Rule::Within(MIN_MEMORY_MIB as i64, MAX_MEMORY_MIB as i64);
const PORT: Rule = Rule::Within(0, u16::MAX as i64);
const ANY_SECONDS: Rule = Rule::Within(0, INT_MAX);

pub static CONTAINER_DEFINITION: Shape = Shape {
    name: "ContainerDefinition",
    members: &[
        works("name", Kind::Text)
            .required()
            .rule(Rule::Grammar(grammar::container_name))
            .shown_by("tests/host/run.rs: output_has_the_containers_name_before_each_line_and_no_colours"),
        works("image", Kind::Text)
            .required()
            .rule(Rule::Grammar(grammar::image))
            .shown_by("tests/host/image.rs: an_honest_registry_by_tag_by_digest_and_never_twice"),
        works("cpu", Kind::Integer).within(0, INT_MAX).shown_by("tests/host/limits.rs: cpu_is_a_share"),
        works("memory", Kind::Integer)
            .rule(MEMORY)
            .shown_by("tests/host/limits.rs: memory_is_a_limit_and_memory_reservation_a_soft_one"),
        works("memoryReservation", Kind::Integer)
            .rule(MEMORY)
            .shown_by("tests/host/limits.rs: memory_is_a_limit_and_memory_reservation_a_soft_one"),
        works("essential", Kind::Boolean).shown_by("tests/host/run.rs: the_exit_code_is_the_essential_containers"),
        works("portMappings", Kind::List(&Kind::Structure(&PORT_MAPPING))),
        works("entryPoint", TEXTS).shown_by("tests/host/run.rs: entry_point_and_command_follow_dockers_rules"),
        works("command", TEXTS).shown_by("tests/host/run.rs: entry_point_and_command_follow_dockers_rules"),
        works("environment", Kind::List(&Kind::Structure(&ENVIRONMENT_VARIABLE))),
        works("dependsOn", Kind::List(&Kind::Structure(&DEPENDENCY)))
            .shown_by("tests/host/lifecycle.rs: a_container_starts_when_every_condition_is_met"),
        works("startTimeout", Kind::Integer)
            .rule(ANY_SECONDS)
            .shown_by("tests/host/lifecycle.rs: a_condition_that_cannot_be_met_any_more_stops_the_task_and_says_which"),
        works("stopTimeout", Kind::Integer)
            .rule(ANY_SECONDS)
            .shown_by("tests/host/run.rs: stop_timeout_ends_in_sigkill"),
        works("hostname", Kind::Text)
            .rule(Rule::Grammar(grammar::hostname))
            .shown_by("tests/host/network.rs: bridge_tasks_see_their_own_name_and_the_hosts_name_servers"),
        works("user", Kind::Text)
            .rule(Rule::Grammar(grammar::user))
            .shown_by("tests/host/isolation.rs: a_user_has_six_forms"),
        works("workingDirectory", Kind::Text)
            .rule(Rule::Grammar(grammar::working_directory))
            .shown_by("tests/host/run.rs: entry_point_and_command_follow_dockers_rules"),
        works("disableNetworking", Kind::Boolean)
            .shown_by("tests/host/network.rs: containers_of_one_task_have_networks_of_their_own_in_bridge_mode"),
        partly("privileged", Kind::Boolean, "unless the host disables privileged containers")
            .shown_by("tests/host/confinement.rs: c12_privileged_is_privileged_and_can_be_forbidden"),
        works("readonlyRootFilesystem", Kind::Boolean)
            .shown_by("tests/host/confinement.rs: a_read_only_root_file_system_is_read_only"),
        works("dnsServers", TEXTS)
            .rule(Rule::Grammar(grammar::ip_address))
            .shown_by("tests/host/network.rs: bridge_tasks_see_their_own_name_and_the_hosts_name_servers"),
        works("dnsSearchDomains", TEXTS)
            .rule(Rule::Grammar(grammar::search_domain))
            .shown_by("tests/host/network.rs: bridge_tasks_see_their_own_name_and_the_hosts_name_servers"),
        works("extraHosts", Kind::List(&Kind::Structure(&HOST_ENTRY))),
        partly(
            "dockerSecurityOptions",
            TEXTS,
            "no-new-privileges, seccomp:unconfined, and apparmor:… and label:… where the host has the module",
        )
        .rule(Rule::Grammar(grammar::security_option))
        .shown_by("tests/host/isolation.rs: seccomp_can_be_switched_off_and_unknown_options_are_refused"),
        works("dockerLabels", Kind::TextMap).shown_by("tests/host/isolation.rs: labels_are_shown_by_inspect"),
        works("ulimits", Kind::List(&Kind::Structure(&ULIMIT))),
        works("systemControls", Kind::List(&Kind::Structure(&SYSTEM_CONTROL))),
        works("linuxParameters", Kind::Structure(&LINUX_PARAMETERS)),
        works("logConfiguration", Kind::Structure(&LOG_CONFIGURATION)),
        works("repositoryCredentials", Kind::Structure(&REPOSITORY_CREDENTIALS))
            .shown_by("tests/host/secrets.rs: an_image_is_pulled_with_the_login_that_the_store_has"),
        works("healthCheck", Kind::Structure(&HEALTH_CHECK))
            .shown_by("tests/host/lifecycle.rs: health_is_what_the_check_says_and_is_shown"),
        works("restartPolicy", Kind::Structure(&RESTART_POLICY))
            .shown_by("tests/host/lifecycle.rs: a_container_is_restarted_with_its_files_its_address_and_its_log"),
        no_effect("versionConsistency", Kind::Text, "a tag is looked up again for every task that has to pull it")
            .one_of(&["enabled", "disabled"]),
        works("links", TEXTS).shown_by("tests/host/links.rs: a_linked_container_is_reached_by_its_names"),
        works("environmentFiles", Kind::List(&Kind::Structure(&ENVIRONMENT_FILE)))
            .shown_by("tests/host/environment.rs: files_come_from_s3_and_from_this_host"),
        works("mountPoints", Kind::List(&Kind::Structure(&MOUNT_POINT))),
        works("volumesFrom", Kind::List(&Kind::Structure(&VOLUME_FROM))),
        works("secrets", Kind::List(&Kind::Structure(&SECRET)))
            .shown_by("tests/host/secrets.rs: secrets_reach_their_container_and_nobody_else"),
        works("interactive", Kind::Boolean)
            .shown_by("tests/host/terminal.rs: an_interactive_container_reads_what_run_reads_until_that_ends"),
        works("pseudoTerminal", Kind::Boolean)
            .shown_by("tests/host/terminal.rs: a_pseudo_terminal_is_the_containers_own_and_its_output_is_in_the_log"),
        partly("resourceRequirements", Kind::List(&Kind::Structure(&RESOURCE_REQUIREMENT)), WHOLE_GPUS)
            .shown_by("crates/agent/src/gpu.rs: a_container_is_told_of_its_gpus"),
        works("firelensConfiguration", Kind::Structure(&FIRELENS))
            .shown_by("tests/host/firelens.rs: a_router_gets_its_configuration_and_the_others_output"),
        refused("credentialSpecs", TEXTS, "Active Directory credentials are not fetched", "remove credentialSpecs")
            .rule(Rule::Grammar(grammar::credential_spec)),
    ],
};

pub(super) const WHOLE_GPUS: &str = "whole GPUs, as device nodes: the image brings the driver's libraries";

static REPOSITORY_CREDENTIALS: Shape = Shape {
    name: "RepositoryCredentials",
    members: &[works("credentialsParameter", Kind::Text)
        .required()
        .rule(Rule::Grammar(grammar::credentials_parameter))],
};

const UNREAD_PORT: &str = "only Service Connect and gateways read it, and they do not exist here yet";

static PORT_MAPPING: Shape = Shape {
    name: "PortMapping",
    members: &[
        works("containerPort", Kind::Integer)
            .rule(PORT)
            .shown_by("tests/host/network.rs: a_static_port_answers_on_loopback_the_lan_and_from_containers"),
        works("hostPort", Kind::Integer)
            .rule(PORT)
            .shown_by("tests/host/network.rs: a_static_port_answers_on_loopback_the_lan_and_from_containers"),
        works("protocol", Kind::Text).one_of(&["tcp", "udp"]).shown_by("tests/host/network.rs: udp_and_ranges"),
        works("containerPortRange", Kind::Text)
            .rule(Rule::Grammar(grammar::port_range))
            .shown_by("tests/host/network.rs: udp_and_ranges"),
        no_effect("name", Kind::Text, UNREAD_PORT).rule(Rule::Grammar(grammar::port_name)),
        no_effect("appProtocol", Kind::Text, UNREAD_PORT).one_of(&["http", "http2", "grpc"]),
    ],
};

/// Also RunTask's overrides have it: a variable of the environment.
pub(super) static ENVIRONMENT_VARIABLE: Shape = Shape {
    name: "KeyValuePair",
    members: &[
        works("name", Kind::Text)
            .required()
            .rule(Rule::Grammar(grammar::variable_name))
            .shown_by("tests/host/run.rs: overrides_and_environment_from_the_command_line"),
        works("value", Kind::Text).shown_by("tests/host/run.rs: overrides_and_environment_from_the_command_line"),
    ],
};

/// The same shape where it is not the environment.
pub(super) static KEY_VALUE_PAIR: Shape =
    Shape { name: "KeyValuePair", members: &[works("name", Kind::Text), works("value", Kind::Text)] };

static DEPENDENCY: Shape = Shape {
    name: "ContainerDependency",
    members: &[
        works("containerName", Kind::Text)
            .required()
            .rule(Rule::Grammar(grammar::container_name))
            .shown_by("tests/host/lifecycle.rs: a_diamond_of_dependencies_starts_in_order"),
        works("condition", Kind::Text)
            .required()
            .one_of(&["START", "COMPLETE", "SUCCESS", "HEALTHY"])
            .shown_by("tests/host/lifecycle.rs: a_container_starts_when_every_condition_is_met"),
    ],
};

static HOST_ENTRY: Shape = Shape {
    name: "HostEntry",
    members: &[
        works("hostname", Kind::Text)
            .required()
            .rule(Rule::Grammar(grammar::hosts_name))
            .shown_by("tests/host/confinement.rs: c09_limits_hostname_and_generated_files"),
        works("ipAddress", Kind::Text)
            .required()
            .rule(Rule::Grammar(grammar::ip_address))
            .shown_by("tests/host/confinement.rs: c09_limits_hostname_and_generated_files"),
    ],
};

static ULIMIT: Shape = Shape {
    name: "Ulimit",
    members: &[
        works("name", Kind::Text)
            .required()
            .one_of(&[
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
            ])
            .shown_by("tests/host/confinement.rs: c09_limits_hostname_and_generated_files"),
        works("softLimit", Kind::Integer)
            .required()
            .within(-1, INT_MAX)
            .shown_by("tests/host/confinement.rs: c09_limits_hostname_and_generated_files"),
        works("hardLimit", Kind::Integer)
            .required()
            .within(-1, INT_MAX)
            .shown_by("tests/host/confinement.rs: c09_limits_hostname_and_generated_files"),
    ],
};

static SYSTEM_CONTROL: Shape = Shape {
    name: "SystemControl",
    members: &[
        works("namespace", Kind::Text)
            .required()
            .shown_by("crates/runtime/tests/container/basics.rs: ulimits_and_sysctls_are_set"),
        works("value", Kind::Text)
            .required()
            .shown_by("crates/runtime/tests/container/basics.rs: ulimits_and_sysctls_are_set"),
    ],
};

static LINUX_PARAMETERS: Shape = Shape {
    name: "LinuxParameters",
    members: &[
        works("capabilities", Kind::Structure(&CAPABILITIES)),
        works("sharedMemorySize", Kind::Integer)
            .within(0, MAX_MEMORY_MIB as i64)
            .shown_by("tests/host/confinement.rs: c07_shared_memory_is_64_mib_or_as_asked"),
        works("initProcessEnabled", Kind::Boolean)
            .shown_by("tests/host/isolation.rs: an_init_is_process_one_and_reaps"),
        partly("maxSwap", Kind::Integer, "together with memory, on hosts whose kernel accounts swap")
            .within(0, INT_MAX)
            .shown_by("tests/host/resources.rs: max_swap_is_beside_memory"),
        partly("swappiness", Kind::Integer, "on hosts with cgroup v1; v2 has no such setting")
            .within(0, 100)
            .shown_by("tests/host/resources.rs: swappiness_is_for_version_one"),
        works("devices", Kind::List(&Kind::Structure(&DEVICE))).shown_by(DEVICES),
        works("tmpfs", Kind::List(&Kind::Structure(&TMPFS))).shown_by(TMPFS_TEST),
    ],
};

static CAPABILITIES: Shape = Shape {
    name: "KernelCapabilities",
    members: &[
        works("add", TEXTS)
            .rule(Rule::Grammar(grammar::capability))
            .shown_by("tests/host/confinement.rs: c01_capabilities_are_dockers_default_and_follow_the_definition"),
        works("drop", TEXTS)
            .rule(Rule::Grammar(grammar::capability))
            .shown_by("tests/host/confinement.rs: c01_capabilities_are_dockers_default_and_follow_the_definition"),
    ],
};

const DEVICES: &str = "tests/host/isolation.rs: devices_have_the_hosts_owner_and_only_the_permissions_asked_for";
const TMPFS_TEST: &str = "tests/host/isolation.rs: tmpfs_has_its_size_and_its_options";

static DEVICE: Shape = Shape {
    name: "Device",
    members: &[
        works("hostPath", Kind::Text).required().shown_by(DEVICES),
        works("containerPath", Kind::Text).shown_by(DEVICES),
        works("permissions", TEXTS).one_of(&["read", "write", "mknod"]).shown_by(DEVICES),
    ],
};

static TMPFS: Shape = Shape {
    name: "Tmpfs",
    members: &[
        works("containerPath", Kind::Text).required().shown_by(TMPFS_TEST),
        works("size", Kind::Integer).required().within(1, INT_MAX).shown_by(TMPFS_TEST),
        works("mountOptions", TEXTS).rule(Rule::Grammar(grammar::tmpfs_option)).shown_by(TMPFS_TEST),
    ],
};

static LOG_CONFIGURATION: Shape = Shape {
    name: "LogConfiguration",
    members: &[
        works("logDriver", Kind::Text)
            .required()
            .one_of(&["awslogs", "json-file", "awsfirelens", "fluentd", "gelf", "journald", "splunk", "syslog"])
            // Docker's, and Amazon's agent passes it on.
            .extended_by(&["none"])
            .shown_by("tests/host/shipping.rs: syslog_over_tcp_udp_and_a_local_socket"),
        works("options", Kind::TextMap)
            .shown_by("tests/host/shipping.rs: fluentd_with_dockers_fields_and_long_lines_in_parts"),
        works("secretOptions", Kind::List(&Kind::Structure(&SECRET)))
            .shown_by("tests/host/shipping.rs: a_splunk_token_is_a_secret_that_only_the_collector_sees"),
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

const MOUNT_POINTS: &str = "tests/host/volumes.rs: mount_points_are_made_nested_and_read_only";
const VOLUMES_FROM: &str = "tests/host/volumes.rs: a_container_takes_over_anothers_volumes";

static MOUNT_POINT: Shape = Shape {
    name: "MountPoint",
    members: &[
        works("sourceVolume", Kind::Text).required().shown_by(MOUNT_POINTS),
        works("containerPath", Kind::Text).required().shown_by(MOUNT_POINTS),
        works("readOnly", Kind::Boolean).shown_by(MOUNT_POINTS),
    ],
};

static VOLUME_FROM: Shape = Shape {
    name: "VolumeFrom",
    members: &[
        works("sourceContainer", Kind::Text).required().shown_by(VOLUMES_FROM),
        works("readOnly", Kind::Boolean).shown_by(VOLUMES_FROM),
    ],
};

pub(super) static RESOURCE_REQUIREMENT: Shape = Shape {
    name: "ResourceRequirement",
    members: &[
        works("value", Kind::Text),
        works("type", Kind::Text).required().one_of(&["GPU", "InferenceAccelerator", "NeuronDevice"]),
        refused(
            "sharingStrategy",
            Kind::Structure(&SHARING_STRATEGY),
            "GPUs are not shared by NVIDIA's MPS here",
            "give whole GPUs: \"value\": \"1\"",
        ),
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
