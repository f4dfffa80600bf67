//! Images through the command line: import and export of every form, pulls from a registry that is honest and from
//! ones that are not, and the store's own commands.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::json;

use crate::support::image::{Blobs, Image, base_layer, digest, probe_image, probe_layer};
use crate::support::netns::LAN_ADDRESS_OF_HOST;
use crate::support::registry::{Fault, Registry, Repository};
use crate::support::tar::Tar;
use crate::support::{Finished, Host, Running, definition};

/// No pull that gets nowhere may hang longer.
const LONGEST_STALL: Duration = Duration::from_secs(150);

fn image(host: &Host, arguments: &[&dyn AsRef<OsStr>]) -> Finished {
    host.coracle([OsStr::new("image")].into_iter().chain(arguments.iter().map(|argument| (*argument).as_ref())))
}

/// Runs an image of the store: its probe says `ahoy`.
fn works(host: &Host, name: &str) {
    let definition = definition::probe_with(&["say", "ahoy"], &json!({ "image": name }));
    host.run(&definition, &[]).ok().prints(&["ahoy"]);
}

/// Nothing of a refused image is in the store.
fn store_is_empty(host: &Host) {
    let listed = image(host, &[&"ls"]).ok();
    assert!(!listed.stdout.contains("127.0.0.1") && !listed.stdout.contains("bad"), "{}", listed.whole());
    let layers = host.places.data_dir().join("images/layers");
    let left: Vec<_> = std::fs::read_dir(&layers).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_form_of_archive_is_imported_and_runs() {
    let host = Host::new();
    let probe = probe_image();
    let oci = host.file("oci.tar", probe.oci_archive("example.test/oci:1"));
    image(&host, &[&"import", &oci]).ok();
    works(&host, "example.test/oci:1");
    let docker = host.file("docker.tar", probe.docker_archive("example.test/docker:1"));
    image(&host, &[&"import", &docker]).ok();
    works(&host, "example.test/docker:1");
    let folder = host.places.root.join("layout");
    probe.clone().compressed().write_oci_layout("example.test/folder:1", &folder);
    image(&host, &[&"import", &folder]).ok();
    works(&host, "example.test/folder:1");
    let bare = host.file("rootfs.tar", probe_layer().finish());
    image(&host, &[&"import", &bare, &"--name", &"example.test/bare:1", &"--entrypoint", &"/bin/probe"]).ok();
    works(&host, "example.test/bare:1");
    let listed = image(&host, &[&"ls"]).ok();
    for name in ["example.test/oci", "example.test/docker", "example.test/folder", "example.test/bare"] {
        assert!(listed.stdout.contains(name), "{name} is not listed: {}", listed.whole());
    }
    host.finish();
}

#[test]
fn what_is_exported_can_be_imported_elsewhere_and_is_the_same() {
    let host = Host::new();
    host.import(&probe_image().compressed(), "example.test/trip:1").ok();
    let archive = host.places.root.join("out.tar");
    image(&host, &[&"export", &"example.test/trip:1", &"--output", &archive]).ok();
    let other = Host::new();
    image(&other, &[&"import", &archive]).ok();
    works(&other, "example.test/trip:1");
    let here = image(&host, &[&"inspect", &"example.test/trip:1"]).ok();
    let there = image(&other, &[&"inspect", &"example.test/trip:1"]).ok();
    let digest = probe_image().compressed().blobs().manifest_digest;
    assert!(here.stdout.contains(&digest), "{}", here.whole());
    assert!(there.stdout.contains(&digest), "{}", there.whole());
    other.finish();
    host.finish();
}

#[test]
fn removed_images_and_their_layers_are_gone() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    // In use: its layers stay until the task ends.
    image(&host, &[&"rm", &"probe:latest"]);
    host.coracle(["exec", &task, "--", "/bin/probe", "say", "still here"]).ok().prints(&["still here"]);
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    image(&host, &[&"rm", &"probe:latest"]);
    image(&host, &[&"gc"]).ok();
    store_is_empty(&host);
    image(&host, &[&"rm", &"probe:latest"]).refused(&["probe"]);
    host.finish();
}

#[test]
fn the_built_in_image_needs_nothing() {
    let host = Host::new();
    let container =
        json!({ "name": "hello", "image": "coracle/hello:latest", "memory": 64, "command": ["hello", "--help"] });
    host.run(&definition::task(&[container]), &[]).ok();
    host.finish();
}

