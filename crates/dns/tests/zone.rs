//! The names of a host's tasks, read with another crate's eyes.

mod messages;

use std::net::IpAddr;

use dns::zone::{Container, NamedPort, Protocol, Task, Zone};
use dns::{Query, Transport, kind};
use messages::{extended, flags, plain};
use proptest::prelude::*;
use simple_dns::rdata::RData;
use simple_dns::{Packet, PacketFlag, RCODE, ResourceRecord};

const FIRST: &str = "0123456789abcdef0123456789abcdef";
const SECOND: &str = "fedcba9876543210fedcba9876543210";

fn container(name: &str, addresses: &[&str], port: Option<(&str, Protocol, u16)>) -> Container {
    Container {
        name: name.to_owned(),
        addresses: addresses.iter().map(|text| text.parse::<IpAddr>().expect("an address")).collect(),
        found: true,
        has_ports: port.is_some(),
        named_ports: port
            .map(|(name, protocol, port)| NamedPort { name: name.to_owned(), protocol, port })
            .into_iter()
            .collect(),
    }
}

fn task(id: &str, family: &str, containers: Vec<Container>) -> Task {
    Task { id: id.to_owned(), family: family.to_owned(), running: true, host_name: None, on_host: false, containers }
}

/// Two tasks of the family Web, one of which has a second container without ports; one with an interface.
fn tasks() -> Vec<Task> {
    let http = Some(("http", Protocol::Tcp, 8080));
    vec![
        task(
            FIRST,
            "Web",
            vec![container("main", &["10.0.0.1", "fd00::1"], http), container("side", &["10.0.0.2"], None)],
        ),
        task(SECOND, "Web", vec![container("main", &["10.0.0.3"], http)]),
        Task {
            host_name: Some("ip-10-0-1-5.xx-test-1.compute.internal".to_owned()),
            ..task(
                "00000000000000000000000000000000",
                "com",
                vec![
                    container("a", &["10.0.1.5"], Some(("dns", Protocol::Udp, 53))),
                    container("b", &["10.0.1.5"], None),
                ],
            )
        },
    ]
}

/// `rcode | records of each section`, or `not ours`.
fn ask_of(zone: &Zone, bytes: &[u8], turn: usize) -> String {
    let query = Query::read(bytes).expect("a good query");
    let Some(answer) = zone.answer(&query, turn) else { return "not ours".to_owned() };
    let mut reply = Vec::new();
    answer.write(&query, Transport::Tcp, 0, &mut reply);
    let packet = Packet::parse(&reply).expect("an answer that others can read");
    assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER));
    let section = |records: &[ResourceRecord]| records.iter().map(shown).collect::<Vec<_>>().join(", ");
    let rcode = match packet.rcode() {
        RCODE::NoError => "ok",
        RCODE::NameError => "no such name",
        other => panic!("{other:?}"),
    };
    let mut shown = format!("{rcode} | {}", section(&packet.answers));
    for more in [&packet.name_servers, &packet.additional_records] {
        if !more.is_empty() {
            shown += &format!(" | {}", section(more));
        }
    }
    shown
}

fn shown(record: &ResourceRecord) -> String {
    let data = match &record.rdata {
        RData::A(a) => format!("A {}", std::net::Ipv4Addr::from(a.address)),
        RData::AAAA(aaaa) => format!("AAAA {}", std::net::Ipv6Addr::from(aaaa.address)),
        RData::SRV(srv) => format!("SRV {} {} {} {}", srv.priority, srv.weight, srv.port, srv.target),
        RData::PTR(ptr) => format!("PTR {}", ptr.0),
        RData::SOA(soa) => format!("SOA {} {}", soa.mname, soa.minimum),
        RData::HINFO(hinfo) => format!("HINFO {} {}", hinfo.cpu, hinfo.os),
        other => panic!("{other:?}"),
    };
    format!("{} {} {data}", record.name, record.ttl)
}

fn ask(name: &str, kind: u16) -> String {
    ask_of(&Zone::of(&tasks()), &plain(name, kind), 0)
}

