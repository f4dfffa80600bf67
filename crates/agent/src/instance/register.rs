//! What this host is and has, as it is told to the control plane: the settings of Amazon's agent
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-agent-config.html>), and what the kernel says.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use agent_protocol::session::{Generation, Hello, PROTOCOL};
use ecs::ContainerInstanceId;
use ecs::operations::shapes::Attribute;
use ecs::size::CPU_UNITS_PER_VCPU;
use ecs::task_definition::Tag;

use crate::gpu;
use crate::wanted_images::Pull;

/// Ports of Amazon's agent that nothing else may have, SSH's, Docker's, and this control plane's.
pub const RESERVED_PORTS: [u16; 7] = [22, 2375, 2376, 4870, 51678, 51679, 51680];
/// Tasks with interfaces of their own: no cloud counts them here, and subnets end first.
const INTERFACES: u32 = 1_000;
/// "You can specify up to 10 attributes" is said of one PutAttributes; this is for a whole host.
const MAX_ATTRIBUTES: usize = 100;
const KIB_PER_MIB: u64 = 1024;
const INSTANCE_TYPE: &str = "external";

/// Amazon's names of the settings.
pub const CLUSTER: &str = "ECS_CLUSTER";
pub const RESERVED_MEMORY: &str = "ECS_RESERVED_MEMORY";
pub const RESERVED_PORTS_TCP: &str = "ECS_RESERVED_PORTS";
pub const RESERVED_PORTS_UDP: &str = "ECS_RESERVED_PORTS_UDP";
pub const INSTANCE_ATTRIBUTES: &str = "ECS_INSTANCE_ATTRIBUTES";
pub const INSTANCE_TAGS: &str = "ECS_CONTAINER_INSTANCE_TAGS";
pub const PULL_BEHAVIOR: &str = "ECS_IMAGE_PULL_BEHAVIOR";
pub const CLEANUP_WAIT: &str = "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION";

/// Amazon's default of it.
const KEEP_STOPPED: Duration = Duration::from_secs(3 * 3_600);

/// What an operator says of this instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub cluster: String,
    pub region: String,
    /// The region's first where it is not said.
    pub availability_zone: Option<String>,
    /// MiB that no task gets.
    pub reserved_memory_mib: u64,
    pub reserved_ports: Vec<u16>,
    pub reserved_ports_udp: Vec<u16>,
    /// The operator's own, by name.
    pub attributes: Vec<(String, String)>,
    pub tags: Vec<Tag>,
    pub pull: Pull,
    /// From a task's end, as its control plane has taken note of it, until its directory goes.
    pub keep_stopped: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {given:?}: {wanted}")]
pub struct BadSetting {
    pub name: &'static str,
    pub given: String,
    pub wanted: String,
}

#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error("cannot read {path}")]
    Read {
        path: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("{path} says nothing of {what}")]
    Unknown { path: &'static str, what: &'static str },
    #[error("{reserved} MiB are reserved, but this host has {there} MiB of memory")]
    Reserved { reserved: u64, there: u64 },
    #[error("this host's GPUs are not known")]
    Gpus(#[source] gpu::GpuError),
}

