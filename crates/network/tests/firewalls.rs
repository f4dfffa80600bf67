//! Bridge mode beside other firewalls of a host that drop what they forward: packets pass, no rule of others changes,
//! and nothing of ours stays.

mod bed;
#[path = "bed/vpc.rs"]
mod vpc;

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use aws::ec2::VpcNetwork;
use bed::{
    HOST_ON_LAN, LAN, ask_tcp, container, inside, is_silent_tcp, lan, mapping, nft, on_fresh_host, request, ruleset,
    run, serve_tcp, settings, task, this_namespace,
};
use ecs::task_definition::NetworkMode::Bridge;
use ecs::task_definition::TransportProtocol::Tcp;
use network::{Attachment, ForeignFirewall, Outcome, Settings, Standing, StandingContainer};
use serde_json::json;

/// The checks, with files of tries in a directory of the test's own.
fn checks(settings: &network::Settings) -> Vec<network::Check> {
    let scratch = bed::Scratch::new();
    network::checks(&network::Settings { namespaces: scratch.settings().namespaces, ..settings.clone() })
}

fn attach(settings: &Settings) -> Attachment {
    let web = container("web", vec![mapping(80, Some(8080), Tcp)]);
    network::attach(settings, &request(1, Bridge, vec![web])).unwrap()
}

/// Everything that is not coracle's own table.
fn others() -> String {
    let shown = ruleset();
    let begin = shown.find("table inet coracle {").unwrap_or(shown.len());
    let end = shown[begin..].find("\n}\n").map_or(shown.len(), |end| begin + end + 3);
    format!("{}{}", &shown[..begin], &shown[end..])
}

/// The same without what counters count, and without lines that carry our comments.
fn others_own() -> String {
    let words = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        while let Some(at) = words.iter().position(|word| *word == "packets") {
            words.drain(at..at + 4);
        }
        words.join(" ")
    };
    others().lines().filter(|line| !line.contains("comment \"coracle: ")).map(words).collect::<Vec<_>>().join("\n")
}

fn rules_of_ours() -> usize {
    others().matches("comment \"coracle: ").count()
}

/// A port from the LAN, and the LAN from a container.
fn packets_pass(made: &Attachment, lan: &std::os::fd::OwnedFd) {
    let web = made.containers[0].netns.as_ref().unwrap();
    let servers = [serve_tcp(web, 80, "web", 1), serve_tcp(lan, 81, "lan", 1)];
    assert_eq!(inside(lan, || ask_tcp(HOST_ON_LAN, 8080)), Ok(format!("web {LAN}")), "{}", ruleset());
    assert_eq!(inside(web, || ask_tcp(LAN, 81)), Ok(format!("lan {HOST_ON_LAN}")));
    for server in servers {
        server.join().unwrap();
    }
}

/// What is there before is there with a task and after it, packets pass meanwhile, and what a reload of the other
/// firewall takes away comes back with the next task.
fn lives_beside(make: impl Fn()) {
    let lan = lan();
    make();
    let before = (others(), others_own());
    let made = attach(&settings());
    assert!(
        made.said.iter().any(|line| line.contains("rules inserted at its head: coracle: from coracle0")),
        "{:?}",
        made.said
    );
    packets_pass(&made, &lan);
    assert_eq!(others_own(), before.1);
    let inserted = rules_of_ours();
    let again = network::attach(&settings(), &request(2, Bridge, vec![container("web", vec![])])).unwrap();
    assert_eq!(rules_of_ours(), inserted, "once is enough");
    assert!(!again.said.iter().any(|line| line.contains("inserted")), "{:?}", again.said);
    let all = checks(&settings());
    assert!(all.iter().all(|check| check.outcome != Outcome::Fail), "{all:#?}");
    assert!(network::detach(&settings(), &bed::task(1)).is_empty());
    assert!(network::remove_bridge_and_table(&settings()).is_empty());
    assert_eq!((rules_of_ours(), others_own()), (0, before.1));
}

fn docker() {
    for program in ["iptables-nft", "ip6tables-nft"] {
        for rule in [
            "-P FORWARD DROP",
            "-N DOCKER-USER",
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
            "-A DOCKER-USER -j RETURN",
        ] {
            run(program, &rule.split(' ').collect::<Vec<_>>());
        }
    }
}

/// The rules are ones that iptables understands: it goes on listing, changing and saving its tables.
#[test]
fn dockers_iptables() {
    on_fresh_host(|| {
        lives_beside(docker);
        docker_can_go_on();
    });
}

