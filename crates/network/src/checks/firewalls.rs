//! Other firewalls of the host: which of them drop what a task sends or is sent, and what opens them.

use std::fs;

use super::{Check, chain, netfilter};
use crate::foreign_firewall;
use crate::netlink::{self, Socket};
use crate::nft::foreign::{self, ForeignChain, PassedBy};
use crate::settings::{ForeignFirewall, Settings};

const NAME: &str = "other firewalls";

pub(super) fn all(settings: &Settings) -> Vec<Check> {
    let mut all = match netfilter().and_then(|mut socket| in_nftables(&mut socket, settings)) {
        Ok(all) => all,
        Err(error) => return vec![Check::fail(NAME, chain(&error), "run as root, on a kernel with CONFIG_NF_TABLES")],
    };
    let legacy = fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    all.extend(legacy_iptables(&legacy, &settings.bridge));
    if all.is_empty() {
        all.push(Check::ok(NAME, "no other firewall stands in the way of containers"));
    }
    all
}

fn in_nftables(socket: &mut Socket, settings: &Settings) -> Result<Vec<Check>, netlink::Error> {
    let mut all = Vec::new();
    for chain in foreign::chains(socket, &settings.table, PassedBy::Forward)?.iter().filter(|chain| chain.drops) {
        let known = is_known(socket, settings, chain)?;
        all.push(sent_on(chain, settings, known));
    }
    let input = foreign::chains(socket, &settings.table, PassedBy::Input)?;
    all.extend(input.iter().filter(|chain| chain.drops).map(for_the_host));
    Ok(all)
}

/// Whether a chain's packets meet a rule about the bridge, ours or somebody's.
fn is_known(socket: &mut Socket, settings: &Settings, chain: &ForeignChain) -> Result<bool, netlink::Error> {
    if foreign_firewall::is_let_through(socket, settings, chain) {
        return Ok(true);
    }
    let rules = foreign::rules(socket, chain, None)?;
    Ok(rules.iter().any(|rule| rule.comment.is_none() && rule.names_link(&settings.bridge)))
}

/// A drop in any table is final, whatever coracle's own rules accept.
fn sent_on(chain: &ForeignChain, settings: &Settings, known: bool) -> Check {
    let (bridge, place) = (&settings.bridge, place(chain));
    if known {
        return Check::ok(NAME, format!("{place} restricts forwarding and has a rule about {bridge}"));
    }
    if settings.foreign_firewall == ForeignFirewall::LetThrough && !chain.owned {
        let found = format!(
            "{place} restricts forwarding; a task that needs it puts rules of coracle's own at its head \
             (CORACLE_FOREIGN_FIREWALL=leave keeps it from that)"
        );
        return Check::ok(NAME, found);
    }
    let (whose, cure) = opening(chain, bridge);
    Check::fail(NAME, format!("{place}: {whose} what containers on {bridge} send and are sent"), cure)
}

/// Who drops, and what lets a bridge through.
fn opening(chain: &ForeignChain, bridge: &str) -> (&'static str, String) {
    if chain.table == "firewalld" {
        let cure = format!(
            "firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload (for tasks with \
             networkMode awsvpc: --add-interface=eni+)"
        );
        return ("firewalld rejects what no zone allows", cure);
    }
    if is_ufw(chain) {
        return ("ufw drops", format!("ufw route allow in on {bridge} && ufw route allow out on {bridge}"));
    }
    let at = foreign_firewall::place(chain);
    if at != chain.name {
        return ("Docker's policy drops", iptables(program(chain), at, bridge));
    }
    if is_iptables(chain) {
        return ("iptables drops", iptables(program(chain), at, bridge));
    }
    let insert = |side| format!("nft insert rule {} {side} {bridge} accept", place(chain));
    ("it drops", format!("{} && {}", insert("iifname"), insert("oifname")))
}

/// Ports that a task publishes are sent on, and no such chain is asked; those that it opens itself in host mode are.
fn for_the_host(chain: &ForeignChain) -> Check {
    let cure = if chain.table == "firewalld" {
        "firewall-cmd --permanent --add-port=PORT/tcp && firewall-cmd --reload".to_owned()
    } else if is_ufw(chain) {
        "ufw allow PORT/tcp".to_owned()
    } else if is_iptables(chain) {
        format!("{} -I {} -p tcp --dport PORT -j ACCEPT", program(chain), chain.name)
    } else {
        format!("nft insert rule {} tcp dport PORT accept", place(chain))
    };
    let found = format!(
        "{} restricts what comes to the host itself: ports that tasks with networkMode host open are closed to others \
         unless it allows them (published ports are not concerned)",
        place(chain)
    );
    Check::warn(NAME, found, format!("for each port of such a task: {cure}"))
}

