//! Who has a host port: looked up only to make an error say it, so it gives up silently.

use std::fs;
use std::path::Path;

use ecs::task_definition::TransportProtocol;

use crate::netlink::{Protocol, Socket};
use crate::nft;
use crate::plan::protocol_name;
use crate::settings::Settings;

/// A task of coracle by its published port, or a process by its socket.
pub(crate) fn find(settings: &Settings, protocol: TransportProtocol, port: u16) -> Option<String> {
    task(settings, protocol, port).or_else(|| process(protocol, port))
}

fn task(settings: &Settings, protocol: TransportProtocol, port: u16) -> Option<String> {
    let mut socket = Socket::open(Protocol::Netfilter).ok()?;
    let published = nft::published(&mut socket, &settings.table).ok()?;
    let mut owners =
        published.into_iter().filter(|(entry, _)| entry.key.protocol == protocol && entry.key.port == port);
    owners.find_map(|(_, tenant)| tenant).map(|tenant| format!("task {}", tenant.task))
}

/// The process that has a TCP port.
pub(crate) fn listener(port: u16) -> Option<String> {
    process(TransportProtocol::Tcp, port)
}

fn process(protocol: TransportProtocol, port: u16) -> Option<String> {
    let name = protocol_name(protocol);
    let inode = ["", "6"].into_iter().find_map(|version| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{name}{version}")).ok()?;
        inode_of(&table, port)
    })?;
    let wanted = format!("socket:[{inode}]");
    let names = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    let pid = pids.into_iter().find(|pid| holds(*pid, &wanted))?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("{} (pid {pid})", command.trim_end()))
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(socket)))
}

/// The socket that has a local port, in the layout of /proc/net/tcp: the second column is `address:port` in
/// hexadecimal, the tenth the inode. Connections in TIME-WAIT have none.
fn inode_of(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = columns.get(1)?.rsplit_once(':')?;
        let inode: u64 = columns.get(9)?.parse().ok()?;
        (u16::from_str_radix(local, 16).ok()? == port && inode != 0).then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inode_is_found_by_local_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
                     1: 0100007F:0050 0100007F:1F91 06 00000000:00000000 03:00000000 00000000     0        0 0 3\n\
                     2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 815 1\n";
        assert_eq!(inode_of(table, 8080), Some(4711));
        assert_eq!(inode_of(table, 80), Some(815));
        assert_eq!(inode_of(table, 8081), None);
        assert_eq!(inode_of("garbage\nmore garbage\n", 80), None);
    }
}
