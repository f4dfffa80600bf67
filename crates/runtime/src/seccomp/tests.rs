//! The filter run by a small interpreter of classic BPF: what the kernel would answer for a call.

use std::collections::BTreeSet;

use super::program::{Architecture, Instruction};
use super::{default_filter, table};

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Allow,
    Errno(u32),
}

fn ask(filter: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> Answer {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let step = filter[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { step.if_true } else { step.if_false });
        match step.code {
            0x20 => {
                let offset = step.value as usize;
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            0x05 => at += step.value as usize,
            0x15 => at += jump(accumulator == step.value),
            0x25 => at += jump(accumulator > step.value),
            0x35 => at += jump(accumulator >= step.value),
            0x45 => at += jump(accumulator & step.value != 0),
            0x06 if step.value == 0x7FFF_0000 => return Answer::Allow,
            0x06 if step.value >> 16 == 5 => return Answer::Errno(step.value & 0xFFFF),
            code => panic!("instruction {code:#x} is not one the compiler makes"),
        }
    }
}

const X86_64: u32 = 0xC000_003E;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xC000_00B7;

fn default_capabilities() -> BTreeSet<String> {
    ["CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_MKNOD"].map(String::from).into()
}

#[test]
fn the_default_profile_answers_as_dockers() {
    let filter = default_filter(&default_capabilities(), Architecture::X86_64);
    let x86 = |number, first| ask(&filter, X86_64, number, [first, 0, 0, 0, 0, 0]);
    let cases = [
        ("read", x86(0, 0), Answer::Allow),
        ("execve", x86(59, 0), Answer::Allow),
        ("ptrace", x86(101, 0), Answer::Allow),
        ("chroot, for CAP_SYS_CHROOT is kept", x86(161, 0), Answer::Allow),
        ("mount", x86(165, 0), Answer::Errno(1)),
        ("unshare", x86(272, 0), Answer::Errno(1)),
        ("setns", x86(308, 0), Answer::Errno(1)),
        ("bpf", x86(321, 0), Answer::Errno(1)),
        ("keyctl", x86(250, 0), Answer::Errno(1)),
        ("add_key", x86(248, 0), Answer::Errno(1)),
        ("request_key", x86(249, 0), Answer::Errno(1)),
        ("userfaultfd", x86(323, 0), Answer::Errno(1)),
        ("io_uring_setup", x86(425, 0), Answer::Errno(1)),
        ("fsopen", x86(430, 0), Answer::Errno(1)),
        ("clone, a thread", x86(56, 0x3D_0F00), Answer::Allow),
        ("clone with CLONE_NEWUSER", x86(56, 0x1000_0011), Answer::Errno(1)),
        ("clone with CLONE_NEWNS", x86(56, 0x0002_0011), Answer::Errno(1)),
        ("clone3", x86(435, 0), Answer::Errno(38)),
        ("socket AF_INET", x86(41, 2), Answer::Allow),
        ("socket AF_CAN, the last before AF_ALG", x86(41, 37), Answer::Allow),
        ("socket AF_ALG", x86(41, 38), Answer::Errno(1)),
        ("socket AF_NFC", x86(41, 39), Answer::Allow),
        ("socket AF_VSOCK", x86(41, 40), Answer::Errno(1)),
        ("socket AF_ALG behind a dirty upper half", x86(41, (1 << 32) | 38), Answer::Errno(1)),
        ("socket AF_KCM", x86(41, 41), Answer::Allow),
        ("personality query", x86(135, 0xFFFF_FFFF), Answer::Allow),
        ("personality ADDR_NO_RANDOMIZE", x86(135, 0x0004_0000), Answer::Errno(1)),
        ("a call that does not exist yet", x86(600, 0), Answer::Errno(38)),
        ("x32 read", x86(0x4000_0000, 0), Answer::Errno(38)),
    ];
    for (what, found, wanted) in cases {
        assert_eq!(found, wanted, "{what}");
    }
    assert_eq!(ask(&filter, I386, 102, [1, 0, 0, 0, 0, 0]), Answer::Errno(38), "socketcall through int 0x80");
    assert_eq!(ask(&filter, I386, 4, [0; 6]), Answer::Errno(38), "write through int 0x80");
}

#[test]
fn capabilities_open_their_calls() {
    let administrator = default_filter(&["CAP_SYS_ADMIN".to_owned()].into(), Architecture::X86_64);
    for number in [165, 272, 308, 435, 430] {
        assert_eq!(ask(&administrator, X86_64, number, [0x1000_0000; 6]), Answer::Allow, "call {number}");
    }
    assert_eq!(ask(&administrator, X86_64, 161, [0; 6]), Answer::Errno(1), "chroot belongs to CAP_SYS_CHROOT");
}

#[test]
fn the_other_architecture_has_its_own_numbers() {
    let filter = default_filter(&default_capabilities(), Architecture::Aarch64);
    let arm = |number, first| ask(&filter, AARCH64, number, [first, 0, 0, 0, 0, 0]);
    assert_eq!(arm(63, 0), Answer::Allow, "read");
    assert_eq!(arm(221, 0), Answer::Allow, "execve");
    assert_eq!(arm(79, 0), Answer::Allow, "newfstatat");
    assert_eq!(arm(40, 0), Answer::Errno(1), "mount");
    assert_eq!(arm(220, 0x1000_0011), Answer::Errno(1), "clone with CLONE_NEWUSER");
    assert_eq!(arm(198, 38), Answer::Errno(1), "socket AF_ALG");
    assert_eq!(arm(435, 0), Answer::Errno(38), "clone3");
    assert_eq!(ask(&filter, 0x4000_0028, 4, [0; 6]), Answer::Errno(38), "write of 32-bit Arm");
}

#[test]
fn the_filter_fits_the_kernels_limit() {
    let filter = default_filter(&BTreeSet::new(), Architecture::X86_64);
    assert!(filter.len() < 512, "{} instructions; the kernel takes 4,096", filter.len());
}

#[test]
fn the_tables_are_well_formed() {
    let groups = table::WITH_CAPABILITY.iter().flat_map(|(_, calls)| calls.iter());
    let conditional: Vec<_> =
        groups.chain([&table::SOCKET, &table::PERSONALITY, &table::CLONE, &table::CLONE3]).collect();
    let mut seen = BTreeSet::new();
    for call in table::ALWAYS {
        assert!(seen.insert(call.name), "{} is listed twice", call.name);
        assert!(call.x86_64 != table::NONE || call.aarch64 != table::NONE, "{} is nowhere", call.name);
        let everywhere = conditional.iter().any(|other| other.name == call.name);
        assert!(!everywhere, "{} is allowed to everybody and on a condition", call.name);
    }
    for call in table::ALWAYS.iter().chain(conditional) {
        for number in [call.x86_64, call.aarch64] {
            assert!(number == table::NONE || number <= table::NEWEST, "{} is newer than the newest", call.name);
        }
    }
}
