//! Elastic network interfaces in the firewall: what a task's interface is there, and the transactions that let it in and
//! forget it. What the rules make of it is in `interface_rules`, `groups` and `vpc`.
//!
//! The common case is one transaction of elements alone, which is refused when something that they need is not there:
//! then the table is read, and what is missing is made in the same transaction as the elements.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use aws::ec2::{SecurityGroupId, VpcNetwork};
use nix::errno::Errno;

use super::batch::{Batch, CommitError, Element, concatenate, interface_name};
use super::configuration::{Authority, Configuration, frame_is_there};
use super::groups::{self, DIRECTIONS, Direction, FAMILIES, Family, members_name};
use super::interface_rules::{ENI_IN, ENI_OUT, PUBLIC_IN, PUBLIC_OUT, SOURCE4, SOURCE6};
use super::{Tenant, dump, public, table};
use crate::link::Mac;
use crate::netlink::{self, Socket};
use crate::settings::Settings;

/// Of one interface
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_AwsVpcConfiguration.html>): their names fit into a
/// comment.
pub(crate) const MAX_GROUPS: usize = 5;
/// How often a transaction is made anew after somebody else changed nftables in between: hundreds of tasks may start
/// at once.
const READ_AND_WRITE_ATTEMPTS: u32 = 200;
/// An element that was there when it was looked for may be another's to remove.
const DETACH_ATTEMPTS: u32 = 10;
const LINK_NAME_LENGTH: usize = 16;
const MAC_LENGTH_IN_KEY: usize = 8;

/// An interface that the firewall is to let in. Its link is up by then, and of the group
/// `link::INTERFACE_GROUP` from its creation on: nothing comes from or goes to a link of that group that the firewall does
/// not know yet, or not any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interface<'a> {
    /// The host's end: `eni0a000105`.
    pub(crate) link: &'a str,
    /// The task's end.
    pub(crate) mac: Mac,
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
    /// At least one; `plan` has found each in the configuration.
    pub(crate) groups: &'a [SecurityGroupId],
    /// Mapped to `ipv4` in both directions. It is an address of the NIC by then.
    pub(crate) public: Option<Ipv4Addr>,
    pub(crate) tenant: &'a Tenant,
}

/// What the firewall knew of an interface that it was told to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forgotten {
    pub(crate) link: String,
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

/// An element and the set or map that it is of.
type Entry = (String, Element);

impl Interface<'_> {
    pub(super) fn groups(&self) -> BTreeSet<SecurityGroupId> {
        self.groups.iter().cloned().collect()
    }

    /// Everything that the firewall knows of it.
    fn entries(&self) -> Vec<Entry> {
        let (name, tenant) = (interface_name(self.link), self.tenant.comment());
        let (instance, groups) = (&self.tenant.instance, self.groups());
        let owned = |key: Vec<u8>| Element { key, comment: Some(tenant.clone()), ..Element::default() };
        let mut entries = vec![(SOURCE4.to_owned(), owned(concatenate(&[&name, &self.mac.0, &self.ipv4.octets()])))];
        if let Some(address) = self.ipv6 {
            entries.push((SOURCE6.to_owned(), owned(concatenate(&[&name, &self.mac.0, &address.octets()]))));
        }
        for group in &groups {
            entries.push((members_name(instance, Family::Ipv4, group), owned(self.ipv4.octets().to_vec())));
            if let Some(address) = self.ipv6 {
                entries.push((members_name(instance, Family::Ipv6, group), owned(address.octets().to_vec())));
            }
        }
        if let Some(public) = self.public {
            entries.extend(public::entries(public, self.ipv4, &tenant));
        }
        let comment = Index { tenant: self.tenant.clone(), groups: groups.clone() }.comment();
        for (direction, map) in [(Direction::Egress, ENI_OUT), (Direction::Ingress, ENI_IN)] {
            let goto = Some(groups::combination_name(instance, direction, &groups));
            entries.push((map.to_owned(), Element { goto, comment: Some(comment.clone()), ..owned(name.clone()) }));
        }
        entries
    }
}

