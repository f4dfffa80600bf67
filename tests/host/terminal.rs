//! `interactive` and `pseudoTerminal`, and terminals of `coracle exec`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::hardening::container_processes;
use crate::support::{Host, Running, definition, wait_for};

/// A new terminal of ours: what a person types and sees.
pub(super) struct Person {
    keyboard: File,
    terminal: File,
    seen: Arc<Mutex<String>>,
}

impl Person {
    pub(super) fn new(rows: u16, columns: u16) -> Person {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut ours, mut theirs) = (0, 0);
        // SAFETY: two integers to fill, and a winsize to read; no name and no modes.
        let made = unsafe {
            libc::openpty(
                &raw mut ours,
                &raw mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                (&raw const size).cast_mut(),
            )
        };
        assert_eq!(made, 0, "a terminal: {}", std::io::Error::last_os_error());
        // SAFETY: openpty has just made both, and nobody else owns them.
        let (keyboard, terminal) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut screen, shown) = (keyboard.try_clone().expect("a copy"), seen.clone());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count) = screen.read(&mut chunk)
                && count > 0
            {
                shown.lock().expect("nobody panics").push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        Person { keyboard, terminal, seen }
    }

    /// Starts a command with this terminal as its three streams.
    pub(super) fn start(&self, mut command: std::process::Command) -> Child {
        let stream = || Stdio::from(self.terminal.try_clone().expect("a copy"));
        command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().expect("it starts")
    }

    pub(super) fn types(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).expect("the terminal is open");
    }

    pub(super) fn seen(&self) -> String {
        self.seen.lock().expect("nobody panics").clone()
    }

    pub(super) fn waits_to_see(&self, text: &str) {
        wait_for(&format!("{text:?}"), || self.seen().contains(text).then_some(()));
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the request reads one winsize.
        assert_eq!(unsafe { libc::ioctl(self.keyboard.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) }, 0);
    }

    fn modes(&self) -> (u32, u32, u32) {
        // SAFETY: fills a termios on the stack.
        unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.terminal.as_raw_fd(), &raw mut modes), 0);
            (modes.c_iflag, modes.c_oflag, modes.c_lflag)
        }
    }
}

fn report(text: &str) -> Value {
    let start = text.find("{\"").unwrap_or_else(|| panic!("no report in {text:?}"));
    let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter();
    values.next().expect("a value").unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// Rows and columns of the terminal that is a process's standard input, if it is one.
fn size_of(pid: i32) -> Option<(u16, u16)> {
    let terminal = File::options().read(true).custom_flags(libc::O_NOCTTY).open(format!("/proc/{pid}/fd/0")).ok()?;
    // SAFETY: fills a winsize on the stack.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        let known = libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size) == 0;
        known.then_some((size.ws_row, size.ws_col))
    }
}

#[track_caller]
fn ended(mut child: Child, person: &Person) -> i32 {
    let mut code = None;
    wait_for("the command's end", || {
        code = child.try_wait().expect("our child").and_then(|status| status.code());
        code
    });
    code.unwrap_or_else(|| panic!("killed: {}", person.seen()))
}

#[track_caller]
fn stop(host: &Host, task: &str) {
    host.coracle(["stop", task]).ok();
    host.coracle(["rm", task]).ok();
}

#[test]
fn an_interactive_container_reads_what_run_reads_until_that_ends() {
    let host = Host::new();
    host.import_probe();
    let definition = definition::probe_with(&["read", "/dev/stdin"], &json!({ "interactive": true }));
    let file = host.file("task.json", definition.to_string());
    let mut run = host.command(["run".as_ref(), file.as_os_str()]);
    run.stdin(Stdio::piped());
    let mut run = Running::start(&mut run);
    run.stdin().write_all(b"from outside\n").expect("it reads");
    run.wait().ok().prints(&["from outside"]);
    // Without it, the input has ended from the beginning.
    host.run(&definition::probe(&["read", "/dev/stdin"]), &[]).ok();
    host.finish();
}

#[test]
fn the_input_of_a_detached_interactive_container_stays_open() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        definition::container("main", &["read", "/dev/stdin"], &json!({ "interactive": true })),
        definition::container("closed", &["read", "/dev/stdin"], &json!({ "essential": false })),
    ];
    let task = host.detach(&definition::task(&containers), &[]);
    wait_for("the one without to end", || {
        let shown = host.inspect(&task);
        (definition::the_container(&shown, "closed")["lastStatus"] == "STOPPED").then_some(())
    });
    let shown = host.inspect(&task);
    assert_eq!(definition::the_container(&shown, "main")["lastStatus"], "RUNNING", "{shown}");
    stop(&host, &task);
    host.finish();
}

