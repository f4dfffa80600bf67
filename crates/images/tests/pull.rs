//! Pulls against a registry that behaves, and against ones that lie, break off, stall and fish for credentials.

mod common;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::registry::{Content, INDEX, Registry, Reply, Request, Then, digest};
use common::{gzip, noise, tar, zstd};
use images::{Deadlines, Image, PullError, PullOptions, Reference, Silent, Store, pull};
use serde_json::json;

fn options() -> PullOptions {
    let deadlines = Deadlines { retry: Duration::from_millis(1), ..Deadlines::default() };
    PullOptions { deadlines, ..PullOptions::default() }
}

fn impatient() -> PullOptions {
    let short = Duration::from_millis(1_500);
    let deadlines =
        Deadlines { stall: short, speed_window: short, retry: Duration::from_millis(1), ..Deadlines::default() };
    PullOptions { deadlines, ..PullOptions::default() }
}

fn run(store: &Store, name: &str, options: &PullOptions) -> Result<Image, PullError> {
    let reference: Reference = name.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(pull(store, &reference, options, Arc::new(Silent)))
}

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("images")).unwrap()
}

/// Pulls `…/app:1` into a new store; a failure must leave nothing visible.
fn pull_new(registry: &Registry, options: &PullOptions) -> Result<Image, PullError> {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let result = run(&store, &registry.name("app:1"), options);
    if result.is_err() {
        assert_eq!(entries(dir.path(), "refs"), 0);
        assert_eq!(store.list().unwrap(), []);
    }
    assert_eq!(entries(dir.path(), "leases"), 0);
    result
}

fn entries(dir: &Path, part: &str) -> usize {
    fs::read_dir(dir.join("images").join(part)).unwrap().count()
}

fn layers() -> [Vec<u8>; 2] {
    [tar(&[("big", 0o644, Some(&noise(700_000)))]), tar(&[("small", 0o600, Some(b"x"))])]
}

fn plain_image() -> Content {
    let [big, small] = layers();
    Content::image(&[&big, &small])
}

fn is_layer(request: &Request, content: &Content) -> bool {
    let last = request.path.rsplit('/').next().unwrap();
    content.blobs.get(last).is_some_and(|blob| blob.starts_with(&[0x1f, 0x8b]))
}

fn is_big(request: &Request, content: &Content) -> bool {
    let last = request.path.rsplit('/').next().unwrap();
    content.blobs.get(last).is_some_and(|blob| blob.len() > 100_000)
}

#[test]
fn an_image_is_pulled_found_and_not_fetched_again() {
    let content = plain_image();
    let registry = Registry::start(move |request| content.answer(request));
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let image = run(&store, &registry.name("team/app:1"), &options()).unwrap();
    assert_eq!(fs::read(image.layers[0].join("big")).unwrap(), noise(700_000));
    assert_eq!(fs::read(image.layers[1].join("small")).unwrap(), b"x");
    assert_eq!(image.config.volumes, ["/data"]);
    assert_eq!(image.config.labels.keys().collect::<Vec<_>>(), ["mine"], "labels in our own name are dropped");
    assert_eq!(store.find(&image.reference).unwrap(), Some(image.clone()));
    assert_eq!(
        (entries(dir.path(), "ingest"), entries(dir.path(), "layers"), entries(dir.path(), "blobs/sha256")),
        (0, 2, 4)
    );
    let before = registry.requests().len();
    assert_eq!(before, 4);
    // A tag is looked up again, its layers are not fetched.
    run(&store, &registry.name("team/app:1"), &options()).unwrap();
    assert_eq!(registry.requests().len(), before + 2);
    // A digest that is present is not even looked up, whatever the name.
    let pinned = run(&store, &registry.name(&format!("other@{}", image.digest)), &options()).unwrap();
    assert_eq!(pinned.layers, image.layers);
    assert_eq!(registry.requests().len(), before + 2);
}

