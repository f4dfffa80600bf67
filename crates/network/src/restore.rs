//! The firewall after somebody else has changed it: noticing that, and putting the tasks' part back. Every reload of a
//! host's own nftables rules begins with `flush ruleset`, which takes the table with it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aws::ec2::{SecurityGroupId, VpcNetwork};
use ecs::TaskId;
use ecs::task::NetworkBinding;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};

use crate::attach::route_socket;
use crate::bindings;
use crate::bridge6;
use crate::container_link::Addresses;
use crate::error::Error;
use crate::foreign_firewall::{self, Whose};
use crate::host_bridge;
use crate::link::Mac;
use crate::netlink::{Error as NetlinkError, Protocol, Socket};
use crate::nft::{self, Doubt, Interface, Published, TableScope, TableState, Tenant};
use crate::overlay;
use crate::service_sockets;
use crate::settings::Settings;
use crate::tenant;

/// A task whose network stands, as its spec has it: from its attachment on, until it is taken down.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub task: TaskId,
    /// In bridge mode.
    pub containers: Vec<StandingContainer>,
    /// In awsvpc mode.
    pub interface: Option<StandingInterface>,
    /// In host mode, where the way to 169.254.170.2 lies in the host's own namespace.
    pub is_on_host: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StandingContainer {
    pub ipv4: Ipv4Addr,
    pub ipv6: Option<Ipv6Addr>,
    pub bindings: Vec<NetworkBinding>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingInterface {
    /// `eni0a000105`.
    pub host_link: String,
    /// `02:42:0a:00:01:05`.
    pub mac_address: String,
    pub private_ipv4_address: Ipv4Addr,
    pub ipv6_address: Option<Ipv6Addr>,
    pub public_ipv4_address: Option<Ipv4Addr>,
    pub security_groups: Vec<SecurityGroupId>,
}

/// What became of the firewall, as far as its events tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FirewallChange {
    /// Nothing that would have to be looked after: tasks come and go.
    Nothing,
    /// Rules of the table were changed, perhaps by us, or another firewall was loaded anew.
    Rules,
    /// The table was removed, or more happened than could be listened to.
    Removed,
}

/// The kernel's announcements about nftables in the network namespace of the thread that asked for them. Poll the
/// descriptor for reading, then `read`.
#[derive(Debug)]
pub struct FirewallEvents {
    descriptor: OwnedFd,
    table: String,
    buffer: Vec<u8>,
}

/// NFNLGRP_NFTABLES, as a bit of the old kind of membership.
const GROUP_NFTABLES: u32 = 1 << (7 - 1);
const EVENTS_BUFFER: usize = 64 * 1024;
/// Messages that are read before others have their turn.
const EVENTS_AT_ONCE: u32 = 64;

/// Listens from now on.
///
/// # Errors
/// The kernel has no nftables, or the process no privilege (CAP_NET_ADMIN).
pub fn firewall_events(settings: &Settings) -> io::Result<FirewallEvents> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let descriptor = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, GROUP_NFTABLES))?;
    Ok(FirewallEvents { descriptor, table: settings.table.clone(), buffer: vec![0; EVENTS_BUFFER] })
}

