//! How this host's network is to be called and where it lies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnetwork::{Ipv4Network, Ipv6Network};

use crate::bridge6;
use crate::ports::DynamicRange;

pub const BRIDGE_VARIABLE: &str = "CORACLE_BRIDGE";
pub const SUBNET_VARIABLE: &str = "CORACLE_BRIDGE_SUBNET";
pub const SUBNET6_VARIABLE: &str = "CORACLE_BRIDGE_SUBNET6";
pub const TABLE_VARIABLE: &str = "CORACLE_NFT_TABLE";
pub const PUBLISH_ADDRESSES_VARIABLE: &str = "CORACLE_PUBLISH_ADDRESSES";
pub const FOREIGN_FIREWALL_VARIABLE: &str = "CORACLE_FOREIGN_FIREWALL";
/// As the ECS agent has it
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-agent-config.html>).
pub const DYNAMIC_PORTS_VARIABLE: &str = "ECS_DYNAMIC_HOST_PORT_RANGE";
/// As the ECS agent has it: DescribeTasks leaves out that a port is published over IPv6 as well, unless `false`.
pub const EXCLUDE_IPV6_VARIABLE: &str = "ECS_EXCLUDE_IPV6_PORTBINDING";

/// A host has a few addresses, and each port is held at each of those that are named.
pub const MAX_PUBLISH_ADDRESSES: usize = 8;

const DEFAULT_BRIDGE: &str = "coracle0";
const DEFAULT_TABLE: &str = "coracle";
/// In the default data directory; whoever knows another says so.
const DEFAULT_WIREGUARD_KEY: &str = "/var/lib/coracle/wireguard.key";
/// A link's name without its terminating zero.
const MAX_LINK_NAME: usize = 15;
const MAX_TABLE_NAME: usize = 64;
/// A /29 has room for five containers; nothing smaller is a network of containers.
const LONGEST_PREFIX: u8 = 29;
const SHORTEST_PREFIX: u8 = 8;
const SHORTEST_PREFIX6: u8 = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub bridge: String,
    /// None: whatever the bridge has, or the first of a list of candidates that overlaps no route of the host.
    pub subnet: Option<Ipv4Network>,
    pub subnet6: Subnet6,
    pub table: String,
    /// Tells the run directories of one host apart: links and published ports carry it, and `sweep` only touches
    /// its own. Letters and digits.
    pub instance: String,
    /// The host's addresses that published ports are met at; empty for all, IPv4 and IPv6.
    pub publish_addresses: Vec<IpAddr>,
    /// The first and the last of the ports that dynamic ones are taken out of. None: the kernel's range.
    pub dynamic_ports: Option<(u16, u16)>,
    pub shows_ipv6_bindings: bool,
    pub foreign_firewall: ForeignFirewall,
    /// Where the network namespaces of awsvpc tasks are held, each by a file: `<run-dir>/netns`.
    pub namespaces: PathBuf,
    /// This host's private key of an encrypted overlay: `<data-dir>/wireguard.key`.
    pub wireguard_key: PathBuf,
}

/// The bridge's IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subnet6 {
    /// Whatever the bridge has, or a unique local one.
    Chosen,
    Given(Ipv6Network),
    /// Containers on the bridge have no IPv6.
    Off,
}

/// What to do where another firewall of the host drops what it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignFirewall {
    /// Put rules of our own into it that let the traffic of our links through.
    LetThrough,
    /// Nothing; `checks` says what would help.
    Leave,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={given}: {wanted}")]
pub struct BadSetting {
    pub variable: &'static str,
    pub given: String,
    pub wanted: String,
}

impl Settings {
    /// Coracle's own names and addresses, for the run directory that `instance` stands for.
    pub fn new(instance: &str, namespaces: &Path) -> Settings {
        Settings {
            bridge: DEFAULT_BRIDGE.to_owned(),
            subnet: None,
            subnet6: Subnet6::Chosen,
            table: DEFAULT_TABLE.to_owned(),
            instance: instance.to_owned(),
            publish_addresses: Vec::new(),
            dynamic_ports: None,
            shows_ipv6_bindings: false,
            foreign_firewall: ForeignFirewall::LetThrough,
            namespaces: namespaces.to_owned(),
            wireguard_key: PathBuf::from(DEFAULT_WIREGUARD_KEY),
        }
    }

