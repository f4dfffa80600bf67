//! Small files with secrets in them, each written whole or not at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// For root alone.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

#[derive(Debug, thiserror::Error)]
#[error("{} cannot be {doing}", path.display())]
pub struct Error {
    pub path: PathBuf,
    pub doing: &'static str,
    #[source]
    pub cause: std::io::Error,
}

fn error(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |cause| Error { path: path.to_owned(), doing, cause }
}

/// With those above it, where they are missing: these are for everybody to go through.
pub fn make_directory(path: &Path) -> Result<(), Error> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).map_err(error(above, "made"))?;
    }
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(error(path, "made"))
}

/// Nothing where there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(error(path, "read")(cause)),
    }
}

/// Durable when this returns.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let beside = directory.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&beside)
        .map_err(error(&beside, "made"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(error(&beside, "written"))?;
    fs::rename(&beside, path).map_err(error(path, "put in its place"))?;
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(error(directory, "synced"))
}

/// Whether it was there. It does not come back after a power loss.
pub fn remove(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
            synced.map(|()| true).map_err(error(directory, "synced"))
        }
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(error(path, "removed")(cause)),
    }
}

/// A second name for a file; whether it was there.
pub fn link(path: &Path, name: &Path) -> Result<bool, Error> {
    match fs::hard_link(path, name) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(error(name, "made")(cause)),
    }
}
