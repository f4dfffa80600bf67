//! Holding the host ports of a task: at every address where they are to be met, before anything of the task is there.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use ecs::ContainerName;

use crate::bindings::{EVERY_IPV4, EVERY_IPV6, LOOPBACK6};
use crate::error::Error;
use crate::plan::{HostPort, MAX_PUBLISHED_PORTS, NetworkPlan, Place, Ports, Publish, protocol_name};
use crate::port_holder;
use crate::ports::{self, Port};
use crate::settings::Settings;

/// Host ports of a task's containers, held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) holds: Vec<OwnedFd>,
    /// For each container, the first host port of each of its mappings.
    pub(crate) host_ports: Vec<Vec<u16>>,
}

/// Takes what the containers publish. `has_ipv6` says whether those on the bridge have IPv6. `dice` is an arbitrary
/// number for each dynamic port, where to begin looking.
pub(crate) fn hold(
    settings: &Settings,
    plan: &NetworkPlan,
    has_ipv6: bool,
    dice: impl Fn() -> u64,
) -> Result<Held, Error> {
    let held_at = held_at(settings, plan, has_ipv6)?;
    let mut held = Held::default();
    for container in &plan.containers {
        let mut host_ports = Vec::new();
        match &container.place {
            Place::Bridge { publish } => {
                for one in publish {
                    let first = hold_one(settings, &container.name, *one, &held_at, dice(), &mut held.holds)?;
                    host_ports.push(first);
                }
            }
            Place::Host { ports } => refuse_taken(settings, &container.name, ports)?,
            _ => {}
        }
        held.host_ports.push(host_ports);
    }
    Ok(held)
}

/// The addresses that a port is held at. One socket holds a port for both families where it is met everywhere.
fn held_at(settings: &Settings, plan: &NetworkPlan, has_ipv6: bool) -> Result<Vec<IpAddr>, Error> {
    let published = plan.containers.iter().map(|container| match &container.place {
        Place::Bridge { publish } => publish.iter().map(|one| usize::from(one.container.count())).sum(),
        _ => 0,
    });
    let (ports, addresses) = (published.sum::<usize>(), settings.publish_addresses.len());
    if ports == 0 || addresses == 0 {
        return Ok(vec![if has_ipv6 { EVERY_IPV6 } else { EVERY_IPV4 }]);
    }
    for address in &settings.publish_addresses {
        if address.is_ipv6() && *address != LOOPBACK6 && !has_ipv6 {
            return Err(Error::NoIpv6 { address: *address, bridge: settings.bridge.clone() });
        }
    }
    if ports * addresses > MAX_PUBLISHED_PORTS {
        return Err(Error::TooManyHolds { ports, addresses });
    }
    Ok(settings.publish_addresses.clone())
}

fn hold_one(
    settings: &Settings,
    container: &ContainerName,
    one: Publish,
    addresses: &[IpAddr],
    start: u64,
    holds: &mut Vec<OwnedFd>,
) -> Result<u16, Error> {
    let (protocol, count) = (one.container.protocol, one.container.count());
    match one.host {
        HostPort::Static(number) => {
            for address in addresses {
                let port = Port { address: *address, protocol, number };
                holds.push(ports::hold(port).map_err(|error| refused(settings, container, port, error))?);
            }
            Ok(number)
        }
        HostPort::Dynamic => {
            let range = settings.dynamic_range();
            let run = ports::hold_run(range, &ports::reserved(), addresses, protocol, count, start);
            let run = run.map_err(|(port, source)| refused(settings, container, port, source))?;
            let run = run.ok_or_else(|| Error::NoFreePorts {
                container: container.clone(),
                protocol: protocol_name(protocol),
                count,
                first: range.first,
                last: range.last,
            })?;
            holds.extend(run.holds);
            Ok(run.first)
        }
    }
}

/// In host mode a task opens its ports itself. ECS places no task where one of them is taken
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/networking-networkmode-host.html>).
fn refuse_taken(settings: &Settings, container: &ContainerName, declared: &[Ports]) -> Result<(), Error> {
    for ports in declared {
        for number in ports.first..=ports.last {
            let port = Port { address: Ipv4Addr::UNSPECIFIED.into(), protocol: ports.protocol, number };
            match ports::is_free(port) {
                Err(error) if ports::is_taken(&error) => return Err(refused(settings, container, port, error)),
                // Whatever else keeps us from looking need not keep the container from its port.
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

fn refused(settings: &Settings, container: &ContainerName, port: Port, source: std::io::Error) -> Error {
    let (container, protocol) = (container.clone(), protocol_name(port.protocol));
    if ports::is_taken(&source) {
        let holder = port_holder::find(settings, port.protocol, port.number);
        return Error::PortTaken { container, protocol, port: port.number, holder };
    }
    if source.kind() == std::io::ErrorKind::AddrNotAvailable {
        return Error::NoSuchAddress { address: port.address };
    }
    Error::Port { container, protocol, port: port.number, source }
}
