//! A disk that fails: each write, length and sync of a run once, with EIO and with ENOSPC, for a moment and for good. What was
//! answered for stays, and the store never goes on after it.

use std::path::Path;

use server::store::{Disk, Error, Store};

use crate::batches::{Batches, batches};
use crate::dice::Dice;
use crate::power_loss::{found, live, new_store};
use crate::recorder::{Failure, Recorder};

const BATCHES: usize = 8;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Batches that were answered for before the failure, and what the failure said.
fn until_it_fails(disk: &Recorder, batches: &Batches) -> (usize, Option<Error>) {
    let mut store = match Disk::on(Path::new("/state.redb"), disk.clone()) {
        Ok(store) => store,
        Err(error) => return (0, Some(error)),
    };
    for (number, changes) in batches.changes.iter().enumerate() {
        if let Err(error) = store.commit(changes) {
            let before = disk.operations();
            // Also when the disk has recovered: what it has kept of the batch is unknown.
            store.commit(&batches.changes[0]).expect_err("it goes on after a failure");
            drop(store);
            assert_eq!(disk.operations(), before, "it writes after a failure");
            return (number, Some(error));
        }
        assert_eq!(disk.failed(), 0, "batch {number} is answered for although something failed");
        disk.answered(number + 1);
    }
    (batches.changes.len(), None)
}

#[test]
fn a_disk_that_fails_once_ends_the_store_and_takes_nothing_that_was_answered_for() {
    let new = new_store();
    let mut dice = Dice(7);
    let batches = batches(BATCHES, &mut dice);
    let whole = Recorder::of(new.clone());
    live(&whole, &batches, 0, BATCHES).expect("nothing fails");
    let (mut failed, mut states) = (0, 0);
    for from in 0..whole.operations() {
        for (errno, half, lasts) in [(EIO, false, false), (ENOSPC, true, true), (ENOSPC, false, false)] {
            let disk = Recorder::failing(new.clone(), Failure { from, errno, half, lasts });
            let (answered, error) = until_it_fails(&disk, &batches);
            if let Some(error) = error {
                failed += 1;
                let said = format!("{error}: {:?}", std::error::Error::source(&error));
                assert!(said.contains("/state.redb") && said.contains(&format!("code: {errno}")), "{said}");
            }
            // The file as the next process finds it, and as it is when the machine goes as well. Pages whose sync failed
            // are still under way here: some systems forget them, others try again.
            let open = |bytes| {
                let next = Recorder::of(bytes);
                live(&next, &batches, answered, 1).unwrap_or_else(|wrong| panic!("operation {from}, {errno}: {wrong}"))
            };
            open(disk.bytes());
            let last = disk.moments(&new, 0).pop().expect("there is an end");
            assert_eq!(last.answered, answered);
            for file in last.survivors(&mut dice, 1) {
                open(file);
                states += 1;
            }
        }
    }
    println!("{failed} failures, {states} states after them");
    assert!(failed > 100 && states > 500, "{failed} failures, {states} states");
}

/// While it is repaired after a crash.
#[test]
fn a_disk_that_fails_while_a_store_is_recovered_leaves_it_recoverable() {
    let new = new_store();
    let mut dice = Dice(11);
    let batches = batches(BATCHES, &mut dice);
    let whole = Recorder::of(new.clone());
    live(&whole, &batches, 0, BATCHES).expect("nothing fails");
    let moments = whole.moments(&new, 0);
    let mut failed = 0;
    for moment in moments.iter().step_by(3) {
        let crashed = moment.survivors(&mut dice, 0).pop().expect("there is one");
        for from in 0.. {
            let failure = Failure { from, errno: EIO, half: true, lasts: true };
            let disk = Recorder::failing(crashed.clone(), failure);
            let opened = Disk::on(Path::new("/state.redb"), disk.clone());
            let done = opened.is_ok();
            drop(opened);
            failed += usize::from(!done);
            for file in disk.moments(&crashed, moment.answered).pop().expect("there is an end").survivors(&mut dice, 1)
            {
                let store = Disk::on(Path::new("/state.redb"), Recorder::of(file)).expect("recovered at last");
                let loaded = store.load().expect("read");
                found(&loaded, &batches, moment.answered).unwrap_or_else(|wrong| panic!("operation {from}: {wrong}"));
            }
            if done {
                break;
            }
        }
    }
    assert!(failed > 10, "only {failed} failures");
}
