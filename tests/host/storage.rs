//! `ephemeralStorage`: the task that fills it, the others that do not notice, and what is left of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Host, cgroups, definition, process, wait_for};

const GIB: u64 = 1 << 30;

fn task(containers: &[Value], size_gib: u64) -> Value {
    let mut task = definition::task(containers);
    task["ephemeralStorage"] = json!({ "sizeInGiB": size_gib });
    task["volumes"] = json!([{ "name": "scratch" }]);
    task
}

fn members(more: Value) -> Value {
    let mut members = json!({ "mountPoints": [{ "sourceVolume": "scratch", "containerPath": "/scratch" }] });
    for (name, value) in more.as_object().into_iter().flatten() {
        members[name] = value.clone();
    }
    members
}

/// Loop devices over a file of the pretend host's, which has no name any more.
fn loop_devices(host: &Host) -> Vec<PathBuf> {
    let root = host.places.root.display().to_string();
    let devices = fs::read_dir("/sys/block").expect("sysfs").flatten().map(|entry| entry.path());
    let is_ours =
        |path: &PathBuf| fs::read_to_string(path.join("loop/backing_file")).is_ok_and(|file| file.starts_with(&root));
    devices.filter(is_ours).collect()
}

fn assert_no_device_is_left(host: &Host) {
    wait_for("the loop devices to go", || loop_devices(host).is_empty().then_some(()));
}

/// fallocate(2) takes the room without writing it: the test needs no 21 GiB.
#[test]
fn a_task_that_fills_its_storage_fills_nobody_elses() {
    let host = Host::new();
    host.import_probe();
    let bytes = |gib: u64| (gib * GIB).to_string();
    let after = |name: &str| json!({ "dependsOn": [{ "containerName": name, "condition": "COMPLETE" }] });
    let mut second = after("layer");
    second["essential"] = json!(false);
    let containers = [
        definition::container(
            "layer",
            &["take-room", "/work/big", &bytes(10)],
            &members(json!({ "essential": false })),
        ),
        definition::container("volume", &["take-room", "/scratch/big", &bytes(10)], &members(second)),
        definition::container("full", &["take-room", "/tmp/big", &bytes(2)], &members(after("volume"))),
    ];
    let before = free_bytes();
    let ended = host.run(&task(&containers, 21), &[]);
    let taken = |name: &str| ended.report(name)["errno"].clone();
    assert_eq!((taken("layer"), taken("volume")), (json!(0), json!(0)), "{}", ended.whole());
    assert_eq!(taken("full"), json!(libc::ENOSPC), "21 GiB are for all containers together: {}", ended.whole());
    // The same fits where there is no limit, or a higher one, given for this task alone.
    let one = [definition::container("full", &["take-room", "/tmp/big", &bytes(22)], &members(json!({})))];
    let more = r#"{"ephemeralStorage": {"sizeInGiB": 25}}"#;
    assert_eq!(host.run(&task(&one, 21), &[]).report("full")["errno"], json!(libc::ENOSPC));
    assert_eq!(host.run(&task(&one, 21), &["--override", more]).ok().report("full")["errno"], json!(0));
    assert!(free_bytes() + 2 * GIB > before, "the host's disk was not taken");
    assert_no_device_is_left(&host);
    host.finish();
}

fn free_bytes() -> u64 {
    // SAFETY: plain data for which zero is a value, and a C string.
    unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        assert_eq!(libc::statvfs(c"/tmp".as_ptr(), &raw mut found), 0);
        found.f_bavail * found.f_frsize
    }
}

/// Real bytes, the overlay's whiteouts and attributes; then SIGKILL to the supervisor. The device stays as long as
/// somebody has it open: what the checker looks at is what the kernel has left of it.
#[test]
fn a_killed_supervisor_leaves_no_device_and_a_whole_file_system_until_then() {
    let host = Host::new();
    host.import_probe();
    let id = host.detach(&task(&[definition::container("main", &["forever"], &members(json!({})))], 200), &[]);
    for command in [&["write", "/scratch/a", "text"][..], &["write", "/etc/passwd", "changed"]] {
        host.coracle([&["exec", &id, "--", "/bin/probe"], command].concat()).ok();
    }
    let devices = loop_devices(&host);
    assert_eq!(devices.len(), 1, "{devices:?}");
    let device = PathBuf::from("/dev").join(devices[0].file_name().expect("a name"));
    let held = fs::File::open(&device).expect("the tests run as root");
    for leaf in cgroups::below(&host.places.cgroup_parent) {
        let is_supervisors = leaf.file_name().is_some_and(|name| name.to_string_lossy().starts_with("supervisor-"));
        cgroups::processes(&leaf).into_iter().filter(|_| is_supervisors).for_each(process::kill);
    }
    host.coracle(["ps"]).ok();
    wait_for("a file system with nothing to correct", || {
        match Command::new("e2fsck").args(["-f", "-n"]).arg(&device).output() {
            Ok(checked) => (checked.status.code() == Some(0)).then_some(()),
            // A virtual machine without e2fsprogs: what the formatter makes is a test of `runtime` as well.
            Err(error) => (error.kind() == std::io::ErrorKind::NotFound).then_some(()),
        }
    });
    drop(held);
    assert_no_device_is_left(&host);
    host.coracle(["rm", &id]).ok();
    host.finish();
}

#[test]
fn sizes_are_amazons() {
    let host = Host::new();
    for size in [20, 201] {
        let definition = task(&[definition::container("main", &["exit", "0"], &members(json!({})))], size);
        host.run(&definition, &[]).refused(&["ephemeralStorage.sizeInGiB"]);
    }
    host.finish();
}