impl Settings {
    /// `variable` looks up a variable of the environment.
    ///
    /// # Errors
    /// The first that does not make sense.
    pub fn from_env(region: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Settings, BadSetting> {
        let given = |name| variable(name).filter(|value| !value.trim().is_empty());
        let memory = given(RESERVED_MEMORY).map(|text| {
            let wanted = || bad(RESERVED_MEMORY, &text, "a number of MiB");
            text.trim().parse().map_err(|_| wanted())
        });
        Ok(Settings {
            cluster: given(CLUSTER).unwrap_or_else(|| "default".to_owned()),
            region: region.to_owned(),
            availability_zone: None,
            reserved_memory_mib: memory.transpose()?.unwrap_or(0),
            reserved_ports: given(RESERVED_PORTS_TCP)
                .map_or(Ok(RESERVED_PORTS.to_vec()), |text| ports(RESERVED_PORTS_TCP, &text))?,
            reserved_ports_udp: given(RESERVED_PORTS_UDP)
                .map_or(Ok(Vec::new()), |text| ports(RESERVED_PORTS_UDP, &text))?,
            attributes: given(INSTANCE_ATTRIBUTES)
                .map_or(Ok(Vec::new()), |text| attributes(INSTANCE_ATTRIBUTES, &text))?,
            tags: given(INSTANCE_TAGS).map_or(Ok(Vec::new()), |text| tags(&text))?,
            pull: given(PULL_BEHAVIOR).map_or(Ok(Pull::Newest), |text| pull(&text))?,
            keep_stopped: given(CLEANUP_WAIT).map_or(Ok(KEEP_STOPPED), |text| cleanup_wait(&text))?,
        })
    }
}

fn bad(name: &'static str, given: &str, wanted: &str) -> BadSetting {
    BadSetting { name, given: given.to_owned(), wanted: wanted.to_owned() }
}

fn ports(name: &'static str, text: &str) -> Result<Vec<u16>, BadSetting> {
    serde_json::from_str(text).map_err(|_| bad(name, text, "a JSON list of ports, such as [22, 51678]"))
}

/// As Amazon's agent has them: a JSON object of names and values.
///
/// # Errors
/// It is none, or a name or value is none that PutAttributes would take.
pub fn attributes(name: &'static str, text: &str) -> Result<Vec<(String, String)>, BadSetting> {
    let wanted = r#"a JSON object, such as {"stack": "prod"}"#;
    let given: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|_| bad(name, text, wanted))?;
    if given.len() > MAX_ATTRIBUTES {
        return Err(bad(name, text, &format!("at most {MAX_ATTRIBUTES} attributes")));
    }
    let each = given.into_iter().map(|(key, value)| {
        let value = value.as_str().map(str::to_owned).ok_or_else(|| bad(name, text, wanted))?;
        attribute(key, value).map_err(|wanted| bad(name, text, wanted))
    });
    each.collect()
}

/// "The name must contain between 1 and 128 characters … letters (uppercase and lowercase), numbers, hyphens (-),
/// underscores (_), forward slashes (/), back slashes (\\), or periods (.)"; of the value "or spaces", at (@) and colons
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Attribute.html>).
///
/// # Errors
/// What would be right.
pub fn attribute(name: String, value: String) -> Result<(String, String), &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/\\.".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
        return Err("a name has 1 to 128 letters, digits and - _ / \\ .");
    }
    if name.starts_with("ecs.") || name.starts_with("com.amazonaws.") {
        return Err("names that begin with ecs. or com.amazonaws. are Amazon's");
    }
    let good = |byte: u8| plain(byte) || b"@: ".contains(&byte);
    if value.is_empty() || value.len() > 128 || !value.bytes().all(good) || value.trim() != value {
        return Err("a value has 1 to 128 letters, digits, spaces and - _ / \\ . @ :, no space at its ends");
    }
    Ok((name, value))
}

fn tags(text: &str) -> Result<Vec<Tag>, BadSetting> {
    let wanted = r#"a JSON object, such as {"team": "web"}"#;
    let given: std::collections::BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|_| bad(INSTANCE_TAGS, text, wanted))?;
    Ok(given.into_iter().map(|(key, value)| Tag { key, value }).collect())
}

fn pull(text: &str) -> Result<Pull, BadSetting> {
    match text.trim() {
        "default" => Ok(Pull::Newest),
        "always" => Ok(Pull::Always),
        // What this host has was pulled by an agent, or brought by somebody who means it to be used.
        "once" | "prefer-cached" => Ok(Pull::Missing),
        _ => Err(bad(PULL_BEHAVIOR, text, "default, always, once or prefer-cached")),
    }
}

/// As Go writes durations. Amazon's agent takes no less than a minute; here a task may go at once.
fn cleanup_wait(text: &str) -> Result<Duration, BadSetting> {
    duration(text.trim()).ok_or_else(|| bad(CLEANUP_WAIT, text, "a duration, such as 3h, 90m or 1h30m10s"))
}