fn docker_can_go_on() {
    let listed = || run("iptables-nft", &["-S"]);
    let before = listed();
    let made = attach(&settings());
    let expected = before.replace(
        "-A DOCKER-USER -j RETURN",
        "-A DOCKER-USER -i coracle0 -m comment --comment \"coracle: from coracle0\" -j ACCEPT\n\
         -A DOCKER-USER -o coracle0 -m comment --comment \"coracle: to coracle0\" -j ACCEPT\n\
         -A DOCKER-USER -j RETURN",
    );
    assert_eq!(listed(), expected);
    run("iptables-nft", &["-I", "FORWARD", "-i", "docker1", "-j", "ACCEPT"]);
    run("iptables-nft", &["-D", "FORWARD", "-i", "docker1", "-j", "ACCEPT"]);
    run(
        "sh",
        &[
            "-c",
            "iptables-nft-save > /dev/shm/coracle-$$ && iptables-nft-restore < /dev/shm/coracle-$$; status=$?; rm /dev/shm/coracle-$$; exit $status",
        ],
    );
    assert_eq!(listed(), expected);
    drop(made);
    assert!(network::remove_bridge_and_table(&settings()).is_empty());
    assert_eq!(listed(), before);
}

#[test]
fn ufws_iptables() {
    on_fresh_host(|| {
        lives_beside(|| {
            for program in ["iptables-nft", "ip6tables-nft"] {
                for rule in [
                    "-P INPUT DROP",
                    "-P FORWARD DROP",
                    "-N ufw-before-forward",
                    "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                    "-A FORWARD -j ufw-before-forward",
                ] {
                    run(program, &rule.split(' ').collect::<Vec<_>>());
                }
            }
        });
    });
}

/// As firewalld 1.3 writes it, in short: no policy, a reject at the end.
#[test]
fn firewallds_table() {
    on_fresh_host(|| {
        lives_beside(|| {
            nft("add table inet firewalld; add chain inet firewalld filter_FORWARD_POLICIES");
            nft(
                "add chain inet firewalld filter_FORWARD { type filter hook forward priority filter + 10; policy accept; }",
            );
            for rule in [
                "ct state { established, related } accept",
                "ct state invalid drop",
                "iifname \"lo\" accept",
                "jump filter_FORWARD_POLICIES",
                "reject with icmpx admin-prohibited",
            ] {
                nft(&format!("add rule inet firewalld filter_FORWARD {rule}"));
            }
        });
    });
}

#[test]
fn a_policy_of_nftables_and_a_last_rule_of_another_table() {
    on_fresh_host(|| {
        lives_beside(|| {
            nft(
                "add table inet filter; add chain inet filter forward { type filter hook forward priority filter; policy drop; }",
            );
            nft("add rule inet filter forward ct state established,related accept comment \"mine\"");
            nft("add table ip more; add chain ip more f { type filter hook forward priority 5; policy accept; }");
            nft("add rule ip more f iifname \"eth9\" accept; add rule ip more f counter drop");
        });
    });
}

#[test]
fn what_is_to_be_left_is_left_and_a_chain_that_asks_is_no_obstacle() {
    on_fresh_host(|| {
        let lan = lan();
        nft("add table inet asks; add chain inet asks f { type filter hook forward priority 5; policy accept; }");
        nft("add rule inet asks f iifname \"eth9\" drop");
        let made = attach(&settings());
        assert_eq!(rules_of_ours(), 0);
        packets_pass(&made, &lan);
        assert!(network::detach(&settings(), &bed::task(1)).is_empty());
        drop(made);

        nft(
            "add table inet filter; add chain inet filter forward { type filter hook forward priority filter; policy drop; }",
        );
        let leave = Settings { foreign_firewall: ForeignFirewall::Leave, ..settings() };
        let made = bed::eventually(|| {
            let web = container("web", vec![mapping(80, Some(8080), Tcp)]);
            network::attach(&leave, &request(1, Bridge, vec![web]))
        });
        assert_eq!(rules_of_ours(), 0);
        let _server = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 81)).unwrap();
        assert!(inside(&lan, || is_silent_tcp(HOST_ON_LAN, 8080)));
        assert!(checks(&leave).iter().any(|check| check.outcome == Outcome::Fail && check.name == "other firewalls"));
        drop(made);
    });
}

/// As firewalld does since 2.0 where it is set to: nobody else may change the table.
#[test]
fn an_owned_table_is_left_and_said() {
    on_fresh_host(|| {
        let mut owner = Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut orders = owner.stdin.take().unwrap();
        orders.write_all(b"add table inet firewalld { flags owner; }\n").unwrap();
        orders
            .write_all(
                b"add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy drop; }\n",
            )
            .unwrap();
        bed::eventually(|| if ruleset().contains("filter_FORWARD") { Ok(()) } else { Err(ruleset()) });
        let made = attach(&settings());
        assert!(made.said.iter().any(|line| line.contains("only its owner may change it")), "{:?}", made.said);
        let all = checks(&settings());
        let failed = all.iter().find(|check| check.outcome == Outcome::Fail).unwrap();
        assert!(failed.cure.as_ref().unwrap().starts_with("firewall-cmd"), "{failed:?}");
        drop(orders);
        owner.wait().unwrap();
    });
}

