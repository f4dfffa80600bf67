//! The control loop with a store that fails, or that takes its time.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use control_plane::{Caller, Change, Changes, Settings, State};
use ecs::Timestamp;
use ecs::operations::clusters::CreateClusterRequest;
use ecs::operations::{ErrorCode, Operation};
use server::control::{self, Watch};
use server::metrics::Metrics;
use server::store::{Error, Loaded, Store};

struct Nobody;

impl Watch for Nobody {
    fn changed(&mut self, _before: &State, _after: &State, _changes: &Changes, _now: Timestamp) {}
}

fn caller() -> Caller {
    Caller {
        region: "us-east-1".to_owned(),
        account_id: "123456789012".to_owned(),
        principal_arn: "arn:aws:iam::123456789012:root".to_owned(),
        endpoint: "http://127.0.0.1:4870".to_owned(),
    }
}

fn create(name: &str) -> Operation {
    Operation::CreateCluster(CreateClusterRequest { cluster_name: Some(name.to_owned()), ..Default::default() })
}

/// Does what it is told for each commit.
struct Scripted {
    script: mpsc::Receiver<bool>,
    begun: mpsc::Sender<()>,
    sizes: Arc<Mutex<Vec<usize>>>,
}

impl Store for Scripted {
    fn load(&self) -> Result<Loaded, Error> {
        Ok(Loaded { epoch: 1, records: Vec::new() })
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        self.begun.send(()).expect("the test waits");
        self.sizes.lock().expect("one thread").push(changes.len());
        if self.script.recv().expect("the test says") {
            Ok(())
        } else {
            let cause = std::io::Error::from_raw_os_error(5);
            Err(Error::Io { path: "/state.redb".into(), doing: "synced", cause })
        }
    }
}

struct Rig {
    control: control::Handle,
    script: mpsc::Sender<bool>,
    begun: mpsc::Receiver<()>,
    sizes: Arc<Mutex<Vec<usize>>>,
    thread: std::thread::JoinHandle<Result<(), Error>>,
}

fn rig() -> Rig {
    let ((script, told), (begin, begun)) = (mpsc::channel(), mpsc::channel());
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let store = Scripted { script: told, begun: begin, sizes: Arc::clone(&sizes) };
    let state = State::new(1, Settings::default());
    let (control, control_loop) = control::new(state, Box::new(store), Arc::new(Metrics::default()));
    let thread = std::thread::spawn(move || control_loop.run(Nobody));
    Rig { control, script, begun, sizes, thread }
}

#[tokio::test]
async fn after_a_failed_commit_nothing_is_acknowledged_and_the_loop_has_ended() {
    let rig = rig();
    rig.script.send(true).expect("it listens");
    rig.control.ask(caller(), create("good")).await.expect("durable");
    rig.begun.recv().expect("committed");
    rig.script.send(false).expect("it listens");
    let refused = rig.control.ask(caller(), create("lost")).await.expect_err("not durable");
    assert_eq!(refused.code, ErrorCode::Server);
    let clusters: Vec<String> = rig.control.snapshot().clusters.keys().cloned().collect();
    assert_eq!(clusters, ["good"], "what is not durable is not seen");
    let error = rig.thread.join().expect("no panic").expect_err("it says why");
    assert_eq!(error.to_string(), "/state.redb cannot be synced");
    assert!(!rig.control.is_running());
    rig.control.ask(caller(), create("later")).await.expect_err("nobody is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_during_a_commit_is_the_next_one() {
    let rig = rig();
    let first = tokio::spawn({
        let control = rig.control.clone();
        async move { control.ask(caller(), create("first")).await }
    });
    // The disk is busy with the first one from now on.
    rig.begun.recv().expect("committed");
    let mut waiting = Vec::new();
    for number in 0..50 {
        let place = rig.control.place().await.expect("there is one");
        let (caller, operation) = (caller(), Box::new(create(&format!("c{number}"))));
        let input = control_plane::Input::Operation { caller, operation };
        rig.control.mention(input, place).expect("it listens");
        waiting.push(format!("c{number}"));
    }
    assert!(rig.control.snapshot().clusters.is_empty(), "nothing is durable yet");
    rig.script.send(true).expect("it listens");
    first.await.expect("no panic").expect("durable");
    rig.begun.recv().expect("committed");
    rig.script.send(true).expect("it listens");
    rig.control.stop();
    rig.thread.join().expect("no panic").expect("a good end");
    assert_eq!(*rig.sizes.lock().expect("one thread"), [1, 50]);
    assert!(waiting.iter().all(|name| rig.control.snapshot().clusters.contains_key(name)));
}
