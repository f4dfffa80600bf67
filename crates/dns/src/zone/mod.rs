//! The names of a host's own tasks, and what is answered to them.
//!
//! ```text
//! <container>.<task id>              A, AAAA   of this container
//! <family>                           A, AAAA   of all tasks of the family, turned round with each answer
//! _<port name>._tcp|_udp.<family>    SRV       where a named port mapping is reached
//! <host name of an interface>        A, AAAA   as Amazon's resolver has it
//! <address>.in-addr.arpa, .ip6.arpa  PTR
//! ```
//!
//! The first three also below `coracle.internal`, where nothing else is. A bare name is ours only as a whole: a family
//! called `com` takes nothing from anybody's `example.com`. Names of task ids are ours whoever's they are: no top-level
//! domain looks like one, and so the name of a task that is gone fails at once.

mod records;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::answer::Answer;
use crate::query::Query;
use crate::wire;
use records::{Found, Node, Service};

/// Of every record, in seconds: what a task's end may leave behind in a client's memory.
pub const TTL_S: u32 = 5;
/// Of an absence, in seconds: so much later than its start a task may be found by who has asked before.
pub const NEGATIVE_TTL_S: u32 = 1;
/// Addresses, or services, in one answer.
pub const MAX_RECORDS: usize = 512;
/// `coracle.internal`, as a name is sent.
const DOMAIN: &[u8] = b"\x07coracle\x08internal";
/// A task's id has so many hexadecimal digits.
const TASK_ID_LENGTH: usize = 32;
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 255;

/// A task that has not stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub id: String,
    pub family: String,
    /// Whether it is RUNNING. Before that it does not speak for its family, but its containers find each other.
    pub running: bool,
    /// Of its interface: `ip-10-0-1-5.eu-central-1.compute.internal`.
    pub host_name: Option<String>,
    /// Its addresses are the host's, which have names of their own.
    pub on_host: bool,
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    /// Whether anybody is to find it: it runs, and neither it nor its task is UNHEALTHY. The names of others exist no more than
    /// those of tasks that have ended.
    pub found: bool,
    /// Whether it has port mappings. If any container of a task has, the family's name means those that have.
    pub has_ports: bool,
    pub named_ports: Vec<NamedPort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// All names at one moment.
#[derive(Debug, Default)]
pub struct Zone {
    /// By name in small letters as it is sent, without the root's label.
    nodes: HashMap<Box<[u8]>, Node>,
    /// Whole names that are outside of `DOMAIN`: host names and reversed addresses.
    outside: HashMap<Box<[u8]>, Node>,
    families: HashSet<Box<[u8]>>,
}

impl Zone {
    /// Names that DNS cannot carry (labels of more than 63 bytes) are left out.
    pub fn of(tasks: &[Task]) -> Zone {
        let mut zone = Zone::default();
        zone.nodes.insert(Box::default(), Node::default());
        for task in tasks {
            zone.add(task);
        }
        zone
    }

    fn add(&mut self, task: &Task) {
        if let Some(family) = name(&[&task.family]) {
            self.families.insert(family);
        }
        let found = || task.containers.iter().filter(|container| container.found);
        let any_ports = found().any(|container| container.has_ports);
        for container in found() {
            if let Some(whole) = name(&[&container.name, &task.id]) {
                self.node(&whole).add_addresses(&container.addresses);
                self.add_pointers(task, container, &whole);
                self.add_services(task, container, &whole);
            }
            if task.running
                && container.has_ports == any_ports
                && let Some(family) = name(&[&task.family])
            {
                self.node(&family).add_addresses(&container.addresses);
            }
            if let Some(host_name) = task.host_name.as_deref().and_then(dotted) {
                self.outside.entry(host_name).or_default().add_addresses(&container.addresses);
            }
        }
    }

    fn add_services(&mut self, task: &Task, container: &Container, target: &[u8]) {
        if !task.running || container.addresses.is_empty() {
            return;
        }
        for named in &container.named_ports {
            let protocol = match named.protocol {
                Protocol::Tcp => "_tcp",
                Protocol::Udp => "_udp",
            };
            if let Some(service) = name(&[&format!("_{}", named.name), protocol, &task.family]) {
                let addresses = container.addresses.clone();
                self.node(&service).services.push(Service { port: named.port, target: target.into(), addresses });
            }
        }
    }

    /// An address has one name: its interface's, or that of the first container that has it.
    fn add_pointers(&mut self, task: &Task, container: &Container, whole: &[u8]) {
        if task.on_host {
            return;
        }
        let host_name = task.host_name.as_deref().and_then(dotted);
        let target = host_name.unwrap_or_else(|| [whole, DOMAIN].concat().into());
        for address in &container.addresses {
            let node = self.outside.entry(reversed(*address)).or_default();
            node.pointer.get_or_insert_with(|| target.clone());
        }
    }

