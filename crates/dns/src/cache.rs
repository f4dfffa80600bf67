//! What name servers have said, as long as it holds. Bounded by entries and by bytes; what would end first goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::answer::Answer;

pub const MAX_ENTRIES: usize = 10_000;
pub const MAX_BYTES: usize = 4 << 20;
/// An answer of more bytes is not worth the room of a hundred others.
pub const MAX_ENTRY_BYTES: usize = 16 << 10;
/// Of the two maps, by entry; so that many small entries count for what they take.
const OVERHEAD: usize = 256;

/// By what `Query::write_key` makes of a query and the servers that it goes to: whoever asks other servers never sees
/// these answers. `now` is the time since any fixed moment, and never runs backwards.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Arc<[u8]>, Entry>,
    /// By end of life; the number makes ends distinct.
    ends: BTreeMap<(Duration, u64), Arc<[u8]>>,
    bytes: usize,
    inserted: u64,
}

#[derive(Debug)]
struct Entry {
    answer: Arc<Answer>,
    born: Duration,
    end: (Duration, u64),
}

impl Cache {
    /// With its age in whole seconds, rounded up, so that a TTL never outlives the name server's word.
    pub fn get(&self, key: &[u8], now: Duration) -> Option<(&Arc<Answer>, u32)> {
        let entry = self.entries.get(key).filter(|entry| now < entry.end.0)?;
        let age = now.saturating_sub(entry.born);
        let whole = age.as_secs() + u64::from(age.subsec_nanos() > 0);
        Some((&entry.answer, u32::try_from(whole).unwrap_or(u32::MAX)))
    }

    pub fn insert(&mut self, key: &[u8], answer: Arc<Answer>, now: Duration) {
        let lifetime = Duration::from_secs(u64::from(answer.lifetime_s()));
        let size = cost(key, &answer);
        if lifetime.is_zero() || size > MAX_ENTRY_BYTES {
            return;
        }
        self.remove(key);
        self.inserted += 1;
        let end = (now + lifetime, self.inserted);
        let key: Arc<[u8]> = key.into();
        self.ends.insert(end, key.clone());
        self.entries.insert(key, Entry { answer, born: now, end });
        self.bytes += size;
        while let Some((end, first)) = self.ends.first_key_value() {
            let full = self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES;
            if !full && now < end.0 {
                break;
            }
            let first = first.clone();
            self.remove(&first);
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(gone) = self.entries.remove(key) {
            self.ends.remove(&gone.end);
            self.bytes -= cost(key, &gone.answer);
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn cost(key: &[u8], answer: &Answer) -> usize {
    key.len() + answer.size() + OVERHEAD
}