#[test]
fn the_image_for_this_platform_is_chosen_from_an_index_and_zstd_is_understood() {
    let [big, small] = layers();
    let mut content = Content::of(&[zstd(&big), gzip(&small)], &[&big, &small]);
    let own = content.tags["1"].0.clone();
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let entry = |platform: &str, bytes: &[u8]| {
        let media_type = common::registry::MANIFEST;
        json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len(), "platform": { "os": "linux", "architecture": platform } })
    };
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry("s390x", b"other"), entry(architecture, &own)] });
    let outer = serde_json::to_vec(&index).unwrap();
    content.tag("1", outer.clone(), INDEX);
    let registry = Registry::start(move |request| content.answer(request));
    let image = pull_new(&registry, &options()).unwrap();
    assert_eq!(image.digest.to_string(), digest(&own));
    assert_eq!(image.index_digest.map(|index| index.to_string()), Some(digest(&outer)));
    let other = PullOptions { platform: Some("linux/riscv64".parse().unwrap()), ..options() };
    let error = pull_new(&registry, &other).unwrap_err();
    assert!(
        matches!(&error, PullError::Unsupported { why, .. } if why.contains("linux/riscv64") && why.contains("linux/s390x")),
        "{error}"
    );
}

#[test]
fn a_wrong_blob_a_wrong_length_and_a_wrong_manifest_are_refused() {
    type Spoil = fn(&Request, &Content) -> Option<Reply>;
    let spoilt: [(&str, Spoil); 6] = [
        ("other bytes of the same length", |request, content| {
            let mut reply = content.answer(request);
            let middle = reply.body.len() / 2;
            is_big(request, content).then(|| {
                reply.body[middle] ^= 1;
                reply
            })
        }),
        ("another layer", |request, content| {
            is_big(request, content).then(|| Reply::ok(gzip(&tar(&[("evil", 0o644, None)]))))
        }),
        ("more bytes than promised", |request, content| {
            let mut reply = content.answer(request);
            is_big(request, content).then(|| {
                reply.body.extend([0; 100]);
                reply
            })
        }),
        ("always too short", |request, content| {
            let mut reply = content.answer(request);
            is_big(request, content).then(|| {
                reply.body.pop();
                reply.claimed_length = None;
                Reply { status: 200, headers: Vec::new(), ..reply }
            })
        }),
        ("another configuration", |request, content| {
            (request.path.contains("/blobs/") && !is_layer(request, content)).then(|| Reply::ok("{}"))
        }),
        ("another manifest than announced", |request, content| {
            let reply = content.answer(request);
            request.path.contains("/manifests/").then(|| Reply { body: [&reply.body[..], b" "].concat(), ..reply })
        }),
    ];
    for (what, spoil) in spoilt {
        let content = plain_image();
        let registry =
            Registry::start(move |request| spoil(request, &content).unwrap_or_else(|| content.answer(request)));
        let error = pull_new(&registry, &options()).unwrap_err();
        assert!(matches!(error, PullError::Corrupt { .. }), "{what}: {error}");
    }
}

