//! Linux capabilities by name and as the bit sets that the kernel takes. Pure.

use std::collections::BTreeSet;

use ecs::task_definition::KernelCapabilities;

/// Bit n is the n-th name: `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's default set (<https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities>).
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Bit n is capability n.
    pub bits: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "linuxParameters.capabilities.{list}: there is no capability {given:?}; capabilities(7) lists them, ALL means every one"
)]
pub(crate) struct NoSuchCapability {
    pub list: &'static str,
    pub given: String,
}

impl Capabilities {
    pub(crate) const ALL: Self = Self { bits: (1 << NAMES.len()) - 1 };
    pub(crate) const NONE: Self = Self { bits: 0 };

    /// The bounding set of a container: the default less `drop`, plus `add`, so that a name in both is there. `ALL` in
    /// `drop` leaves just what `add` names, `ALL` in `add` gives everything but what `drop` names, as Docker has it
    /// (moby, `caps.TweakCapabilities`).
    ///
    /// # Errors
    /// A name that is no capability.
    pub(crate) fn of_container(
        changes: Option<&KernelCapabilities>,
        privileged: bool,
    ) -> Result<Self, NoSuchCapability> {
        if privileged {
            return Ok(Self::ALL);
        }
        let default = DEFAULT.iter().filter_map(|name| bit(name)).fold(0, |bits, bit| bits | bit);
        let Some(changes) = changes else { return Ok(Self { bits: default }) };
        let (add_all, add) = read("add", &changes.add)?;
        let (drop_all, drop) = read("drop", &changes.drop)?;
        let bits = match (add_all, drop_all) {
            (true, _) => Self::ALL.bits & !drop,
            (false, true) => add,
            (false, false) => (default & !drop) | add,
        };
        Ok(Self { bits })
    }

    /// With `CAP_`, as the kernel's documentation spells them.
    pub(crate) fn names(self) -> BTreeSet<String> {
        (0..NAMES.len()).filter(|&n| self.bits & (1 << n) != 0).map(|n| format!("CAP_{}", NAMES[n])).collect()
    }
}

fn read(list: &'static str, names: &[String]) -> Result<(bool, u64), NoSuchCapability> {
    let mut all = false;
    let mut bits = 0;
    for given in names {
        let name = given.to_ascii_uppercase();
        if name == "ALL" {
            all = true;
            continue;
        }
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        bits |= bit(name).ok_or_else(|| NoSuchCapability { list, given: given.clone() })?;
    }
    Ok((all, bits))
}

fn bit(name: &str) -> Option<u64> {
    NAMES.iter().position(|known| *known == name).map(|n| 1 << n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(add: &[&str], drop: &[&str]) -> Result<Capabilities, NoSuchCapability> {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Capabilities::of_container(Some(&KernelCapabilities { add: own(add), drop: own(drop) }), false)
    }

    #[test]
    fn docker_prints_these_sets() {
        // `docker run --rm alpine grep CapBnd /proc/self/status`, and the same with --cap-drop/--cap-add.
        assert_eq!(Capabilities::of_container(None, false).unwrap().bits, 0xa804_25fb);
        assert_eq!(changed(&[], &["ALL"]).unwrap().bits, 0);
        assert_eq!(changed(&["NET_ADMIN"], &[]).unwrap().bits, 0xa804_35fb);
        assert_eq!(changed(&["CAP_SYS_PTRACE"], &["all"]).unwrap().bits, 1 << 19);
        assert_eq!(changed(&["ALL"], &["CHOWN"]).unwrap().bits, 0x1ff_ffff_fffe);
        assert_eq!(changed(&["ALL"], &["ALL"]).unwrap().bits, 0x1ff_ffff_ffff);
        assert_eq!(changed(&["CHOWN", "NET_ADMIN"], &["CHOWN", "KILL"]).unwrap().bits, 0xa804_35db);
        assert_eq!(Capabilities::of_container(None, true).unwrap().bits, 0x1ff_ffff_ffff);
    }

    #[test]
    fn an_unknown_name_is_named() {
        assert_eq!(
            changed(&["NET_ADMINN"], &[]).unwrap_err(),
            NoSuchCapability { list: "add", given: "NET_ADMINN".to_owned() }
        );
    }
}