    /// The same with what the environment says instead; `variable` looks one up.
    pub fn from_env(
        instance: &str,
        namespaces: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, BadSetting> {
        let mut settings = Settings::new(instance, namespaces);
        if let Some(given) = variable(BRIDGE_VARIABLE) {
            let wanted = format!("a link's name is 1 to {MAX_LINK_NAME} letters, digits, '-', '_' and '.'");
            settings.bridge = name(BRIDGE_VARIABLE, given, MAX_LINK_NAME, wanted)?;
        }
        if let Some(given) = variable(TABLE_VARIABLE) {
            let wanted = format!("a table's name is 1 to {MAX_TABLE_NAME} letters, digits, '-', '_' and '.'");
            settings.table = name(TABLE_VARIABLE, given, MAX_TABLE_NAME, wanted)?;
        }
        if let Some(given) = variable(SUBNET_VARIABLE) {
            settings.subnet = Some(subnet(given)?);
        }
        if let Some(given) = variable(SUBNET6_VARIABLE) {
            settings.subnet6 = subnet6(given)?;
        }
        if let Some(given) = variable(PUBLISH_ADDRESSES_VARIABLE) {
            settings.publish_addresses = publish_addresses(&given)?;
        }
        if let Some(given) = variable(DYNAMIC_PORTS_VARIABLE).filter(|given| !given.is_empty()) {
            settings.dynamic_ports = Some(dynamic_ports(given)?);
        }
        if let Some(given) = variable(EXCLUDE_IPV6_VARIABLE) {
            settings.shows_ipv6_bindings = shows_ipv6_bindings(given)?;
        }
        if let Some(given) = variable(FOREIGN_FIREWALL_VARIABLE) {
            settings.foreign_firewall = foreign_firewall(given)?;
        }
        Ok(settings)
    }

    /// The ports that dynamic ones are taken out of.
    pub(crate) fn dynamic_range(&self) -> DynamicRange {
        self.dynamic_ports.map_or_else(DynamicRange::of_host, |(first, last)| DynamicRange { first, last })
    }
}

/// Addresses of this host, with commas between them; empty for all. Whether the host has them is seen when a port is
/// published.
pub fn publish_addresses(given: &str) -> Result<Vec<IpAddr>, BadSetting> {
    let bad = |wanted: &str| BadSetting {
        variable: PUBLISH_ADDRESSES_VARIABLE,
        given: given.to_owned(),
        wanted: wanted.to_owned(),
    };
    let mut addresses = Vec::new();
    for word in given.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let address: IpAddr =
            word.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
                bad("addresses of this host with commas between them, such as 127.0.0.1,::1 or 192.0.2.7")
            })?;
        let linked = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        if address.is_unspecified() {
            return Err(bad("leave it out to publish at every address of the host, IPv4 and IPv6"));
        }
        if address.is_multicast() || linked || address == IpAddr::V4(Ipv4Addr::BROADCAST) || is_mapped(address) {
            return Err(bad(
                "a port can be published at an address of this host alone, not at one of a group or a wire",
            ));
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.len() > MAX_PUBLISH_ADDRESSES {
        return Err(bad(&format!("at most {MAX_PUBLISH_ADDRESSES} addresses; leave it out to publish at all")));
    }
    Ok(addresses)
}

/// IPv4 as IPv6 writes it: no packet has such an address.
fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

fn dynamic_ports(given: String) -> Result<(u16, u16), BadSetting> {
    let range = given.split_once('-').and_then(|(first, last)| DynamicRange::parse(&format!("{first} {last}")));
    range.map(|range| (range.first, range.last)).ok_or_else(|| BadSetting {
        variable: DYNAMIC_PORTS_VARIABLE,
        given,
        wanted: "two ports of 1 to 65535, the lower first, such as 49153-65535".to_owned(),
    })
}