#[test]
fn an_image_that_is_nowhere_is_named_with_what_is_wrong() {
    let host = Host::new();
    let registry = Registry::start(&host, vec![]);
    let name = registry.reference("nothing:latest");
    let definition = definition::probe_with(&["exit", "0"], &json!({ "image": name }));
    host.run(&definition, &[]).refused(&[&name, "not found"]);
    for bad in ["UPPER/case", "a//b", "a:b:c", "a@sha256:12", "", " ", "a/../../b", "x:tag/..", "ünïcode", "-a"] {
        let definition = definition::probe_with(&["exit", "0"], &json!({ "image": bad }));
        host.run(&definition, &[]).refused(&["image"]);
    }
    let long = "x".repeat(300);
    host.run(&definition::probe_with(&["exit", "0"], &json!({ "image": long })), &[]).refused(&["image"]);
    registry.stop(&host);
    host.finish();
}

fn repository(name: &str, blobs: &Blobs, fault: Fault) -> Repository {
    Repository { name: name.to_owned(), blobs: blobs.clone(), fault }
}

#[test]
fn an_honest_registry_by_tag_by_digest_and_never_twice() {
    let host = Host::new();
    let blobs = Image::of(vec![probe_layer().finish(), Tar::new().file("second", 0o644, b"layer").finish()])
        .compressed()
        .blobs();
    let registry = Registry::start(&host, vec![repository("team/probe", &blobs, Fault::None)]);
    let name = registry.reference("team/probe:1");
    image(&host, &[&"pull", &name]).ok();
    works(&host, &name);
    let pinned = format!("{}@{}", registry.reference("team/probe"), blobs.manifest_digest);
    let before = registry.requests().len();
    works(&host, &pinned);
    assert_eq!(registry.requests().len(), before, "a digest that is present touches the network");
    let wrong = format!("{}@{}", registry.reference("team/probe"), digest(b"another"));
    image(&host, &[&"pull", &wrong]).refused(&["team/probe"]);
    registry.stop(&host);
    works(&host, &name);
    host.finish();
}

#[test]
fn registries_that_lie_are_refused_before_anything_is_kept() {
    let host = Host::new();
    let blobs = probe_image().compressed().blobs();
    let faults = [
        ("bytes", Fault::LayerBytes),
        ("short", Fault::ShortLayer),
        ("long", Fault::LongLayer),
        ("loop", Fault::RedirectLoop),
        ("file", Fault::Redirect("file:///etc/passwd".into())),
        ("nowhere", Fault::Redirect("http://127.0.0.1:1/".into())),
        ("unauthorized", Fault::Unauthorized),
        ("endless", Fault::EndlessManifest),
        ("broken", Fault::Broken),
    ];
    let mut repositories: Vec<Repository> =
        faults.iter().map(|(name, fault)| repository(name, &blobs, fault.clone())).collect();
    repositories.push(repository("manifest", &blobs, Fault::ManifestBytes));
    let registry = Registry::start(&host, repositories);
    for (name, fault) in &faults {
        let ended =
            host.start(["image", "pull", &registry.reference(&format!("{name}:1"))]).wait_at_most(LONGEST_STALL);
        assert!(ended.stderr.contains(name), "{fault:?}: {}", ended.whole());
        ended.refused(&[]);
        store_is_empty(&host);
    }
    let pinned = format!("{}@{}", registry.reference("manifest"), blobs.manifest_digest);
    image(&host, &[&"pull", &pinned]).refused(&["digest"]);
    store_is_empty(&host);
    registry.stop(&host);
    host.finish();
}

#[test]
fn a_registry_that_stalls_is_given_up_on() {
    let host = Host::new();
    let blobs = probe_image().compressed().blobs();
    let repositories =
        vec![repository("silent", &blobs, Fault::Silent), repository("stalled", &blobs, Fault::StalledLayer)];
    let registry = Registry::start(&host, repositories);
    // Side by side: each waits for its own deadline.
    let pulls: Vec<Running> =
        ["silent:1", "stalled:1"].map(|name| host.start(["image", "pull", &registry.reference(name)])).into();
    for pull in pulls {
        pull.wait_at_most(LONGEST_STALL).refused(&[]);
    }
    store_is_empty(&host);
    registry.stop(&host);
    host.finish();
}

