//! `coracle cp`: files and directories into a container and out of it.
//!
//! Everything goes as an archive from one side to the other, so that a copy and `-` are one path. The container's side
//! is its root directory as its first process sees it; the kernel holds every look-up inside.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::Args;
use images::tree::{Copied, Destination, Devices, Links, TreeError, What, pack, unpack};
use runtime::container_root::{self, ContainerRoot};
use runtime::task_dir::{self, FindError};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::{Options, require_root};
use crate::{output, ps, target};

const CHUNK_BYTES: usize = 256 << 10;
/// Links that lead to links (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Copy files and directories into a container and out of it
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle cp web:app:/var/log/app.log .\n  sudo coracle cp ./conf/. web:/etc/app\n  sudo coracle cp web:/data - | gzip > data.tar.gz\n  sudo coracle cp - web:/data < data.tar\n\nA directory that exists takes the copy into it; SRC/. copies the content of SRC. `-` is a tar archive on standard input\nor output. Owners, modes, times, links and attributes are kept. It works in images without any program, and a path of\nthe container never leads out of it. A path here with a colon begins with ./ or /."
)]
pub(crate) struct Arguments {
    /// Follow SOURCE where it is a symbolic link.
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// A path here, TASK[:CONTAINER]:/PATH, or `-`.
    source: String,
    /// A path here, TASK[:CONTAINER]:/PATH, or `-`.
    destination: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Side {
    Stream,
    Local(PathBuf),
    /// The task and container as they were written, and a path that begins with `/`.
    Container {
        of: String,
        path: String,
    },
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("cp")?;
    let links = if arguments.follow_link { Links::Follow } else { Links::Keep };
    let copied = match (side(&arguments.source)?, side(&arguments.destination)?) {
        (Side::Local(_) | Side::Stream, Side::Local(_) | Side::Stream) => {
            return Err(Failure::new("neither side is a container's").exit(BAD_INPUT).next(EXAMPLE));
        }
        (Side::Container { of, path }, Side::Container { .. }) => {
            return Err(Failure::new("both sides are a container's")
                .exit(BAD_INPUT)
                .next(format!("coracle cp {of}:{path} - | coracle cp - {}", arguments.destination)));
        }
        (Side::Container { of, path }, to) => out(&open(options, &of)?, &path, links, to)?,
        (from, Side::Container { of, path }) => into(from, links, &open(options, &of)?, &path)?,
    };
    for note in &copied.notes {
        eprintln!("coracle: {note}");
    }
    if io::stderr().is_terminal() {
        eprintln!("copied {} files and directories, {}", copied.entries, output::bytes(copied.bytes));
    }
    Ok(ExitCode::SUCCESS)
}

const EXAMPLE: &str = "coracle cp TASK:CONTAINER:/PATH HERE, or coracle cp HERE TASK:CONTAINER:/PATH";

/// `web:app:/path`, `web:/path` and `family:3:app:/path` are a container's; what begins with `.` or `/` is here.
fn side(text: &str) -> Result<Side, Failure> {
    if text == "-" {
        return Ok(Side::Stream);
    }
    if text.is_empty() {
        return Err(Failure::new("a path is empty").exit(BAD_INPUT).next(EXAMPLE));
    }
    if text.starts_with(['.', '/']) {
        return Ok(Side::Local(text.into()));
    }
    match text.split_once(":/") {
        Some((of, rest)) if !of.is_empty() => Ok(Side::Container { of: of.to_owned(), path: format!("/{rest}") }),
        None if text.contains(':') && !Path::new(text).exists() => {
            Err(Failure::new(format!("{text:?}: a path in a container begins with /")).exit(BAD_INPUT).next(EXAMPLE))
        }
        Some(_) | None => Ok(Side::Local(text.into())),
    }
}

/// A container's root, with a name for messages.
struct Inside {
    root: ContainerRoot,
    name: String,
}

/// `of` is TASK or TASK:CONTAINER; a task may be called FAMILY:REVISION.
fn open(options: &Options, of: &str) -> Result<Inside, Failure> {
    let (task, named) = match of.rsplit_once(':') {
        Some((task, container)) if knows(options, task)? => (task, Some(container)),
        Some(_) | None => (of, None),
    };
    let task = target::running(options, task)?;
    let container = target::container(&task, named, "TASK:CONTAINER:/PATH")?;
    let process = target::process(&task, &container)?;
    let root = container_root::open(process)
        .doing(format!("opening the root of container {container} of task {}", ps::short_id(&task)))?;
    Ok(Inside { root, name: container.to_string() })
}

fn knows(options: &Options, task: &str) -> Result<bool, Failure> {
    match task_dir::find(&options.roots()?, task) {
        Ok(_) | Err(FindError::Ambiguous { .. }) => Ok(true),
        Err(FindError::NotFound { .. }) => Ok(false),
        Err(error @ FindError::List(_)) => Err(error.into()),
    }
}

/// What stands at a path, links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Directory,
    File,
    Nothing,
}