/// What the comment of an interface's entry in `eni-in` says: `<instance> <task> <group>…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) tenant: Tenant,
    pub(super) groups: BTreeSet<SecurityGroupId>,
}

impl Index {
    fn comment(&self) -> String {
        let words = [self.tenant.comment()].into_iter().chain(self.groups.iter().map(SecurityGroupId::to_string));
        words.collect::<Vec<_>>().join(" ")
    }

    pub(super) fn parse(comment: &str) -> Option<Index> {
        let mut words = comment.split(' ');
        let tenant = Tenant::parse(&format!("{} {}", words.next()?, words.next()?))?;
        let groups = words.map(|word| SecurityGroupId::try_from(word.to_owned()).ok()).collect::<Option<_>>()?;
        Some(Index { tenant, groups })
    }
}

/// Lets one interface in, in one transaction, and makes the table or renews its rules and groups where needed. What
/// stands there of an earlier interface of the same address is replaced: whoever calls has made the link.
pub(crate) fn attach_interface(
    socket: &mut Socket,
    settings: &Settings,
    network: &VpcNetwork,
    interface: &Interface<'_>,
) -> Result<(), CommitError> {
    if interface.groups.len() > MAX_GROUPS {
        return Err(CommitError::TooManyGroups { given: interface.groups.len() });
    }
    for combinations in [Combinations::AreThere, Combinations::AreNew] {
        match unread(&settings.table, interface, combinations).commit(socket) {
            Err(failure) if matches!(failure.errno(), Some(Errno::ENOENT | Errno::EEXIST)) => {}
            other => return other,
        }
    }
    read_and_write(socket, &settings.table, |transaction| {
        let authority = if transaction.is_current() { Authority::Complete } else { Authority::Replace };
        transaction.settle(&settings.instance, network, authority)?;
        transaction.let_in(interface)
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Combinations {
    AreThere,
    /// The first interface with just these groups.
    AreNew,
}

/// What suffices where the table has all the rest; nothing has to be read for it.
fn unread(table: &str, interface: &Interface<'_>, combinations: Combinations) -> Batch {
    let mut batch = Batch::new(table);
    // Flushing the empty marker chain is refused with ENOENT unless the table has these very rules.
    batch.flush_chain(table::marker());
    if combinations == Combinations::AreNew {
        for direction in DIRECTIONS {
            groups::combination(&interface.tenant.instance, direction, &interface.groups()).write(&mut batch);
        }
    }
    for (set, element) in interface.entries() {
        batch.add_new_elements(&set, &[element]);
    }
    batch
}

/// One transaction that is made from what the table is like, anew as long as something changes in between.
pub(super) fn read_and_write(
    socket: &mut Socket,
    table: &str,
    mut make: impl FnMut(&mut Transaction<'_>) -> Result<(), netlink::Error>,
) -> Result<(), CommitError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut transaction = Transaction::begin(socket, table)?;
        make(&mut transaction)?;
        let (batch, socket) = transaction.finish();
        match batch.commit(socket) {
            Err(failure)
                if attempt < READ_AND_WRITE_ATTEMPTS
                    && matches!(
                        failure.errno(),
                        Some(Errno::ERESTART | Errno::ENOENT | Errno::EEXIST | Errno::EBUSY)
                    ) =>
            {
                // ERESTART is the rule. The others come where the kernel does not compare generations.
            }
            other => return other,
        }
    }
}

pub(super) struct Transaction<'a> {
    pub(super) socket: &'a mut Socket,
    pub(super) table: &'a str,
    pub(super) chains: BTreeSet<String>,
    pub(super) batch: Batch,
    /// What sets have, by key, of those that were looked at.
    elements: BTreeMap<String, BTreeMap<Vec<u8>, Element>>,
    /// Chains that this transaction makes.
    made: BTreeSet<String>,
    rewrites: bool,
    /// Elements that are new, by set: they go last, when what stood in their places and what they need is done.
    additions: BTreeMap<String, Vec<Element>>,
}

impl<'a> Transaction<'a> {
    fn begin(socket: &'a mut Socket, table: &'a str) -> Result<Transaction<'a>, netlink::Error> {
        let generation = dump::generation(socket)?;
        let chains = dump::chains(socket, table)?.into_iter().collect();
        let batch = Batch::at_generation(table, generation);
        let (elements, made, additions) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Ok(Transaction { socket, table, chains, batch, elements, made, rewrites: false, additions })
    }

    /// Whether the table has this build's rules.
    pub(super) fn is_current(&self) -> bool {
        self.chains.contains(table::marker())
    }

    /// What a set has; nothing where there is no such set.
    pub(super) fn elements(&mut self, set: &str) -> Result<&BTreeMap<Vec<u8>, Element>, netlink::Error> {
        if !self.elements.contains_key(set) {
            let found = elements_or_none(self.socket, self.table, set)?;
            let by_key = found.into_iter().map(|element| (element.key.clone(), element));
            self.elements.insert(set.to_owned(), by_key.collect());
        }
        Ok(&self.elements[set])
    }

    /// Makes the rules this build's, and the instance's configuration what `network` says.
    pub(super) fn settle(
        &mut self,
        instance: &str,
        network: &VpcNetwork,
        authority: Authority,
    ) -> Result<(), netlink::Error> {
        if !self.is_current() || authority == Authority::Rewrite {
            self.renew();
        }
        let (socket, table) = (&mut *self.socket, self.table);
        let mut members = |set: &str| elements_or_none(socket, table, set);
        Configuration::new(instance, network).settle(&mut self.batch, &self.chains, authority, &mut members)
    }

    /// An interface, with the chains of its combination of groups.
    pub(super) fn let_in(&mut self, interface: &Interface<'_>) -> Result<(), netlink::Error> {
        let groups = interface.groups();
        for direction in DIRECTIONS {
            let chain = groups::combination(&interface.tenant.instance, direction, &groups);
            if (self.rewrites || !self.chains.contains(&chain.name)) && self.made.insert(chain.name.clone()) {
                chain.write(&mut self.batch);
            }
        }
        interface.entries().into_iter().try_for_each(|(set, element)| self.put(&set, element))
    }

    /// One element, in place of what stands there otherwise.
    pub(super) fn put(&mut self, set: &str, element: Element) -> Result<(), netlink::Error> {
        match self.elements(set)?.get(&element.key) {
            Some(found) if *found == element => return Ok(()),
            Some(_) => self.batch.delete_elements(set, &[key_of(&element)]),
            None => {}
        }
        self.additions.entry(set.to_owned()).or_default().push(element);
        Ok(())
    }

    /// Whether it would change anything.
    pub(super) fn changes(&self) -> bool {
        !self.batch.is_empty() || !self.additions.is_empty()
    }

    fn finish(self) -> (Batch, &'a mut Socket) {
        let Transaction { mut batch, socket, additions, .. } = self;
        for (set, elements) in additions {
            batch.add_new_elements(&set, &elements);
        }
        (batch, socket)
    }

    /// Makes the rules this build's.
    pub(super) fn renew(&mut self) {
        table::renew(&mut self.batch, &self.chains);
    }

    /// What the table has is not to be believed.
    pub(super) fn rewrite(&mut self, instance: &str, network: &VpcNetwork) -> Result<(), netlink::Error> {
        self.rewrites = true;
        self.settle(instance, network, Authority::Rewrite)
    }
}