#[test]
fn a_pull_that_is_cut_goes_on_where_it_was() {
    let host = Host::new();
    let blobs = probe_image().compressed().blobs();
    let registry = Registry::start(&host, vec![repository("cut", &blobs, Fault::CutOnce)]);
    let name = registry.reference("cut:1");
    image(&host, &[&"pull", &name]).ok();
    works(&host, &name);
    let resumed = registry.requests().iter().any(|request| request.range.is_some());
    assert!(resumed, "no range was asked for: {:?}", registry.requests());
    registry.stop(&host);
    host.finish();
}

/// An interrupted pull leaves nothing that is used, and the next one succeeds.
#[test]
fn a_killed_pull_is_taken_up_by_the_next() {
    let host = Host::new();
    let blobs = probe_image().compressed().blobs();
    let repositories = vec![repository("probe", &blobs, Fault::StalledLayer), repository("good", &blobs, Fault::None)];
    let registry = Registry::start(&host, repositories);
    let pull = host.start(["image", "pull", &registry.reference("probe:1")]);
    crate::support::wait_for("the layer's request", || {
        let requests = registry.requests();
        requests.iter().any(|request| request.path.ends_with(&blobs.layer_digests[0])).then_some(())
    });
    pull.signal(libc::SIGKILL);
    pull.wait();
    store_is_empty(&host);
    image(&host, &[&"pull", &registry.reference("good:1")]).ok();
    works(&host, &registry.reference("good:1"));
    registry.stop(&host);
    host.finish();
}

#[test]
fn credentials_of_docker_config_are_used_and_go_nowhere_else() {
    let host = Host::new();
    let neighbour = host.neighbour();
    let blobs = probe_image().compressed().blobs();
    // Another machine's address, spoken to without TLS; and another registry on loopback, for blobs.
    let foreign = Registry::start_at(&host, LAN_ADDRESS_OF_HOST, vec![]);
    let elsewhere = Registry::start(&host, vec![]);
    let moved = Fault::Redirect(format!("http://{}/v2/moved/blobs/x", elsewhere.address()));
    let registry = Registry::start(
        &host,
        vec![
            repository("token", &blobs, Fault::Token("ana", "secret")),
            repository("basic", &blobs, Fault::Basic("ana", "secret")),
            repository("foreign", &blobs, Fault::ForeignRealm(foreign.address().to_string())),
            repository("moved", &blobs, moved),
        ],
    );
    image(&host, &[&"pull", &registry.reference("token:1")]).refused(&["token"]);
    let folder = host.places.root.join(".docker");
    std::fs::create_dir(&folder).expect("a test may write to its own directory");
    let log_in = |secret: &str| {
        let config = json!({ "auths": { registry.address().to_string(): { "auth": secret } } });
        std::fs::write(folder.join("config.json"), config.to_string()).expect("a test may write to its own directory");
    };
    // ana:secret
    log_in("YW5hOnNlY3JldA==");
    image(&host, &[&"pull", &registry.reference("token:1")]).ok();
    image(&host, &[&"pull", &registry.reference("basic:2")]).ok();
    works(&host, &registry.reference("basic:2"));
    image(&host, &[&"rm", &registry.reference("token:1"), &registry.reference("basic:2")]).ok();
    image(&host, &[&"gc"]).ok();
    image(&host, &[&"pull", &registry.reference("foreign:1")]).refused(&["https"]);
    image(&host, &[&"pull", &registry.reference("moved:1")]).refused(&["moved"]);
    assert!(!elsewhere.requests().is_empty(), "the redirect was not followed");
    for request in foreign.requests().iter().chain(&elsewhere.requests()) {
        assert_eq!(request.authorization, None, "credentials went to another host: {request:?}");
    }
    // ana:wrong
    log_in("YW5hOndyb25n");
    image(&host, &[&"pull", &registry.reference("token:3")]).refused(&[]);
    for registry in [registry, elsewhere, foreign] {
        registry.stop(&host);
    }
    drop(neighbour);
    host.finish();
}

