//! What a container is and does when all is well, and what is said when it is not.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::rig::Rig;

#[test]
fn a_container_runs_and_its_exit_code_comes_back() {
    let (code, output) = Rig::shell("echo out; echo err >&2; exit 42").run();
    assert_eq!((code, output.as_str()), (42, "out\nerr\n"));
}

#[test]
fn the_process_is_what_the_definition_says() {
    let mut rig =
        Rig::shell("id; pwd; echo $A $B $HOSTNAME $HOME $PATH; cat /etc/hosts /etc/resolv.conf /etc/hostname");
    fs::create_dir(rig.layer().join("etc")).unwrap();
    fs::write(rig.layer().join("etc/passwd"), "web:x:33:44::/srv/www:/bin/sh\n").unwrap();
    fs::write(rig.layer().join("etc/group"), "www:x:44:\nlogs:x:55:web\n").unwrap();
    rig.task["containers"][0]["image"]["config"] = json!({"env": ["A=image", "B=image"], "user": "nobody"});
    let definition = rig.definition();
    definition["user"] = json!("web");
    definition["workingDirectory"] = json!("/made/for/it");
    definition["environment"] = json!([{"name": "A", "value": "own"}]);
    let (code, output) = rig.run();
    let wanted = "uid=33(web) gid=44(www) groups=44(www),55(logs)\n/made/for/it\nown image host-of-test /srv/www \
                  /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n127.0.0.1 localhost\nnameserver \
                  192.0.2.53\nhost-of-test\n";
    assert_eq!((code, output.as_str()), (0, wanted));
}

#[test]
fn a_start_that_fails_says_why_in_words_that_ecs_users_know() {
    let not_executable = |rig: &Rig| fs::write(rig.layer().join("bin/data"), "no program").unwrap();
    let cases = [
        (json!({"command": ["absent"]}), "exec: \"absent\": executable file not found in $PATH", 127),
        (json!({"command": ["/absent"]}), "exec: \"/absent\": stat /absent: no such file or directory", 127),
        (json!({"command": ["/bin/data"]}), "exec: \"/bin/data\": permission denied", 126),
        (json!({"command": ["true"], "workingDirectory": "/bin/sh"}), "cannot make the working directory /bin/sh", -1),
        (
            json!({"command": ["true"], "user": "nobody"}),
            "unable to find user nobody: no matching entries in passwd file",
            -1,
        ),
        (
            json!({"command": ["true"], "linuxParameters": {"capabilities": {"add": ["FLY"]}}}),
            "linuxParameters.capabilities.add: there is no capability \"FLY\"",
            -1,
        ),
    ];
    for (members, wanted, exit_code) in cases {
        let mut rig = Rig::shell("");
        not_executable(&rig);
        rig.definition().as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let end = rig.start().finish();
        let text = end["failed"].as_str().unwrap_or_else(|| panic!("{members}: {end}"));
        assert!(text.contains(wanted), "{text}");
        assert_eq!(end["exitCode"].as_i64().unwrap_or(-1), exit_code, "{text}");
    }
}

#[test]
fn a_read_only_root_is_read_only_and_the_rest_is_not() {
    let mut rig = Rig::shell("echo >/file; echo >/dev/shm/file && echo written");
    rig.definition()["readonlyRootFilesystem"] = json!(true);
    let (_, output) = rig.run();
    assert!(output.contains("/file: Read-only file system") && output.ends_with("written\n"), "{output}");
}

#[test]
fn ulimits_and_sysctls_are_set() {
    let mut rig = Rig::shell("ulimit -n; ulimit -Hn; cat /proc/sys/kernel/msgmax");
    rig.definition()["ulimits"] = json!([{"name": "nofile", "softLimit": 123, "hardLimit": 456}]);
    rig.definition()["systemControls"] = json!([{"namespace": "kernel.msgmax", "value": "9000"}]);
    assert_eq!(rig.run(), (0, "123\n456\n9000\n".to_owned()));
}

