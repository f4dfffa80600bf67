//! How a task's output and changes look on a terminal, in a pipe and as JSON. Pure: bytes and events in, bytes out.

use agent::events::Event;
use agent_protocol::TaskSpec;
use ecs::task::{ContainerLastStatus, HealthStatus, LastStatus, NetworkBinding};
use ecs::task_definition::TransportProtocol;
use ecs::{ContainerName, Timestamp};
use runtime::logs::Stream;
use serde_json::{Value, json};

use crate::time_text;

/// Colours of name prefixes, in turn: cyan, yellow, green, magenta, blue, and their bright forms.
const COLOURS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// `name | ` before each line of a container, all of one width.
#[derive(Clone, Debug)]
pub(crate) struct Prefixes {
    names: Vec<String>,
    colours: bool,
}

impl Prefixes {
    /// Of containers, or of log streams.
    pub(crate) fn new<N: ToString>(names: impl IntoIterator<Item = N>, colours: bool) -> Self {
        Self { names: names.into_iter().map(|name| name.to_string()).collect(), colours }
    }

    fn of(&self, name: &str) -> String {
        let width = self.names.iter().map(String::len).max().unwrap_or(0);
        let place = self.names.iter().position(|candidate| candidate == name).unwrap_or(0);
        if self.colours {
            format!("\u{1b}[{}m{name:<width$} |\u{1b}[0m ", COLOURS[place % COLOURS.len()])
        } else {
            format!("{name:<width$} | ")
        }
    }
}

/// A piece of what a container wrote: a line, or the part of a long one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    /// What its prefix says: the container, or the log stream.
    pub(crate) label: &'a str,
    pub(crate) container: &'a ContainerName,
    pub(crate) stream: Stream,
    pub(crate) at: Timestamp,
    pub(crate) bytes: &'a [u8],
    /// No line end follows.
    pub(crate) partial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    Shown,
    Hidden,
}

/// Pieces of several containers as text on one output. A line that another container interrupts is ended, and goes on
/// with a prefix of its own.
#[derive(Debug)]
pub(crate) struct Printer {
    /// Without them, the bytes are exactly the container's.
    prefixes: Option<Prefixes>,
    times: Times,
    /// Whose line has no end yet.
    open: Option<(String, Stream)>,
}

impl Printer {
    pub(crate) fn new(prefixes: Option<Prefixes>, times: Times) -> Self {
        Self { prefixes, times, open: None }
    }

    pub(crate) fn piece(&mut self, piece: &Piece<'_>, out: &mut Vec<u8>) {
        let goes_on = |(label, stream): &(String, Stream)| label == piece.label && *stream == piece.stream;
        if !self.open.as_ref().is_some_and(goes_on) {
            self.end_line(out);
            if let Some(prefixes) = &self.prefixes {
                out.extend_from_slice(prefixes.of(piece.label).as_bytes());
            }
            if self.times == Times::Shown {
                out.extend_from_slice(time_text::rfc3339(piece.at).as_bytes());
                out.push(b' ');
            }
        }
        out.extend_from_slice(piece.bytes);
        if !piece.partial {
            out.push(b'\n');
        }
        self.open = piece.partial.then(|| (piece.label.to_owned(), piece.stream));
    }

    /// Before something that is no piece is printed on the same terminal, and at the end.
    pub(crate) fn end_line(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() && self.prefixes.is_some() {
            out.push(b'\n');
        }
    }
}

pub(crate) fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// Bytes that are no UTF-8 become U+FFFD: JSON has no other bytes.
pub(crate) fn piece_json(piece: &Piece<'_>) -> Value {
    let mut value = json!({
        "event": "log",
        "at": piece.at,
        "container": piece.container,
        "stream": stream_name(piece.stream),
        "message": String::from_utf8_lossy(piece.bytes),
    });
    if piece.partial {
        value["partial"] = Value::Bool(true);
    }
    value
}