fn key_of(element: &Element) -> Element {
    Element { key: element.key.clone(), interval_end: element.interval_end, ..Element::default() }
}

fn elements_or_none(socket: &mut Socket, table: &str, set: &str) -> Result<Vec<Element>, netlink::Error> {
    match dump::elements(socket, table, set) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
        other => other,
    }
}

/// Forgets interfaces; none of them being there is no error, nor is there being no table.
pub(crate) fn detach_interfaces(
    socket: &mut Socket,
    settings: &Settings,
    theirs: &dyn Fn(&Tenant) -> bool,
) -> Result<Vec<Forgotten>, CommitError> {
    let table = settings.table.as_str();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (entries, forgotten) = entries_of(socket, table, theirs, attempt > 1)?;
        let mut batch = Batch::new(table);
        for (set, element) in entries {
            batch.delete_elements(&set, &[key_of(&element)]);
        }
        match batch.commit(socket) {
            Ok(()) => return Ok(forgotten),
            // Somebody else removed one of them first.
            Err(failure) if failure.errno() == Some(Errno::ENOENT) && attempt < DETACH_ATTEMPTS => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// Every element of some tenants' interfaces. The groups' sets are not read unless asked for: that an interface is in
/// them is known.
fn entries_of(
    socket: &mut Socket,
    table: &str,
    theirs: &dyn Fn(&Tenant) -> bool,
    reads_members: bool,
) -> Result<(Vec<Entry>, Vec<Forgotten>), netlink::Error> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut forgotten, mut members) = (Vec::new(), Vec::new());
    let is_theirs = |element: &Element| {
        let index = element.comment.as_deref().and_then(Index::parse);
        index.filter(|index| theirs(&index.tenant))
    };
    let mut groups: BTreeMap<Vec<u8>, Index> = BTreeMap::new();
    for map in [ENI_IN, ENI_OUT] {
        for element in elements_or_none(socket, table, map)? {
            if let Some(index) = is_theirs(&element) {
                groups.insert(element.key.clone(), index);
                entries.push((map.to_owned(), element));
            }
        }
    }
    let maps_are_empty = entries.is_empty();
    for set in [SOURCE4, SOURCE6, PUBLIC_IN, PUBLIC_OUT] {
        let theirs = elements_or_none(socket, table, set)?.into_iter().filter(|element| is_theirs(element).is_some());
        entries.extend(theirs.map(|element| (set.to_owned(), element)));
        // One that is in no map is in no set either: they come and go together.
        if maps_are_empty && entries.is_empty() {
            break;
        }
    }
    for (link, index) in groups {
        let of_family = |family: Family| {
            let set = match family {
                Family::Ipv4 => SOURCE4,
                Family::Ipv6 => SOURCE6,
            };
            entries.iter().filter(move |(of, _)| of == set).find_map(|(_, element)| address_of(&element.key, &link))
        };
        let (ipv4, ipv6) = (of_family(Family::Ipv4), of_family(Family::Ipv6));
        for (family, address) in [(Family::Ipv4, ipv4), (Family::Ipv6, ipv6)] {
            let Some(key) = address else { continue };
            let sets = index.groups.iter().map(|group| members_name(&index.tenant.instance, family, group));
            members.extend(sets.map(|set| (set, Element { key: key.to_vec(), ..Element::default() })));
        }
        forgotten.extend(forgotten_of(&link, ipv4, ipv6));
    }
    if reads_members {
        let mut found = Vec::new();
        for (set, element) in members {
            if elements_or_none(socket, table, &set)?.iter().any(|there| there.key == element.key) {
                found.push((set, element));
            }
        }
        members = found;
    }
    entries.extend(members);
    Ok((entries, forgotten))
}

