//! A task's file systems, mounted by a child in the supervisor's mount namespace: a name that nobody resolves, or a
//! server that does not answer, holds up the child, while the supervisor serves everybody and kills it in the end.

use std::io::{self, PipeReader, Read, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::{MsFlags, mount};

use super::options;
use crate::fork::{self, Fork, Parent};
use crate::process_identity;

/// For all file systems of a task together.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(30);
/// What is taken of what a mount says about its failure, bytes.
const MAX_WORDS: usize = 4096;
/// What the child says when it has mounted all.
const MOUNTED: &[u8] = b"mounted";
/// Any port: only the address is wanted.
const NO_PORT: u16 = 0;
/// Where mount(8) looks for its helpers.
const HELPER_PLACES: [&str; 4] = ["/sbin", "/usr/sbin", "/usr/local/sbin", "/usr/bin"];

/// The child. Whoever reaps the supervisor's children reaps it too.
#[derive(Debug)]
pub(super) struct Mounter {
    process: OwnedFd,
    report: PipeReader,
    said: Vec<u8>,
    begun: Instant,
    /// For the deadline's words.
    devices: String,
}

impl Mounter {
    /// Mounts all of them, in order.
    pub(super) fn begin(wanted: &[Wanted<'_>]) -> Result<Mounter, String> {
        let (report, writer) = io::pipe().map_err(|error| format!("no pipe: {error}"))?;
        fcntl(&report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| format!("no pipe: {errno}"))?;
        let parent = std::process::id();
        let pid = match fork::fork_into(None, Parent::Caller).map_err(|error| format!("cannot fork: {error}"))? {
            Fork::Child => fork::run_child(parent, || {
                fork::unblock_signals();
                match wanted.iter().try_for_each(Wanted::mount) {
                    Ok(()) => (&writer).write_all(MOUNTED),
                    Err(why) => (&writer).write_all(why.as_bytes()),
                }
            }),
            Fork::Parent { pid } => pid,
        };
        let process = process_identity::open_number(pid).map_err(|error| {
            // Not waited for yet, so the number is still its own.
            fork::kill_child(pid);
            format!("cannot hold the process that mounts: {error}")
        })?;
        let devices: Vec<String> = wanted.iter().map(Wanted::shown).collect();
        Ok(Mounter { process, report, said: Vec::new(), begun: Instant::now(), devices: devices.join(", ") })
    }

    /// Readable when `advance` may know more.
    pub(super) fn interest(&self) -> RawFd {
        self.report.as_raw_fd()
    }

    /// How long `advance` may still answer nothing.
    pub(super) fn left(&self) -> Duration {
        MOUNT_TIMEOUT.saturating_sub(self.begun.elapsed())
    }

    /// Nothing while the child is at work.
    pub(super) fn advance(&mut self) -> Option<Result<(), String>> {
        let mut buffer = [0_u8; MAX_WORDS];
        loop {
            match self.report.read(&mut buffer) {
                Ok(0) => return Some(self.outcome()),
                Ok(count) if self.said.len() < MAX_WORDS => self.said.extend_from_slice(&buffer[..count]),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Some(Err(format!("cannot hear of the mounts: {error}"))),
            }
        }
        self.left().is_zero().then(|| {
            let seconds = MOUNT_TIMEOUT.as_secs();
            Err(format!("failed to mount {}: no answer within {seconds} s", self.devices))
        })
    }

    fn outcome(&self) -> Result<(), String> {
        match self.said.as_slice() {
            MOUNTED => Ok(()),
            [] => Err(format!("failed to mount {}: the process that mounts was killed", self.devices)),
            said => Err(String::from_utf8_lossy(said).into_owned()),
        }
    }
}

impl Drop for Mounter {
    fn drop(&mut self) {
        // It has ended, or is of no use any more.
        let _ = process_identity::signal(self.process.as_fd(), libc::SIGKILL);
    }
}

/// A file system to be mounted.
pub(super) struct Wanted<'a> {
    /// The volume's name.
    pub(super) volume: &'a str,
    pub(super) file_system: &'a str,
    pub(super) device: &'a str,
    pub(super) options: &'a str,
    pub(super) place: &'a Path,
}

impl Wanted<'_> {
    /// Without the options, which may hold a password.
    fn shown(&self) -> String {
        format!("{} of type {}", self.device, self.file_system)
    }

    fn mount(&self) -> Result<(), String> {
        let why = |why: String| format!("volume {}: failed to mount {}: {why}", self.volume, self.shown());
        self.mount_plainly().map_err(why)
    }

    fn mount_plainly(&self) -> Result<(), String> {
        if let Some(helper) = helper(self.file_system) {
            return self.mount_with(&helper);
        }
        let options = options::parse(self.options);
        if options.flags.contains(MsFlags::MS_BIND) {
            return self.bind(options.flags);
        }
        let data = match self.file_system {
            "nfs" | "nfs4" => with_address(&options.data, "addr", host_of_nfs(self.device))?,
            "cifs" | "smb3" if options::value(&options.data, "addr").is_some() => {
                with_address(&options.data, "addr", None)?
            }
            "cifs" | "smb3" => with_address(&options.data, "ip", host_of_share(self.device))?,
            _ => options.data,
        };
        let (device, kind) = (Some(self.device), Some(self.file_system));
        mount(device, self.place, kind, options.flags, Some(data.as_str())).map_err(|errno| self.explain(errno))
    }

    fn explain(&self, errno: Errno) -> String {
        let kind = self.file_system;
        match errno {
            Errno::ENODEV => format!("this host's kernel has no file system {kind} (modprobe {kind})"),
            Errno::EINVAL => format!("the kernel does not take these options for {kind} (EINVAL)"),
            errno => errno.to_string(),
        }
    }

    fn bind(&self, flags: MsFlags) -> Result<(), String> {
        let failed = |errno: Errno| errno.to_string();
        let only = flags & (MsFlags::MS_BIND | MsFlags::MS_REC);
        mount(Some(self.device), self.place, None::<&str>, only, None::<&str>).map_err(failed)?;
        let more = flags & !(MsFlags::MS_BIND | MsFlags::MS_REC);
        if more.is_empty() {
            return Ok(());
        }
        // The kernel takes no other flag in the first step.
        let flags = more | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        mount(None::<&str>, self.place, None::<&str>, flags, None::<&str>).map_err(failed)
    }

    fn mount_with(&self, helper: &Path) -> Result<(), String> {
        let mut command = Command::new(helper);
        command.arg(self.device).arg(self.place).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        if !self.options.is_empty() {
            command.args(["-o", self.options]);
        }
        let said = command.stdout(Stdio::null()).stderr(Stdio::piped()).output();
        let said = said.map_err(|error| format!("cannot execute {}: {error}", helper.display()))?;
        if said.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&said.stderr);
        Err(format!("{}: {}, {}", helper.display(), said.status, words.trim()))
    }
}