fn shows_ipv6_bindings(given: String) -> Result<bool, BadSetting> {
    match given.as_str() {
        "" | "true" => Ok(false),
        "false" => Ok(true),
        _ => Err(BadSetting { variable: EXCLUDE_IPV6_VARIABLE, given, wanted: "true or false".to_owned() }),
    }
}

fn foreign_firewall(given: String) -> Result<ForeignFirewall, BadSetting> {
    match given.as_str() {
        "" | "allow" => Ok(ForeignFirewall::LetThrough),
        "leave" => Ok(ForeignFirewall::Leave),
        _ => {
            let wanted = "allow (rules of coracle's own let its containers through other firewalls) or leave";
            Err(BadSetting { variable: FOREIGN_FIREWALL_VARIABLE, given, wanted: wanted.to_owned() })
        }
    }
}

fn subnet6(given: String) -> Result<Subnet6, BadSetting> {
    match given.as_str() {
        "off" => return Ok(Subnet6::Off),
        "" => return Ok(Subnet6::Chosen),
        _ => {}
    }
    let longest = bridge6::LONGEST_PREFIX;
    match given.parse::<Ipv6Network>() {
        Ok(subnet)
            if given.contains('/')
                && (SHORTEST_PREFIX6..=longest).contains(&subnet.prefix())
                && subnet.ip() == subnet.network()
                && subnet.ip() != Ipv6Addr::UNSPECIFIED
                && !subnet.ip().is_multicast()
                && !subnet.ip().is_unicast_link_local() =>
        {
            Ok(Subnet6::Given(subnet))
        }
        _ => {
            let wanted = format!(
                "off, or an IPv6 network such as fd12:3456:789a:1::/64, of /{SHORTEST_PREFIX6} to /{longest}, by its \
                 first address"
            );
            Err(BadSetting { variable: SUBNET6_VARIABLE, given, wanted })
        }
    }
}

fn name(variable: &'static str, given: String, longest: usize, wanted: String) -> Result<String, BadSetting> {
    let starts_well = given.starts_with(|first: char| first.is_ascii_alphabetic());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if starts_well && given.len() <= longest && given.bytes().all(allowed) {
        Ok(given)
    } else {
        Err(BadSetting { variable, given, wanted: format!("{wanted}, the first of them a letter") })
    }
}

