//! Addresses of the LAN for interfaces with `assignPublicIp`: the NIC answers for each, and the firewall maps it to the
//! interface's own. Whose it is, is its label: the host's end of the interface.

use std::net::{Ipv4Addr, UdpSocket};

use aws::ec2::PublicAddresses;
use nix::errno::Errno;

use crate::arp;
use crate::error::Error;
use crate::link;
use crate::netlink::{Requests, Socket};
use crate::pool;

/// One that is an address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicAddress {
    pub(crate) address: Ipv4Addr,
    /// The NIC's index.
    pub(crate) nic: u32,
}

/// The first one of the range that nobody on this host has, from an arbitrary place on. Adding it to the NIC is taking
/// it: of two at once the kernel refuses one. The LAN is told; whether somebody else there has it, it is not asked.
pub(crate) fn take(
    socket: &mut Socket,
    pool: &PublicAddresses,
    owner: &str,
    start: u64,
    said: &mut Vec<String>,
) -> Result<PublicAddress, Error> {
    let name = &pool.interface;
    let failed = |action: String| move |source| Error::Netlink { action, source };
    let nic = link::get(socket, name).map_err(failed(format!("look at link {name}")))?;
    let nic = nic.ok_or_else(|| Error::NoSuchNic { name: name.clone() })?;
    let (first, last) = (u32::from(pool.first), u32::from(pool.last));
    let count = u64::from(last.saturating_sub(first)) + 1;
    for step in 0..count {
        let address = Ipv4Addr::from(first + ((start % count + step) % count) as u32);
        // Only an address of this host can be bound to: this one is the host's own, or another interface's.
        if UdpSocket::bind((address, 0)).is_ok() {
            continue;
        }
        let mut requests = Requests::default();
        link::add_labelled_address(&mut requests, nic.index, address, owner);
        match socket.exchange(requests).map_err(failed(format!("give link {name} the address {address}")))?.pop() {
            Some(Err(refused)) if refused.errno == Errno::EEXIST => continue,
            Some(Err(refused)) => {
                return Err(failed(format!("give link {name} the address {address}"))(refused.into()));
            }
            Some(Ok(_)) | None => {}
        }
        if let Some(mac) = nic.mac
            && let Err(error) = arp::announce(nic.index, mac, address)
        {
            // Neighbours that knew somebody else at this address find out when their memory runs out.
            said.push(format!("the neighbours at {name} could not be told of {address}: {error}"));
        }
        return Ok(PublicAddress { address, nic: nic.index });
    }
    Err(Error::NoPublicAddress { interface: name.clone(), first: pool.first, last: pool.last })
}

/// Takes addresses from their NICs, all of them whatever happens; one that is gone already is no error.
pub(crate) fn give_back(socket: &mut Socket, addresses: &[PublicAddress]) -> Vec<Error> {
    let mut requests = Requests::default();
    for PublicAddress { address, nic } in addresses {
        link::delete_address(&mut requests, *nic, *address);
    }
    let answers = match socket.exchange(requests) {
        Ok(answers) => answers,
        Err(source) => return vec![Error::Netlink { action: "take public addresses back".into(), source }],
    };
    let failed = addresses.iter().zip(answers).filter_map(|(PublicAddress { address, .. }, answer)| match answer {
        Err(refused) if !matches!(refused.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV) => {
            Some(Error::Netlink { action: format!("take the public address {address} back"), source: refused.into() })
        }
        Ok(_) | Err(_) => None,
    });
    failed.collect()
}

/// All of this host's, with the host's ends of the interfaces that they are mapped to.
pub(crate) fn list(socket: &mut Socket) -> Result<Vec<(PublicAddress, String)>, Error> {
    let all = link::labelled_addresses(socket)
        .map_err(|source| Error::Netlink { action: "list the addresses of this host".into(), source })?;
    let labelled = all.into_iter().filter(|found| pool::address_of_interface_link(&found.label).is_some());
    Ok(labelled.map(|found| (PublicAddress { address: found.address, nic: found.link }, found.label)).collect())
}
