//! What the store promises, with the process killed at any moment: what it acknowledged is there, and of each batch all or
//! nothing. `store/power_loss.rs` has what is left when the machine goes with it, `store/failures.rs` a disk that fails.

#[path = "store/batches.rs"]
mod batches;
#[path = "store/dice.rs"]
mod dice;
#[path = "store/failures.rs"]
mod failures;
#[path = "store/power_loss.rs"]
mod power_loss;
#[path = "store/recorder.rs"]
mod recorder;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use control_plane::records::Family;
use control_plane::{Change, Key, Record};
use redb::{Database, TableDefinition};
use server::store::{Disk, Error, SCHEMA, Store};

/// In the child's environment: the store's path.
const CHILD: &str = "CORACLE_TEST_STORE";
/// Records of each of the child's batches.
const WIDTH: u32 = 5;

fn family(name: &str, newest: u32) -> Change {
    Change::Put(Record::Family(Family { name: name.to_owned(), newest }))
}

fn newest(records: &[Record]) -> Vec<(String, u32)> {
    let family = |record: &Record| match record {
        Record::Family(family) => (family.name.clone(), family.newest),
        other => panic!("{other:?}"),
    };
    records.iter().map(family).collect()
}

#[test]
fn the_last_change_of_a_key_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    let mut store = Disk::open(&path).expect("made");
    let gone = Key::Family("gone".to_owned());
    store.commit(&[family("a", 1), family("gone", 1), family("a", 2)]).expect("written");
    store.commit(&[Change::Remove(gone.clone()), family("b", 1), Change::Remove(gone)]).expect("written");
    drop(store);
    let loaded = Disk::open(&path).expect("opened").load().expect("read");
    assert_eq!(newest(&loaded.records), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    drop(Disk::open(&path).expect("made"));
    let database = Database::open(&path).expect("opened");
    let transaction = database.begin_write().expect("begun");
    let meta: TableDefinition<&str, u64> = TableDefinition::new("meta");
    transaction.open_table(meta).expect("there").insert("schema", SCHEMA + 1).expect("inserted");
    transaction.commit().expect("committed");
    drop(database);
    let refused = Disk::open(&path).err().expect("refused");
    assert!(matches!(refused, Error::Newer { found, .. } if found == SCHEMA + 1), "{refused}");
}

/// One record of every kind, in a store and a backup that the first build of this schema wrote.
#[test]
fn stores_of_older_builds_open() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    std::fs::copy(golden.join("schema-1.redb"), &path).expect("copied");
    let loaded = Disk::open(&path).expect("opened").load().expect("read");
    let kinds: Vec<String> = loaded
        .records
        .iter()
        .map(|record| record.key().text().split('\u{1f}').next().expect("a kind").to_owned())
        .collect();
    let all = [
        "account-setting",
        "capacity-provider",
        "cluster",
        "container-instance",
        "family",
        "task",
        "task-definition",
        "token",
    ];
    assert_eq!(kinds, all);
    let backup = std::fs::File::open(golden.join("schema-1.backup")).expect("opened");
    let backup = server::backup::read(BufReader::new(backup)).expect("whole");
    assert_eq!((loaded.epoch, loaded.records), (backup.epoch, backup.records));
}

#[test]
fn a_damaged_file_is_found_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    let mut store = Disk::open(&path).expect("made");
    let changes: Vec<Change> = (0..200).map(|number| family(&format!("family-{number}"), number)).collect();
    store.commit(&changes).expect("written");
    let good = store.load().expect("read").records;
    drop(store);
    let bytes = std::fs::read(&path).expect("read");
    let mut found = 0;
    // Every 61st byte: no page and no member of one is passed over.
    for at in (0..bytes.len()).step_by(61) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).expect("written");
        match Disk::open(&path).and_then(|store| store.load()) {
            Ok(loaded) => assert_eq!(loaded.records, good, "byte {at} is of a record"),
            Err(_) => found += 1,
        }
    }
    assert!(found > 0, "no byte mattered");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    Disk::open(&path).and_then(|store| store.load()).map(drop).expect_err("half a file");
}

/// The child: batch after batch, each acknowledged on standard output once it is durable.
fn commit_for_ever(path: &Path) {
    let mut store = Disk::open(path).expect("opened");
    let begun = store.load().expect("read").records.len();
    assert!(begun == 0 || begun == WIDTH as usize, "{begun} records");
    let from = newest(&store.load().expect("read").records).first().map_or(0, |(_, newest)| *newest);
    for number in from + 1.. {
        let changes: Vec<Change> = (0..WIDTH).map(|at| family(&format!("f{at}"), number)).collect();
        store.commit(&changes).expect("written");
        println!("\nbatch {number}");
        std::io::stdout().flush().expect("told");
    }
}

#[test]
fn killed_while_it_commits_and_while_it_opens_it_keeps_what_it_acknowledged() {
    if let Some(path) = std::env::var_os(CHILD) {
        return commit_for_ever(Path::new(&path));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    let mut acknowledged = 0;
    for round in 0..60_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "killed_while_it_commits_and_while_it_opens_it_keeps_what_it_acknowledged",
                "--nocapture",
            ])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        // Two of three are killed at a moment that their batches choose, the others at one of their start: the file that
        // such a one opens was left by a crash, and is left by another.
        if round % 3 == 2 {
            std::thread::sleep(Duration::from_micros(300 * round));
        } else {
            let mut batches = 0;
            while batches < round % 7 + 1 {
                let mut line = String::new();
                assert!(out.read_line(&mut line).expect("read") > 0, "round {round}: the child has ended by itself");
                batches += u64::from(line.starts_with("batch "));
                acknowledged = told(&line).unwrap_or(acknowledged);
            }
        }
        child.kill().expect("killed");
        child.wait().expect("waited for");
        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("read");
        acknowledged = rest.lines().filter_map(told).next_back().unwrap_or(acknowledged);
        if round % 2 == 0 {
            // The next child opens what this one has left, without anybody having looked at it.
            continue;
        }
        let kept = newest(&Disk::open(&path).expect("opened").load().expect("read").records);
        let numbers: Vec<u32> = kept.iter().map(|(_, newest)| *newest).collect();
        let first = numbers.first().copied().unwrap_or(0);
        assert!(numbers.iter().all(|number| *number == first), "round {round}: half a batch: {numbers:?}");
        assert!(first >= acknowledged, "round {round}: {acknowledged} was acknowledged, {first} is there");
    }
    assert!(acknowledged > 40, "only {acknowledged} batches");
}

fn told(line: &str) -> Option<u32> {
    line.trim().strip_prefix("batch ")?.parse().ok()
}
