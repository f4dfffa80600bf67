//! One fault at one system call of a running process, put there from outside by ptrace(2): the program has nothing of it,
//! so that what is tested is what is shipped. The point is known by what the call does, not by its number: "the rename
//! of assignment.json, after the request was read".
//!
//! Only the process itself is traced; what it forks goes its own way.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const OPTIONS: libc::c_int = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACESYSGOOD;
/// What PTRACE_O_TRACESYSGOOD adds to SIGTRAP.
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
const PTRACE_GET_SYSCALL_INFO: libc::c_int = 0x420e;
/// Of a text in the process's memory, as much as words are looked for in.
const LOOKED_AT: usize = 16 << 10;
/// A thread that is held: the others have that long to come to harm.
const STALL: Duration = Duration::from_millis(300);
/// While one is held the others are looked after this often.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write,
    Sync,
    Open,
    Rename,
    MakeDirectory,
    Remove,
    Fork,
}

/// The first call after what came before that has all these words in its path, in its file's, or in what it reads or writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight(pub(crate) Call, pub(crate) &'static [&'static str]);

/// Before the call has done anything, or when it has and nobody knows yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) name: &'static str,
    /// In this order; the last is where the fault is.
    pub(crate) way: &'static [Sight],
    pub(crate) side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    /// EIO. Before: nothing was done; after: it was, and nobody is told.
    Error,
    Stall,
}

/// Does `work` while the process waits for its fault, and tells it when that has happened; whether it came to that. Nobody may wait for the process meanwhile.
/// A process that does not get there by the end of the work is killed.
pub(crate) fn during<T>(process: i32, point: &Point, fault: Fault, work: impl FnOnce(&AtomicBool) -> T) -> (T, bool) {
    let happened = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let (ready, seized) = mpsc::channel();
        // Whoever traces must be one thread; what it traced goes on when that thread ends.
        let struck = &happened;
        let tracer = scope.spawn(move || {
            let mut tracer = Tracer::seize(process, point, fault, struck);
            ready.send(()).expect("somebody waits for it");
            tracer.trace();
        });
        seized.recv().expect("the process can be traced");
        let outcome = work(&happened);
        if !happened.load(Ordering::SeqCst) && !tracer.is_finished() {
            super::process::kill(process);
        }
        outcome
    });
    (outcome, happened.load(Ordering::SeqCst))
}

struct Tracer<'a> {
    process: i32,
    point: &'a Point,
    fault: Fault,
    /// How many of the way's sights were seen.
    seen: usize,
    /// What each thread is in.
    calls: HashMap<i32, [u64; 7]>,
    /// The thread whose call is to have failed when it returns.
    failing: Option<i32>,
    happened: &'a AtomicBool,
}

enum Next {
    GoOn,
    Done,
}

impl<'a> Tracer<'a> {
    fn seize(process: i32, point: &'a Point, fault: Fault, happened: &'a AtomicBool) -> Self {
        let mut seized = Vec::new();
        loop {
            let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten();
            let threads = threads.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
            let new: Vec<i32> = threads.filter(|thread| !seized.contains(thread)).collect();
            if new.is_empty() {
                break;
            }
            for thread in new {
                request(libc::PTRACE_SEIZE, thread, 0, OPTIONS as usize);
                request(libc::PTRACE_INTERRUPT, thread, 0, 0);
                seized.push(thread);
            }
        }
        Tracer { process, point, fault, seen: 0, calls: HashMap::new(), failing: None, happened }
    }

    /// Until the fault has happened or the process has ended.
    fn trace(&mut self) {
        while let Some((thread, status)) = self.stopped(0) {
            if status == SYSCALL_STOP
                && let Next::Done = self.in_call(thread)
            {
                return;
            }
            request(libc::PTRACE_SYSCALL, thread, 0, signal_of(status));
        }
    }

    /// The next thread that has stopped, and why; nothing when the process has ended, or with WNOHANG when none has. Its
    /// first thread is not reaped: whoever started the process waits for it.
    fn stopped(&self, options: libc::c_int) -> Option<(i32, i32)> {
        loop {
            let (thread, code, _) = wait(libc::P_ALL, 0, options | libc::WEXITED | libc::WNOWAIT)?;
            if matches!(code, libc::CLD_TRAPPED | libc::CLD_STOPPED) {
                // One that was killed meanwhile has nothing to say any more.
                if let Some((_, _, status)) = wait(libc::P_PID, thread, libc::WNOHANG) {
                    return Some((thread, status));
                }
            } else if thread == self.process {
                return None;
            } else {
                wait(libc::P_PID, thread, libc::WNOHANG | libc::WEXITED);
            }
        }
    }

