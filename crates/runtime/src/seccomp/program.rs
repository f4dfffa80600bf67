//! From rules to classic BPF: a check of the architecture, a binary search for the call's number, and at each leaf
//! the verdict or a few comparisons of arguments. Pure.
//!
//! Format: <https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html> and `linux/bpf_common.h`.

use std::collections::BTreeMap;

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub code: u16,
    pub if_true: u8,
    pub if_false: u8,
    pub value: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    /// The one this program was built for; none where coracle has no table.
    pub(crate) const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// AUDIT_ARCH_* of `linux/audit.h`.
    pub(crate) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xC000_003E,
            Self::Aarch64 => 0xC000_00B7,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Allow,
    /// Allowed when one of these holds, else the default.
    AllowIf(Vec<Condition>),
    Errno(u16),
}

/// Of the lower 32 bits of an argument: all the arguments that are compared here are C ints or flag words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Below { argument: u8, value: u32 },
    Equal { argument: u8, value: u32 },
    Above { argument: u8, value: u32 },
    NoneOf { argument: u8, mask: u32 },
}

const LOAD_WORD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_ABOVE: u16 = 0x25;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;

const RET_ALLOW: u32 = 0x7FFF_0000;
const RET_ERRNO: u32 = 0x0005_0000;

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// Numbers of the x32 entry point have this bit, under the same architecture as 64-bit calls.
const X32_BIT: u32 = 0x4000_0000;
const ENOSYS: u16 = 38;

/// A run of neighbouring numbers with one verdict, from `first` to the next run's `first`.
struct Run<'a> {
    first: u32,
    verdict: Verdict<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict<'a> {
    Return(u32),
    Conditions(&'a [Condition]),
}

/// Calls without a rule get `otherwise` as errno; calls above `newest` and foreign architectures get ENOSYS.
pub(super) fn compile(
    rules: &BTreeMap<u16, Rule>,
    architecture: Architecture,
    otherwise: u16,
    newest: u16,
) -> Vec<Instruction> {
    let mut program = vec![
        plain(LOAD_WORD, OFFSET_ARCHITECTURE),
        Instruction { code: JUMP_IF_EQUAL, if_true: 1, if_false: 0, value: architecture.audit() },
        plain(RETURN, errno(ENOSYS)),
        plain(LOAD_WORD, OFFSET_NUMBER),
        Instruction { code: JUMP_IF_AT_LEAST, if_true: 0, if_false: 1, value: X32_BIT },
        plain(RETURN, errno(ENOSYS)),
    ];
    program.extend(search(&runs(rules, otherwise, newest), errno(otherwise)));
    program
}

fn runs(rules: &BTreeMap<u16, Rule>, otherwise: u16, newest: u16) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for number in 0..=u32::from(newest) + 1 {
        let rule = u16::try_from(number).ok().and_then(|number| rules.get(&number));
        let verdict = match rule {
            None if number > u32::from(newest) => Verdict::Return(errno(ENOSYS)),
            None => Verdict::Return(errno(otherwise)),
            Some(Rule::Allow) => Verdict::Return(RET_ALLOW),
            Some(Rule::Errno(code)) => Verdict::Return(errno(*code)),
            Some(Rule::AllowIf(conditions)) => Verdict::Conditions(conditions),
        };
        if runs.last().is_none_or(|run| run.verdict != verdict) {
            runs.push(Run { first: number, verdict });
        }
    }
    runs
}

/// The number is in the accumulator. Every path ends in a return, so halves never join again.
fn search(runs: &[Run<'_>], otherwise: u32) -> Vec<Instruction> {
    if let [run] = runs {
        return match run.verdict {
            Verdict::Return(value) => vec![plain(RETURN, value)],
            Verdict::Conditions(conditions) => compare(conditions, otherwise),
        };
    }
    let (lower, upper) = runs.split_at(runs.len() / 2);
    let low = search(lower, otherwise);
    let high = search(upper, otherwise);
    let value = upper[0].first;
    let mut program = match u8::try_from(low.len()) {
        Ok(if_true) => vec![Instruction { code: JUMP_IF_AT_LEAST, if_true, if_false: 0, value }],
        Err(_) => {
            let over = u32::try_from(low.len()).expect("a filter has a few hundred instructions");
            vec![Instruction { code: JUMP_IF_AT_LEAST, if_true: 0, if_false: 1, value }, plain(JUMP, over)]
        }
    };
    program.extend(low);
    program.extend(high);
    program
}

fn compare(conditions: &[Condition], otherwise: u32) -> Vec<Instruction> {
    let mut program = Vec::new();
    for condition in conditions {
        let (argument, code, value, holds) = match *condition {
            Condition::Below { argument, value } => (argument, JUMP_IF_AT_LEAST, value, false),
            Condition::Equal { argument, value } => (argument, JUMP_IF_EQUAL, value, true),
            Condition::Above { argument, value } => (argument, JUMP_IF_ABOVE, value, true),
            Condition::NoneOf { argument, mask } => (argument, JUMP_IF_ANY_BIT, mask, false),
        };
        let skip = |when: bool| if when == holds { 0 } else { 1 };
        program.push(plain(LOAD_WORD, OFFSET_ARGUMENTS + 8 * u32::from(argument)));
        program.push(Instruction { code, if_true: skip(true), if_false: skip(false), value });
        program.push(plain(RETURN, RET_ALLOW));
    }
    program.push(plain(RETURN, otherwise));
    program
}

const fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, value }
}

const fn errno(code: u16) -> u32 {
    RET_ERRNO | code as u32
}
