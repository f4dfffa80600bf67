//! The last steps of every process of a container, its first one and those of exec alike: what it may do is taken
//! away in the one order that works, and then the program is executed.
//!
//! The order is runc's: the filter first, while CAP_SYS_ADMIN can still install it without no_new_privs; identity
//! before capabilities, because the kernel clears them when root is left.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::capabilities::Capabilities;
use crate::fork;
use crate::process;
use crate::seccomp;

/// Everything that the last steps need, decided beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    /// Where to look for a program without a slash, as `PATH` has it.
    pub path: String,
    pub working_directory: CString,
    pub uid: u32,
    pub gid: u32,
    pub supplementary: Vec<u32>,
    pub capabilities: Capabilities,
    /// None for a privileged container.
    pub filter: Option<Vec<seccomp::Instruction>>,
    pub no_new_privileges: bool,
    /// Resource, soft limit, hard limit (getrlimit(2)).
    pub limits: Vec<(u32, u64, u64)>,
}

/// Why a program did not start, in the words of runc that ECS users know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("exec: \"{program}\": {why}")]
    Program { program: String, why: String, exit_code: i32 },
    #[error("chdir to cwd (\"{directory}\") set in config.json failed: {source}")]
    WorkingDirectory { directory: String, source: io::Error },
    #[error("the working directory \"{directory}\" is outside of the container's root")]
    OutsideRoot { directory: String },
    #[error(transparent)]
    Mount(#[from] crate::mounts::MountError),
    #[error("cannot {step}: {source}")]
    Step { step: &'static str, source: io::Error },
}

impl EntryError {
    /// What a shell would answer, as Docker does: 127 when there is no such program, 126 when it cannot be executed.
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::Program { exit_code, .. } => *exit_code,
            Self::WorkingDirectory { .. } | Self::OutsideRoot { .. } | Self::Mount(_) | Self::Step { .. } => 128,
        }
    }
}

impl Entry {
    /// C strings out of a process's words.
    ///
    /// # Errors
    /// One holds a NUL byte.
    pub(crate) fn words(words: &[String]) -> Result<Vec<CString>, NulError> {
        words.iter().map(|word| CString::new(word.as_str())).collect()
    }

    /// Becomes the program. `report` is kept open until then, and closed by it.
    ///
    /// # Errors
    /// Only comes back when a step failed. The process is then half changed and can only end.
    pub(crate) fn execute(&self, report: BorrowedFd<'_>) -> Result<std::convert::Infallible, EntryError> {
        reset_signals();
        for &(resource, soft, hard) in &self.limits {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            // SAFETY: the limit outlives the call. The resource's type differs between C libraries.
            check("set a resource limit", unsafe { libc::setrlimit(resource as _, &raw const limit) })?;
        }
        fresh_keyring()?;
        close_all_but(report)?;
        self.enter_working_directory()?;
        // SAFETY: pointer and length are of one slice.
        check("set the supplementary groups", unsafe {
            libc::setgroups(self.supplementary.len(), self.supplementary.as_ptr())
        })?;
        if self.no_new_privileges {
            // SAFETY: numbers only.
            check("set no_new_privs", unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
        }
        if let Some(filter) = &self.filter {
            seccomp::install(filter)
                .map_err(|source| EntryError::Step { step: "install the seccomp filter", source })?;
        }
        self.drop_privileges()?;
        self.run_program()
    }

    fn enter_working_directory(&self) -> Result<(), EntryError> {
        let directory = || self.working_directory.to_string_lossy().into_owned();
        // SAFETY: a C string that outlives the call.
        if unsafe { libc::chdir(self.working_directory.as_ptr()) } != 0 {
            return Err(EntryError::WorkingDirectory { directory: directory(), source: io::Error::last_os_error() });
        }
        // A directory outside of the root has no path in it (CVE-2024-21626).
        match std::env::current_dir() {
            Ok(path) if path.is_absolute() => Ok(()),
            Ok(_) | Err(_) => Err(EntryError::OutsideRoot { directory: directory() }),
        }
    }

    fn drop_privileges(&self) -> Result<(), EntryError> {
        for capability in 0..64 {
            if self.capabilities.bits & (1 << capability) == 0 {
                // SAFETY: numbers only.
                let answer = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
                // EINVAL: the kernel has no capability of this number, nor of a higher one.
                if answer != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
                    break;
                }
                check("shrink the capability bounding set", answer)?;
            }
        }
        // SAFETY: numbers only, for this and the next two. The raw calls change this one thread, and there is no other.
        check("clear the ambient capabilities", unsafe {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        })?;
        // SAFETY: as above.
        let answer = unsafe { libc::syscall(libc::SYS_setresgid, self.gid, self.gid, self.gid) };
        check("set the group", i32::from(answer != 0))?;
        // SAFETY: as above.
        let answer = unsafe { libc::syscall(libc::SYS_setresuid, self.uid, self.uid, self.uid) };
        check("set the user", i32::from(answer != 0))?;
        // Whoever is not root has lost all with setresuid, and gains none at exec: what is bounded is for setuid programs.
        let granted = if self.uid == 0 { self.capabilities.bits } else { 0 };
        set_capabilities(granted)
    }