/// From a container to here.
fn out(from: &Inside, path: &str, links: Links, to: Side) -> Result<Copied, Failure> {
    let wanted = Wanted::new(path, links);
    let root = from.root.descriptor();
    let reading = || format!("copying {path} of container {}", from.name);
    if let Side::Local(path) = to {
        let stands = match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Stands::Directory,
            Ok(_) => Stands::File,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Stands::Nothing,
            Err(error) => return Err(error).doing(format!("looking at {}", path.display())),
        };
        // A file over a link here goes where the link leads, as with cp(1).
        let path = if stands == Stands::File { fs::canonicalize(&path).unwrap_or(path) } else { path };
        let follow = if wanted.links == Links::Follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let is_directory = look(from, &wanted.path, follow)? == Stands::Directory;
        let place = wanted.place(stands, is_directory, path.as_os_str().as_bytes())?;
        let into = PathBuf::from(OsStr::from_bytes(&place.directory));
        let into =
            File::options().read(true).custom_flags(DIRECTORY).open(&into).doing(format!("opening {}", into.display()));
        let destination = Destination {
            root: OwnedFd::from(into.next("a directory that exists; parents are not made")?),
            prefix: Vec::new(),
            devices: Devices::LeaveOut,
        };
        let what = What { path: wanted.path.clone(), links: wanted.links, name: place.name };
        return carry(
            |to| pack(root, &what, to).map_err(|error| read_failure(error).doing(reading())),
            |from| unpack(from, destination).map_err(|error| write_failure(error, "this directory")),
        );
    }
    if io::stdout().is_terminal() {
        return Err(Failure::new("an archive is nothing for a terminal")
            .exit(BAD_INPUT)
            .next("coracle cp TASK:CONTAINER:/PATH - > FILE.tar"));
    }
    let what = What { path: wanted.path.clone(), links: wanted.links, name: wanted.base_name() };
    let mut to = BufWriter::with_capacity(CHUNK_BYTES, io::stdout().lock());
    pack(root, &what, &mut to).map_err(|error| read_failure(error).doing(reading()))
}

/// From here into a container.
fn into(from: Side, links: Links, to: &Inside, path: &str) -> Result<Copied, Failure> {
    let writing = |path: &str| format!("copying to {path} of container {}", to.name);
    let path = clean(path);
    let root = || to.root.descriptor().try_clone_to_owned().doing("holding the container's root");
    let destination = |prefix: &[u8]| -> Result<Destination, Failure> {
        let prefix = prefix.strip_prefix(b"/").unwrap_or(prefix).to_vec();
        Ok(Destination { root: root()?, prefix, devices: Devices::Make })
    };
    let failed = |error| write_failure(error, &format!("container {}", to.name)).doing(writing(&path));
    let Side::Local(local) = from else {
        if look(to, path.as_bytes(), OFlags::empty())? != Stands::Directory {
            return Err(Failure::new(format!("container {} has no directory {path}", to.name))
                .next("an archive goes into a directory that exists"));
        }
        if io::stdin().is_terminal() {
            return Err(Failure::new("an archive does not come from a terminal")
                .exit(BAD_INPUT)
                .next(format!("coracle cp - TASK:CONTAINER:{path} < FILE.tar")));
        }
        let mut from = io::stdin().lock();
        return unpack(&mut from, destination(path.as_bytes())?).map_err(failed);
    };
    let absolute = std::path::absolute(&local).doing(format!("{} is no path", local.display()))?;
    // `absolute` drops what says that a link is to be followed, or that the content is meant.
    let text = [absolute.as_os_str().as_bytes(), ending(local.as_os_str().as_bytes())].concat();
    let wanted = Wanted::new(OsStr::from_bytes(&text), links);
    let found = if wanted.links == Links::Follow { fs::metadata(&local) } else { fs::symlink_metadata(&local) };
    let is_directory = found.doing(format!("looking at {}", local.display()))?.is_dir();
    let stands = look(to, path.as_bytes(), OFlags::empty())?;
    let path = if stands == Stands::File { through_links(to, &path)? } else { path.clone() };
    let place = wanted.place(stands, is_directory, path.as_bytes())?;
    if look(to, &place.directory, OFlags::empty())? != Stands::Directory {
        let directory = String::from_utf8_lossy(&place.directory).into_owned();
        return Err(Failure::new(format!("container {} has no directory {directory}", to.name))
            .next("a directory that exists; parents are not made"));
    }
    let destination = destination(&place.directory)?;
    let host = File::options().read(true).custom_flags(DIRECTORY).open("/").doing("opening /")?;
    let what = What { path: wanted.path.clone(), links: wanted.links, name: place.name };
    carry(
        |to| {
            pack(host.as_fd(), &what, to)
                .map_err(|error| read_failure(error).doing(format!("copying {}", local.display())))
        },
        |from| unpack(from, destination).map_err(failed),
    )
}