/// A change as one line for a person; nothing for what only programs want.
pub(crate) fn event_text(event: &Event) -> Option<String> {
    match event {
        Event::Container { last_status: ContainerLastStatus::Pending | ContainerLastStatus::Running, .. } => None,
        Event::Container { last_status: ContainerLastStatus::Stopped, container, exit_code, reason, .. } => {
            let exit = exit_code.map(|code| format!(" with exit code {code}")).unwrap_or_default();
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            Some(format!("{container} stopped{exit}{reason}"))
        }
        Event::Health { container, health_status, .. } => match health_status {
            HealthStatus::Healthy => Some(format!("{container} is healthy")),
            HealthStatus::Unhealthy => Some(format!("{container} is unhealthy")),
            HealthStatus::Unknown => None,
        },
        Event::Restarted { container, restart_count, .. } => {
            Some(format!("{container} is restarted by its restart policy (restart {restart_count})"))
        }
        Event::Stuck { container, reason: Some(reason), .. } => Some(format!("{container}: {reason}")),
        Event::Stuck { container, reason: None, .. } => Some(format!("{container}: what did not die has died")),
        Event::Task { last_status: LastStatus::Running, .. } => Some("task is running".to_owned()),
        Event::Task { last_status: LastStatus::Stopped, stopped_reason, .. } => {
            let reason = stopped_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            Some(format!("task stopped{reason}"))
        }
        Event::Task {
            last_status:
                LastStatus::Provisioning
                | LastStatus::Pending
                | LastStatus::Activating
                | LastStatus::Deactivating
                | LastStatus::Stopping
                | LastStatus::Deprovisioning,
            ..
        } => None,
    }
}

