//! A disk in memory that writes down what it is told, forgets what it may, and fails when it should.
//!
//! What a machine may lose at a power cut: everything that was not synced, each write by itself and each 512 bytes of a
//! write by themselves, in any order. A byte that is synced stays, and no write touches bytes that are not its own
//! (<https://github.com/cberner/redb/blob/master/docs/design.md>, "Assumptions about underlying media").

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use crate::dice::Dice;

const SECTOR: usize = 512;
/// So many operations under way are tried in all their subsets.
const ALL_SUBSETS: usize = 6;

#[derive(Clone, Debug)]
pub(crate) enum Told {
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    Length(usize),
    Sync,
    /// By the test: the store answered for so many batches.
    Answered(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// The first operation that fails, counted from 0.
    pub(crate) from: usize,
    pub(crate) errno: i32,
    /// A write that fails has put half of its bytes.
    pub(crate) half: bool,
    /// Later ones fail as well.
    pub(crate) lasts: bool,
}

#[derive(Debug, Default)]
struct Inner {
    /// As whoever reads it finds it.
    bytes: Vec<u8>,
    told: Vec<Told>,
    operations: usize,
    failure: Option<Failure>,
    failed: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<Inner>>);

/// What is on the disk, and what is under way to it.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) durable: Vec<u8>,
    pub(crate) pending: Vec<Told>,
    /// Batches the store had answered for.
    pub(crate) answered: usize,
}

impl Recorder {
    /// Nothing is synced of what is pending: the machine runs, a process was killed.
    pub(crate) fn after_a_kill(moment: &Moment) -> Recorder {
        let inner =
            Inner { bytes: left(&moment.durable, &moment.pending), told: moment.pending.clone(), ..Inner::default() };
        Recorder(Arc::new(Mutex::new(inner)))
    }

    pub(crate) fn of(bytes: Vec<u8>) -> Recorder {
        Recorder(Arc::new(Mutex::new(Inner { bytes, ..Inner::default() })))
    }

