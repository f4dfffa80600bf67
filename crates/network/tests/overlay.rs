//! Subnets that span hosts, proved with packets: three hosts on a pretend LAN, each with its own address there and
//! interfaces of tasks behind it.

#![allow(unsafe_code, reason = "one socket option that no safe wrapper offers")]

mod bed;
#[path = "overlay/hosts.rs"]
mod hosts;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use bed::{ask_tcp, eventually, inside, ip, nft, on_fresh_host, ruleset, run, serve_tcp};
use hosts::{Form, Host, Lan, address_of, configuration, error_text, ipv6_of};
use network::overlay;

const PATIENCE: Duration = Duration::from_secs(30);
const GPE_PORT: u16 = 4790;
const FORMS: [Form; 2] = [Form::Ip, Form::Ethernet];

/// Everything that the kernel has of a host's network but counters: what must not change, or must be gone. Link-local
/// and multicast addresses are left out, which IPv6 gives and finishes looking for when it likes.
fn state_of(host: &Host) -> String {
    inside(&host.namespace, || {
        let kernel = ["link", "addr", "-4 route show table all", "-6 route show table all", "neigh show nud permanent"];
        let mut texts: Vec<String> = kernel.map(ip).to_vec();
        texts.push(run("bridge", &["fdb"]));
        let noise = ["fe80:", "33:33:", "01:00:5e:", "anycast", "multicast"];
        let of_overlay = |line: &str| line.contains("coracle-vxlan") || line.contains("coracle-wg");
        let kept = |line: &&str| !noise.iter().any(|word| line.contains(word)) || of_overlay(line);
        let mut lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).filter(kept).collect();
        lines.sort_unstable();
        let rules = ruleset();
        let uncounted = rules.lines().map(|line| line.split(" packets ").next().unwrap_or_default());
        lines.into_iter().chain(uncounted).collect::<Vec<_>>().join("\n")
    })
}

fn apply(host: &Host, form: Form) -> overlay::Report {
    apply_to(host, &configuration(host.number, form))
}

fn apply_to(host: &Host, network: &aws::ec2::VpcNetwork) -> overlay::Report {
    let done = inside(&host.namespace, || overlay::apply(&host.settings(), network));
    done.unwrap_or_else(|errors| panic!("host {}: {errors:#?}", host.number))
}

/// Sends so much in both directions at once that segments of full size are certain.
fn exchange_a_megabyte(from: &hosts::Task, to: &hosts::Task, address: IpAddr) {
    const LENGTH: usize = 1 << 20;
    let listener = inside(&to.namespace, || TcpListener::bind(SocketAddr::new(address, 5001)).unwrap());
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut echo = client.try_clone().unwrap();
        assert_eq!(std::io::copy(&mut client, &mut echo).unwrap(), LENGTH as u64);
    });
    let mut client =
        inside(&from.namespace, || TcpStream::connect_timeout(&SocketAddr::new(address, 5001), PATIENCE).unwrap());
    let mut sender = client.try_clone().unwrap();
    let sent = thread::spawn(move || {
        sender.write_all(&vec![7; LENGTH]).unwrap();
        sender.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), LENGTH);
    sent.join().unwrap();
    server.join().unwrap();
}

/// The largest datagram that fits arrives whole without fragments.
fn send_a_large_datagram(from: &hosts::Task, to: &hosts::Task, address: IpAddr, mtu: usize) {
    let headers = if address.is_ipv4() { 28 } else { 48 };
    let receiver = inside(&to.namespace, || UdpSocket::bind(SocketAddr::new(address, 5002)).unwrap());
    inside(&from.namespace, || {
        let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let sender = UdpSocket::bind(local).unwrap();
        hosts::forbid_fragments(&sender, address.is_ipv4());
        let at = SocketAddr::new(address, 5002);
        sender.send_to(&vec![1; mtu - headers], at).unwrap();
        let refused = sender.send_to(&vec![1; mtu - headers + 1], at).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(90), "EMSGSIZE: {refused}");
    });
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(receiver.recv(&mut [0; 2000]).unwrap(), mtu - headers);
}

