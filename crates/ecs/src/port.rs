//! Port mappings, read into what is to be published: protocol, container ports, host port.
//!
//! Rules: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PortMapping.html>. Which host port a dynamic
//! mapping gets is the host's to choose.

use std::fmt;

use crate::task_definition::{NetworkMode, PortMapping, TransportProtocol};

/// "You can specify a maximum of 100 port ranges per container", API_PortMapping.
pub const MAX_RANGES_PER_CONTAINER: usize = 100;

/// Ports `first` to `last`, both included; `first` is at least 1 and not above `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    pub const fn one(port: u16) -> Option<Self> {
        if port == 0 { None } else { Some(Self { first: port, last: port }) }
    }

    pub const fn first(self) -> u16 {
        self.first
    }

    pub const fn last(self) -> u16 {
        self.last
    }

    pub const fn count(self) -> usize {
        self.last as usize - self.first as usize + 1
    }

    pub fn ports(self) -> std::ops::RangeInclusive<u16> {
        self.first..=self.last
    }

    pub const fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// `8000-8010`, or `80` for a single port.
impl fmt::Display for PortRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(out, "{}", self.first)
        } else {
            write!(out, "{}-{}", self.first, self.last)
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("{given:?} is no port range; write two ports between 1 and 65535, the lower one first: \"8000-8010\"")]
    NotARange { given: String },
    #[error("a port mapping has containerPort or containerPortRange, and not both")]
    NotOnePort,
    #[error("containerPort is a port between 1 and 65535")]
    ZeroPort,
    #[error("hostPort cannot be chosen for a containerPortRange; leave it out")]
    HostPortOfRange,
    #[error("containerPortRange works in network mode bridge only here, not {mode}")]
    RangeInMode { mode: NetworkMode },
    #[error(
        "hostPort {host_port} differs from containerPort {container_port}: in network mode {mode} they are one port"
    )]
    DifferentPort { host_port: u16, container_port: u16, mode: NetworkMode },
    #[error("network mode none has no ports")]
    NoNetwork,
}

impl std::str::FromStr for PortRange {
    type Err = PortError;

    /// `"8000-8010"`. "The first port in the range must be less than last port in the range."
    fn from_str(given: &str) -> Result<Self, PortError> {
        let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
        given
            .split_once('-')
            .and_then(|(first, last)| Some(PortRange { first: port(first)?, last: port(last)? }))
            .filter(|range| range.first >= 1 && range.first < range.last)
            .ok_or_else(|| PortError::NotARange { given: given.to_owned() })
    }
}

/// One mapping as it is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    pub protocol: TransportProtocol,
    pub container: PortRange,
    pub host: HostPort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPort {
    Static(u16),
    /// As many free ports of the host's ephemeral range as the container has, consecutive where possible.
    Dynamic,
}

/// What `mapping` asks for in `mode`.
pub fn exposure(mapping: &PortMapping, mode: NetworkMode) -> Result<Exposure, PortError> {
    let protocol = mapping.protocol.unwrap_or_default();
    let chosen = mapping.host_port.filter(|port| *port != 0);
    match (mapping.container_port, &mapping.container_port_range, mode) {
        (_, _, NetworkMode::None) => Err(PortError::NoNetwork),
        (Some(_), Some(_), _) | (None, None, _) => Err(PortError::NotOnePort),
        (None, Some(_), NetworkMode::Host) => Err(PortError::RangeInMode { mode }),
        (None, Some(_), _) if chosen.is_some() => Err(PortError::HostPortOfRange),
        (None, Some(range), NetworkMode::Bridge | NetworkMode::Awsvpc) => {
            Ok(Exposure { protocol, container: range.parse()?, host: HostPort::Dynamic })
        }
        (Some(port), None, _) => {
            let container = PortRange::one(port).ok_or(PortError::ZeroPort)?;
            let host = match (mode, chosen) {
                (NetworkMode::Bridge, Some(host_port)) => HostPort::Static(host_port),
                (NetworkMode::Bridge, None) => HostPort::Dynamic,
                (_, Some(host_port)) if host_port != port => {
                    return Err(PortError::DifferentPort { host_port, container_port: port, mode });
                }
                (_, _) => HostPort::Static(port),
            };
            Ok(Exposure { protocol, container, host })
        }
    }
}

/// What all of a container's mappings ask for, in their order.
pub fn exposures(mappings: &[PortMapping], mode: NetworkMode) -> Result<Vec<Exposure>, PortError> {
    mappings.iter().map(|mapping| exposure(mapping, mode)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(container_port: Option<u16>, host_port: Option<u16>, range: Option<&str>) -> PortMapping {
        PortMapping {
            container_port,
            host_port,
            protocol: None,
            container_port_range: range.map(str::to_owned),
            name: None,
            app_protocol: None,
        }
    }

    /// `tcp 80 <- 8080`, or the error.
    fn said(mapping: &PortMapping, mode: NetworkMode) -> String {
        match exposure(mapping, mode) {
            Ok(Exposure { protocol, container, host: HostPort::Static(port) }) => {
                format!("{protocol} {container} <- {port}")
            }
            Ok(Exposure { protocol, container, host: HostPort::Dynamic }) => {
                format!("{protocol} {container} <- dynamic")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_network_mode_publishes_as_amazon_says() {
        let both = "a port mapping has containerPort or containerPortRange, and not both";
        for (container, host, range, bridge, host_mode) in [
            (
                Some(80),
                Some(8080),
                None,
                "tcp 80 <- 8080",
                "hostPort 8080 differs from containerPort 80: in network mode host they are one port",
            ),
            (Some(80), Some(80), None, "tcp 80 <- 80", "tcp 80 <- 80"),
            (Some(80), Some(0), None, "tcp 80 <- dynamic", "tcp 80 <- 80"),
            (Some(80), None, None, "tcp 80 <- dynamic", "tcp 80 <- 80"),
            (
                Some(0),
                None,
                None,
                "containerPort is a port between 1 and 65535",
                "containerPort is a port between 1 and 65535",
            ),
            (
                None,
                None,
                Some("8000-8010"),
                "tcp 8000-8010 <- dynamic",
                "containerPortRange works in network mode bridge only here, not host",
            ),
            (Some(80), None, Some("8000-8010"), both, both),
            (None, Some(80), None, both, both),
        ] {
            let mapping = mapping(container, host, range);
            assert_eq!(said(&mapping, NetworkMode::Bridge), bridge);
            assert_eq!(said(&mapping, NetworkMode::Host), host_mode);
            assert_eq!(said(&mapping, NetworkMode::None), "network mode none has no ports");
        }
    }

    #[test]
    fn ranges_are_two_ports_the_lower_one_first() {
        for wrong in ["", "-", "80", "80-80", "81-80", "0-5", "1-65536", "1-2-3", " 1-2", "+1-2", "a-b"] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
        }
        let range: PortRange = "1-65535".parse().expect("every port");
        assert_eq!((range.first(), range.last(), range.count(), range.ports().count()), (1, 65535, 65535, 65535));
    }
}
