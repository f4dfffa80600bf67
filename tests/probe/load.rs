//! Ways to end, to wait, and to use too much of something.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::errno;

const MIB: usize = 1 << 20;

/// Dies by the signal, also as process 1, which the default action of a signal from inside does not end: then the
/// death is a child's, and its number is told as a shell would, 128 + signal.
pub(crate) fn die_by_signal(signal: i32) -> i32 {
    // SAFETY: plain calls on ourselves and our own child.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
            libc::_exit(0);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        128 + libc::WTERMSIG(status)
    }
}

/// Says `waiting` and returns `code` when SIGTERM (`code`), SIGINT or SIGUSR1 (their number) comes.
pub(crate) fn wait_for_sigterm(code: i32) -> i32 {
    // SAFETY: a signal set on the stack, filled by sigemptyset.
    let signal = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        say(&["waiting"]);
        let mut signal = 0;
        libc::sigwait(&raw const set, &raw mut signal);
        signal
    };
    say(&["signal", &signal.to_string()]);
    if signal == libc::SIGTERM { code } else { signal }
}

pub(crate) fn ignore_sigterm() -> ! {
    // SAFETY: changes the disposition of one signal.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    forever()
}

pub(crate) fn forever() -> ! {
    say(&["waiting"]);
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

/// Deaf to SIGTERM, with so many zombies, a child that a tracer has stopped, and one that waits.
pub(crate) fn stubborn(zombies: i32) -> ! {
    for _ in 0..zombies {
        // SAFETY: the child ends at once; it is waited for, so that they are never many that hold memory, and stays a
        // zombie.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(0);
            }
            let mut ended: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, child as libc::id_t, &raw mut ended, libc::WEXITED | libc::WNOWAIT);
        }
    }
    // SAFETY: plain calls on ourselves and our own child.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
            libc::_exit(0);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
        if libc::fork() == 0 {
            loop {
                libc::pause();
            }
        }
    }
    ignore_sigterm()
}

/// Ends with `code`, and leaves a child behind that has its standard streams open.
pub(crate) fn leave_open(code: i32) -> i32 {
    // SAFETY: the child only waits for a signal.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: as above.
            unsafe { libc::pause() };
        },
        _ => say(&["left"]).max(code),
    }
}

pub(crate) fn say(words: &[&str]) -> i32 {
    let mut out = std::io::stdout().lock();
    i32::from(writeln!(out, "{}", words.join(" ")).and_then(|()| out.flush()).is_err())
}

/// A line of that many MiB, and one more that says so.
pub(crate) fn long_line(mib: usize) -> i32 {
    let mut out = std::io::stdout().lock();
    let block = vec![b'x'; MIB];
    let written = (0..mib).try_for_each(|_| out.write_all(&block)).and_then(|()| writeln!(out, "\nafter {mib} MiB"));
    i32::from(written.and_then(|()| out.flush()).is_err())
}

/// Each of the words, and nothing between them that they do not say: `\\n`, `\\x` and two hexadecimal digits. The word
/// `stderr` changes the stream.
pub(crate) fn bytes(words: &[&str]) -> i32 {
    let mut to_stderr = false;
    for word in words {
        if *word == "stderr" {
            to_stderr = true;
            continue;
        }
        let mut bytes = Vec::new();
        let mut rest = word.as_bytes();
        while let Some((first, more)) = rest.split_first() {
            rest = more;
            match (first, more) {
                (b'\\', [b'n', more @ ..]) => {
                    bytes.push(b'\n');
                    rest = more;
                }
                (b'\\', [b'x', high, low, more @ ..]) => {
                    let digits = [*high, *low].map(char::from).iter().collect::<String>();
                    bytes.push(u8::from_str_radix(&digits, 16).expect("two hexadecimal digits"));
                    rest = more;
                }
                (other, _) => bytes.push(*other),
            }
        }
        let written = match to_stderr {
            true => std::io::stderr().write_all(&bytes),
            false => std::io::stdout().write_all(&bytes).and_then(|()| std::io::stdout().flush()),
        };
        if written.is_err() {
            return 1;
        }
    }
    0
}

/// Touches that many MiB, a page at a time, and says each 16.
pub(crate) fn memory(mib: usize) -> i32 {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for so_far in 1..=mib {
        held.push(vec![1u8; MIB]);
        if so_far % 16 == 0 {
            say(&["touched", &so_far.to_string()]);
        }
    }
    let sum: usize = held.iter().map(|block| block[MIB / 2] as usize).sum();
    i32::from(sum != mib)
}

