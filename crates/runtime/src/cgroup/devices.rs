//! The device filter of a container: an allow list, as rules of the v1 `devices` controller or as a BPF program on
//! the v2 cgroup. Whoever is not on the list may still mknod, as in Docker, and gets EPERM at open.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::hierarchy::write;
use super::{CgroupError, Cgroups, below};

const READ: u32 = DeviceRule::READ;
const WRITE: u32 = DeviceRule::WRITE;
const MKNOD: u32 = DeviceRule::MKNOD;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Block,
    Character,
}

/// What may be done to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceRule {
    pub(crate) kind: DeviceKind,
    /// None is any.
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    /// `READ`, `WRITE` and `MKNOD` together.
    pub(crate) access: u32,
}

use {DeviceKind as Kind, DeviceRule as Rule};

const fn character(major: u32, minor: Option<u32>) -> Rule {
    Rule { kind: Kind::Character, major: Some(major), minor, access: READ | WRITE | MKNOD }
}

/// The numbers are in the kernel's `Documentation/admin-guide/devices.txt`.
const ALLOWED: [Rule; 12] = [
    Rule { kind: Kind::Character, major: None, minor: None, access: MKNOD },
    Rule { kind: Kind::Block, major: None, minor: None, access: MKNOD },
    character(1, Some(3)), // null
    character(1, Some(5)), // zero
    character(1, Some(7)), // full
    character(1, Some(8)), // random
    character(1, Some(9)), // urandom
    character(5, Some(0)), // tty
    character(5, Some(1)), // console
    character(5, Some(2)), // ptmx
    character(136, None),  // pts: 136 to 143, of which Linux hands out 136 first
    character(137, None),
];

/// Only the default devices and `further` ones, from now on, for `path` and what is below it.
pub(super) fn confine(cgroups: &Cgroups, path: &Path, further: &[Rule]) -> Result<(), CgroupError> {
    if let Some(hierarchy) = cgroups.v1_of("devices") {
        let directory = below(&hierarchy.mount, path);
        let rules = ALLOWED.iter().chain(further).map(|rule| ("devices.allow", rule.v1()));
        for (file, value) in std::iter::once(("devices.deny", "a".to_owned())).chain(rules) {
            let path = directory.join(file);
            write(&path, &value).map_err(|source| CgroupError::Io { action: "write", path, source })?;
        }
        return Ok(());
    }
    let Some(unified) = &cgroups.v2 else {
        return Err(CgroupError::NoController { limit: "the device filter", controller: "devices" });
    };
    let path = below(&unified.mount, path);
    attach(&path, further).map_err(|source| CgroupError::Io { action: "attach the device filter to", path, source })
}

impl Rule {
    pub(crate) const MKNOD: u32 = 1;
    pub(crate) const READ: u32 = 2;
    pub(crate) const WRITE: u32 = 4;

    /// `c 1:3 rwm`.
    fn v1(&self) -> String {
        let any = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let kind = match self.kind {
            Kind::Block => 'b',
            Kind::Character => 'c',
        };
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let access: String =
            letters.iter().filter(|(bit, _)| self.access & bit != 0).map(|(_, letter)| letter).collect();
        format!("{kind} {}:{} {access}", any(self.major), any(self.minor))
    }
}

/// One eBPF instruction: operation, registers, jump offset, constant (`linux/bpf.h`, `struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Instruction {
    operation: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    constant: i32,
}

const LOAD_WORD: u8 = 0x61;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const MOVE_32: u8 = 0xb4;
const COPY_32: u8 = 0xbc;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

const fn step(operation: u8, destination: u8, source: u8, offset: i16, constant: i32) -> Instruction {
    Instruction { operation, registers: destination | (source << 4), offset, constant }
}