/// The address in a key of `eni-source4` or `eni-source6`, where it is of this link.
fn address_of<'k>(key: &'k [u8], link: &[u8]) -> Option<&'k [u8]> {
    key.strip_prefix(link).filter(|_| link.len() == LINK_NAME_LENGTH)?.get(MAC_LENGTH_IN_KEY..)
}

fn forgotten_of(link: &[u8], ipv4: Option<&[u8]>, ipv6: Option<&[u8]>) -> Option<Forgotten> {
    let ipv4: [u8; 4] = ipv4?.try_into().ok()?;
    let ipv6: Option<[u8; 16]> = ipv6.and_then(|octets| octets.try_into().ok());
    let link = String::from_utf8_lossy(link).trim_end_matches('\0').to_owned();
    Some(Forgotten { link, ipv4: ipv4.into(), ipv6: ipv6.map(Ipv6Addr::from) })
}

/// Makes the groups and subnets in the table what the configuration says, where any interface has needed them yet.
/// Flows that are established go on, as they do on Amazon's.
pub(crate) fn apply(socket: &mut Socket, settings: &Settings, network: &VpcNetwork) -> Result<bool, CommitError> {
    let mut changed = false;
    read_and_write(socket, &settings.table, |transaction| {
        if frame_is_there(&transaction.chains, &settings.instance) {
            transaction.settle(&settings.instance, network, Authority::Replace)?;
        }
        changed = transaction.changes();
        Ok(())
    })?;
    if changed {
        prune(socket, settings)?;
    }
    Ok(changed)
}

