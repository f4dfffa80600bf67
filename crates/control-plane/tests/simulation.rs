//! A whole cluster from a seed: the real control plane, modelled container instances, clients, and faults between them.
//! Messages are lost, repeated and late; instances and control plane crash and come back.
//!
//! After every commit the invariants of `audit` hold; once faults stop, everything that was asked for comes about. A failing
//! seed names itself: run it alone with `SIMULATION_SEED=n`. `SIMULATION_SEEDS=n` is how many are run.

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
#[path = "simulation/world.rs"]
mod world;

use world::World;

/// In the ordinary form of this test.
const SEEDS: u64 = 250;
const STEPS: usize = 600;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
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
                seeds.for_each(|seed| totals.add(&run(seed)));
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
        assert!(totals.started > 0 && totals.crashes > 0 && totals.reboots > 0 && totals.replays > 0, "{totals:?}");
        assert!(totals.exits_told > totals.started / 4, "{totals:?}");
    }
}

/// A run is a function of its seed.
#[test]
fn a_seed_always_runs_the_same_way() {
    for seed in [3, 17] {
        assert_eq!(run(seed), run(seed));
    }
}

fn run(seed: u64) -> audit::Totals {
    let told = Told(seed);
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    std::mem::forget(told);
    world.totals()
}

/// Says which seed it was when a run panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("this was SIMULATION_SEED={}", self.0);
    }
}