fn duration(text: &str) -> Option<Duration> {
    let mut whole = Duration::ZERO;
    let mut left = text;
    while !left.is_empty() {
        let digits = left.find(|character: char| !character.is_ascii_digit())?;
        let (number, rest) = left.split_at(digits);
        let number: u32 = number.parse().ok()?;
        // The longer name first: "m" begins "ms".
        let units = [
            ("ms", Duration::from_millis(1)),
            ("s", Duration::from_secs(1)),
            ("m", Duration::from_secs(60)),
            ("h", Duration::from_secs(3_600)),
        ];
        let (name, unit) = units.into_iter().find(|(name, _)| rest.starts_with(name))?;
        whole = whole.checked_add(unit.checked_mul(number)?)?;
        left = &rest[name.len()..];
    }
    (!text.is_empty()).then_some(whole)
}

/// What a control plane is told first, but for who the instance is and what it has been assigned.
///
/// # Errors
/// /proc, or a GPU's driver, does not say.
pub fn hello(settings: &Settings) -> Result<Hello, FactsError> {
    let memory = memory_mib()?;
    let memory_mib = memory
        .checked_sub(settings.reserved_memory_mib)
        .filter(|left| *left > 0)
        .ok_or(FactsError::Reserved { reserved: settings.reserved_memory_mib, there: memory })?;
    // Without an answer there is at least the one that asks.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Hello {
        protocol: PROTOCOL,
        instance: None,
        cluster: settings.cluster.clone(),
        token: None,
        boot_id: line("/proc/sys/kernel/random/boot_id")?,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        cpu: u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(CPU_UNITS_PER_VCPU),
        memory_mib,
        reserved_ports: settings.reserved_ports.clone(),
        reserved_ports_udp: settings.reserved_ports_udp.clone(),
        gpu_ids: gpu::ids(&gpu::Sources::default()).map_err(FactsError::Gpus)?,
        interfaces: INTERFACES,
        attributes: all_attributes(settings),
        tags: settings.tags.clone(),
        host_name: line("/proc/sys/kernel/hostname")?,
        written: Generation::default(),
        reads_logs: true,
    })
}

/// The same with what is known by now.
pub fn known(hello: &Hello, instance: Option<&ContainerInstanceId>, written: Generation) -> Hello {
    Hello { instance: instance.cloned(), written, ..hello.clone() }
}

fn line(path: &'static str) -> Result<String, FactsError> {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|cause| FactsError::Read { path, cause })
}

fn memory_mib() -> Result<u64, FactsError> {
    const MEMINFO: &str = "/proc/meminfo";
    let unknown = FactsError::Unknown { path: MEMINFO, what: "MemTotal" };
    total_mib(&line(MEMINFO)?).ok_or(unknown)
}

/// Of `/proc/meminfo`.
fn total_mib(text: &str) -> Option<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / KIB_PER_MIB)
}

fn all_attributes(settings: &Settings) -> Vec<Attribute> {
    let zone = settings.availability_zone.clone().unwrap_or_else(|| format!("{}a", settings.region));
    let built_in = [
        ("ecs.os-type", "linux".to_owned()),
        ("ecs.os-family", "LINUX".to_owned()),
        ("ecs.cpu-architecture", architecture().to_owned()),
        ("ecs.availability-zone", zone),
        ("ecs.instance-type", INSTANCE_TYPE.to_owned()),
    ];
    let with_values = built_in.map(|(name, value)| (name.to_owned(), Some(value))).into_iter();
    let own = settings.attributes.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
    let capabilities = capabilities().into_iter().map(|name| (name, None));
    let all = with_values.chain(capabilities).chain(own);
    all.map(|(name, value)| Attribute { name: Some(name), value, ..Attribute::default() }).collect()
}

/// `runtimePlatform`'s words in lower case, as Amazon's agent tells them.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}

