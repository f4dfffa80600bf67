//! An archive's files by name: a folder, or a tar file whose members are read in place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{At, Compression, FileChunks, MAX_DOCUMENT_BYTES, Source, Store, layer};
use super::{Error, Ingest, archive_error, io as failed};
use crate::limits::{BUFFER_BYTES, MAX_ARCHIVE_ENTRIES};
use crate::tar::{self, Kind, TarError};

/// Links from one member to another that are followed.
const MAX_LINKS: u32 = 8;
/// What an image archive's own members never exceed; others need not be remembered.
const MAX_DEPTH: usize = 4;
const MAX_NAME_BYTES: usize = 512;
const MAX_REMEMBERED: usize = 65_536;

/// A file's content and its size.
pub(super) type Content<'a> = (Box<dyn Read + 'a>, u64);

pub(super) enum Input {
    Images(Files),
    RootFs(RootFs),
}

/// A plain tar file that is to become a layer.
pub(super) struct RootFs {
    pub(super) file: File,
    pub(super) size: u64,
    _spool: Option<Ingest>,
}

pub(super) struct Files {
    place: Place,
    _spool: Option<Ingest>,
}

enum Place {
    Folder(PathBuf),
    Tar { file: File, members: HashMap<Vec<u8>, Member> },
}

enum Member {
    Content { offset: u64, size: u64 },
    Link(Vec<u8>),
}

pub(super) fn open(store: &Store, source: Source<'_>) -> Result<Input, Error> {
    let (file, spool) = match source {
        Source::Path(path) if path.is_dir() => return folder(path),
        Source::Path(path) => {
            let file = File::open(path).map_err(failed("open", path))?;
            let metadata = file.metadata().map_err(failed("look at", path))?;
            let mut start = [0; 4];
            let plain = metadata.is_file() && file.read_at(&mut start, 0).map_err(failed("read", path))? == start.len();
            if plain && Compression::of(&start) == Compression::None {
                (file, None)
            } else {
                spool(store, Box::new(file))?
            }
        }
        Source::Reader(reader) => spool(store, reader)?,
    };
    let members = members(&file)?;
    let has = |name: &str| members.contains_key(name.as_bytes());
    if has("index.json") && has("oci-layout") || has("manifest.json") {
        return Ok(Input::Images(Files { place: Place::Tar { file, members }, _spool: spool }));
    }
    let size = file.metadata().map_err(failed("look at", "the archive"))?.len();
    Ok(Input::RootFs(RootFs { file, size, _spool: spool }))
}

fn folder(path: &Path) -> Result<Input, Error> {
    let files = Files { place: Place::Folder(path.to_owned()), _spool: None };
    if files.has("index.json") || files.has("manifest.json") {
        return Ok(Input::Images(files));
    }
    Err(archive_error(format!("folder {} is no OCI layout: it has no index.json", path.display())))
}

/// Decompresses a stream into a file of the store, where it can be read in any order.
fn spool(store: &Store, reader: Box<dyn Read + '_>) -> Result<(File, Option<Ingest>), Error> {
    let ingest = Ingest::anonymous(store)?;
    let path = ingest.blob().path.clone();
    let file = ingest.blob().file.try_clone().map_err(failed("write", &path))?;
    let read_failed = |source: io::Error| Error::ArchiveRead { source: Box::new(source) };
    let mut plain = layer::decompressed(Box::new(FileChunks::new(reader, u64::MAX))).map_err(read_failed)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match plain.read(&mut buffer).map_err(read_failed)? {
            0 => break,
            read => (&file).write_all(&buffer[..read]).map_err(failed("write", &path))?,
        }
    }
    Ok((file, Some(ingest)))
}

