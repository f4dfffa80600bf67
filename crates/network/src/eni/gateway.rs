//! The host's addresses in the subnets of its tasks: the gateways that interfaces send to. They are on a link of their
//! own, which carries nothing, so that they are there while no interface is, and go all at once.

use std::net::IpAddr;

use nix::errno::Errno;

use crate::bridge6;
use crate::error::Error;
use crate::host_bridge;
use crate::link::{self, Link, Mac};
use crate::netlink::{Requests, Socket};
use crate::overlay;
use crate::plan::InterfacePlan;
use crate::sysctl;

/// A bridge without ports: every kernel that bridge mode works on has them, unlike dummy links.
pub(crate) const GATEWAY_LINK: &str = "coracle-eni";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Gateway {
    /// Of the interfaces behind it.
    pub(crate) mtu: u32,
}

/// The gateway of the plan's subnet, as it stands or made. Two at once end with the same. Tells in `said` which settings
/// of the host were changed.
pub(crate) fn ensure(socket: &mut Socket, plan: &InterfacePlan, said: &mut Vec<String>) -> Result<Gateway, Error> {
    let link = match get(socket)? {
        Some(link) if link.up => link,
        found => make(socket, found)?,
    };
    let mut requests = Requests::default();
    let gateway = plan.gateway();
    link::add_address_without_route(&mut requests, link.index, IpAddr::V4(gateway), 32);
    if let Some(gateway) = plan.ipv6(gateway) {
        link::add_address_without_route(&mut requests, link.index, IpAddr::V6(gateway), 128);
    }
    take(socket, requests, &format!("give link {GATEWAY_LINK} the gateway of subnet {}", plan.subnet.subnet_id))?;
    if sysctl::turn_on(sysctl::IP_FORWARD)? {
        said.push(format!("{}=1", sysctl::IP_FORWARD));
    }
    if plan.subnet.ipv6_cidr_block.is_some() {
        bridge6::turn_forwarding_on(said)?;
    }
    let narrower = overlay::mtu_for(socket, &plan.subnet).map_err(|error| Error::Overlay { errors: vec![error] })?;
    Ok(Gateway { mtu: narrower.unwrap_or(link.mtu) })
}

fn get(socket: &mut Socket) -> Result<Option<Link>, Error> {
    let found = link::get(socket, GATEWAY_LINK)
        .map_err(|source| Error::Netlink { action: format!("look at link {GATEWAY_LINK}"), source })?;
    match found {
        Some(link) if link.kind.as_deref() != Some("bridge") => {
            let kind = link.kind.unwrap_or_else(|| "a device".into());
            Err(Error::NotTheGateways { name: GATEWAY_LINK, kind })
        }
        found => Ok(found),
    }
}

fn make(socket: &mut Socket, found: Option<Link>) -> Result<Link, Error> {
    let failed = |source| Error::Netlink { action: format!("make link {GATEWAY_LINK}"), source };
    if found.is_none() {
        let routes = link::routes(socket).map_err(failed)?;
        let mtu = host_bridge::uplink_mtu(socket, &routes).map_err(failed)?;
        match link::add_bridge(socket, GATEWAY_LINK, Mac::of([0, 0, 0, 1].into()), mtu) {
            // Somebody else's of the same moment is as good.
            Err(error) if error.errno() != Some(Errno::EEXIST) => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    let mut requests = Requests::default();
    if sysctl::has_ipv6() {
        link::set_no_link_local(&mut requests, GATEWAY_LINK);
    }
    link::set_up(&mut requests, GATEWAY_LINK);
    take(socket, requests, &format!("bring link {GATEWAY_LINK} up"))?;
    let gone = crate::netlink::Refused { errno: Errno::ENODEV, said: String::new() };
    get(socket)?.ok_or_else(|| failed(gone.into()))
}

fn take(socket: &mut Socket, requests: Requests, action: &str) -> Result<(), Error> {
    let failed = |source| Error::Netlink { action: action.to_owned(), source };
    for answer in socket.exchange(requests).map_err(failed)? {
        match answer {
            Err(refused) if refused.errno != Errno::EEXIST => return Err(failed(refused.into())),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}