/// O_DIRECTORY, as the standard library takes it.
const DIRECTORY: i32 = OFlags::DIRECTORY.bits().cast_signed();

/// What is to be copied, out of how it was written.
struct Wanted {
    path: Vec<u8>,
    links: Links,
    /// `DIR/.`: what is in it, without itself.
    content: bool,
}

/// Where the copy goes.
struct Place {
    directory: Vec<u8>,
    /// Empty for content.
    name: Vec<u8>,
}

impl Wanted {
    fn new(path: impl AsRef<OsStr>, links: Links) -> Wanted {
        let path = path.as_ref().as_bytes();
        let ending = ending(path);
        Wanted {
            path: path.to_vec(),
            // A name with a slash behind it means the directory that a link leads to.
            links: if ending.is_empty() { links } else { Links::Follow },
            content: ending == b"/." || path == b"/",
        }
    }

    fn base_name(&self) -> Vec<u8> {
        let path = Path::new(OsStr::from_bytes(&self.path));
        match path.components().next_back() {
            Some(Component::Normal(name)) if !self.content => name.as_bytes().to_vec(),
            _ => Vec::new(),
        }
    }

    /// The rules of `docker cp`: into a directory that exists, over a file, or to a new name.
    fn place(&self, stands: Stands, is_directory: bool, destination: &[u8]) -> Result<Place, Failure> {
        let shown = String::from_utf8_lossy(destination).into_owned();
        let named = || -> Result<Place, Failure> {
            let path = Path::new(OsStr::from_bytes(destination));
            let name = path.file_name().ok_or_else(|| Failure::new(format!("{shown} is no name for a copy")))?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok(Place { directory: parent.as_os_str().as_bytes().to_vec(), name: name.as_bytes().to_vec() })
        };
        match stands {
            Stands::Directory => Ok(Place { directory: destination.to_vec(), name: self.base_name() }),
            Stands::File if is_directory => {
                Err(Failure::new(format!("{shown} is a file, and a directory cannot take its place")))
            }
            Stands::Nothing if !is_directory && destination.ends_with(b"/") => {
                Err(Failure::new(format!("there is no directory {shown}")).next("make it first; parents are not made"))
            }
            Stands::File | Stands::Nothing => named(),
        }
    }
}

/// `/` or `/.` at the end of a path; `.` alone is the content of where we are.
fn ending(path: &[u8]) -> &[u8] {
    if path == b"." {
        return b"/.";
    }
    let kept = if path.ends_with(b"/.") {
        path.len() - 2
    } else if path.ends_with(b"/") {
        path.len() - 1
    } else {
        path.len()
    };
    &path[kept..]
}

/// Without `.`, `..` and doubled slashes, by its letters alone: archives have no `..`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

fn look(inside: &Inside, path: &[u8], flags: OFlags) -> Result<Stands, Failure> {
    match images::inside::open(inside.root.descriptor(), path, OFlags::PATH | flags) {
        Ok(found) => {
            let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(found).map_err(io::Error::from)?.st_mode);
            Ok(if kind == rustix::fs::FileType::Directory { Stands::Directory } else { Stands::File })
        }
        Err(Errno::NOENT) => Ok(Stands::Nothing),
        // A name with a slash behind it, which is a file's.
        Err(Errno::NOTDIR) => Ok(Stands::File),
        Err(error) => {
            let path = String::from_utf8_lossy(path).into_owned();
            Err(io::Error::from(error)).doing(format!("looking at {path} in container {}", inside.name))
        }
    }
}

/// The file that a link to a file leads to, by its path in the container.
fn through_links(inside: &Inside, path: &str) -> Result<String, Failure> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let Ok(found) = images::inside::open(inside.root.descriptor(), path.as_str(), flags) else { break };
        let Ok(target) = rustix::fs::readlinkat(found, "", Vec::new()) else { break };
        let target = target.to_string_lossy().into_owned();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        path = if target.starts_with('/') { clean(&target) } else { clean(&format!("{parent}/{target}")) };
    }
    Ok(path)
}

