//! A published port in the firewall's terms and in DescribeTasks'.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ecs::task::NetworkBinding;

use crate::container_link::Addresses;
use crate::nft::{Published, PublishedKey};
use crate::plan::{Ports, Publish};
use crate::settings::Settings;

pub(crate) const EVERY_IPV4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
pub(crate) const EVERY_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
/// A process serves this one; the firewall cannot.
pub(crate) const LOOPBACK6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Where published ports of a container are met.
pub(crate) fn met_at(settings: &Settings, has_ipv6: bool) -> Vec<IpAddr> {
    match (settings.publish_addresses.as_slice(), has_ipv6) {
        ([], true) => vec![EVERY_IPV4, EVERY_IPV6],
        ([], false) => vec![EVERY_IPV4],
        (given, _) => given.to_vec(),
    }
}

/// What the firewall is told: an entry for each port of a mapping whose host ports begin at `first`, at each address.
pub(crate) fn entries(settings: &Settings, one: Publish, first: u16, container: Addresses) -> Vec<Published> {
    let at = met_at(settings, container.ipv6.is_some());
    at.into_iter().flat_map(|address| at_address(address, one.container, first, container)).collect()
}

/// The same for a binding as it was recorded. An address that has become nobody's is without effect.
pub(crate) fn entries_again(binding: &NetworkBinding, container: Addresses) -> Vec<Published> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let single = |port: Option<u16>| port.map(|port| (port, port));
    let inside = single(binding.container_port).or_else(|| range(binding.container_port_range.as_deref()?));
    let outside = single(binding.host_port).or_else(|| range(binding.host_port_range.as_deref()?));
    let (Some((first, last)), Some((host, _)), Ok(address)) = (inside, outside, binding.bind_ip.parse::<IpAddr>())
    else {
        return Vec::new();
    };
    if first > last {
        return Vec::new();
    }
    let ports = Ports { protocol: binding.protocol, first, last, is_range: first != last };
    let mut entries = at_address(address, ports, host, container);
    // DescribeTasks leaves the other half of "everywhere" out.
    if address == EVERY_IPV4 {
        entries.extend(at_address(EVERY_IPV6, ports, host, container));
    }
    entries
}

fn at_address(address: IpAddr, ports: Ports, first: u16, container: Addresses) -> Vec<Published> {
    let target: Option<IpAddr> = match address {
        LOOPBACK6 => None,
        IpAddr::V4(_) => Some(container.ipv4.into()),
        IpAddr::V6(_) => container.ipv6.map(IpAddr::V6),
    };
    let Some(target) = target else { return Vec::new() };
    let one = |offset| {
        Some(Published {
            key: PublishedKey { address, protocol: ports.protocol, port: first.checked_add(offset)? },
            target: SocketAddr::new(target, ports.first.checked_add(offset)?),
        })
    };
    (0..ports.count()).filter_map(one).collect()
}

/// What DescribeTasks shows
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_NetworkBinding.html>): one for each address.
pub(crate) fn published(settings: &Settings, one: Publish, first: u16, has_ipv6: bool) -> Vec<NetworkBinding> {
    let host = Ports { first, last: first + (one.container.count() - 1), ..one.container };
    let shown = |address: &IpAddr| *address != EVERY_IPV6 || settings.shows_ipv6_bindings;
    let at = met_at(settings, has_ipv6).into_iter().filter(shown);
    at.map(|address| network_binding(address, one.container, host)).collect()
}

pub(crate) fn of_host(ports: Ports) -> NetworkBinding {
    network_binding(EVERY_IPV4, ports, ports)
}

fn network_binding(address: IpAddr, container: Ports, host: Ports) -> NetworkBinding {
    let single = |ports: Ports| (!ports.is_range).then_some(ports.first);
    let range = |ports: Ports| ports.is_range.then(|| format!("{}-{}", ports.first, ports.last));
    NetworkBinding {
        bind_ip: address.to_string(),
        container_port: single(container),
        host_port: single(host),
        container_port_range: range(container),
        host_port_range: range(host),
        protocol: container.protocol,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ecs::task_definition::TransportProtocol::Tcp;

    use super::*;
    use crate::plan::HostPort;

    const CONTAINER: Addresses =
        Addresses { ipv4: Ipv4Addr::new(172, 30, 0, 2), ipv6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0xac1e, 2)) };

    fn settings(addresses: &[&str]) -> Settings {
        let publish_addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Settings { publish_addresses, ..Settings::new("i", Path::new("/run/coracle/netns")) }
    }

    fn shown(entries: &[Published]) -> Vec<String> {
        entries.iter().map(|one| format!("{} {} {}", one.key.address, one.key.port, one.target)).collect()
    }

    /// Whatever a port was published at, what was recorded publishes it there again.
    #[test]
    fn a_recorded_binding_says_where_the_port_was_met() {
        let one = Publish {
            container: Ports { protocol: Tcp, first: 80, last: 81, is_range: true },
            host: HostPort::Dynamic,
        };
        let everywhere = [
            "0.0.0.0 8080 172.30.0.2:80",
            "0.0.0.0 8081 172.30.0.2:81",
            ":: 8080 [fd00::ac1e:2]:80",
            ":: 8081 [fd00::ac1e:2]:81",
        ];
        let cases: [(&[&str], &[&str]); 4] = [
            (&[], &everywhere),
            (&["127.0.0.1"], &["127.0.0.1 8080 172.30.0.2:80", "127.0.0.1 8081 172.30.0.2:81"]),
            (&["2001:db8::1"], &["2001:db8::1 8080 [fd00::ac1e:2]:80", "2001:db8::1 8081 [fd00::ac1e:2]:81"]),
            (&["::1"], &[]),
        ];
        for (addresses, expected) in cases {
            let settings = settings(addresses);
            assert_eq!(shown(&entries(&settings, one, 8080, CONTAINER)), expected);
            let bindings = published(&settings, one, 8080, true);
            assert_eq!(bindings.len(), 1, "{bindings:?}");
            let again: Vec<_> = bindings.iter().flat_map(|binding| entries_again(binding, CONTAINER)).collect();
            assert_eq!(shown(&again), expected);
        }
    }

    #[test]
    fn ipv6_is_shown_beside_ipv4_when_it_is_asked_for() {
        let one = Publish {
            container: Ports { protocol: Tcp, first: 80, last: 80, is_range: false },
            host: HostPort::Static(80),
        };
        let all = Settings { shows_ipv6_bindings: true, ..settings(&[]) };
        let shown = |has_ipv6| published(&all, one, 80, has_ipv6).into_iter().map(|binding| binding.bind_ip);
        assert_eq!(shown(true).collect::<Vec<_>>(), ["0.0.0.0", "::"]);
        assert_eq!(shown(false).collect::<Vec<_>>(), ["0.0.0.0"]);
    }
}
