//! The key that a store is encrypted with: made at first use, in a file that only its owner may read.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use crate::error::{Error, io};

/// Of AES-256.
pub(crate) const KEY_BYTES: usize = 32;
const FILE: &str = "key";
const PRIVATE: u32 = 0o600;
/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;

pub(crate) fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Nothing where no key was ever made.
pub(crate) fn read(directory: &Path) -> Result<Option<[u8; KEY_BYTES]>, Error> {
    let path = path(directory);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("open", &path)(error)),
    };
    let metadata = file.metadata().map_err(io("look at", &path))?;
    if !metadata.is_file() || metadata.len() != KEY_BYTES as u64 || metadata.mode() & OTHERS != 0 {
        return Err(Error::Key { path });
    }
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key).map_err(io("read", &path))?;
    Ok(Some(key))
}

/// Reads the key, or makes it. The caller holds the store's lock, so two processes never make two.
pub(crate) fn read_or_make(directory: &Path) -> Result<[u8; KEY_BYTES], Error> {
    if let Some(key) = read(directory)? {
        return Ok(key);
    }
    let mut key = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut key).map_err(|_| Error::Dice)?;
    write(directory, &path(directory), &key)?;
    Ok(key)
}

/// Under another name first, so that a power cut leaves the old content or the new and nothing between.
pub(crate) fn write(directory: &Path, path: &Path, content: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    let mut options = File::options();
    let mut file =
        options.write(true).create(true).truncate(true).mode(PRIVATE).open(&new).map_err(io("make", &new))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io("write", &new))?;
    fs::rename(&new, path).map_err(io("put into its place", &new))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io("write", directory))
}