/// Tries to have `wanted` children at once; tells how many there were and what stopped it.
pub(crate) fn forks(wanted: i32) -> Value {
    let mut children = Vec::new();
    let mut error = 0;
    for _ in 0..wanted {
        // SAFETY: the child only waits for a signal; the parent ends all of them below.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            -1 => {
                error = errno();
                break;
            }
            child => children.push(child),
        }
    }
    let made = children.len();
    for child in children {
        // SAFETY: our own children, not yet waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    json!({ "made": made, "errno": error })
}

/// Writes zeroes to a file until an error, or until it has so many MiB; tells the bytes that fitted.
pub(crate) fn fill(path: &str, most_mib: usize) -> Value {
    const STEP: usize = 4096;
    let mut written = 0;
    let failure = match std::fs::File::create(path) {
        Err(error) => error.raw_os_error(),
        Ok(mut file) => loop {
            match file.write(&[0u8; STEP]) {
                Ok(bytes) => written += bytes,
                Err(error) => break error.raw_os_error(),
            }
            if written >= most_mib * MIB {
                break None;
            }
        },
    };
    json!({ "bytes": written, "errno": failure })
}

/// Makes empty files in a new directory until an error; tells how many there are.
pub(crate) fn files(directory: &str) -> Value {
    const MOST: usize = 1_000_000;
    let mut error = std::fs::create_dir(directory).err();
    let mut made = 0;
    while error.is_none() && made < MOST {
        error = std::fs::File::create(format!("{directory}/{made}")).err();
        made += usize::from(error.is_none());
    }
    json!({ "made": made, "errno": error.and_then(|error| error.raw_os_error()) })
}

/// Takes that many bytes of the file system for a new file, without writing them; tells the error number, or 0.
pub(crate) fn take_room(path: &str, bytes: u64) -> Value {
    use std::os::fd::AsRawFd;
    let taken = std::fs::File::create(path).and_then(|file| {
        // SAFETY: an open descriptor and numbers.
        match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    });
    json!({ "errno": crate::outcome(taken) })
}

/// Opens descriptors until an error; tells how many there were.
pub(crate) fn descriptors() -> Value {
    let mut held = Vec::new();
    let error = loop {
        match std::fs::File::open("/") {
            Ok(file) => held.push(file),
            Err(error) => break error.raw_os_error(),
        }
    };
    json!({ "opened": held.len(), "errno": error })
}

/// Numbered lines of 100 bytes on standard output, as fast as they go.
pub(crate) fn flood(lines: u64) -> i32 {
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    for line in 0..lines {
        if writeln!(out, "{line:09} {:.<89}", "").is_err() {
            return 1;
        }
    }
    i32::from(out.flush().is_err())
}

/// Spins for that many milliseconds of wall time; tells the milliseconds of CPU time it got.
pub(crate) fn spin(milliseconds: i32) -> Value {
    let start = Instant::now();
    let length = Duration::from_millis(milliseconds.unsigned_abs().into());
    let mut turns = 0u64;
    while start.elapsed() < length {
        turns = std::hint::black_box(turns + 1);
    }
    // SAFETY: fills a timespec on the stack.
    let cpu_ms = unsafe {
        let mut used: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut used);
        used.tv_sec * 1000 + used.tv_nsec / 1_000_000
    };
    json!({ "cpu_ms": cpu_ms, "wall_ms": start.elapsed().as_millis() })
}

/// The terminal on standard input: its name, its size, whether it is the controlling one, and the line that it reads.
pub(crate) fn terminal() -> Value {
    let name = std::fs::read_link("/proc/self/fd/0").map(|path| path.display().to_string()).unwrap_or_default();
    let controlling = std::fs::File::open("/dev/tty").is_ok();
    say(&["reading"]);
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line).is_ok();
    // Only now: the size is set as soon as the process runs, and then whenever it changes.
    // SAFETY: fills a winsize on the stack.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        libc::ioctl(0, libc::TIOCGWINSZ as _, &raw mut size);
        size
    };
    json!({
        "name": name, "rows": size.ws_row, "columns": size.ws_col, "controlling": controlling,
        "line": line.trim_end(), "read": read,
    })
}
