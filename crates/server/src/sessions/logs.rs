//! Readers of the logs of tasks on container instances. Each allows its instance a few batches, and another one for each that
//! its client has taken: so much is what one that is slow costs here, and no message waits for it.

use agent_protocol::logs::{Awslogs, ReadLogs, Source, Told, Wanted};
use agent_protocol::session::ToInstance;
use ecs::{ContainerInstanceId, TaskId};
use tokio::sync::mpsc;

use super::{Sessions, tell_at_last};
use crate::dice;

/// At one time.
const READERS: usize = 100;
/// What an instance may send ahead of what a client has taken.
const BATCHES: usize = 4;
/// Of one message, in base64: far above what an instance makes of `agent_protocol::logs::BATCH_BYTES`.
const MESSAGE_BYTES: usize = 2 << 20;
/// Beside its batches a reading has a begin and an end.
const BEGIN_AND_END: usize = 2;

/// Why a task's logs cannot be asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotRead {
    #[error("container instance {0} is not connected; its tasks' logs are to be had on its host")]
    NotConnected(ContainerInstanceId),
    #[error(
        "the agent of container instance {0} is an older one, which reads no logs for others: update it, or read them on its host"
    )]
    OlderAgent(ContainerInstanceId),
    #[error("{READERS} readers follow logs already; try again later")]
    TooMany,
}

pub(super) struct Reader {
    pub(super) instance: ContainerInstanceId,
    told: mpsc::Sender<Told>,
}

impl Sessions {
    /// Asks a task's instance for its logs.
    ///
    /// # Errors
    /// `CannotRead`.
    pub async fn read_logs(
        &self,
        instance: &ContainerInstanceId,
        task: TaskId,
        wanted: Wanted,
    ) -> Result<LogReading, CannotRead> {
        let session = dice::hex::<16>();
        let (sender, told) = mpsc::channel(BATCHES + BEGIN_AND_END);
        let not_connected = || CannotRead::NotConnected(instance.clone());
        let outgoing = {
            let mut known = self.known();
            let connection = known.connections.get(instance).ok_or_else(not_connected)?;
            if !connection.reads_logs {
                return Err(CannotRead::OlderAgent(instance.clone()));
            }
            let outgoing = connection.outgoing.clone();
            if known.logs.len() >= READERS {
                return Err(CannotRead::TooMany);
            }
            known.logs.insert(session.clone(), Reader { instance: instance.clone(), told: sender });
            outgoing
        };
        let asked = ReadLogs { session: session.clone(), task, batches: BATCHES, wanted };
        let reading = LogReading { session, outgoing, told, sessions: self.clone() };
        reading.outgoing.send(ToInstance::ReadLogs(asked)).await.map_err(|_| not_connected())?;
        Ok(reading)
    }

    /// An instance that sends more than it was allowed is not listened to, and neither is one whose reader has gone.
    pub(super) fn logs_told(
        &self,
        instance: &ContainerInstanceId,
        session: String,
        told: Told,
        outgoing: &mpsc::Sender<ToInstance>,
    ) {
        let is_over = matches!(told, Told::Refused(_) | Told::Ended { .. });
        let mut known = self.known();
        let reader = known.logs.get(&session).filter(|reader| reader.instance == *instance);
        let taken = reader.is_some_and(|reader| bytes(&told) <= MESSAGE_BYTES && reader.told.try_send(told).is_ok());
        if is_over || !taken {
            known.logs.retain(|known, reader| *known != session || reader.instance != *instance);
        }
        if !is_over && !taken {
            drop(outgoing.try_send(ToInstance::CloseLogs { session }));
        }
    }
}

/// What a message takes of memory.
fn bytes(told: &Told) -> usize {
    match told {
        Told::Records(records) => records.iter().map(|record| size_of_val(record) + record.bytes.len()).sum(),
        Told::Opened(sources) => sources.iter().map(of_source).sum(),
        Told::Refused(why) | Told::Ended { failed: Some(why) } => why.len(),
        Told::Ended { failed: None } => 0,
    }
}

fn of_source(source: &Source) -> usize {
    let Source { container, kept: _, lost_bytes: _, lost_cause, awslogs } = source;
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let awslogs = awslogs.as_ref().map_or(0, |awslogs| {
        let Awslogs { group, stream, datetime_format, multiline_pattern } = awslogs;
        group.len() + stream.len() + length(datetime_format) + length(multiline_pattern)
    });
    size_of_val(source) + container.as_str().len() + length(lost_cause) + awslogs
}

/// Logs that are being read. Dropping it ends the reading.
pub struct LogReading {
    session: String,
    outgoing: mpsc::Sender<ToInstance>,
    told: mpsc::Receiver<Told>,
    sessions: Sessions,
}

impl LogReading {
    /// Nothing where the instance has gone.
    pub async fn next(&mut self) -> Option<Told> {
        self.told.recv().await
    }

    /// That a batch has been taken.
    pub async fn allow_more(&self) {
        // An instance that has gone ends the reading by itself.
        drop(self.outgoing.send(ToInstance::MoreLogs { session: self.session.clone() }).await);
    }
}

impl Drop for LogReading {
    fn drop(&mut self) {
        if self.sessions.known().logs.remove(&self.session).is_some() {
            tell_at_last(&self.outgoing, ToInstance::CloseLogs { session: self.session.clone() });
        }
    }
}
