//! A started `coracle`: its output as it comes, signals to it, and its end.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use std::os::unix::process::{CommandExt, ExitStatusExt};

use super::PATIENCE;

/// What a stream has given so far, and whether it ended.
#[derive(Default)]
struct Heard {
    state: Mutex<(Vec<u8>, bool)>,
    more: Condvar,
}

impl Heard {
    fn listen(mut from: impl Read + Send + 'static) -> Arc<Self> {
        let heard = Arc::new(Self::default());
        let writer = heard.clone();
        std::thread::spawn(move || {
            let mut buffer = [0u8; 1 << 16];
            loop {
                let got = from.read(&mut buffer).unwrap_or(0);
                let mut state = writer.state.lock().expect("no listener panics");
                state.0.extend_from_slice(&buffer[..got]);
                state.1 |= got == 0;
                writer.more.notify_all();
                if got == 0 {
                    return;
                }
            }
        });
        heard
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.state.lock().expect("no listener panics").0).into_owned()
    }

    /// Waits for `text`; false when the stream ended or the deadline came without it. Each byte is looked at once.
    fn wait_for(&self, deadline: Instant, text: &str) -> bool {
        let wanted = text.as_bytes();
        let mut seen = 0;
        self.wait(deadline, |bytes| {
            let found = bytes[seen..].windows(wanted.len()).any(|window| window == wanted);
            seen = bytes.len().saturating_sub(wanted.len());
            found
        })
    }

    fn wait_for_end(&self, deadline: Instant) {
        self.wait(deadline, |_| false);
    }

    fn wait(&self, deadline: Instant, mut enough: impl FnMut(&[u8]) -> bool) -> bool {
        let mut state = self.state.lock().expect("no listener panics");
        loop {
            if enough(&state.0) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.1 {
                return false;
            }
            state = self.more.wait_timeout(state, left).expect("no listener panics").0;
        }
    }
}

/// SIGKILL, and then the wait until the process is really dead: it may be in the middle of a system call that takes
/// its time, and holds its locks until then. A process that is gone already is as good.
pub(crate) fn kill(pid: i32) {
    // SAFETY: integer arguments; the descriptor names one process for good, and is closed once.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        if process < 0 {
            return;
        }
        libc::syscall(libc::SYS_pidfd_send_signal, process, libc::SIGKILL, std::ptr::null::<libc::siginfo_t>(), 0);
        let mut ended = libc::pollfd { fd: process, events: libc::POLLIN, revents: 0 };
        let polled = libc::poll(&raw mut ended, 1, PATIENCE.as_millis() as i32);
        libc::close(process);
        assert_eq!(polled, 1, "process {pid} does not die of SIGKILL");
    }
}

pub(crate) struct Running {
    child: Child,
    what: String,
    started: Instant,
    stdout: Arc<Heard>,
    stderr: Arc<Heard>,
    /// The end was seen: the number may be another process's by now.
    ended: bool,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let started = Instant::now();
        // A shell lets what runs in its background ignore Ctrl-C, which children inherit.
        // SAFETY: signal(2) may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            });
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        let stdout = Heard::listen(child.stdout.take().expect("it is a pipe"));
        let stderr = Heard::listen(child.stderr.take().expect("it is a pipe"));
        Self { child, what, started, stdout, stderr, ended: false }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("standard input was asked to be a pipe")
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the child is ours and not waited for, so its number is still its own.
        let sent = unsafe { libc::kill(self.pid(), signal) };
        assert_eq!(sent, 0, "signal {signal} reaches {}", self.what);
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for `text` on standard output.
    pub(crate) fn wait_for_output(&self, text: &str) -> &Self {
        let deadline = Instant::now() + PATIENCE;
        let found = self.stdout.wait_for(deadline, text);
        assert!(found, "{} never said {text:?}\n{}", self.what, self.said());
        self
    }