    fn run_program(&self) -> Result<std::convert::Infallible, EntryError> {
        // A launcher that dies takes an unfinished process with it; a program's life is its own.
        // SAFETY: numbers only.
        check("clear the parent-death signal", unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) })?;
        let program = self.arguments[0].to_string_lossy().into_owned();
        let mut pointers: Vec<*const libc::c_char> = self.arguments.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let mut environment: Vec<*const libc::c_char> = self.environment.iter().map(|word| word.as_ptr()).collect();
        environment.push(std::ptr::null());
        let mut denied = false;
        for candidate in self.candidates() {
            // SAFETY: both arrays end in a null pointer, and everything in them outlives the call.
            unsafe { libc::execve(candidate.as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
            match io::Error::last_os_error() {
                error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                    if program.contains('/') {
                        // A missing interpreter gives the same errno as a missing file.
                        return Err(EntryError::Program {
                            why: format!("stat {program}: no such file or directory"),
                            program,
                            exit_code: 127,
                        });
                    }
                }
                error if error.raw_os_error() == Some(libc::EACCES) => denied = true,
                error => {
                    return Err(EntryError::Program { program, why: describe(&error), exit_code: 126 });
                }
            }
        }
        let (why, exit_code) = match denied {
            true => ("permission denied", 126),
            false => ("executable file not found in $PATH", 127),
        };
        Err(EntryError::Program { program, why: why.to_owned(), exit_code })
    }

    fn candidates(&self) -> Vec<CString> {
        let program = &self.arguments[0];
        if program.as_bytes().contains(&b'/') {
            return vec![program.clone()];
        }
        if program.is_empty() {
            return Vec::new();
        }
        let join = |directory: &str| {
            let directory = if directory.is_empty() { "." } else { directory };
            let mut path = directory.as_bytes().to_vec();
            path.push(b'/');
            path.extend_from_slice(program.as_bytes());
            CString::new(path).ok()
        };
        self.path.split(':').filter_map(join).collect()
    }
}

fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => "exec format error".to_owned(),
        Some(libc::EISDIR) => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn check(step: &'static str, answer: libc::c_int) -> Result<(), EntryError> {
    if answer == 0 { Ok(()) } else { Err(EntryError::Step { step, source: io::Error::last_os_error() }) }
}

/// Every signal at its default and none blocked: an ignored SIGPIPE or a blocked SIGCHLD would be inherited.
fn reset_signals() {
    const LAST_SIGNAL: libc::c_int = 64;
    for number in 1..=LAST_SIGNAL {
        // SAFETY: SIG_DFL is always a valid disposition; SIGKILL, SIGSTOP and the C library's own answer EINVAL.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    fork::unblock_signals();
}

/// Without it a process has the session keyring of whoever started coracle.
fn fresh_keyring() -> Result<(), EntryError> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for a new, anonymous keyring.
    let answer =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    if answer >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // A kernel without keys has none to share.
        error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        source => Err(EntryError::Step { step: "join a fresh session keyring", source }),
    }
}

/// Nothing but standard input, output and error, and the report, which closes at exec.
fn close_all_but(report: BorrowedFd<'_>) -> Result<(), EntryError> {
    let keep = u32::try_from(report.as_raw_fd()).expect("an open descriptor is not negative");
    // SAFETY: closes descriptors that no object of this process uses any more: it is about to become another program.
    let close = |first: u32, last: u32| unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    let mut answer = close(keep + 1, u32::MAX);
    if keep > 3 {
        answer |= close(3, keep - 1);
    }
    check("close what was inherited", i32::from(answer != 0))?;
    // SAFETY: numbers only.
    check("close the report at exec", unsafe { libc::fcntl(report.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Effective and permitted; inheritable stays empty (CVE-2022-29162).
fn set_capabilities(granted: u64) -> Result<(), EntryError> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = CapabilityHeader { version: VERSION_3, pid: 0 };
    let mut held = [0_u32, 1].map(|_| CapabilityData { effective: 0, permitted: 0, inheritable: 0 });
    // SAFETY: version 3 reads and writes two elements, which both outlive the call.
    let answer = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, held.as_mut_ptr()) };
    check("read the capabilities", i32::from(answer != 0))?;
    // A host may hold some back from us (a container, a hardened service): those cannot be given on.
    for (half, shift) in held.iter_mut().zip([0, 32]) {
        let wanted = u32::try_from((granted >> shift) & u64::from(u32::MAX)).expect("masked to 32 bits");
        half.permitted &= wanted;
        half.effective = half.permitted;
        half.inheritable = 0;
    }
    // SAFETY: as above; the kernel only reads here.
    let answer = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, held.as_ptr()) };
    check("set the capabilities", i32::from(answer != 0))
}

/// Adds `HOME` where nobody has set it.
pub(crate) fn add_home(environment: &mut Vec<String>, home: &str) {
    if process::get(environment, "HOME").is_none_or(str::is_empty) {
        process::set(environment, format!("HOME={home}"));
    }
}
