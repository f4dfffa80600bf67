//! The grammars of single texts in a task definition. Each function returns what would be right.

use std::net::IpAddr;

use crate::size;

/// Longest family, container name, image name and user.
pub const MAX_NAME_LENGTH: usize = 255;
/// "Maximum key length - 128 Unicode characters in UTF-8", "Maximum value length - 256", API_RegisterTaskDefinition.
pub const MAX_TAG_KEY_LENGTH: usize = 128;
pub const MAX_TAG_VALUE_LENGTH: usize = 256;
/// "The name can include up to 64 characters", API_PortMapping.
pub const MAX_PORT_NAME_LENGTH: usize = 64;
/// The kernel's `__NEW_UTS_LEN`.
pub const MAX_HOSTNAME_LENGTH: usize = 64;
/// RFC 1035, 2.3.4.
pub const MAX_DOMAIN_LENGTH: usize = 253;
/// Docker's highest user and group id.
pub const MAX_ID: u32 = i32::MAX as u32;

type Verdict = Result<(), String>;

fn wanted(right: bool, what: impl Into<String>) -> Verdict {
    if right { Ok(()) } else { Err(what.into()) }
}

fn is_name(text: &str) -> bool {
    let grammar = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (1..=MAX_NAME_LENGTH).contains(&text.len()) && grammar
}

pub(crate) fn family(text: &str) -> Verdict {
    wanted(is_name(text), format!("a family is 1 to {MAX_NAME_LENGTH} letters, digits, '-' and '_'"))
}

pub(crate) fn container_name(text: &str) -> Verdict {
    wanted(is_name(text), format!("a container name is 1 to {MAX_NAME_LENGTH} letters, digits, '-' and '_'"))
}

/// "Up to 255 letters (uppercase and lowercase), numbers, underscores, and hyphens are allowed", `name` of API_Volume.
pub(crate) fn volume_name(text: &str) -> Verdict {
    wanted(is_name(text), format!("a volume name is 1 to {MAX_NAME_LENGTH} letters, digits, '-' and '_'"))
}

/// "The 255 character limit applies only to the repository URL and image name (everything before the @ sign)"; the
/// rest of a reference's grammar is for whoever pulls it.
pub(crate) fn image(text: &str) -> Verdict {
    let name = text.split('@').next().unwrap_or_default();
    wanted(
        !name.is_empty() && name.len() <= MAX_NAME_LENGTH && text.len() <= 2 * MAX_NAME_LENGTH,
        format!("an image is a name of 1 to {MAX_NAME_LENGTH} characters: \"nginx:1.27\", \"registry/name@sha256:…\""),
    )
}

pub(crate) fn task_cpu(text: &str) -> Verdict {
    size::cpu_units(text).map(drop).map_err(|error| error.to_string())
}

pub(crate) fn task_memory(text: &str) -> Verdict {
    size::memory_mib(text).map(drop).map_err(|error| error.to_string())
}

pub(crate) fn port_range(text: &str) -> Verdict {
    text.parse::<crate::port::PortRange>().map(drop).map_err(|error| error.to_string())
}

pub(crate) fn port_name(text: &str) -> Verdict {
    let grammar =
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'));
    wanted(
        grammar && !text.starts_with('-') && (1..=MAX_PORT_NAME_LENGTH).contains(&text.len()),
        format!("a port mapping's name is 1 to {MAX_PORT_NAME_LENGTH} of a-z, 0-9, '_' and '-', the first no '-'"),
    )
}

pub(crate) fn variable_name(text: &str) -> Verdict {
    wanted(!text.is_empty() && !text.contains('='), "an environment variable's name is not empty and has no '='")
}

fn is_host_name(text: &str, most: usize) -> bool {
    let label = |label: &str| {
        let grammar = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        (1..=63).contains(&label.len()) && grammar && !label.starts_with('-') && !label.ends_with('-')
    };
    (1..=most).contains(&text.len()) && text.split('.').all(label)
}