fn everybody_reaches_everybody(hosts: &[Host], mtu: usize) {
    for from in hosts {
        for to in hosts.iter().filter(|to| to.number != from.number) {
            let (from, to) = (&from.tasks[0], &to.tasks[0]);
            for address in [IpAddr::V4(to.address), IpAddr::V6(ipv6_of(to.address))] {
                exchange_a_megabyte(from, to, address);
                send_a_large_datagram(from, to, address, mtu);
            }
            let server = serve_tcp(&to.namespace, 80, "web", 1);
            let said = inside(&from.namespace, || ask_tcp(to.address, 80));
            assert_eq!(said, Ok(format!("web {}", from.address)), "the address is the task's own");
            server.join().unwrap();
        }
    }
}

#[test]
fn tasks_of_three_hosts_reach_each_other_and_nothing_is_left_of_it() {
    for form in FORMS {
        on_fresh_host(|| {
            let lan = Lan::new();
            let hosts = [1, 2, 3].map(|number| Host::new(&lan, number, form));
            let before = hosts.each_ref().map(state_of);
            for host in &hosts {
                let report = apply(host, form);
                assert!(!report.changes.is_empty() && report.warnings.is_empty(), "{report:?}");
            }
            everybody_reaches_everybody(&hosts, form.mtu());
            for (host, before) in hosts.iter().zip(&before) {
                let applied = state_of(host);
                assert_ne!(applied, *before);
                assert_eq!(apply(host, form), overlay::Report::default(), "nothing is left to be done");
                let ensured =
                    inside(&host.namespace, || overlay::ensure(&host.settings(), &configuration(host.number, form)));
                assert_eq!(ensured.unwrap(), None);
                assert_eq!(state_of(host), applied);
                let removed = inside(&host.namespace, || overlay::remove(&host.settings())).unwrap();
                assert!(!removed.changes.is_empty());
                assert_eq!(state_of(host), *before, "{form:?}");
                let again = inside(&host.namespace, || overlay::remove(&host.settings())).unwrap();
                assert_eq!(again, overlay::Report::default());
            }
        });
    }
}

#[test]
fn an_address_that_nobody_has_is_unreachable_at_once() {
    on_fresh_host(|| {
        let lan = Lan::new();
        let hosts = [1, 2].map(|number| Host::new(&lan, number, Form::Ip));
        hosts.iter().for_each(|host| drop(apply(host, Form::Ip)));
        let task = &hosts[0].tasks[0];
        // Of this host's slice, of no slice, and of the other host's: there it is the other host that says so.
        for nobody in [address_of(1, 9), Ipv4Addr::new(10, 0, 1, 250), address_of(2, 9)] {
            let refused =
                inside(&task.namespace, || TcpStream::connect_timeout(&(nobody, 80).into(), PATIENCE)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::HostUnreachable, "{nobody}");
        }
    });
}

#[test]
fn packets_that_are_too_large_are_told_of() {
    on_fresh_host(|| {
        let lan = Lan::new();
        let hosts = [1, 2].map(|number| Host::new(&lan, number, Form::Ip));
        hosts.iter().for_each(|host| drop(apply(host, Form::Ip)));
        let (from, to) = (&hosts[0].tasks[0], &hosts[1].tasks[0]);
        // Tasks that believe in Ethernet's size: the host tells them better, and TCP listens.
        for (host, task) in [(&hosts[0], from), (&hosts[1], to)] {
            inside(&task.namespace, || ip("link set eth0 mtu 1500"));
            inside(&host.namespace, || ip(&format!("link set {} mtu 1500", task.link)));
        }
        exchange_a_megabyte(from, to, to.address.into());
        exchange_a_megabyte(from, to, ipv6_of(to.address).into());
        let route = inside(&from.namespace, || ip(&format!("route get {}", to.address)));
        assert!(route.contains(&format!("mtu {}", Form::Ip.mtu())), "{route}");
    });
}