/// Packs on a thread of its own while this one unpacks.
fn carry(
    pack: impl FnOnce(&mut dyn Write) -> Result<Copied, Failure> + Send,
    unpack: impl FnOnce(&mut dyn Read) -> Result<Copied, Failure>,
) -> Result<Copied, Failure> {
    let (mut reader, writer) = io::pipe().doing("making a pipe")?;
    thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut to = BufWriter::with_capacity(CHUNK_BYTES, writer);
            let packed = pack(&mut to);
            // An archive that was not finished is not: the reader must see where it breaks off.
            if packed.is_err() {
                drop(to.into_parts());
            }
            packed
        });
        let unpacked = unpack(&mut reader);
        drop(reader);
        let packed = packing.join().unwrap_or_else(|_| Err(Failure::new("the reading thread panicked")));
        match (packed, unpacked) {
            // The reader gave up first; its reason is the reason.
            (Err(packing), Err(unpacking)) if packing.chain.iter().any(|text| text.contains(BROKEN_PIPE)) => {
                Err(unpacking)
            }
            (Err(packing), _) => Err(packing),
            (Ok(_), Err(unpacking)) => Err(unpacking),
            (Ok(packed), Ok(mut unpacked)) => {
                unpacked.notes.splice(0..0, packed.notes);
                Ok(unpacked)
            }
        }
    })
}

/// As the standard library tells EPIPE.
const BROKEN_PIPE: &str = "Broken pipe";

fn read_failure(error: TreeError) -> Failure {
    match error.io().map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) => Failure::from(error).next("coracle exec TASK -- ls, where the image has it"),
        _ => Failure::from(error),
    }
}

fn write_failure(error: TreeError, whose: &str) -> Failure {
    match error.io().map(io::Error::kind) {
        Some(io::ErrorKind::ReadOnlyFilesystem) => {
            let next = "a volume or tmpfs of the container; its root is read-only (readonlyRootFilesystem)";
            Failure::from(error).doing(format!("{whose} is read-only there")).next(next)
        }
        _ => Failure::from(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        let container = |of: &str, path: &str| Side::Container { of: of.to_owned(), path: path.to_owned() };
        for (text, expected) in [
            ("web:app:/etc", container("web:app", "/etc")),
            ("web:/", container("web", "/")),
            ("family:3:app:/x:/y", container("family:3:app", "/x:/y")),
            ("-", Side::Stream),
            ("./a:/b", Side::Local("./a:/b".into())),
            ("/a:/b", Side::Local("/a:/b".into())),
            ("name", Side::Local("name".into())),
        ] {
            assert_eq!(side(text).expect(text), expected);
        }
        for bad in ["", "web:app:etc", "web:etc"] {
            assert!(side(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_cleaned_by_their_letters() {
        for (path, expected) in
            [("/", "/"), ("/a//b/./c", "/a/b/c"), ("/a/../../b/", "/b/"), ("/..", "/"), ("/a/.", "/a")]
        {
            assert_eq!(clean(path), expected);
        }
    }

    /// The table of <https://docs.docker.com/reference/cli/docker/container/cp/>, "Description".
    #[test]
    fn a_copy_goes_where_dockers_goes() {
        let place = |source: &str, is_directory, stands, to: &str| {
            let place = Wanted::new(source, Links::Keep).place(stands, is_directory, to.as_bytes()).ok()?;
            Some(
                String::from_utf8(place.directory).expect("text") + "|" + &String::from_utf8(place.name).expect("text"),
            )
        };
        let told = |text: &str| Some(text.to_owned());
        assert_eq!(place("/s/file", false, Stands::Nothing, "/d/new"), told("/d|new"));
        assert_eq!(place("/s/file", false, Stands::Nothing, "/d/new/"), None);
        assert_eq!(place("/s/file", false, Stands::File, "/d/old"), told("/d|old"));
        assert_eq!(place("/s/file", false, Stands::Directory, "/d"), told("/d|file"));
        assert_eq!(place("/s/dir", true, Stands::Nothing, "/d/new"), told("/d|new"));
        assert_eq!(place("/s/dir/.", true, Stands::Nothing, "/d/new/"), told("/d|new"));
        assert_eq!(place("/s/dir", true, Stands::File, "/d/old"), None);
        assert_eq!(place("/s/dir", true, Stands::Directory, "/d"), told("/d|dir"));
        assert_eq!(place("/s/dir/", true, Stands::Directory, "/d"), told("/d|dir"));
        assert_eq!(place("/s/dir/.", true, Stands::Directory, "/d"), told("/d|"));
        assert_eq!(place("/", true, Stands::Directory, "."), told(".|"));
    }
}