pub(crate) fn hostname(text: &str) -> Verdict {
    wanted(
        is_host_name(text, MAX_HOSTNAME_LENGTH),
        format!("a hostname is up to {MAX_HOSTNAME_LENGTH} letters, digits, '-' and '_', in parts joined by '.'"),
    )
}

pub(crate) fn hosts_name(text: &str) -> Verdict {
    wanted(
        is_host_name(text, MAX_DOMAIN_LENGTH),
        format!(
            "a name for /etc/hosts is up to {MAX_DOMAIN_LENGTH} letters, digits, '-' and '_', in parts joined by '.'"
        ),
    )
}

pub(crate) fn search_domain(text: &str) -> Verdict {
    let domain = text.strip_suffix('.').unwrap_or(text);
    wanted(
        text == "." || is_host_name(domain, MAX_DOMAIN_LENGTH),
        format!("a search domain is up to {MAX_DOMAIN_LENGTH} letters, digits, '-' and '_', in parts joined by '.'"),
    )
}

pub(crate) fn ip_address(text: &str) -> Verdict {
    wanted(text.parse::<IpAddr>().is_ok(), "an IP address is wanted: \"10.0.0.2\" or \"2001:db8::2\"")
}

pub(crate) fn working_directory(text: &str) -> Verdict {
    wanted(text.starts_with('/'), "a working directory is an absolute path: \"/srv\"")
}

/// `user`, `user:group`, `uid`, `uid:gid`, `user:gid` or `uid:group`.
pub(crate) fn user(text: &str) -> Verdict {
    let part = |part: &str| {
        let number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let id = part.parse::<u32>().is_ok_and(|id| id <= MAX_ID);
        let odd = |char: char| char.is_whitespace() || char.is_control() || matches!(char, ':' | '/' | ',');
        let name = !part.is_empty() && part.len() <= MAX_NAME_LENGTH && !part.contains(odd) && !part.starts_with('-');
        if number { id } else { name }
    };
    let right = match text.split_once(':') {
        Some((user, group)) => part(user) && part(group),
        None => part(text),
    };
    wanted(right, format!("a user is NAME or ID, or one of them with \":GROUP\" or \":GID\"; ids are 0 to {MAX_ID}"))
}

/// Docker's spellings of what ECS passes on to it, `key:value` or `key=value`
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>, `dockerSecurityOptions`).
pub(crate) fn security_option(text: &str) -> Verdict {
    let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    let label = |value: &str| {
        let parts = ["user:", "role:", "type:", "level:"];
        value == "disable" || parts.iter().any(|part| value.strip_prefix(part).is_some_and(|rest| !rest.is_empty()))
    };
    let right = match key {
        "no-new-privileges" => matches!(value, "" | "true" | "false"),
        "seccomp" => matches!(value, "unconfined" | "builtin"),
        "apparmor" => !value.is_empty() && !value.contains(char::is_control),
        "label" => label(value) && !value.contains(char::is_control),
        // Amazon's, and refused by `lint`.
        "credentialspec" => !value.is_empty(),
        _ => false,
    };
    wanted(
        right,
        "the options here are no-new-privileges, seccomp:unconfined, apparmor:PROFILE, label:disable and \
         label:user:, label:role:, label:type: or label:level: with a value"
            .to_owned(),
    )
}

/// "The two formats are credentialspec:MyARN and credentialspecdomainless:MyARN", `credentialSpecs` of
/// API_ContainerDefinition.
pub(crate) fn credential_spec(text: &str) -> Verdict {
    let arn = ["credentialspec:", "credentialspecdomainless:"].iter().find_map(|start| text.strip_prefix(start));
    wanted(
        arn.is_some_and(|arn| arn.starts_with("arn:")),
        "a credential spec is \"credentialspec:\" or \"credentialspecdomainless:\" with an ARN",
    )
}