/// What a task definition may ask for and does not get here.
const LACKING: [&str; 4] = [
    "com.amazonaws.ecs.capability.selinux",
    "com.amazonaws.ecs.capability.apparmor",
    "ecs.capability.aws-appmesh",
    "ecs.capability.fault-injection",
];

/// That no definition asks for, and clients look for.
const BESIDE: [&str; 4] = [
    "ecs.capability.execute-command",
    "ecs.capability.increased-task-cpu-limit",
    "ecs.capability.firelens.non-root-user",
    "ecs.capability.full-sync",
];

fn capabilities() -> Vec<String> {
    let has_journal = Path::new("/run/systemd/journal/socket").exists();
    let all = ecs::capability::all().into_iter();
    let here = all.filter(|name| !LACKING.contains(&name.as_str()) && (has_journal || !name.ends_with("journald")));
    here.chain(BESIDE.into_iter().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Settings, BadSetting> {
        Settings::from_env("eu-west-1", |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn amazons_variables_are_read_as_its_agent_reads_them() {
        let settings = from(&[
            ("ECS_CLUSTER", "harbour"),
            ("ECS_RESERVED_MEMORY", "256"),
            ("ECS_RESERVED_PORTS", "[22, 80]"),
            ("ECS_RESERVED_PORTS_UDP", "[53]"),
            ("ECS_INSTANCE_ATTRIBUTES", r#"{"stack": "prod"}"#),
            ("ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached"),
            ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "1h30m10s5ms"),
        ])
        .expect("good settings");
        assert_eq!(settings.keep_stopped, Duration::from_millis(5_410_005));
        assert_eq!((settings.cluster.as_str(), settings.reserved_memory_mib), ("harbour", 256));
        assert_eq!((settings.reserved_ports, settings.reserved_ports_udp), (vec![22, 80], vec![53]));
        assert_eq!(settings.attributes, [("stack".to_owned(), "prod".to_owned())]);
        assert_eq!(settings.pull, Pull::Missing);
        let silent = from(&[]).expect("nothing has to be said");
        assert_eq!((silent.cluster.as_str(), silent.pull), ("default", Pull::Newest));
        assert_eq!(silent.reserved_ports, RESERVED_PORTS);
        for (name, value) in [
            ("ECS_RESERVED_MEMORY", "-1"),
            ("ECS_RESERVED_PORTS", "22"),
            ("ECS_RESERVED_PORTS", "[70000]"),
            ("ECS_INSTANCE_ATTRIBUTES", r#"{"ecs.os-type": "beos"}"#),
            ("ECS_INSTANCE_ATTRIBUTES", r#"{"a": 1}"#),
            ("ECS_IMAGE_PULL_BEHAVIOR", "never"),
            ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "3 hours"),
            ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "90"),
        ] {
            let refused = from(&[(name, value)]).expect_err(value);
            assert_eq!((refused.name, refused.given.as_str()), (name, value));
        }
    }

    #[test]
    fn this_host_tells_what_it_has_less_what_is_reserved() {
        let mut settings = from(&[]).expect("nothing has to be said");
        let all = hello(&settings).expect("every kernel says so");
        assert!(all.cpu >= 1024 && all.cpu.is_multiple_of(1024));
        settings.reserved_memory_mib = 64;
        assert_eq!(hello(&settings).expect("told").memory_mib, all.memory_mib - 64);
        settings.reserved_memory_mib = all.memory_mib;
        assert!(matches!(hello(&settings), Err(FactsError::Reserved { .. })));
        let value = |name: &str| {
            let found = all.attributes.iter().find(|attribute| attribute.name.as_deref() == Some(name));
            found.and_then(|attribute| attribute.value.clone())
        };
        assert_eq!(value("ecs.availability-zone").as_deref(), Some("eu-west-1a"));
        assert_eq!(value("ecs.os-type").as_deref(), Some("linux"));
        assert!(all.attributes.iter().any(|one| one.name.as_deref() == Some("ecs.capability.task-eni")));
    }

    #[test]
    fn memory_is_counted_in_mib() {
        assert_eq!(total_mib("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16));
        assert_eq!(total_mib("MemTotal: many\n"), None);
    }
}
