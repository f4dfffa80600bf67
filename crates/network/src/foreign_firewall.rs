//! Other firewalls of the host. A packet passes every table, and a drop in any of them is final, whatever coracle's own
//! rules accept. Many hosts drop what they forward unless they know it: Docker sets that policy in iptables, ufw and
//! firewalld have it, and so has many an nftables.conf.
//!
//! Where a chain ends that way, rules of ours are put at its head that accept what our own links send and are sent;
//! which of that may really pass is for coracle's own table, and its security groups, to say. Where Docker is, they go
//! into DOCKER-USER, which it keeps for the host's own rules
//! (<https://docs.docker.com/engine/network/packet-filtering-firewalls/>). They hold no more than iptables-nft can
//! show and save. They are known by their comments, stay as long as the bridge does, and no rule of others is touched.
//! A table that its program keeps to itself (firewalld with NftablesTableOwner) is left alone; `checks` names what
//! opens it.

use crate::error::Error;
use crate::netlink::Socket;
use crate::nft::foreign::{self, ForeignChain, PassedBy};
use crate::nft::{Comparison, Expression, Meta, Register, interface_name};
use crate::settings::{ForeignFirewall, Settings};

/// The host's own rules before Docker's.
const DOCKER_USER: &str = "DOCKER-USER";
/// What the host's end of every elastic network interface begins with.
const INTERFACE_PREFIX: &[u8] = b"eni";

/// Whose packets are to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Containers' on the bridge.
    Bridge,
    /// Those of elastic network interfaces.
    Interfaces,
}

/// Puts rules of ours where another firewall would drop what it does not know, and tells whether any were missing. What
/// cannot be done is said; it is no reason not to start a task.
pub(crate) fn let_through(socket: &mut Socket, settings: &Settings, whose: Whose, said: &mut Vec<String>) -> bool {
    if settings.foreign_firewall == ForeignFirewall::Leave {
        return false;
    }
    let mut any = false;
    let chains = match foreign::chains(socket, &settings.table, PassedBy::Forward) {
        Ok(chains) => chains,
        Err(error) => {
            said.push(format!("other firewalls of this host could not be looked at: {error}"));
            return false;
        }
    };
    for chain in chains.iter().filter(|chain| chain.drops) {
        let place = place(chain);
        let named = format!("{} {} {place} drops what it does not know", chain.family, chain.table);
        if chain.owned {
            said.push(format!("{named}, and only its owner may change it; see `coracle doctor`"));
            continue;
        }
        match foreign::insert(socket, chain, place, &rules(settings, whose)) {
            Ok(inserted) if inserted.is_empty() => {}
            Ok(inserted) => {
                any = true;
                said.push(format!("{named}; rules inserted at its head: {}", inserted.join(", ")));
            }
            Err(error) => said.push(format!("{named}; see `coracle doctor`, since no rule can be inserted: {error}")),
        }
    }
    any
}

/// Deletes our rules out of every chain of others.
pub(crate) fn take_back(socket: &mut Socket, settings: &Settings) -> Vec<Error> {
    let failed = |source| Error::Firewall { table: settings.table.clone(), source };
    let chains = match foreign::chains(socket, &settings.table, PassedBy::Forward) {
        Ok(chains) => chains,
        Err(error) => return vec![failed(error.into())],
    };
    let all = [Whose::Bridge, Whose::Interfaces].into_iter().flat_map(|whose| rules(settings, whose));
    let mine: Vec<String> = all.map(|(comment, _)| comment).collect();
    let mut errors = Vec::new();
    for chain in &chains {
        let user = chain.neighbours.iter().find(|name| *name == DOCKER_USER);
        for place in [Some(&chain.name), user].into_iter().flatten() {
            let deleted = foreign::delete(socket, chain, place, &|comment| mine.iter().any(|own| own == comment));
            errors.extend(deleted.err().map(failed));
        }
    }
    errors
}

/// Whether our rules for the bridge are in the way that a chain's packets take.
pub(crate) fn is_let_through(socket: &mut Socket, settings: &Settings, chain: &ForeignChain) -> bool {
    let wanted = rules(settings, Whose::Bridge);
    foreign::rules(socket, chain, Some(place(chain))).is_ok_and(|present| {
        wanted.iter().all(|(comment, _)| present.iter().any(|rule| rule.comment.as_ref() == Some(comment)))
    })
}

/// Where rules of ours belong.
pub(crate) fn place(chain: &ForeignChain) -> &str {
    let docker = chain.rules.iter().any(|rule| rule.jumps_to.as_deref() == Some(DOCKER_USER));
    if docker { DOCKER_USER } else { &chain.name }
}

fn rules(settings: &Settings, whose: Whose) -> Vec<(String, Vec<Expression>)> {
    let (name, what) = match whose {
        Whose::Bridge => (interface_name(&settings.bridge), settings.bridge.as_str()),
        // Shorter than a name and without its zero: it is what names begin with.
        Whose::Interfaces => (INTERFACE_PREFIX.to_vec(), "interfaces of tasks"),
    };
    let rule = |meta, direction| {
        let expressions = vec![
            Expression::Meta(meta, Register(0)),
            Expression::Compare(Register(0), Comparison::Equal, name.clone()),
            Expression::Counter,
            Expression::Accept,
        ];
        (format!("coracle: {direction} {what}"), expressions)
    };
    vec![rule(Meta::InterfaceNameIn, "from"), rule(Meta::InterfaceNameOut, "to")]
}
