//! From a run that fails to the fewest of its events that fail the same way.
//!
//! The chance of an event is its own (`Dice::of`), so the others stay what they are when it is left out. First the shortest
//! run from the beginning is looked for, then everything is left out of it that is not needed.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Mutex;

use crate::audit::Totals;
use crate::world::World;

/// Attempts, so that a failure is told within a minute.
const ATTEMPTS: usize = 2_000;

/// A run of these events alone, and then a time without faults. `tell` hears of each event before it happens.
pub(crate) fn run(seed: u64, events: &[u64], mut tell: impl FnMut(String)) -> Totals {
    let mut world = World::new(seed);
    for number in events {
        let event = world.choose(*number);
        tell(format!("{number:>4} {event:?}"));
        world.happen(event);
    }
    tell("and a time without faults".to_owned());
    world.settle();
    world.totals()
}

/// The same, or what it says when it fails.
pub(crate) fn attempt(seed: u64, events: &[u64]) -> Result<Totals, String> {
    catch_unwind(AssertUnwindSafe(|| run(seed, events, drop))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without words").to_owned()
    })
}

/// Without the numbers and ids, which are others in a shorter run.
fn kind(failure: &str) -> String {
    let words = failure.split_whitespace().take(12);
    words.filter(|word| !word.bytes().any(|byte| byte.is_ascii_digit()) || word.starts_with('V')).collect()
}

pub(crate) struct Shrunk {
    /// So many from the beginning fail.
    pub(crate) prefix: usize,
    /// And so many of those.
    pub(crate) events: usize,
    pub(crate) told: String,
    pub(crate) failure: String,
}

/// One at a time, and without a word of the failures on the way.
pub(crate) fn shrink(seed: u64, events: &[u64], failure_of_all: &str) -> Shrunk {
    static SILENCE: Mutex<()> = Mutex::new(());
    let _alone = SILENCE.lock();
    let loud = take_hook();
    set_hook(Box::new(|_| {}));
    let shrunk = fewest(seed, events, failure_of_all);
    set_hook(loud);
    shrunk
}

fn fewest(seed: u64, events: &[u64], failure_of_all: &str) -> Shrunk {
    let same = |events: &[u64]| attempt(seed, events).err().filter(|found| kind(found) == kind(failure_of_all));
    let mut attempts = 0..ATTEMPTS;
    let prefix = (0..events.len()).find(|length| same(&events[..*length]).is_some()).unwrap_or(events.len());
    let mut events = events[..prefix].to_vec();
    let mut size = events.len() / 2;
    while size > 0 {
        let mut from = 0;
        while from < events.len() && attempts.next().is_some() {
            let to = (from + size).min(events.len());
            let fewer = [&events[..from], &events[to..]].concat();
            if same(&fewer).is_some() {
                events = fewer;
            } else {
                from = to;
            }
        }
        size /= 2;
    }
    let failure = same(&events).unwrap_or_else(|| failure_of_all.to_owned());
    let told = told(seed, &events);
    Shrunk { prefix, events: events.len(), told, failure }
}

/// The events of a run up to its failure, as lines.
fn told(seed: u64, events: &[u64]) -> String {
    let trace = RefCell::new(Vec::new());
    let _ = catch_unwind(AssertUnwindSafe(|| run(seed, events, |line| trace.borrow_mut().push(line))));
    trace.into_inner().join("\n")
}
