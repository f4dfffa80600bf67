//! Pulls that end in the middle: a process killed without a word, and a disk that is full.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::registry::{Content, Registry, Reply, Request, Then};
use common::{noise, tar};
use images::{Image, PullError, PullOptions, Silent, Store, pull};

/// `<store> <image>` for the process that this test program starts of itself.
const CHILD: &str = "IMAGES_TEST_PULL";
/// Nothing here takes so long.
const DEADLINE: Duration = Duration::from_secs(60);

fn run(store: &Path, name: &str) -> Result<Image, PullError> {
    let store = Store::open(store).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(pull(&store, &name.parse().unwrap(), &PullOptions::default(), Arc::new(Silent)))
}

fn content() -> Content {
    Content::image(&[&tar(&[("big", 0o644, Some(&noise(700_000)))]), &tar(&[("small", 0o644, Some(b"x"))])])
}

fn is_big(request: &Request, content: &Content) -> bool {
    content.blobs.get(request.path.rsplit('/').next().unwrap()).is_some_and(|blob| blob.len() > 100_000)
}

fn entries(store: &Path, part: &str) -> Vec<PathBuf> {
    fs::read_dir(store.join(part)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Not a test by itself: what the others start as a process of its own.
#[test]
fn child() {
    let Some(arguments) = std::env::var_os(CHILD) else { return };
    let arguments = arguments.into_string().unwrap();
    let (store, name) = arguments.split_once(' ').unwrap();
    let store = Path::new(store);
    match run(store, name) {
        Ok(image) => assert_eq!(fs::read(image.layers[0].join("big")).unwrap(), noise(700_000)),
        Err(error) => {
            let mut chain = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(each) = cause {
                chain = format!("{chain}: {each}");
                cause = each.source();
            }
            assert!(matches!(error, PullError::Store(_)) && chain.contains("No space left"), "{chain}");
            // What does not fit is gone again; nothing half of it can be seen.
            assert_eq!((entries(store, "refs").len(), entries(store, "leases").len()), (0, 0));
            let trees =
                entries(store, "ingest").into_iter().filter(|path| path.extension() == Some(OsStr::new("tree")));
            assert_eq!(trees.collect::<Vec<_>>(), Vec::<PathBuf>::new());
            for layer in entries(store, "layers") {
                assert_eq!(fs::read(layer.join("fs/small")).unwrap(), b"x");
            }
            println!("full");
        }
    }
}

fn again(store: &Path, name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(CHILD, format!("{} {name}", store.display()));
    command
}

#[test]
fn i13_a_pull_killed_at_every_64_kib_is_gone_on_with() {
    let content = Arc::new(content());
    let serving = Arc::clone(&content);
    let stop_at = Arc::new(AtomicUsize::new(usize::MAX));
    let stopping = Arc::clone(&stop_at);
    let registry = Registry::start(move |request| {
        let reply = serving.answer(request);
        let at = stopping.load(Ordering::SeqCst);
        if is_big(request, &serving) && at < reply.body.len() {
            let length = reply.body.len();
            return Reply { claimed_length: Some(length), body: reply.body[..at].to_vec(), then: Then::Stall, ..reply };
        }
        reply
    });
    for at in (65_536..700_000).step_by(65_536) {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("images");
        stop_at.store(at, Ordering::SeqCst);
        let mut child = again(&store, &registry.name("app:1")).spawn().unwrap();
        let started = Instant::now();
        let arrived = || {
            let partials = fs::read_dir(store.join("ingest")).into_iter().flatten().flatten();
            partials
                .filter_map(|entry| entry.metadata().ok())
                .any(|metadata| metadata.is_file() && metadata.len() == at as u64)
        };
        while !arrived() {
            assert!(started.elapsed() < DEADLINE, "{at} bytes never arrived");
            assert_eq!(child.try_wait().unwrap(), None, "the pull ended by itself");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let opened = Store::open(&store).unwrap();
        assert_eq!(opened.list().unwrap(), []);
        let trees = entries(&store, "ingest").into_iter().filter(|path| path.is_dir()).count();
        assert_eq!(trees, 0, "opening the store clears away half a layer");
        stop_at.store(usize::MAX, Ordering::SeqCst);
        let before = registry.requests().len();
        let image = run(&store, &registry.name("app:1")).unwrap();
        assert_eq!(fs::read(image.layers[0].join("big")).unwrap(), noise(700_000));
        let asked: Vec<_> = registry.requests()[before..]
            .iter()
            .filter(|request| is_big(request, &content))
            .map(Request::range_from)
            .collect();
        assert_eq!(asked, [Some(at)]);
        opened.gc(|| Ok(Vec::new())).unwrap();
        assert_eq!((entries(&store, "ingest").len(), entries(&store, "leases").len()), (0, 0));
        assert_eq!(opened.find(&image.reference).unwrap(), Some(image));
    }
}

#[test]
fn i13_a_disk_that_is_full_leaves_nothing_half() {
    let content = content();
    let registry = Registry::start(move |request| content.answer(request));
    let dir = tempfile::tempdir().unwrap();
    let mut full = Vec::new();
    for kib in [64, 256, 512, 768, 1024, 1280, 1408, 1536, 4096] {
        let command = again(&dir.path().join("images"), &registry.name("app:1"));
        // A mount namespace of its own, so the small file system goes with the process.
        let script = r#"mount -t tmpfs -o "size=$1k" tmpfs "$2" && shift 2 && exec "$@""#;
        let mut unshared = Command::new("unshare");
        unshared
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(kib.to_string())
            .arg(dir.path());
        unshared.arg(command.get_program()).args(command.get_args());
        unshared.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = unshared.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{kib} KiB: {text}{}", String::from_utf8_lossy(&output.stderr));
        full.push(text.contains("full"));
    }
    assert_eq!(full.first(), Some(&true), "64 KiB must be too little");
    assert_eq!(full.last(), Some(&false), "4 MiB must be enough");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
