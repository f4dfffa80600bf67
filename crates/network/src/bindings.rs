//! A published port in the firewall's terms and in DescribeTasks'.

use std::net::{Ipv4Addr, SocketAddrV4};

use ecs::task::NetworkBinding;

use crate::nft::{Published, PublishedKey};
use crate::plan::{Ports, Publish};
use crate::settings::Settings;

/// One entry for each port of a mapping whose host ports begin at `first`.
pub(crate) fn entries(
    settings: &Settings,
    one: Publish,
    first: u16,
    container: Ipv4Addr,
) -> impl Iterator<Item = Published> {
    let address = Some(settings.publish_address).filter(|address| !address.is_unspecified());
    let Ports { protocol, first: container_first, .. } = one.container;
    (0..one.container.count()).map(move |offset| Published {
        key: PublishedKey { address, protocol, port: first + offset },
        target: SocketAddrV4::new(container, container_first + offset),
    })
}

/// What DescribeTasks shows
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_NetworkBinding.html>).
pub(crate) fn published(settings: &Settings, one: Publish, first: u16) -> NetworkBinding {
    let host = Ports { first, last: first + (one.container.count() - 1), ..one.container };
    network_binding(settings.publish_address, one.container, host)
}

pub(crate) fn of_host(ports: Ports) -> NetworkBinding {
    network_binding(Ipv4Addr::UNSPECIFIED, ports, ports)
}

fn network_binding(address: Ipv4Addr, container: Ports, host: Ports) -> NetworkBinding {
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
