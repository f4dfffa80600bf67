//! The text of a container's /etc/resolv.conf: the host's, less what a container cannot reach, or what the
//! container definition says instead.

use std::net::IpAddr;

/// What of a resolv.conf matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResolvConf {
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl ResolvConf {
    /// Reads leniently, as resolvers do: what is not understood is left out; the last `search` or `domain` counts.
    pub(crate) fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// A server on the host's loopback cannot be reached from a network namespace.
    pub(crate) fn only_loopback(&self) -> bool {
        self.servers.iter().all(is_loopback)
    }

    /// For a namespace of its own, under the definition's `dnsServers` and `dnsSearchDomains`.
    pub(crate) fn for_container(&self, servers: &[IpAddr], search: &[String]) -> ResolvConf {
        let mut conf = self.overridden(servers, search);
        if servers.is_empty() {
            // Containers have no IPv6 way out yet.
            conf.servers.retain(|server| !is_loopback(server) && server.is_ipv4());
        }
        conf
    }

    pub(crate) fn overridden(&self, servers: &[IpAddr], search: &[String]) -> ResolvConf {
        ResolvConf {
            servers: if servers.is_empty() { self.servers.clone() } else { servers.to_vec() },
            search: if search.is_empty() { self.search.clone() } else { search.to_vec() },
            options: self.options.clone(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

fn is_loopback(server: &IpAddr) -> bool {
    match server {
        IpAddr::V4(address) => address.is_loopback() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STUB: &str = "# managed by systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n";
    const REAL: &str = "nameserver 192.0.2.53 # the office\nnameserver fd00::53\nnameserver ::1\ndomain a.example\n\
                        search b.example c.example\noptions ndots:2\n";

    #[test]
    fn a_container_gets_the_servers_that_it_can_reach() {
        let text = ResolvConf::parse(REAL).for_container(&[], &[]).text();
        assert_eq!(text, "nameserver 192.0.2.53\nsearch b.example c.example\noptions ndots:2\n");
    }

    #[test]
    fn a_local_stub_is_recognised() {
        assert!(ResolvConf::parse(STUB).only_loopback());
        assert!(ResolvConf::parse("").only_loopback());
        assert!(!ResolvConf::parse(REAL).only_loopback());
    }

    #[test]
    fn the_definition_overrides() {
        let text = ResolvConf::parse(REAL).for_container(&["127.0.0.1".parse().unwrap()], &["d.example".into()]).text();
        assert_eq!(text, "nameserver 127.0.0.1\nsearch d.example\noptions ndots:2\n");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(text in "[a-z0-9.:# ;\n]{0,200}") {
            let conf = ResolvConf::parse(&text);
            prop_assert_eq!(ResolvConf::parse(&conf.text()), conf);
        }
    }
}
