//! What a container cannot do, each with the defect of libcontainer as a library, or the CVE, that the test is about.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::Rig;

/// Docker's default capabilities: `grep Cap /proc/self/status` in a container of Docker's.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

fn line<'a>(status: &'a str, name: &str) -> &'a str {
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

fn assert_confined(status: &str) {
    assert_eq!(line(status, "Seccomp"), "2");
    assert_eq!(line(status, "NoNewPrivs"), "0");
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(line(status, set), DEFAULT_CAPABILITIES, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(line(status, set), "0000000000000000", "{set}");
    }
}

/// T4, E18, C01: libcontainer without libseccomp warns and goes on unfiltered.
#[test]
fn the_filter_and_the_capabilities_are_there_as_seen_from_outside() {
    let rig = Rig::shell("sleep 1000");
    let running = rig.start();
    assert_confined(&running.status());
    assert_eq!(running.kill()["exited"], 137);
}

/// E18: the same for exec, which libcontainer never filters.
#[test]
fn a_process_of_exec_is_as_confined() {
    let rig = Rig::shell("sleep 1000");
    let mut running = rig.start();
    let answer = running.exec(&["cat", "/proc/self/status"]);
    assert_eq!(answer["exit"], 0, "{answer}");
    assert_confined(&rig.output());
    let answer = running.exec(&["sh", "-c", "exit 7"]);
    assert_eq!(answer["exit"], 7);
    running.kill();
}

/// C03, C04: calls that the profile refuses, through every entry point.
#[test]
fn calls_outside_of_the_profile_are_refused() {
    let rig = Rig::own_executable("probe");
    let (code, output) = rig.run();
    assert_eq!(code, 0, "{output}");
    let answers: Value = serde_json::from_str(&output).unwrap();
    let refused = [
        "unshare",
        "keyctl",
        "io_uring_setup",
        "bpf",
        "mount",
        "userfaultfd",
        "clone_newuser",
        "af_alg",
        "af_vsock",
        "personality",
    ];
    for call in refused {
        assert_eq!(answers[call], libc::EPERM, "{call} in {answers}");
    }
    for call in ["clone3", "i386", "x32"] {
        assert_eq!(answers[call], libc::ENOSYS, "{call} in {answers}");
    }
    assert_eq!(answers["af_inet"], 0);
}

/// T6, E16: a session keyring of its own. Privileged, because the filter would hide it.
#[test]
fn the_session_keyring_is_not_the_callers() {
    let mut rig = Rig::own_executable("probe");
    rig.definition()["privileged"] = json!(true);
    let running = rig.start();
    let callers = running.first["keyring"].as_i64().unwrap();
    running.finish();
    let answers: Value = serde_json::from_str(&rig.output()).unwrap();
    let own = answers["keyring"].as_i64().unwrap();
    assert!(own > 0, "{answers}");
    assert_ne!(own, callers);
}

