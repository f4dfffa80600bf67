//! The seccomp filter of a container, compiled to classic BPF by ourselves.
//!
//! libcontainer applies seccomp only with libseccomp linked in, and otherwise goes on without a filter and a warning;
//! this module exists so that a filter is always there, in a static build, and installed before capabilities go.
//! What it knows is which calls are allowed; who gets which filter is decided in `spec`.

mod program;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

pub(crate) use program::{Architecture, Instruction};
use program::{Condition, Rule};
use table::Number;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// Address families: everything up to AF_NFC except these two. AF_ALG is the kernel's crypto, a local privilege
/// escalation more than once; AF_VSOCK reaches the hypervisor, which no namespace confines.
const AF_ALG: u32 = 38;
const AF_VSOCK: u32 = 40;

/// CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET.
const CLONE_NAMESPACES: u32 = 0x7E02_0000;

/// PER_LINUX, PER_LINUX32, UNAME26, both, and the query.
const PERSONALITIES: [u32; 5] = [0, 8, 0x0002_0000, 0x0002_0008, 0xFFFF_FFFF];

/// Docker's default profile for a process whose bounding set is `capabilities` (names with `CAP_`).
pub(crate) fn default_filter(capabilities: &BTreeSet<String>, architecture: Architecture) -> Vec<Instruction> {
    let number = |of: &Number| match architecture {
        Architecture::X86_64 => of.x86_64,
        Architecture::Aarch64 => of.aarch64,
    };
    let mut rules: BTreeMap<u16, Rule> = BTreeMap::new();
    let mut allow = |calls: &[Number]| {
        for call in calls {
            if number(call) != table::NONE {
                rules.insert(number(call), Rule::Allow);
            }
        }
    };
    allow(table::ALWAYS);
    for (capability, calls) in table::WITH_CAPABILITY {
        if capabilities.contains(*capability) {
            allow(calls);
        }
    }
    let administrator = capabilities.contains("CAP_SYS_ADMIN");
    rules.insert(
        number(&table::SOCKET),
        Rule::AllowIf(vec![
            Condition::Below { argument: 0, value: AF_ALG },
            Condition::Equal { argument: 0, value: AF_ALG + 1 },
            Condition::Above { argument: 0, value: AF_VSOCK },
        ]),
    );
    rules.insert(
        number(&table::PERSONALITY),
        Rule::AllowIf(PERSONALITIES.iter().map(|&value| Condition::Equal { argument: 0, value }).collect()),
    );
    if administrator {
        rules.insert(number(&table::CLONE), Rule::Allow);
        rules.insert(number(&table::CLONE3), Rule::Allow);
    } else {
        let condition = Condition::NoneOf { argument: 0, mask: CLONE_NAMESPACES };
        rules.insert(number(&table::CLONE), Rule::AllowIf(vec![condition]));
        // Its flags are in memory, where a filter cannot look. ENOSYS makes the C libraries use clone.
        rules.insert(number(&table::CLONE3), Rule::Errno(ENOSYS));
    }
    program::compile(&rules, architecture, EPERM, table::NEWEST)
}

/// Puts the filter on the calling process, for good. Needs CAP_SYS_ADMIN or no_new_privs.
///
/// # Errors
/// What the kernel says: EPERM without the privilege, EINVAL where seccomp filters are not built in.
pub(crate) fn install(filter: &[Instruction]) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;
    let length = u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: the pointer and length describe `filter`, which outlives the call; the kernel only reads it, and
    // `Instruction` has the layout of `sock_filter`.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0_u64, &raw const program) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