    pub(crate) fn wait_for_errors(&self, text: &str) -> &Self {
        let deadline = Instant::now() + PATIENCE;
        let found = self.stderr.wait_for(deadline, text);
        assert!(found, "{} never said {text:?} on standard error\n{}", self.what, self.said());
        self
    }

    fn said(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", last_part(&self.stdout()), last_part(&self.stderr()))
    }

    /// Its end. One that takes longer than `patience` is killed and fails the test.
    pub(crate) fn wait(self) -> Finished {
        self.wait_at_most(PATIENCE)
    }

    pub(crate) fn wait_at_most(mut self, patience: Duration) -> Finished {
        let deadline = Instant::now() + patience;
        let Some(status) = self.wait_until(deadline) else {
            let said = self.said();
            panic!("{} still runs after {patience:?}\n{said}", self.what);
        };
        let elapsed = self.started.elapsed();
        // Detached children hold no end of the pipes; one that does is a defect which the wait shows.
        let ended = Instant::now() + Duration::from_secs(60);
        self.stdout.wait_for_end(ended);
        self.stderr.wait_for_end(ended);
        Finished { what: self.what.clone(), status, elapsed, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Whether it ends by itself within that time.
    pub(crate) fn ends_within(&self, patience: Duration) -> bool {
        // SAFETY: the child is ours and not waited for.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid(), 0) } as i32;
        assert!(pidfd >= 0, "pidfd of our child: {}", std::io::Error::last_os_error());
        let mut ready = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd; the descriptor is closed once.
        unsafe {
            let polled = libc::poll(&raw mut ready, 1, i32::try_from(patience.as_millis()).unwrap_or(i32::MAX));
            libc::close(pidfd);
            polled == 1
        }
    }

    fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        if !self.ends_within(deadline.saturating_duration_since(Instant::now())) {
            return None;
        }
        let status = self.child.wait().expect("our child ended");
        self.ended = true;
        Some(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // A test that failed in the middle; what it started must not outlive it.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a failed test shows of an output that may be millions of lines.
fn last_part(text: &str) -> &str {
    const MOST: usize = 20_000;
    let start = text.len().saturating_sub(MOST);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[start..]
}

pub(crate) struct Finished {
    what: String,
    status: ExitStatus,
    pub(crate) elapsed: Duration,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// 0 to 255, or 128 + the signal that ended it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "the exit code of {}", self.whole());
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// It failed, by itself, and every one of `texts` is in what it says on standard error.
    #[track_caller]
    pub(crate) fn refused(self, texts: &[&str]) -> Self {
        assert!(self.status.signal().is_none(), "killed by a signal: {}", self.whole());
        assert_ne!(self.code(), 0, "was not refused: {}", self.whole());
        assert_ne!(self.code(), 101, "panicked: {}", self.whole());
        assert!(!self.stderr.contains("panicked at"), "panicked: {}", self.whole());
        self.says(texts)
    }

    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not on standard error of {}", self.whole());
        }
        self
    }

    #[track_caller]
    pub(crate) fn prints(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stdout.contains(text), "{text:?} is not on standard output of {}", self.whole());
        }
        self
    }

    /// Standard output without its last line end.
    pub(crate) fn line(&self) -> &str {
        self.stdout.trim_end_matches('\n')
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.whole()))
    }

    /// Standard output as one JSON document a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}\n{}", self.whole()))
        };
        self.stdout.lines().filter(|line| !line.is_empty()).map(parse).collect()
    }

    /// What the probe in container `name` printed as JSON, out of lines with the name before them.
    #[track_caller]
    pub(crate) fn report(&self, name: &str) -> serde_json::Value {
        let json = self.stdout.lines().filter(|line| line.contains(name)).find_map(|line| {
            let start = line.find(['{', '['])?;
            serde_json::from_str(&line[start..]).ok()
        });
        json.unwrap_or_else(|| panic!("no report of {name} in {}", self.whole()))
    }

    pub(crate) fn whole(&self) -> String {
        let (stdout, stderr) = (last_part(&self.stdout), last_part(&self.stderr));
        format!("{} ({})\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.what, self.status)
    }
}