#[test]
fn a_layer_with_another_diff_id_never_becomes_visible() {
    let [big, small] = layers();
    // The blob's digest is right; its content is not what the configuration promises.
    let content = Content::of(&[gzip(&small)], &[&big]);
    let registry = Registry::start(move |request| content.answer(request));
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = run(&store, &registry.name("app:1"), &options()).unwrap_err();
    assert!(matches!(&error, PullError::Corrupt { why, .. } if why.contains("configuration")), "{error}");
    assert_eq!((entries(dir.path(), "layers"), entries(dir.path(), "ingest")), (0, 0));
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_broke_off() {
    let content = Arc::new(plain_image());
    let serving = Arc::clone(&content);
    let registry = Registry::start(move |request| {
        let reply = serving.answer(request);
        // Each connection gives 100,000 bytes.
        if is_big(request, &serving) { reply.cut(100_000) } else { reply }
    });
    let image = pull_new(&registry, &options()).unwrap();
    assert_eq!(image.layer_digests.len(), 2);
    let ranges: Vec<usize> = registry
        .requests()
        .iter()
        .filter(|request| is_big(request, &content))
        .map(|request| request.range_from().unwrap_or(0))
        .collect();
    assert!(ranges.len() >= 7, "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0] < pair[1]), "{ranges:?}");
}

#[test]
fn a_registry_without_ranges_still_completes_a_cut_download() {
    let content = plain_image();
    let cuts = AtomicUsize::new(0);
    let registry = Registry::start(move |request| {
        let whole = Request { headers: Default::default(), ..request.clone() };
        let reply = content.answer(&whole);
        let first = is_big(request, &content) && cuts.fetch_add(1, Ordering::SeqCst) == 0;
        if first { reply.cut(300_000) } else { reply }
    });
    pull_new(&registry, &options()).unwrap();
}

#[test]
fn what_a_killed_pull_left_is_gone_on_with() {
    let content = Arc::new(plain_image());
    let big = content.blobs.values().find(|blob| blob.len() > 100_000).unwrap().clone();
    let serving = Arc::clone(&content);
    let registry = Registry::start(move |request| serving.answer(request));
    // Every kill point of 64 KiB, as a process leaves it that dies without a word: bytes and no lock.
    for have in (0..=big.len()).step_by(65_536).chain([big.len(), big.len() + 10]) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let hex = digest(&big)["sha256:".len()..].to_owned();
        let partial = dir.path().join("images/ingest").join(&hex);
        let mut bytes = big.clone();
        bytes.resize(have, 0);
        fs::write(&partial, &bytes).unwrap();
        fs::create_dir_all(partial.with_extension("tree").join("fs/half")).unwrap();
        let before = registry.requests().len();
        let image = run(&store, &registry.name("app:1"), &options()).unwrap();
        assert_eq!(fs::read(image.layers[0].join("big")).unwrap(), noise(700_000));
        assert!(!image.layers[0].join("half").exists());
        let asked: Vec<Option<usize>> = registry.requests()[before..]
            .iter()
            .filter(|request| is_big(request, &content))
            .map(Request::range_from)
            .collect();
        let expected = match have {
            0 => vec![None],
            have if have < big.len() => vec![Some(have)],
            have if have == big.len() => vec![],
            _ => vec![None],
        };
        assert_eq!(asked, expected, "{have} bytes were there");
        assert_eq!(entries(dir.path(), "ingest"), 0);
    }
}

#[test]
fn a_partial_download_that_rotted_is_fetched_anew() {
    let content = plain_image();
    let big = content.blobs.values().find(|blob| blob.len() > 100_000).unwrap().clone();
    let registry = Registry::start(move |request| content.answer(request));
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut rotten = big[..400_000].to_vec();
    rotten[200_000] ^= 4;
    fs::write(dir.path().join("images/ingest").join(&digest(&big)["sha256:".len()..]), &rotten).unwrap();
    let image = run(&store, &registry.name("app:1"), &options()).unwrap();
    assert_eq!(fs::read(image.layers[0].join("big")).unwrap(), noise(700_000));
}

#[test]
fn a_layer_that_is_lost_is_unpacked_again_from_its_blob_unless_that_rotted() {
    for rotten in [false, true] {
        let content = Arc::new(plain_image());
        let serving = Arc::clone(&content);
        let registry = Registry::start(move |request| serving.answer(request));
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let image = run(&store, &registry.name("app:1"), &options()).unwrap();
        fs::remove_dir_all(image.layers[0].parent().unwrap()).unwrap();
        assert_eq!(store.find(&image.reference).unwrap(), None, "an image that is not whole is not found");
        let blob = dir.path().join("images/blobs/sha256").join(image.layer_digests[0].blob.hex());
        if rotten {
            let mut bytes = fs::read(&blob).unwrap();
            bytes[5000] ^= 1;
            fs::write(&blob, bytes).unwrap();
        }
        let before = registry.requests().len();
        let again = run(&store, &registry.name("app:1"), &options()).unwrap();
        assert_eq!(again, image);
        let fetched = registry.requests()[before..].iter().filter(|request| is_big(request, &content)).count();
        assert_eq!(fetched, usize::from(rotten));
    }
}

#[test]
fn a_stall_and_a_drip_end_with_a_reason() {
    for (then, words) in [(Then::Stall, "no byte came"), (Then::Drip(20), "hardly a byte came")] {
        let content = plain_image();
        let registry = Registry::start(move |request| {
            let reply = content.answer(request);
            if is_big(request, &content) {
                let length = reply.body.len();
                return Reply { claimed_length: Some(length), body: reply.body[..10].to_vec(), then, ..reply };
            }
            reply
        });
        let started = Instant::now();
        let error = pull_new(&registry, &impatient()).unwrap_err();
        assert!(matches!(&error, PullError::Stalled { what, .. } if what == words), "{error}");
        // The default deadlines would take a minute.
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn busy_registries_are_asked_again_for_a_while() {
    let content = plain_image();
    let failures = AtomicUsize::new(0);
    let registry = Registry::start(move |request| match failures.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(429, "").with("Retry-After", "0"),
        1 | 4 => Reply::new(503, ""),
        _ => content.answer(request),
    });
    pull_new(&registry, &options()).unwrap();
    let busy = Registry::start(|_| Reply::new(429, "").with("Retry-After", "0"));
    let error = pull_new(&busy, &options()).unwrap_err();
    assert!(matches!(error, PullError::Busy { status: 429, .. }), "{error}");
    assert_eq!(busy.requests().len(), 5);
}

#[test]
fn unknown_images_and_closed_doors_are_said_so() {
    let content = plain_image();
    let registry = Registry::start(move |request| content.answer(request));
    let dir = tempfile::tempdir().unwrap();
    let error = run(&open(dir.path()), &registry.name("app:2"), &options()).unwrap_err();
    assert!(error.to_string().contains("MANIFEST_UNKNOWN: manifest unknown"), "{error}");
    assert!(matches!(error, PullError::NotFound { .. }));
    // Nothing listens on port 9 of loopback.
    let error = run(&open(dir.path()), "127.0.0.1:9/app:1", &options()).unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }), "{error}");
    let metadata = PullOptions { insecure_hosts: vec!["169.254.169.254".to_owned()], ..options() };
    let error = run(&open(dir.path()), "169.254.169.254/app:1", &metadata).unwrap_err();
    assert!(matches!(error, PullError::Refused { .. }), "{error}");
}

