//! What nf_tables announces to whoever listens (NFNLGRP_NFTABLES).

use super::batch::FAMILY_INET;
use super::dump::name;
use crate::netlink::messages;
use crate::restore::FirewallChange;

const SUBSYSTEM: u16 = 0x0a00;
const SUBSYSTEM_MASK: u16 = 0xff00;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const DELETE_SET: u16 = 11;
const HEADER: usize = 4;
const TABLE_NAME: u16 = 1;

/// What the messages of one datagram say about a table. Elements are left out: tasks come and go by them. Another
/// firewall that begins anew has forgotten the rules that let our packets through.
pub(crate) fn change_of_table(datagram: &[u8], table: &str) -> FirewallChange {
    let changes = messages(datagram).into_iter().map(|message| {
        if message.kind & SUBSYSTEM_MASK != SUBSYSTEM {
            return FirewallChange::Nothing;
        }
        let of_table = message.body.first() == Some(&FAMILY_INET)
            && message.body.get(HEADER..).and_then(|area| name(area, TABLE_NAME)).as_deref() == Some(table);
        match message.kind & !SUBSYSTEM_MASK {
            DELETE_TABLE if of_table => FirewallChange::Removed,
            DELETE_CHAIN | NEW_RULE | DELETE_RULE | DELETE_SET if of_table => FirewallChange::Rules,
            NEW_CHAIN | DELETE_CHAIN | DELETE_RULE if !of_table => FirewallChange::Rules,
            _ => FirewallChange::Nothing,
        }
    });
    changes.max().unwrap_or(FirewallChange::Nothing)
}
