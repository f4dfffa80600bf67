//! Volumes, mount points and what an image has at their places, as a container sees them; what stays of them.

use std::ffi::CString;
use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::image::{Image, base_layer, probe_layer};
use crate::support::tar::Header;
use crate::support::{Host, cgroups, definition, process, wait_for};

/// A task of these containers with these volumes.
fn task(containers: &[Value], volumes: Value) -> Value {
    let mut task = definition::task(containers);
    task["volumes"] = volumes;
    task
}

/// One container, `main`, with one volume at `/v`.
fn with_volume(command: &[&str], volume: Value) -> Value {
    let mut volume = volume;
    volume["name"] = json!("v");
    let point = json!({ "mountPoints": [{ "sourceVolume": "v", "containerPath": "/v" }] });
    task(&[definition::container("main", command, &point)], json!([volume]))
}

fn points(list: &[(&str, &str)]) -> Value {
    let points = list.iter().map(|(volume, path)| json!({ "sourceVolume": volume, "containerPath": path }));
    json!({ "mountPoints": points.collect::<Vec<Value>>() })
}

#[test]
fn paths_of_the_host_are_made_kept_and_shared() {
    let host = Host::new();
    host.import_probe();
    let missing = host.places.root.join("made/by/coracle");
    let volume = json!({ "host": { "sourcePath": missing } });
    host.run(&with_volume(&["write", "/v/file", "first"], volume.clone()), &[]).ok();
    assert_eq!(fs::read_to_string(missing.join("file")).expect("it outlives the task"), "first");
    assert_eq!(fs::metadata(&missing).expect("it was made").permissions().mode() & 0o7777, 0o755);
    host.run(&with_volume(&["read", "/v/file"], volume), &[]).ok().prints(&["first"]);
    // What the image has at that place is not copied into a path of the host.
    let empty = host.places.root.join("empty");
    let volume = json!([{ "name": "v", "host": { "sourcePath": empty } }]);
    let members = points(&[("v", "/etc"), ("v", "/bin")]);
    let members = json!({ "mountPoints": [members["mountPoints"][0]] });
    let definition = task(&[definition::container("main", &["paths", "/etc"], &members)], volume);
    let entries = host.run(&definition, &[]).ok().report("main")["/etc"]["entries"].clone();
    let mut entries: Vec<&str> = entries.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    entries.sort_unstable();
    assert_eq!(entries, ["hostname", "hosts", "resolv.conf"], "only mount points of ours are made in it");
    // One file.
    let file = host.file("config", "from the host");
    let volume = json!([{ "name": "v", "host": { "sourcePath": file } }]);
    let container = definition::container("main", &["read", "/etc/app/config"], &points(&[("v", "/etc/app/config")]));
    host.run(&task(&[container], volume), &[]).ok().prints(&["from the host"]);
    host.finish();
}

