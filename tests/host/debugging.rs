//! The commands for looking into a task that runs: stats, top, port-forward and cp.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Host, Running, definition, image, wait_for};

#[track_caller]
fn end(host: &Host, task: &str) {
    host.coracle(["stop", task]).ok();
    host.coracle(["rm", task]).ok();
}

#[test]
fn stats_tell_what_each_container_uses_and_its_limit() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        definition::container("main", &["wait"], &Value::Null),
        definition::container("side", &["wait"], &json!({ "memory": 32 })),
    ];
    let task = host.detach(&definition::bridge_task(&containers), &[]);
    let look = || host.coracle(["stats", &task, "--no-stream", "--output", "json"]).ok().json();
    let before = look();
    let of = |stats: &Value, name: &str| {
        let lines = stats.as_array().expect("a list");
        lines.iter().find(|line| line["container"] == name).unwrap_or_else(|| panic!("no {name}: {stats}")).clone()
    };
    assert_eq!(of(&before, "main")["memoryLimitBytes"], 64 << 20, "{before}");
    assert_eq!(of(&before, "side")["memoryLimitBytes"], 32 << 20, "{before}");
    for (name, members) in [
        ("main", ["cpuPercent", "cpuNs", "memoryBytes", "networkReceivedBytes", "networkSentBytes", "pids"]),
        ("side", ["cpuPercent", "cpuNs", "memoryBytes", "networkReceivedBytes", "networkSentBytes", "pids"]),
    ] {
        for member in members {
            assert!(of(&before, name)[member].is_number(), "{name} has no {member}: {before}");
        }
        assert_eq!(of(&before, name)["pids"], 1, "{before}");
    }
    host.coracle(["exec", &task, "main", "--", "/bin/probe", "spin", "300"]).ok();
    let after = look();
    let cpu = |stats: &Value, name: &str| of(stats, name)["cpuNs"].as_u64().expect("a number");
    assert!(cpu(&after, "main") > cpu(&before, "main") + 50_000_000, "{before}\n{after}");
    assert!(cpu(&after, "side") < cpu(&before, "side") + 50_000_000, "{before}\n{after}");
    host.coracle(["stats", "--no-stream"]).ok().prints(&[&task[..12], "CONTAINER", "side", "%"]);
    host.coracle(["stats", "nobody", "--no-stream"]).refused(&["nobody"]);
    end(&host, &task);
    host.finish();
}

#[test]
fn stats_go_on_until_the_task_ends() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let stats = host.start(["stats", &task, "--output", "json"]);
    wait_for("two rounds", || (stats.stdout().lines().count() >= 2).then_some(()));
    host.coracle(["stop", &task]).ok();
    let rounds = stats.wait().ok().json_lines();
    assert!(rounds.iter().all(|line| line["container"] == "main" && line["task"] == task.as_str()));
    host.coracle(["stats", &task]).refused(&["has stopped", "coracle logs"]);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn top_tells_the_processes_of_a_container_as_its_users() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        definition::container("main", &["wait"], &json!({ "user": "ana" })),
        definition::container("side", &["wait"], &json!({ "user": "4242" })),
    ];
    let task = host.detach(&definition::task(&containers), &[]);
    let mut exec =
        host.command(["exec", "-i", "--user", "root", &task, "main", "--", "/bin/probe", "read", "/dev/stdin"]);
    exec.stdin(std::process::Stdio::piped());
    let mut exec = Running::start(&mut exec);
    let listed = wait_for("both processes", || {
        let listed = host.coracle(["top", &task, "main", "--output", "json"]).ok().json();
        let read = listed.as_array()?.iter().any(|process| process["command"] == "/bin/probe read /dev/stdin");
        (listed.as_array()?.len() == 2 && read).then_some(listed)
    });
    let process = |command: &str| {
        let all = listed.as_array().expect("a list");
        all.iter().find(|process| process["command"] == command).unwrap_or_else(|| panic!("{listed}")).clone()
    };
    let first = process("/bin/probe wait");
    assert_eq!((&first["pidInside"], &first["user"], &first["uid"]), (&json!(1), &json!("ana"), &json!(1000)));
    assert!(first["rssBytes"].as_u64() > Some(0) && first["cpuMs"].is_u64(), "{first}");
    let second = process("/bin/probe read /dev/stdin");
    assert_eq!((&second["user"], &second["container"]), (&json!("root"), &json!("main")));
    assert_ne!(second["pid"], second["pidInside"]);
    host.coracle(["top", &task]).ok().prints(&["PID", "ana", "4242", "side", "/bin/probe wait"]);
    host.coracle(["top", &task, "nobody"]).refused(&["nobody", "main, side"]);
    drop(exec.stdin());
    exec.wait().ok();
    end(&host, &task);
    host.finish();
}

