//! What a container is confined to by default: the golden values of HARDENING's C01 to C12, seen from inside.
//! They are those of Docker's default profile (moby/profiles, 2026-06-30) and its documentation.

use serde_json::{Value, json};

use crate::support::{Host, definition};

/// CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE
/// SETFCAP: bits 0 1 3 4 5 6 7 8 10 13 18 27 29 31 (linux/capability.h).
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";
const NO_CAPABILITIES: &str = "0000000000000000";

const EPERM: i64 = 1;
const EROFS: i64 = 30;
const ENOSYS: i64 = 38;

#[test]
fn c01_capabilities_are_dockers_default_and_follow_the_definition() {
    let host = Host::new();
    let report = host.probe(&["report"]);
    let sets = &report["capabilities"];
    for set in ["permitted", "effective", "bounding"] {
        assert_eq!(sets[set], DEFAULT_CAPABILITIES, "{set}");
    }
    for set in ["inheritable", "ambient"] {
        assert_eq!(sets[set], NO_CAPABILITIES, "{set}");
    }
    let none = json!({ "linuxParameters": { "capabilities": { "drop": ["ALL"] } } });
    let sets = &host.probe_with(&["report"], &none)["capabilities"];
    for set in ["permitted", "effective", "bounding", "inheritable", "ambient"] {
        assert_eq!(sets[set], NO_CAPABILITIES, "{set} after drop ALL");
    }
    // SYS_PTRACE is bit 19, NET_RAW bit 13.
    let changed = json!({ "linuxParameters": { "capabilities": { "add": ["SYS_PTRACE"], "drop": ["NET_RAW"] } } });
    let sets = &host.probe_with(&["report"], &changed)["capabilities"];
    assert_eq!(sets["effective"], "00000000a80c05fb");
    assert_eq!(sets["bounding"], "00000000a80c05fb");
    host.finish();
}

#[test]
fn c01_another_user_has_no_capabilities_but_keeps_the_bounding_set() {
    let host = Host::new();
    let report = host.probe_with(&["report"], &json!({ "user": "ana" }));
    let sets = &report["capabilities"];
    for set in ["permitted", "effective", "inheritable", "ambient"] {
        assert_eq!(sets[set], NO_CAPABILITIES, "{set}");
    }
    assert_eq!(sets["bounding"], DEFAULT_CAPABILITIES);
    assert_eq!(report["uid"], "1000\t1000\t1000\t1000");
    assert_eq!(report["gid"], "1000\t1000\t1000\t1000");
    // Docker gives the groups that the image's /etc/group lists for the user.
    let mut groups: Vec<&str> = report["groups"].as_str().expect("a list").split_whitespace().collect();
    groups.retain(|group| *group != "1000");
    assert_eq!(groups, ["2000", "2001"]);
    assert_eq!(report["environment"]["HOME"], "/home/ana");
    host.finish();
}

#[test]
fn c01_users_by_number_and_group() {
    let host = Host::new();
    for (user, uid, gid) in
        [("1000:2000", "1000", "2000"), ("4242", "4242", "0"), ("ana:boat", "1000", "2000"), ("0", "0", "0")]
    {
        let report = host.probe_with(&["report"], &json!({ "user": user }));
        assert_eq!(report["uid"], format!("{uid}\t{uid}\t{uid}\t{uid}"), "user {user}");
        assert_eq!(report["gid"], format!("{gid}\t{gid}\t{gid}\t{gid}"), "user {user}");
    }
    host.finish();
}

#[test]
fn c02_no_new_privileges_is_off_unless_asked() {
    let host = Host::new();
    assert_eq!(host.probe(&["report"])["no_new_privs"], "0");
    let asked = json!({ "dockerSecurityOptions": ["no-new-privileges"] });
    let report = host.probe_with(&["report"], &asked);
    assert_eq!(report["no_new_privs"], "1");
    assert_eq!(report["seccomp"], "2");
    host.finish();
}

