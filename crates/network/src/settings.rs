//! How this host's network is to be called and where it lies.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnetwork::Ipv4Network;

pub const BRIDGE_VARIABLE: &str = "CORACLE_BRIDGE";
pub const SUBNET_VARIABLE: &str = "CORACLE_BRIDGE_SUBNET";
pub const TABLE_VARIABLE: &str = "CORACLE_NFT_TABLE";

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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub bridge: String,
    /// None: whatever the bridge has, or the first of a list of candidates that overlaps no route of the host.
    pub subnet: Option<Ipv4Network>,
    pub table: String,
    /// Tells the run directories of one host apart: links and published ports carry it, and `sweep` only touches
    /// its own. Letters and digits.
    pub instance: String,
    /// The host's address that published ports are met at; 0.0.0.0 for all.
    pub publish_address: Ipv4Addr,
    /// Where the network namespaces of awsvpc tasks are held, each by a file: `<run-dir>/netns`.
    pub namespaces: PathBuf,
    /// This host's private key of an encrypted overlay: `<data-dir>/wireguard.key`.
    pub wireguard_key: PathBuf,
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
            table: DEFAULT_TABLE.to_owned(),
            instance: instance.to_owned(),
            publish_address: Ipv4Addr::UNSPECIFIED,
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
        Ok(settings)
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
        ];
        for (variable, value) in cases {
            let refused = with(variable, value).unwrap_err();
            assert_eq!((refused.variable, refused.given.as_str()), (variable, value));
        }
    }
}
