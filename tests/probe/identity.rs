//! What a process in a container is and sees: credentials, limits, descriptors, mounts, files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use crate::outcome;

pub(crate) fn report() -> Value {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned())
    };
    json!({
        "capabilities": {
            "inheritable": field("CapInh"), "permitted": field("CapPrm"), "effective": field("CapEff"),
            "bounding": field("CapBnd"), "ambient": field("CapAmb"),
        },
        "no_new_privs": field("NoNewPrivs"),
        "seccomp": field("Seccomp"),
        "seccomp_filters": field("Seccomp_filters"),
        "uid": field("Uid"),
        "gid": field("Gid"),
        "groups": field("Groups"),
        "umask": field("Umask"),
        "signals_blocked": field("SigBlk"),
        "signals_ignored": field("SigIgn"),
        "pid": std::process::id(),
        // SAFETY: getsid and getpgrp only read.
        "session": unsafe { libc::getsid(0) },
        // SAFETY: as above.
        "process_group": unsafe { libc::getpgrp() },
        "descriptors": descriptors(),
        "mounts": lines("/proc/self/mountinfo"),
        "cgroup": lines("/proc/self/cgroup"),
        "limits": lines("/proc/self/limits"),
        "namespaces": namespaces(),
        "environment": environment(),
        "arguments": std::env::args().collect::<Vec<_>>(),
        "cwd": std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
        "hostname": fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim(),
        "hosts": fs::read_to_string("/etc/hosts").unwrap_or_default(),
        "resolv_conf": fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        "oom_score_adj": fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default().trim(),
        "dev": tree("/dev"),
        "processes": process_names(),
        "unix_sockets": lines("/proc/net/unix"),
    })
}

pub(crate) fn lines(path: &str) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Every open descriptor but the one that lists them.
fn descriptors() -> BTreeMap<String, String> {
    let listing = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let own = format!("/proc/{}/fd", std::process::id());
    listing
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?.display().to_string();
            (target != own && target != "/proc/self/fd")
                .then(|| (entry.file_name().to_string_lossy().into_owned(), target))
        })
        .collect()
}

fn namespaces() -> BTreeMap<String, String> {
    let listing = fs::read_dir("/proc/self/ns").into_iter().flatten().flatten();
    listing
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?.display().to_string();
            Some((entry.file_name().to_string_lossy().into_owned(), target))
        })
        .collect()
}

pub(crate) fn environment() -> Value {
    let pairs: BTreeMap<String, String> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    json!(pairs)
}

/// pid -> command, as this pid namespace shows them.
fn process_names() -> BTreeMap<String, String> {
    let listing = fs::read_dir("/proc").into_iter().flatten().flatten();
    listing
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.parse::<u32>().ok()?;
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            Some((name, command.trim().to_owned()))
        })
        .collect()
}

/// Path below `root` -> kind, device number and mode.
fn tree(root: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path().display().to_string();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, describe(&metadata));
        }
    }
    found
}

fn describe(metadata: &fs::Metadata) -> Value {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "link",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    json!({
        "kind": kind,
        "mode": metadata.permissions().mode() & 0o7777,
        "uid": metadata.uid(),
        "gid": metadata.gid(),
        "device": format!("{}:{}", libc::major(metadata.rdev()), libc::minor(metadata.rdev())),
        "size": metadata.size(),
    })
}

/// For each path: what it is, what reading gives, and the error number of writing to it or making a file in it.
pub(crate) fn paths(asked: &[&str]) -> Value {
    let answers: BTreeMap<&str, Value> = asked.iter().map(|path| (*path, one_path(path))).collect();
    json!(answers)
}

fn one_path(path: &str) -> Value {
    let Ok(metadata) = fs::metadata(path) else { return Value::Null };
    let mut answer = describe(&metadata);
    if metadata.is_dir() {
        let names: Vec<String> = fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        answer["entries"] = json!(names);
        let inside = format!("{path}/probe-was-here");
        answer["write_errno"] = json!(outcome(fs::File::create(&inside)));
        let _ = fs::remove_file(&inside);
    } else {
        answer["content"] = match bounded_read(path) {
            Ok(bytes) => json!(String::from_utf8_lossy(&bytes)),
            Err(error) => json!({ "errno": error.raw_os_error() }),
        };
        answer["write_errno"] = json!(outcome(fs::OpenOptions::new().append(true).open(path)));
    }
    answer
}

fn bounded_read(path: &str) -> std::io::Result<Vec<u8>> {
    const MOST: u64 = 4096;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(fs::File::open(path)?, MOST), &mut bytes)?;
    Ok(bytes)
}

pub(crate) fn read(path: &str) -> i32 {
    match fs::read(path) {
        Ok(bytes) => i32::from(std::io::stdout().write_all(&bytes).is_err()),
        Err(error) => {
            eprintln!("{path}: {error}");
            1
        }
    }
}

pub(crate) fn write(path: &str, text: &str) -> i32 {
    match fs::write(path, text) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{path}: {error}");
            1
        }
    }
}
