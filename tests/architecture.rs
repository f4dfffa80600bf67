//! Holds the picture of `crates/README.md` against what Cargo and the sources say: which crate may know which, who is
//! pure, who may write `unsafe`, and how long a file may grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crate, whether it is pure, and the crates of this workspace that it may know.
const PICTURE: [(&str, Purity, &[&str]); 17] = [
    ("ecs", Purity::Pure, &[]),
    ("task-lifecycle", Purity::Pure, &["ecs"]),
    ("aws", Purity::Pure, &[]),
    ("dns", Purity::Pure, &[]),
    ("agent-protocol", Purity::Pure, &["ecs", "aws"]),
    ("scheduler", Purity::Pure, &["ecs"]),
    ("control-plane", Purity::Pure, &["agent-protocol", "ecs", "scheduler"]),
    ("api", Purity::Pure, &["ecs"]),
    ("images", Purity::DoesIo, &["ecs"]),
    ("secrets", Purity::DoesIo, &["ecs"]),
    ("network", Purity::DoesIo, &["ecs", "aws"]),
    ("runtime", Purity::DoesIo, &["ecs", "task-lifecycle", "agent-protocol"]),
    ("log-shipping", Purity::DoesIo, &["ecs", "agent-protocol", "runtime"]),
    (
        "agent",
        Purity::DoesIo,
        &["ecs", "aws", "agent-protocol", "images", "secrets", "network", "runtime", "log-shipping"],
    ),
    (
        "host-services",
        Purity::DoesIo,
        &["ecs", "aws", "dns", "agent-protocol", "secrets", "network", "runtime", "agent"],
    ),
    ("server", Purity::DoesIo, &["agent-protocol", "api", "control-plane", "ecs", "images", "scheduler", "aws"]),
    (
        "coracle",
        Purity::DoesIo,
        &[
            "ecs",
            "aws",
            "agent-protocol",
            "images",
            "secrets",
            "network",
            "runtime",
            "log-shipping",
            "agent",
            "host-services",
            "control-plane",
            "server",
        ],
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purity {
    Pure,
    DoesIo,
}

/// What a pure crate never has, not even through others.
const IMPURE: [&str; 8] = ["tokio", "nix", "hyper", "libc", "rustix", "mio", "getrandom", "tracing"];

/// Crates from outside that one crate alone may name.
const RESERVED: [(&str, &str); 4] = [
    ("libcontainer", "runtime"),
    ("netlink-packet-core", "network"),
    ("netlink-packet-route", "network"),
    ("redb", "server"),
];

/// Where `unsafe` may be written.
const MAY_BE_UNSAFE: [&str; 2] = ["runtime", "network"];

/// Lines of one source file, tests included.
const FILE_WALL: usize = 800;

#[test]
fn crates_know_only_whom_they_may() {
    let metadata = metadata();
    let members = members(&metadata);
    let drawn: BTreeSet<&str> = PICTURE.iter().map(|(name, _, _)| *name).collect();
    let present: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(present, drawn, "a crate came or went: draw it in PICTURE and in crates/README.md");
    for (name, _, allowed) in PICTURE {
        for dependency in declared(members[name]) {
            let inside = drawn.contains(dependency.as_str());
            assert!(!inside || allowed.contains(&dependency.as_str()), "{name} may not know {dependency}");
        }
    }
}

#[test]
fn pure_crates_stay_pure() {
    let metadata = metadata();
    for (name, purity, _) in PICTURE {
        if purity == Purity::DoesIo {
            continue;
        }
        for (package, through) in reached(&metadata, name) {
            assert!(!IMPURE.contains(&package.as_str()), "{name} reaches {package} through {through}");
        }
    }
}

#[test]
fn reserved_crates_have_one_user() {
    let metadata = metadata();
    for (name, member) in members(&metadata) {
        for dependency in declared(member) {
            for (reserved, owner) in RESERVED {
                assert!(dependency != reserved || name == owner, "only {owner} names {reserved}, and {name} does");
            }
        }
    }
}

#[test]
fn sources_keep_to_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests"), root.join("crates")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder that can be listed has entries").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                seen += 1;
                check_source(root, &path);
            }
        }
    }
    assert!(seen > 20, "only {seen} source files found: this test looks in the wrong place");
}

fn check_source(root: &Path, path: &Path) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    assert!(text.starts_with("//!"), "{shown} does not open with `//!`: what it is for, and what it leaves to others");
    let lines = text.lines().count();
    assert!(lines <= FILE_WALL, "{shown} has {lines} lines; the wall is {FILE_WALL}");
    let allows = text.contains(concat!("allow(", "unsafe_code"));
    assert!(
        !allows || owner(root, path).is_some_and(|owner| owner == "tests" || MAY_BE_UNSAFE.contains(&owner.as_str())),
        "{shown} allows unsafe code"
    );
}

/// `src`, `tests`, or the name of the crate.
fn owner(root: &Path, path: &Path) -> Option<String> {
    let mut parts =
        path.strip_prefix(root).ok()?.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    match parts.next()?.as_str() {
        "crates" => parts.next(),
        other => Some(other.to_owned()),
    }
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test, so cargo can be run");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON")
}

fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value[member].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_default().to_owned()
}

fn members(metadata: &Value) -> BTreeMap<String, &Value> {
    let ids: BTreeSet<&str> = list(metadata, "workspace_members").iter().filter_map(Value::as_str).collect();
    list(metadata, "packages")
        .iter()
        .filter(|package| package["id"].as_str().is_some_and(|id| ids.contains(id)))
        .map(|package| (text(package, "name"), package))
        .collect()
}

/// What a Cargo.toml names, tests' own needs left out.
fn declared(package: &Value) -> Vec<String> {
    list(package, "dependencies")
        .iter()
        .filter(|dependency| dependency["kind"] != "dev")
        .map(|dependency| text(dependency, "name"))
        .collect()
}

/// Every package that a crate's build needs, with the one that brought it.
fn reached(metadata: &Value, name: &str) -> Vec<(String, String)> {
    let packages = list(metadata, "packages");
    let names: BTreeMap<&str, String> =
        packages.iter().filter_map(|package| Some((package["id"].as_str()?, text(package, "name")))).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"], "nodes").iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let start = *members(metadata).get(name).unwrap_or_else(|| panic!("no crate {name}"));
    let mut open = vec![start["id"].as_str().expect("a package has an id")];
    let mut seen: BTreeSet<&str> = open.iter().copied().collect();
    let mut reached = Vec::new();
    while let Some(id) = open.pop() {
        for dependency in list(nodes[id], "deps") {
            let normal = list(dependency, "dep_kinds").iter().any(|kind| kind["kind"].is_null());
            let package = dependency["pkg"].as_str().expect("a dependency has an id");
            if normal && seen.insert(package) {
                reached.push((names[package].clone(), names[id].clone()));
                open.push(package);
            }
        }
    }
    reached
}
