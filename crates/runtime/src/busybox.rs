//! The tools that `coracle exec --debug` brings: a busybox of the host's or of an image. It has a licence of its own
//! (GPL), so it is never part of our binary; nothing of it is executed here, its file only read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use agent_protocol::command::DebugTools;

/// Where distributions put a static one.
pub const PLACES: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// The largest file that is looked at, bytes: some ten times a full build.
const MAX_FILE_BYTES: u64 = 32 << 20;
/// More than busybox has.
const MAX_APPLETS: usize = 1_024;
const MAX_APPLET_NAME_BYTES: usize = 32;
/// Fewer names in order are a coincidence.
const MIN_APPLETS: usize = 8;
/// More than any linker makes.
const MAX_PROGRAM_HEADERS: u16 = 128;

#[derive(Debug, thiserror::Error)]
pub enum BusyboxError {
    #[error("{path}: {reason}")]
    Unusable { path: PathBuf, reason: &'static str },
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Looks at the busybox at `path`: whether it runs in a container that has nothing else, and what it can do.
///
/// # Errors
/// There is no such file (`Io` with `NotFound`), or it is no static busybox of this machine's architecture.
pub fn look(path: &Path) -> Result<DebugTools, BusyboxError> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
    read.map_err(|source| BusyboxError::Io { action: "read", path: path.to_owned(), source })?;
    let applets = applets(&bytes);
    if !applets.iter().any(|name| name == "sh") {
        return Err(BusyboxError::Unusable { path: path.to_owned(), reason: "it is no busybox with a shell" });
    }
    Ok(DebugTools { busybox: path.to_owned(), applets })
}

/// The file, if it is a static program of this machine's architecture.
///
/// # Errors
/// As for `look`.
pub(crate) fn open(path: &Path) -> Result<File, BusyboxError> {
    let io = |action| move |source| BusyboxError::Io { action, path: path.to_owned(), source };
    let unusable = |reason| BusyboxError::Unusable { path: path.to_owned(), reason };
    let metadata = std::fs::metadata(path).map_err(io("look at"))?;
    // Before it is opened: a FIFO would keep us waiting.
    if !metadata.is_file() {
        return Err(unusable("it is not a file"));
    }
    if metadata.size() > MAX_FILE_BYTES || metadata.mode() & 0o111 == 0 {
        return Err(unusable("it is no program, or far too large for a busybox"));
    }
    let file = File::open(path).map_err(io("open"))?;
    match check_static(&file).map_err(io("read"))? {
        None => Ok(file),
        Some(reason) => Err(unusable(reason)),
    }
}

/// The path under which exactly this open file can be mounted.
pub(crate) fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Names that are no paths, and not too many: they come over a socket.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check_names(applets: &[String]) -> Result<(), String> {
    if applets.len() > MAX_APPLETS {
        return Err(format!("busybox has at most {MAX_APPLETS} names, not {}", applets.len()));
    }
    match applets.iter().find(|name| !is_name(name.as_bytes())) {
        Some(name) => Err(format!("{name:?} is no name of a busybox tool")),
        None => Ok(()),
    }
}

/// Why an ELF file would not run alone in a container of this machine; elf(5).
fn check_static(file: &File) -> io::Result<Option<&'static str>> {
    const CLASS_64_LITTLE_ENDIAN: [u8; 2] = [2, 1];
    const PROGRAM_HEADER_BYTES: u16 = 56;
    const PT_INTERP: u32 = 3;
    const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    const NO_PROGRAM: &str = "it is no ELF program of this machine's architecture";
    let mut header = [0; 64];
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(NO_PROGRAM)),
        answer => answer?,
    }
    let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    if header[..4] != *b"\x7fELF" || header[4..6] != CLASS_64_LITTLE_ENDIAN || u16_at(18) != MACHINE {
        return Ok(Some(NO_PROGRAM));
    }
    let table = u64::from_le_bytes(header[32..40].try_into().expect("eight bytes"));
    let (size, count) = (u16_at(54), u16_at(56));
    if size != PROGRAM_HEADER_BYTES || count == 0 || count > MAX_PROGRAM_HEADERS {
        return Ok(Some(NO_PROGRAM));
    }
    for number in 0..u64::from(count) {
        let mut kind = [0; 4];
        let place = table.saturating_add(number * u64::from(size));
        match file.read_exact_at(&mut kind, place) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(NO_PROGRAM)),
            answer => answer?,
        }
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Ok(Some("it is linked dynamically, and a container may not have its libraries"));
        }
    }
    Ok(None)
}