#[test]
fn addresses_of_containers() {
    assert_eq!(ask(&format!("main.{FIRST}"), kind::A), format!("ok | main.{FIRST} 5 A 10.0.0.1"));
    assert_eq!(ask(&format!("main.{FIRST}"), kind::AAAA), format!("ok | main.{FIRST} 5 AAAA fd00::1"));
    let below = format!("side.{FIRST}.coracle.internal");
    assert_eq!(ask(&below, kind::A), format!("ok | {below} 5 A 10.0.0.2"));
}

#[test]
fn a_family_is_all_its_tasks_where_they_have_ports() {
    let zone = Zone::of(&tasks());
    let asked = plain("web", kind::A);
    assert_eq!(ask_of(&zone, &asked, 0), "ok | web 5 A 10.0.0.1, web 5 A 10.0.0.3");
    assert_eq!(ask_of(&zone, &asked, 1), "ok | web 5 A 10.0.0.3, web 5 A 10.0.0.1");
    assert_eq!(ask_of(&zone, &asked, 2), "ok | web 5 A 10.0.0.1, web 5 A 10.0.0.3");
    let without_ports =
        [task(FIRST, "db", vec![container("x", &["10.0.0.1"], None), container("y", &["10.0.0.2"], None)])];
    assert_eq!(ask_of(&Zone::of(&without_ports), &plain("db", 1), 0), "ok | db 5 A 10.0.0.1, db 5 A 10.0.0.2");
}

/// The asker's capitals come back to it (0x20 encoding relies on that), whatever a family is registered as.
#[test]
fn capitals_do_not_matter_and_are_kept() {
    let asked = plain("wEB.CORACLE.internal", kind::A);
    assert_eq!(
        ask_of(&Zone::of(&tasks()), &asked, 0),
        "ok | wEB.CORACLE.internal 5 A 10.0.0.1, wEB.CORACLE.internal 5 A 10.0.0.3"
    );
}

#[test]
fn services_name_their_targets_as_they_were_asked_for() {
    assert_eq!(
        ask("_http._tcp.web", kind::SRV),
        format!(
            "ok | _http._tcp.web 5 SRV 0 1 8080 main.{FIRST}, _http._tcp.web 5 SRV 0 1 8080 main.{SECOND} \
             | main.{FIRST} 5 A 10.0.0.1, main.{FIRST} 5 AAAA fd00::1, main.{SECOND} 5 A 10.0.0.3"
        )
    );
    let target = format!("a.{:032}.coracle.internal", 0);
    assert_eq!(
        ask("_dns._udp.com.coracle.internal", kind::SRV),
        format!("ok | _dns._udp.com.coracle.internal 5 SRV 0 1 53 {target} | {target} 5 A 10.0.1.5")
    );
}

#[test]
fn addresses_have_names() {
    let reversed = format!("2.0.0.10.in-addr.arpa 5 PTR side.{FIRST}.coracle.internal");
    assert_eq!(ask("2.0.0.10.in-addr.arpa", kind::PTR), format!("ok | {reversed}"));
    let nibbles = format!("1{}.0.0.d.f.ip6.arpa", ".0".repeat(27));
    assert_eq!(ask(&nibbles, kind::PTR), format!("ok | {nibbles} 5 PTR main.{FIRST}.coracle.internal"));
    let interface = "ip-10-0-1-5.xx-test-1.compute.internal";
    assert_eq!(ask(interface, kind::A), format!("ok | {interface} 5 A 10.0.1.5"));
    let reversed = format!("5.1.0.10.in-addr.arpa 5 PTR {interface}");
    assert_eq!(ask("5.1.0.10.in-addr.arpa", kind::PTR), format!("ok | {reversed}"));
    assert_eq!(ask("9.0.0.10.in-addr.arpa", kind::PTR), "not ours");
    let on_host = Task { on_host: true, ..task(FIRST, "web", vec![container("main", &["10.9.9.9"], None)]) };
    assert_eq!(ask_of(&Zone::of(&[on_host]), &plain("9.9.9.10.in-addr.arpa", kind::PTR), 0), "not ours");
}

