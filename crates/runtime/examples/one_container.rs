//! A supervisor reduced to what the tests of the container side ask of one: it runs the first container of a task and
//! does what its standard input says. libcontainer must not be called in a test's own process, which has threads.
//!
//! `one_container TASK.json STDOUT-FILE`: prints one JSON object a line: `started`, then an answer to each line of
//! input, and `exited` at the end.
//!
//! A container may execute it as /proc/self/exe: `one_container probe` prints what the kernel answers to calls that a
//! container should not make, and `one_container hold` waits to be killed.

#![allow(unsafe_code, reason = "the probe makes system calls that nobody else would")]

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::AsFd;

use agent_protocol::TaskSpec;
use agent_protocol::command::Exec;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use runtime::cgroup::{self, Cgroups};
use runtime::exec::{self, ExecInput};
use runtime::launch::{self, StartInput, Started};
use runtime::namespaces::TaskNamespaces;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (task, output) = match arguments.as_slice() {
        [_, task, output] => (task, output),
        [_, word] if word == "probe" => {
            say(&probe());
            return Ok(());
        }
        _ => {
            nix::unistd::pause();
            return Ok(());
        }
    };
    runtime::sealed_exe::reexec()?;
    let task: TaskSpec = serde_json::from_slice(&std::fs::read(task)?)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let cgroups = Cgroups::detect()?;
    cgroups.prepare_task(&task)?;
    cgroups.enter_supervisor_leaf(&task.places.supervisor_cgroup)?;
    let outcome = run(&task, &cgroups, output);
    let container = &task.containers[0];
    let mut errors = launch::remove(&task, container, &cgroups);
    errors.extend(cgroups.remove_task(&task).iter().map(ToString::to_string));
    say(&json!({ "removed": errors }));
    outcome
}

fn run(task: &TaskSpec, cgroups: &Cgroups, output: &str) -> Result<(), Box<dyn std::error::Error>> {
    let container = &task.containers[0];
    let path = cgroup::of_container(task, &container.definition.name);
    let output = File::options().create(true).append(true).open(output)?;
    let input = File::open("/dev/null")?;
    let started = launch::create_and_start(&StartInput {
        task,
        container,
        network_namespace: None,
        namespaces: &TaskNamespaces::private(),
        stdio: [input.as_fd(), output.as_fd(), output.as_fd()],
        cgroups,
        secrets: None,
    });
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            say(&json!({ "failed": error.to_string(), "exitCode": error.exit_code }));
            return Ok(());
        }
    };
    let dumpable = nix::sys::prctl::get_dumpable()?;
    say(&json!({
        "started": started.init, "stages": started.stages_us, "dumpable": dumpable, "keyring": session_keyring(),
    }));
    let mut released = false;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "kill" => {
                cgroups.kill(&path)?;
                say(&json!("killed"));
            }
            "wait" => {
                released = true;
                break;
            }
            request => say(&exec_in(task, cgroups, &started, request, &output)?),
        }
    }
    if !released {
        // The test has gone.
        cgroups.kill(&path)?;
    }
    let code = exit_code(waitid(Id::PIDFd(started.pidfd.as_fd()), WaitPidFlag::WEXITED)?)?;
    say(&json!({ "exited": code, "oomKills": cgroups.oom_kills(&path) }));
    Ok(())
}

/// `request` is an `Exec` as JSON. Its end is not waited for: `exited` of a second line is what tells.
fn exec_in(
    task: &TaskSpec,
    cgroups: &Cgroups,
    started: &Started,
    request: &str,
    output: &File,
) -> Result<Value, Box<dyn std::error::Error>> {
    let wanted: Exec = serde_json::from_str(request)?;
    let input = File::open("/dev/null")?;
    let stdio = (!wanted.terminal).then(|| [input.as_fd(), output.as_fd(), output.as_fd()]);
    let container = &task.containers[0];
    let executed =
        match exec::start(&ExecInput { cgroups, task, container, secrets: None, started, wanted: &wanted, stdio }) {
            Ok(executed) => executed,
            Err(error) => return Ok(json!({ "refused": error.to_string() })),
        };
    let mut shown = String::new();
    if let Some(terminal) = executed.terminal {
        // The read fails when the last user of the terminal has ended; what came before is what counts.
        let _ = File::from(terminal).read_to_string(&mut shown);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", executed.pid))?;
    let ended = waitid(Id::PIDFd(executed.pidfd.as_fd()), WaitPidFlag::WEXITED)?;
    Ok(json!({ "exit": exit_code(ended)?, "terminal": shown, "status": status }))
}

fn exit_code(ended: WaitStatus) -> Result<i32, String> {
    match ended {
        WaitStatus::Exited(_, code) => Ok(code),
        WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
        other => Err(format!("{other:?} is no end")),
    }
}

fn say(value: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).expect("the test reads our output");
}

fn session_keyring() -> i64 {
    const KEYCTL_GET_KEYRING_ID: libc::c_int = 0;
    const KEY_SPEC_SESSION_KEYRING: libc::c_int = -3;
    // SAFETY: numbers only.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) }
}

/// The errno of each call, 0 where it was allowed. All of them are harmless if they succeed.
fn probe() -> Value {
    let errno = |answer: i64| if answer < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 };
    let zero = [0_u64; 16];
    // SAFETY: numbers, and pointers to memory that is longer than what the calls read; nothing is handed out that
    // anybody relies on.
    unsafe {
        json!({
            "keyring": session_keyring(),
            "unshare": errno(libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER)),
            "keyctl": errno(session_keyring()),
            "io_uring_setup": errno(libc::syscall(libc::SYS_io_uring_setup, 1, zero.as_ptr())),
            "bpf": errno(libc::syscall(libc::SYS_bpf, 0, zero.as_ptr(), 16)),
            "mount": errno(libc::syscall(libc::SYS_mount, c"none".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, 0)),
            "userfaultfd": errno(libc::syscall(libc::SYS_userfaultfd, 0)),
            "clone3": errno(libc::syscall(libc::SYS_clone3, zero.as_ptr(), 0)),
            "clone_newuser": errno(libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::CLONE_FS, 0, 0, 0, 0)),
            "af_alg": errno(i64::from(libc::socket(38, libc::SOCK_SEQPACKET, 0))),
            "af_vsock": errno(i64::from(libc::socket(40, libc::SOCK_STREAM, 0))),
            "af_inet": errno(i64::from(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0))),
            "personality": errno(i64::from(libc::personality(0x0004_0000))),
            "i386": errno_of_i386_getpid(),
            "x32": errno(libc::syscall(0x4000_0000 + libc::SYS_getpid)),
        })
    }
}

/// The 32-bit entry point, which a filter of 64-bit numbers alone would not see.
#[cfg(target_arch = "x86_64")]
unsafe fn errno_of_i386_getpid() -> i32 {
    let answer: i64;
    // SAFETY: getpid has no arguments; the kernel saves every register but the one that it answers in, and r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    if answer < 0 { i32::try_from(-answer).unwrap_or(-1) } else { 0 }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn errno_of_i386_getpid() -> i32 {
    libc::ENOSYS
}