/// Removes the chains of combinations that no interface has any more, and what is left of groups that are configured
/// no more.
pub(crate) fn prune(socket: &mut Socket, settings: &Settings) -> Result<(), CommitError> {
    let instance = &settings.instance;
    read_and_write(socket, &settings.table, |transaction| {
        let (mut combinations, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for map in [ENI_IN, ENI_OUT] {
            for element in transaction.elements(map)?.values() {
                combinations.extend(element.goto.clone());
                let index = element.comment.as_deref().and_then(Index::parse);
                groups.extend(index.into_iter().flat_map(|index| index.groups));
            }
        }
        let chains = std::mem::take(&mut transaction.chains);
        let batch = &mut transaction.batch;
        let mut gone = Vec::new();
        for direction in DIRECTIONS {
            let prefix = format!("{direction}/{instance}/");
            let own = chains.range(prefix.clone()..).take_while(|chain| chain.starts_with(&prefix));
            for chain in own {
                let word = &chain[prefix.len()..];
                let unused = match SecurityGroupId::try_from(word.to_owned()) {
                    Ok(group) => !groups.contains(&group) && !is_configured(&chains, instance, word),
                    Err(_) => !combinations.contains(chain),
                };
                if unused {
                    gone.push(chain);
                }
            }
        }
        gone.iter().for_each(|chain| batch.flush_chain(chain));
        gone.iter().for_each(|chain| batch.delete_chain(chain));
        let prefix = format!("{}/{instance}/", Direction::Ingress);
        for group in gone.iter().filter_map(|chain| chain.strip_prefix(&prefix)) {
            if let Ok(group) = SecurityGroupId::try_from(group.to_owned()) {
                FAMILIES.iter().for_each(|family| batch.delete_set(&members_name(instance, *family, &group)));
            }
        }
        Ok(())
    })
}

fn is_configured(chains: &BTreeSet<String>, instance: &str, group: &str) -> bool {
    let marker = format!("group/{instance}/{group}/");
    chains.range(marker.clone()..).next().is_some_and(|chain| chain.starts_with(&marker))
}

#[cfg(test)]
mod tests {
    use ecs::TaskId;

    use super::*;

    #[test]
    fn a_comment_tells_whose_an_interface_is_and_its_groups() {
        let longest = |digit: u32| SecurityGroupId::try_from(format!("sg-{digit:017x}")).unwrap();
        let tenant = Tenant { instance: "0123456789abcdef".to_owned(), task: TaskId::from_bytes([7; 16]) };
        let index = Index { tenant, groups: (0..MAX_GROUPS as u32).map(longest).collect() };
        let comment = index.comment();
        assert!(comment.len() < usize::from(u8::MAX), "the kernel keeps no more: {}", comment.len());
        assert_eq!(Index::parse(&comment), Some(index.clone()));
        assert_eq!(Index::parse(&index.tenant.comment()).map(|index| index.groups), Some(BTreeSet::new()));
        for strange in ["", "remote", "a b", "0123 not-a-task sg-12345678", &format!("{comment} word")] {
            assert_eq!(Index::parse(strange), None, "{strange}");
        }
    }
}