/// Only EFS is mounted by a helper: it is no file system of the kernel's.
fn helper(file_system: &str) -> Option<PathBuf> {
    if file_system != "efs" {
        return None;
    }
    Some(find_helper("mount.efs").unwrap_or_else(|| Path::new(HELPER_PLACES[0]).join("mount.efs")))
}

/// The executable of a mount helper of this host.
pub fn find_helper(name: &str) -> Option<PathBuf> {
    HELPER_PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file())
}

/// The kernel wants an address. `host` is whose, if the options do not say.
fn with_address(data: &str, word: &str, host: Option<&str>) -> Result<String, String> {
    match (options::value(data, word), host) {
        (Some(given), _) => {
            let address = resolve(given)?;
            let replaced = data.split(',').map(|one| match one.strip_prefix(word) {
                Some(rest) if rest.starts_with('=') => format!("{word}={address}"),
                Some(_) | None => one.to_owned(),
            });
            Ok(replaced.collect::<Vec<_>>().join(","))
        }
        (None, Some(host)) => {
            let comma = if data.is_empty() { "" } else { "," };
            Ok(format!("{data}{comma}{word}={}", resolve(host)?))
        }
        (None, None) => Err(format!("no server: give {word}=ADDRESS among the options")),
    }
}

/// `server:/path`.
fn host_of_nfs(device: &str) -> Option<&str> {
    let (host, _) = device.split_once(":/")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then_some(host)
}

/// `//server/share`.
fn host_of_share(device: &str) -> Option<&str> {
    device.strip_prefix("//")?.split('/').next().filter(|host| !host.is_empty())
}

/// IPv4 where there is a choice: NFS has other words for the rest.
fn resolve(name: &str) -> Result<IpAddr, String> {
    let failed = |why: String| format!("error resolving passed in network volume address {name}: {why}");
    let found: Vec<IpAddr> = (name, NO_PORT)
        .to_socket_addrs()
        .map_err(|error| failed(error.to_string()))?
        .map(|address| address.ip())
        .collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| failed("it has no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gets_an_address_for_the_server() {
        let shown = |data: &str, host| with_address(data, "addr", host);
        assert_eq!(shown("vers=4.1,addr=127.0.0.1,hard", None).unwrap(), "vers=4.1,addr=127.0.0.1,hard");
        assert_eq!(shown("clientaddr=1.2.3.4", Some("10.0.0.9")).unwrap(), "clientaddr=1.2.3.4,addr=10.0.0.9");
        assert_eq!(shown("", Some("::1")).unwrap(), "addr=::1");
        assert!(shown("hard", None).unwrap_err().contains("addr=ADDRESS"));
    }

    #[test]
    fn servers_are_in_the_devices_names() {
        assert_eq!(host_of_nfs("files.lan:/export"), Some("files.lan"));
        assert_eq!(host_of_nfs("[fe80::1]:/export"), Some("fe80::1"));
        assert_eq!(host_of_nfs(":/export"), None);
        assert_eq!(host_of_share("//files.lan/share"), Some("files.lan"));
        assert_eq!(host_of_share("share"), None);
    }
}