/// A program that answers 1 for what a rule allows and 0 for the rest. Its context is `struct bpf_cgroup_dev_ctx`:
/// access in the upper and kind in the lower half of the first word, then major, then minor.
fn program<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Vec<Instruction> {
    const KIND: u8 = 2;
    const ACCESS: u8 = 3;
    const MAJOR: u8 = 4;
    const MINOR: u8 = 5;
    const SCRATCH: u8 = 6;
    let mut program = vec![
        step(LOAD_WORD, KIND, 1, 0, 0),
        step(AND_32, KIND, 0, 0, 0xffff),
        step(LOAD_WORD, ACCESS, 1, 0, 0),
        step(SHIFT_RIGHT_32, ACCESS, 0, 0, 16),
        step(LOAD_WORD, MAJOR, 1, 4, 0),
        step(LOAD_WORD, MINOR, 1, 8, 0),
    ];
    for rule in rules {
        let kind = match rule.kind {
            Kind::Block => 1,
            Kind::Character => 2,
        };
        let refused = !rule.access & (READ | WRITE | MKNOD);
        let constant = |value: u32| value.cast_signed();
        let mut block = vec![
            step(JUMP_IF_NOT_EQUAL, KIND, 0, 0, kind),
            step(COPY_32, SCRATCH, ACCESS, 0, 0),
            step(AND_32, SCRATCH, 0, 0, constant(refused)),
            step(JUMP_IF_NOT_EQUAL, SCRATCH, 0, 0, 0),
        ];
        block.extend(rule.major.map(|major| step(JUMP_IF_NOT_EQUAL, MAJOR, 0, 0, constant(major))));
        block.extend(rule.minor.map(|minor| step(JUMP_IF_NOT_EQUAL, MINOR, 0, 0, constant(minor))));
        block.extend([step(MOVE_32, 0, 0, 0, 1), step(EXIT, 0, 0, 0, 0)]);
        let length = block.len();
        for (at, instruction) in block.iter_mut().enumerate() {
            if instruction.operation == JUMP_IF_NOT_EQUAL {
                instruction.offset = i16::try_from(length - at - 1).expect("a rule has eight instructions");
            }
        }
        program.extend(block);
    }
    program.extend([step(MOVE_32, 0, 0, 0, 0), step(EXIT, 0, 0, 0, 0)]);
    program
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of several cgroups of a branch all have to agree, and one cgroup may have several.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The first members of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes the rest as zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Whether the kernel takes the program; it goes again with the descriptor.
///
/// # Errors
/// What bpf(2) says.
pub(crate) fn try_program() -> io::Result<()> {
    load(&[]).map(drop)
}

fn load(further: &[Rule]) -> io::Result<OwnedFd> {
    let instructions = program(ALLOWED.iter().chain(further));
    let license = c"Apache-2.0";
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(instructions.len()).expect("some thousand rules at most"),
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        version: 0,
        flags: 0,
    };
    // SAFETY: `load` describes memory that outlives the call, with the size it has.
    let program = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    if program < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(program).expect("descriptors are small numbers")) })
}

/// For BPF_PROG_QUERY.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
}

/// The cgroup keeps the program; it goes with the cgroup. A container that is started again has it already, and the
/// kernel would take only so many.
fn attach(directory: &Path, further: &[Rule]) -> io::Result<()> {
    let directory = std::fs::File::open(directory)?;
    let number = |fd: i32| u32::try_from(fd).expect("an open descriptor is not negative");
    let target = number(directory.as_raw_fd());
    let mut query =
        Query { target, kind: BPF_CGROUP_DEVICE, query_flags: 0, attach_flags: 0, programs: 0, count: 0, padding: 0 };
    // SAFETY: `query` outlives the call and is passed with its size; without room for numbers only the count is given.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if answer == 0 && query.count > 0 {
        return Ok(());
    }
    let program = load(further)?;
    let attach =
        Attach { target, program: number(program.as_raw_fd()), kind: BPF_CGROUP_DEVICE, flags: BPF_F_ALLOW_MULTI };
    // SAFETY: `attach` outlives the call and is passed with its size.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_rules_are_spelt_as_the_kernel_documents() {
        let rules: Vec<String> = ALLOWED.iter().map(Rule::v1).collect();
        assert_eq!(rules[0], "c *:* m");
        assert_eq!(rules[1], "b *:* m");
        assert_eq!(rules[2], "c 1:3 rwm");
        assert!(rules.contains(&"c 136:* rwm".to_owned()));
        assert!(!rules.iter().any(|rule| rule.contains("10:200")), "no tun");
    }

    /// What the program answers, by a small interpreter, for what the kernel would ask.
    fn ask(kind: u32, access: u32, major: u32, minor: u32) -> i64 {
        let program = program(&ALLOWED);
        let context = [(access << 16) | kind, major, minor];
        let mut registers = [0_i64; 11];
        let mut at = 0;
        loop {
            let step = program[at];
            let (to, from) = (usize::from(step.registers & 15), usize::from(step.registers >> 4));
            at += 1;
            match step.operation {
                LOAD_WORD => registers[to] = i64::from(context[usize::try_from(step.offset).unwrap() / 4]),
                AND_32 => registers[to] &= i64::from(step.constant),
                SHIFT_RIGHT_32 => registers[to] >>= step.constant,
                MOVE_32 => registers[to] = i64::from(step.constant),
                COPY_32 => registers[to] = registers[from],
                JUMP_IF_NOT_EQUAL if registers[to] != i64::from(step.constant) => {
                    at += usize::try_from(step.offset).unwrap();
                }
                JUMP_IF_NOT_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("operation {other:#x} is not one the compiler makes"),
            }
        }
    }

    #[test]
    fn the_program_allows_the_list_and_nothing_else() {
        for major in 0..512 {
            for minor in 0..16 {
                let listed = matches!((major, minor), (1, 3 | 5 | 7 | 8 | 9) | (5, 0..=2) | (136 | 137, _));
                assert_eq!(ask(2, READ | WRITE, major, minor), i64::from(listed), "c {major}:{minor}");
                assert_eq!(ask(1, READ, major, minor), 0, "b {major}:{minor}");
                assert_eq!((ask(2, MKNOD, major, minor), ask(1, MKNOD, major, minor)), (1, 1), "mknod");
            }
        }
        assert_eq!(ask(2, READ | WRITE, 10, 200), 0, "tun");
    }
}
