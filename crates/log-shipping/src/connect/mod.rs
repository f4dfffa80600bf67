//! Connections to log services: kept while they work, made anew when they do not. A batch is sent whole or counts as
//! not sent.

mod collector;
mod datagram;
mod journal;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::time::Duration;

use crate::batch::Batch;
use crate::driver::Driver;
use crate::encode::fluentd::{self, Acknowledgement};
use crate::message::Origin;
use crate::options::Address;
use collector::Collector;
use datagram::Datagrams;
use journal::Journal;
use stream::Wire;

pub(crate) use journal::SOCKET as JOURNAL_SOCKET;

/// How long a connection may take to come about, and a service to take or acknowledge a batch.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("cannot reach {target}")]
    Unreachable {
        target: String,
        #[source]
        cause: io::Error,
    },
    /// The service answers, and will not take these messages.
    #[error("{target} refuses the messages: {why}")]
    Refused { target: String, why: String },
    /// The service answers that it cannot now.
    #[error("{target} answers {why}")]
    Unwilling { target: String, why: String },
}

impl SendError {
    fn unreachable(target: &Address) -> impl FnOnce(io::Error) -> SendError {
        let target = target.to_string();
        move |cause| SendError::Unreachable { target, cause }
    }
}

/// A driver with its connection.
pub(crate) struct Outlet {
    driver: Driver,
    origin: Origin,
    wire: Option<Wire>,
    datagrams: Option<Datagrams>,
    collector: Option<Collector>,
    journal: Option<Journal>,
    /// The receiver has shown that it acknowledges nothing.
    silent: bool,
}

impl Outlet {
    pub(crate) fn new(driver: Driver, origin: Origin) -> Outlet {
        Outlet { driver, origin, wire: None, datagrams: None, collector: None, journal: None, silent: false }
    }

    /// Comes back when the service has the batch, as far as its protocol tells.
    pub(crate) fn send(&mut self, batch: &Batch) -> Result<(), SendError> {
        let sent = self.try_send(batch);
        if sent.is_err() {
            // Whatever state it is in: the next attempt begins with a new one.
            (self.wire, self.datagrams, self.journal) = (None, None, None);
        }
        sent
    }

    fn try_send(&mut self, batch: &Batch) -> Result<(), SendError> {
        match self.driver.clone() {
            Driver::Syslog(settings) => {
                let mut lines = Vec::with_capacity(batch.messages.len());
                for message in &batch.messages {
                    let mut line = Vec::new();
                    settings.encode(&self.origin, message, std::process::id(), &mut line);
                    lines.push(line);
                }
                match &settings.address {
                    address @ (Address::Udp { .. } | Address::UnixDatagram(_)) => self.send_datagrams(address, &lines),
                    address @ Address::Unix(path) => match self.wire(address, &settings.certificates) {
                        // /dev/log takes datagrams on most hosts, and Docker's driver tries both.
                        Err(SendError::Unreachable { cause, .. })
                            if cause.raw_os_error() == Some(nix::errno::Errno::EPROTOTYPE as i32) =>
                        {
                            self.send_datagrams(&Address::UnixDatagram(path.clone()), &lines)
                        }
                        Err(error) => Err(error),
                        Ok(wire) => wire.deliver(&lines.concat()).map_err(SendError::unreachable(address)),
                    },
                    address @ (Address::Tcp { .. } | Address::Tls { .. } | Address::UnixOfContainer(_)) => {
                        let wire = self.wire(address, &settings.certificates)?;
                        wire.deliver(&lines.concat()).map_err(SendError::unreachable(address))
                    }
                }
            }
            Driver::Gelf(settings) => {
                let messages = batch.messages.iter().map(|message| settings.encode(&self.origin, message));
                let address = &settings.address;
                if let Address::Tcp { .. } = address {
                    let ended: Vec<u8> = messages
                        .flat_map(|mut message| {
                            message.push(0);
                            message
                        })
                        .collect();
                    let wire = self.wire(address, &Default::default())?;
                    return wire.deliver(&ended).map_err(SendError::unreachable(address));
                }
                let mut all = Vec::new();
                for (place, message) in messages.enumerate() {
                    let id = batch.start.bytes.wrapping_add(place as u64) ^ u64::from(std::process::id()) << 40;
                    let refused = |why: String| SendError::Refused { target: address.to_string(), why };
                    all.extend(settings.datagrams(&message, id).map_err(|error| refused(error.to_string()))?);
                }
                self.send_datagrams(address, &all)
            }
            Driver::Fluentd(settings) => self.send_forward(&settings, batch),
            Driver::Splunk(settings) => {
                let collector = match &mut self.collector {
                    Some(collector) => collector,
                    none => none.insert(Collector::new(&settings)?),
                };
                collector.send(&settings, settings.encode(&self.origin, &batch.messages))
            }
            Driver::Journald(settings) => {
                let unreachable = |cause| SendError::Unreachable { target: JOURNAL_SOCKET.to_owned(), cause };
                let journal = match &mut self.journal {
                    Some(journal) => journal,
                    none => none.insert(Journal::open().map_err(unreachable)?),
                };
                let mut entries = batch.messages.iter().map(|message| settings.encode(&self.origin, message));
                entries.try_for_each(|entry| journal.send(&entry)).map_err(unreachable)
            }
        }
    }

    fn send_datagrams(&mut self, address: &Address, datagrams: &[Vec<u8>]) -> Result<(), SendError> {
        let socket = match &mut self.datagrams {
            Some(socket) => socket,
            none => none.insert(Datagrams::connect(address).map_err(SendError::unreachable(address))?),
        };
        socket.send(datagrams).map_err(SendError::unreachable(address))
    }

    fn send_forward(&mut self, settings: &fluentd::Settings, batch: &Batch) -> Result<(), SendError> {
        let asks = match settings.acknowledgement {
            Acknowledgement::Demanded => true,
            Acknowledgement::Hoped => !self.silent,
            Acknowledgement::Never => false,
        };
        let chunk = asks.then(|| fluentd::chunk_name(batch.start.segment, batch.start.bytes));
        let mut bytes = Vec::new();
        settings.encode(&self.origin, &batch.messages, chunk.as_deref(), &mut bytes);
        let address = &settings.address;
        let wire = self.wire(address, &Default::default())?;
        wire.deliver(&bytes).map_err(SendError::unreachable(address))?;
        let Some(chunk) = chunk else { return Ok(()) };
        match wire.acknowledged(&chunk) {
            Ok(true) => Ok(()),
            // It has read the batch and says nothing: a receiver that never acknowledges.
            Ok(false) if settings.acknowledgement == Acknowledgement::Hoped && !wire.has_acknowledged => {
                self.silent = true;
                Ok(())
            }
            Ok(false) => {
                let why = "nothing: the batch is not acknowledged".to_owned();
                Err(SendError::Unwilling { target: address.to_string(), why })
            }
            Err(cause) => Err(SendError::unreachable(address)(cause)),
        }
    }

    /// The connection that there is, unless the other side has closed it; else a new one.
    fn wire(
        &mut self,
        address: &Address,
        certificates: &crate::encode::syslog::Certificates,
    ) -> Result<&mut Wire, SendError> {
        if self.wire.as_mut().is_some_and(Wire::is_closed) {
            self.wire = None;
        }
        match &mut self.wire {
            Some(wire) => Ok(wire),
            none => Ok(none.insert(Wire::connect(address, certificates).map_err(SendError::unreachable(address))?)),
        }
    }
}
