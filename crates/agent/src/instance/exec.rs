//! ECS Exec: commands on terminals in containers, each with a bounded queue before it and the connection's behind it. A
//! command ends with its connection: nobody could ever reach it again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use agent_protocol::command::Exec;
use agent_protocol::session::{FromInstance, OpenExec};
use agent_protocol::task_spec::Places;
use runtime::client::{self, ClientError, Execution};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::ending::FAILED_TO_START;
use crate::recovery::chain;

/// Amazon's limit is 20 a container; this is for the host.
pub(super) const SESSIONS: usize = 256;
/// What a client has sent and its command has not read, in messages.
const INPUTS: usize = 1_024;
const OUTPUT_BYTES: usize = 8_192;
/// After the command has ended, more of its output is waited for so long in all.
const LEFT_OVER_OUTPUT: Duration = Duration::from_millis(500);
/// A terminal of Linux keeps less than this of what was written and not read (12 KiB: drivers/tty/pty.c, n_tty.c): what comes
/// behind it is not the command's.
const LEFT_OVER_BYTES: usize = 64 << 10;
/// "The SSM agent and its child processes run as root even when you specify a user ID for the container"
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html>).
const USER: &str = "0";
/// What Amazon's session plugin expects at the other end.
const TERM: &str = "TERM=xterm-256color";

enum Input {
    Bytes(Vec<u8>),
    Resize { rows: u16, columns: u16 },
}

/// The open ones, by the control plane's names for them.
#[derive(Default)]
pub(super) struct Sessions(HashMap<String, mpsc::Sender<Input>>);

impl Sessions {
    /// What it comes to is told through `outgoing`.
    pub(super) fn open(&mut self, places: Places, open: OpenExec, outgoing: mpsc::Sender<FromInstance>) {
        self.0.retain(|_, session| !session.is_closed());
        if self.0.len() >= SESSIONS {
            let why = format!("{SESSIONS} commands run in this host's containers already");
            return refuse(&outgoing, open.session, why);
        }
        if self.0.contains_key(&open.session) {
            return;
        }
        let (input, inputs) = mpsc::channel(INPUTS);
        self.0.insert(open.session.clone(), input);
        tokio::spawn(serve(places, open, inputs, outgoing));
    }

    pub(super) fn input(&mut self, session: &str, bytes: Vec<u8>) {
        self.send(session, Input::Bytes(bytes));
    }

    pub(super) fn resize(&mut self, session: &str, rows: u16, columns: u16) {
        self.send(session, Input::Resize { rows, columns });
    }

    /// A command that does not read what it is sent is hung up on: it must not hold up the others.
    fn send(&mut self, session: &str, input: Input) {
        if self.0.get(session).is_some_and(|known| known.try_send(input).is_err()) {
            self.close(session);
        }
    }

    pub(super) fn close(&mut self, session: &str) {
        self.0.remove(session);
    }

    pub(super) fn close_all(&mut self) {
        self.0.clear();
    }
}

/// Where the queue is full nobody waits for this answer any more.
pub(super) fn refuse(outgoing: &mpsc::Sender<FromInstance>, session: String, why: String) {
    drop(outgoing.try_send(FromInstance::ExecOpened { session, refused: Some(why) }));
}