/// The names of a busybox's tools. They are one table of C strings in alphabetical order (busybox,
/// `include/applet_tables.h`): the longest such run in the file.
fn applets(bytes: &[u8]) -> Vec<String> {
    let (mut longest, mut run): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for word in bytes.split(|byte| *byte == 0).chain([&b""[..]]) {
        if is_name(word) && run.last().is_none_or(|last| *last < word) && run.len() < MAX_APPLETS {
            run.push(word);
            continue;
        }
        if run.len() > longest.len() {
            longest.clone_from(&run);
        }
        run.clear();
        if is_name(word) {
            run.push(word);
        }
    }
    if longest.len() < MIN_APPLETS {
        return Vec::new();
    }
    longest.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

fn is_name(word: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"[._-+".contains(byte);
    (1..=MAX_APPLET_NAME_BYTES).contains(&word.len()) && word.iter().all(plain) && word != b"." && word != b".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_tools_is_found_among_other_strings() {
        let file = b"\x7fELF\0zz\0usage: x\0\0[\0[[\0ar\0ash\0cat\0ls\0ps\0sh\0zcat\0\x01\x02\0a\0b\0";
        assert_eq!(applets(file), ["[", "[[", "ar", "ash", "cat", "ls", "ps", "sh", "zcat"]);
        assert_eq!(applets(b"a\0b\0c\0"), [""; 0], "a coincidence");
        assert_eq!(applets(b""), [""; 0]);
    }

    #[test]
    fn names_from_a_socket_are_no_paths() {
        let check = |name: &str| check_names(&[name.to_owned()]);
        assert_eq!(["ls", "[[", "run-parts"].map(|name| check(name).is_ok()), [true; 3]);
        assert_eq!(["", ".", "..", "a/b", "/ls", "a b", "x\0"].map(|name| check(name).is_ok()), [false; 7]);
        assert!(check_names(&vec!["a".to_owned(); MAX_APPLETS + 1]).is_err());
    }

    /// An ELF file with one program header, as elf(5) has it.
    fn elf(machine: u8, kind: u8) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (file[16], file[18], file[32], file[54], file[56]) = (2, machine, 64, 56, 1);
        file[64] = kind;
        file
    }

    #[test]
    fn a_program_that_needs_a_library_or_another_machine_is_refused() {
        const LOAD: u8 = 1;
        const INTERPRETER: u8 = 3;
        let (here, elsewhere) = if cfg!(target_arch = "aarch64") { (183, 62) } else { (62, 183) };
        let path = std::env::temp_dir().join(format!("coracle-elf-{}", std::process::id()));
        let checked = |content: &[u8]| {
            std::fs::write(&path, content).expect("a file of this test's own");
            check_static(&File::open(&path).expect("just written")).expect("it can be read")
        };
        assert_eq!(checked(&elf(here, LOAD)), None);
        assert!(checked(&elf(here, INTERPRETER)).is_some_and(|reason| reason.contains("dynamically")));
        assert!(checked(&elf(elsewhere, LOAD)).is_some_and(|reason| reason.contains("architecture")));
        for cut in [0, 63, 64] {
            assert!(checked(&elf(here, LOAD)[..cut]).is_some_and(|reason| reason.contains("no ELF")), "{cut} bytes");
        }
        std::fs::remove_file(&path).expect("just written");
    }

    #[test]
    fn what_is_no_static_program_is_refused_with_its_reason() {
        let refused = |path: &str| look(Path::new(path)).expect_err(path).to_string();
        assert!(refused("/dev/null").contains("not a file"));
        assert!(refused("/etc/passwd").contains("no program"));
        assert!(refused("/nowhere").contains("cannot look at"));
        // This test is static itself, and no busybox.
        let own = std::env::current_exe().expect("it runs");
        match std::fs::metadata(&own).expect("it is there").len() > MAX_FILE_BYTES {
            true => assert!(refused(&own.display().to_string()).contains("too large")),
            false => assert!(refused(&own.display().to_string()).contains("no busybox")),
        }
    }
}