/// A datagram inside of VXLAN-GPE (the headers of draft-ietf-nvo3-vxlan-gpe, of IPv4 and of UDP).
fn encapsulated(from: Ipv4Addr, to: Ipv4Addr, port: u16, text: &[u8]) -> Vec<u8> {
    let udp_length = 8 + text.len() as u16;
    let mut inner = [&[0x45, 0], (20 + udp_length).to_be_bytes().as_slice(), &[0, 0, 0, 0, 64, 17, 0, 0]].concat();
    inner.extend([from.octets(), to.octets()].concat());
    let sum: u32 = inner.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = !(((sum & 0xffff) + (sum >> 16)) as u16);
    inner[10..12].copy_from_slice(&folded.to_be_bytes());
    let header = [0x0c, 0, 0, 1, 0, 0, 1, 0];
    let udp = [[port; 2].map(u16::to_be_bytes).concat(), udp_length.to_be_bytes().to_vec(), vec![0, 0]].concat();
    [&header, inner.as_slice(), &udp, text].concat()
}

/// Packets that a rule with this comment has dropped.
fn dropped(host: &Host, comment: &str) -> u64 {
    let rules = inside(&host.namespace, ruleset);
    let lines = rules.lines().filter(|line| line.contains(&format!("comment \"{comment}\"")));
    let packets = lines.filter_map(|line| line.split("packets ").nth(1)?.split(' ').next()?.parse::<u64>().ok());
    packets.sum()
}

