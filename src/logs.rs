//! `coracle logs`: what a task's containers wrote, on this host or on another one of its cluster.

mod remote;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use agent_protocol::{TaskSpec, logs as protocol};
use clap::Args;
use ecs::{ContainerName, Timestamp};
use runtime::logs::groups::{self, LogStream};
use runtime::logs::{self, Event, Joiner, Position, ReadOptions, Record, Stream};
use runtime::task_dir::Roots;

use crate::cluster::Scope;
use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::{Options, Output, require_root};
use crate::show::{self, Piece, Prefixes, Printer, Times};
use crate::target::Reach;
use crate::{clock, output, target, time_text};

/// Rendered output is written when it has this many bytes, or when there is nothing more to read.
const BATCH_BYTES: usize = 64 << 10;
/// Records that a follower may be ahead of a slow terminal.
const AHEAD: usize = 4096;
/// A follower's, with an event that has begun.
const PATIENCE: Duration = Duration::from_millis(logs::EVENT_PATIENCE_MS);

/// Print what a task's containers wrote
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle logs web\n  sudo coracle logs --follow --since 10m --container sidecar web\n  \
                  sudo coracle logs --group /ecs/web --tail 20\n\nA task on another host is read through the API; groups are each host's own."
)]
pub(crate) struct Arguments {
    /// The task's id, the start of its id, its name or its family.
    #[arg(required_unless_present = "group", conflicts_with = "group")]
    task: Option<String>,
    /// What awslogs containers have written to this log group, also those of tasks that are gone.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["follow", "container", "cluster", "endpoint"])]
    group: Option<String>,
    /// Only this stream of the group.
    #[arg(long, value_name = "NAME", requires = "group")]
    stream: Option<String>,
    /// Go on until the task has stopped.
    #[arg(short, long)]
    follow: bool,
    /// Nothing older: a span (10m, 1h30m), seconds since 1970, or a time as 2026-11-23T01:53:57Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Nothing newer; as --since.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
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
    scope: Scope,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    if arguments.scope.endpoint.endpoint.is_none() {
        require_root("logs")?;
    }
    let read = read_options(arguments)?;
    let (mut reader, mut out) = match (&arguments.task, &arguments.group) {
        (Some(wanted), _) => {
            let reach = target::wherever(options, &arguments.scope, wanted).doing("no task to read the logs of")?;
            let task = match reach {
                Reach::Here(task) => *task,
                Reach::There { api, described } => return remote::run(&api, &described, &read, arguments),
            };
            let sources = agent::logs::sources(&task.spec, task.status.as_ref(), &read.containers);
            tell_what_is_not_kept(&sources)?;
            let mut out = Rendered::of_task(&sources, arguments);
            if arguments.follow {
                follow(&task.spec, &read, &mut out)?;
                return Ok(ExitCode::SUCCESS);
            }
            (logs::read(&task.spec, &read)?, out)
        }
        (None, Some(group)) => {
            let streams = streams(&options.roots()?, group, arguments.stream.as_deref())?;
            let sources = streams.iter().map(Source::of_stream).collect();
            (logs::read_streams(&streams, &read)?, Rendered::new(sources, arguments))
        }
        (None, None) => return Err(Failure::new("no task and no group to read the logs of").exit(BAD_INPUT)),
    };
    while let Some(record) = reader.next_record()? {
        out.add(&record);
        if out.is_long() && !out.write()? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    out.end_events();
    out.write()?;
    Ok(ExitCode::SUCCESS)
}

fn streams(roots: &Roots, group: &str, stream: Option<&str>) -> Result<Vec<LogStream>, Failure> {
    let reading = || format!("reading the log groups in {}", roots.data.display());
    let streams = groups::find(&roots.data, group, stream).doing(reading())?;
    if !streams.is_empty() {
        return Ok(streams);
    }
    let known: Vec<String> = groups::list(&roots.data).doing(reading())?.into_keys().collect();
    let what = match stream {
        Some(stream) => format!("log group {group} has no stream {stream}"),
        None => format!("there is no log group {group}"),
    };
    let failure = Failure::new(what);
    Err(match known.as_slice() {
        [] => failure.next("a container with the log driver awslogs; no task has written to a group yet"),
        known => failure.next(format!("one of these groups: {}", known.join(", "))),
    })
}

/// An error where nothing that was asked for is kept; else a word on standard error about what is not.
fn tell_what_is_not_kept(sources: &[protocol::Source]) -> Result<(), Failure> {
    let gone: Vec<&str> =
        sources.iter().filter(|source| !source.kept).map(|source| source.container.as_str()).collect();
    if !gone.is_empty() {
        let text = format!("nothing is kept of what {} writes: the log driver is none", gone.join(", "));
        if gone.len() == sources.len() {
            return Err(Failure::new(text).next("another logDriver, such as json-file, in logConfiguration"));
        }
        eprintln!("coracle: {text}");
    }
    for source in sources.iter().filter(|source| source.lost_bytes > 0) {
        let cause = source.lost_cause.as_deref().map_or("no cause is known".into(), output::printable);
        eprintln!("coracle: {} bytes of {}'s output are lost: {cause}", source.lost_bytes, source.container);
    }
    Ok(())
}

/// Reads on a thread of its own, so that this one knows when there is nothing more to print for now.
fn follow(spec: &TaskSpec, read: &ReadOptions, out: &mut Rendered) -> Result<(), Failure> {
    let (sender, records) = sync_channel(AHEAD);
    follow_on_thread(spec, read, move |item| {
        item.is_some_and(|item| sender.send(item.map_err(Failure::from)).is_ok())
    })?;
    print(&records, Some(PATIENCE), out)
}

/// Prints what comes until nothing more does, or nobody reads it. An event whose end does not come for `patience` is whole.
fn print(
    records: &Receiver<Result<OwnedRecord, Failure>>,
    patience: Option<Duration>,
    out: &mut Rendered,
) -> Result<(), Failure> {
    loop {
        let next = match patience {
            Some(patience) => records.recv_timeout(patience),
            None => records.recv().map_err(RecvTimeoutError::from),
        };
        let mut failed = None;
        match next {
            Ok(Ok(record)) => out.add(&record.record()),
            Ok(Err(failure)) => failed = Some(failure),
            Err(RecvTimeoutError::Timeout) => out.end_events(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        while failed.is_none()
            && !out.is_long()
            && let Ok(record) = records.try_recv()
        {
            match record {
                Ok(record) => out.add(&record.record()),
                Err(failure) => failed = Some(failure),
            }
        }
        if failed.is_some() {
            out.end_events();
        }
        if !out.write()? {
            return Ok(());
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
    }
    out.end_events();
    out.write().map(drop)
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
    let time = |text: &Option<String>, option: &str| {
        let time = text.as_deref().map(|text| time_text::since(text, clock::now())).transpose();
        time.doing(option).map_err(|failure| failure.exit(BAD_INPUT))
    };
    let containers = arguments.container.iter().map(|name| ContainerName::try_from(name.clone()));
    Ok(ReadOptions {
        follow: arguments.follow,
        since: time(&arguments.since, "--since")?,
        until: time(&arguments.until, "--until")?,
        tail: arguments.tail,
        containers: containers
            .collect::<Result<_, _>>()
            .doing("--container")
            .map_err(|failure| failure.exit(BAD_INPUT))?,
        ..ReadOptions::default()
    })
}

/// Where records come from: a container of a task, or a stream of a log group.
struct Source {
    /// What a prefix says.
    label: String,
    container: ContainerName,
    group_and_stream: Option<(String, String)>,
    joiner: Joiner,
}

impl Source {
    fn of_container(source: &protocol::Source) -> Source {
        let awslogs = source.awslogs.as_ref();
        let start = awslogs
            .and_then(|logs| groups::event_start(logs.datetime_format.as_ref(), logs.multiline_pattern.as_ref()));
        Source {
            label: source.container.to_string(),
            container: source.container.clone(),
            joiner: Joiner::new(start),
            group_and_stream: awslogs.map(|logs| (logs.group.clone(), logs.stream.clone())),
        }
    }

    fn of_stream(stream: &LogStream) -> Source {
        let about = &stream.about;
        Source {
            label: about.log_stream_name.clone(),
            container: about.container_name.clone(),
            group_and_stream: Some((about.log_group_name.clone(), about.log_stream_name.clone())),
            joiner: Joiner::new(about.event_start()),
        }
    }
}

/// A record that can wait for its turn.
#[derive(Debug)]
pub(crate) struct OwnedRecord {
    source: usize,
    container: ContainerName,
    stream: Stream,
    time: Timestamp,
    partial: bool,
    bytes: Vec<u8>,
    end: Position,
    missing: u64,
}

impl OwnedRecord {
    fn of(record: &Record<'_>) -> Self {
        Self {
            source: record.source,
            container: record.container.clone(),
            stream: record.stream,
            time: record.time,
            partial: record.partial,
            bytes: record.bytes.to_vec(),
            end: record.end,
            missing: record.missing,
        }
    }

    fn record(&self) -> Record<'_> {
        Record {
            source: self.source,
            container: &self.container,
            stream: self.stream,
            time: self.time,
            partial: self.partial,
            bytes: &self.bytes,
            end: self.end,
            missing: self.missing,
        }
    }

    pub(crate) fn piece(&self) -> Piece<'_> {
        Piece {
            label: self.container.as_str(),
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
    sources: Vec<Source>,
    out: (Printer, Vec<u8>),
    err: (Printer, Vec<u8>),
}

impl Rendered {
    fn of_task(sources: &[protocol::Source], arguments: &Arguments) -> Self {
        Rendered::new(sources.iter().map(Source::of_container).collect(), arguments)
    }

    fn new(sources: Vec<Source>, arguments: &Arguments) -> Self {
        let labels: BTreeSet<&str> = sources.iter().map(|source| source.label.as_str()).collect();
        let times = if arguments.timestamps { Times::Shown } else { Times::Hidden };
        let alone = labels.len() == 1;
        let printer = |colours| {
            let in_order = sources.iter().map(|source| &source.label);
            Printer::new((!alone).then(|| Prefixes::new(in_order, colours)), times)
        };
        Self {
            json: arguments.output.is_json(),
            out: (printer(output::colours(&std::io::stdout())), Vec::new()),
            err: (printer(output::colours(&std::io::stderr())), Vec::new()),
            sources,
        }
    }

    /// Text is shown line by line; in JSON the lines of one event are one.
    fn add(&mut self, record: &Record<'_>) {
        let source = &mut self.sources[record.source];
        if self.json {
            if let Some(event) = source.joiner.push(record) {
                json_line(source, &event, &mut self.out.1);
            }
            return;
        }
        let (printer, buffer) = match record.stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        };
        let Record { container, stream, time: at, bytes, partial, .. } = *record;
        printer.piece(&Piece { label: &source.label, container, stream, at, bytes, partial }, buffer);
    }

    /// Nothing more comes, or not for a while: what has begun is whole.
    fn end_events(&mut self) {
        for source in &mut self.sources {
            if let Some(event) = source.joiner.flush() {
                json_line(source, &event, &mut self.out.1);
            }
        }
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

fn json_line(source: &Source, event: &Event, out: &mut Vec<u8>) {
    let mut value = show::piece_json(&Piece {
        label: &source.label,
        container: &source.container,
        stream: event.stream,
        at: event.time,
        bytes: &event.bytes,
        partial: event.partial,
    });
    if let Some((group, stream)) = &source.group_and_stream {
        value["logGroupName"] = group.as_str().into();
        value["logStreamName"] = stream.as_str().into();
    }
    out.extend_from_slice(value.to_string().as_bytes());
    out.push(b'\n');
}
