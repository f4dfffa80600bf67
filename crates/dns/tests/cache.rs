//! What is kept, how long, and how much of it.

mod messages;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dns::cache::{Cache, MAX_BYTES, MAX_ENTRIES, MAX_ENTRY_BYTES};
use dns::forward::{self, Extension, Verdict};
use dns::{Answer, Transport};
use messages::{plain, query, record, reply};
use proptest::prelude::*;

/// A TXT answer that lasts so long and has so many bytes of text.
fn answer(ttl: u32, length: usize) -> Arc<Answer> {
    let bytes = reply(1, 0x8180, 16, [&[record(16, ttl, &vec![0; length])], &[], &[]]);
    match forward::judge(&query(&plain("www.example", 16)), 1, Extension::Edns, &bytes) {
        Verdict::Final(answer) => Arc::new(answer),
        other => panic!("{other:?}"),
    }
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn an_answer_is_as_old_as_it_is() {
    let mut cache = Cache::default();
    cache.insert(b"a", answer(10, 1), seconds(100));
    let age = |now| cache.get(b"a", now).map(|(_, age)| age);
    assert_eq!(age(seconds(100)), Some(0));
    assert_eq!(age(seconds(100) + Duration::from_millis(1)), Some(1));
    assert_eq!(age(seconds(109)), Some(9));
    assert_eq!(age(seconds(110) - Duration::from_nanos(1)), Some(10));
    assert_eq!(age(seconds(110)), None);
    assert!(cache.get(b"b", seconds(100)).is_none());
}

#[test]
fn a_new_answer_takes_the_place_of_the_old() {
    let mut cache = Cache::default();
    cache.insert(b"a", answer(10, 1), seconds(0));
    cache.insert(b"a", answer(100, 1), seconds(5));
    assert_eq!(cache.len(), 1);
    assert_eq!(cache.get(b"a", seconds(50)).map(|(_, age)| age), Some(45));
    // What has no lifetime is not kept, and does not end what is.
    cache.insert(b"a", answer(0, 1), seconds(6));
    cache.insert(b"a", answer(10, MAX_ENTRY_BYTES), seconds(6));
    assert_eq!(cache.get(b"a", seconds(50)).map(|(_, age)| age), Some(45));
}

#[test]
fn what_ends_first_goes_first() {
    let mut cache = Cache::default();
    for number in 0..MAX_ENTRIES as u32 + 100 {
        // The later, the sooner it ends.
        cache.insert(&number.to_be_bytes(), answer(50_000 - number, 0), seconds(0));
        assert!(cache.len() <= MAX_ENTRIES);
    }
    assert!(cache.get(&0u32.to_be_bytes(), seconds(1)).is_some());
    assert!(cache.get(&(MAX_ENTRIES as u32 + 99).to_be_bytes(), seconds(1)).is_none());
    let mut cache = Cache::default();
    for number in 0..1000u32 {
        cache.insert(&number.to_be_bytes(), answer(60, 8000), seconds(0));
        assert!(cache.bytes() <= MAX_BYTES);
    }
    assert!(cache.len() > 100);
    // The dead make room when anybody comes.
    cache.insert(b"last", answer(60, 1), seconds(61));
    assert_eq!(cache.len(), 1);
}

proptest! {
    /// Against the plainest cache there is: nothing expired is returned, nothing is returned for another key, and the
    /// TTL that an asker sees is never beyond the end that the name server gave.
    #[test]
    fn nothing_outlives_its_end(steps in proptest::collection::vec((0u8..6, 0u32..20, 0u64..5000, any::<bool>()), 1..200)) {
        let mut cache = Cache::default();
        let mut model: HashMap<u8, (Duration, u32)> = HashMap::new();
        let mut now = Duration::ZERO;
        let asked = query(&plain("www.example", 16));
        for (key, ttl, pause_ms, insert) in steps {
            now += Duration::from_millis(pause_ms);
            if insert {
                cache.insert(&[key], answer(ttl, 1), now);
                if ttl > 0 {
                    model.insert(key, (now, ttl));
                }
                continue;
            }
            let alive = model.get(&key).filter(|(born, ttl)| now < *born + seconds(u64::from(*ttl)));
            let found = cache.get(&[key], now);
            prop_assert_eq!(found.is_some(), alive.is_some());
            if let (Some((answer, age)), Some((born, ttl))) = (found, alive) {
                let mut bytes = Vec::new();
                answer.write(&asked, Transport::Udp, age, &mut bytes);
                let at = bytes.len() - 1 - 2 - 4;
                let seen = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
                prop_assert!(now + seconds(u64::from(seen)) <= *born + seconds(u64::from(*ttl)));
            }
        }
        prop_assert!(cache.len() <= 6);
    }
}
