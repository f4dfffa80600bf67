//! Members of RunTask's `overrides`.

use super::container::{ENVIRONMENT_FILE, ENVIRONMENT_VARIABLE, RESOURCE_REQUIREMENT, WHOLE_GPUS};
use super::task::{EPHEMERAL_STORAGE, OWN_LOGINS, TASK_ROLE};
use super::{INT_MAX, Kind, Rule, Shape, TEXTS, no_effect, partly, works};
use crate::grammar;
use crate::size::{MAX_MEMORY_MIB, MIN_MEMORY_MIB};

const MEMORY: Rule = Rule::Within(MIN_MEMORY_MIB as i64, MAX_MEMORY_MIB as i64);

pub static TASK_OVERRIDE: Shape = Shape {
    name: "TaskOverride",
    members: &[
        works("containerOverrides", Kind::List(&Kind::Structure(&CONTAINER_OVERRIDE))),
        works("cpu", Kind::Text)
            .rule(Rule::Grammar(grammar::task_cpu))
            .shown_by("tests/host/members.rs: an_override_gives_the_task_another_size"),
        works("memory", Kind::Text)
            .rule(Rule::Grammar(grammar::task_memory))
            .shown_by("tests/host/members.rs: an_override_gives_the_task_another_size"),
        TASK_ROLE,
        no_effect("executionRoleArn", Kind::Text, OWN_LOGINS),
        works("ephemeralStorage", Kind::Structure(&EPHEMERAL_STORAGE)),
        no_effect(
            "inferenceAcceleratorOverrides",
            Kind::List(&Kind::Structure(&ACCELERATOR_OVERRIDE)),
            "Elastic Inference has ended",
        ),
    ],
};

static CONTAINER_OVERRIDE: Shape = Shape {
    name: "ContainerOverride",
    members: &[
        works("name", Kind::Text)
            .required()
            .shown_by("tests/host/run.rs: overrides_and_environment_from_the_command_line"),
        works("command", TEXTS).shown_by("tests/host/run.rs: overrides_and_environment_from_the_command_line"),
        works("environment", Kind::List(&Kind::Structure(&ENVIRONMENT_VARIABLE))),
        works("cpu", Kind::Integer)
            .within(0, INT_MAX)
            .shown_by("tests/host/members.rs: an_override_gives_a_container_other_sizes"),
        works("memory", Kind::Integer)
            .rule(MEMORY)
            .shown_by("tests/host/members.rs: an_override_gives_a_container_other_sizes"),
        works("memoryReservation", Kind::Integer)
            .rule(MEMORY)
            .shown_by("tests/host/members.rs: an_override_gives_a_container_other_sizes"),
        works("environmentFiles", Kind::List(&Kind::Structure(&ENVIRONMENT_FILE)))
            .shown_by("tests/host/environment.rs: an_override_has_files_of_its_own"),
        partly("resourceRequirements", Kind::List(&Kind::Structure(&RESOURCE_REQUIREMENT)), WHOLE_GPUS)
            .shown_by("crates/ecs/tests/overrides.rs: roles_storage_and_devices_are_those_of_the_override"),
    ],
};

static ACCELERATOR_OVERRIDE: Shape = Shape {
    name: "InferenceAcceleratorOverride",
    members: &[works("deviceName", Kind::Text), works("deviceType", Kind::Text)],
};
