//! Attempts to get out: what a confined process tries first, and two watchers that wait for the runtime to come in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::say;
use crate::{errno, outcome};

/// Error number of each attempt, 0 where it worked.
pub(crate) fn attempts() -> Value {
    let mut answers = BTreeMap::new();
    for (name, family, kind) in [
        ("socket AF_ALG", libc::AF_ALG, libc::SOCK_SEQPACKET),
        ("socket AF_VSOCK", libc::AF_VSOCK, libc::SOCK_STREAM),
        ("socket AF_PACKET", libc::AF_PACKET, libc::SOCK_RAW),
        ("socket AF_INET", libc::AF_INET, libc::SOCK_STREAM),
        ("socket AF_UNIX", libc::AF_UNIX, libc::SOCK_STREAM),
        ("socket AF_NETLINK", libc::AF_NETLINK, libc::SOCK_RAW),
    ] {
        // SAFETY: integer arguments; the descriptor is closed by the process's end.
        answers.insert(name.to_owned(), result(unsafe { libc::socket(family, kind, 0) }));
    }
    for (name, flags) in [
        ("unshare user", libc::CLONE_NEWUSER),
        ("unshare mount", libc::CLONE_NEWNS),
        ("unshare net", libc::CLONE_NEWNET),
        ("unshare cgroup", libc::CLONE_NEWCGROUP),
    ] {
        // SAFETY: integer argument.
        answers.insert(name.to_owned(), in_child(|| unsafe { libc::unshare(flags) }));
    }
    // SAFETY: integer arguments; a null stack means the child shares a copy of ours, as fork does.
    let namespaced = || unsafe {
        let child = libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0) as i32;
        if child == 0 {
            libc::_exit(0)
        }
        child
    };
    answers.insert("clone user".to_owned(), in_child(namespaced));
    // SAFETY: a null pointer with size 0 is refused by the call itself (EINVAL) when the filter lets it through.
    answers.insert("clone3".to_owned(), result(unsafe { libc::syscall(libc::SYS_clone3, 0, 0) } as i32));
    let _ = fs::create_dir("/tmp");
    let _ = fs::create_dir("/tmp/probe-mount");
    for kind in ["proc", "sysfs", "tmpfs", "cgroup", "cgroup2", "devtmpfs", "ext4"] {
        answers.insert(format!("mount {kind}"), mount(kind));
    }
    answers.insert(
        "sethostname".to_owned(),
        in_child(|| {
            // SAFETY: a one-byte name.
            unsafe { libc::sethostname(c"x".as_ptr(), 1) }
        }),
    );
    // SAFETY: integer arguments: an invalid magic number is refused with EINVAL where reboot is allowed at all.
    answers.insert("reboot".to_owned(), result(unsafe { libc::syscall(libc::SYS_reboot, 0, 0, 0, 0) } as i32));
    json!({ "errno": answers, "writable": writable_control_files() })
}

fn result(value: i32) -> i32 {
    if value < 0 { errno() } else { 0 }
}

/// Runs a call that changes its process in a child.
fn in_child(call: impl Fn() -> i32) -> i32 {
    let mut status = 0;
    // SAFETY: one thread; the child makes one call and leaves with the error number as its status.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(result(call()));
        }
        libc::waitpid(child, &raw mut status, 0);
    }
    libc::WEXITSTATUS(status)
}

fn mount(kind: &str) -> i32 {
    let kind = CString::new(kind).expect("a file system's name has no NUL");
    // SAFETY: NUL-terminated strings.
    let mounted =
        unsafe { libc::mount(c"none".as_ptr(), c"/tmp/probe-mount".as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    result(mounted)
}

/// Files that decide about the host, opened for writing (not written): the ones that let us.
fn writable_control_files() -> Vec<String> {
    let mut candidates: Vec<String> = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sysrq-trigger",
        "/proc/sys/vm/panic_on_oom",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/release_agent",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
    ]
    .map(str::to_owned)
    .into();
    let mut folders = vec![("/sys/fs/cgroup".to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path().display().to_string();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < 3 => folders.push((path, depth + 1)),
                Ok(kind) if kind.is_file() => candidates.push(path),
                Ok(_) | Err(_) => {}
            }
        }
    }
    candidates.retain(|path| outcome(fs::OpenOptions::new().write(true).open(path)) == 0);
    candidates
}

/// Tries to connect to sockets of the host: by their paths, through the root and the working directory of every process
/// that can be seen, and by their names as if they were abstract.
pub(crate) fn reach_sockets(paths: &[&str]) -> Value {
    let mut reached = BTreeSet::new();
    let processes = others();
    let roots = processes.iter().flat_map(|pid| [format!("/proc/{pid}/root"), format!("/proc/{pid}/cwd")]);
    let roots: Vec<String> = [String::new()].into_iter().chain(roots).collect();
    for path in paths {
        reached
            .extend(roots.iter().map(|root| format!("{root}{path}")).filter(|path| UnixStream::connect(path).is_ok()));
        let name = SocketAddr::from_abstract_name(path).expect("a short name");
        if UnixStream::connect_addr(&name).is_ok() {
            reached.insert(format!("@{path}"));
        }
    }
    json!({ "reached": reached, "processes": processes.len(), "unix_sockets": crate::identity::lines("/proc/net/unix") })
}