fn place(chain: &ForeignChain) -> String {
    format!("{} {} {}", chain.family, chain.table, chain.name)
}

fn is_ufw(chain: &ForeignChain) -> bool {
    chain.neighbours.iter().any(|name| name.starts_with("ufw-") || name.starts_with("ufw6-"))
}

fn is_iptables(chain: &ForeignChain) -> bool {
    chain.family != "inet" && chain.table == "filter" && ["FORWARD", "INPUT"].contains(&chain.name.as_str())
}

fn program(chain: &ForeignChain) -> &'static str {
    if chain.family == "ip6" { "ip6tables" } else { "iptables" }
}

fn iptables(program: &str, chain: &str, bridge: &str) -> String {
    format!("{program} -I {chain} -i {bridge} -j ACCEPT && {program} -I {chain} -o {bridge} -j ACCEPT")
}

/// The old iptables keeps its rules where nftables cannot see them; the kernel only tells that there are some.
fn legacy_iptables(table_names: &str, bridge: &str) -> Option<Check> {
    table_names.lines().any(|name| name == "filter").then(|| {
        Check::warn(
            NAME,
            "iptables-legacy has a filter table, whose rules cannot be seen from here",
            format!(
                "look with iptables-legacy -S FORWARD; if it drops: {}",
                iptables("iptables-legacy", "FORWARD", bridge)
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checks::Outcome;
    use crate::nft::foreign::ForeignRule;

    fn forward(family: &'static str, table: &str, neighbours: &[&str]) -> ForeignChain {
        let jump = |name: &&str| ForeignRule {
            handle: 1,
            comment: None,
            jumps_to: Some((*name).to_owned()),
            drops_everything: false,
            expressions: Vec::new(),
        };
        ForeignChain {
            family,
            number: 0,
            table: table.to_owned(),
            name: "FORWARD".to_owned(),
            drops: true,
            owned: false,
            neighbours: neighbours.iter().map(|name| (*name).to_owned()).collect(),
            rules: neighbours.iter().map(jump).collect(),
        }
    }

    fn settings(foreign_firewall: ForeignFirewall) -> Settings {
        Settings { foreign_firewall, ..Settings::new("i", Path::new("/run/coracle/netns")) }
    }

    #[test]
    fn each_firewall_gets_its_own_cure() {
        let cases = [
            (forward("ip", "filter", &["DOCKER-USER"]), "iptables -I DOCKER-USER -i coracle0 -j ACCEPT"),
            (forward("ip6", "filter", &["DOCKER-USER"]), "ip6tables -I DOCKER-USER -i coracle0 -j ACCEPT"),
            (forward("ip", "filter", &["ufw-before-forward"]), "ufw route allow in on coracle0"),
            (forward("ip", "filter", &[]), "iptables -I FORWARD -i coracle0 -j ACCEPT"),
            (forward("inet", "firewalld", &[]), "--zone=trusted --add-interface=coracle0"),
            (forward("inet", "mine", &[]), "nft insert rule inet mine FORWARD iifname coracle0 accept"),
        ];
        for (chain, cure) in cases {
            let check = sent_on(&chain, &settings(ForeignFirewall::Leave), false);
            assert_eq!(check.outcome, Outcome::Fail);
            assert!(check.cure.as_ref().unwrap().contains(cure), "{check:?}");
            assert_eq!(sent_on(&chain, &settings(ForeignFirewall::LetThrough), false).outcome, Outcome::Ok);
            assert_eq!(sent_on(&chain, &settings(ForeignFirewall::Leave), true).outcome, Outcome::Ok);
        }
    }

    #[test]
    fn what_only_its_owner_may_change_has_a_cure() {
        let owned = ForeignChain { owned: true, ..forward("inet", "firewalld", &[]) };
        let check = sent_on(&owned, &settings(ForeignFirewall::LetThrough), false);
        assert_eq!(check.outcome, Outcome::Fail);
        assert!(check.cure.unwrap().starts_with("firewall-cmd"));
    }

    #[test]
    fn legacy_tables_are_told_by_name() {
        assert!(legacy_iptables("nat\nfilter\n", "coracle0").is_some());
        assert!(legacy_iptables("nat\n", "coracle0").is_none());
    }
}
