//! Whatever is given: a clear error, no panic, no trace. Files cut anywhere, hostile JSON, a host that lacks something.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use serde_json::json;

use crate::support::{Host, Running, definition};

/// No answer to bad input takes longer, whatever its size.
const QUICK: Duration = Duration::from_secs(60);

#[test]
fn a_definition_cut_anywhere_is_refused() {
    let host = Host::new();
    let whole = definition::probe(&["exit", "0"]).to_string();
    for end in 0..whole.len() {
        let file = host.file("task.json", &whole[..end]);
        host.coracle(["lint".as_ref(), file.as_os_str()]).refused(&[]);
    }
    let file = host.file("task.json", &whole);
    host.coracle(["lint".as_ref(), file.as_os_str()]).ok();
    host.finish();
}

#[test]
fn hostile_json_is_refused_quickly() {
    let host = Host::new();
    let good = definition::probe(&["exit", "0"]).to_string();
    let in_command = |text: &str| good.replace("\"exit\"", text);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("not JSON", b"#!/bin/sh\n".to_vec()),
        ("binary", (0..=255).collect()),
        ("NUL", b"\0\0\0\0".to_vec()),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("an array", b"[]".to_vec()),
        ("a number", b"1e400".to_vec()),
        ("deep arrays", "[".repeat(1_000_000).into_bytes()),
        ("deep objects", "{\"a\":".repeat(1_000_000).into_bytes()),
        ("deep comments", "/*".repeat(1_000_000).into_bytes()),
        ("an endless comment", [b"// ".to_vec(), vec![b'x'; 1 << 20]].concat()),
        ("a huge number", good.replace("64", "1e999").into_bytes()),
        ("a negative limit", good.replace("64", "-64").into_bytes()),
        ("a fraction", good.replace("64", "64.5").into_bytes()),
        ("a number that overflows", good.replace("64", "18446744073709551616").into_bytes()),
        ("a lone surrogate", in_command(r#""\ud800""#).into_bytes()),
        ("a NUL in a command", in_command(r#""a\u0000b""#).into_bytes()),
        (
            "bytes that are not UTF-8",
            good.replace("probe:latest", "\u{1}")
                .into_bytes()
                .iter()
                .map(|byte| if *byte == 1 { 0xff } else { *byte })
                .collect(),
        ),
        ("the same member twice", good.replacen('{', r#"{"family":"other","#, 1).into_bytes()),
        ("two documents", format!("{good}{good}").into_bytes()),
        ("a long string", in_command(&format!("\"{}\"", "x".repeat(64 << 20))).into_bytes()),
        (
            "many containers",
            format!("{{\"family\":\"x\",\"containerDefinitions\":[{}]}}", vec!["{}"; 100_000].join(",")).into_bytes(),
        ),
        ("an unknown member", good.replacen('{', r#"{"famly":"x","#, 1).into_bytes()),
        ("path as a family", good.replace("\"test\"", "\"../../etc\"").into_bytes()),
        ("path as a container", good.replace("\"main\"", "\"../../etc\"").into_bytes()),
        ("escape sequences", good.replace("\"main\"", "\"\\u001b[31mred\"").into_bytes()),
    ];
    for (what, bytes) in cases {
        let file = host.file("task.json", bytes);
        for command in ["lint", "run"] {
            let ended = host.coracle([command.as_ref(), file.as_os_str()]).refused(&[]);
            assert!(ended.elapsed < QUICK, "{command} of {what} took {:?}", ended.elapsed);
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(!said.trim().is_empty(), "{command} of {what} says nothing");
            assert!(!said.contains('\u{1b}'), "{command} of {what} sends escape sequences: {said:?}");
            assert!(said.len() < 100_000, "{command} of {what} says {} bytes", said.len());
        }
    }
    host.finish();
}

#[test]
fn unknown_members_are_named_with_what_would_be_right() {
    let host = Host::new();
    let mut definition = definition::probe_with(&["exit", "0"], &json!({ "enviroment": [] }));
    definition["containerDefinition"] = json!([]);
    let file = host.file("task.json", definition.to_string());
    host.coracle(["lint".as_ref(), file.as_os_str()]).expect_code(1).prints(&[
        "containerDefinitions[0].enviroment",
        "environment",
        "containerDefinition",
    ]);
    host.run(&definition, &[]).refused(&["enviroment"]);
    host.finish();
}

#[test]
fn files_and_tasks_that_are_not_there() {
    let host = Host::new();
    host.coracle(["run", "/nowhere/task.json"]).refused(&["/nowhere/task.json"]);
    host.coracle(["lint", "/"]).refused(&["/"]);
    for command in [&["inspect"][..], &["logs"], &["stop"], &["rm"], &["exec"]] {
        let mut arguments = command.to_vec();
        arguments.push("0123456789abcdef");
        if command[0] == "exec" {
            arguments.extend(["--", "true"]);
        }
        host.coracle(arguments).refused(&["0123456789abcdef"]);
    }
    for hostile in ["../../etc", "", "*", "a\nb", "-"] {
        host.coracle(["inspect", "--", hostile]).refused(&[]);
    }
    host.coracle(["ps"]).ok();
    host.finish();
}

/// Becomes user 65534 after everything that prepared the command as root.
fn without_root(command: &mut std::process::Command) {
    const NOBODY: u32 = 65534;
    // SAFETY: system calls with integers and a null pointer, in the child between fork and exec.
    let become_nobody = || unsafe {
        if libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(NOBODY) == 0 && libc::setuid(NOBODY) == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: `become_nobody` makes system calls and allocates nothing.
    unsafe { command.pre_exec(become_nobody) };
}

#[test]
fn without_root_it_says_so() {
    let host = Host::new();
    host.import_probe();
    let file = host.file("task.json", definition::probe(&["exit", "0"]).to_string());
    for arguments in [vec!["run".as_ref(), file.as_os_str()], vec!["ps".as_ref()]] {
        let mut command = host.command(&arguments);
        without_root(&mut command);
        let ended = Running::start(&mut command).wait().refused(&[]);
        assert!(ended.stderr.contains("root") || ended.stderr.contains("ermission denied"), "{}", ended.whole());
    }
    let mut command = host.command(["run"]);
    command.arg(&file);
    without_root(&mut command);
    Running::start(&mut command).wait().refused(&["root"]);
    // What needs no root works without.
    let mut command = host.command(["lint"]);
    command.arg(&file);
    without_root(&mut command);
    Running::start(&mut command).wait().ok();
    host.finish();
}

/// Hides the cgroup hierarchies from a command, in a mount namespace of its own.
fn without_cgroups(command: &mut std::process::Command) {
    let hide = || {
        // SAFETY: system calls with constant strings, in the child between fork and exec.
        let hidden = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(
                    std::ptr::null(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) == 0
                && libc::umount2(c"/sys/fs/cgroup".as_ptr(), libc::MNT_DETACH) == 0
        };
        if hidden { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: `hide` makes system calls and allocates nothing.
    unsafe { command.pre_exec(hide) };
}

#[test]
fn a_host_that_lacks_something_is_told_what_and_the_cure() {
    let host = Host::new();
    host.import_probe();
    let doctor = host.coracle(["doctor"]);
    assert!(doctor.stdout.contains("cgroup"), "{}", doctor.whole());
    let file = host.file("task.json", definition::probe(&["exit", "0"]).to_string());
    let mut command = host.command(["run"]);
    command.arg(file);
    without_cgroups(&mut command);
    Running::start(&mut command).wait().refused(&["cgroup"]);
    let mut command = host.command(["doctor"]);
    without_cgroups(&mut command);
    let doctor = Running::start(&mut command).wait();
    assert_ne!(doctor.code(), 0, "{}", doctor.whole());
    assert!(doctor.stdout.contains("cgroup"), "{}", doctor.whole());
    host.finish();
}

#[test]
fn directories_that_cannot_be_used_are_named() {
    let host = Host::new();
    let file = host.file("not-a-directory", "");
    for variable in ["CORACLE_DATA_DIR", "CORACLE_RUN_DIR"] {
        let task = host.file("task.json", definition::probe(&["exit", "0"]).to_string());
        let mut command = host.command(["run"]);
        command.arg(task).env(variable, &file);
        Running::start(&mut command).wait().refused(&["not-a-directory"]);
    }
    for parent in ["../up", "a/../../b", "", "with\nline"] {
        let task = host.file("task.json", definition::probe(&["exit", "0"]).to_string());
        let mut command = host.command(["run"]);
        command.arg(task).env("CORACLE_CGROUP_PARENT", parent);
        Running::start(&mut command).wait().refused(&[]);
    }
    host.finish();
}