/// CVE-2019-5736: waits for processes whose executable is not our own, keeps a handle to each such executable and
/// tries to open it for writing for that many milliseconds, also after its process is gone. Never writes to what it
/// could open: `opened` counts those, and one is the defeat; so is one executable on a mount that can be written to.
pub(crate) fn watch_exe(milliseconds: i32) -> Value {
    let own = identity("/proc/self/exe");
    let mut handles: BTreeMap<(u64, u64), fs::File> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut errors: BTreeSet<i32> = BTreeSet::new();
    let mut opened = 0;
    let mut on_writable_mounts = 0;
    say(&["watching"]);
    let end = Instant::now() + Duration::from_millis(milliseconds.unsigned_abs().into());
    while Instant::now() < end {
        for pid in others() {
            let path = format!("/proc/{pid}/exe");
            let Some(found) = identity(&path) else { continue };
            if Some(found) == own || handles.contains_key(&found) {
                continue;
            }
            seen.insert(fs::read_link(&path).map(|target| target.display().to_string()).unwrap_or_default());
            if let Ok(handle) = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path) {
                on_writable_mounts += i32::from(!on_read_only_mount(&handle));
                handles.insert(found, handle);
            }
            errors.insert(outcome(fs::OpenOptions::new().write(true).open(&path)));
        }
        for handle in handles.values() {
            let again = format!("/proc/self/fd/{}", handle.as_raw_fd());
            match outcome(fs::OpenOptions::new().write(true).open(again)) {
                0 => opened += 1,
                error => {
                    errors.insert(error);
                }
            }
        }
    }
    json!({ "executables": seen, "errors": errors, "opened": opened, "on_writable_mounts": on_writable_mounts })
}

/// While a program runs, writing to it fails with ETXTBSY whatever else protects it; the mount's flag tells what will
/// protect it afterwards.
fn on_read_only_mount(handle: &fs::File) -> bool {
    // SAFETY: fills a statvfs on the stack; fstatvfs takes O_PATH descriptors.
    unsafe {
        let mut answer: libc::statvfs = std::mem::zeroed();
        libc::fstatvfs(handle.as_raw_fd(), &raw mut answer) == 0 && answer.f_flag & libc::ST_RDONLY != 0
    }
}

fn identity(path: &str) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn others() -> Vec<u32> {
    let own = std::process::id();
    let listing = fs::read_dir("/proc").into_iter().flatten().flatten();
    listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| *pid != own).collect()
}

/// CVE-2016-9962: for that many milliseconds, goes at every other process in this pid namespace as soon as it shows:
/// ptrace, and every door /proc has to its files. `reached` lists doors through which `marker`, a file of the host,
/// could be opened; `descriptors` lists what other processes had open and let us open.
pub(crate) fn watch_processes(milliseconds: i32, marker: &str) -> Value {
    let mut pids = BTreeSet::new();
    let mut reached = BTreeSet::new();
    let mut descriptors = BTreeSet::new();
    let mut traced_foreign = BTreeSet::new();
    let own = identity("/proc/self/exe");
    say(&["watching"]);
    let end = Instant::now() + Duration::from_millis(milliseconds.unsigned_abs().into());
    while Instant::now() < end {
        for pid in others() {
            pids.insert(pid);
            if identity(&format!("/proc/{pid}/exe")) != own && seized(pid) {
                traced_foreign.insert(pid);
            }
            let folder = format!("/proc/{pid}/fd");
            let listing = fs::read_dir(&folder).into_iter().flatten().flatten();
            let doors = listing.map(|entry| entry.path().display().to_string());
            for door in doors.chain([format!("/proc/{pid}/cwd"), format!("/proc/{pid}/root")]) {
                if fs::File::open(format!("{door}/{}{marker}", "../".repeat(12))).is_ok() {
                    reached.insert(door.clone());
                }
                let own_target = fs::read_link(&door).map(|target| target.display().to_string()).unwrap_or_default();
                if fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&door).is_ok() {
                    descriptors.insert(own_target);
                }
            }
        }
    }
    json!({
        "processes": pids.len(), "reached": reached, "descriptors": descriptors, "traced_foreign": traced_foreign.len(),
    })
}

/// Whether ptrace let us have the process; it is let go at once.
fn seized(pid: u32) -> bool {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: PTRACE_SEIZE and PTRACE_DETACH with null arguments.
    unsafe {
        let taken = libc::ptrace(libc::PTRACE_SEIZE, pid as libc::pid_t, null, null) == 0;
        if taken {
            libc::ptrace(libc::PTRACE_INTERRUPT, pid as libc::pid_t, null, null);
            libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), libc::__WALL);
            libc::ptrace(libc::PTRACE_DETACH, pid as libc::pid_t, null, null);
        }
        taken
    }
}