#[test]
fn digests_and_diff_ids_are_checked_on_import() {
    let host = Host::new();
    let good = probe_image().compressed();
    let blobs = good.blobs();
    let mut wrong_diff_id = good.clone();
    wrong_diff_id.diff_ids = Some(vec![digest(b"something else")]);
    let mut too_many = good.clone();
    too_many.diff_ids = Some(vec![digest(&good.layers[0]), digest(b"one more")]);
    let layer = blobs.layer_digests[0].clone();
    let cases = [
        ("a layer's bytes", blobs.clone().with_swapped(&layer, b"other bytes".to_vec()).archive("bad:1")),
        (
            "the configuration's bytes",
            blobs.clone().with_swapped(&blobs.config_digest, b"{}".to_vec()).archive("bad:1"),
        ),
        ("a diff_id", wrong_diff_id.oci_archive("bad:1")),
        ("the number of layers", too_many.oci_archive("bad:1")),
        ("an archive cut short", {
            let whole = good.oci_archive("bad:1");
            whole[..whole.len() / 2].to_vec()
        }),
        ("no archive", b"hello".to_vec()),
        ("nothing", Vec::new()),
    ];
    for (what, archive) in cases {
        let path = host.file("bad.tar", archive);
        let ended = image(&host, &[&"import", &path]);
        assert!(ended.code() != 0, "{what} is accepted: {}", ended.whole());
        ended.refused(&[]);
        store_is_empty(&host);
    }
    host.finish();
}

/// Descriptors with values that reach for a path or break a parser (HARDENING I09, I10).
#[test]
fn hostile_manifests_are_refused() {
    let host = Host::new();
    let blobs = probe_image().compressed().blobs();
    let manifest = String::from_utf8(blobs.manifest.clone()).expect("JSON is text");
    let layer = &blobs.layer_digests[0];
    let hexadecimal = &layer["sha256:".len()..];
    let cases: Vec<(&str, String)> = vec![
        ("traversal", manifest.replace(layer.as_str(), "sha256:../../../../etc/passwd")),
        ("short digest", manifest.replace(hexadecimal, &hexadecimal[1..])),
        ("long digest", manifest.replace(hexadecimal, &format!("{hexadecimal}0"))),
        ("upper case", manifest.replace(hexadecimal, &hexadecimal.to_uppercase())),
        ("unknown algorithm", manifest.replace("sha256:", "md5:")),
        ("no digest", manifest.replace(layer.as_str(), "")),
        ("negative size", manifest.replace("\"size\":", "\"size\":-")),
        ("huge size", manifest.replace("\"size\":", "\"size\":99999999999999999999")),
        ("deep", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("not an object", "null".to_owned()),
        ("schema 1", r#"{"schemaVersion":1,"name":"x","tag":"1","fsLayers":[],"history":[]}"#.to_owned()),
        ("no layers and no configuration", r#"{"schemaVersion":2}"#.to_owned()),
        (
            "an empty index",
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#.to_owned(),
        ),
    ];
    for (what, manifest) in cases {
        let manifest = manifest.into_bytes();
        let hostile = Blobs { manifest_digest: digest(&manifest), manifest, ..blobs.clone() };
        let path = host.file("bad.tar", hostile.archive("bad:1"));
        let ended = image(&host, &[&"import", &path]);
        assert!(ended.code() != 0, "{what} is accepted: {}", ended.whole());
        ended.refused(&[]);
        store_is_empty(&host);
    }
    // An index that is its own child: the digest cannot be right, and nobody may follow it for ever.
    let own = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(b"self"), "size": 4,
        "platform": { "os": "linux", "architecture": "amd64" },
    }] })
    .to_string()
    .into_bytes();
    let mut hostile = Blobs { manifest_digest: digest(&own), manifest: own.clone(), ..blobs };
    hostile.blobs.insert(digest(b"self"), own);
    let path = host.file("bad.tar", hostile.archive("bad:1"));
    image(&host, &[&"import", &path]).refused(&[]);
    store_is_empty(&host);
    host.finish();
}

#[test]
fn two_tasks_pull_the_same_image_at_once() {
    let host = Host::new();
    let blobs = Image::of(vec![base_layer().finish()]).compressed().blobs();
    let registry = Registry::start(&host, vec![repository("same", &blobs, Fault::None)]);
    let definition = definition::probe_with(&["say", "ahoy"], &json!({ "image": registry.reference("same:1") }));
    let runs: Vec<Running> = (0..3).map(|_| host.start_run(&definition, &[])).collect();
    for run in runs {
        run.wait().ok().prints(&["ahoy"]);
    }
    registry.stop(&host);
    host.finish();
}
