//! A whole `VpcNetwork` in the table: the frame of its subnets, and its security groups. What is there already is told by
//! marker chains, empty ones whose names end in a hash of what was rendered, so a change touches what it is about.
//!
//! Read, decide, write: such a transaction is refused when anything has changed since it began to read, and is then
//! made anew. So two processes that change the configuration at once end with the one or the other, never with a mixture.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aws::ec2::{RemoteInterface, SecurityGroup, SecurityGroupId, VpcNetwork};

use super::batch::{Batch, Element, SetShape, Type};
use super::groups::{self, Chain, FAMILIES, Family, members_name};
use super::vpc::{self, Frame};

/// The comment of a group's member that is another host's.
pub(super) const REMOTE: &str = "remote";

/// What one instance's part of the table is to be.
pub(super) struct Configuration<'a> {
    instance: &'a str,
    network: &'a VpcNetwork,
}

/// Whose word counts where the table has another configuration than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authority {
    /// This one's: it is what was just written down, or what a changed table is put right from.
    Replace,
    /// This one's, and the table is not to be believed either: somebody else has changed it.
    Rewrite,
    /// The table's: somebody who attaches a task may have read the configuration before its last change.
    Complete,
}

/// One security group, rendered.
struct Group {
    marker: String,
    chains: [Chain; 2],
    id: SecurityGroupId,
}

impl<'a> Configuration<'a> {
    pub(super) fn new(instance: &'a str, network: &'a VpcNetwork) -> Configuration<'a> {
        Configuration { instance, network }
    }

    fn configured(&self) -> BTreeSet<&'a SecurityGroupId> {
        self.network.security_groups.iter().map(|group| &group.group_id).collect()
    }

    fn group(&self, group: &SecurityGroup, configured: &BTreeSet<&SecurityGroupId>) -> Group {
        let chains = groups::chains(self.instance, group, configured);
        let mut said = Batch::new("");
        chains.iter().for_each(|chain| chain.write(&mut said));
        for family in FAMILIES {
            said.add_elements("remote", &self.remote_members(&group.group_id, family));
        }
        let key = group_key(self.instance, &group.group_id);
        Group { marker: format!("{key}/{:016x}", said.fingerprint()), chains, id: group.group_id.clone() }
    }

    fn remote_members(&self, group: &SecurityGroupId, family: Family) -> Vec<Element> {
        let of_group = self.network.remote_interfaces.iter().filter(|interface| interface.groups.contains(group));
        let addresses: BTreeSet<Vec<u8>> =
            of_group.filter_map(|interface| address(interface, family)).map(octets).collect();
        addresses
            .into_iter()
            .map(|key| Element { key, comment: Some(REMOTE.to_owned()), ..Element::default() })
            .collect()
    }

    /// All of it, for comparison.
    pub(super) fn write(&self, batch: &mut Batch) {
        self.frame().write(batch);
        let configured = self.configured();
        for group in &self.network.security_groups {
            groups::chains(self.instance, group, &configured).iter().for_each(|chain| chain.write(batch));
        }
    }

    fn frame(&self) -> Frame {
        Frame::of(self.instance, self.network)
    }

    /// Adds to the transaction what `chains`, the table's, lack of the configuration or have otherwise. `members` are
    /// the elements of the sets of groups that are there, by set; asked for those alone that changed.
    pub(super) fn settle<E>(
        &self,
        batch: &mut Batch,
        chains: &BTreeSet<String>,
        authority: Authority,
        members: &mut dyn FnMut(&str) -> Result<Vec<Element>, E>,
    ) -> Result<(), E> {
        let frame = self.frame();
        let mut said = Batch::new("");
        frame.write(&mut said);
        let marker = format!("{}/{:016x}", frame.key(), said.fingerprint());
        let old = marker_of(chains, &frame.key());
        let stands = match authority {
            Authority::Replace => old == Some(marker.as_str()),
            Authority::Rewrite => false,
            Authority::Complete => old.is_some(),
        };
        if !stands {
            frame.write(batch);
            replace_marker(batch, old, &marker);
        }
        let configured = self.configured();
        let mut stale_groups = Vec::new();
        for group in &self.network.security_groups {
            let old = marker_of(chains, &group_key(self.instance, &group.group_id));
            // One of thousands is looked at when a task is attached: rendering the others would cost more than all else.
            if old.is_some() && authority == Authority::Complete {
                continue;
            }
            let group = self.group(group, &configured);
            if old != Some(group.marker.as_str()) || authority == Authority::Rewrite {
                stale_groups.push((group, old));
            }
        }
        // All sets first: the rules of one group look into the sets of others.
        for (group, _) in &stale_groups {
            for family in FAMILIES {
                add_members_set(batch, &members_name(self.instance, family, &group.id), family);
            }
        }
        for (group, old) in stale_groups {
            group.chains.iter().for_each(|chain| chain.write(batch));
            for family in FAMILIES {
                let set = members_name(self.instance, family, &group.id);
                let found = if old.is_some() { members(&set)? } else { Vec::new() };
                self.write_remote_members(batch, &set, &group.id, family, found);
            }
            replace_marker(batch, old, &group.marker);
        }
        if authority != Authority::Complete {
            self.empty_removed_groups(batch, chains, &configured);
        }
        Ok(())
    }

    fn write_remote_members(
        &self,
        batch: &mut Batch,
        set: &str,
        group: &SecurityGroupId,
        family: Family,
        found: Vec<Element>,
    ) {
        let wanted = self.remote_members(group, family);
        let remote = found.into_iter().filter(|element| element.comment.as_deref() == Some(REMOTE));
        let gone: Vec<Element> = remote.filter(|element| !wanted.contains(element)).collect();
        batch.delete_elements(set, &gone);
        batch.add_elements(set, &wanted);
    }

    /// A group that is configured no more allows nothing and nobody: its chains stay, empty, as long as a task has it.
    fn empty_removed_groups(
        &self,
        batch: &mut Batch,
        chains: &BTreeSet<String>,
        configured: &BTreeSet<&SecurityGroupId>,
    ) {
        let prefix = format!("group/{}/", self.instance);
        for marker in chains.iter().filter(|chain| chain.starts_with(&prefix)) {
            let Some(group) = marker[prefix.len()..].split('/').next() else { continue };
            if configured.iter().any(|known| known.as_str() == group) {
                continue;
            }
            for direction in groups::DIRECTIONS {
                batch.flush_chain(&format!("{direction}/{}/{group}", self.instance));
            }
            batch.delete_chain(marker);
        }
    }
}

