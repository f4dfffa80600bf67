//! The text of a container's /etc/resolv.conf: the host's, less what a container cannot reach, or what the
//! container definition says instead.

use std::net::IpAddr;

use crate::service_sockets::SERVICE_ADDRESS;

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

    /// What a container reads, under its definition's `dnsServers` and `dnsSearchDomains`: the resolver of its own
    /// namespace, which asks `Upstreams` on from there.
    pub(crate) fn for_container(&self, asked: &Upstreams, search: &[String]) -> ResolvConf {
        ResolvConf {
            servers: match asked {
                Upstreams::OfHost | Upstreams::Of(_) => vec![IpAddr::V4(SERVICE_ADDRESS)],
                Upstreams::Unasked(servers) => servers.clone(),
            },
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

/// Whom the resolver asks for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upstreams {
    OfHost,
    Of(Vec<IpAddr>),
    /// It is not asked at all: the definition names a server at the loopback of the container's own namespace, which
    /// nobody outside of it could ask.
    Unasked(Vec<IpAddr>),
}

impl Upstreams {
    pub(crate) fn of(servers: &[IpAddr], own_namespace: bool) -> Upstreams {
        match servers {
            [] => Upstreams::OfHost,
            _ if own_namespace && servers.iter().any(is_loopback) => Upstreams::Unasked(servers.to_vec()),
            _ => Upstreams::Of(servers.to_vec()),
        }
    }
}

/// The servers that a resolv.conf of this text names, in their order.
pub fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    ResolvConf::parse(resolv_conf).servers
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

    fn servers(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_container_asks_the_resolver_of_its_namespace() {
        let text = ResolvConf::parse(REAL).for_container(&Upstreams::OfHost, &[]).text();
        assert_eq!(text, "nameserver 169.254.170.2\nsearch b.example c.example\noptions ndots:2\n");
        let given = Upstreams::of(&servers(&["192.0.2.9", "fd00::9"]), true);
        assert_eq!(given, Upstreams::Of(servers(&["192.0.2.9", "fd00::9"])));
        let text = ResolvConf::parse(REAL).for_container(&given, &["d.example".into()]).text();
        assert_eq!(text, "nameserver 169.254.170.2\nsearch d.example\noptions ndots:2\n");
    }

    #[test]
    fn a_server_of_the_containers_own_is_asked_by_itself() {
        let given = Upstreams::of(&servers(&["127.0.0.1", "192.0.2.9"]), true);
        let text = ResolvConf::parse(REAL).for_container(&given, &[]).text();
        assert_eq!(text, "nameserver 127.0.0.1\nnameserver 192.0.2.9\nsearch b.example c.example\noptions ndots:2\n");
        // On the host's own network it is the host's, and the resolver is there too.
        assert_eq!(Upstreams::of(&servers(&["127.0.0.1"]), false), Upstreams::Of(servers(&["127.0.0.1"])));
    }

    #[test]
    fn a_local_stub_is_recognised() {
        assert!(ResolvConf::parse(STUB).only_loopback());
        assert!(ResolvConf::parse("").only_loopback());
        assert!(!ResolvConf::parse(REAL).only_loopback());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(text in "[a-z0-9.:# ;\n]{0,200}") {
            let conf = ResolvConf::parse(&text);
            prop_assert_eq!(ResolvConf::parse(&conf.text()), conf);
        }
    }
}
