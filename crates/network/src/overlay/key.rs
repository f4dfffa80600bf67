//! WireGuard's keys: 32 bytes, written as base64. A host's private key is a file of its own, made at its first use; the
//! kernel says which public key goes with it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::Error;

pub(super) const LENGTH: usize = 32;
/// Of the file: base64 of a key is 44 bytes, with its end of line 45.
const LONGEST_FILE: u64 = 64;
const PRIVATE_MODE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(super) [u8; LENGTH]);

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A private key. It has no text but its file's.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) [u8; LENGTH]);

pub(crate) fn parse(text: &str) -> Option<Key> {
    decode(text).map(Key)
}

fn decode(text: &str) -> Option<[u8; LENGTH]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// This host's private key; made where there is none. Of two processes that make one at once, one wins.
pub(super) fn of_host(path: &Path) -> Result<Secret, Error> {
    let failed = |verb| {
        let path = path.display().to_string();
        move |source| Error::KeyFile { verb, path, source }
    };
    match File::open(path) {
        Ok(file) => read(path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path).map_err(failed("make"))?;
            read(path, File::open(path).map_err(failed("read"))?)
        }
        Err(error) => Err(failed("read")(error)),
    }
}

fn read(path: &Path, file: File) -> Result<Secret, Error> {
    let shown = || path.display().to_string();
    let failed = |source| Error::KeyFile { verb: "read", path: shown(), source };
    let mode = file.metadata().map_err(failed)?.mode();
    if mode & OTHERS != 0 {
        return Err(Error::OpenKeyFile { path: shown(), mode: mode & 0o777 });
    }
    let mut text = String::new();
    match file.take(LONGEST_FILE).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
        Err(error) => return Err(failed(error)),
    }
    decode(text.trim()).map(Secret).ok_or_else(|| Error::BadKeyFile { path: shown() })
}

/// Written aside and given its name when it is whole; a name that somebody was quicker with stays theirs.
fn make(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let mut bytes = [0; LENGTH];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    // What X25519 makes of any 32 bytes before it uses them (RFC 7748, section 5); the kernel gives them back so.
    bytes[0] &= 248;
    bytes[31] = bytes[31] & 127 | 64;
    let aside = path.with_extension(format!("key.{}", std::process::id()));
    let written = write(&aside, &STANDARD.encode(bytes));
    let named = written.and_then(|()| match std::fs::hard_link(&aside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    match (named, std::fs::remove_file(&aside)) {
        (Err(error), _) if error.kind() != io::ErrorKind::NotFound => Err(error),
        (named, removed) => named.and(removed),
    }?;
    File::open(folder)?.sync_all()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE_MODE).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("coracle-key-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let folder = folder("made");
        let path = folder.join("new/wireguard.key");
        let first = of_host(&path).ok().unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(of_host(&path).ok().unwrap() == first);
        assert_eq!(first.0[0] & 7, 0);
        assert_eq!(first.0[31] & 192, 64);
        assert_eq!(std::fs::read_dir(folder.join("new")).unwrap().count(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = of_host(&path).err().unwrap().to_string();
        assert!(refused.contains("(mode 644)") && refused.contains("chmod 600"), "{refused}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_key_is_told() {
        let folder = folder("bad");
        let path = folder.join("wireguard.key");
        for bad in ["", "short", "AAAA", "\u{1f511}", &"A".repeat(10_000)] {
            write(&path, bad).unwrap();
            assert!(matches!(of_host(&path), Err(Error::BadKeyFile { .. })), "{bad}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn public_keys_are_base64_of_32_bytes() {
        let text = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
        let key = parse(text).unwrap();
        assert_eq!(key.0[..3], [1, 2, 3]);
        assert_eq!(key.to_string(), text);
        for bad in ["", "AQID", &text[1..], "not base64!"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