/// Not among the profile's calls for a process without further capabilities, by x86-64 number.
#[cfg(target_arch = "x86_64")]
const REFUSED: &[(i32, &str)] = &[
    (103, "syslog"),
    (134, "uselib"),
    (136, "ustat"),
    (139, "sysfs"),
    (153, "vhangup"),
    (155, "pivot_root"),
    (156, "_sysctl"),
    (163, "acct"),
    (164, "settimeofday"),
    (165, "mount"),
    (166, "umount2"),
    (167, "swapon"),
    (168, "swapoff"),
    (169, "reboot"),
    (170, "sethostname"),
    (171, "setdomainname"),
    (172, "iopl"),
    (173, "ioperm"),
    (174, "create_module"),
    (175, "init_module"),
    (176, "delete_module"),
    (177, "get_kernel_syms"),
    (178, "query_module"),
    (179, "quotactl"),
    (180, "nfsservctl"),
    (181, "getpmsg"),
    (182, "putpmsg"),
    (183, "afs_syscall"),
    (184, "tuxcall"),
    (185, "security"),
    (212, "lookup_dcookie"),
    (227, "clock_settime"),
    (236, "vserver"),
    (237, "mbind"),
    (238, "set_mempolicy"),
    (239, "get_mempolicy"),
    (246, "kexec_load"),
    (248, "add_key"),
    (249, "request_key"),
    (250, "keyctl"),
    (256, "migrate_pages"),
    (272, "unshare"),
    (279, "move_pages"),
    (298, "perf_event_open"),
    (300, "fanotify_init"),
    (304, "open_by_handle_at"),
    (308, "setns"),
    (312, "kcmp"),
    (313, "finit_module"),
    (320, "kexec_file_load"),
    (321, "bpf"),
    (323, "userfaultfd"),
    (425, "io_uring_setup"),
    (426, "io_uring_enter"),
    (427, "io_uring_register"),
    (428, "open_tree"),
    (429, "move_mount"),
    (430, "fsopen"),
    (431, "fsconfig"),
    (432, "fsmount"),
    (433, "fspick"),
    (438, "pidfd_getfd"),
    (440, "process_madvise"),
    (442, "mount_setattr"),
    (443, "quotactl_fd"),
    (450, "set_mempolicy_home_node"),
    (459, "lsm_get_self_attr"),
    (460, "lsm_set_self_attr"),
    (461, "lsm_list_modules"),
];

/// Decided by their arguments, which the sweep cannot give them: clone, socket, personality.
#[cfg(target_arch = "x86_64")]
const BY_ARGUMENT: &[i32] = &[41, 56, 135];
#[cfg(target_arch = "x86_64")]
const CLONE3: i32 = 435;
/// uretprobe and uprobe: the kernel lets them pass every filter (seccomp_uprobe_exception) and answers by itself.
#[cfg(target_arch = "x86_64")]
const PAST_EVERY_FILTER: [i32; 2] = [335, 336];
/// The profile allows landlock_restrict_self; without no_new_privs the kernel itself refuses it.
#[cfg(target_arch = "x86_64")]
const REFUSED_BY_THE_KERNEL: i32 = 446;
/// After the calls for extended attributes by directory, the last that the profile knows.
#[cfg(target_arch = "x86_64")]
const FIRST_UNKNOWN: i32 = 467;

#[cfg(target_arch = "x86_64")]
#[test]
fn c03_every_system_call_answers_as_the_profile_says() {
    let host = Host::new();
    let answers = host.probe(&["syscalls", "0", "600"]);
    let answers = answers.as_object().expect("number to answer");
    let mut wrong = Vec::new();
    for (number, answer) in answers {
        let number: i32 = number.parse().expect("a number");
        let name = REFUSED.iter().find(|(refused, _)| *refused == number).map(|(_, name)| *name);
        let right = match (number, name) {
            (CLONE3, _) => *answer == ENOSYS,
            (REFUSED_BY_THE_KERNEL, _) => true,
            (number, _) if PAST_EVERY_FILTER.contains(&number) => true,
            (_, Some(_)) => *answer == EPERM,
            (number, None) if BY_ARGUMENT.contains(&number) => true,
            // Unassigned numbers below 424, and calls newer than the profile: refused, in either way.
            (337..=423 | FIRST_UNKNOWN.., None) => *answer == EPERM || *answer == ENOSYS,
            (_, None) => *answer != EPERM && *answer != "signal 31",
        };
        if !right {
            wrong.push(format!("{number} {}: {answer}", name.unwrap_or("")));
        }
    }
    assert!(answers.len() > 590, "only {} calls answered", answers.len());
    assert!(wrong.is_empty(), "system calls that answer otherwise than Docker's profile:\n{}", wrong.join("\n"));
    host.finish();
}