    /// A thread is before or after a call.
    fn in_call(&mut self, thread: i32) -> Next {
        let mut info = [0u64; 10];
        request(PTRACE_GET_SYSCALL_INFO, thread, size_of_val(&info), info.as_mut_ptr() as usize);
        let [kind, _, _, call @ ..] = info;
        let is_entry = kind.to_ne_bytes()[0] == 1;
        if is_entry {
            self.calls.insert(thread, call);
        } else if self.failing == Some(thread) {
            registers::set_result(thread, -libc::EIO);
            return Next::Done;
        }
        if self.happened.load(Ordering::SeqCst) {
            return Next::GoOn;
        }
        let Some(&entered) = self.calls.get(&thread) else { return Next::GoOn };
        let sight = &self.point.way[self.seen];
        let is_last = self.seen + 1 == self.point.way.len();
        // What is read is known afterwards.
        let looked_at_entry = sight.0 != Call::Read && (!is_last || self.point.side == Side::Before);
        let result = if is_entry { None } else { Some(call[0].cast_signed()) };
        if looked_at_entry != is_entry || !sees(*sight, thread, &entered, result) {
            return Next::GoOn;
        }
        if is_last {
            return self.strike(thread);
        }
        self.seen += 1;
        Next::GoOn
    }

    fn strike(&mut self, thread: i32) -> Next {
        self.happened.store(true, Ordering::SeqCst);
        match (self.fault, self.point.side) {
            (Fault::Kill, _) => {
                // SAFETY: integers; the process is traced, so that its number is still its own.
                unsafe { libc::kill(self.process, libc::SIGKILL) };
                return Next::GoOn;
            }
            (Fault::Error, Side::Before) => {
                registers::skip_call(thread);
                self.failing = Some(thread);
                return Next::GoOn;
            }
            (Fault::Error, Side::After) => registers::set_result(thread, -libc::EIO),
            (Fault::Stall, _) => self.hold(),
        }
        Next::Done
    }

    /// All but the one that has stopped go on.
    fn hold(&self) {
        let end = Instant::now() + STALL;
        while Instant::now() < end {
            while let Some((thread, status)) = self.stopped(libc::WNOHANG) {
                request(libc::PTRACE_CONT, thread, 0, signal_of(status));
            }
            std::thread::park_timeout(BETWEEN_LOOKS);
        }
    }
}

/// To be delivered; none where it is the tracer's own stop.
fn signal_of(status: i32) -> usize {
    match status {
        SYSCALL_STOP => 0,
        _ if status >> 8 != 0 => 0,
        signal => usize::try_from(signal).unwrap_or(0),
    }
}

/// Of threads that this one traces: who, what kind of change, and its status.
fn wait(which: libc::idtype_t, id: i32, options: libc::c_int) -> Option<(i32, i32, i32)> {
    let options = options | libc::WSTOPPED | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: all zeroes is a siginfo_t, the kernel fills it in before it is read, and it outlives the call.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let id = libc::id_t::try_from(id).expect("a process's number");
        let done = libc::waitid(which, id, &raw mut info, options);
        (done == 0 && info.si_pid() != 0).then(|| (info.si_pid(), info.si_code, info.si_status()))
    }
}

fn request(what: libc::c_int, thread: i32, address: usize, data: usize) {
    // SAFETY: `data` is a number, or where the kernel writes one that outlives the call.
    let done = unsafe { libc::ptrace(what, thread, address, data) };
    // One that was killed meanwhile is gone.
    let error = std::io::Error::last_os_error();
    assert!(done >= 0 || error.raw_os_error() == Some(libc::ESRCH), "ptrace request {what} of {thread}: {error}");
}

fn sees(Sight(wanted, words): Sight, thread: i32, call: &[u64; 7], result: Option<i64>) -> bool {
    let memory = Memory(thread);
    if kind(call, &memory) != Some(wanted) {
        return false;
    }
    let said = said(wanted, thread, call, result, &memory);
    words.iter().all(|word| said.contains(word))
}