/// RFC 2308, section 2: what is not there says so with the SOA record of the zone it would be in.
#[test]
fn no_such_name_or_no_such_record() {
    let soa = |apex: &str| format!("{apex} 1 SOA coracle.internal 1");
    let table: Vec<(String, u16, String)> = vec![
        ("web".to_owned(), kind::AAAA, "web 5 AAAA fd00::1".to_owned()),
        ("web".to_owned(), 15, format!("| {}", soa("web"))),
        (format!("side.{FIRST}"), kind::AAAA, format!("| {}", soa(FIRST))),
        // They have names below them.
        (FIRST.to_owned(), kind::A, format!("| {}", soa(FIRST))),
        ("_tcp.web".to_owned(), kind::SRV, format!("| {}", soa("web"))),
        ("coracle.internal".to_owned(), kind::A, format!("| {}", soa("coracle.internal"))),
        ("coracle.internal".to_owned(), kind::SOA, soa("coracle.internal")),
    ];
    for (name, kind, expected) in table {
        let expected = if expected.starts_with('|') { format!("ok |  {expected}") } else { format!("ok | {expected}") };
        assert_eq!(ask(&name, kind), expected, "{name}");
    }
    let absent = [
        (format!("nobody.{FIRST}"), FIRST),
        ("main.ffffffffffffffffffffffffffffffff".to_owned(), "ffffffffffffffffffffffffffffffff"),
        (format!("a.main.{FIRST}"), FIRST),
        ("_smtp._tcp.web".to_owned(), "web"),
        ("db.coracle.internal".to_owned(), "coracle.internal"),
        ("x.web.coracle.internal".to_owned(), "coracle.internal"),
    ];
    for (name, apex) in absent {
        assert_eq!(ask(&name, kind::A), format!("no such name |  | {}", soa(apex)), "{name}");
    }
}

#[test]
fn what_is_somebody_elses() {
    for name in
        ["db", "example.com", "www.web", "internal", "xcoracle.internal", "main.0123", "_x._tcp.example.com", "."]
    {
        assert_eq!(ask(name, kind::A), "not ours", "{name}");
    }
    // One label whose inside looks like our domain.
    let tricky =
        [messages::header(1, 0x0100, [1, 0, 0, 0]), b"\x12x\x07coracle\x08internal\x00\x00\x01\x00\x01".to_vec()];
    assert_eq!(ask_of(&Zone::of(&tasks()), &tricky.concat(), 0), "not ours");
}

#[test]
fn who_is_not_to_be_found_has_no_name() {
    let mut hidden = tasks();
    for container in &mut hidden[0].containers {
        container.found = false;
    }
    hidden[1].containers[0].found = false;
    let zone = Zone::of(&hidden);
    assert!(ask_of(&zone, &plain(&format!("main.{FIRST}"), 1), 0).starts_with("no such name"));
    // The family is known and has nobody: asking elsewhere for it would only take time.
    assert!(ask_of(&zone, &plain("web", 1), 0).starts_with("no such name"));
    assert!(ask_of(&zone, &plain("_http._tcp.web", kind::SRV), 0).starts_with("no such name"));
    assert_eq!(ask_of(&zone, &plain("1.0.0.10.in-addr.arpa", kind::PTR), 0), "not ours");
    let starting = [Task { running: false, ..tasks()[1].clone() }];
    let zone = Zone::of(&starting);
    assert!(ask_of(&zone, &plain("web", 1), 0).starts_with("no such name"));
    assert!(ask_of(&zone, &plain("_http._tcp.web", kind::SRV), 0).starts_with("no such name"));
    let own = format!("main.{SECOND}");
    assert_eq!(ask_of(&zone, &plain(&own, 1), 0), format!("ok | {own} 5 A 10.0.0.3"));
}

