//! Tasks that use up what a host has - processes, memory, disk, inodes, descriptors - and who pays for it: the right
//! container, never its neighbour, its supervisor or the next task.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Host, Running, cgroups, definition, wait_for};

const OUT_OF_MEMORY: &str = "OutOfMemoryError: Container killed due to memory usage";
/// What a supervisor gives itself: the kernel takes everything else first.
const SUPERVISORS_OOM_SCORE: &str = "-999";

#[track_caller]
fn the_neighbour_lives(host: &Host, task: &str) {
    assert_eq!(host.coracle(["exec", task, "--", "probe", "say", "here"]).ok().line(), "here");
    assert_eq!(host.inspect(task)["lastStatus"], "RUNNING");
}

#[track_caller]
fn end(host: &Host, task: &str) {
    host.coracle(["rm", "--force", task]).ok();
}

#[test]
fn r01_a_fork_bomb_of_exec_is_its_own_tasks_matter() {
    let host = Host::new();
    host.import_probe();
    // So much that processes run out before memory does.
    let bomb = host.detach(&definition::probe_with(&["wait"], &json!({ "memory": 1024 })), &[]);
    let neighbour = host.detach(&definition::probe(&["wait"]), &[]);
    let forked = host.coracle(["exec", &bomb, "--", "probe", "forks", "100000"]).ok().json();
    assert_eq!(forked["errno"], libc::EAGAIN, "{forked}");
    assert!(forked["made"].as_u64().is_some_and(|made| made < 4096), "{forked}");
    the_neighbour_lives(&host, &neighbour);
    // It has ended, and the task that it was in goes on.
    the_neighbour_lives(&host, &bomb);
    end(&host, &bomb);
    end(&host, &neighbour);
    host.finish();
}

/// Memory that no process has mapped: pages of a tmpfs count for whoever wrote them.
#[test]
fn r02_a_tmpfs_bomb_kills_the_container_that_filled_it() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "essential": false, "memory": 32, "linuxParameters": { "sharedMemorySize": 512 } });
    let containers = [
        definition::container("main", &["wait"], &Value::Null),
        definition::container("bomb", &["fill", "/dev/shm/bomb"], &members),
    ];
    let task = host.detach(&definition::task(&containers), &[]);
    let shown = wait_for("the end of the bomb", || {
        let shown = host.inspect(&task);
        (definition::the_container(&shown, "bomb")["lastStatus"] == "STOPPED").then_some(shown)
    });
    let bomb = definition::the_container(&shown, "bomb");
    assert_eq!((&bomb["exitCode"], &bomb["reason"]), (&json!(137), &json!(OUT_OF_MEMORY)));
    assert_eq!(definition::the_container(&shown, "main")["lastStatus"], "RUNNING");
    the_neighbour_lives(&host, &task);
    let leaf = cgroups::controller("memory").join(&host.places.cgroup_parent).join(format!("supervisor-{task}"));
    let supervisor = cgroups::processes(&leaf)[0];
    let score = std::fs::read_to_string(format!("/proc/{supervisor}/oom_score_adj")).expect("it lives");
    let expected = if crate::isolation::raises_limits() { SUPERVISORS_OOM_SCORE } else { "0" };
    assert_eq!(score.trim(), expected);
    end(&host, &task);
    host.finish();
}

/// Pages of files can be written back and dropped: a container that reads and writes more than its limit is not killed.
#[test]
fn r02_file_cache_is_no_reason_to_kill() {
    let host = Host::new();
    host.import_probe();
    let definition = definition::probe_with(&["fill", "/big", "192"], &json!({ "memory": 32 }));
    host.run(&definition, &[]).ok();
    host.finish();
}

/// A file system of its own under the host's data directory, gone with this.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Path, options: &str) -> SmallDisk {
        std::fs::create_dir_all(place).expect("a test may write to its own directory");
        let (target, options) = (c_string(place.as_os_str().as_bytes()), c_string(options.as_bytes()));
        let kind = c"tmpfs".as_ptr();
        // SAFETY: C strings that outlive the call.
        let answer = unsafe { libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast()) };
        assert_eq!(answer, 0, "tests run as root: {}", std::io::Error::last_os_error());
        SmallDisk(place.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let target = c_string(self.0.as_os_str().as_bytes());
        // SAFETY: a C string that outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).expect("no NUL in it")
}

/// One task fills the disk that images, logs and state are on. Everything about it can still be asked and ended, its
/// end is kept, and with room again the next task runs.
fn survives_a_full_disk(options: &str, filler: &[&str]) {
    let host = Host::new();
    let disk = SmallDisk::mount(&host.places.data_dir(), options);
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait", "7"]), &[]);
    let filled = host.coracle([&["exec", &task, "--", "probe"], filler].concat()).ok().json();
    assert_eq!(filled["errno"], libc::ENOSPC, "{filled}");
    the_neighbour_lives(&host, &task);
    let refused = host.run(&definition::probe(&["say", "no room"]), &[]);
    assert_ne!(refused.code(), 0, "there is no room for another task: {}", refused.whole());
    host.coracle(["stop", &task]).ok();
    let shown = host.inspect(&task);
    assert_eq!(shown["lastStatus"], "STOPPED");
    assert_eq!(definition::the_container(&shown, "main")["exitCode"], 7);
    end(&host, &task);
    assert_eq!(host.run(&definition::probe(&["say", "room"]), &[]).ok().line(), "main | room");
    host.leftovers();
    drop(disk);
    host.finish();
}

#[test]
fn r05_a_full_disk_loses_no_ending() {
    survives_a_full_disk("size=48m", &["fill", "/filler"]);
}

#[test]
fn r06_a_disk_without_inodes_loses_no_ending() {
    survives_a_full_disk("size=256m,nr_inodes=600", &["files", "/filler"]);
}

/// `coracle run` under a small descriptor limit starts ten containers, and they do not inherit it.
#[test]
fn r08_few_descriptors_are_enough() {
    let host = Host::new();
    host.import_probe();
    let containers: Vec<Value> =
        (0..10).map(|n| definition::container(&format!("c{n}"), &["say", "up"], &json!({ "memory": 16 }))).collect();
    let file = host.file("task.json", definition::bridge_task(&containers).to_string());
    let mut command = host.command(["run".as_ref(), file.as_os_str()]);
    let limit = || {
        let few = libc::rlimit { rlim_cur: 256, rlim_max: 256 };
        // SAFETY: the limit outlives the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few) } == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: one system call, which allocates nothing.
    unsafe { command.pre_exec(limit) };
    let ended = Running::start(&mut command).wait();
    assert!(ended.code() == 0, "{}", ended.whole());
    host.finish();
}

/// A task may use up its own descriptors: its supervisor and its neighbour have theirs.
#[test]
fn r08_descriptors_of_one_container_are_its_own() {
    let host = Host::new();
    host.import_probe();
    let limit = json!({ "ulimits": [{ "name": "nofile", "softLimit": 64, "hardLimit": 64 }] });
    let task = host.detach(&definition::probe_with(&["wait"], &limit), &[]);
    let neighbour = host.detach(&definition::probe(&["wait"]), &[]);
    let opened = host.coracle(["exec", &task, "--", "probe", "descriptors"]).ok().json();
    assert_eq!((&opened["opened"], &opened["errno"]), (&json!(64 - 3), &json!(libc::EMFILE)));
    the_neighbour_lives(&host, &neighbour);
    the_neighbour_lives(&host, &task);
    end(&host, &task);
    end(&host, &neighbour);
    host.finish();
}