fn with_login(dir: &Path, host: &str) -> PullOptions {
    let file = dir.join("config.json");
    // `dXNlcjpzZWNyZXQ=` is user:secret.
    fs::write(&file, format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#)).unwrap();
    PullOptions { auth_files: vec![file], ..options() }
}

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

#[test]
fn a_token_is_fetched_with_the_login_and_used() {
    let content = plain_image();
    let token = Registry::start(|request| {
        assert!(
            request.path.contains("scope=repository%3Aapp%3Apull") && request.path.contains("service=here"),
            "{}",
            request.path
        );
        if request.header("authorization") == Some(BASIC) {
            Reply::ok(r#"{"token":"t1"}"#)
        } else {
            Reply::new(401, "")
        }
    });
    let realm =
        format!("Bearer realm=\"http://{}/token\",service=\"here\",scope=\"repository:app:pull\"", token.address);
    let registry = Registry::start(move |request| match request.header("authorization") {
        Some("Bearer t1") => content.answer(request),
        _ => Reply::new(401, "").with("WWW-Authenticate", &realm),
    });
    let dir = tempfile::tempdir().unwrap();
    pull_new(&registry, &with_login(dir.path(), &registry.address.to_string())).unwrap();
    assert_eq!(token.requests().len(), 1);
    assert!(registry.requests().iter().all(|request| request.header("authorization") != Some(BASIC)));
    let error = pull_new(&registry, &options()).unwrap_err();
    assert!(matches!(&error, PullError::Denied { why, .. } if why.contains("config.json")), "{error}");
}

#[test]
fn basic_logins_work_and_a_registry_that_keeps_asking_is_left() {
    let content = plain_image();
    let registry = Registry::start(move |request| match request.header("authorization") {
        Some(BASIC) => content.answer(request),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let dir = tempfile::tempdir().unwrap();
    pull_new(&registry, &with_login(dir.path(), &registry.address.to_string())).unwrap();
    for challenge in ["Basic realm=\"x\"", "Bearer realm=\"http://REALM/token\""] {
        let tokens = Registry::start(|_| Reply::ok(r#"{"access_token":"again"}"#));
        let challenge = challenge.replace("REALM", &tokens.address.to_string());
        let endless = Registry::start(move |_| Reply::new(401, "").with("WWW-Authenticate", &challenge));
        let error = pull_new(&endless, &with_login(dir.path(), &endless.address.to_string())).unwrap_err();
        assert!(matches!(error, PullError::Denied { .. }), "{error}");
        assert!(endless.requests().len() <= 3);
    }
}

#[test]
fn credentials_stay_with_their_registry() {
    let dir = tempfile::tempdir().unwrap();
    // A redirect to another host gets the request and not the login.
    let content = Arc::new(plain_image());
    let serving = Arc::clone(&content);
    let elsewhere = Registry::start(move |request| serving.answer(request));
    let to = elsewhere.address;
    let registry = Registry::start(move |request| match request.header("authorization") {
        Some(BASIC) if is_layer(request, &content) => {
            Reply::new(307, "").with("Location", format!("http://{to}{}", request.path))
        }
        Some(BASIC) => content.answer(request),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    pull_new(&registry, &with_login(dir.path(), &registry.address.to_string())).unwrap();
    assert_eq!(elsewhere.requests().len(), 2);
    assert!(elsewhere.requests().iter().all(|request| request.header("authorization").is_none()));
    // A realm on another host, without TLS, gets nothing at all.
    for realm in ["http://registry.example/token", "http://169.254.169.254/token", "file:///etc/passwd"] {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
        let fishing = Registry::start(move |_| Reply::new(401, "").with("WWW-Authenticate", &challenge));
        let error = pull_new(&fishing, &with_login(dir.path(), &fishing.address.to_string())).unwrap_err();
        assert!(matches!(error, PullError::Refused { .. }), "{realm}: {error}");
    }
    // Another registry's login is not tried on this one.
    let curious = Registry::start(|_| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    let error = pull_new(&curious, &with_login(dir.path(), "127.0.0.1:1")).unwrap_err();
    assert!(matches!(error, PullError::Denied { .. }), "{error}");
    assert!(curious.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn redirects_end_and_do_not_lead_to_where_secrets_are() {
    let endless = Registry::start(|request| Reply::new(302, "").with("Location", format!("{}x", request.path)));
    let error = pull_new(&endless, &options()).unwrap_err();
    assert!(
        matches!(&error, PullError::Refused { why, .. } if why.contains("redirected more than 5 times")),
        "{error}"
    );
    assert_eq!(endless.requests().len(), 6);
    for to in [
        "http://169.254.169.254/latest/meta-data/",
        "http://169.254.170.2/v2/credentials",
        "file:///etc/shadow",
        "gopher://x/",
    ] {
        let registry = Registry::start(move |_| Reply::new(302, "").with("Location", to));
        let error = pull_new(&registry, &options()).unwrap_err();
        assert!(matches!(error, PullError::Refused { .. }), "{to}: {error}");
    }
}

#[test]
fn documents_that_lie_about_themselves_are_refused() {
    let d = |fill: &str| format!("sha256:{}", fill.repeat(64));
    let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": d("a"), "size": 2 });
    let layer = |digest: &str| json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 1 });
    let with_layer =
        |digest: &str| json!({ "schemaVersion": 2, "config": config, "layers": [layer(digest)] }).to_string();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let documents = [
        ("schema 1", json!({ "schemaVersion": 1, "fsLayers": [], "signatures": [] }).to_string()),
        ("ambiguous", json!({ "schemaVersion": 2, "manifests": [], "config": config, "layers": [] }).to_string()),
        (
            "an index that calls itself a manifest",
            json!({ "schemaVersion": 2, "mediaType": common::registry::MANIFEST, "manifests": [] }).to_string(),
        ),
        ("a duplicate key", format!(r#"{{"schemaVersion":2,"schemaVersion":2,"config":{config},"layers":[]}}"#)),
        ("deep", deep),
        ("a huge number", with_layer(&d("b")).replace("\"size\":1", "\"size\":1e400")),
        ("a negative size", with_layer(&d("b")).replace("\"size\":1", "\"size\":-1")),
        ("sha512", with_layer(&format!("sha512:{}", "a".repeat(128)))),
        ("upper case", with_layer(&d("A"))),
        ("short", with_layer(&format!("sha256:{}", "a".repeat(63)))),
        ("long", with_layer(&format!("sha256:{}", "a".repeat(65)))),
        ("a path", with_layer("sha256:../../x")),
        ("no digest", with_layer("")),
        (
            "a foreign layer",
            with_layer(&d("b")).replace("\"size\":1}", "\"size\":1,\"urls\":[\"http://169.254.169.254/\"]}"),
        ),
        (
            "too many layers",
            json!({ "schemaVersion": 2, "config": config, "layers": vec![layer(&d("b")); 129] }).to_string(),
        ),
        ("a layer too large", with_layer(&d("b")).replace("\"size\":1", "\"size\":9223372036854775807")),
        ("an artifact", with_layer(&d("b")).replace("image.config.v1", "unknown.config.v1")),
        ("nothing", String::new()),
        ("an array", "[]".to_owned()),
    ];
    for (what, document) in documents {
        let registry = Registry::start(move |request| match request.path.contains("/manifests/") {
            true => Reply::ok(document.clone()),
            false => Reply::ok("{}"),
        });
        let error = pull_new(&registry, &options()).unwrap_err();
        let expected =
            matches!(error, PullError::Corrupt { .. } | PullError::Unsupported { .. } | PullError::TooLarge { .. });
        assert!(expected, "{what}: {error}");
        assert!(registry.requests().len() <= 2, "{what}: a layer was asked for");
    }
}

#[test]
fn endless_manifests_and_indexes_in_circles_end() {
    let registry = Registry::start(|_| Reply::ok(vec![b' '; 5 * 1024 * 1024]));
    let error = pull_new(&registry, &options()).unwrap_err();
    assert!(matches!(error, PullError::TooLarge { limit: 4_194_304, .. }), "{error}");
    // A chain of indexes, each naming the next: true digests, so it can only be long, not a circle.
    let mut content = plain_image();
    for _ in 0..10 {
        let (inner, kind) = content.tags["1"].clone();
        let entry = json!({ "mediaType": kind, "digest": digest(&inner), "size": inner.len() });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        content.tag("1", serde_json::to_vec(&index).unwrap(), INDEX);
    }
    let registry = Registry::start(move |request| content.answer(request));
    let error = pull_new(&registry, &options()).unwrap_err();
    assert!(matches!(error, PullError::Unsupported { .. }), "{error}");
    assert!(registry.requests().len() <= 4);
}

#[test]
fn two_pulls_of_one_image_share_the_work() {
    let content = Arc::new(plain_image());
    let serving = Arc::clone(&content);
    let registry = Registry::start(move |request| serving.answer(request));
    let dir = tempfile::tempdir().unwrap();
    let name = registry.name("app:1");
    let images: Vec<Image> = std::thread::scope(|scope| {
        // Stores of their own, as two processes have; flock(2) tells open files apart, not processes.
        let pulls: Vec<_> =
            (0..4).map(|_| scope.spawn(|| run(&open(dir.path()), &name, &options()).unwrap())).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(images.iter().all(|image| *image == images[0]));
    assert_eq!(registry.requests().iter().filter(|request| is_big(request, &content)).count(), 1);
    assert_eq!(entries(dir.path(), "ingest"), 0);
}

#[test]
fn garbage_collection_takes_nothing_from_a_pull() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // The small layer is there already.
    let small = Content::image(&[&layers()[1]]);
    let other = Registry::start(move |request| small.answer(request));
    let before = run(&store, &other.name("x:1"), &options()).unwrap();
    let content = Arc::new(plain_image());
    let (serving, collecting, name) = (Arc::clone(&content), store.clone(), before.reference.clone());
    // While the big one comes, the last name goes that kept it, and everything that looks like garbage is swept.
    let registry = Registry::start(move |request| {
        if is_big(request, &serving) {
            let freed = collecting.remove(&name, || Ok(Vec::new())).unwrap();
            assert_eq!(freed.layers, []);
        }
        serving.answer(request)
    });
    let image = run(&store, &registry.name("app:1"), &options()).unwrap();
    assert_eq!(registry.requests().iter().filter(|request| is_layer(request, &content)).count(), 1);
    store.gc(|| Ok(Vec::new())).unwrap();
    assert_eq!(store.find(&image.reference).unwrap(), Some(image.clone()));
    let kept: HashSet<_> =
        fs::read_dir(dir.path().join("images/layers")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept, image.layers.iter().map(|layer| layer.parent().unwrap().to_owned()).collect());
}

#[test]
fn certificates_decide_whom_a_pull_talks_to() {
    let table = [
        ("good", true, None),
        ("good", false, Some("CA's certificate")),
        ("other", true, Some("cannot be reached")),
        ("expired", true, Some("cannot be reached")),
        ("future", true, Some("this host's clock")),
    ];
    for (name, with_ca, expected) in table {
        let content = plain_image();
        let registry = Registry::start_tls(name, move |request| content.answer(request));
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join(registry.address.to_string());
        fs::create_dir(&own).unwrap();
        if with_ca {
            fs::copy(common::registry::tls_file("ca.crt"), own.join("ca.crt")).unwrap();
        }
        let options = PullOptions { certificates: Some(dir.path().to_owned()), ..options() };
        match (pull_new(&registry, &options), expected) {
            (Ok(image), None) => assert_eq!(image.layers.len(), 2),
            (Err(error), Some(words)) => {
                assert!(matches!(error, PullError::Unreachable { .. }), "{name}: {error}");
                assert!(error.to_string().contains(words), "{name}: {error}");
                assert_eq!(registry.requests().len(), 0, "{name}");
            }
            (result, _) => panic!("{name}: {result:?}"),
        }
    }
}

#[test]
fn a_registry_that_speaks_tls_sends_nobody_to_plain_http() {
    let content = Arc::new(plain_image());
    let serving = Arc::clone(&content);
    let plain = Registry::start(move |request| serving.answer(request));
    let to = plain.address;
    let registry = Registry::start_tls("good", move |request| match is_layer(request, &content) {
        true => Reply::new(307, "").with("Location", format!("http://{to}{}", request.path)),
        false => content.answer(request),
    });
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join(registry.address.to_string());
    fs::create_dir(&own).unwrap();
    fs::copy(common::registry::tls_file("ca.crt"), own.join("ca.crt")).unwrap();
    let options = PullOptions { certificates: Some(dir.path().to_owned()), ..options() };
    let error = pull_new(&registry, &options).unwrap_err();
    assert!(matches!(&error, PullError::Refused { why, .. } if why.contains("not encrypted")), "{error}");
    assert_eq!(plain.requests().len(), 0);
}