/// T7, E04: descriptors that the caller has left open, and LISTEN_FDS in its environment, reach nobody.
#[test]
fn nothing_is_open_but_the_standard_streams() {
    let rig = Rig::shell("env; echo told; sleep 1000");
    let host_root = File::open("/").unwrap();
    let leaked = host_root.as_raw_fd();
    let mut running = rig.start_with(|command| {
        command.env("LISTEN_FDS", "20").env("NOTIFY_SOCKET", "/run/notify");
        // SAFETY: only dup2, on numbers that the helper does not use yet.
        unsafe {
            command.pre_exec(move || {
                for number in 3..23 {
                    if libc::dup2(leaked, number) < 0 && number != leaked {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
    });
    let open = |pid: i32| -> BTreeSet<String> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    // `env` is a process of its own, which may still be at it.
    let patience = Instant::now() + Duration::from_secs(60);
    while !rig.output().contains("told") {
        assert!(Instant::now() < patience, "{}", rig.output());
        std::thread::yield_now();
    }
    assert_eq!(open(running.pid()), ["0", "1", "2"].map(String::from).into());
    running.exec(&["ls", "/proc/self/fd"]);
    running.kill();
    let output = rig.output();
    assert!(!output.contains("LISTEN") && !output.contains("NOTIFY"), "{output}");
    // `ls` itself has the directory open as the fourth.
    assert!(output.ends_with("0\n1\n2\n3\n"), "{output}");
}

/// T1, E01: CVE-2019-5736 by run and by exec. Without the read-only mount the answer to the first would be ETXTBSY,
/// and success as soon as nobody executes the binary any more; chmod would succeed at once.
#[test]
fn the_binary_cannot_be_written_through_proc() {
    let rig = Rig::own_executable("hold");
    let mut running = rig.start();
    let image = format!("/proc/{}/exe", running.pid());
    let error = File::options().write(true).truncate(true).open(&image).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    let answer = running.exec(&["sh", "-c", "echo evil >/proc/1/exe; chmod 777 /proc/1/exe"]);
    assert_eq!(answer["exit"], 1, "{answer}");
    running.kill();
    assert_eq!(rig.output().matches("Read-only file system").count(), 2, "{}", rig.output());
}

/// T2, E08, E09: libcontainer follows an image's /dev out of the root and makes links there.
#[test]
fn an_image_whose_mount_points_are_links_is_refused() {
    for (name, target) in
        [("dev", "absolute"), ("dev", "../../../guard"), ("proc", "absolute"), ("sys", "absolute"), ("etc", "absolute")]
    {
        let rig = Rig::shell("true");
        let guard = rig.path("guard");
        fs::create_dir(&guard).unwrap();
        fs::write(guard.join("ptmx"), "the host's").unwrap();
        let target = if target == "absolute" { guard.clone() } else { target.into() };
        symlink(target, rig.layer().join(name)).unwrap();
        let end = rig.start().finish();
        let wanted = format!(
            "CannotCreateContainerError: /{name} of the image is a symbolic link, not a directory: a container needs it to be one"
        );
        assert_eq!(end["failed"], wanted, "{end}");
        assert_eq!(fs::read(guard.join("ptmx")).unwrap(), b"the host's");
        assert_eq!(fs::read_dir(&guard).unwrap().count(), 1);
    }
}

/// E09, C09: a link of the image at one of our files is replaced.
#[test]
fn links_at_our_files_are_not_followed() {
    let rig = Rig::shell("cat /etc/resolv.conf; ls -l /run/resolv.conf");
    let guard = rig.path("guard");
    fs::write(&guard, "the host's").unwrap();
    fs::create_dir(rig.layer().join("etc")).unwrap();
    symlink("../run/resolv.conf", rig.layer().join("etc/resolv.conf")).unwrap();
    symlink(&guard, rig.layer().join("etc/hosts")).unwrap();
    let (_, output) = rig.run();
    assert!(output.starts_with("nameserver 192.0.2.53\n"), "{output}");
    assert!(output.contains("No such file"), "{output}");
    assert_eq!(fs::read(&guard).unwrap(), b"the host's");
}

/// T3, T5, E17, C10: only the default devices open; tun, which libcontainer allows on its own account, does not.
#[test]
fn devices_that_are_not_listed_do_not_open() {
    let rig = Rig::shell(
        "cd /tmp || { mkdir /tmp; cd /tmp; }; try() { mknod $1 $2 $3 $4 && (: <$1) && echo $1 opens; }; \
         try null c 1 3; try zero c 1 5; try mem c 1 1; try kmsg c 1 11; try tun c 10 200; try loop-control c 10 237; \
         try fuse c 10 229; try kvm c 10 232; try ram b 1 0; try loop b 7 0; ls /dev | cat",
    );
    let (_, output) = rig.run();
    let opened: Vec<&str> = output.lines().filter_map(|line| line.strip_suffix(" opens")).collect();
    assert_eq!(opened, ["null", "zero"], "{output}");
    assert_eq!(output.matches("Operation not permitted").count(), 8, "{output}");
    let listed: BTreeSet<&str> = output.lines().filter(|line| !line.contains(' ')).collect();
    let wanted = [
        "fd", "full", "kcore", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    ];
    let wanted: BTreeSet<&str> = wanted.into();
    assert!(listed.is_subset(&wanted), "{listed:?}");
}

/// T8: the builder changes the process that calls it.
#[test]
fn the_caller_is_as_before() {
    let rig = Rig::shell("sleep 1000");
    let running = rig.start_with(|command| {
        command.current_dir("/usr");
    });
    assert_eq!(running.first["dumpable"], true);
    let helper = format!("/proc/{}", running.helper_pid());
    assert_eq!(fs::read_link(format!("{helper}/cwd")).unwrap().to_str(), Some("/usr"));
    let score = |process: &str| fs::read_to_string(format!("{process}/oom_score_adj")).unwrap();
    assert_eq!(score(&helper), score("/proc/self"));
    let namespace = |process: &str| fs::read_link(format!("{process}/ns/mnt")).unwrap();
    assert_eq!(namespace(&helper), namespace("/proc/self"));
    running.kill();
}

/// T11: libcontainer takes "false" for "true" here.
#[test]
fn no_new_privileges_is_as_asked() {
    let mut rig = Rig::shell("grep NoNewPrivs /proc/self/status");
    rig.definition()["dockerSecurityOptions"] = json!(["no-new-privileges"]);
    assert_eq!(rig.run(), (0, "NoNewPrivs:\t1\n".to_owned()));
    assert_eq!(Rig::shell("grep NoNewPrivs /proc/self/status").run(), (0, "NoNewPrivs:\t0\n".to_owned()));
}

/// C05, C06, E12, E13: what of /proc, /sys and the cgroups shows, and that none of it can be written.
#[test]
fn kernel_files_are_masked_or_read_only() {
    let rig = Rig::shell(
        "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware /proc/acpi | grep -v : | wc -w; \
         for f in /proc/sys/kernel/core_pattern /sys/kernel/uevent_seqnum; do echo >$f; done; \
         for d in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -L $d ] || [ ! -d $d ] || mkdir $d/evil; done; cat /proc/mounts",
    );
    let (_, output) = rig.run();
    assert!(output.starts_with("0\n0\n"), "{output}");
    let hierarchies = output.lines().filter(|line| line.contains(" /sys/fs/cgroup")).count();
    assert!(hierarchies > 0);
    let refusals = output.matches("Read-only file system").count();
    let directories = output.lines().filter(|line| line.contains("can't create directory")).count();
    assert!(refusals >= 2 + directories && directories >= hierarchies, "{output}");
    let layer = rig.path("");
    assert!(!output.contains(layer.to_str().unwrap()), "a path of the host shows: {output}");
    let reached = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().any(|entry| entry.path().join("evil").exists());
    assert!(!reached);
}

/// C07: the size that was asked for, to the byte.
#[test]
fn shared_memory_has_its_size() {
    let mut rig = Rig::shell("head -c 2097152 /dev/zero >/dev/shm/a && echo fits; head -c 1 /dev/zero >/dev/shm/b");
    rig.definition()["linuxParameters"] = json!({"sharedMemorySize": 2});
    let (_, output) = rig.run();
    assert!(output.starts_with("fits\n") && output.ends_with("No space left on device\n"), "{output}");
}

/// E03: a working directory that leads to a descriptor of the host.
#[test]
fn the_working_directory_cannot_leave_the_root() {
    for descriptor in 3..20 {
        let mut rig = Rig::shell("true");
        rig.definition()["workingDirectory"] = json!(format!("/proc/self/fd/{descriptor}"));
        let end = rig.start().finish();
        let text = end["failed"].as_str().unwrap_or_else(|| panic!("{end}"));
        assert!(text.starts_with("CannotStartContainerError: chdir to cwd"), "{text}");
    }
}

/// E22: hostile passwd files are refused in time, not read.
#[test]
fn hostile_user_files_are_refused() {
    let rig = |prepare: &dyn Fn(&std::path::Path)| {
        let rig = Rig::shell("true");
        fs::create_dir(rig.layer().join("etc")).unwrap();
        prepare(&rig.layer().join("etc/passwd"));
        rig
    };
    let sparse = rig(&|path| File::create(path).unwrap().set_len(2 << 30).unwrap());
    let fifo = rig(&|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap());
    for (rig, why) in [(sparse, "it is larger than 1048576 bytes"), (fifo, "it is not a regular file")] {
        let end = rig.start().finish();
        let text = end["failed"].as_str().unwrap_or_else(|| panic!("{end}"));
        assert!(text.ends_with(why), "{text}");
    }
    let mut outside = rig(&|path| symlink("../../../../../../../../etc/shadow", path).unwrap());
    outside.definition()["user"] = json!("daemon");
    let end = outside.start().finish();
    assert!(end["failed"].as_str().unwrap().contains("unable to find user daemon"), "{end}");
}

/// The mount namespace of the host sees nothing of it.
#[test]
fn no_mount_shows_on_the_host() {
    let rig = Rig::shell("sleep 1000");
    let running = rig.start();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(rig.path("run").to_str().unwrap()), "{mounts}");
    let bundle = rig.path("run/bundles/app");
    assert_eq!(fs::read_dir(&bundle).unwrap().count(), 0, "the scratch files are the launcher's alone");
    assert_eq!(fs::metadata(&bundle).unwrap().uid(), 0);
    running.kill();
}