fn subnet(given: String) -> Result<Ipv4Network, BadSetting> {
    let wanted = format!(
        "a private IPv4 network such as 172.30.0.0/16, of /{SHORTEST_PREFIX} to /{LONGEST_PREFIX}, by its first address"
    );
    match given.parse::<Ipv4Network>() {
        Ok(subnet)
            if given.contains('/')
                && (SHORTEST_PREFIX..=LONGEST_PREFIX).contains(&subnet.prefix())
                && subnet.ip() == subnet.network()
                && !subnet.ip().is_loopback()
                && !subnet.ip().is_multicast()
                && !subnet.ip().is_unspecified() =>
        {
            Ok(subnet)
        }
        _ => Err(BadSetting { variable: SUBNET_VARIABLE, given, wanted }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variable: &'static str, value: &str) -> Result<Settings, BadSetting> {
        Settings::from_env("i", Path::new("/run/coracle/netns"), |name| (name == variable).then(|| value.to_owned()))
    }

    #[test]
    fn names_and_networks_are_taken() {
        assert_eq!(with(BRIDGE_VARIABLE, "br-test.1").unwrap().bridge, "br-test.1");
        assert_eq!(with(TABLE_VARIABLE, "mine").unwrap().table, "mine");
        let subnet = with(SUBNET_VARIABLE, "10.9.0.0/24").unwrap().subnet.unwrap();
        assert_eq!((subnet.ip(), subnet.prefix()), (Ipv4Addr::new(10, 9, 0, 0), 24));
        let subnet = "fd12:3456:789a:1::/64".parse().unwrap();
        assert_eq!(with(SUBNET6_VARIABLE, "fd12:3456:789a:1::/64").unwrap().subnet6, Subnet6::Given(subnet));
        assert_eq!(with(SUBNET6_VARIABLE, "off").unwrap().subnet6, Subnet6::Off);
    }

    #[test]
    fn publishing_is_bound_to_addresses_and_ranges() {
        let addresses = with(PUBLISH_ADDRESSES_VARIABLE, "127.0.0.1, ::1,[2001:db8::7],127.0.0.1").unwrap();
        let expected: [IpAddr; 3] =
            [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), "2001:db8::7".parse().unwrap()];
        assert_eq!(addresses.publish_addresses, expected);
        assert!(with(PUBLISH_ADDRESSES_VARIABLE, "").unwrap().publish_addresses.is_empty());
        assert_eq!(with(DYNAMIC_PORTS_VARIABLE, "50000-50009").unwrap().dynamic_ports, Some((50000, 50009)));
        assert_eq!(with(DYNAMIC_PORTS_VARIABLE, "").unwrap().dynamic_ports, None);
        assert!(with(EXCLUDE_IPV6_VARIABLE, "false").unwrap().shows_ipv6_bindings);
        assert!(!with(EXCLUDE_IPV6_VARIABLE, "true").unwrap().shows_ipv6_bindings);
        let leave = with(FOREIGN_FIREWALL_VARIABLE, "leave").unwrap();
        assert_eq!(leave.foreign_firewall, ForeignFirewall::Leave);
    }

    #[test]
    fn bad_names_and_networks_are_refused_by_variable() {
        let cases = [
            (BRIDGE_VARIABLE, ""),
            (BRIDGE_VARIABLE, "sixteen-letters-"),
            (BRIDGE_VARIABLE, "a/b"),
            (BRIDGE_VARIABLE, ".."),
            (TABLE_VARIABLE, "a b"),
            (SUBNET_VARIABLE, "10.9.0.0"),
            (SUBNET_VARIABLE, "10.9.0.1/24"),
            (SUBNET_VARIABLE, "10.9.0.0/30"),
            (SUBNET_VARIABLE, "0.0.0.0/8"),
            (SUBNET_VARIABLE, "127.0.0.0/8"),
            (SUBNET_VARIABLE, "fd00::/64"),
            (SUBNET6_VARIABLE, "10.9.0.0/24"),
            (SUBNET6_VARIABLE, "fd00::1/64"),
            (SUBNET6_VARIABLE, "fd00::/112"),
            (SUBNET6_VARIABLE, "fe80::/64"),
            (SUBNET6_VARIABLE, "none"),
            (PUBLISH_ADDRESSES_VARIABLE, "localhost"),
            (PUBLISH_ADDRESSES_VARIABLE, "127.0.0.1,0.0.0.0"),
            (PUBLISH_ADDRESSES_VARIABLE, "::"),
            (PUBLISH_ADDRESSES_VARIABLE, "fe80::1"),
            (PUBLISH_ADDRESSES_VARIABLE, "ff02::1"),
            (PUBLISH_ADDRESSES_VARIABLE, "::ffff:10.0.0.1"),
            (PUBLISH_ADDRESSES_VARIABLE, "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,::1"),
            (DYNAMIC_PORTS_VARIABLE, "49153"),
            (DYNAMIC_PORTS_VARIABLE, "0-9"),
            (DYNAMIC_PORTS_VARIABLE, "9-8"),
            (DYNAMIC_PORTS_VARIABLE, "1-65536"),
            (EXCLUDE_IPV6_VARIABLE, "no"),
            (FOREIGN_FIREWALL_VARIABLE, "off"),
        ];
        for (variable, value) in cases {
            let refused = with(variable, value).unwrap_err();
            assert_eq!((refused.variable, refused.given.as_str()), (variable, value));
        }
    }
}