/// To the command's end, the client's, or the connection's.
async fn serve(
    places: Places,
    open: OpenExec,
    mut inputs: mpsc::Receiver<Input>,
    outgoing: mpsc::Sender<FromInstance>,
) {
    let OpenExec { session, task, container, command, rows, columns } = open;
    tracing::info!(task = %task, container = %container, "a command is opened");
    let exec = Exec {
        container,
        command,
        environment: vec![TERM.to_owned()],
        user: Some(USER.to_owned()),
        working_directory: None,
        terminal: true,
        terminal_size: Some((rows, columns)),
        debug: None,
    };
    let opening = tokio::task::spawn_blocking(move || client::connect(&places)?.exec_with_terminal(&exec));
    let (execution, master) = match opening.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return refuse(&outgoing, session, chain(&error)),
        Err(panicked) => return refuse(&outgoing, session, panicked.to_string()),
    };
    let joined = join(execution, master);
    let (hang_up, ended, master) = match joined {
        Ok(joined) => joined,
        Err(cause) => return refuse(&outgoing, session, format!("the command's terminal cannot be used: {cause}")),
    };
    if outgoing.send(FromInstance::ExecOpened { session: session.clone(), refused: None }).await.is_err() {
        return hang_up.hang_up();
    }
    let terminal = Terminal { session: &session, master, outgoing: &outgoing, unwritten: Vec::new() };
    match terminal.run(&mut inputs, ended).await {
        Some(exit_code) => {
            outgoing.send(FromInstance::ExecOutput { session: session.clone(), bytes: Vec::new() }).await.ok();
            outgoing.send(FromInstance::ExecEnded { session, exit_code }).await.ok();
        }
        None => hang_up.hang_up(),
    }
}

#[allow(deprecated, reason = "a File keeps its one descriptor until it is dropped, which is all that is asked of it")]
fn watched(terminal: impl Into<OwnedFd>) -> io::Result<AsyncFd<File>> {
    AsyncFd::new(File::from(terminal.into()))
}

type Joined = (client::HangUp, oneshot::Receiver<i32>, AsyncFd<File>);

fn join(execution: Execution, master: OwnedFd) -> io::Result<Joined> {
    let hang_up = execution.hang_up()?;
    fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
    let master = watched(master)?;
    let (tell, ended) = oneshot::channel();
    // It waits for as long as the command runs; nobody else has to.
    std::thread::Builder::new().name("exec".to_owned()).spawn(move || {
        let code = match execution.wait() {
            Ok(code) => code,
            // After our own hanging up too.
            Err(ClientError::Ended) => FAILED_TO_START,
            Err(error) => {
                tracing::info!(error = chain(&error), "how a command ended is not known");
                FAILED_TO_START
            }
        };
        tell.send(code).ok();
    })?;
    Ok((hang_up, ended, master))
}

struct Terminal<'a> {
    session: &'a str,
    master: AsyncFd<File>,
    outgoing: &'a mpsc::Sender<FromInstance>,
    unwritten: Vec<u8>,
}

impl Terminal<'_> {
    /// The exit code; nothing where client or connection has gone.
    async fn run(mut self, inputs: &mut mpsc::Receiver<Input>, mut ended: oneshot::Receiver<i32>) -> Option<i32> {
        let mut is_open = true;
        loop {
            tokio::select! {
                read = read_some(&self.master), if is_open => match read {
                    Some(bytes) => self.tell(bytes).await?,
                    // The last user of the terminal has gone; the command's own end follows.
                    None => is_open = false,
                },
                wrote = write_some(&self.master, &self.unwritten), if !self.unwritten.is_empty() => match wrote {
                    Some(count) => drop(self.unwritten.drain(..count)),
                    None => self.unwritten.clear(),
                },
                input = inputs.recv(), if self.unwritten.is_empty() => match input? {
                    Input::Bytes(bytes) => self.unwritten = bytes,
                    Input::Resize { rows, columns } => self.resize(rows, columns),
                },
                code = &mut ended => {
                    let code = code.unwrap_or(FAILED_TO_START);
                    if is_open {
                        self.tell_left_over().await;
                    }
                    return Some(code);
                }
            }
        }
    }

    /// What the command has written before its end, however long it takes to be told. One that left others behind on its
    /// terminal keeps that open; its own end is what counts.
    async fn tell_left_over(&self) {
        let (mut left, mut patience) = (LEFT_OVER_BYTES, LEFT_OVER_OUTPUT);
        while left > 0 {
            let begun = Instant::now();
            let Ok(Some(bytes)) = timeout(patience, read_some(&self.master)).await else { return };
            // The terminal is waited for so long in all, the listener as long as it takes.
            patience = patience.saturating_sub(begun.elapsed());
            left = left.saturating_sub(bytes.len());
            if self.tell(bytes).await.is_none() {
                return;
            }
        }
    }

    async fn tell(&self, bytes: Vec<u8>) -> Option<()> {
        let output = FromInstance::ExecOutput { session: self.session.to_owned(), bytes };
        self.outgoing.send(output).await.ok()
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Err(error) = tcsetwinsize(self.master.get_ref(), size) {
            tracing::debug!(%error, "the size of a terminal was not passed on");
        }
    }
}