/// systemd-resolved's /etc/resolv.conf is a link, and so may a host's own be that a container sees at its /etc.
#[test]
fn links_in_an_etc_of_the_hosts_stay_and_lead_nowhere_else() {
    let host = Host::new();
    host.import_probe();
    let etc = host.places.root.join("etc");
    let outside = host.file("outside", "the host's");
    fs::create_dir(&etc).expect("a new directory");
    fs::write(etc.join("hosts"), "the host's").expect("a new file");
    symlink("../run/resolve/stub.conf", etc.join("resolv.conf")).expect("a new link");
    symlink(&outside, etc.join("hostname")).expect("a new link");
    for read_only in [false, true] {
        let volume = json!([{ "name": "v", "host": { "sourcePath": etc } }]);
        let mut members = points(&[("v", "/etc")]);
        members["mountPoints"][0]["readOnly"] = json!(read_only);
        members["hostname"] = json!("called-so");
        let command = ["paths", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
        let definition = task(&[definition::container("main", &command, &members)], volume);
        let seen = host.run(&definition, &[]).ok().report("main");
        assert_eq!(seen["/etc/hostname"]["content"], "called-so\n", "{seen}");
        for path in ["/etc/hosts", "/etc/resolv.conf"] {
            assert!(seen[path]["content"].as_str().is_some_and(|text| !text.contains("the host's")), "{path}: {seen}");
        }
        assert_eq!(fs::read_link(etc.join("resolv.conf")).expect("a link"), Path::new("../run/resolve/stub.conf"));
        assert_eq!(fs::read_link(etc.join("hostname")).expect("a link"), Path::new(&outside));
        for file in [etc.join("hosts"), PathBuf::from(&outside)] {
            assert_eq!(fs::read_to_string(&file).expect("a file"), "the host's", "{}", file.display());
        }
    }
    host.finish();
}

/// An image with content, owners and modes at `/data`.
fn with_data(volumes: Value) -> Image {
    let layer = probe_layer()
        .entry(&Header { name: b"data/", kind: b'5', mode: 0o750, uid: 1000, gid: 2000, ..Header::default() }, b"")
        .entry(&Header { name: b"data/file", size: 4, mode: 0o640, uid: 1000, gid: 1000, ..Header::default() }, b"text")
        .hardlink("data/same", "data/file")
        .symlink("data/link", "file")
        .directory("data/deep/")
        .file("data/deep/er", 0o4755, b"x")
        .fifo("data/fifo")
        .char_device("data/null", 1, 3);
    Image::of(vec![layer.finish()]).with_config(&json!({ "Volumes": volumes }))
}

/// Content, owner and mode of `/data`, seen by uid 0.
#[track_caller]
fn assert_taken_over(seen: &Value, place: &str) {
    let at = |path: &str| &seen[format!("{place}{path}").as_str()];
    let what = |path: &str| json!([at(path)["mode"], at(path)["uid"], at(path)["gid"]]);
    assert_eq!(what(""), json!([0o750, 1000, 2000]), "{seen}");
    assert_eq!(what("/file"), json!([0o640, 1000, 1000]), "{seen}");
    assert_eq!(what("/deep/er"), json!([0o4755, 0, 0]), "{seen}");
    for path in ["/file", "/same", "/link"] {
        assert_eq!(at(path)["content"], "text", "{path}: {seen}");
    }
    let mut entries: Vec<&str> =
        at("")["entries"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    entries.sort_unstable();
    assert_eq!(entries, ["deep", "fifo", "file", "link", "same"], "no devices: {seen}");
}

const DATA: [&str; 6] = ["paths", "/data", "/data/file", "/data/same", "/data/link", "/data/deep/er"];

#[test]
fn a_scratch_volume_is_shared_filled_once_and_gone_with_its_task() {
    let host = Host::new();
    host.import(&with_data(json!({})), "data:latest").ok();
    let member = |extra: Value| {
        let mut members = points(&[("scratch", "/data")]);
        members["image"] = json!("data:latest");
        for (name, value) in extra.as_object().into_iter().flatten() {
            members[name] = value.clone();
        }
        members
    };
    // Volumes by name alone, and with an empty `host`, which is what DescribeTaskDefinition answers.
    for volume in [json!({ "name": "scratch" }), json!({ "name": "scratch", "host": {} })] {
        let after = |name: &str| json!({ "dependsOn": [{ "containerName": name, "condition": "SUCCESS" }] });
        let not_essential = json!({ "essential": false });
        let mut writer = after("first");
        writer["essential"] = json!(false);
        let containers = [
            definition::container("first", &DATA, &member(not_essential)),
            definition::container("writer", &["write", "/data/file", "changed"], &member(writer)),
            definition::container("last", &["read", "/data/same"], &member(after("writer"))),
        ];
        let ended = host.run(&task(&containers, json!([volume])), &[]).ok();
        assert_taken_over(&ended.report("first"), "/data");
        ended.prints(&["changed"]);
    }
    let left = fs::read_dir(host.places.data_dir().join("volumes"));
    assert!(left.is_err(), "a scratch volume is none of the host's");
    host.finish();
}

#[test]
fn containers_that_start_together_fill_a_volume_once() {
    let host = Host::new();
    let mut layer = probe_layer().directory("data/");
    for number in 0..300 {
        layer = layer.file(&format!("data/{number}"), 0o644, b"x");
    }
    host.import(&Image::of(vec![layer.finish()]), "many:latest").ok();
    let mut members = points(&[("v", "/data")]);
    members["image"] = json!("many:latest");
    let names = ["a", "b", "c", "d"];
    let containers: Vec<Value> =
        names.iter().map(|name| definition::container(name, &["paths", "/data"], &members)).collect();
    let ended = host.run(&task(&containers, json!([{ "name": "v" }])), &[]).ok();
    let counts = ended.stdout.lines().filter_map(|line| line.find('{').map(|start| &line[start..]));
    let counts = counts.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    for seen in counts {
        // Another container may be trying just now whether it can write there.
        let entries = seen["/data"]["entries"].as_array().expect("a list");
        let own = entries.iter().filter(|name| name.as_str().is_some_and(|name| name.parse::<u32>().is_ok()));
        assert_eq!(own.count(), 300, "{seen}");
    }
    host.finish();
}

#[test]
fn volumes_of_an_image_are_anonymous_and_take_over_its_content() {
    let host = Host::new();
    host.import(&with_data(json!({ "/data": {}, "/empty/one": {} })), "data:latest").ok();
    let members = json!({ "image": "data:latest", "readonlyRootFilesystem": true });
    let mut command = DATA.to_vec();
    command.push("/empty/one");
    let ended = host.run(&task(&[definition::container("main", &command, &members)], json!([])), &[]).ok();
    let seen = ended.report("main");
    assert_taken_over(&seen, "/data");
    assert_eq!(seen["/empty/one"]["entries"], json!([]), "{seen}");
    assert_eq!(seen["/empty/one"]["write_errno"], 0, "a volume of a read-only container can be written: {seen}");
    // A mount point at its place stands instead of it, and a tmpfs does.
    let volume = json!([{ "name": "v", "host": { "sourcePath": host.places.root.join("own") } }]);
    let mut covered = points(&[("v", "/data")]);
    covered["image"] = json!("data:latest");
    covered["linuxParameters"] = json!({ "tmpfs": [{ "containerPath": "/empty/one", "size": 1 }] });
    let ended = host.run(&task(&[definition::container("main", &["report"], &covered)], volume), &[]).ok();
    let mounts = ended.report("main")["mounts"].to_string();
    assert!(mounts.contains("/empty/one") && !mounts.contains("/volumes/"), "{mounts}");
    host.finish();
}

#[test]
fn shared_volumes_outlive_their_tasks() {
    let host = Host::new();
    host.import_probe();
    let docker = |autoprovision: bool| {
        let labels = json!({ "team": "shop" });
        json!({ "dockerVolumeConfiguration":
            { "scope": "shared", "autoprovision": autoprovision, "driver": "local", "labels": labels } })
    };
    let missing = host.run(&with_volume(&["exit", "0"], docker(false)), &[]);
    missing.refused(&["CannotCreateVolumeError", "volume 'v' does not exist and autoprovision is set to false"]);
    host.run(&with_volume(&["write", "/v/file", "kept"], docker(true)), &[]).ok();
    host.run(&with_volume(&["read", "/v/file"], docker(false)), &[]).ok().prints(&["kept"]);
    host.coracle(["volume", "ls"]).ok().prints(&["NAME", "v", "team=shop"]);
    let shown = host.coracle(["volume", "ls", "--output", "json"]).ok().json();
    assert_eq!((&shown[0]["name"], &shown[0]["labels"]["team"]), (&json!("v"), &json!("shop")), "{shown}");
    let place = shown[0]["mountpoint"].as_str().expect("a path").to_owned();
    assert_eq!(fs::read_to_string(Path::new(&place).join("file")).expect("it is there"), "kept");
    // One that is in use stays.
    let id = host.detach(&with_volume(&["forever"], docker(false)), &[]);
    host.coracle(["volume", "rm", "v"]).refused(&["volume v is in use by task", &id]);
    let used = host.coracle(["volume", "inspect", "v"]).ok().json();
    assert!(used[0]["usedBy"][0].as_str().is_some_and(|user| user.contains(&id)), "{used}");
    host.coracle(["stop", &id]).ok();
    host.coracle(["rm", &id]).ok();
    host.coracle(["volume", "rm", "v"]).ok();
    host.coracle(["volume", "rm", "v"]).refused(&["there is no volume v"]);
    assert!(!Path::new(&place).exists());
    // One made by hand, with content of its own from the first image that mounts it.
    host.coracle(["volume", "create", "--label", "a=b", "v"]).ok().prints(&["v"]);
    host.coracle(["volume", "create", "v"]).refused(&["volume v exists already"]);
    host.coracle(["volume", "create", "../v"]).refused(&["is no name of a volume"]);
    host.coracle(["volume", "create", "--opt", "size=1g", "w"]).refused(&["no quota support"]);
    host.import(&with_data(json!({})), "data:latest").ok();
    let mut members = points(&[("v", "/data")]);
    members["image"] = json!("data:latest");
    let mut volume = docker(false);
    volume["name"] = json!("v");
    let definition = task(&[definition::container("main", &DATA, &members)], json!([volume]));
    assert_taken_over(&host.run(&definition, &[]).ok().report("main"), "/data");
    // It is not empty any more.
    fs::write(Path::new(&place).join("file"), "text").expect("the tests run as root");
    fs::remove_file(Path::new(&place).join("fifo")).expect("it was taken over");
    let again = host.run(&definition, &[]).ok().report("main");
    assert!(!again["/data"]["entries"].to_string().contains("fifo"), "{again}");
    host.coracle(["volume", "rm", "v"]).ok();
    host.finish();
}

#[test]
fn driver_options_mount_file_systems_and_other_drivers_are_refused() {
    let host = Host::new();
    host.import_probe();
    let docker = |options: Value| json!({ "dockerVolumeConfiguration": { "scope": "task", "driverOpts": options } });
    let tmpfs = docker(json!({ "type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,mode=711,noexec" }));
    let seen = host.run(&with_volume(&["report"], tmpfs), &[]).ok().report("main");
    let mounts = seen["mounts"].as_array().expect("lines");
    let line = mounts.iter().filter_map(Value::as_str).find(|line| line.contains(" /v ")).expect("it is mounted");
    for word in ["- tmpfs tmpfs", "noexec", "size=1024k", "uid=1000", "mode=711"] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
    let source = host.places.root.join("bound");
    fs::create_dir(&source).expect("a test may write to its own directory");
    fs::write(source.join("file"), "bound").expect("a test may write to its own directory");
    let bind = |options: &str| docker(json!({ "type": "none", "device": source, "o": options }));
    host.run(&with_volume(&["read", "/v/file"], bind("bind")), &[]).ok().prints(&["bound"]);
    let seen = host.run(&with_volume(&["paths", "/v"], bind("bind,ro")), &[]).ok().report("main");
    assert_eq!(seen["/v"]["write_errno"], libc::EROFS, "{seen}");
    // Mounted for the task alone, and told when it cannot be.
    let absent = docker(json!({ "type": "ext4", "device": "/dev/no-such-device" }));
    let failed = host.run(&with_volume(&["exit", "0"], absent), &[]);
    failed.refused(&["CannotCreateVolumeError: volume v: failed to mount /dev/no-such-device of type ext4"]);
    let nonsense = docker(json!({ "type": "no-such-fs", "device": "x" }));
    host.run(&with_volume(&["exit", "0"], nonsense), &[]).refused(&["has no file system no-such-fs"]);
    let incomplete = docker(json!({ "type": "nfs" }));
    host.run(&with_volume(&["exit", "0"], incomplete), &[]).refused(&["missing required option: \"device\""]);
    let other = json!({ "dockerVolumeConfiguration": { "driver": "rexray/ebs", "scope": "task" } });
    host.run(&with_volume(&["exit", "0"], other), &[]).refused(&["volumes[0].dockerVolumeConfiguration.driver"]);
    let at_launch = json!({ "configuredAtLaunch": true });
    host.run(&with_volume(&["exit", "0"], at_launch), &[]).refused(&["volumes[0].configuredAtLaunch"]);
    host.finish();
}

/// A server that takes connections and says nothing; a kernel without NFS says so, one with NFS waits for the deadline.
#[test]
fn a_server_that_cannot_be_mounted_costs_one_task_and_no_more() {
    let host = Host::new();
    host.import_probe();
    let silent = host.namespace.enter(|| TcpListener::bind("127.0.0.1:0")).expect("loopback is up");
    let port = silent.local_addr().expect("it listens").port();
    let options = format!("addr=127.0.0.1,nfsvers=4.1,port={port},soft,timeo=100");
    let nfs = json!({ "dockerVolumeConfiguration":
        { "scope": "task", "driverOpts": { "type": "nfs", "device": ":/export", "o": options } } });
    let begun = Instant::now();
    let failed = host.run(&with_volume(&["exit", "0"], nfs), &[]);
    failed.refused(&["CannotCreateVolumeError: ", ":/export of type nfs"]);
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
    drop(silent);
    // A name that nobody has, before any kernel is asked.
    let efs = json!({ "efsVolumeConfiguration": { "fileSystemId": "fs-0123", "rootDirectory": "/a" } });
    let file = host.file("task.json", with_volume(&["exit", "0"], efs).to_string());
    let mut command = host.command([Path::new("run"), &file]);
    command.env("CORACLE_EFS_ENDPOINT", "{fileSystemId}.invalid");
    let failed = crate::support::Running::start(&mut command).wait();
    failed.refused(&["CannotCreateVolumeError: volume v:", ":/a of type nfs", "volume address fs-0123.invalid"]);
    host.run(&with_volume(&["exit", "3"], json!({})), &[]).expect_code(3);
    host.finish();
}

/// A directory whose file system answers nobody: FUSE without a daemon. Whoever looks into it waits until he is killed.
struct Silent {
    place: PathBuf,
    _connection: fs::File,
}

impl Silent {
    fn new(place: PathBuf) -> Self {
        fs::create_dir(&place).expect("a test may write to its own directory");
        let connection = fs::File::options().read(true).write(true).open("/dev/fuse").expect("the kernel has FUSE");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", connection.as_raw_fd());
        let (target, options) = (c_string(&place), CString::new(options).expect("no NUL"));
        let kind = c"fuse".as_ptr();
        // SAFETY: C strings that outlive the call.
        let answer = unsafe { libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast()) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        Self { place, _connection: connection }
    }

    /// A volume that is bound from inside of it.
    fn volume(&self) -> Value {
        let options = json!({ "type": "none", "device": self.place.join("x"), "o": "bind" });
        json!({ "dockerVolumeConfiguration": { "scope": "task", "driverOpts": options } })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let target = c_string(&self.place);
        // SAFETY: a C string that outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

fn c_string(path: &Path) -> CString {
    CString::new(path.to_str().expect("plain text")).expect("no NUL")
}

#[test]
fn a_file_system_that_does_not_answer_is_given_up() {
    let host = Host::new();
    host.import_probe();
    let silent = Silent::new(host.places.root.join("silent"));
    let begun = Instant::now();
    let failed = host.run(&with_volume(&["exit", "0"], silent.volume()), &[]);
    failed.refused(&["CannotCreateVolumeError: failed to mount", "of type none: no answer within 30 s"]);
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
    drop(silent);
    host.finish();
}

/// The supervisor serves everybody meanwhile, and a task that is told to stop stops.
#[test]
fn a_stop_does_not_wait_for_a_mount() {
    let host = Host::new();
    host.import_probe();
    let silent = Silent::new(host.places.root.join("silent"));
    let run = host.start_run(&with_volume(&["exit", "0"], silent.volume()), &[]);
    let tasks = host.places.data_dir().join("tasks");
    let id = wait_for("the task's first status", || {
        let entry = fs::read_dir(&tasks).ok()?.flatten().next()?;
        entry.path().join("status.json").exists().then(|| entry.file_name().to_string_lossy().into_owned())
    });
    let begun = Instant::now();
    host.coracle(["stop", &id]);
    let ended = run.wait();
    assert!(begun.elapsed() < Duration::from_secs(28), "the stop waited for the mount: {:?}", begun.elapsed());
    ended.says(&["the task was stopped before"]);
    drop(silent);
    host.finish();
}

#[test]
fn what_needs_a_mount_helper_is_refused_without_it() {
    let host = Host::new();
    host.import_probe();
    let efs = json!({ "efsVolumeConfiguration": {
        "fileSystemId": "fs-0123", "transitEncryption": "ENABLED", "transitEncryptionPort": 2999,
        "authorizationConfig": { "accessPointId": "fsap-1", "iam": "ENABLED" } } });
    // Amazon's helper is on no test machine: what it would be told is a test of `agent`.
    let failed = host.run(&with_volume(&["exit", "0"], efs), &[]);
    failed.refused(&["efsVolumeConfiguration.transitEncryption needs mount.efs", "install amazon-efs-utils"]);
    let fsx = json!({ "fsxWindowsFileServerVolumeConfiguration": {
        "fileSystemId": "fs-0123", "rootDirectory": "share",
        "authorizationConfig": { "credentialsParameter": "arn:aws:ssm:us-east-1:0:parameter/x", "domain": "d" } } });
    host.run(&with_volume(&["exit", "0"], fsx), &[]).refused(&["volumes[0].fsxWindowsFileServerVolumeConfiguration"]);
    host.finish();
}

#[test]
fn mount_points_are_made_nested_and_read_only() {
    let host = Host::new();
    host.import_probe();
    let root = &host.places.root;
    let volumes = json!([
        { "name": "outer", "host": { "sourcePath": root.join("outer") } },
        { "name": "inner", "host": { "sourcePath": root.join("inner") } },
        { "name": "file", "host": { "sourcePath": host.file("f", "content") } },
    ]);
    // In the other order than they can be mounted in, in a root that cannot be written.
    let members = json!({
        "readonlyRootFilesystem": true,
        "mountPoints": [
            { "sourceVolume": "inner", "containerPath": "/new/dir/inner" },
            { "sourceVolume": "outer", "containerPath": "/new/dir", "readOnly": true },
            { "sourceVolume": "file", "containerPath": "/work/./x/../some.conf", "readOnly": true },
            { "sourceVolume": "inner", "containerPath": "/dev/shm" },
        ],
        "linuxParameters": { "tmpfs": [{ "containerPath": "/new/dir/memory", "size": 1 }] },
    });
    // In a read-only volume nothing is made; what is there will do.
    fs::create_dir_all(root.join("outer/memory")).expect("a test may write to its own directory");
    let missing = task(&[definition::container("main", &["exit", "0"], &members)], volumes.clone());
    host.run(&missing, &[]).refused(&["at /new/dir/inner of the container: Read-only file system"]);
    fs::create_dir(root.join("outer/inner")).expect("a test may write to its own directory");
    let asked = ["/new/dir", "/new/dir/inner", "/new/dir/memory", "/work/some.conf", "/work", "/dev/shm"];
    let command = [&["paths"], &asked[..]].concat();
    let seen = host.run(&task(&[definition::container("main", &command, &members)], volumes), &[]).ok().report("main");
    let errno = |path: &str| seen[path]["write_errno"].as_i64();
    assert_eq!(errno("/new/dir"), Some(i64::from(libc::EROFS)), "{seen}");
    assert_eq!(errno("/new/dir/inner"), Some(0), "{seen}");
    assert_eq!(errno("/new/dir/memory"), Some(0), "{seen}");
    assert_eq!(errno("/work"), Some(i64::from(libc::EROFS)), "{seen}");
    assert_eq!(errno("/dev/shm"), Some(0), "{seen}");
    assert_eq!(seen["/work/some.conf"]["content"], "content", "{seen}");
    assert_eq!(errno("/work/some.conf"), Some(i64::from(libc::EROFS)), "{seen}");
    let nested = points(&[("inner", "/work/a/b"), ("outer", "/work/a")]);
    let volumes = json!([{ "name": "inner" }, { "name": "outer", "host": { "sourcePath": root.join("around") } }]);
    host.run(&task(&[definition::container("main", &["write", "/work/a/b/c", "x"], &nested)], volumes), &[]).ok();
    let made = fs::read_dir(root.join("around/b")).expect("its place is made in the volume around it");
    assert_eq!(made.count(), 0, "what is written there goes to the inner volume");
    host.finish();
}

#[test]
fn a_container_takes_over_anothers_volumes() {
    let host = Host::new();
    host.import(&with_data(json!({ "/data": {} })), "data:latest").ok();
    let source = {
        let mut members = points(&[("v", "/shared")]);
        members["image"] = json!("data:latest");
        members["essential"] = json!(false);
        definition::container("source", &["write", "/shared/file", "from source"], &members)
    };
    let taker = |name: &str, from: Value, essential: bool| {
        let after = json!([{ "containerName": from["sourceContainer"], "condition": "SUCCESS" }]);
        let members =
            json!({ "volumesFrom": [from], "dependsOn": after, "essential": essential, "image": "data:latest" });
        definition::container(name, &["paths", "/shared", "/shared/file", "/data", "/data/file"], &members)
    };
    let containers = [
        source,
        taker("writer", json!({ "sourceContainer": "source" }), false),
        taker("reader", json!({ "sourceContainer": "writer", "readOnly": true }), true),
    ];
    let definition = task(&containers, json!([{ "name": "v" }]));
    let ended = host.run(&definition, &[]).ok();
    let (writer, reader) = (ended.report("writer"), ended.report("reader"));
    for seen in [&writer, &reader] {
        assert_eq!(seen["/shared/file"]["content"], "from source", "{seen}");
        assert_eq!(seen["/data/file"]["content"], "text", "the image's volume comes along: {seen}");
    }
    assert_eq!((&writer["/shared"]["write_errno"], &writer["/data"]["write_errno"]), (&json!(0), &json!(0)));
    let read_only = json!(libc::EROFS);
    assert_eq!((&reader["/shared"]["write_errno"], &reader["/data"]["write_errno"]), (&read_only, &read_only));
    host.finish();
}

#[test]
fn places_that_are_not_to_be_mounted_on_are_refused_and_those_of_the_kernel_are_there() {
    let host = Host::new();
    host.import_probe();
    let source = host.places.root.join("source");
    let file = host.file("cpuinfo", "my own processors");
    let run = |volume: &Path, path: &str, command: &[&str]| {
        let volumes = json!([{ "name": "v", "host": { "sourcePath": volume } }]);
        host.run(&task(&[definition::container("main", command, &points(&[("v", path)]))], volumes), &[])
    };
    for path in ["/", "/x/..", "/proc", "/proc/1", "/proc/sys/kernel", "/dev", "/dev/null", "/dev/pts"] {
        run(&source, path, &["exit", "0"]).refused(&["CannotCreateContainerError", "nothing can be mounted on"]);
    }
    run(&file, "/proc/cpuinfo", &["read", "/proc/cpuinfo"]).ok().prints(&["my own processors"]);
    fs::create_dir_all(&source).expect("a test may write to its own directory");
    fs::write(source.join("here"), "mine").expect("a test may write to its own directory");
    run(&source, "/sys/fs", &["read", "/sys/fs/here"]).ok().prints(&["mine"]);
    run(&source, "/bin/probe", &["exit", "0"]).refused(&["a directory cannot be mounted over a file"]);
    run(&file, "/work", &["exit", "0"]).refused(&["a file cannot be mounted over a directory"]);
    host.finish();
}

/// The image chooses where its own paths lead: into its own root, wherever that is.
#[test]
fn no_image_leads_a_mount_out_of_its_root() {
    let host = Host::new();
    let guard = host.guard.directory.clone();
    let source = host.places.root.join("source");
    fs::create_dir(&source).expect("a test may write to its own directory");
    fs::write(source.join("mine"), "mine").expect("a test may write to its own directory");
    let up = format!("{}{}", "../".repeat(12), guard.display().to_string().trim_start_matches('/'));
    for target in [guard.display().to_string(), up, "/proc/1/root/etc".into(), "loop".into(), "/".into(), "..".into()] {
        for path in ["/way", "/way/pts", "/way/new"] {
            let layer = base_layer().symlink("way", &target).symlink("loop", "way").finish();
            host.import(&Image::of(vec![layer]), "way:latest").ok();
            let mut members = points(&[("v", path)]);
            members["image"] = json!("way:latest");
            let mine = format!("{path}/mine");
            let volumes = json!([{ "name": "v", "host": { "sourcePath": source } }, { "name": "scratch" }]);
            let ended = host.run(&task(&[definition::container("main", &["read", &mine], &members)], volumes), &[]);
            assert!(!ended.stderr.contains("panicked"), "{target} {path}: {}", ended.whole());
            assert!(ended.code() != 0 || ended.stdout.contains("mine"), "{target} {path}: {}", ended.whole());
            let changes = host.guard.changes();
            assert!(changes.is_empty(), "{target} {path}: {changes:?}");
        }
    }
    // Nor does a volume take over what a link shows of the host.
    let layer = base_layer().symlink("data", &guard.display().to_string()).finish();
    let image = Image::of(vec![layer]).with_config(&json!({ "Volumes": { "/data": {} } }));
    host.import(&image, "links:latest").ok();
    let ended = host.run(&definition::probe_with(&["paths", "/data"], &json!({ "image": "links:latest" })), &[]).ok();
    assert_eq!(ended.report("main")["/data"]["entries"], json!([]), "{}", ended.whole());
    host.finish();
}

/// Links in a shared volume, put there by one task, while another takes it for its /etc.
#[test]
fn links_in_a_volume_lead_nowhere_either() {
    let host = Host::new();
    host.import_probe();
    let source = host.places.root.join("source");
    fs::create_dir(&source).expect("a test may write to its own directory");
    symlink(host.guard.marker(), source.join("hosts")).expect("a test may write to its own directory");
    symlink("/", source.join("sub")).expect("a test may write to its own directory");
    let volumes = json!([{ "name": "v", "host": { "sourcePath": source } }]);
    let members = points(&[("v", "/etc"), ("v", "/etc/sub/deep")]);
    let ended = host.run(&task(&[definition::container("main", &["read", "/etc/hosts"], &members)], volumes), &[]).ok();
    assert!(!ended.stdout.contains("guarded"), "{}", ended.whole());
    host.finish();
}

#[test]
fn a_killed_supervisor_leaves_no_mount_and_no_volume() {
    let host = Host::new();
    host.import(&with_data(json!({ "/cache": {} })), "data:latest").ok();
    let labels = json!({ "of": "the task" });
    let docker = json!({ "scope": "task", "labels": labels, "driverOpts": { "type": "tmpfs", "device": "tmpfs" } });
    let source = host.places.root.join("kept");
    fs::create_dir(&source).expect("a test may write to its own directory");
    fs::write(source.join("file"), "kept").expect("a test may write to its own directory");
    let bind = json!({ "scope": "task", "driverOpts": { "type": "none", "device": source, "o": "bind" } });
    let volumes = json!([{ "name": "s" }, { "name": "t", "dockerVolumeConfiguration": docker },
                         { "name": "b", "dockerVolumeConfiguration": bind }]);
    let mut members = points(&[("s", "/s"), ("t", "/t"), ("b", "/b")]);
    members["image"] = json!("data:latest");
    let definition = task(&[definition::container("main", &["forever"], &members)], volumes);
    let id = host.detach(&definition, &[]);
    let listed = host.coracle(["volume", "ls", "--output", "json"]).ok().json();
    let shown: Vec<Value> =
        listed.as_array().expect("a list").iter().map(|one| json!([one["name"], one["scope"]])).collect();
    assert_eq!(shown, [json!(["s", "task"]), json!(["t", "task"]), json!(["b", "task"])], "{listed}");
    assert_eq!(listed[1]["labels"]["of"], "the task", "{listed}");
    let state = host.places.data_dir().join("tasks").join(&id);
    assert!(state.join("containers/main").exists());
    for leaf in cgroups::below(&host.places.cgroup_parent) {
        let is_supervisors = leaf.file_name().is_some_and(|name| name.to_string_lossy().starts_with("supervisor-"));
        cgroups::processes(&leaf).into_iter().filter(|_| is_supervisors).for_each(process::kill);
    }
    host.coracle(["ps", "--all"]).ok();
    assert!(!state.join("containers").exists(), "what was the containers' is gone");
    assert_eq!(fs::read_to_string(source.join("file")).expect("it is the host's"), "kept");
    host.coracle(["rm", &id]).ok();
    host.finish();
}

/// One container with a secret for a file of its own, as `secrets` fills it.
#[test]
fn secrets_as_files_are_the_users_alone_and_in_memory() {
    let host = Host::new();
    host.import_probe();
    let value = host.file("value", "hunter2");
    let value = value.to_str().expect("plain text");
    host.coracle(["secret", "put", "db-password", "--value-file", value]).ok();
    let members = json!({ "user": "ana", "readonlyRootFilesystem": true,
        "secrets": [{ "name": "/run/secrets/db", "valueFrom": "db-password" }] });
    let seen = host.probe_with(&["report"], &members);
    let mounts = seen["mounts"].as_array().expect("lines");
    let line = mounts.iter().filter_map(Value::as_str).find(|line| line.contains(" /run/secrets/db "));
    let line = line.unwrap_or_else(|| panic!("it is not mounted: {mounts:?}"));
    for word in ["ro,", "nosuid", "nodev", "noexec", "- tmpfs"] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
    let seen = host.probe_with(&["paths", "/run/secrets/db"], &members);
    let file = &seen["/run/secrets/db"];
    assert_eq!(file["content"], "hunter2", "{seen}");
    assert_eq!(json!([file["mode"], file["uid"], file["gid"]]), json!([0o400, 1000, 1000]), "{seen}");
    host.finish();
}

/// Sizes and owners of what stays on the host are the container's own.
#[test]
fn a_volume_belongs_to_whom_the_image_says() {
    let host = Host::new();
    host.import(&with_data(json!({})), "data:latest").ok();
    host.coracle(["volume", "create", "owned"]).ok();
    let mut members = points(&[("owned", "/data")]);
    members["image"] = json!("data:latest");
    let volumes = json!([{ "name": "owned", "dockerVolumeConfiguration": { "scope": "shared" } }]);
    host.run(&task(&[definition::container("main", &["exit", "0"], &members)], volumes), &[]).ok();
    let place = host.places.data_dir().join("volumes/owned/_data");
    let found = fs::metadata(&place).expect("it is there");
    assert_eq!((found.uid(), found.gid(), found.permissions().mode() & 0o7777), (1000, 2000, 0o750));
    let (one, other) = (fs::metadata(place.join("file")), fs::metadata(place.join("same")));
    assert_eq!(one.expect("a file").ino(), other.expect("a file").ino(), "one file with two names");
    host.coracle(["volume", "rm", "owned"]).ok();
    host.finish();
}