#[test]
fn c03_socket_families_namespaces_and_mounts() {
    let host = Host::new();
    let attempts = host.probe(&["attempts"]);
    let errno =
        |what: &str| attempts["errno"][what].as_i64().unwrap_or_else(|| panic!("no attempt {what}: {attempts}"));
    for refused in [
        "socket AF_ALG",
        "socket AF_VSOCK",
        "unshare user",
        "unshare mount",
        "unshare net",
        "unshare cgroup",
        "clone user",
        "mount proc",
        "mount sysfs",
        "mount tmpfs",
        "mount cgroup",
        "mount cgroup2",
        "mount devtmpfs",
        "mount ext4",
        "sethostname",
        "reboot",
    ] {
        assert_eq!(errno(refused), EPERM, "{refused}");
    }
    assert_eq!(errno("clone3"), ENOSYS);
    // NET_RAW is among Docker's default capabilities.
    for allowed in ["socket AF_INET", "socket AF_UNIX", "socket AF_NETLINK", "socket AF_PACKET"] {
        assert_eq!(errno(allowed), 0, "{allowed}");
    }
    assert_eq!(attempts["writable"], json!([]));
    host.finish();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn c04_the_other_ways_into_the_kernel_are_closed() {
    let host = Host::new();
    let answers = host.probe(&["foreign-syscalls"]);
    for (way, answer) in answers.as_object().expect("way to answer") {
        // EPERM, ENOSYS, or the death by SIGSYS that libseccomp has for a foreign architecture; never an answer.
        let closed = *answer == EPERM || *answer == ENOSYS || *answer == "signal 31";
        assert!(closed, "{way}: {answer}");
    }
    host.finish();
}

#[test]
fn c05_masked_and_read_only_paths() {
    let host = Host::new();
    let masked = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    let looks = host.probe(&[&["paths"], &masked[..]].concat());
    for path in masked {
        let look = &looks[path];
        let hidden = match look {
            Value::Null => true,
            look if look["kind"] == "dir" => look["entries"] == json!([]) && look["write_errno"] == EROFS,
            look => look["content"] == "",
        };
        assert!(hidden, "{path}: {look}");
    }
    let mounts = mounts(&host.probe(&["report"]));
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys"] {
        let mounted = mounts.iter().find(|(point, _, _)| point == path);
        let read_only = mounted.is_some_and(|(_, _, options)| options.split(',').any(|option| option == "ro"));
        assert!(read_only || !std::path::Path::new(path).exists(), "{path} is not read-only: {mounted:?}");
    }
    // A file that is there, so that it is the mount which refuses.
    let looks = host.probe(&["paths", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"]);
    for (path, look) in looks.as_object().expect("paths") {
        assert!(look.is_null() || look["write_errno"] == EROFS, "{path}: {look}");
    }
    host.finish();
}

/// Mount point, file system and options (of the mount and of the file system) of each line of mountinfo.
fn mounts(report: &Value) -> Vec<(String, String, String)> {
    let lines = report["mounts"].as_array().expect("mountinfo");
    lines
        .iter()
        .map(|line| {
            let line = line.as_str().expect("a line");
            let (place, source) = line.split_once(" - ").expect("mountinfo has a separator");
            let place: Vec<&str> = place.split(' ').collect();
            let source: Vec<&str> = source.split(' ').collect();
            let options = format!("{},{}", place[5], source.get(2).unwrap_or(&""));
            (place[4].to_owned(), source[0].to_owned(), options)
        })
        .collect()
}

#[test]
fn c06_mounts_are_dockers_and_nothing_is_the_hosts() {
    let host = Host::new();
    let report = host.probe(&["report"]);
    let mounts = mounts(&report);
    let find = |point: &str| {
        mounts.iter().find(|(at, _, _)| at == point).unwrap_or_else(|| panic!("no mount at {point}: {mounts:#?}"))
    };
    for (point, kind, wanted) in [
        ("/", "overlay", &["rw"][..]),
        ("/proc", "proc", &["nosuid", "nodev", "noexec"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
        ("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec"]),
        ("/dev/shm", "tmpfs", &["nosuid", "nodev", "noexec", "size=65536k"]),
        ("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
    ] {
        let (_, found, options) = find(point);
        assert_eq!(found, kind, "{point}");
        for option in wanted {
            assert!(options.split(',').any(|given| given == *option), "{point} lacks {option}: {options}");
        }
    }
    for (point, _, options) in mounts.iter().filter(|(point, _, _)| point.starts_with("/sys/fs/cgroup")) {
        assert!(options.split(',').any(|option| option == "ro"), "{point} is not read-only: {options}");
    }
    for line in report["mounts"].as_array().expect("mountinfo") {
        let line = line.as_str().expect("a line");
        assert!(!line.contains("shared:"), "propagates to the host: {line}");
        // An overlay's layers have to be named; every other host path has no place here.
        let own_files = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/opt/ecs/metadata/", " - overlay "];
        let excused = own_files.iter().any(|name| line.contains(name));
        assert!(excused || !line.contains("coracle-test-"), "shows a path of the host: {line}");
    }
    let known = ["/", "/proc", "/sys", "/dev", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"];
    for (point, kind, _) in &mounts {
        let ours = known.contains(&point.as_str())
            || ["/proc/", "/sys/", "/dev/", "/opt/ecs/metadata/"].iter().any(|folder| point.starts_with(folder));
        assert!(ours, "an unknown mount: {kind} at {point}");
    }
    host.finish();
}

#[test]
fn c07_shared_memory_is_64_mib_or_as_asked() {
    let host = Host::new();
    const ENOSPC: i64 = 28;
    const MIB: i64 = 1 << 20;
    let roomy = |members: Value| {
        let mut members = members;
        members["memory"] = json!(256);
        host.probe_with(&["fill", "/dev/shm/x"], &members)
    };
    let filled = roomy(json!({}));
    assert_eq!(filled, json!({ "bytes": 64 * MIB, "errno": ENOSPC }));
    let filled = roomy(json!({ "linuxParameters": { "sharedMemorySize": 8 } }));
    assert_eq!(filled, json!({ "bytes": 8 * MIB, "errno": ENOSPC }));
    host.finish();
}

#[test]
fn c08_namespaces_are_its_own() {
    let host = Host::new();
    let report = host.probe(&["report"]);
    for namespace in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let outside = std::fs::read_link(format!("/proc/self/ns/{namespace}")).expect("a process has namespaces");
        let inside = report["namespaces"][namespace].as_str().expect("a container has namespaces");
        assert_ne!(inside, outside.display().to_string(), "{namespace}");
    }
    assert_ne!(report["namespaces"]["net"], format!("net:[{}]", host.namespace.inode()));
    assert_eq!(report["pid"], 1);
    // A cgroup namespace shows its own root everywhere.
    for line in report["cgroup"].as_array().expect("lines") {
        assert!(line.as_str().is_some_and(|line| line.ends_with(":/")), "{line}");
    }
    host.finish();
}

#[test]
fn c09_limits_hostname_and_generated_files() {
    let host = Host::new();
    let members = json!({
        "hostname": "dinghy",
        "ulimits": [
            { "name": "nofile", "softLimit": 2048, "hardLimit": 4096 },
            { "name": "core", "softLimit": 0, "hardLimit": 0 },
        ],
        "extraHosts": [{ "hostname": "shore", "ipAddress": "192.0.2.7" }],
    });
    let report = host.probe_with(&["report"], &members);
    assert_eq!(report["hostname"], "dinghy");
    let limit = |name: &str| {
        let lines = report["limits"].as_array().expect("lines");
        let line = lines.iter().filter_map(Value::as_str).find(|line| line.starts_with(name)).expect("a limit");
        line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max open files"), ["2048", "4096"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    let hosts = report["hosts"].as_str().expect("text");
    assert!(hosts.lines().any(|line| line.split_whitespace().eq(["127.0.0.1", "localhost"])), "{hosts}");
    assert!(hosts.lines().any(|line| line.split_whitespace().eq(["192.0.2.7", "shore"])), "{hosts}");
    host.finish();
}

/// What libcontainer calls Docker's /dev/core. It leads to /proc/kcore, which is masked, where a kernel has one.
const KCORE: &str = "/dev/kcore";

#[test]
fn c10_dev_has_dockers_nodes_and_nothing_else() {
    let host = Host::new();
    let report = host.probe(&["report"]);
    let dev = report["dev"].as_object().expect("paths");
    for (path, device) in [
        ("/dev/null", "1:3"),
        ("/dev/zero", "1:5"),
        ("/dev/full", "1:7"),
        ("/dev/random", "1:8"),
        ("/dev/urandom", "1:9"),
        ("/dev/tty", "5:0"),
    ] {
        assert_eq!(dev[path]["kind"], "char", "{path}");
        assert_eq!(dev[path]["device"], device, "{path}");
        assert_eq!(dev[path]["mode"], 0o666, "{path}");
    }
    let links = ["/dev/ptmx", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/core", KCORE];
    for (path, look) in dev {
        let kind = look["kind"].as_str().expect("a kind");
        let expected = match kind {
            "char" => {
                let nodes = ["null", "zero", "full", "random", "urandom", "tty", "pts/ptmx", "console", "ptmx"];
                nodes.iter().any(|node| path.strip_prefix("/dev/") == Some(node)) || path.starts_with("/dev/pts/")
            }
            "dir" => ["/dev/pts", "/dev/shm", "/dev/mqueue"].contains(&path.as_str()),
            "link" => links.contains(&path.as_str()),
            _ => false,
        };
        assert!(expected, "{path} is not Docker's: {look}");
    }
    let written = host.run(&definition::probe(&["write", "/dev/null"]), &[]);
    written.ok();
    host.finish();
}

#[test]
fn c12_privileged_is_privileged_and_can_be_forbidden() {
    let host = Host::new();
    host.import_probe();
    let definition = definition::probe_with(&["report"], &json!({ "privileged": true }));
    let report = host.run(&definition, &[]).ok().report("main");
    assert_eq!(report["seccomp"], "0");
    let effective = report["capabilities"]["effective"].as_str().expect("hexadecimal digits");
    let effective = u64::from_str_radix(effective, 16).expect("hexadecimal digits");
    const SYS_ADMIN: u64 = 1 << 21;
    assert!(effective & SYS_ADMIN != 0, "{effective:x}");
    let file = host.file("task.json", definition.to_string());
    let mut forbidden = host.command(["run"]);
    forbidden.arg(file).env("ECS_DISABLE_PRIVILEGED", "true");
    crate::support::Running::start(&mut forbidden).wait().refused(&["privileged"]);
    host.finish();
}

#[test]
fn a_read_only_root_file_system_is_read_only() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "readonlyRootFilesystem": true });
    host.run(&definition::probe_with(&["write", "/work/x", "y"], &members), &[]).expect_code(1).says(&[]);
    host.run(&definition::probe_with(&["write", "/dev/shm/x", "y"], &members), &[]).ok();
    host.run(&definition::probe(&["write", "/work/x", "y"]), &[]).ok();
    host.finish();
}

/// The same from outside, for a container and for a process that came later.
#[test]
fn confinement_seen_from_outside() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let exec = host.start(["exec", &task, "--", "/bin/probe", "wait"]);
    exec.wait_for_output("waiting");
    for pid in super::hardening::so_many_processes(&host, &task, 2) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        for line in ["Seccomp:\t2", "NoNewPrivs:\t0", &format!("CapEff:\t{DEFAULT_CAPABILITIES}")] {
            assert!(status.contains(line), "{line} is not in the status of {pid}:\n{status}");
        }
    }
    host.coracle(["stop", &task]).ok();
    exec.wait();
    host.coracle(["rm", &task]).ok();
    host.finish();
}