    pub(crate) fn failing(bytes: Vec<u8>, failure: Failure) -> Recorder {
        Recorder(Arc::new(Mutex::new(Inner { bytes, failure: Some(failure), ..Inner::default() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test goes on after a panic")
    }

    pub(crate) fn answered(&self, batches: usize) {
        self.inner().told.push(Told::Answered(batches));
    }

    /// Writes, lengths and syncs so far.
    pub(crate) fn operations(&self) -> usize {
        self.inner().operations
    }

    pub(crate) fn failed(&self) -> usize {
        self.inner().failed
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.inner().bytes.clone()
    }

    pub(crate) fn without_each_third_sync(&self) -> Recorder {
        let (mut told, mut syncs) = (self.inner().told.clone(), 0);
        told.retain(|told| {
            syncs += usize::from(matches!(told, Told::Sync));
            !matches!(told, Told::Sync) || syncs % 3 != 0
        });
        Recorder(Arc::new(Mutex::new(Inner { told, ..Inner::default() })))
    }

    /// Every moment before a sync, and the end: what is lost earlier is lost here as well. `from` is what was on the disk at
    /// the begin.
    pub(crate) fn moments(&self, from: &[u8], answered: usize) -> Vec<Moment> {
        let mut moment = Moment { durable: from.to_vec(), pending: Vec::new(), answered };
        let mut moments = Vec::new();
        for told in &self.inner().told {
            match told {
                Told::Sync => {
                    moments.push(moment.clone());
                    moment.durable = left(&moment.durable, &moment.pending);
                    moment.pending.clear();
                }
                Told::Answered(batches) => moment.answered = *batches,
                Told::Write { .. } | Told::Length(_) => moment.pending.push(told.clone()),
            }
        }
        moments.push(moment);
        moments
    }

    /// Fails, or says how much of a write is done.
    fn operation(&self, told: Told) -> io::Result<()> {
        let mut inner = self.inner();
        let number = inner.operations;
        inner.operations += 1;
        let failure = inner.failure.filter(|failure| number == failure.from || failure.lasts && number > failure.from);
        if let Some(failure) = failure {
            inner.failed += 1;
            if let (true, Told::Write { at, bytes }) = (failure.half, &told) {
                inner.take(Told::Write { at: *at, bytes: bytes[..bytes.len() / 2].to_vec() });
            }
            return Err(io::Error::from_raw_os_error(failure.errno));
        }
        inner.take(told);
        Ok(())
    }
}

impl Inner {
    fn take(&mut self, told: Told) {
        put(&mut self.bytes, &told);
        self.told.push(told);
    }
}

impl StorageBackend for Recorder {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        let inner = self.inner();
        let found = inner.bytes.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operation(Told::Length(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operation(Told::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operation(Told::Write { at: offset as usize, bytes: data.to_vec() })
    }
}

fn put(file: &mut Vec<u8>, told: &Told) {
    match told {
        Told::Write { at, bytes } => {
            let end = at + bytes.len();
            if file.len() < end {
                file.resize(end, 0);
            }
            file[*at..end].copy_from_slice(bytes);
        }
        Told::Length(length) => file.resize(*length, 0),
        Told::Sync | Told::Answered(_) => {}
    }
}

pub(crate) fn left(durable: &[u8], kept: &[Told]) -> Vec<u8> {
    let mut file = durable.to_vec();
    kept.iter().for_each(|told| put(&mut file, told));
    file
}

impl Moment {
    /// What a power cut may leave: all that few operations can, and of more those at the edges and some of chance.
    pub(crate) fn survivors(&self, dice: &mut Dice, of_chance: usize) -> Vec<Vec<u8>> {
        let count = self.pending.len();
        let mut kept: Vec<Vec<bool>> = Vec::new();
        if count <= ALL_SUBSETS {
            kept.extend((0..1_usize << count).map(|set| (0..count).map(|at| set >> at & 1 == 1).collect()));
        } else {
            kept.push(vec![true; count]);
            kept.push(vec![false; count]);
            kept.extend((0..of_chance).flat_map(|_| {
                let (one, chance) = (dice.below(count), dice.below(101));
                let of_chance = (0..count).map(|_| dice.percent(chance)).collect();
                [
                    (0..count).map(|at| at < one).collect(),
                    (0..count).map(|at| at > one).collect(),
                    (0..count).map(|at| at == one).collect(),
                    (0..count).map(|at| at != one).collect(),
                    of_chance,
                ]
            }));
        }
        let whole = kept.iter().map(|kept| {
            let kept: Vec<Told> =
                self.pending.iter().zip(kept).filter(|(_, kept)| **kept).map(|(told, _)| told.clone()).collect();
            left(&self.durable, &kept)
        });
        let mut files: Vec<Vec<u8>> = whole.collect();
        if count > 0 {
            files.extend((0..of_chance).map(|_| self.torn(dice)));
        }
        files
    }

    /// Each operation is kept, lost, or kept in some sectors; what is smaller than one is cut at any byte.
    fn torn(&self, dice: &mut Dice) -> Vec<u8> {
        let mut file = self.durable.clone();
        for told in &self.pending {
            match (dice.below(3), told) {
                (0, _) => {}
                (1, Told::Write { at, bytes }) if bytes.len() <= SECTOR => {
                    let (from, to) = (dice.below(bytes.len() + 1), dice.below(bytes.len() + 1));
                    let (from, to) = (from.min(to), from.max(to));
                    put(&mut file, &Told::Write { at: at + from, bytes: bytes[from..to].to_vec() });
                }
                (1, Told::Write { at, bytes }) => {
                    for (sector, bytes) in bytes.chunks(SECTOR).enumerate() {
                        if dice.percent(50) {
                            put(&mut file, &Told::Write { at: at + sector * SECTOR, bytes: bytes.to_vec() });
                        }
                    }
                }
                (_, told) => put(&mut file, told),
            }
        }
        file
    }
}