#[test]
fn memory_kills_are_counted_and_only_then() {
    let mut rig = Rig::shell("head -c 67108864 /dev/zero | tail >/dev/null; exit 5");
    rig.definition()["command"] = json!(["tail", "/dev/zero"]);
    rig.definition()["memory"] = json!(16);
    let end = rig.start().finish();
    assert_eq!(end["exited"], 137, "{end}");
    assert!(end["oomKills"].as_u64() > Some(0), "{end}");
    let calm = Rig::shell("sleep 1000").start().kill();
    assert_eq!((&calm["exited"], &calm["oomKills"]), (&json!(137), &json!(0)));
}

#[test]
fn limits_reach_the_kernel() {
    let mut rig = Rig::shell("sleep 1000");
    rig.task["cpu"] = json!(512);
    rig.task["memory_mib"] = json!(256);
    rig.definition()["cpu"] = json!(256);
    rig.definition()["memory"] = json!(64);
    rig.definition()["memoryReservation"] = json!(32);
    let running = rig.start();
    let container = rig.cgroup();
    let read = |v1: &str, v2: &str, path: &Path| {
        let path = path.strip_prefix("/").unwrap();
        let (controller, file) = v1.split_once('/').unwrap();
        let v1 = Path::new("/sys/fs/cgroup").join(controller).join(path).join(file);
        let v2 = Path::new("/sys/fs/cgroup").join(path).join(v2);
        fs::read_to_string(v1).or_else(|_| fs::read_to_string(v2)).unwrap().trim().to_owned()
    };
    let task = container.parent().unwrap();
    let expect =
        |found: String, either: [&str; 2]| assert!(either.contains(&found.as_str()), "{found} is not {either:?}");
    expect(read("cpu/cpu.shares", "cpu.weight", &container), ["256", "10"]);
    expect(read("memory/memory.limit_in_bytes", "memory.max", &container), ["67108864"; 2]);
    expect(read("memory/memory.soft_limit_in_bytes", "memory.low", &container), ["33554432"; 2]);
    expect(read("cpu/cpu.cfs_quota_us", "cpu.max", task), ["50000", "50000 100000"]);
    expect(read("memory/memory.limit_in_bytes", "memory.max", task), ["268435456"; 2]);
    expect(read("pids/pids.max", "pids.max", task), ["64"; 2]);
    running.kill();
}

#[test]
fn a_fork_bomb_hits_the_tasks_limit_and_goes_with_the_container() {
    let mut rig = Rig::shell("(while :; do sleep 1000 & done); exit 9");
    rig.task["pids_limit"] = json!(20);
    let (code, output) = rig.run();
    assert_eq!(code, 9);
    assert!(output.contains("can't fork"), "{output}");
}

#[test]
fn exec_runs_as_asked_and_says_what_is_wrong() {
    let mut rig = Rig::shell("sleep 1000");
    rig.definition()["environment"] = json!([{"name": "A", "value": "container"}]);
    let mut running = rig.start();
    let answer = running.ask(
        &json!({"container": "app", "command": ["sh", "-c", "id -u; pwd; echo $A $B"], "user": "7", "workingDirectory":
                "/bin", "environment": ["B=exec"]})
        .to_string(),
    );
    assert_eq!(answer["exit"], 0, "{answer}");
    assert_eq!(rig.output(), "7\n/bin\ncontainer exec\n");
    let answer = running.exec(&["absent"]);
    assert_eq!(answer["refused"], "container app: exec: \"absent\": executable file not found in $PATH");
    running.kill();
}

#[test]
fn exec_can_have_a_terminal_of_the_containers_own() {
    let rig = Rig::shell("sleep 1000");
    let mut running = rig.start();
    let script = "ls -l /proc/self/fd/0; [ -t 0 ] && [ -t 2 ] && echo $TERM; echo >/dev/tty && echo controls; exit 3";
    let answer =
        running.ask(&json!({"container": "app", "command": ["sh", "-c", script], "terminal": true}).to_string());
    let shown = answer["terminal"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(shown.contains("/dev/pts/0") && shown.contains("xterm\r\n") && shown.contains("controls\r\n"), "{shown}");
    assert_eq!(answer["exit"], 3, "{answer}");
    running.kill();
}
