//! A whole cluster from a seed: the real control plane, modelled container instances, clients, and faults between them.
//! Messages are lost, repeated, reordered and late; instances and control plane crash and come back, and one that was replaced
//! goes on to give orders.
//!
//! After every commit the invariants of `audit` hold; once faults stop, everything that was asked for comes about. A failing
//! seed names itself, and the fewest of its events that fail in the same way: run it alone with `SIMULATION_SEED=n`.
//! `SIMULATION_SEEDS=n` is how many are run.
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
use shrink::{attempt, run, shrink, told};

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
        "SIMULATION_SEED={seed}: {failure}\n\nThe first {} events suffice, and of them these {}:\n{}\n{}",
        fewest.prefix,
        fewest.events.len(),
        told(seed, &fewest.events),
        fewest.failure
    );
}
