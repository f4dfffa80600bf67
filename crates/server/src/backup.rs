//! A backup: everything that is kept, as lines of JSON that are the same whatever the store is.
//!
//! ```text
//! {"coracle":"backup","format":1,"epoch":3}
//! {"file":"credentials.json","text":"…"}       keys and certificates: a backup is as secret as they are
//! {"put":{"record":"cluster","name":"default",…}}
//! {"end":{"lines":4711,"sha256":"…"}}          of all lines before it
//! ```
//!
//! A restored control plane has a greater epoch than any that may have spoken to the instances, so that what it assigns
//! counts for them.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use control_plane::{Record, State};
use ecs::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::store::{self, Disk, Store};
use crate::{dice, files, keys, tls};

const FORMAT: u32 = 1;
/// Of one line: a task with a definition of 64 KiB in escapes.
const LINE_BYTES: usize = 4 << 20;

/// Kept with the records, by their paths in the state directory.
const FILES: [&str; 3] = [keys::FILE, "tls/ca.pem", "tls/ca-key.pem"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the backup cannot be read")]
    Read(#[source] io::Error),
    #[error("line {line} is none of a backup's")]
    Line {
        line: usize,
        #[source]
        cause: serde_json::Error,
    },
    #[error("this is no backup of coracle")]
    NoBackup,
    #[error("the backup has format {0}, and this build knows formats up to {FORMAT}: a newer build wrote it")]
    Newer(u32),
    #[error("the backup ends after line {0}: it was not taken whole")]
    Short(usize),
    #[error("the backup was changed after it was taken: its checksum is another")]
    Changed,
    #[error("the backup names the file {0:?}, which is none of a control plane's")]
    NotOurs(String),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", untagged, try_from = "Members")]
enum Line {
    Begin { coracle: String, format: u32, epoch: u64 },
    File { file: String, text: String },
    Put { put: Box<Record> },
    End { end: End },
}

/// What a line may say. Each kind has a member that the others lack.
#[derive(Deserialize)]
struct Members {
    coracle: Option<String>,
    format: Option<u32>,
    epoch: Option<u64>,
    file: Option<String>,
    text: Option<String>,
    put: Option<Box<Record>>,
    end: Option<End>,
}

impl TryFrom<Members> for Line {
    type Error = &'static str;

    fn try_from(line: Members) -> Result<Line, Self::Error> {
        match line {
            Members { coracle: Some(coracle), format: Some(format), epoch: Some(epoch), .. } => {
                Ok(Line::Begin { coracle, format, epoch })
            }
            Members { file: Some(file), text: Some(text), .. } => Ok(Line::File { file, text }),
            Members { put: Some(put), .. } => Ok(Line::Put { put }),
            Members { end: Some(end), .. } => Ok(Line::End { end }),
            Members { .. } => Err("it is none of a backup's lines"),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct End {
    lines: usize,
    sha256: String,
}

/// A file's path in the state directory, and what is in it.
pub type Kept = (String, String);

pub fn read_files(state_directory: &Path) -> Result<Vec<Kept>, files::Error> {
    let mut kept = Vec::new();
    for name in FILES {
        if let Some(bytes) = files::read(&state_directory.join(name))? {
            kept.push((name.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    Ok(kept)
}

/// Every record of a state.
pub fn records(state: &State) -> impl Iterator<Item = Record> {
    let clusters = state.clusters.values().map(|one| Record::Cluster((**one).clone()));
    let providers = state.capacity_providers.values().map(|one| Record::CapacityProvider((**one).clone()));
    let families = state.families.values().map(|one| Record::Family((**one).clone()));
    let definitions = state.task_definitions.values().map(|one| Record::TaskDefinition(Box::new((**one).clone())));
    let instances = state.instances.values().map(|one| Record::Instance(Box::new((**one).clone())));
    let tasks = state.tasks.values().map(|one| Record::Task(Box::new((**one).clone())));
    let settings = state.account_settings.values().map(|one| Record::AccountSetting((**one).clone()));
    let tokens = state.tokens.values().map(|one| Record::Token((**one).clone()));
    clusters
        .chain(providers)
        .chain(families)
        .chain(definitions)
        .chain(instances)
        .chain(tasks)
        .chain(settings)
        .chain(tokens)
}

/// Line by line into `out`.
pub fn write(
    epoch: u64,
    files: &[Kept],
    records: impl Iterator<Item = Record>,
    mut out: impl FnMut(Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let mut sum = Context::new(&SHA256);
    let mut lines = 0;
    let begin = Line::Begin { coracle: "backup".to_owned(), format: FORMAT, epoch };
    let files = files.iter().map(|(file, text)| Line::File { file: file.clone(), text: text.clone() });
    let puts = records.map(|record| Line::Put { put: Box::new(record) });
    for line in std::iter::once(begin).chain(files).chain(puts) {
        let text = text(&line)?;
        sum.update(&text);
        lines += 1;
        out(text)?;
    }
    let sha256 = dice::to_hex(sum.finish().as_ref());
    out(text(&Line::End { end: End { lines, sha256 } })?)
}

fn text(line: &Line) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

/// What a backup holds, checked to its end.
#[derive(Debug)]
pub struct Backup {
    pub epoch: u64,
    pub files: Vec<Kept>,
    pub records: Vec<Record>,
}

pub fn read(mut from: impl BufRead) -> Result<Backup, Error> {
    let mut backup: Option<Backup> = None;
    let mut sum = Context::new(&SHA256);
    for number in 1.. {
        let text = next_line(&mut from)?;
        if text.is_empty() {
            return Err(if number == 1 { Error::NoBackup } else { Error::Short(number - 1) });
        }
        let line = serde_json::from_slice(&text);
        let line =
            line.map_err(|cause| if number == 1 { Error::NoBackup } else { Error::Line { line: number, cause } })?;
        match (line, &mut backup) {
            (Line::Begin { coracle, format, epoch }, None) if coracle == "backup" => {
                if format > FORMAT {
                    return Err(Error::Newer(format));
                }
                backup = Some(Backup { epoch, files: Vec::new(), records: Vec::new() });
            }
            (Line::File { file, text }, Some(backup)) => {
                if !FILES.contains(&file.as_str()) {
                    return Err(Error::NotOurs(file));
                }
                backup.files.push((file, text));
            }
            (Line::Put { put }, Some(backup)) => backup.records.push(*put),
            (Line::End { end }, Some(_)) => {
                let same = end.lines == number - 1 && end.sha256 == dice::to_hex(sum.finish().as_ref());
                return if same { backup.ok_or(Error::NoBackup) } else { Err(Error::Changed) };
            }
            (Line::Begin { .. } | Line::File { .. } | Line::Put { .. } | Line::End { .. }, _) => {
                return Err(Error::NoBackup);
            }
        }
        sum.update(&text);
    }
    Err(Error::NoBackup)
}

/// With its end; empty at the file's.
fn next_line(from: &mut impl BufRead) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    io::Read::take(from, LINE_BYTES as u64).read_until(b'\n', &mut text).map_err(Error::Read)?;
    Ok(text)
}

/// What is in a state directory that no daemon uses.
pub fn offline(state_directory: &Path) -> Result<Backup, Error> {
    let loaded = Disk::open(&state_directory.join(store::FILE))?.load()?;
    Ok(Backup { epoch: loaded.epoch, files: read_files(state_directory)?, records: loaded.records })
}

/// Puts a backup in the place of what a state directory holds, which no daemon uses meanwhile. What was there stays beside
/// it; the path is answered.
pub fn restore(state_directory: &Path, backup: &Backup, now: Timestamp) -> Result<Option<PathBuf>, Error> {
    let path = state_directory.join(store::FILE);
    let before = if path.exists() { Disk::open(&path).and_then(|store| store.load()).ok() } else { None };
    let spoken = before.map_or(0, |before| before.epoch).max(backup.epoch);
    // The store that has spoken since may be lost; the clock has gone on.
    let epoch = (spoken + 1).max(now.epoch_ms / 1000);
    let aside = path.with_extension(format!("redb.before-{epoch}"));
    let was_there = files::link(&path, &aside)?;
    files::make_directory(&state_directory.join(tls::DIRECTORY))?;
    for (name, text) in &backup.files {
        files::write(&state_directory.join(name), text.as_bytes())?;
    }
    Disk::replace(&path, epoch, &backup.records)?;
    Ok(was_there.then_some(aside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> Vec<u8> {
        let family = Record::Family(control_plane::records::Family { name: "web".to_owned(), newest: 7 });
        let mut bytes = Vec::new();
        let files = [("credentials.json".to_owned(), "{}".to_owned())];
        write(4, &files, std::iter::once(family), |line| {
            bytes.extend(line);
            Ok(())
        })
        .expect("written");
        bytes
    }

    #[test]
    fn a_backup_is_read_whole_or_not_at_all() {
        let bytes = taken();
        let backup = read(&bytes[..]).expect("whole");
        assert_eq!((backup.epoch, backup.files.len(), backup.records.len()), (4, 1, 1));
        for length in 0..bytes.len() - 1 {
            read(&bytes[..length]).expect_err("cut off");
        }
        for at in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read(&changed[..]).is_err(), "byte {at} changed");
        }
        let outside = bytes.windows(16).position(|text| text == b"credentials.json").expect("it is there");
        let mut changed = bytes.clone();
        changed[outside..outside + 16].copy_from_slice(b"../../etc/passwd");
        assert!(matches!(read(&changed[..]), Err(Error::NotOurs(_))));
    }

    #[test]
    fn a_restored_store_has_a_later_epoch_and_the_old_one_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = Timestamp::from_epoch_ms(1_000);
        let backup = read(&taken()[..]).expect("whole");
        assert_eq!(restore(directory.path(), &backup, now).expect("restored"), None);
        let first = offline(directory.path()).expect("read");
        assert_eq!((first.epoch, first.records.len()), (5, 1));
        let aside = restore(directory.path(), &backup, now).expect("restored").expect("there was one");
        assert!(aside.exists());
        assert_eq!(offline(directory.path()).expect("read").epoch, 6);
        let later = Timestamp::from_epoch_ms(1_800_000_000_000);
        restore(directory.path(), &backup, later).expect("restored");
        assert_eq!(offline(directory.path()).expect("read").epoch, 1_800_000_000);
    }
}