#[test]
fn nobody_else_sends_into_the_overlay() {
    on_fresh_host(|| {
        let lan = Lan::new();
        let hosts = [1, 2].map(|number| Host::new(&lan, number, Form::Ip));
        hosts.iter().for_each(|host| drop(apply(host, Form::Ip)));
        let (ours, theirs) = (&hosts[0].tasks[0], &hosts[1].tasks[0]);
        let receiver = inside(&ours.namespace, || UdpSocket::bind((ours.address, 5003)).unwrap());
        let at = (hosts[0].address, GPE_PORT);
        let forged = |from| encapsulated(from, ours.address, 5003, b"forged");

        // A machine of the LAN that is not one of the hosts.
        let stranger = lan.stranger();
        inside(&stranger, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&forged(theirs.address), at).unwrap());
        eventually(|| if dropped(&hosts[0], "encapsulated, not by one of the hosts") == 1 { Ok(()) } else { Err(()) });

        // A process of one of the hosts, and a task there whose packets leave with the host's address.
        let refused = inside(&hosts[1].namespace, || {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&forged(theirs.address), at).unwrap_err()
        });
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        let masquerade =
            "table ip other { chain c { type nat hook postrouting priority 100; oifname lan0 masquerade; }; }";
        inside(&hosts[1].namespace, || nft(masquerade));
        inside(&theirs.namespace, || {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&forged(theirs.address), at).unwrap();
        });
        eventually(|| if dropped(&hosts[1], "encapsulated by a task") == 1 { Ok(()) } else { Err(()) });
        // A task of the host itself.
        inside(&ours.namespace, || {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&forged(theirs.address), at).unwrap();
        });
        eventually(|| if dropped(&hosts[0], "encapsulated by a task") == 1 { Ok(()) } else { Err(()) });

        // One of the hosts, with sources that are not its tasks' and destinations that are not tasks.
        inside(&hosts[1].namespace, || nft("flush chain inet coracle overlay-output"));
        let secret = inside(&hosts[0].namespace, || UdpSocket::bind("0.0.0.0:5003").unwrap());
        inside(&hosts[1].namespace, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for source in [ours.address, address_of(1, 7), Ipv4Addr::new(192, 0, 2, 13), Ipv4Addr::new(8, 8, 8, 8)] {
                socket.send_to(&forged(source), at).unwrap();
            }
            for destination in [hosts[0].address, Ipv4Addr::new(10, 0, 1, 1), lan.stranger_address] {
                socket.send_to(&encapsulated(theirs.address, destination, 5003, b"forged"), at).unwrap();
            }
        });
        eventually(|| {
            let sources = dropped(&hosts[0], "not from an interface of another host");
            let to_host = dropped(&hosts[0], "from another host's task to this host");
            let to_others = dropped(&hosts[0], "to anything else");
            if (sources, to_host, to_others) == (4, 2, 1) { Ok(()) } else { Err((sources, to_host, to_others)) }
        });

        // What is honest arrives, and nothing has before it.
        inside(&theirs.namespace, || {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"honest", (ours.address, 5003)).unwrap();
        });
        let mut heard = [0; 16];
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let (length, from) = receiver.recv_from(&mut heard).unwrap();
        assert_eq!((&heard[..length], from.ip()), (b"honest".as_slice(), theirs.address.into()));
        secret.set_nonblocking(true).unwrap();
        assert_eq!(secret.recv(&mut heard).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_slice_moves_to_another_host() {
    for form in FORMS {
        on_fresh_host(|| {
            let lan = Lan::new();
            let hosts = [1, 2, 3].map(|number| Host::new(&lan, number, form));
            hosts.iter().for_each(|host| drop(apply(host, form)));
            let moved = |number| {
                let mut network = configuration(number, form);
                network.subnets[0].slices[1].host = "host3".to_owned();
                network
            };
            // Host 2's task moves with its address.
            let hosts = hosts.map(|mut host| {
                if host.number == 2 {
                    host.remove_task(0);
                }
                host
            });
            let [first, second, mut third] = hosts;
            third.add_task(address_of(2, 5));
            for host in [&first, &second, &third] {
                apply_to(host, &moved(host.number));
                assert_eq!(apply_to(host, &moved(host.number)), overlay::Report::default());
            }
            let (from, to) = (&first.tasks[0], &third.tasks[1]);
            exchange_a_megabyte(from, to, to.address.into());
            exchange_a_megabyte(to, from, ipv6_of(from.address).into());
            let report = apply_to(&first, &configuration(1, form));
            assert!(
                report.changes.iter().all(|change| change.contains("10.0.1.64/26")
                    || change.contains("fd00:")
                    || change.contains("firewall")),
                "{report:?}"
            );
        });
    }
}

#[test]
fn one_address_may_live_on_another_host_than_its_slice() {
    on_fresh_host(|| {
        let lan = Lan::new();
        let mut hosts = [1, 2].map(|number| Host::new(&lan, number, Form::Ip));
        let address = address_of(1, 20);
        hosts[1].add_task(address);
        for host in &hosts {
            let mut network = configuration(host.number, Form::Ip);
            network.remote_interfaces = serde_json::from_value(serde_json::json!([{
                "privateIpv4Address": address, "ipv6Address": ipv6_of(address), "host": "host2",
            }]))
            .unwrap();
            apply_to(host, &network);
        }
        exchange_a_megabyte(&hosts[0].tasks[0], &hosts[1].tasks[1], address.into());
        exchange_a_megabyte(&hosts[0].tasks[0], &hosts[1].tasks[1], ipv6_of(address).into());
    });
}

#[test]
fn what_does_not_fit_this_host_is_refused_and_leaves_nothing() {
    on_fresh_host(|| {
        let lan = Lan::new();
        let host = Host::new(&lan, 1, Form::Ip);
        let before = state_of(&host);
        let refused = |network: &aws::ec2::VpcNetwork| {
            let errors = inside(&host.namespace, || overlay::apply(&host.settings(), network)).unwrap_err();
            error_text(&errors)
        };
        let other = refused(&configuration(2, Form::Ip));
        assert!(other.contains("overlay.hosts[host2].address: 192.0.2.12 is not an address of this host"), "{other}");
        let unknown = refused(&configuration(9, Form::Ip));
        assert!(
            unknown.contains("overlay.thisHost: \"host9\" is none of overlay.hosts (host1, host2, host3)"),
            "{unknown}"
        );
        inside(&host.namespace, || ip("link set lan0 mtu 1300"));
        let narrow = refused(&configuration(1, Form::Ip));
        assert!(narrow.contains("carries 1300 bytes, which leaves 1264 inside; at least 1280"), "{narrow}");
        inside(&host.namespace, || ip("link set lan0 mtu 1500"));
        assert_eq!(state_of(&host), before);

        // A name that somebody else's link has, by kind and by label.
        inside(&host.namespace, || ip("link add coracle-vxlan type bridge"));
        let taken = refused(&configuration(1, Form::Ip));
        assert!(taken.contains("a link coracle-vxlan, and it is of kind bridge"), "{taken}");
        inside(&host.namespace, || ip("link del coracle-vxlan"));
        apply(&host, Form::Ip);
        let ours = state_of(&host);
        let elsewhere = network::Settings { instance: "elsewhere".to_owned(), ..host.settings() };
        let errors = inside(&host.namespace, || overlay::apply(&elsewhere, &configuration(1, Form::Ip))).unwrap_err();
        assert!(error_text(&errors).contains("of another run directory's coracle (test)"), "{errors:?}");
        inside(&host.namespace, || overlay::remove(&elsewhere)).unwrap();
        assert_eq!(state_of(&host), ours);
    });
}

#[test]
fn a_device_that_was_taken_away_comes_back_with_the_next_task() {
    for form in FORMS {
        on_fresh_host(|| {
            let lan = Lan::new();
            let hosts = [1, 2].map(|number| Host::new(&lan, number, form));
            hosts.iter().for_each(|host| drop(apply(host, form)));
            let network = configuration(1, form);
            let ensure = || inside(&hosts[0].namespace, || overlay::ensure(&hosts[0].settings(), &network)).unwrap();
            let applied = state_of(&hosts[0]);
            inside(&hosts[0].namespace, || nft("flush ruleset"));
            assert_eq!(ensure().unwrap().changes, ["firewall table inet coracle"]);
            assert_eq!(state_of(&hosts[0]), applied);
            assert_eq!(ensure(), None);
            inside(&hosts[0].namespace, || ip("link del coracle-vxlan"));
            assert!(!ensure().unwrap().changes.is_empty());
            // Everything but the link's number.
            let numberless = |text: String| {
                let kept = text.lines().filter(|line| !line.contains(": coracle-vxlan: ")).map(str::to_owned);
                kept.collect::<Vec<_>>().join("\n")
            };
            assert_eq!(numberless(state_of(&hosts[0])), numberless(applied));
            exchange_a_megabyte(&hosts[0].tasks[0], &hosts[1].tasks[0], hosts[1].tasks[0].address.into());
            // One form in the place of the other, and a port in the place of another.
            let mut other = configuration(1, if form == Form::Ip { Form::Ethernet } else { Form::Ip });
            apply_to(&hosts[0], &other);
            other.overlay.as_mut().unwrap().port = Some(5000);
            apply_to(&hosts[0], &other);
            assert_eq!(apply_to(&hosts[0], &other), overlay::Report::default());
            let shown = inside(&hosts[0].namespace, || ip("-d link show coracle-vxlan"));
            assert!(shown.contains("dstport 5000"), "{shown}");
        });
    }
}

/// A key for each host as it makes its own; none where this kernel has no WireGuard.
fn public_keys(hosts: &[Host; 3]) -> Option<[String; 3]> {
    let keys = hosts.each_ref().map(|host| inside(&host.namespace, || overlay::public_key(&host.settings())));
    let again = inside(&hosts[0].namespace, || overlay::public_key(&hosts[0].settings()));
    match keys {
        [Ok(first), Ok(second), Ok(third)] => {
            assert_eq!(again.unwrap(), first, "the key stays");
            Some([first, second, third])
        }
        [Err(refused), ..] => {
            let said = error_text(&[refused]);
            for word in ["this kernel has no WireGuard", "modprobe wireguard", "encryption to \"none\""] {
                assert!(said.contains(word), "{said}");
            }
            None
        }
        other => panic!("{other:?}"),
    }
}

fn encrypted(this_host: u8, keys: &[String; 3]) -> aws::ec2::VpcNetwork {
    let mut network = configuration(this_host, Form::Wireguard);
    for (host, key) in network.overlay.as_mut().unwrap().hosts.iter_mut().zip(keys) {
        host.public_key = Some(key.clone());
    }
    network
}

/// Where the kernel has WireGuard the hosts speak encrypted; where it has none they say so, and nothing is left.
#[test]
fn hosts_encrypt_what_they_send_or_refuse_to_send_it() {
    on_fresh_host(|| {
        let lan = Lan::new();
        let hosts = [1, 2, 3].map(|number| Host::new(&lan, number, Form::Wireguard));
        let before = hosts.each_ref().map(state_of);
        let keys = public_keys(&hosts);
        let wrong = ["AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", "AgIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="];
        let refused = |keys: &[String; 3]| {
            let errors =
                inside(&hosts[0].namespace, || overlay::apply(&hosts[0].settings(), &encrypted(1, keys))).unwrap_err();
            assert_eq!(state_of(&hosts[0]), before[0]);
            error_text(&errors)
        };
        let Some(keys) = keys else {
            let said = refused(&[wrong[0], wrong[1], &wrong[0].replace("AQI", "AwI")].map(str::to_owned));
            assert!(said.contains("this kernel has no WireGuard"), "{said}");
            hosts.iter().for_each(|host| std::fs::remove_file(host.settings().wireguard_key).unwrap());
            return;
        };
        let said = refused(&[wrong[0].to_owned(), keys[1].clone(), keys[2].clone()]);
        assert!(said.contains("overlay.hosts[host1].publicKey is AQID") && said.contains(&keys[0]), "{said}");
        for host in &hosts {
            apply_to(host, &encrypted(host.number, &keys));
        }
        everybody_reaches_everybody(&hosts, Form::Wireguard.mtu());
        for host in &hosts {
            let applied = state_of(host);
            let network = encrypted(host.number, &keys);
            assert_eq!(apply_to(host, &network), overlay::Report::default(), "nothing is left to be done");
            assert_eq!(inside(&host.namespace, || overlay::ensure(&host.settings(), &network)).unwrap(), None);
            assert_eq!(state_of(host), applied);
            let state = inside(&host.namespace, || overlay::state(&host.settings(), &network)).unwrap().unwrap();
            let has_met = |peer: &overlay::PeerState| peer.last_handshake_s.is_some() && peer.received_bytes > 1 << 20;
            assert!(state.hosts.iter().all(|host| host.peer.as_ref().is_some_and(has_met)), "{state:?}");
        }

        // A host's key says which addresses it may send from: none of another host's.
        let (ours, theirs) = (&hosts[0].tasks[0], &hosts[1].tasks[0]);
        let receiver = inside(&ours.namespace, || UdpSocket::bind((ours.address, 5003)).unwrap());
        inside(&theirs.namespace, || {
            ip(&format!("addr add {}/32 dev eth0", address_of(3, 9)));
            let forger = UdpSocket::bind((address_of(3, 9), 0)).unwrap();
            forger.send_to(b"forged", (ours.address, 5003)).unwrap();
            UdpSocket::bind((theirs.address, 0)).unwrap().send_to(b"honest", (ours.address, 5003)).unwrap();
        });
        let mut heard = [0; 16];
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(
            receiver.recv_from(&mut heard).map(|(length, from)| (length, from.ip())).unwrap(),
            (6, theirs.address.into())
        );
        assert_eq!(&heard[..6], b"honest");

        // A slice moves, and its addresses are believed of the other host.
        let mut third = hosts;
        third[1].remove_task(0);
        third[2].add_task(address_of(2, 5));
        for host in &third {
            let mut network = encrypted(host.number, &keys);
            network.subnets[0].slices[1].host = "host3".to_owned();
            apply_to(host, &network);
            assert_eq!(apply_to(host, &network), overlay::Report::default());
        }
        let (from, to) = (&third[0].tasks[0], &third[2].tasks[1]);
        exchange_a_megabyte(from, to, to.address.into());
        exchange_a_megabyte(to, from, ipv6_of(from.address).into());
        inside(&third[0].namespace, || overlay::remove(&third[0].settings())).unwrap();
        assert_eq!(state_of(&third[0]), before[0]);
        // Without encryption again: the one device takes the other's place.
        apply(&third[2], Form::Ip);
        let links = inside(&third[2].namespace, || ip("link"));
        assert!(links.contains("coracle-vxlan") && !links.contains("coracle-wg"), "{links}");
        third.iter().for_each(|host| std::fs::remove_file(host.settings().wireguard_key).unwrap());
    });
}
