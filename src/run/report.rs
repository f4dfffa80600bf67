//! What `coracle run` says: containers' output, changes of state and its own words; as text for people, or as one JSON
//! object a line. As JSON, standard output is nothing else.

use std::io::{self, Write};

use agent::driver::{Stages, Started};
use agent::events::Event;
use agent_protocol::{TaskSpec, TaskStatus};
use ecs::lint::Finding;
use runtime::logs::Stream;
use serde_json::{Value, json};

use crate::failure::{Explain, Failure};
use crate::logs::OwnedRecord;
use crate::show::{self, Prefixes, Printer, Times};
use crate::{clock, definition, output};

pub(super) struct Report {
    json: bool,
    /// Colours on standard error.
    colours: bool,
    out: Vec<u8>,
    err: Vec<u8>,
    /// Our terminal is raw: a line ends with a carriage return too.
    raw: bool,
    printers: Option<Printers>,
}

/// One for each of our outputs, when the containers' names are known.
struct Printers {
    out: Printer,
    err: Printer,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            colours: output::colours(&io::stderr()),
            out: Vec::new(),
            err: Vec::new(),
            raw: false,
            printers: None,
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    fn json_line(&mut self, value: &Value) {
        self.out.extend_from_slice(value.to_string().as_bytes());
        self.out.push(b'\n');
    }

    /// A line of our own on standard error.
    fn say(&mut self, text: &str) {
        if let Some(printers) = &mut self.printers {
            printers.err.end_line(&mut self.err);
        }
        let (dim, plain) = if self.colours { ("\u{1b}[2m", "\u{1b}[0m") } else { ("", "") };
        self.err.extend_from_slice(format!("{dim}coracle: {}{plain}\n", output::printable(text)).as_bytes());
    }

    /// Everything that lint found, in one block.
    pub(super) fn findings(&mut self, findings: &[Finding]) {
        for finding in findings {
            if self.json {
                let mut value = definition::finding_json(finding);
                value["event"] = json!("finding");
                value["at"] = json!(clock::now());
                self.json_line(&value);
            } else {
                self.err.extend_from_slice(definition::finding_text(finding, self.colours).as_bytes());
            }
        }
        self.flush();
    }

    pub(super) fn started(&mut self, started: &Started) {
        let spec = &started.spec;
        let names: Vec<ecs::ContainerName> =
            spec.containers.iter().map(|container| container.definition.name.clone()).collect();
        if self.json {
            self.json_line(&json!({
                "event": "started",
                "at": clock::now(),
                "task": agent::describe::task(spec, None),
                "name": spec.name,
                "stagesUs": stages_json(&started.stages),
                "said": started.said,
            }));
        } else {
            for text in &started.said {
                self.say(text);
            }
            for container in &spec.containers {
                for line in show::published(&container.definition.name, &container.network.bindings) {
                    self.say(&line);
                }
            }
            for line in show::open_ports(spec) {
                self.say(&line);
            }
            let prefixes = |colours| Some(Prefixes::new(names.clone(), colours));
            self.printers = Some(Printers {
                out: Printer::new(prefixes(output::colours(&io::stdout())), Times::Hidden),
                err: Printer::new(prefixes(self.colours), Times::Hidden),
            });
        }
        self.flush();
    }

    /// The id is printed before anything is waited for.
    pub(super) fn detached(&mut self, started: &Started) -> Result<(), Failure> {
        self.flush();
        if self.json { Ok(()) } else { output::print(&format!("{}\n", started.spec.id)) }
    }

