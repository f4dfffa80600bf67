//! Waiting for a task's end by the cluster's events: nobody is asked again and again.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

use crate::cluster;
use crate::failure::{Explain, Failure};

/// Whether the task has stopped within `patience`.
///
/// # Errors
/// The daemon ended before the task did.
pub(super) fn until_stopped(
    events: impl Read + Send + 'static,
    id: String,
    patience: Option<Duration>,
) -> Result<bool, Failure> {
    let Some(patience) = patience else { return told_of_end(events, &id).map(|()| true) };
    let (sender, ended) = channel();
    // Ends with this process where the task does not end.
    std::thread::spawn(move || sender.send(told_of_end(events, &id)));
    match ended.recv_timeout(patience) {
        Ok(told) => told.map(|()| true),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(false),
    }
}

fn told_of_end(events: impl Read, id: &str) -> Result<(), Failure> {
    for line in BufReader::new(events).lines() {
        let line = line.doing("following the cluster's events")?;
        let event: Value = serde_json::from_str(&line).doing("reading an event")?;
        let detail = &event["detail"];
        let is_it = detail["taskArn"].as_str().is_some_and(|arn| cluster::last(arn) == id);
        if is_it && detail["lastStatus"] == "STOPPED" {
            return Ok(());
        }
    }
    Err(Failure::new("the daemon has ended before the task did; it is being stopped all the same")
        .next("coracle ps --all"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = concat!(
        r#"{"detail-type":"ECS Container Instance State Change","detail":{"status":"ACTIVE"}}"#,
        "\n",
        r#"{"detail-type":"ECS Task State Change","detail":{"taskArn":"arn:x:task/default/aa","lastStatus":"STOPPED"}}"#,
        "\n",
        r#"{"detail-type":"ECS Task State Change","detail":{"taskArn":"arn:x:task/default/bb","lastStatus":"RUNNING"}}"#,
        "\n",
    );

    #[test]
    fn the_end_is_the_tasks_own() {
        assert!(until_stopped(EVENTS.as_bytes(), "aa".to_owned(), None).expect("it ended"));
        let failure = until_stopped(EVENTS.as_bytes(), "bb".to_owned(), None).expect_err("the events ended before");
        assert!(failure.chain[0].contains("the daemon has ended"), "{failure}");
    }
}
