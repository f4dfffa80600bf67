//! The last steps of every process of a container, its first one and those of exec alike: what it may do is taken
//! away in the one order that works, and then the program is executed.
//!
//! The order is runc's: the filter first, while CAP_SYS_ADMIN can still install it without no_new_privs; identity
//! before capabilities, because the kernel clears them when root is left.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::capabilities::Capabilities;
use crate::program::{NotExecuted, Program, pointers};
use crate::security::AtExec;
use crate::{fork, init, process, rlimits, sealed_exe, seccomp};

/// Everything that the last steps need, decided beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Without arguments only for an init that has no child.
    pub program: Program,
    /// Our own sealed binary, where it is to be process 1 and the program its child.
    pub init: Option<Rc<OwnedFd>>,
    pub working_directory: CString,
    pub uid: u32,
    pub gid: u32,
    pub supplementary: Vec<u32>,
    pub capabilities: Capabilities,
    /// None for a privileged container.
    pub filter: Option<Vec<seccomp::Instruction>>,
    pub no_new_privileges: bool,
    pub limits: Vec<rlimits::Limit>,
    /// For the host's security module.
    pub label: Option<AtExec>,
}

/// Why a program did not start, in the words of runc that ECS users know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    #[error(transparent)]
    Program(#[from] NotExecuted),
    #[error("chdir to cwd (\"{directory}\") set in config.json failed: {source}")]
    WorkingDirectory { directory: String, source: io::Error },
    #[error("the working directory \"{directory}\" is outside of the container's root")]
    OutsideRoot { directory: String },
    #[error(transparent)]
    Mount(#[from] crate::mounts::MountError),
    #[error(transparent)]
    Volume(#[from] crate::volumes::VolumeError),
    #[error("cannot {step}: {source}")]
    Step { step: &'static str, source: io::Error },
}

impl EntryError {
    /// What a shell would answer, as Docker does: 127 when there is no such program, 126 when it cannot be executed.
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::Program(error) => error.exit_code,
            Self::WorkingDirectory { .. }
            | Self::OutsideRoot { .. }
            | Self::Mount(_)
            | Self::Volume(_)
            | Self::Step { .. } => 128,
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
        let step = |step| move |source| EntryError::Step { step, source };
        self.limits.iter().try_for_each(|limit| limit.set()).map_err(step("set a resource limit"))?;
        if let Some(label) = &self.label {
            label.write().map_err(step("set the label of dockerSecurityOptions"))?;
        }
        fresh_keyring()?;
        self.close_the_rest(report)?;
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

    /// Nothing but standard input, output and error, the report, and the init if there is one. The report closes at
    /// the program's exec: an init gets it, and closes it then.
    fn close_the_rest(&self, report: BorrowedFd<'_>) -> Result<(), EntryError> {
        let number = |fd: i32| u32::try_from(fd).expect("an open descriptor is not negative");
        let mut kept: Vec<u32> = self.init.iter().map(|init| number(init.as_raw_fd())).collect();
        kept.push(number(report.as_raw_fd()));
        kept.sort_unstable();
        let mut first = 3;
        for kept in kept.into_iter().chain([u32::MAX]) {
            if first < kept {
                // SAFETY: closes descriptors that no object of this process uses any more: it is about to become
                // another program.
                let answer = unsafe { libc::syscall(libc::SYS_close_range, first, kept - 1, 0) };
                check("close what was inherited", i32::from(answer != 0))?;
            }
            first = kept.saturating_add(1);
        }
        let flags = if self.init.is_some() { 0 } else { libc::FD_CLOEXEC };
        // SAFETY: numbers only.
        check("close the report at exec", unsafe { libc::fcntl(report.as_raw_fd(), libc::F_SETFD, flags) })
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
        match &self.init {
            None => Ok(self.program.execute()?),
            Some(init) => Err(EntryError::Step { step: "execute the init process", source: self.run_init(init) }),
        }
    }

    /// Our own binary, by descriptor: there is no file of it in the container.
    fn run_init(&self, init: &OwnedFd) -> io::Error {
        let name = CString::new(init::NAME).expect("a name without a NUL byte");
        let words: Vec<CString> = std::iter::once(name).chain(self.program.arguments.iter().cloned()).collect();
        sealed_exe::execute(init.as_raw_fd(), &pointers(&words), &pointers(&self.program.environment))
    }
}

fn check(step: &'static str, answer: libc::c_int) -> Result<(), EntryError> {
    if answer == 0 { Ok(()) } else { Err(EntryError::Step { step, source: io::Error::last_os_error() }) }
}

/// Every signal at its default and none blocked: an ignored SIGPIPE or a blocked SIGCHLD would be inherited.
pub(crate) fn reset_signals() {
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
