//! A task's network: network namespaces, a bridge, addresses, published ports, and the texts of hosts and
//! resolv.conf. Only this crate speaks netlink and nftables.
//!
//! `plan` decides without looking at the host, `attach` makes it so, `detach` and `sweep` take it away, `checks` says
//! what a host lacks. The kernel's objects are the only record: a link is called by its container's address and
//! labelled with its task, a published port carries its task as a comment. So nothing has to be kept in step.
//!
//! As on ECS with Docker's default bridge, containers of different tasks on one bridge reach each other; from
//! outside the bridge only published ports are reachable.
//!
//! Every function works on the network namespace of the calling thread. No other thread is ever moved.
#![allow(unsafe_code, reason = "one socket option that no safe wrapper offers")]

mod arp;
mod attach;
mod bindings;
mod bridge6;
mod checks;
mod conntrack;
mod container_link;
mod detach;
mod eni;
mod error;
mod foreign_firewall;
mod host_bridge;
mod host_files;
mod hosts_file;
mod in_use;
mod link;
mod link6;
mod namespace;
mod namespace_file;
mod netlink;
mod nft;
pub mod overlay;
mod plan;
mod pool;
mod port_holder;
mod ports;
mod public_address;
mod publish;
mod resolv;
mod restore;
mod security_groups;
mod service_sockets;
mod settings;
mod socket_inode;
mod sweep;
mod sysctl;
mod tenant;
mod texts;

pub use attach::{AttachedContainer, AttachedInterface, AttachedService, Attachment, ServiceKind, Stage, attach};
pub use checks::{Check, Outcome, checks};
pub use detach::{detach, remove_bridge_and_table};
pub use error::Error;
pub use in_use::networks_in_use;
pub use namespace::Error as NamespaceError;
pub use netlink::{Error as NetlinkError, Refused};
pub use nft::CommitError;
pub use plan::{ContainerRequest, InterfaceRequest, MAX_PUBLISHED_PORTS, Refusal, Request};
pub use ports::at_loopback6;
pub use resolv::name_servers;
pub use restore::{
    FirewallChange, FirewallEvents, Standing, StandingContainer, StandingInterface, firewall_events, needs_restore,
    restore,
};
pub use security_groups::apply_groups;
pub use service_sockets::{SERVICE_ADDRESS, ServiceError};
pub use settings::{
    BRIDGE_VARIABLE, BadSetting, DYNAMIC_PORTS_VARIABLE, EXCLUDE_IPV6_VARIABLE, FOREIGN_FIREWALL_VARIABLE,
    ForeignFirewall, MAX_PUBLISH_ADDRESSES, PUBLISH_ADDRESSES_VARIABLE, SUBNET_VARIABLE, SUBNET6_VARIABLE, Settings,
    Subnet6, TABLE_VARIABLE, publish_addresses,
};
pub use socket_inode::{socket_inode, udp_socket_inode};
pub use sweep::{SweepReport, sweep};
pub use sysctl::Error as SettingError;
