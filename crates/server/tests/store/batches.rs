//! Batches of chance, and what the store holds after each.

use std::collections::BTreeMap;

use control_plane::records::{AccountSetting, Family};
use control_plane::{Change, Record};

use crate::dice::Dice;

/// From a part of a page to many pages.
const LENGTHS: [usize; 5] = [1, 40, 900, 5_000, 14_000];
const KEYS: usize = 14;

pub(crate) struct Batches {
    pub(crate) changes: Vec<Vec<Change>>,
    /// By key, after so many batches.
    pub(crate) after: Vec<Vec<Record>>,
}

pub(crate) fn batches(count: usize, dice: &mut Dice) -> Batches {
    let mut held: BTreeMap<String, Record> = BTreeMap::new();
    let mut batches = Batches { changes: Vec::new(), after: vec![Vec::new()] };
    for number in 0..count {
        let changes = if number % 16 == 15 {
            // Nearly all of it goes, and with it the end of the file.
            held.values().skip(1).map(|record| Change::Remove(record.key())).collect()
        } else {
            (0..1 + dice.below(6)).map(|_| change(number, &held, dice)).collect::<Vec<_>>()
        };
        for change in &changes {
            match change {
                Change::Put(record) => drop(held.insert(record.key().text(), record.clone())),
                Change::Remove(key) => drop(held.remove(&key.text())),
            }
        }
        batches.changes.push(changes);
        batches.after.push(held.values().cloned().collect());
    }
    batches
}

fn change(number: usize, held: &BTreeMap<String, Record>, dice: &mut Dice) -> Change {
    let name = format!("name-{}", dice.below(KEYS));
    match dice.below(10) {
        0..=3 => Change::Put(Record::Family(Family { name, newest: number as u32 })),
        4..=7 => {
            let letter = char::from(b'a' + (number % 26) as u8).to_string();
            let value = letter.repeat(LENGTHS[dice.below(LENGTHS.len())]);
            Change::Put(Record::AccountSetting(AccountSetting { principal: String::new(), name, value }))
        }
        _ if held.is_empty() => Change::Put(Record::Family(Family { name, newest: 0 })),
        _ => Change::Remove(held.values().nth(dice.below(held.len())).expect("it is one of them").key()),
    }
}