/// Where `port-forward` says that it listens.
fn listening(forward: &Running) -> SocketAddr {
    wait_for("the address", || forward.stdout().lines().find_map(|line| line.split_once(" -> ")?.0.parse().ok()))
}

fn get(host: &Host, address: SocketAddr) -> std::io::Result<String> {
    host.namespace.enter(|| {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    })
}

#[test]
fn port_forward_reaches_the_containers_own_loopback_without_a_network() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "stopTimeout": 1 });
    let task = host.detach(&definition::probe_with(&["http", "127.0.0.1:80", "ahoy"], &members), &[]);
    let forward = host.start(["port-forward", &task, "0:80", ":81"]);
    let address = listening(&forward);
    assert!(address.ip().is_loopback());
    let answer = wait_for("the server", || get(&host, address).ok().filter(|answer| !answer.is_empty()));
    assert!(answer.ends_with("ahoy") && answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Several at a time, and one that nobody listens to, which ends only that connection.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(get(&host, address).expect("it answers").ends_with("ahoy")));
        }
    });
    let dead = forward
        .stdout()
        .lines()
        .find(|line| line.ends_with(":81"))
        .and_then(|line| line.split(' ').next()?.parse().ok());
    assert_eq!(get(&host, dead.expect("an address")).unwrap_or_default(), "");
    forward.wait_for_errors("connecting to port 81 in container main");
    assert!(get(&host, address).expect("it answers").ends_with("ahoy"));
    host.coracle(["stop", &task]).ok();
    forward.wait().ok().says(&["container main has stopped"]);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn port_forward_ends_with_ctrl_c_and_says_what_is_wrong() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        definition::container("main", &["wait"], &Value::Null),
        definition::container("web", &["http", "127.0.0.1:80", "from web"], &json!({ "stopTimeout": 1 })),
    ];
    let task = host.detach(&definition::bridge_task(&containers), &[]);
    host.coracle(["port-forward", &task, "80"]).refused(&["several containers", "main, web"]);
    host.coracle(["port-forward", &task, "web", "80/udp"]).refused(&["80/udp", "TCP only"]);
    host.coracle(["port-forward", &task, "ghost", "80"]).refused(&["ghost"]);
    let taken = host.namespace.enter(|| std::net::TcpListener::bind("127.0.0.1:0")).expect("loopback is up");
    let port = taken.local_addr().expect("it has one").port();
    host.coracle(["port-forward", &task, "web", &format!("{port}:80")]).refused(&["127.0.0.1", "0:80"]);
    let forward = host.start(["port-forward", &task, "web", "0:80"]);
    let address = listening(&forward);
    let answer = wait_for("the server", || get(&host, address).ok().filter(|answer| !answer.is_empty()));
    assert!(answer.ends_with("from web"), "{answer}");
    forward.signal(libc::SIGINT);
    forward.wait().ok();
    drop(taken);
    end(&host, &task);
    host.finish();
}

/// A tree with modes, owners, links and a name that ustar cannot hold.
fn make_tree(top: &Path) -> String {
    let long = "n".repeat(180);
    fs::create_dir_all(top.join("inner/empty")).expect("a new directory");
    fs::write(top.join("file"), "content\n").expect("a new file");
    fs::write(top.join("inner").join(&long), vec![7; 300_000]).expect("a new file");
    fs::hard_link(top.join("file"), top.join("same")).expect("one file system");
    symlink("../file", top.join("inner/link")).expect("a new link");
    symlink("/nowhere", top.join("dangling")).expect("a new link");
    fs::set_permissions(top.join("file"), fs::Permissions::from_mode(0o4750)).expect("ours");
    fs::set_permissions(top.join("inner/empty"), fs::Permissions::from_mode(0o1777)).expect("ours");
    std::os::unix::fs::chown(top.join("file"), Some(1000), Some(2000)).expect("tests run as root");
    std::os::unix::fs::lchown(top.join("dangling"), Some(1000), Some(2000)).expect("tests run as root");
    long
}