/// One pass over the headers.
fn members(file: &File) -> Result<HashMap<Vec<u8>, Member>, Error> {
    let file = file.try_clone().map_err(failed("read", "the archive"))?;
    let mut reader = tar::Reader::new(At { file, offset: 0 });
    let mut members = HashMap::new();
    let mut count = 0;
    while let Some(entry) = reader.next().map_err(|error| unreadable(error, count))? {
        count += 1;
        if count > MAX_ARCHIVE_ENTRIES {
            return Err(archive_error(format!("the archive has more than {MAX_ARCHIVE_ENTRIES} members")));
        }
        let Some(name) = clean(&entry.path).filter(|name| may_matter(name)) else { continue };
        if members.len() >= MAX_REMEMBERED {
            continue;
        }
        let member = match entry.kind {
            Kind::File if entry.sparse.is_none() => Member::Content { offset: reader.offset(), size: reader.stored() },
            // Old versions of Docker link one image's layer.tar to another's.
            Kind::Symlink => {
                let mut target: Vec<u8> =
                    name.iter().rposition(|byte| *byte == b'/').map_or(Vec::new(), |at| name[..=at].to_vec());
                target.extend_from_slice(&entry.link);
                Member::Link(target)
            }
            Kind::HardLink => Member::Link(entry.link),
            Kind::File | Kind::CharDevice | Kind::BlockDevice | Kind::Directory | Kind::Fifo => continue,
        };
        members.insert(name, member);
    }
    if count == 0 {
        return Err(archive_error("this is no image archive: it is empty"));
    }
    Ok(members)
}

/// What has no first member was never an archive; what breaks later has been damaged or cut short.
fn unreadable(error: TarError, members_before: usize) -> Error {
    let is_foreign = match &error {
        TarError::Read(cause) => cause.kind() == io::ErrorKind::UnexpectedEof,
        TarError::Malformed { .. } => true,
    };
    if is_foreign && members_before == 0 {
        return archive_error(
            "this is no image archive; one is made with `coracle image export`, `docker save` or `podman save`",
        );
    }
    match error {
        TarError::Read(cause) => Error::ArchiveRead { source: Box::new(cause) },
        malformed @ TarError::Malformed { .. } => Error::ArchiveRead { source: Box::new(malformed) },
    }
}

/// A bare root file system has names without number; an image archive has documents, blobs and layers.
fn may_matter(name: &[u8]) -> bool {
    let ends = [&b".json"[..], b".tar", b".gz", b".tgz", b".zst"].into_iter().any(|end| name.ends_with(end));
    ends || name.starts_with(b"blobs/") || !name.contains(&b'/')
}

/// Resolves `.` and `..` by name only; `None` for what cannot be a part of an image archive.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    if path.len() > MAX_NAME_BYTES {
        return None;
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty() && parts.len() <= MAX_DEPTH).then(|| parts.join(&b'/'))
}

impl Files {
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.place {
            Place::Folder(dir) => dir.join(name).is_file(),
            Place::Tar { members, .. } => members.contains_key(name.as_bytes()),
        }
    }

    /// A manifest, index or configuration, whole.
    pub(super) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some((content, size)) = self.open(name)? else { return Ok(None) };
        if size > MAX_DOCUMENT_BYTES {
            return Err(archive_error(format!(
                "{name} in the archive has {size} bytes; the limit is {MAX_DOCUMENT_BYTES}"
            )));
        }
        let mut bytes = Vec::new();
        content.take(MAX_DOCUMENT_BYTES).read_to_end(&mut bytes).map_err(failed("read", name))?;
        Ok(Some(bytes))
    }

    pub(super) fn open(&self, name: &str) -> Result<Option<Content<'_>>, Error> {
        match &self.place {
            Place::Folder(dir) => {
                // Names are from documents of the layout: one with `..` or a link would lead out of it.
                let Some(name) = clean(name.as_bytes()).and_then(|name| String::from_utf8(name).ok()) else {
                    return Ok(None);
                };
                let path = dir.join(name);
                let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
                let file = match File::options().read(true).custom_flags(flags.bits().cast_signed()).open(&path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(failed("open", path)(error)),
                };
                let metadata = file.metadata().map_err(failed("look at", &path))?;
                if !metadata.is_file() {
                    return Err(archive_error(format!("{} is not a file", path.display())));
                }
                Ok(Some((Box::new(file), metadata.len())))
            }
            Place::Tar { file, members } => {
                let Some((offset, size)) = resolve(members, name) else { return Ok(None) };
                let file = file.try_clone().map_err(failed("read", "the archive"))?;
                Ok(Some((Box::new(At { file, offset }.take(size)), size)))
            }
        }
    }
}

fn resolve(members: &HashMap<Vec<u8>, Member>, name: &str) -> Option<(u64, u64)> {
    let mut name = clean(name.as_bytes())?;
    for _ in 0..MAX_LINKS {
        match members.get(&name)? {
            Member::Content { offset, size } => return Some((*offset, *size)),
            Member::Link(target) => name = clean(target)?,
        }
    }
    None
}
