//! `coracle logs`: what a task's containers wrote.

use std::io::Write;
use std::process::ExitCode;

use agent_protocol::TaskSpec;
use clap::Args;
use ecs::{ContainerName, Timestamp};
use runtime::logs::{self, ReadOptions, Record, Stream};
use runtime::task_dir;

use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::{Options, Output, require_root};
use crate::show::{self, Piece, Prefixes, Printer, Times};
use crate::{clock, output, time_text};

/// Rendered output is written when it has this many bytes, or when there is nothing more to read.
const BATCH_BYTES: usize = 64 << 10;
/// Records that a follower may be ahead of a slow terminal.
const AHEAD: usize = 4096;

/// Print what a task's containers wrote
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle logs web\n  sudo coracle logs --follow --since 10m --container sidecar web"
)]
pub(crate) struct Arguments {
    /// The task's id, the start of its id, its name or its family.
    task: String,
    /// Go on until the task has stopped.
    #[arg(short, long)]
    follow: bool,
    /// Nothing older: a span (10m, 1h30m), seconds since 1970, or a time as 2026-11-23T01:53:57Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only the last so many lines.
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
    /// Begin each line with its time.
    #[arg(short, long)]
    timestamps: bool,
    /// Only this container; may be given more than once.
    #[arg(short, long, value_name = "NAME")]
    container: Vec<String>,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("logs")?;
    let task = task_dir::find(&options.roots()?, &arguments.task).doing("no task to read the logs of")?;
    let read = read_options(arguments)?;
    let alone = task.spec.containers.len() == 1 || read.containers.len() == 1;
    let mut out = Rendered::new(&task.spec, arguments, alone);
    if arguments.follow {
        follow(&task.spec, &read, &mut out)?;
    } else {
        let mut reader = logs::read(&task.spec, &read)?;
        while let Some(record) = reader.next_record()? {
            out.add(&OwnedRecord::of(&record));
            if out.is_long() && !out.write()? {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    out.write()?;
    Ok(ExitCode::SUCCESS)
}

/// Reads on a thread of its own, so that this one knows when there is nothing more to print for now.
fn follow(spec: &TaskSpec, read: &ReadOptions, out: &mut Rendered) -> Result<(), Failure> {
    let (sender, records) = std::sync::mpsc::sync_channel(AHEAD);
    follow_on_thread(spec, read, move |item| item.is_some_and(|item| sender.send(item).is_ok()))?;
    while let Ok(record) = records.recv() {
        out.add(&record?);
        while !out.is_long()
            && let Ok(record) = records.try_recv()
        {
            out.add(&record?);
        }
        if !out.write()? {
            return Ok(());
        }
    }
    Ok(())
}

/// Hands every record to `take`, then nothing, once; ends early when `take` says that nobody listens.
pub(crate) fn follow_on_thread(
    spec: &TaskSpec,
    read: &ReadOptions,
    mut take: impl FnMut(Option<Result<OwnedRecord, logs::ReadError>>) -> bool + Send + 'static,
) -> Result<(), Failure> {
    let mut reader = logs::read(spec, read)?;
    std::thread::spawn(move || {
        loop {
            match reader.next_record() {
                Ok(Some(record)) => {
                    if !take(Some(Ok(OwnedRecord::of(&record)))) {
                        return;
                    }
                }
                Ok(None) => {
                    take(None);
                    return;
                }
                Err(error) => {
                    take(Some(Err(error)));
                    return;
                }
            }
        }
    });
    Ok(())
}

fn read_options(arguments: &Arguments) -> Result<ReadOptions, Failure> {
    let since = arguments.since.as_deref().map(|text| time_text::since(text, clock::now())).transpose();
    let containers = arguments.container.iter().map(|name| ContainerName::try_from(name.clone()));
    Ok(ReadOptions {
        follow: arguments.follow,
        since: since.doing("--since").map_err(|failure| failure.exit(BAD_INPUT))?,
        tail: arguments.tail,
        containers: containers
            .collect::<Result<_, _>>()
            .doing("--container")
            .map_err(|failure| failure.exit(BAD_INPUT))?,
    })
}

/// A record that can wait for its turn.
#[derive(Debug)]
pub(crate) struct OwnedRecord {
    container: ContainerName,
    stream: Stream,
    time: Timestamp,
    partial: bool,
    bytes: Vec<u8>,
}

impl OwnedRecord {
    fn of(record: &Record<'_>) -> Self {
        Self {
            container: record.container.clone(),
            stream: record.stream,
            time: record.time,
            partial: record.partial,
            bytes: record.bytes.to_vec(),
        }
    }

    pub(crate) fn piece(&self) -> Piece<'_> {
        Piece {
            container: &self.container,
            stream: self.stream,
            at: self.time,
            bytes: &self.bytes,
            partial: self.partial,
        }
    }
}

/// Text that waits to be written: containers' standard error to ours, all else to standard output.
struct Rendered {
    json: bool,
    out: (Printer, Vec<u8>),
    err: (Printer, Vec<u8>),
}

impl Rendered {
    fn new(spec: &TaskSpec, arguments: &Arguments, alone: bool) -> Self {
        let names: Vec<ContainerName> =
            spec.containers.iter().map(|container| container.definition.name.clone()).collect();
        let times = if arguments.timestamps { Times::Shown } else { Times::Hidden };
        let printer = |colours| Printer::new((!alone).then(|| Prefixes::new(names.clone(), colours)), times);
        Self {
            json: arguments.output.is_json(),
            out: (printer(output::colours(&std::io::stdout())), Vec::new()),
            err: (printer(output::colours(&std::io::stderr())), Vec::new()),
        }
    }

    fn add(&mut self, record: &OwnedRecord) {
        let piece = record.piece();
        if self.json {
            self.out.1.extend_from_slice(show::piece_json(&piece).to_string().as_bytes());
            self.out.1.push(b'\n');
            return;
        }
        let (printer, buffer) = match record.stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        };
        printer.piece(&piece, buffer);
    }

    fn is_long(&self) -> bool {
        self.out.1.len() + self.err.1.len() >= BATCH_BYTES
    }

    /// Whether somebody still reads.
    fn write(&mut self) -> Result<bool, Failure> {
        let (out, err) = (std::mem::take(&mut self.out.1), std::mem::take(&mut self.err.1));
        let written = std::io::stdout().lock().write_all(&out).and_then(|()| std::io::stdout().flush());
        match written.and_then(|()| std::io::stderr().lock().write_all(&err)) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            result => result.doing("writing the logs").map(|()| true),
        }
    }
}