/// Every name below, with what a copy keeps.
fn listing(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).expect("it can be listed") {
            let path = entry.expect("it can be listed").path();
            let found = fs::symlink_metadata(&path).expect("it is there");
            let content = if found.is_symlink() {
                fs::read_link(&path).expect("a link").display().to_string()
            } else if found.is_dir() {
                left.push(path.clone());
                String::new()
            } else {
                format!("{} links, {}", found.nlink(), image::digest(&fs::read(&path).expect("it can be read")))
            };
            let name = path.strip_prefix(top).expect("it is below").display().to_string();
            let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
            lines.push(format!("{name} {mode:o} {uid}:{gid} {}.{} {content}", found.mtime(), found.mtime_nsec()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn cp_there_and_back_keeps_everything_without_a_program_in_the_image() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let files = host.places.root.join("files");
    let tree = files.join("tree");
    let long = make_tree(&tree);
    let inside = |path: &str| format!("{task}:main:{path}");
    // To a new name, into a directory that exists, and the content alone.
    host.coracle(["cp", "./files/tree", &inside("/work/new")]).ok();
    host.coracle(["cp", "./files/tree", &inside("/work")]).ok();
    host.coracle(["cp", "./files/tree/.", &inside("/home/")]).ok();
    for file in ["/work/new/file", "/work/tree/file", "/home/file", "/work/tree/inner/link"] {
        host.coracle(["exec", &task, "--", "/bin/probe", "read", file]).ok().prints(&["content"]);
    }
    for (back, from) in [("one", "/work/new"), ("two", "/work/tree/."), ("three", "/home/")] {
        let to = files.join(back);
        host.coracle(["cp", &inside(from), &to.display().to_string()]).ok();
        assert_eq!(listing(&to), listing(&tree), "{from}");
    }
    // One file: over another, into a directory, under a new name, through a link.
    host.coracle(["cp", &inside("/etc/passwd"), &tree.join("file").display().to_string()]).ok();
    host.coracle(["cp", &format!("{task}:/etc/group"), "./files/tree"]).ok();
    assert!(fs::read_to_string(tree.join("file")).expect("a file").starts_with("root:x:0:0"));
    assert!(fs::read_to_string(tree.join("group")).expect("a file").contains("boat"));
    host.coracle(["cp", &inside("/work/tree/dangling"), "./files/link"]).ok();
    assert_eq!(fs::read_link(files.join("link")).expect("a link"), Path::new("/nowhere"));
    host.coracle(["cp", "-L", &inside("/work/tree/inner/link"), "./files/through"]).ok();
    assert_eq!(fs::read_to_string(files.join("through")).expect("a file"), "content\n");
    assert_eq!(fs::read(files.join("one/inner").join(&long)).expect("a file").len(), 300_000);
    // What is mounted is written where it is, and stays mounted.
    let mounts = || host.coracle(["exec", &task, "--", "/bin/probe", "read", "/proc/self/mountinfo"]).ok();
    mounts().prints(&[" /etc/hosts "]);
    host.coracle(["cp", "./files/through", &inside("/etc/hosts")]).ok();
    host.coracle(["exec", &task, "--", "/bin/probe", "read", "/etc/hosts"]).ok().prints(&["content"]);
    mounts().prints(&[" /etc/hosts "]);
    host.coracle(["cp", &inside("/proc/1/status"), "./files/status"]).ok();
    assert!(fs::read_to_string(files.join("status")).expect("a file").contains("Name:\tprobe"));
    // All of it, but not what the kernel shows, and no device.
    host.coracle(["cp", &inside("/"), "./files/all"]).ok().says(&["/proc", "a device is left out"]);
    let all = files.join("all");
    assert_eq!(listing(&all.join("work/new")), listing(&files.join("one")));
    assert_eq!(fs::read_dir(all.join("proc")).expect("a directory").count(), 0);
    assert!(fs::read_dir(all.join("dev")).expect("a directory").count() > 0);
    assert!(!all.join("dev/null").exists());
    end(&host, &task);
    host.finish();
}

#[test]
fn cp_takes_and_gives_archives() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let files = host.places.root.join("files");
    make_tree(&files.join("tree"));
    host.coracle(["cp", "./files/tree", &format!("{task}:/work")]).ok();
    let archive = files.join("tree.tar");
    let mut out = host.command(["cp", &format!("{task}:/work/tree"), "-"]);
    let status = out.stdout(File::create(&archive).expect("a new file")).status().expect("it starts");
    assert!(status.success());
    let bytes = fs::read(&archive).expect("a file");
    assert_eq!(&bytes[257..263], b"ustar\0");
    let names = bytes.chunks(512).filter(|block| &block[257..263] == b"ustar\0").map(|block| &block[..10]);
    assert!(names.into_iter().any(|name| name == b"tree/\0\0\0\0\0"), "the directory itself is in it");
    assert_eq!(bytes.len() % 512, 0);
    let mut back = host.command(["cp", "-", &format!("{task}:/tmp")]);
    let status = back.stdin(File::open(&archive).expect("a file")).status().expect("it starts");
    assert!(status.success());
    host.coracle(["cp", &format!("{task}:/tmp/tree"), "./files/back"]).ok();
    assert_eq!(listing(&files.join("back")), listing(&files.join("tree")));
    // Names that lead elsewhere, and what is no archive.
    let evil = crate::support::tar::Tar::new().file("../out", 0o644, b"x").finish();
    for (content, said) in [(&evil[..], ".."), (&[b'x'; 1024][..], "tar header")] {
        let mut unpack = host.command(["cp", "-", &format!("{task}:/tmp")]);
        let file = host.file("evil.tar", content);
        unpack.stdin(File::open(file).expect("a file"));
        Running::start(&mut unpack).wait().refused(&[said]);
    }
    host.coracle(["cp", "-", &format!("{task}:/etc/passwd")]).refused(&["no directory /etc/passwd"]);
    end(&host, &task);
    host.finish();
}

/// The container's links are the container's: none of them leads to a file of the host.
#[test]
fn cp_follows_no_link_out_of_the_container_and_none_of_its_links_here() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let root = &host.places.root;
    let victim = root.join("victim");
    fs::create_dir(&victim).expect("a new directory");
    fs::write(victim.join("secret"), "the host's").expect("a new file");
    let trap = root.join("files/trap");
    fs::create_dir(&trap).expect("a new directory");
    symlink(&victim, trap.join("absolute")).expect("a new link");
    symlink(format!("../../../../../../../..{}", victim.display()), trap.join("relative")).expect("a new link");
    symlink("/proc/1/root", trap.join("magic")).expect("a new link");
    symlink("/etc", trap.join("etc")).expect("a new link");
    host.coracle(["cp", "./files/trap", &format!("{task}:/work/trap")]).ok();
    let file = host.file("file", "written");
    let file = file.display().to_string();
    for link in ["absolute", "relative"] {
        host.coracle(["cp", &file, &format!("{task}:/work/trap/{link}/file")]).refused(&["no directory"]);
        host.coracle(["cp", &format!("{task}:/work/trap/{link}/secret"), "./files/stolen"]).refused(&["secret"]);
        // The link itself is nothing but its text.
        host.coracle(["cp", &format!("{task}:/work/trap/{link}/"), "./files/stolen"]).refused(&[]);
    }
    host.coracle(["cp", &file, &format!("{task}:/work/trap/magic/file")]).refused(&[]);
    // Inside, a link is a link.
    host.coracle(["cp", &file, &format!("{task}:/work/trap/etc/made")]).ok();
    host.coracle(["exec", &task, "--", "/bin/probe", "read", "/etc/made"]).ok().prints(&["written"]);
    assert!(!Path::new("/etc/made").exists());
    assert!(!root.join("files/stolen").exists());
    // A copy onto links that an earlier copy has brought here stays in its own directory.
    let here = root.join("files/here");
    host.coracle(["cp", &format!("{task}:/work/trap"), &here.display().to_string()]).ok();
    let tree = root.join("files/second/absolute");
    fs::create_dir_all(&tree).expect("a new directory");
    fs::write(tree.join("secret"), "overwritten").expect("a new file");
    host.coracle(["cp", "./files/second", &format!("{task}:/work/second")]).ok();
    host.coracle(["cp", &format!("{task}:/work/second/."), &here.display().to_string()]).refused(&["absolute"]);
    assert_eq!(fs::read_to_string(victim.join("secret")).expect("a file"), "the host's");
    end(&host, &task);
    host.finish();
}