    pub(super) fn record(&mut self, record: &OwnedRecord) {
        let piece = record.piece();
        match &mut self.printers {
            None => self.json_line(&show::piece_json(&piece)),
            Some(printers) => match piece.stream {
                Stream::Stdout => printers.out.piece(&piece, &mut self.out),
                Stream::Stderr => printers.err.piece(&piece, &mut self.err),
            },
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        if self.json {
            self.json_line(&json!(event));
        } else if let Some(text) = show::event_text(event) {
            self.say(&text);
        }
    }

    /// With `--detach` a person is told only what went wrong, and at the end.
    pub(super) fn events_for_programs(&mut self, events: &[Event]) {
        if self.json {
            events.iter().for_each(|event| self.event(event));
            self.flush();
        }
    }

    /// After Ctrl-C: what is being waited for, and for how long at most.
    pub(super) fn stopping(&mut self, waiting: &[(&ecs::ContainerName, u32)]) {
        let names: Vec<&str> = waiting.iter().map(|(name, _)| name.as_str()).collect();
        let longest = waiting.iter().map(|(_, seconds)| *seconds).max().unwrap_or(0);
        let names = names.join(", ");
        if self.json {
            self.json_line(
                &json!({"event": "stopping", "at": clock::now(), "waitingFor": names, "atMostSeconds": longest}),
            );
        } else {
            self.say(&format!("stopping, waiting for {names} up to {longest} s; Ctrl-C again kills at once"));
        }
        self.flush();
    }

    pub(super) fn killing(&mut self) {
        if self.json {
            self.json_line(&json!({"event": "killing", "at": clock::now()}));
        } else {
            self.say("killing everything that is left");
        }
        self.flush();
    }

    pub(super) fn problem(&mut self, text: &str) {
        if self.json {
            self.json_line(&json!({"event": "problem", "at": clock::now(), "message": text}));
        } else {
            self.say(text);
        }
    }

    /// The last word: the task in DescribeTasks' shape and the exit code.
    pub(super) fn end(&mut self, spec: &TaskSpec, status: &TaskStatus, exit_code: i32) {
        for error in &status.teardown_errors {
            self.problem(&format!("could not be taken away: {error}"));
        }
        for container in status.containers.iter().filter(|container| container.log_lost_bytes > 0) {
            let cause = container.log_error.as_deref().unwrap_or("unknown");
            self.problem(&format!(
                "{} bytes of {}'s output are lost: {cause}",
                container.log_lost_bytes, container.name
            ));
        }
        if let Some(Printers { out, err }) = &mut self.printers {
            out.end_line(&mut self.out);
            err.end_line(&mut self.err);
        }
        if self.json {
            self.json_line(&json!({
                "event": "final",
                "at": clock::now(),
                "exitCode": exit_code,
                "task": agent::describe::task(spec, Some(status)),
            }));
        }
        self.flush();
    }

    /// Microseconds by stage: the driver's, then each container's.
    pub(super) fn timings(&mut self, stages: &Stages, status: &TaskStatus) {
        if self.json {
            let containers: serde_json::Map<String, Value> = status
                .containers
                .iter()
                .map(|container| (container.name.to_string(), json!(container.start_stages_us)))
                .collect();
            let value = json!({"event": "timings", "at": clock::now(), "stagesUs": stages_json(stages), "containers": containers});
            self.json_line(&value);
            return;
        }
        for (name, took) in &stages.0 {
            self.say(&format!("{:>8} µs  {name}", took.as_micros()));
        }
        for container in &status.containers {
            for (name, took_us) in &container.start_stages_us {
                self.say(&format!("{took_us:>8} µs  {}: {name}", container.name));
            }
        }
    }

    pub(super) fn failure(&mut self, failure: &Failure) {
        let mut value = failure.json();
        value["at"] = json!(clock::now());
        value["exitCode"] = json!(failure.exit);
        self.json_line(&value);
        self.flush();
    }

    /// What a container's own terminal shows, byte by byte.
    pub(super) fn screen(&mut self, bytes: &[u8]) {
        self.flush();
        if let Err(failure) = write(io::stdout().lock(), bytes).doing("writing to the terminal") {
            tracing::debug!(%failure, "output was dropped");
        }
    }

    pub(super) fn set_raw(&mut self, raw: bool) {
        self.flush();
        self.raw = raw;
    }

    pub(super) fn is_long(&self) -> bool {
        self.out.len() + self.err.len() >= BATCH_BYTES
    }

    /// A reader that has gone away does not stop the task, as with `docker run`: its output is dropped.
    pub(super) fn flush(&mut self) {
        let (mut out, mut err) = (std::mem::take(&mut self.out), std::mem::take(&mut self.err));
        if self.raw {
            (out, err) = (with_carriage_returns(&out), with_carriage_returns(&err));
        }
        let written = write(io::stdout().lock(), &out).doing("writing to standard output");
        if let Err(failure) = written.and(write(io::stderr().lock(), &err).doing("writing to standard error")) {
            tracing::debug!(%failure, "output was dropped");
        }
    }
}

/// Output is written when it has this many bytes, or when nothing more is there for now.
const BATCH_BYTES: usize = 64 << 10;

fn with_carriage_returns(bytes: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    parts.join(&b"\r\n"[..])
}

fn write(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() { Ok(()) } else { to.write_all(bytes).and_then(|()| to.flush()) }
}

fn stages_json(stages: &Stages) -> Value {
    stages.0.iter().map(|(name, took)| json!([name, u64::try_from(took.as_micros()).unwrap_or(u64::MAX)])).collect()
}
