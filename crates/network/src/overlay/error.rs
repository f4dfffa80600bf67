//! What can go wrong between hosts. Each error names the link, host, file or member; the cause is its source.

use std::io;
use std::net::IpAddr;

use super::plan::Refusal;
use crate::namespace;
use crate::netlink;
use crate::nft::CommitError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the overlay cannot be planned")]
    Refused(#[from] Refusal),
    #[error("cannot {action}")]
    Netlink {
        /// What was being done, and to which link.
        action: String,
        #[source]
        source: netlink::Error,
    },
    #[error("cannot change the firewall table inet {table}")]
    Firewall {
        table: String,
        #[source]
        source: CommitError,
    },
    #[error("there is already a link {name}, and it is {whose}; delete it first (ip link delete {name})")]
    NotOurs { name: &'static str, whose: String },
    #[error(
        "overlay.hosts[{host}].address: {address} is not an address of this host; give it that address, or correct \
         overlay.thisHost"
    )]
    NotHere { host: String, address: IpAddr },
    #[error(
        "the way to the other hosts carries {underlay} bytes, which leaves {left} inside; at least {least} are needed"
    )]
    TooNarrow { underlay: u32, left: u32, least: u32 },
    #[error(
        "overlay.encryption: this kernel has no WireGuard (the module wireguard; Linux 5.6 and later have it): load it \
         with `modprobe wireguard`, install the distribution's package of modules (linux-modules-extra or \
         wireguard-dkms), or set encryption to \"none\" where the network between the hosts is trusted"
    )]
    NoWireguard(#[source] netlink::Error),
    #[error("cannot {verb} the private key {path}")]
    KeyFile {
        verb: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is not a private key of WireGuard, base64 of 32 bytes; move it away, and `coracle network overlay key` \
         makes another"
    )]
    BadKeyFile { path: String },
    #[error("{path} can be read by others (mode {mode:03o}); make it private with chmod 600")]
    OpenKeyFile { path: String, mode: u32 },
    #[error("overlay.hosts[{host}].publicKey is {configured}, and this host's private key ({path}) goes with {found}")]
    OtherKey { host: String, configured: String, found: String, path: String },
    #[error("cannot ask the kernel for a public key aside")]
    Namespace(#[from] namespace::Error),
}

pub(super) fn netlink(action: impl Into<String>) -> impl FnOnce(netlink::Error) -> Error {
    let action = action.into();
    move |source| Error::Netlink { action, source }
}