#[test]
fn cp_says_what_is_wrong() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe_with(&["wait"], &json!({ "readonlyRootFilesystem": true })), &[]);
    let file = host.file("file", "x").display().to_string();
    let folder = host.places.root.join("files").display().to_string();
    host.coracle(["cp", &file, &format!("{task}:/work/")]).refused(&["read-only", "volume"]);
    host.coracle(["cp", &file, &format!("{task}:/missing/file")]).refused(&["no directory /missing"]);
    host.coracle(["cp", &file, &format!("{task}:/work/new/")]).refused(&["/work/new/"]);
    host.coracle(["cp", &folder, &format!("{task}:/etc/passwd")]).refused(&["/etc/passwd is a file"]);
    host.coracle(["cp", &format!("{task}:/missing"), "."]).refused(&["missing"]);
    host.coracle(["cp", &format!("{task}:/etc/passwd"), "./no/such/place"]).refused(&["no/such", "parents"]);
    host.coracle(["cp", &format!("{task}:etc/passwd"), "."]).refused(&["begins with /"]);
    host.coracle(["cp", &format!("{task}:ghost:/etc"), "."]).refused(&["ghost"]);
    host.coracle(["cp", "./a", "./b"]).refused(&["neither side"]);
    host.coracle(["cp", &format!("{task}:/etc"), &format!("{task}:/work")]).refused(&["both sides", " | "]);
    host.coracle(["cp", "./nothing", &format!("{task}:/work")]).refused(&["./nothing"]);
    host.coracle(["stop", &task]).ok();
    host.coracle(["cp", &format!("{task}:/etc/passwd"), "."]).refused(&["has stopped"]);
    host.coracle(["rm", &task]).ok();
    host.finish();
}
