//! Which system calls answer, each tried in a child of its own with arguments that no call can act on.

use serde_json::{Value, json};

use crate::errno;

/// Long enough for any call that is going to return; the few that wait for ever are ended here.
const PATIENCE_MS: i32 = 400;

/// Calls that would not come back to say so, or that make a second process in the middle of the question.
#[cfg(target_arch = "x86_64")]
const NOT_ASKED: &[i32] = &[
    15,  /* rt_sigreturn */
    57,  /* fork */
    58,  /* vfork */
    60,  /* exit */
    231, /* exit_group */
];
#[cfg(not(target_arch = "x86_64"))]
const NOT_ASKED: &[i32] = &[93 /* exit */, 94 /* exit_group */, 139 /* rt_sigreturn */];

/// `{"number": errno}` for each call in `first..=last`, 0 for one that succeeded; `"signal 9"` for one that waited,
/// and for one that killed its process the signal that did.
pub(crate) fn sweep(first: i32, last: i32) -> Value {
    let answers: serde_json::Map<String, Value> = (first..=last)
        .filter(|number| !NOT_ASKED.contains(number))
        .map(|number| {
            // SAFETY: every argument is -1: no address, descriptor, process or flag word that a call accepts.
            let answer = in_child(move || unsafe { libc::syscall(i64::from(number), -1, -1, -1, -1, -1, -1) });
            (number.to_string(), answer)
        })
        .collect();
    json!(answers)
}

/// Runs `call` in a child and returns its error number as the child tells it over a pipe.
fn in_child(call: impl Fn() -> i64) -> Value {
    let mut ends = [0; 2];
    // SAFETY: `ends` is an array of two ints, as pipe2 asks.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return json!(format!("no pipe: {}", errno()));
    }
    // SAFETY: the probe has one thread; the child only makes system calls and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let answer = if call() == -1 { errno() } else { 0 };
        // SAFETY: writes four bytes of a local, then leaves.
        unsafe {
            libc::write(ends[1], (&raw const answer).cast(), 4);
            libc::_exit(0);
        }
    }
    let mut answer = [0u8; 4];
    let mut ready = libc::pollfd { fd: ends[0], events: libc::POLLIN, revents: 0 };
    let mut status = 0;
    // SAFETY: local buffers of the sizes given; `child` is our own child and not yet waited for.
    let got = unsafe {
        libc::close(ends[1]);
        let polled = libc::poll(&raw mut ready, 1, PATIENCE_MS);
        let got = if polled == 1 { libc::read(ends[0], answer.as_mut_ptr().cast(), 4) } else { 0 };
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, &raw mut status, libc::__WALL);
        libc::close(ends[0]);
        got
    };
    if got == 4 {
        json!(i32::from_ne_bytes(answer))
    } else if libc::WIFSIGNALED(status) {
        json!(format!("signal {}", libc::WTERMSIG(status)))
    } else {
        json!("ended")
    }
}

/// The session keyring's id as keyctl(KEYCTL_GET_KEYRING_ID) tells it, or the error number.
pub(crate) fn session_keyring() -> Value {
    const KEYCTL_GET_KEYRING_ID: i64 = 0;
    const KEY_SPEC_SESSION_KEYRING: i64 = -3;
    // SAFETY: integer arguments only.
    let id = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) };
    if id == -1 { json!({ "errno": errno() }) } else { json!({ "id": id }) }
}

/// A harmless call (getpid) by the two other ways into the kernel that an x86-64 process has.
#[cfg(target_arch = "x86_64")]
pub(crate) fn foreign_abis() -> Value {
    const X32_BIT: i64 = 0x4000_0000;
    json!({
        // SAFETY: getpid takes no arguments.
        "x32": in_child(|| unsafe { libc::syscall(X32_BIT | libc::SYS_getpid) }),
        "i386": in_child(|| i386_call(20)),
        // socketcall(SYS_SOCKET, {AF_ALG, SOCK_SEQPACKET, 0}), with the arguments below 4 GiB on the child's heap.
        "i386 socketcall": in_child(i386_af_alg),
    })
}

#[cfg(target_arch = "x86_64")]
fn i386_call(number: i64) -> i64 {
    let mut answer = number;
    // SAFETY: int 0x80 enters the kernel with getpid's number in eax; r8 to r11 may be lost.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    as_result(answer)
}

#[cfg(target_arch = "x86_64")]
fn i386_af_alg() -> i64 {
    // SAFETY: a fresh private page below 4 GiB, where a 32-bit pointer reaches it; rbx is restored around the call.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if page == libc::MAP_FAILED {
            return -1;
        }
        page.cast::<[u32; 3]>().write([libc::AF_ALG as u32, libc::SOCK_SEQPACKET as u32, 0]);
        let mut answer: i64 = 102;
        std::arch::asm!(
            "xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
            first = inout(reg) 1i64 => _, inout("rax") answer, in("rcx") page,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
        as_result(answer)
    }
}

/// Turns the kernel's `-errno` into libc's `-1` with errno set.
#[cfg(target_arch = "x86_64")]
fn as_result(answer: i64) -> i64 {
    let answer = i64::from(answer as i32);
    if answer < 0 {
        // SAFETY: musl's errno of this thread.
        unsafe { *libc::__errno_location() = -answer as i32 };
        return -1;
    }
    answer
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn foreign_abis() -> Value {
    json!({})
}
