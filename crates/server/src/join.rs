//! Tokens by which a host joins: each for one use and a short time, kept only as hashes.

use std::path::{Path, PathBuf};

use ecs::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::{dice, files};

/// In the state directory: a file a token, named by its hash.
pub const DIRECTORY: &str = "join-tokens";
pub const LONGEST_LIFE_S: u64 = 3_600;
/// That are valid at one time.
const MOST: usize = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    #[error("there are {MOST} join tokens that nobody has used; they end by themselves within an hour")]
    TooMany,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    expires_at: Timestamp,
}

/// The token, told once.
pub fn create(state_directory: &Path, life_s: u64, now: Timestamp) -> Result<(String, Timestamp), Error> {
    let directory = state_directory.join(DIRECTORY);
    files::make_directory(&directory)?;
    if forget_old(&directory, now)? >= MOST {
        return Err(Error::TooMany);
    }
    let token = dice::hex::<32>();
    let expires_at = now.plus_ms(life_s.clamp(1, LONGEST_LIFE_S) * 1000);
    let kept = serde_json::to_vec(&Kept { expires_at }).expect("a number is JSON");
    files::write(&directory.join(name(&token)), &kept)?;
    Ok((token, expires_at))
}

/// Whether it was valid. It is not any more: of two that come with it at once, one removes its file.
pub fn consume(state_directory: &Path, token: &str, now: Timestamp) -> Result<bool, Error> {
    let path = state_directory.join(DIRECTORY).join(name(token));
    let Some(kept) = read(&path)? else { return Ok(false) };
    Ok(files::remove(&path)? && kept.expires_at > now)
}

fn name(token: &str) -> String {
    dice::to_hex(digest(&SHA256, token.as_bytes()).as_ref())
}

/// One that cannot be read is none.
fn read(path: &Path) -> Result<Option<Kept>, Error> {
    Ok(files::read(path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// How many are left.
fn forget_old(directory: &Path, now: Timestamp) -> Result<usize, Error> {
    let unreadable = |cause| Error::Unreadable(directory.to_owned(), cause);
    let mut left = 0;
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if read(&path)?.is_some_and(|kept| kept.expires_at > now) {
            left += 1;
        } else {
            files::remove(&path)?;
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_for_its_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = Timestamp::from_epoch_ms(1_000);
        let (token, expires_at) = create(directory.path(), 60, now).expect("made");
        assert_eq!(expires_at, now.plus_ms(60_000));
        let file =
            std::fs::read_dir(directory.path().join(DIRECTORY)).expect("listed").next().expect("one").expect("it");
        assert!(!file.file_name().to_string_lossy().contains(&token), "the token itself is nowhere");
        assert!(!consume(directory.path(), "another", now).expect("read"));
        assert!(consume(directory.path(), &token, now).expect("read"));
        assert!(!consume(directory.path(), &token, now).expect("read"), "used");
        let (token, _) = create(directory.path(), 60, now).expect("made");
        assert!(!consume(directory.path(), &token, now.plus_ms(60_000)).expect("read"), "expired");
        let (_, expires_at) = create(directory.path(), 1 << 40, now).expect("made");
        assert_eq!(expires_at, now.plus_ms(LONGEST_LIFE_S * 1000));
    }
}