/// Nothing where the terminal has no user any more: reading its master fails then.
async fn read_some(master: &AsyncFd<File>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; OUTPUT_BYTES];
    loop {
        let mut ready = master.readable().await.ok()?;
        match ready.try_io(|master| master.get_ref().read(&mut bytes)) {
            Ok(Ok(count)) if count > 0 => {
                bytes.truncate(count);
                return Some(bytes);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Ok(_) | Err(_)) => return None,
            Err(_would_block) => {}
        }
    }
}

async fn write_some(master: &AsyncFd<File>, bytes: &[u8]) -> Option<usize> {
    loop {
        let mut ready = master.writable().await.ok()?;
        match ready.try_io(|master| master.get_ref().write(bytes)) {
            Ok(Ok(count)) => return Some(count),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(_)) => return None,
            Err(_would_block) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const SLOWNESS: Duration = LEFT_OVER_OUTPUT.saturating_mul(2);

    /// The terminal stays open: somebody was left behind on it.
    #[tokio::test]
    async fn a_command_that_has_ended_is_heard_to_its_last_word_however_slow_the_listener() {
        let (terminal, mut command) = UnixStream::pair().expect("a pair");
        terminal.set_nonblocking(true).expect("set");
        let master = watched(terminal).expect("a descriptor");
        let said = vec![b'x'; 3 * OUTPUT_BYTES];
        command.write_all(&said).expect("there is room");
        let (outgoing, mut listener) = mpsc::channel(1);
        let (tell, ended) = oneshot::channel();
        tell.send(7).expect("it listens");
        let (_client, mut inputs) = mpsc::channel(1);
        let running = async move {
            let terminal = Terminal { session: "s", master, outgoing: &outgoing, unwritten: Vec::new() };
            terminal.run(&mut inputs, ended).await
        };
        let listening = async {
            let mut heard = 0;
            while heard < said.len() {
                tokio::time::sleep(SLOWNESS).await;
                match listener.recv().await {
                    Some(FromInstance::ExecOutput { bytes, .. }) => heard += bytes.len(),
                    other => panic!("{heard} bytes and then {other:?}"),
                }
            }
        };
        let ((), code) = tokio::join!(listening, running);
        assert_eq!(code, Some(7));
    }

    #[tokio::test]
    async fn whoever_goes_on_talking_after_a_commands_end_does_not_keep_it_open() {
        let flood = [b'y'; OUTPUT_BYTES];
        for (word, pause) in [(&flood[..], Duration::ZERO), (b"y", LEFT_OVER_OUTPUT / 4)] {
            let (terminal, mut left_behind) = UnixStream::pair().expect("a pair");
            terminal.set_nonblocking(true).expect("set");
            let master = watched(terminal).expect("a descriptor");
            let word = word.to_vec();
            let talking = std::thread::spawn(move || {
                while left_behind.write_all(&word).is_ok() {
                    std::thread::sleep(pause);
                }
            });
            let (outgoing, mut listener) = mpsc::channel(1);
            let (tell, ended) = oneshot::channel();
            tell.send(0).expect("it listens");
            let (_client, mut inputs) = mpsc::channel(1);
            let terminal = Terminal { session: "s", master, outgoing: &outgoing, unwritten: Vec::new() };
            let mut heard = 0;
            let listening = async {
                while let Some(FromInstance::ExecOutput { bytes, .. }) = listener.recv().await {
                    heard += bytes.len();
                }
            };
            tokio::select! {
                code = terminal.run(&mut inputs, ended) => assert_eq!(code, Some(0)),
                () = listening => panic!("the connection does not end"),
            }
            // One who says a word four times in the time that there is: not as many as the bytes that there may be.
            assert!(pause.is_zero() || heard < 100, "{heard}");
            talking.join().expect("it is hung up on");
        }
    }
}
