//! Subnets that span hosts, with tasks as they are attached: addresses of each host's own slice, sizes that fit the
//! overlay, security groups that know members on other hosts.
#![allow(unsafe_code, reason = "one socket option that no safe wrapper offers")]

mod bed;
#[path = "overlay/hosts.rs"]
mod hosts;
#[path = "bed/vpc.rs"]
mod vpc;

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use aws::ec2::VpcNetwork;
use bed::{
    Scratch, ask_tcp, ask_udp, container, inside, ip, is_silent_tcp, names_address, on_fresh_host, ruleset, serve_tcp,
    serve_udp, task,
};
use hosts::{Form, Host, Lan};
use network::{Attachment, overlay};
use serde_json::json;
use vpc::{CLOSED, OPEN, awsvpc, interface};

/// Each host has a /26, and the overlay of `hosts::configuration`.
fn network(this_host: u8) -> VpcNetwork {
    let slice =
        |host: u8| json!({ "host": format!("host{host}"), "cidrBlock": format!("10.0.1.{}/26", 64 * (host - 1)) });
    let mut network = vpc::vpc(json!({ "ipv6CidrBlock": "fd00:1::/64", "slices": [slice(1), slice(2), slice(3)] }));
    network.overlay = hosts::configuration(this_host, Form::Ip).overlay;
    network
}

struct Running {
    host: Host,
    scratch: Scratch,
    made: Attachment,
}

impl Running {
    fn start(lan: &Lan, number: u8, group: &str) -> Running {
        let (host, scratch) = (Host::bare(lan, number), Scratch::new());
        let request = awsvpc(number, interface(&Arc::new(network(number)), group), vec![container("web", vec![])]);
        // The first task of all makes this host's part of the overlay.
        let made = inside(&host.namespace, || network::attach(&scratch.settings(), &request)).unwrap();
        Running { host, scratch, made }
    }

    fn address(&self) -> Ipv4Addr {
        self.made.interface.as_ref().unwrap().private_ipv4_address
    }

    fn namespace(&self) -> &OwnedFd {
        self.made.containers[0].netns.as_ref().unwrap()
    }

    fn follow(&self, network: &VpcNetwork) {
        let settings = self.scratch.settings();
        inside(&self.host.namespace, || network::apply_groups(&settings, network)).unwrap();
        inside(&self.host.namespace, || overlay::apply(&settings, network)).unwrap();
    }
}

#[test]
fn groups_know_their_members_on_other_hosts() {
    on_fresh_host(|| {
        let lan = Lan::new();
        let [first, second, third] =
            [(1, CLOSED), (2, CLOSED), (3, OPEN)].map(|(number, group)| Running::start(&lan, number, group));
        for running in [&first, &second, &third] {
            let slice = 64 * (running.host.number - 1);
            assert!((slice..slice + 64).contains(&running.address().octets()[3]), "{}", running.address());
            let link = inside(running.namespace(), || ip("link show eth0"));
            assert!(link.contains(&format!("mtu {} ", Form::Ip.mtu())), "{link}");
        }

        // Nobody has said that the first is a member, on the second's host.
        let ask_second = |from: &Running| inside(from.namespace(), || ask_tcp(second.address(), 80));
        let is_deaf = |from: &Running| inside(from.namespace(), || is_silent_tcp(second.address(), 80));
        assert!(is_deaf(&first));
        let remote = |of: &Running, group: &str| {
            let announced = of.made.interface.as_ref().unwrap();
            json!({
                "privateIpv4Address": announced.private_ipv4_address, "ipv6Address": announced.ipv6_address,
                "host": format!("host{}", of.host.number), "groups": [group],
            })
        };
        let mut known = network(2);
        known.remote_interfaces =
            serde_json::from_value(json!([remote(&first, CLOSED), remote(&third, OPEN)])).unwrap();
        second.follow(&known);
        let servers = [serve_tcp(second.namespace(), 80, "web", 1), serve_udp(second.namespace(), 53, "dns", 1)];
        assert_eq!(ask_second(&first), Ok(format!("web {}", first.address())));
        assert_eq!(inside(first.namespace(), || ask_udp(second.address(), 53)), Ok(format!("dns {}", first.address())));
        assert!(is_deaf(&third), "another group's member");
        // What the third says back to a member is of a flow that the member began.
        let server = serve_tcp(third.namespace(), 80, "web", 1);
        assert!(inside(second.namespace(), || ask_tcp(third.address(), 80)).is_ok());
        servers.into_iter().chain([server]).for_each(|server| server.join().unwrap());

        // It leaves the group, as it would by ending.
        second.follow(&network(2));
        assert!(is_deaf(&first));
        let rules = inside(&second.host.namespace, ruleset);
        assert!(!names_address(&rules, first.address()), "{rules}");
    });
}

#[test]
fn a_task_that_ends_leaves_the_overlay_to_the_next() {
    on_fresh_host(|| {
        let lan = Lan::new();
        let running = Running::start(&lan, 1, OPEN);
        let (settings, namespace) = (running.scratch.settings(), &running.host.namespace);
        let gone = inside(namespace, || network::detach(&settings, &task(1)));
        assert!(gone.is_empty(), "{gone:?}");
        assert_eq!(inside(namespace, || overlay::apply(&settings, &network(1))).unwrap(), overlay::Report::default());
        inside(namespace, || overlay::remove(&settings)).unwrap();
        let links = inside(namespace, || ip("link"));
        assert!(!links.contains("coracle-vxlan"), "{links}");
        let rules = inside(namespace, ruleset);
        assert!(!rules.contains("chain overlay-") && !rules.contains("\"coracle-vxlan\""), "{rules}");
    });
}