    /// With every name between it and the root, which exist by it (RFC 8020).
    fn node(&mut self, name: &[u8]) -> &mut Node {
        let mut rest = name;
        while let Some((_, behind)) = wire::labels(rest).next().and_then(|label| rest.split_at_checked(1 + label.len()))
        {
            rest = behind;
            self.nodes.entry(rest.into()).or_default();
        }
        self.nodes.entry(name.into()).or_default()
    }

    /// To a question for everything about whatever name: it is not passed on, and asking for it does not pay (RFC 8482,
    /// section 4.2).
    pub fn refuse_any(query: &Query) -> Option<Answer> {
        records::message(query, &Found::Any, &[], 0).and_then(Answer::own)
    }

    /// None: the name is not ours to answer. `turn` says which of several addresses comes first.
    pub fn answer(&self, query: &Query, turn: usize) -> Option<Answer> {
        let asked = query.name().strip_suffix(&[0])?.to_ascii_lowercase();
        let (apex, node) = self.find(&asked)?;
        let found = match node {
            Some(node) => node.find(query.kind, apex == &asked[..]),
            None => Found::NoName,
        };
        records::message(query, &found, apex, turn).and_then(Answer::own)
    }

    /// What is at a name, and where in the name the part that is ours begins.
    fn find<'a>(&'a self, asked: &'a [u8]) -> Option<(&'a [u8], Option<&'a Node>)> {
        if let Some(relative) = below_domain(asked) {
            return Some((DOMAIN, self.nodes.get(relative)));
        }
        if let Some(node) = self.outside.get(asked) {
            return Some((asked, Some(node)));
        }
        let labels: Vec<&[u8]> = wire::labels(asked).collect();
        let last = *labels.last()?;
        let apex = &asked[asked.len() - last.len() - 1..];
        let is_service = || {
            let protocol = labels.len().checked_sub(2).map(|before| labels[before]);
            matches!(protocol, Some(b"_tcp" | b"_udp")) && labels.len() <= 3
        };
        let family_is_ours = self.families.contains(apex);
        let ours = is_task_id(last) || (family_is_ours && (labels.len() == 1 || is_service()));
        // Whatever else ends like a family is somebody else's.
        ours.then(|| (apex, self.nodes.get(asked)))
    }

    /// Whether this would be one of our names without the search domain that it ends in; `dotted` is the domain.
    pub fn has_below(&self, query: &Query, search_domain: &str) -> bool {
        let Some(domain) = dotted(search_domain) else { return false };
        let Some(asked) = query.name().strip_suffix(&[0]).map(<[u8]>::to_ascii_lowercase) else { return false };
        let own = asked.strip_suffix(&*domain).filter(|own| !own.is_empty() && is_whole(own));
        own.is_some_and(|own| matches!(self.find(own), Some((_, Some(_)))))
    }
}

/// The name before `coracle.internal`, empty for the domain itself.
fn below_domain(asked: &[u8]) -> Option<&[u8]> {
    asked.strip_suffix(DOMAIN).filter(|relative| is_whole(relative))
}

/// Whether these bytes are whole labels: what looks like the end of a name can be the inside of a long label.
fn is_whole(name: &[u8]) -> bool {
    wire::labels(name).map(|label| label.len() + 1).sum::<usize>() == name.len()
}

fn is_task_id(label: &[u8]) -> bool {
    label.len() == TASK_ID_LENGTH && label.iter().all(u8::is_ascii_hexdigit)
}

/// In small letters as it is sent, without the root's label.
fn name(labels: &[&str]) -> Option<Box<[u8]>> {
    let mut bytes = Vec::new();
    for label in labels {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=MAX_LABEL).contains(&usize::from(*length)))?;
        bytes.push(length);
        bytes.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    (bytes.len() + DOMAIN.len() < MAX_NAME).then(|| bytes.into())
}

fn dotted(text: &str) -> Option<Box<[u8]>> {
    name(&text.trim_end_matches('.').split('.').collect::<Vec<_>>())
}

/// RFC 1035, section 3.5, and RFC 3596, section 2.5.
fn reversed(address: IpAddr) -> Box<[u8]> {
    let labels: Vec<String> = match address {
        IpAddr::V4(address) => {
            let octets = address.octets().iter().rev().map(u8::to_string).collect::<Vec<_>>();
            [octets, vec!["in-addr".to_owned(), "arpa".to_owned()]].concat()
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().iter().rev().flat_map(|byte| [byte & 15, byte >> 4]).collect::<Vec<_>>();
            let nibbles = nibbles.iter().map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>();
            [nibbles, vec!["ip6".to_owned(), "arpa".to_owned()]].concat()
        }
    };
    name(&labels.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_or_default()
}
