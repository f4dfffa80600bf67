//! `coracle backup` and `coracle restore`: the control plane's records and keys as one file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use server::backup::{self, Backup};
use server::{daemon, lock};

use crate::failure::{Explain, Failure, Outcome};
use crate::options::{Options, require_root};
use crate::{clock, output};

const FILE_MODE: u32 = 0o600;
/// Of the daemon's answer before the backup itself.
const HEAD_BYTES: u64 = 64 << 10;

/// Write the control plane's state and keys to a file
#[derive(Args, Debug)]
#[command(after_help = "Example:
  sudo coracle backup /root/coracle-$(date +%F).backup

Works while the daemon runs and while it does not. The file holds the API's secret key: keep it as you keep that one.")]
pub(crate) struct BackupArguments {
    /// The file, which must not be there yet; - is standard output.
    file: PathBuf,
}

/// Put a backup in the place of the control plane's state
#[derive(Args, Debug)]
#[command(after_help = "Example:
  sudo systemctl stop coracle; sudo coracle restore /root/coracle-2026-11-23.backup; sudo systemctl start coracle

The daemon must not run. What was there stays beside the new state. Container instances follow what is restored: tasks that it does not know are stopped.")]
pub(crate) struct RestoreArguments {
    /// The file that `coracle backup` wrote; - is standard input.
    file: PathBuf,
}

pub(crate) fn backup(options: &Options, arguments: &BackupArguments) -> Outcome {
    require_root("backup")?;
    let roots = options.roots()?;
    if arguments.file == Path::new("-") {
        take(&roots.data, &roots.run, &mut io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = &arguments.file;
    let made = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(file);
    let mut out = BufWriter::new(made.doing(format!("making {}", file.display()))?);
    let taken = take(&roots.data, &roots.run, &mut out).and_then(|()| {
        out.flush().and_then(|()| out.get_ref().sync_all()).doing(format!("writing {}", file.display()))
    });
    if taken.is_err() {
        // Half a backup is none, and would stand in the next one's way.
        let _ = std::fs::remove_file(file);
    }
    taken.map(|()| ExitCode::SUCCESS)
}

/// From the daemon, or where there is none from its files.
fn take(data: &Path, run: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let state = data.join(daemon::STATE_DIRECTORY);
    match UnixStream::connect(run.join(daemon::SOCKET)) {
        Ok(stream) => from_daemon(stream, out),
        Err(_) => {
            if !state.join(server::store::FILE).exists() {
                return Err(Failure::new(format!("there is no state in {}", state.display())).next("--data-dir DIR"));
            }
            let _lock = lock::take(&state)?;
            let backup = backup::offline(&state)?;
            let records = backup.records.into_iter();
            backup::write(backup.epoch, &backup.files, records, |line| out.write_all(&line)).doing("writing the backup")
        }
    }
}

/// HTTP/1.0, so that the answer is plain bytes to the connection's end. It is checked as it goes by: what does not end as a
/// backup ends was not taken whole.
fn from_daemon(mut stream: UnixStream, out: &mut dyn Write) -> Result<(), Failure> {
    let asking = "asking the daemon for its state";
    stream.write_all(b"GET /backup HTTP/1.0\r\nHost: coracle\r\n\r\n").doing(asking)?;
    let mut answer = BufReader::new(stream);
    let mut status = String::new();
    answer.by_ref().take(HEAD_BYTES).read_line(&mut status).doing(asking)?;
    if !status.contains(" 200 ") {
        return Err(Failure::new(status.trim().to_owned()).doing(asking));
    }
    loop {
        let mut header = String::new();
        let length = answer.by_ref().take(HEAD_BYTES).read_line(&mut header).doing(asking)?;
        if length == 0 || header.trim().is_empty() {
            break;
        }
    }
    let copied = backup::read(BufReader::new(Tee { from: answer, to: out }));
    copied.map(drop).doing(asking)
}

/// Hands on what it reads.
struct Tee<'a, Reader> {
    from: Reader,
    to: &'a mut dyn Write,
}

impl<Reader: Read> Read for Tee<'_, Reader> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.to.write_all(&buffer[..length])?;
        Ok(length)
    }
}

pub(crate) fn restore(options: &Options, arguments: &RestoreArguments) -> Outcome {
    require_root("restore")?;
    let roots = options.roots()?;
    let file = &arguments.file;
    let backup = read(file).doing(format!("reading {}", file.display()))?;
    let state = roots.data.join(daemon::STATE_DIRECTORY);
    server::files::make_directory(&state)?;
    let _lock = lock::take(&state).next("stop the daemon first")?;
    let aside = backup::restore(&state, &backup, clock::now()).doing("restoring the backup")?;
    output::print(&format!("{} records are restored in {}\n", backup.records.len(), state.display()))?;
    if let Some(aside) = aside {
        output::print(&format!("what was there is in {}\n", aside.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Backup, Failure> {
    if file == Path::new("-") {
        return Ok(backup::read(io::stdin().lock())?);
    }
    Ok(backup::read(BufReader::new(File::open(file)?))?)
}
