//! The logs of a task on another host, which its container instance reads and the control plane passes on.

use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};

use agent_protocol::logs::{Record, Source, Told, Wanted};
use ecs::ContainerName;
use runtime::logs::{Position, ReadOptions};

use super::{AHEAD, Arguments, OwnedRecord, PATIENCE, Rendered, print, tell_what_is_not_kept};
use crate::api_client::Api;
use crate::cluster::{self, Described};
use crate::failure::{Explain, Failure, Outcome};
use crate::output::printable;

/// A batch of records is far below it.
const LINE_BYTES: u64 = 4 << 20;

pub(super) fn run(api: &Api, described: &Described, read: &ReadOptions, arguments: &Arguments) -> Outcome {
    let id = cluster::short(&described.task.task_arn);
    let host =
        cluster::ask_host_of(api, described)?.map_or_else(|| "another host".to_owned(), |host| format!("host {host}"));
    let doing = format!("reading the logs of task {id} on {host}");
    let wanted = Wanted {
        follow: read.follow,
        since: read.since,
        until: read.until,
        tail: read.tail,
        containers: read.containers.clone(),
    };
    let mut question = ecs::json::value_of(&wanted)?;
    question["task"] = described.id().into();
    let mut told = Lines(BufReader::new(api.own_stream("/logs", &question).doing(&doing)?));
    let sources = match told.next().doing(&doing)? {
        Told::Opened(sources) => sources,
        Told::Refused(_) | Told::Records(_) | Told::Ended { .. } => return Err(out_of_turn().doing(doing)),
    };
    tell_what_is_not_kept(&sources)?;
    let mut out = Rendered::of_task(&sources, arguments);
    let names = sources.into_iter().map(|source: Source| source.container).collect();
    let (sender, records) = sync_channel(AHEAD);
    // Ends with this process, where that has had enough: the API sees the connection close.
    std::thread::spawn(move || take(told, names, &sender));
    print(&records, read.follow.then_some(PATIENCE), &mut out).doing(doing)?;
    Ok(ExitCode::SUCCESS)
}

/// To the last word, or until nobody listens.
fn take(mut told: Lines<impl Read>, names: Vec<ContainerName>, to: &SyncSender<Result<OwnedRecord, Failure>>) {
    loop {
        let failure = match told.next() {
            Ok(Told::Records(records)) => {
                for record in records {
                    if to.send(owned(&names, &record)).is_err() {
                        return;
                    }
                }
                continue;
            }
            Ok(Told::Ended { failed: None }) => return,
            Ok(Told::Ended { failed: Some(why) }) => Failure::new(printable(&why)),
            Ok(Told::Opened(_) | Told::Refused(_)) => out_of_turn(),
            Err(failure) => failure,
        };
        // Whoever has gone has no use for it.
        let _ = to.send(Err(failure));
        return;
    }
}

fn owned(names: &[ContainerName], record: &Record) -> Result<OwnedRecord, Failure> {
    let container = names.get(record.source).ok_or_else(out_of_turn)?.clone();
    Ok(OwnedRecord {
        source: record.source,
        container,
        stream: record.stream,
        time: record.time,
        partial: record.partial,
        bytes: agent::logs::bytes(record).doing("reading a record")?,
        // Nobody goes on from here.
        end: Position::default(),
        missing: 0,
    })
}

fn out_of_turn() -> Failure {
    Failure::new("the API's answer is none of logs")
}

struct Lines<From>(BufReader<From>);

impl<From: Read> Lines<From> {
    /// # Errors
    /// The last word was not said: the connection, or the daemon, has gone.
    fn next(&mut self) -> Result<Told, Failure> {
        let mut line = Vec::new();
        self.0.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line).doing("reading the answer")?;
        if !line.ends_with(b"\n") {
            return Err(Failure::new("the daemon has ended, or the connection to it; the logs go on"));
        }
        serde_json::from_slice(&line).doing("reading the answer's JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_stops_too_early_is_no_whole_one() {
        let read = |text: &str| {
            let name = ContainerName::try_from("app".to_owned()).expect("a name");
            let (sender, records) = sync_channel(AHEAD);
            take(Lines(BufReader::new(text.as_bytes())), vec![name], &sender);
            drop(sender);
            let told = records.iter().map(|record| match record {
                Ok(record) => String::from_utf8_lossy(&record.bytes).into_owned(),
                Err(failure) => format!("! {}", failure.chain[0]),
            });
            told.collect::<Vec<_>>()
        };
        let record = r#"{"records":[{"source":0,"stream":"stdout","time":1.5,"bytes":"Zg=="}]}"#;
        let whole = r#"{"ended":{"failed":null}}"#;
        assert_eq!(read(&format!("{record}\n{whole}\n")), ["f"]);
        let gone = "! the daemon has ended, or the connection to it; the logs go on";
        assert_eq!(read(&format!("{record}\n")), ["f", gone]);
        assert_eq!(read(&format!("{record}\n{whole}")), ["f", gone]);
        let failed = r#"{"ended":{"failed":"the disk is broken"}}"#;
        assert_eq!(read(&format!("{failed}\n")), ["! the disk is broken"]);
        let other = record.replace("\"source\":0", "\"source\":1");
        assert_eq!(read(&format!("{other}\n{whole}\n")), ["! the API's answer is none of logs"]);
        for bad in ["\n", "{}\n", "x\n"] {
            assert_eq!(read(bad), ["! reading the answer's JSON"], "{bad:?}");
        }
    }
}
