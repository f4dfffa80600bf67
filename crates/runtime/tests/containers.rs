//! Containers that really start, seen from the host: as root, each in a cgroup of its own, nothing left behind.

#![allow(unsafe_code, reason = "the tests ask the kernel who they are")]

mod rig;

use std::fs;

use rig::Rig;
use serde_json::json;

#[test]
fn a_container_runs_and_its_exit_code_comes_back() {
    let (code, output) = Rig::shell("echo out; echo err >&2; exit 42").run();
    assert_eq!((code, output.as_str()), (42, "out\nerr\n"));
}

#[test]
fn the_process_is_what_the_definition_says() {
    let mut rig = Rig::shell("id; pwd; echo $A $B $HOSTNAME $HOME $PATH; cat /etc/hosts /etc/resolv.conf /etc/hostname");
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