/// The calls of musl's libc; some there are on older architectures alone.
fn kind(call: &[u64; 7], memory: &Memory) -> Option<Call> {
    let [number, first, ..] = *call;
    let is_fork = |flags: u64| flags & libc::CLONE_THREAD as u64 == 0;
    match number.cast_signed() {
        libc::SYS_read | libc::SYS_recvfrom => Some(Call::Read),
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_sendto | libc::SYS_sendmsg => {
            Some(Call::Write)
        }
        libc::SYS_fsync | libc::SYS_fdatasync => Some(Call::Sync),
        libc::SYS_openat => Some(Call::Open),
        libc::SYS_renameat | libc::SYS_renameat2 => Some(Call::Rename),
        libc::SYS_mkdirat => Some(Call::MakeDirectory),
        libc::SYS_unlinkat => Some(Call::Remove),
        libc::SYS_clone if is_fork(first) => Some(Call::Fork),
        libc::SYS_clone3 if is_fork(memory.number(first)) => Some(Call::Fork),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => Some(Call::Open),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename => Some(Call::Rename),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir => Some(Call::MakeDirectory),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink | libc::SYS_rmdir => Some(Call::Remove),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork | libc::SYS_vfork => Some(Call::Fork),
        _ => None,
    }
}

/// What a call is about, as one text.
fn said(wanted: Call, thread: i32, call: &[u64; 7], result: Option<i64>, memory: &Memory) -> String {
    let [number, a, b, c, d, ..] = *call;
    let file = |descriptor: u64| {
        let link = fs::read_link(format!("/proc/{thread}/fd/{}", descriptor.cast_signed() as i32));
        link.map(|path| path.display().to_string()).unwrap_or_default()
    };
    match wanted {
        Call::Fork => String::new(),
        Call::Sync => file(a),
        Call::Read => {
            let length = usize::try_from(result.unwrap_or(0)).unwrap_or(0);
            format!("{} {}", file(a), memory.text(b, length))
        }
        Call::Write => {
            let (at, length) = match number.cast_signed() {
                libc::SYS_writev => (memory.number(b), memory.number(b + 8)),
                libc::SYS_sendmsg => {
                    let vectors = memory.number(b + 16);
                    (memory.number(vectors), memory.number(vectors + 8))
                }
                _ => (b, c),
            };
            format!("{} {}", file(a), memory.text(at, length as usize))
        }
        Call::Open | Call::MakeDirectory | Call::Remove | Call::Rename => match number.cast_signed() {
            libc::SYS_openat | libc::SYS_mkdirat | libc::SYS_unlinkat => format!("{}/{}", file(a), memory.path(b)),
            libc::SYS_renameat | libc::SYS_renameat2 => {
                format!("{}/{} {}/{}", file(a), memory.path(b), file(c), memory.path(d))
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => format!("{} {}", memory.path(a), memory.path(b)),
            _ => memory.path(a),
        },
    }
}

/// Of the process that a thread belongs to.
struct Memory(i32);

impl Memory {
    fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length.min(LOOKED_AT)];
        let read = File::open(format!("/proc/{}/mem", self.0)).and_then(|memory| memory.read_at(&mut bytes, at));
        bytes.truncate(read.unwrap_or(0));
        bytes
    }

    fn text(&self, at: u64, length: usize) -> String {
        String::from_utf8_lossy(&self.bytes(at, length)).into_owned()
    }

    fn path(&self, at: u64) -> String {
        let bytes = self.bytes(at, libc::PATH_MAX as usize);
        String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    }

    fn number(&self, at: u64) -> u64 {
        self.bytes(at, 8).try_into().map_or(0, u64::from_ne_bytes)
    }
}

/// What a thread's call is, and what it returns.
#[cfg(target_arch = "x86_64")]
mod registers {
    use std::mem::offset_of;

    pub(super) fn skip_call(thread: i32) {
        super::request(libc::PTRACE_POKEUSER, thread, offset_of!(libc::user_regs_struct, orig_rax), usize::MAX);
    }

    pub(super) fn set_result(thread: i32, result: i32) {
        super::request(
            libc::PTRACE_POKEUSER,
            thread,
            offset_of!(libc::user_regs_struct, rax),
            result as isize as usize,
        );
    }
}

#[cfg(target_arch = "aarch64")]
mod registers {
    const NT_PRSTATUS: usize = 1;
    const NT_ARM_SYSTEM_CALL: usize = 0x404;

    fn change(request: libc::c_int, thread: i32, kind: usize, bytes: &mut [u8]) {
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        super::request(request, thread, kind, &raw mut part as usize);
    }

    pub(super) fn skip_call(thread: i32) {
        change(libc::PTRACE_SETREGSET, thread, NT_ARM_SYSTEM_CALL, &mut (-1i32).to_ne_bytes());
    }

    pub(super) fn set_result(thread: i32, result: i32) {
        let mut all = [0; size_of::<libc::user_regs_struct>()];
        change(libc::PTRACE_GETREGSET, thread, NT_PRSTATUS, &mut all);
        all[..8].copy_from_slice(&i64::from(result).to_ne_bytes());
        change(libc::PTRACE_SETREGSET, thread, NT_PRSTATUS, &mut all);
    }
}