/// "Valid values" of API_KernelCapabilities.
pub const CAPABILITIES: [&str; 38] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

pub(crate) fn capability(text: &str) -> Verdict {
    if CAPABILITIES.contains(&text) {
        return Ok(());
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    Err(match crate::suggest::closest(short, CAPABILITIES.iter().copied()) {
        Some(name) => format!("Amazon ECS spells it \"{name}\""),
        None => "no capability that Amazon ECS knows; names go without \"CAP_\", for example \"NET_ADMIN\"".to_owned(),
    })
}

/// "Valid values" of `mountOptions`, API_Tmpfs.
#[rustfmt::skip]
const TMPFS_OPTIONS: [&str; 39] = [
    "defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "remount",
    "mand", "nomand", "atime", "noatime", "diratime", "nodiratime", "bind", "rbind", "unbindable", "runbindable",
    "private", "rprivate", "shared", "rshared", "slave", "rslave", "relatime", "norelatime", "strictatime",
    "nostrictatime", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol",
];
const TMPFS_OPTIONS_WITH_VALUES: [&str; 6] = ["mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// A word of Amazon's list; six of them have a value behind `=`.
pub(crate) fn tmpfs_option(text: &str) -> Verdict {
    let right = match text.split_once('=') {
        Some((name, value)) => TMPFS_OPTIONS_WITH_VALUES.contains(&name) && !value.is_empty() && !value.contains(','),
        None => TMPFS_OPTIONS.contains(&text),
    };
    wanted(right, format!("a tmpfs has the options {}", TMPFS_OPTIONS.join(", ")))
}

/// How a secret is called: `value_from` reads it.
pub(crate) fn value_from(text: &str) -> Verdict {
    crate::value_from::ValueFrom::parse(text).map(drop).map_err(|error| error.to_string())
}

/// A secret's ARN, or its name where it is in the task's region.
pub(crate) fn credentials_parameter(text: &str) -> Verdict {
    let right = match text.strip_prefix("arn:") {
        Some(_) => crate::value_from::ValueFrom::parse(text).map(drop),
        None => crate::value_from::Name::parse(text).map(drop),
    };
    right.map_err(|error| error.to_string())
}

/// The name of a variable, or the path of a file: an absolute one is no variable's name that anybody uses.
pub(crate) fn secret_name(text: &str) -> Verdict {
    if !text.starts_with('/') {
        return variable_name(text);
    }
    let plain = text.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")) && !text.contains('\0');
    wanted(plain, "a secret's file is an absolute path without \".\", \"..\" and empty parts")
}

pub(crate) fn environment_file(text: &str) -> Verdict {
    crate::environment_file::Source::parse(text).map(drop).map_err(|error| error.to_string())
}

fn has_reserved_prefix(text: &str) -> bool {
    text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
}

/// Amazon's own tags start with `aws:`; only answers have them.
pub(crate) fn is_amazons_tag(key: &str) -> bool {
    has_reserved_prefix(key)
}

fn is_tag_text(text: &str) -> bool {
    let plain = |char: char| char.is_alphanumeric() || char.is_whitespace() || "_.:/=+-@".contains(char);
    text.chars().all(|char| plain(char) && !char.is_control())
}

pub(crate) fn tag_key(text: &str) -> Verdict {
    let length = text.chars().count();
    wanted(
        (1..=MAX_TAG_KEY_LENGTH).contains(&length) && is_tag_text(text),
        format!("a tag key is 1 to {MAX_TAG_KEY_LENGTH} letters, digits, spaces and _ . : / = + - @"),
    )
}

pub(crate) fn tag_value(text: &str) -> Verdict {
    wanted(
        text.chars().count() <= MAX_TAG_VALUE_LENGTH && is_tag_text(text),
        format!("a tag value is up to {MAX_TAG_VALUE_LENGTH} letters, digits, spaces and _ . : / = + - @"),
    )
}