#[test]
fn everything_is_not_told_at_once() {
    assert_eq!(ask("web", kind::ANY), "ok | web 5 HINFO RFC8482 ");
    let query = messages::query(&plain("www.example", kind::ANY));
    let mut reply = Vec::new();
    Zone::refuse_any(&query).expect("an answer").write(&query, Transport::Udp, 0, &mut reply);
    // RFC 8482, section 4.2: CPU "RFC8482", OS the null string.
    assert!(reply.ends_with(b"\x00\x0d\x00\x01\x00\x00\x00\x05\x00\x09\x07RFC8482\x00"), "{reply:x?}");
}

/// RFC 1035, sections 4.1.1 to 4.1.4, byte by byte.
#[test]
fn an_answer_in_bytes() {
    let query = messages::query(&plain("wEb", kind::A));
    let mut reply = Vec::new();
    let tasks = [task(FIRST, "web", vec![container("main", &["10.0.0.1"], None)])];
    Zone::of(&tasks).answer(&query, 0).expect("ours").write(&query, Transport::Udp, 0, &mut reply);
    let expected: &[u8] = b"\x12\x34\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00\x03wEb\x00\x00\x01\x00\x01\
        \xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01";
    assert_eq!(reply, expected);
}

#[test]
fn names_with_a_search_domain_behind_them() {
    let zone = Zone::of(&tasks());
    let below = |name: &str, domain: &str| zone.has_below(&messages::query(&plain(name, 1)), domain);
    assert!(below("WEB.lan", "lan"));
    assert!(below(&format!("main.{FIRST}.corp.example"), "corp.example."));
    assert!(!below("db.lan", "lan"));
    assert!(!below("web.lan", "corp.example"));
    assert!(!below("lan", "lan"));
    assert!(!below("web.lan", ""));
}

/// Forty tasks of one family: too long for a datagram without EDNS.
#[test]
fn as_many_addresses_as_fit() {
    let tasks: Vec<Task> = (0..40u8)
        .map(|number| {
            task(&format!("{number:032x}"), "many", vec![container("main", &[&format!("10.0.0.{number}")], None)])
        })
        .collect();
    let zone = Zone::of(&tasks);
    // 12 bytes of header, 10 of question, 16 a record: 30 of them are 502.
    for (bytes, answers, truncated) in [
        (plain("many", 1), 30, true),
        (extended("many", 1, 1232, 0), 40, false),
        (extended("many", 1, 512, 0), 29, true),
    ] {
        let query = messages::query(&bytes);
        let mut reply = Vec::new();
        zone.answer(&query, 0).expect("ours").write(&query, Transport::Udp, 0, &mut reply);
        assert!(reply.len() <= query.limit(Transport::Udp));
        assert_eq!(messages::counts(&reply)[1], answers);
        assert_eq!(flags(&reply) & 0x0200 != 0, truncated);
        assert_eq!(Packet::parse(&reply).expect("readable").answers.len(), usize::from(answers));
    }
}

proptest! {
    /// Whatever tasks are called, the zone stands, and whatever is asked, an answer is within its limit.
    #[test]
    fn no_names_are_too_bad(
        names in proptest::collection::vec("[A-Za-z0-9_.-]{0,70}", 4),
        asked in "[a-z_.]{0,40}",
        kind in any::<u16>(),
        payload in any::<u16>(),
        turn in any::<usize>(),
    ) {
        let port = Some((names[0].as_str(), Protocol::Tcp, 1));
        let tasks = [Task {
            host_name: Some(names[1].clone()),
            ..task(&names[2], &names[3], vec![container(&names[0], &["10.0.0.1", "fd00::1"], port)])
        }];
        let zone = Zone::of(&tasks);
        for name in names.iter().map(String::as_str).chain([asked.as_str()]) {
            if name.split('.').any(|label| label.len() > 63) {
                continue;
            }
            if let Ok(query) = Query::read(&extended(name, kind, payload, 0))
                && let Some(answer) = zone.answer(&query, turn)
            {
                let mut reply = Vec::new();
                answer.write(&query, Transport::Udp, 0, &mut reply);
                prop_assert!(reply.len() <= query.limit(Transport::Udp));
            }
        }
    }
}
