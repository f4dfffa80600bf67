//! Every legal state of a disk after a power cut, once and twice: what was answered for is there, what was not is there whole
//! or not at all, and what a recovered store has shown stays.

use std::path::Path;

use server::store::{Disk, Loaded, Store};

use crate::batches::{Batches, batches};
use crate::dice::Dice;
use crate::recorder::{Moment, Recorder};

/// `STORE_SEEDS=n` is how many workloads are run.
const SEEDS: u64 = 1;
const BATCHES: usize = 34;
/// After a crash, the store goes on for so many.
const MORE: usize = 2;

#[derive(Debug, Default)]
struct Tried {
    syncs: usize,
    once: usize,
    /// Files that the first crash left, in whose recovery there was a second one.
    recoveries: usize,
    twice: usize,
    /// In whose end a batch is there that nobody had answered for.
    unanswered: usize,
}

pub(crate) fn new_store() -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    drop(Disk::open(&path).expect("made"));
    std::fs::read(&path).expect("read")
}

/// Opens it, looks for how many batches are there, and goes on for so many more.
pub(crate) fn live(on: &Recorder, batches: &Batches, least: usize, more: usize) -> Result<usize, String> {
    let mut store = Disk::on(Path::new("/state.redb"), on.clone()).map_err(|error| format!("{error:?}"))?;
    let found = found(&store.load().map_err(|error| format!("{error:?}"))?, batches, least)?;
    on.answered(found);
    let last = batches.changes.len().min(found + more);
    for (number, changes) in batches.changes[..last].iter().enumerate().skip(found) {
        store.commit(changes).map_err(|error| format!("{error:?}"))?;
        on.answered(number + 1);
    }
    Ok(found)
}

/// The batch after the last that was answered for may be there, as all of it.
pub(crate) fn found(loaded: &Loaded, batches: &Batches, least: usize) -> Result<usize, String> {
    let is_after = |number: &usize| batches.after.get(*number) == Some(&loaded.records);
    // The later first: a batch need not change anything.
    let found = [least + 1, least].into_iter().find(is_after);
    found.ok_or_else(|| {
        format!("after {least} batches the store holds {} records of something else", loaded.records.len())
    })
}

fn open(bytes: Vec<u8>, batches: &Batches, least: usize) -> Result<usize, String> {
    live(&Recorder::of(bytes), batches, least, 0)
}

fn twice(first: &Recorder, from: &[u8], batches: &Batches, least: usize, dice: &mut Dice, tried: &mut Tried) {
    live(first, batches, least, MORE).unwrap_or_else(|wrong| panic!("recovery: {wrong}"));
    tried.recoveries += 1;
    for moment in first.moments(from, least) {
        for file in moment.survivors(dice, 1) {
            open(file, batches, moment.answered).unwrap_or_else(|wrong| panic!("second crash: {wrong}"));
            tried.twice += 1;
        }
    }
}

fn crash(moment: &Moment, batches: &Batches, dice: &mut Dice, tried: &mut Tried) {
    let least = moment.answered;
    for file in moment.survivors(dice, 3) {
        let found = open(file.clone(), batches, least).unwrap_or_else(|wrong| panic!("crash: {wrong}"));
        tried.once += 1;
        tried.unanswered += usize::from(found > least);
        if dice.percent(2) {
            twice(&Recorder::of(file.clone()), &file, batches, least, dice, tried);
        }
    }
    // The process alone was killed, at any operation: the machine still has what is not synced, until its power fails.
    let killed = dice.below(moment.pending.len() + 1);
    let moment = Moment { pending: moment.pending[..killed].to_vec(), ..moment.clone() };
    twice(&Recorder::after_a_kill(&moment), &moment.durable, batches, least, dice, tried);
}

#[test]
fn what_a_power_cut_leaves_of_unsynced_writes_opens_with_what_was_answered_for() {
    let seeds = std::env::var("STORE_SEEDS").ok().map_or(SEEDS, |text| text.parse().expect("a number"));
    let new = new_store();
    let mut tried = Tried::default();
    for seed in 0..seeds {
        let mut dice = Dice(seed);
        let batches = batches(BATCHES, &mut dice);
        let disk = Recorder::of(new.clone());
        live(&disk, &batches, 0, BATCHES).expect("nothing fails");
        let moments = disk.moments(&new, 0);
        tried.syncs += moments.len();
        moments.iter().for_each(|moment| crash(moment, &batches, &mut dice, &mut tried));
    }
    println!("{tried:?}");
    assert!(tried.once > 500 && tried.twice > 1_000 && tried.unanswered > 10, "{tried:?}");
}

/// The same, had the disk said of every third sync that it was done although it was not: this test can see what it looks for.
#[test]
fn a_sync_that_never_was_is_found_out() {
    let new = new_store();
    let mut dice = Dice(3);
    let batches = batches(BATCHES, &mut dice);
    let disk = Recorder::of(new.clone());
    live(&disk, &batches, 0, BATCHES).expect("nothing fails");
    let wrong = disk.without_each_third_sync().moments(&new, 0).iter().any(|moment| {
        moment.survivors(&mut dice, 1).into_iter().any(|file| open(file, &batches, moment.answered).is_err())
    });
    assert!(wrong, "nothing was lost");
}
