//! The older form of VXLAN, which carries Ethernet frames: each other host is a permanent neighbour on the device, and
//! a permanent entry of the device's forwarding table says where its frames go. Nothing is asked for and nothing learnt.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::errno::Errno;

use super::device;
use super::error::{Error, netlink};
use super::plan::{Plan, neighbour_in_ipv6};
use super::routes::{address, octets, perform};
use crate::link::{NDA_DST, NDA_LLADDR, RTM_NEWNEIGH};
use crate::netlink::{Reply, Requests, Socket, find, flags};
use crate::sysctl;

const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const FAMILY_BRIDGE: u8 = libc::AF_BRIDGE as u8;
const NEIGHBOUR_HEADER: usize = 12;
/// Of the device's own table, not of a bridge's that it might be a port of.
const FLAG_SELF: u8 = 2;

/// One entry: of the forwarding table where the family is the bridge's, else a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    family: u8,
    address: IpAddr,
    mac: [u8; 6],
}

/// Makes the device's entries those of the plan; what stands already is not touched.
pub(super) fn carry_out(socket: &mut Socket, plan: &Plan, link: u32, changes: &mut Vec<String>) -> Vec<Error> {
    let wanted = wanted(plan);
    let found = match list(socket, link) {
        Ok(found) => found,
        Err(error) => return vec![error],
    };
    let mut requests = Requests::default();
    let mut actions = Vec::new();
    for old in found.difference(&wanted) {
        write(&mut requests, RTM_DELNEIGH, 0, old, link);
        actions.push((format!("no neighbour {}", old.address), Some(Errno::ENOENT)));
    }
    for entry in wanted.difference(&found) {
        write(&mut requests, RTM_NEWNEIGH, flags::CREATE | flags::REPLACE, entry, link);
        actions.push((format!("neighbour {}", entry.address), None));
    }
    perform(socket, requests, actions, changes)
}

fn wanted(plan: &Plan) -> BTreeSet<Entry> {
    let hosts = plan.peers.iter().filter_map(|peer| match peer.address {
        IpAddr::V4(host) => Some(host),
        // Refused by the plan.
        IpAddr::V6(_) => None,
    });
    let mut entries = BTreeSet::new();
    for host in hosts {
        let mac = device::mac(host).0;
        entries.insert(Entry { family: FAMILY_BRIDGE, address: host.into(), mac });
        entries.insert(Entry { family: libc::AF_INET as u8, address: host.into(), mac });
        if plan.has_ipv6 {
            entries.insert(Entry { family: libc::AF_INET6 as u8, address: neighbour_in_ipv6(host).into(), mac });
        }
    }
    entries
}

fn write(requests: &mut Requests, kind: u16, extra_flags: u16, entry: &Entry, link: u32) {
    requests.push(kind, extra_flags, |body| {
        let (state, set) = if entry.family == FAMILY_BRIDGE {
            (libc::NUD_PERMANENT | libc::NUD_NOARP, FLAG_SELF)
        } else {
            (libc::NUD_PERMANENT, 0)
        };
        let state = state.to_ne_bytes();
        body.raw(&[&[entry.family, 0, 0, 0], link.to_ne_bytes().as_slice(), &state, &[set, 0]].concat());
        body.attribute(NDA_DST, &octets(entry.address)).attribute(NDA_LLADDR, &entry.mac);
    });
}

/// The permanent entries of a device.
fn list(socket: &mut Socket, link: u32) -> Result<BTreeSet<Entry>, Error> {
    let ipv6 = sysctl::has_ipv6().then_some(libc::AF_INET6 as u8);
    let mut entries = BTreeSet::new();
    for family in [Some(libc::AF_INET as u8), ipv6, Some(FAMILY_BRIDGE)].into_iter().flatten() {
        let replies = socket.dump(RTM_GETNEIGH, |body| {
            let mut header = [0; NEIGHBOUR_HEADER];
            header[0] = family;
            body.raw(&header);
        });
        let replies = replies.map_err(netlink("read the neighbours of the overlay's device"))?;
        entries.extend(replies.iter().filter_map(|reply| read(reply, link)));
    }
    Ok(entries)
}

fn read(reply: &Reply, link: u32) -> Option<Entry> {
    let (header, area) = reply.body.split_at_checked(NEIGHBOUR_HEADER)?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    if header[4..8] != link.to_ne_bytes() || state & libc::NUD_PERMANENT == 0 {
        return None;
    }
    let mac = find(area, NDA_LLADDR)?.try_into().ok()?;
    Some(Entry { family: header[0], address: find(area, NDA_DST).and_then(address)?, mac })
}
