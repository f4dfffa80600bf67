//! The text of a container's /etc/hosts, as Docker writes it.

use std::net::{IpAddr, Ipv4Addr};

const DEFAULT_LINES: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// A linked container's addresses with the names that it goes by.
pub(crate) struct Linked {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) names: Vec<String>,
}

/// Docker's default lines, `extraHosts`, linked containers, then the container's own name at each of its addresses. A
/// container without an address knows its name as a loopback one, so that looking oneself up works everywhere.
pub(crate) fn own(extra: &[(IpAddr, String)], linked: &[Linked], addresses: &[IpAddr], hostname: &str) -> String {
    let mut text = DEFAULT_LINES.to_owned();
    push_extra(&mut text, extra);
    for Linked { addresses, names } in linked {
        for address in addresses {
            text.push_str(&format!("{address}\t{}\n", names.join(" ")));
        }
    }
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    for address in if addresses.is_empty() { &loopback } else { addresses } {
        // `web.example.org` is also known as `web`.
        match hostname.split_once('.') {
            Some((short, _)) if !short.is_empty() => text.push_str(&format!("{address}\t{hostname} {short}\n")),
            _ => text.push_str(&format!("{address}\t{hostname}\n")),
        }
    }
    text
}

/// The host's file, then `extraHosts`.
pub(crate) fn of_host(hosts: &str, extra: &[(IpAddr, String)]) -> String {
    let mut text = hosts.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    push_extra(&mut text, extra);
    text
}

fn push_extra(text: &mut String, extra: &[(IpAddr, String)]) {
    for (address, name) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_file_has_defaults_then_extra_hosts_then_the_container() {
        let extra = [(IpAddr::from([192, 0, 2, 9]), "db".to_owned()), ("fd00::9".parse().unwrap(), "db6".to_owned())];
        let names = ["the-db", "ba9876543210", "db"].map(str::to_owned).to_vec();
        let linked = [Linked { addresses: vec![[172, 30, 0, 3].into(), "fd00::3".parse().unwrap()], names }];
        let text = own(&extra, &linked, &[[172, 30, 0, 2].into(), "fd00::2".parse().unwrap()], "0123456789ab");
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n\
             192.0.2.9\tdb\nfd00::9\tdb6\n172.30.0.3\tthe-db ba9876543210 db\n\
             fd00::3\tthe-db ba9876543210 db\n172.30.0.2\t0123456789ab\nfd00::2\t0123456789ab\n"
        );
    }

    #[test]
    fn a_qualified_name_is_known_by_its_first_label_too() {
        let text = own(&[], &[], &[[172, 30, 0, 2].into()], "web.example.org");
        assert!(text.ends_with("172.30.0.2\tweb.example.org web\n"));
    }

    #[test]
    fn without_an_address_the_name_is_loopback() {
        assert!(own(&[], &[], &[], "alone").ends_with("ip6-allrouters\n127.0.0.1\talone\n"));
    }

    #[test]
    fn the_hosts_file_is_kept_whole() {
        let extra = [(IpAddr::from([192, 0, 2, 9]), "db".to_owned())];
        assert_eq!(of_host("127.0.0.1 localhost", &extra), "127.0.0.1 localhost\n192.0.2.9\tdb\n");
        assert_eq!(of_host("", &[]), "");
    }
}