/// `web: http://localhost:8080 -> 80/tcp` for each published port. Amazon's answer has one binding for each address
/// family at times; the same port is told once.
pub(crate) fn published(name: &ContainerName, bindings: &[NetworkBinding]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for binding in bindings {
        let (protocol, scheme) = match binding.protocol {
            TransportProtocol::Tcp => ("tcp", "http://localhost:"),
            TransportProtocol::Udp => ("udp", "localhost:"),
        };
        let line = match (binding.host_port, &binding.host_port_range) {
            (Some(host), _) => {
                format!("{name}: {scheme}{host} -> {}/{protocol}", binding.container_port.unwrap_or(host))
            }
            (None, Some(range)) => {
                let inside = binding.container_port_range.as_deref().unwrap_or(range);
                format!("{name}: localhost:{range} -> {inside}/{protocol}")
            }
            (None, None) => continue,
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// What a task's own interface is reached at: `172.31.0.5`, with its public address where it has one.
pub(crate) fn address_cell(spec: &TaskSpec) -> String {
    let Some(interface) = &spec.network_interface else { return String::new() };
    let addresses = std::iter::once(interface.private_ipv4_address).chain(interface.public_ipv4_address);
    addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(", ")
}

/// `web: http://172.31.0.5:80` for each port that a container of an awsvpc task has said it listens on.
pub(crate) fn open_ports(spec: &TaskSpec) -> Vec<String> {
    let Some(interface) = &spec.network_interface else { return Vec::new() };
    let address = interface.public_ipv4_address.unwrap_or(interface.private_ipv4_address);
    let each = spec.containers.iter().flat_map(|container| {
        container.definition.port_mappings.iter().filter_map(move |mapping| {
            let (scheme, protocol) = match mapping.protocol.unwrap_or_default() {
                TransportProtocol::Tcp => ("http://", "tcp"),
                TransportProtocol::Udp => ("", "udp"),
            };
            let ports = mapping.container_port.map(|port| port.to_string());
            let ports = ports.or_else(|| mapping.container_port_range.clone())?;
            Some(format!("{}: {scheme}{address}:{ports} ({protocol})", container.definition.name))
        })
    });
    let head = format!("{}, {}", address_cell(spec), interface.private_dns_name);
    std::iter::once(head).chain(each).collect()
}

/// `0.0.0.0:8080->80/tcp`, as a table's cell.
pub(crate) fn ports_cell(bindings: &[NetworkBinding]) -> String {
    let mut cells: Vec<String> = Vec::new();
    for binding in bindings {
        let protocol = match binding.protocol {
            TransportProtocol::Tcp => "tcp",
            TransportProtocol::Udp => "udp",
        };
        let host = binding.host_port.map(|port| port.to_string()).or_else(|| binding.host_port_range.clone());
        let inside =
            binding.container_port.map(|port| port.to_string()).or_else(|| binding.container_port_range.clone());
        let cell = match (host, inside) {
            (Some(host), Some(inside)) => format!("{host}->{inside}/{protocol}"),
            (Some(only), None) | (None, Some(only)) => format!("{only}/{protocol}"),
            (None, None) => continue,
        };
        if !cells.contains(&cell) {
            cells.push(cell);
        }
    }
    cells.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContainerName {
        ContainerName::try_from(text.to_owned()).expect("a good name")
    }

    fn printed(printer: &mut Printer, pieces: &[(&str, &[u8], bool)]) -> String {
        let mut out = Vec::new();
        for (container, bytes, partial) in pieces {
            let container = name(container);
            let at = Timestamp::from_epoch_ms(0);
            let label = container.as_str();
            let piece = Piece { label, container: &container, stream: Stream::Stdout, at, bytes, partial: *partial };
            printer.piece(&piece, &mut out);
        }
        printer.end_line(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_carry_their_containers_name() {
        let prefixes = Prefixes::new(vec![name("web"), name("sidecar")], false);
        let pieces: [(&str, &[u8], bool); 6] = [
            ("web", b"one", false),
            ("web", b"long ", true),
            ("web", b"line", false),
            ("web", b"cut ", true),
            ("sidecar", b"here", false),
            ("web", b"off", true),
        ];
        assert_eq!(
            printed(&mut Printer::new(Some(prefixes), Times::Hidden), &pieces),
            "web     | one\nweb     | long line\nweb     | cut \nsidecar | here\nweb     | off\n"
        );
        let coloured = Prefixes::new(vec![name("web")], true);
        assert_eq!(coloured.of("web"), "\u{1b}[36mweb |\u{1b}[0m ");
    }

    #[test]
    fn without_prefixes_the_bytes_are_the_containers() {
        let pieces: [(&str, &[u8], bool); 2] = [("web", b"one", false), ("web", b"no end", true)];
        assert_eq!(printed(&mut Printer::new(None, Times::Hidden), &pieces), "one\nno end");
        assert_eq!(printed(&mut Printer::new(None, Times::Shown), &pieces[..1]), "1970-01-01T00:00:00.000Z one\n");
    }

    #[test]
    fn an_end_is_told_with_its_reason() {
        let event = Event::Container {
            at: Timestamp::from_epoch_ms(0),
            container: name("web"),
            last_status: ContainerLastStatus::Stopped,
            exit_code: Some(137),
            reason: Some("OutOfMemoryError: Container killed due to memory usage".to_owned()),
        };
        assert_eq!(
            event_text(&event).as_deref(),
            Some("web stopped with exit code 137: OutOfMemoryError: Container killed due to memory usage")
        );
    }

    #[test]
    fn ports_are_told_once() {
        let binding = |ip: &str, protocol| NetworkBinding {
            bind_ip: ip.to_owned(),
            container_port: Some(80),
            host_port: Some(8080),
            container_port_range: None,
            host_port_range: None,
            protocol,
        };
        let range = NetworkBinding {
            bind_ip: "0.0.0.0".to_owned(),
            container_port: None,
            host_port: None,
            container_port_range: Some("9000-9002".to_owned()),
            host_port_range: Some("49153-49155".to_owned()),
            protocol: TransportProtocol::Udp,
        };
        let bindings = [binding("0.0.0.0", TransportProtocol::Tcp), binding("::", TransportProtocol::Tcp), range];
        assert_eq!(
            published(&name("web"), &bindings),
            ["web: http://localhost:8080 -> 80/tcp", "web: localhost:49153-49155 -> 9000-9002/udp"]
        );
        assert_eq!(ports_cell(&bindings), "8080->80/tcp, 49153-49155->9000-9002/udp");
    }
}
