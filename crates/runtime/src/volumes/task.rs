//! A task's volumes and its storage, made before its first container and gone after its last.
//!
//! What has to be mounted is mounted in the supervisor's mount namespace, which it takes for itself only then: the host
//! never sees it, containers get it from there, and it goes with them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_protocol::task_spec::VolumeSource;
use agent_protocol::{ProcessIdentity, TaskSpec};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::options;
use super::plan::volume_directory;
use crate::fork::{self, Fork, Parent};
use crate::launch::chain;
use crate::namespaces::leave_mounts_of_host;
use crate::process_identity;
use crate::storage::{self, Storage};
use crate::task_dir::CONTAINERS_NAME;

/// For all file systems of a task together: the supervisor serves nobody meanwhile.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a mount that was given up may take to die.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// What is taken of what a mount says about its failure, bytes.
const MAX_WORDS: u64 = 4096;
/// Any port: only the address is wanted.
const NO_PORT: u16 = 0;
/// Where mount(8) looks for its helpers.
const HELPER_PLACES: [&str; 4] = ["/sbin", "/usr/sbin", "/usr/local/sbin", "/usr/bin"];
const GIB: u64 = 1 << 30;

/// What was made for a task's volumes, to be taken away with `release`.
#[derive(Debug, Default)]
pub(crate) struct TaskVolumes {
    storage: Option<Storage>,
    mounted: Vec<PathBuf>,
    /// Left by mount helpers: an encrypting proxy, say.
    daemons: Vec<ProcessIdentity>,
}

impl TaskVolumes {
    /// Makes everything; called once. What was made stays for `release` when a later step fails.
    ///
    /// # Errors
    /// In ECS's words: `CannotCreateVolumeError: …` or `ResourceInitializationError: …`.
    pub(crate) fn prepare(&mut self, task: &TaskSpec) -> Result<(), String> {
        let is_mount = |source: &VolumeSource| matches!(source, VolumeSource::Mount { .. });
        if task.ephemeral_storage_gib.is_some() || task.volumes.iter().any(|volume| is_mount(&volume.source)) {
            leave_mounts_of_host()
                .map_err(|error| format!("ResourceInitializationError: no mounts of the task's own: {error}"))?;
        }
        if let Some(gib) = task.ephemeral_storage_gib {
            let place = task.places.state.join(CONTAINERS_NAME);
            let storage = storage::mount_new(&place, gib.saturating_mul(GIB));
            self.storage = Some(storage.map_err(|error| {
                format!("ResourceInitializationError: no ephemeral storage of {gib} GiB: {}", chain(&error))
            })?);
        }
        let deadline = Instant::now() + MOUNT_TIMEOUT;
        for (index, volume) in task.volumes.iter().enumerate() {
            let place = volume_directory(task, index);
            self.make(&volume.source, &place, deadline)
                .map_err(|why| format!("CannotCreateVolumeError: volume {}: {why}", volume.name))?;
        }
        Ok(())
    }

    fn make(&mut self, source: &VolumeSource, place: &Path, deadline: Instant) -> Result<(), String> {
        match source {
            VolumeSource::Host { path } => match fs::metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => make_directory(path),
                Err(error) => Err(format!("cannot look at {}: {error}", path.display())),
                Ok(_) => Ok(()),
            },
            VolumeSource::Scratch => make_directory(place),
            VolumeSource::Shared { path } => {
                fs::metadata(path).map(drop).map_err(|error| format!("cannot look at {}: {error}", path.display()))
            }
            VolumeSource::Mount { file_system, device, options } => {
                make_directory(place)?;
                let before = children();
                let wanted = Wanted { file_system, device, options, place };
                wanted.mount_by(deadline)?;
                self.mounted.push(place.to_owned());
                // No container runs yet, so whoever has become our child was left by the helper.
                let left = children().into_iter().filter(|pid| !before.contains(pid));
                self.daemons.extend(left.filter_map(|pid| process_identity::of(pid).ok()));
                Ok(())
            }
        }
    }

    /// Takes everything away, the last thing first. Carries on after an error.
    pub(crate) fn release(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        for place in std::mem::take(&mut self.mounted).iter().rev() {
            // A server that does not answer holds up neither this nor the rest.
            if let Err(errno) = umount2(place, MntFlags::MNT_DETACH) {
                errors.push(format!("cannot unmount {}: {errno}", place.display()));
            }
        }
        for daemon in std::mem::take(&mut self.daemons) {
            match process_identity::open(&daemon) {
                Ok(Some(pidfd)) => {
                    if let Err(error) = process_identity::signal(pidfd.as_fd(), libc::SIGKILL) {
                        errors.push(format!("cannot end a mount helper's process {}: {error}", daemon.pid));
                    }
                }
                Ok(None) => {}
                Err(error) => errors.push(format!("cannot hold a mount helper's process {}: {error}", daemon.pid)),
            }
        }
        if let Some(Err(error)) = self.storage.take().map(Storage::release) {
            errors.push(chain(&error));
        }
        errors
    }
}

fn make_directory(path: &Path) -> Result<(), String> {
    super::make_directory(path).map_err(|error| chain(&error))
}

/// A file system to be mounted.
struct Wanted<'a> {
    file_system: &'a str,
    device: &'a str,
    options: &'a str,
    place: &'a Path,
}

impl Wanted<'_> {
    /// In a child: a name that nobody resolves or a server that does not answer costs no more than the time.
    fn mount_by(&self, deadline: Instant) -> Result<(), String> {
        let (mut reader, writer) = io::pipe().map_err(|error| format!("no pipe: {error}"))?;
        let parent = std::process::id();
        let pid = match fork::fork_into(None, Parent::Caller).map_err(|error| format!("cannot fork: {error}"))? {
            Fork::Child => fork::run_child(parent, || {
                fork::unblock_signals();
                self.mount().or_else(|why| {
                    (&writer).write_all(why.as_bytes())?;
                    Err(io::Error::other(why))
                })
            }),
            Fork::Parent { pid } => pid,
        };
        drop(writer);
        let pidfd = process_identity::open_number(pid).map_err(|error| format!("cannot hold the mount: {error}"))?;
        if !ends_by(pidfd.as_fd(), deadline) {
            fork::kill_child(pid);
            // One that cannot be killed is reaped when it can.
            if ends_by(pidfd.as_fd(), Instant::now() + KILL_TIMEOUT) {
                fork::reap_child(pid);
            }
            let seconds = MOUNT_TIMEOUT.as_secs();
            return Err(format!("{} did not answer within {seconds} s", self.shown()));
        }
        if fork::reap_child(pid) == Some(0) {
            return Ok(());
        }
        let mut why = Vec::new();
        // What it said, if it came to that.
        Read::take(&mut reader, MAX_WORDS).read_to_end(&mut why).ok();
        let why = String::from_utf8_lossy(&why).into_owned();
        let why = if why.is_empty() { "the process that mounts it was killed".to_owned() } else { why };
        Err(format!("failed to mount {}: {why}", self.shown()))
    }

    /// Without the options, which may hold a password.
    fn shown(&self) -> String {
        format!("{} of type {}", self.device, self.file_system)
    }

    fn mount(&self) -> Result<(), String> {
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

/// Whether a child has ended by then.
fn ends_by(pidfd: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], timeout) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// The caller has one thread, so all children are its.
fn children() -> Vec<i32> {
    let mut list = String::new();
    let path = format!("/proc/self/task/{}/children", std::process::id());
    // A kernel without CONFIG_PROC_CHILDREN tells of none.
    File::open(path).and_then(|mut file| file.read_to_string(&mut list)).ok();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
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
