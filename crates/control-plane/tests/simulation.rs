//! A whole cluster from a seed: the real control plane, modelled container instances, clients, and faults between them.
//! Messages are lost, repeated, reordered and late; instances and control plane crash and come back, and one that was replaced
//! goes on to give orders.
//!
//! After every commit the invariants of `audit` hold; once faults stop, everything that was asked for comes about. A failing
//! seed names itself, and the fewest of its events that fail in the same way: run it alone with `SIMULATION_SEED=n`.
//! `SIMULATION_SEEDS=n` is how many are run.
//!
//! What each invariant catches was seen by breaking the code, each of these within the first dozen seeds:
//!
//! | broken | found |
//! |---|---|
//! | `observe::arrived` gives an instance that has lost its disk its tasks again | V2: a task started twice |
//! | `reconcile::is_old` forgets stopped tasks too early | V12: an acknowledged task is gone |
//! | `observe::merged` believes reports that are not newer | a status went back |
//! | `State::put_task` claims nothing on the instance | V8: a port held twice |
//! | `Draft::put_task` gives a changed assignment no new generation | V14: two assignments of one generation |
//! | an instance compares generations without their epoch | V2, V14: it acts on an old leader's assignment |
//! | RunTask does not look for its clientToken | V13: other tasks the second time |

#[path = "simulation/agent.rs"]
mod agent;
#[path = "simulation/audit.rs"]
mod audit;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/control.rs"]
mod control;
#[path = "support/derived.rs"]
mod derived;
#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/shrink.rs"]
mod shrink;
#[path = "simulation/world.rs"]
mod world;

use faults::Fault;
use shrink::{attempt, run, shrink};

/// In the ordinary form of this test.
const SEEDS: u64 = 250;
const EVENTS: u64 = 600;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn events() -> Vec<u64> {
    (0..EVENTS).collect()
}

#[test]
fn nothing_is_lost_doubled_or_invented_and_all_comes_about() {
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let mut totals = audit::Totals::default();
    std::thread::scope(|scope| {
        let share = |thread| {
            let seeds = seeds.clone().filter(move |seed| seed % threads == thread);
            scope.spawn(move || {
                let mut totals = audit::Totals::default();
                seeds.for_each(|seed| totals.add(&run_or_tell(seed)));
                totals
            })
        };
        let workers: Vec<_> = (0..threads).map(share).collect();
        for worker in workers {
            totals.add(&worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    println!("{totals:?}");
    // A simulation in which nothing happens proves nothing.
    if number("SIMULATION_SEED").is_none() {
        let never = Fault::ALL.iter().find(|fault| !totals.faults.contains_key(fault));
        assert_eq!(never, None, "a fault that never was: {totals:?}");
        assert!(totals.started > 0 && totals.exits_told > totals.started / 4, "{totals:?}");
    }
}

/// A run is a function of its seed.
#[test]
fn a_seed_always_runs_the_same_way() {
    for seed in [3, 17] {
        assert_eq!(run(seed, &events(), drop), run(seed, &events(), drop));
    }
}

fn run_or_tell(seed: u64) -> audit::Totals {
    let events = events();
    let failure = match attempt(seed, &events) {
        Ok(totals) => return totals,
        Err(failure) => failure,
    };
    let fewest = shrink(seed, &events, &failure);
    panic!(
        "SIMULATION_SEED={seed}: {failure}\n\nthe first {} events suffice, and of them these {}:\n{}\n{}",
        fewest.prefix, fewest.events, fewest.told, fewest.failure
    );
}