/// What an awsvpc task sends and is sent passes as well; its security groups say what of it may.
#[test]
fn interfaces_of_tasks_pass() {
    on_fresh_host(|| {
        let scratch = bed::Scratch::new();
        let lan = lan();
        docker();
        let before = others_own();
        let network = Arc::new(vpc::vpc(json!({ "wayOut": "routed" })));
        let request =
            |number, group| vpc::awsvpc(number, vpc::interface(&network, group), vec![container("web", vec![])]);
        let open = network::attach(&scratch.settings(), &request(1, vpc::OPEN)).unwrap();
        assert!(open.said.iter().any(|line| line.contains("coracle: from interfaces of tasks")), "{:?}", open.said);
        let closed = network::attach(&scratch.settings(), &request(2, vpc::CLOSED)).unwrap();
        let [open_at, closed_at] = [&open, &closed].map(|made| made.containers[0].ipv4.unwrap());
        let [open, closed] = [&open, &closed].map(|made| made.containers[0].netns.as_ref().unwrap());
        inside(&lan, || bed::ip(&format!("route add 10.0.1.0/24 via {HOST_ON_LAN}")));
        let servers = [serve_tcp(open, 80, "open", 2), serve_tcp(&lan, 81, "lan", 2)];
        let _private = inside(closed, || std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
        assert_eq!(inside(&lan, || ask_tcp(open_at, 80)), Ok(format!("open {LAN}")));
        assert_eq!(inside(closed, || ask_tcp(open_at, 80)), Ok(format!("open {closed_at}")));
        assert!(inside(&lan, || is_silent_tcp(closed_at, 80)), "{}", ruleset());
        for task in [open, closed] {
            assert!(inside(task, || ask_tcp(LAN, 81)).is_ok());
        }
        for server in servers {
            server.join().unwrap();
        }
        assert_eq!(others_own(), before);
        let listed = run("iptables-nft", &["-S", "DOCKER-USER"]);
        assert!(listed.contains("-A DOCKER-USER -i eni+ -m comment"), "{listed}");
        for number in [1, 2] {
            assert!(network::detach(&scratch.settings(), &bed::task(number)).is_empty());
        }
        assert!(network::remove_bridge_and_table(&scratch.settings()).is_empty());
        assert_eq!((rules_of_ours(), others_own()), (0, before));
    });
}

/// The services of a host that are started or reloaded: one that flushes everything, one that begins anew alone.
#[test]
fn a_firewall_that_is_loaded_anew_lets_packets_through_again() {
    on_fresh_host(|| {
        let lan = lan();
        let load = || {
            nft(
                "add table inet filter; add chain inet filter f { type filter hook forward priority filter; policy drop; }",
            );
        };
        load();
        let made = attach(&settings());
        let web = &made.containers[0];
        let standing = [Standing {
            task: task(1),
            containers: vec![StandingContainer {
                ipv4: web.ipv4.unwrap(),
                ipv6: web.ipv6,
                bindings: web.bindings.clone(),
            }],
            interface: None,
            is_on_host: false,
        }];
        let mut events = network::firewall_events(&settings()).unwrap();
        let mut restore = || {
            let change = events.read().unwrap();
            network::restore(&settings(), &VpcNetwork::default(), &standing, change).unwrap()
        };
        for reload in [&["flush ruleset"][..], &["delete table inet filter"]] {
            reload.iter().for_each(|script| nft(script));
            load();
            assert!(restore(), "after {reload:?}");
            packets_pass(&made, &lan);
            assert!(!restore(), "what was put back is there");
        }
        nft("flush chain inet filter f");
        assert!(restore());
        assert_eq!(rules_of_ours(), 2);
    });
}

#[test]
fn many_at_once_insert_one_pair_of_rules() {
    on_fresh_host(|| {
        nft(
            "add table inet filter; add chain inet filter forward { type filter hook forward priority filter; policy drop; }",
        );
        let host = this_namespace();
        let made: Vec<_> = thread::scope(|scope| {
            let one = |number| {
                let host = &host;
                scope.spawn(move || {
                    let web = vec![container("web", vec![])];
                    inside(host, || network::attach(&settings(), &request(number, Bridge, web)).unwrap())
                })
            };
            let threads: Vec<_> = (0..6).map(one).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(rules_of_ours(), 2, "{}", others());
        drop(made);
    });
}