fn group_key(instance: &str, group: &SecurityGroupId) -> String {
    format!("group/{instance}/{group}")
}

/// The marker that the table has of a group or of the frame.
fn marker_of<'c>(chains: &'c BTreeSet<String>, key: &str) -> Option<&'c str> {
    let prefix = format!("{key}/");
    chains.range(prefix.clone()..).next().filter(|chain| chain.starts_with(&prefix)).map(String::as_str)
}

fn replace_marker(batch: &mut Batch, old: Option<&str>, marker: &str) {
    if let Some(old) = old.filter(|old| *old != marker) {
        batch.delete_chain(old);
    }
    batch.add_chain(marker);
}

fn add_members_set(batch: &mut Batch, name: &str, family: Family) {
    let key: &[Type] = match family {
        Family::Ipv4 => &[Type::Ipv4Address],
        Family::Ipv6 => &[Type::Ipv6Address],
    };
    batch.add_set(SetShape { name, key, interval: false, data: &[] });
}

fn address(interface: &RemoteInterface, family: Family) -> Option<IpAddr> {
    match family {
        Family::Ipv4 => Some(interface.private_ipv4_address.into()),
        Family::Ipv6 => interface.ipv6_address.map(IpAddr::V6),
    }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn frame_is_there(chains: &BTreeSet<String>, instance: &str) -> bool {
    marker_of(chains, &vpc::key(instance)).is_some()
}