#[test]
fn a_pseudo_terminal_is_the_containers_own_and_its_output_is_in_the_log() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "interactive": true, "pseudoTerminal": true, "readonlyRootFilesystem": true });
    let file = host.file("task.json", definition::probe_with(&["terminal"], &members).to_string());
    let mut run = host.command(["run".as_ref(), file.as_os_str()]);
    run.stdin(Stdio::piped());
    let mut run = Running::start(&mut run);
    run.wait_for_output("reading");
    run.stdin().write_all(b"typed\n").expect("it reads");
    let ended = run.wait().ok();
    let report = report(&ended.stdout);
    assert_eq!((&report["controlling"], &report["line"]), (&json!(true), &json!("typed")));
    assert!(report["name"].as_str().is_some_and(|name| name.starts_with("/dev/pts/")), "{report}");
    // Standard output and error are one: the terminal.
    assert!(!ended.stderr.contains("reading"), "{}", ended.whole());
    // The console is the same terminal.
    let task = host.detach(&definition::probe_with(&["wait"], &json!({ "pseudoTerminal": true })), &[]);
    host.coracle(["exec", &task, "--", "/bin/probe", "write", "/dev/console", "on the console\n"]).ok();
    wait_for("the console's output", || {
        host.coracle(["logs", &task]).ok().stdout.contains("on the console").then_some(())
    });
    stop(&host, &task);
    host.finish();
}

#[test]
fn run_on_a_terminal_gives_it_to_the_container_with_its_size_and_its_keys() {
    let host = Host::new();
    host.import_probe();
    let mut person = Person::new(31, 101);
    let before = person.modes();
    let members = json!({ "interactive": true, "pseudoTerminal": true });
    let file = host.file("task.json", definition::probe_with(&["terminal"], &members).to_string());
    let run = person.start(host.command(["run".as_ref(), file.as_os_str()]));
    person.waits_to_see("reading");
    wait_for("our terminal to be raw", || (person.modes() != before).then_some(()));
    person.types(b"typed\r");
    assert_eq!(ended(run, &person), 0, "{}", person.seen());
    person.waits_to_see("}");
    let report = report(&person.seen());
    assert_eq!((&report["rows"], &report["columns"]), (&json!(31), &json!(101)));
    assert_eq!(report["line"], "typed");
    assert_eq!(person.modes(), before, "our terminal is put back");
    host.finish();
}

/// Ctrl-C is the container's; Ctrl-P Ctrl-Q takes the terminal back, and then Ctrl-C stops the task.
#[test]
fn ctrl_c_goes_to_the_container_and_two_keys_take_the_terminal_back() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "interactive": true, "pseudoTerminal": true });
    let file = host.file("task.json", definition::probe_with(&["wait", "6"], &members).to_string());
    let mut person = Person::new(24, 80);
    let before = person.modes();
    let run = person.start(host.command(["run".as_ref(), file.as_os_str()]));
    person.waits_to_see("waiting");
    wait_for("our terminal to be raw", || (person.modes() != before).then_some(()));
    person.types(b"\x03");
    // The probe tells which signal it got, and ends with its number.
    assert_eq!(ended(run, &person), libc::SIGINT, "{}", person.seen());
    person.waits_to_see("signal 2");
    let run = person.start(host.command(["run".as_ref(), file.as_os_str()]));
    wait_for("our terminal to be raw", || (person.modes() != before).then_some(()));
    // A first process that does not listen for SIGTERM yet is not ended by it.
    wait_for("the second container's first line", || (person.seen().matches("waiting").count() == 2).then_some(()));
    person.types(b"\x10\x11");
    wait_for("our terminal to be put back", || (person.modes() == before).then_some(()));
    // SAFETY: our child, which is not waited for. The terminal is not its controlling one, so Ctrl-C is sent for it.
    assert_eq!(unsafe { libc::kill(run.id() as i32, libc::SIGINT) }, 0);
    assert_eq!(ended(run, &person), 6, "{}", person.seen());
    host.finish();
}

#[test]
fn exec_it_has_the_size_from_the_beginning_follows_it_and_hands_on_ctrl_c() {
    let host = Host::new();
    host.import_probe();
    for members in [json!({ "readonlyRootFilesystem": true }), json!({ "user": "1000" })] {
        for mode in ["", "task", "host"] {
            let mut task = definition::probe_with(&["wait"], &members);
            if !mode.is_empty() {
                task["pidMode"] = json!(mode);
            }
            let task = host.detach(&task, &[]);
            let mut person = Person::new(20, 70);
            let exec = person.start(host.command(["exec", "-it", &task, "--", "/bin/probe", "terminal"]));
            person.waits_to_see("reading");
            person.resize(40, 140);
            // SAFETY: our child, which is not waited for; a terminal that is not its controlling one sends it nothing.
            assert_eq!(unsafe { libc::kill(exec.id() as i32, libc::SIGWINCH) }, 0);
            wait_for("the resize", || {
                let processes = container_processes(&host, &task);
                processes.into_iter().any(|pid| size_of(pid) == Some((40, 140))).then_some(())
            });
            person.types(b"typed\r");
            assert_eq!(ended(exec, &person), 0, "{}", person.seen());
            person.waits_to_see("}");
            let report = report(&person.seen());
            assert_eq!((&report["controlling"], &report["line"]), (&json!(true), &json!("typed")), "{report}");
            assert_eq!((&report["rows"], &report["columns"]), (&json!(40), &json!(140)));
            let mut person = Person::new(20, 70);
            let exec = person.start(host.command(["exec", "-it", &task, "--", "/bin/probe", "wait"]));
            person.waits_to_see("waiting");
            person.types(b"\x03");
            assert_eq!(ended(exec, &person), libc::SIGINT, "{}", person.seen());
            stop(&host, &task);
        }
    }
    host.finish();
}