impl AsFd for FirewallEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl FirewallEvents {
    /// What has happened since the last call; never waits. `restore` takes the answer.
    pub fn read(&mut self) -> io::Result<FirewallChange> {
        let mut change = FirewallChange::Nothing;
        for _ in 0..EVENTS_AT_ONCE {
            match recv(self.descriptor.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) => {
                    let events = self.buffer.get(..length).map(|area| nft::change_of_table(area, &self.table));
                    change = change.max(events.unwrap_or(FirewallChange::Removed));
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                // What was announced meanwhile is lost.
                Err(Errno::ENOBUFS) => change = FirewallChange::Removed,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(change)
    }
}

/// Whether the table is gone or another build's: a cheap look for somebody who was not listening.
///
/// # Errors
/// The kernel could not be asked.
pub fn needs_restore(settings: &Settings) -> Result<bool, Error> {
    let state =
        Socket::open(Protocol::Netfilter).and_then(|mut socket| nft::state_of_table(&mut socket, &settings.table));
    let state = state.map_err(|source| firewall(settings, source))?;
    Ok(state != TableState::Current)
}

fn firewall(settings: &Settings, source: NetlinkError) -> Error {
    Error::Firewall { table: settings.table.clone(), source: source.into() }
}

/// Puts published ports, interfaces, their groups and public addresses of tasks back, all that is missing in one
/// transaction; what is there stays. With `FirewallChange::Rules`, only if the rules are not as they should be. True if
/// anything was put back.
///
/// A task that is being taken down must not be among `standing`: what it has just withdrawn would come back.
///
/// # Errors
/// The kernel refused, and nothing was changed.
pub fn restore(
    settings: &Settings,
    network: &VpcNetwork,
    standing: &[Standing],
    change: FirewallChange,
) -> Result<bool, Error> {
    let doubt = match change {
        FirewallChange::Nothing => return Ok(false),
        FirewallChange::Rules => Doubt::Rules,
        FirewallChange::Removed => Doubt::Everything,
    };
    let tenants: Vec<Tenant> = standing.iter().map(|task| tenant::of(settings, &task.task)).collect();
    let wanted = nft::Standing {
        instance: &settings.instance,
        network,
        scope: scope(settings)?,
        published: standing.iter().zip(&tenants).flat_map(|(task, tenant)| published(task, tenant)).collect(),
        interfaces: interfaces(standing, &tenants),
    };
    let mut socket = Socket::open(Protocol::Netfilter).map_err(|source| firewall(settings, source))?;
    let mut restored = nft::restore(&mut socket, &settings.table, &wanted, doubt)
        .map_err(|source| Error::Firewall { table: settings.table.clone(), source })?;
    restored |= let_through(&mut socket, settings, standing);
    socket.close_aside();
    if standing.iter().any(|task| task.is_on_host) {
        service_sockets::lead_on_host()?;
    }
    let overlay = overlay::restore(settings, network).map_err(|errors| Error::Overlay { errors })?;
    restored |= overlay.is_some_and(|report| !report.changes.is_empty());
    Ok(restored)
}

/// Other firewalls have been loaded anew as well, or instead. What they will not have is said when a task starts.
fn let_through(socket: &mut Socket, settings: &Settings, standing: &[Standing]) -> bool {
    let on_bridge = standing.iter().any(|task| !task.containers.is_empty()).then_some(Whose::Bridge);
    let with_interface = standing.iter().any(|task| task.interface.is_some()).then_some(Whose::Interfaces);
    let whose = on_bridge.into_iter().chain(with_interface);
    let inserted = whose.map(|whose| foreign_firewall::let_through(socket, settings, whose, &mut Vec::new()));
    inserted.fold(false, |any, inserted| any | inserted)
}

fn published(task: &Standing, tenant: &Tenant) -> Vec<(Tenant, Published)> {
    let each = task.containers.iter().flat_map(|container| {
        let addresses = Addresses { ipv4: container.ipv4, ipv6: container.ipv6 };
        container.bindings.iter().flat_map(move |binding| bindings::entries_again(binding, addresses))
    });
    each.map(|port| (tenant.clone(), port)).collect()
}

/// An interface whose MAC cannot be made out is left out: nothing passes it then.
fn interfaces<'a>(standing: &'a [Standing], tenants: &'a [Tenant]) -> Vec<Interface<'a>> {
    let each = standing.iter().zip(tenants).filter_map(|(task, tenant)| {
        let interface = task.interface.as_ref()?;
        Some(Interface {
            link: &interface.host_link,
            mac: Mac::parse(&interface.mac_address)?,
            ipv4: interface.private_ipv4_address,
            ipv6: interface.ipv6_address,
            groups: &interface.security_groups,
            public: interface.public_ipv4_address,
            tenant,
        })
    });
    each.collect()
}

/// None: there is no bridge.
fn scope(settings: &Settings) -> Result<Option<TableScope<'_>>, Error> {
    let mut socket = route_socket()?;
    let host_bridge::Look::Made(bridge) = host_bridge::look(&mut socket, settings)? else { return Ok(None) };
    let subnet6 = bridge6::look(&mut socket, settings, bridge.index)?;
    Ok(Some(TableScope { table: &settings.table, bridge: &settings.bridge, subnet: bridge.subnet, subnet6 }))
}
