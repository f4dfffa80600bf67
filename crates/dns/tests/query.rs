//! Queries as clients write them, and as nobody should.

mod messages;

use dns::{MAX_QUERY, Query, Rejection, Transport, kind};
use messages::{extended, flags, header, opt, plain, query, question};
use proptest::prelude::*;

const REFUSED: u16 = 5;
const FORMAT_ERROR: u16 = 1;
const NOT_IMPLEMENTED: u16 = 4;

#[test]
fn a_plain_query() {
    let asked = query(&plain("WwW.example", kind::AAAA));
    assert_eq!((asked.id, asked.kind, asked.edns), (0x1234, kind::AAAA, None));
    assert_eq!(asked.name(), b"\x03WwW\x07example\x00", "the spelling is kept");
    assert!(asked.recursion_desired && !asked.checking_disabled && !asked.authentic_data);
    assert_eq!(asked.limit(Transport::Udp), 512);
    assert_eq!(asked.limit(Transport::Tcp), 65_535);
}

#[test]
fn types_that_nobody_here_knows_are_passed_on() {
    // TLSA, SSHFP, URI, HTTPS and one that does not exist.
    for unknown in [52, 44, 256, 65, 65_280] {
        assert_eq!(query(&plain("www.example", unknown)).kind, unknown);
    }
}

#[test]
fn what_an_opt_record_says() {
    let asked = query(&extended("www.example", kind::A, 1400, 0x8000));
    assert!(asked.dnssec_ok());
    assert_eq!(asked.limit(Transport::Udp), 1400);
    for (payload, limit) in [(0, 512), (511, 512), (4096, 4096), (65_535, 4096)] {
        assert_eq!(query(&extended("www.example", kind::A, payload, 0)).limit(Transport::Udp), limit);
    }
    let with_options = [
        header(7, 0x0100, [1, 0, 0, 1]),
        question("www.example", kind::A),
        // A cookie (RFC 7873) and an option of the kind that is for experiments.
        opt(1232, 0, b"\x00\x0a\x00\x0812345678\xfd\xe9\x00\x03abc"),
    ];
    assert_eq!(query(&with_options.concat()).edns.expect("EDNS").udp_payload, 1232);
}

#[track_caller]
fn rejected(bytes: &[u8]) -> Vec<u8> {
    match Query::read(bytes) {
        Err(Rejection::Reply(reply)) => reply,
        other => panic!("not a rejection with a reply: {other:?}"),
    }
}

#[test]
fn nobody_is_answered_who_could_not_take_it() {
    assert_eq!(Query::read(b""), Err(Rejection::Drop));
    assert_eq!(Query::read(&[0; 11]), Err(Rejection::Drop));
    let answer = [header(1, 0x8180, [1, 0, 0, 0]), question("www.example", 1)].concat();
    assert_eq!(Query::read(&answer), Err(Rejection::Drop), "two resolvers never answer each other's answers");
}

#[test]
fn what_is_not_one_question_is_refused_with_its_reason() {
    let ask = |flags: u16, counts: [u16; 4], rest: &[u8]| [&header(0x1234, flags, counts)[..], rest].concat();
    let good = question("www.example", kind::A);
    let chaos = [&messages::name("version.bind")[..], &[0, 16, 0, 3]].concat();
    let long_label = [&[64u8][..], &[b'a'; 64], &[0, 0, 1, 0, 1]].concat();
    let two_opts = [&good[..], &opt(1232, 0, &[]), &opt(1232, 0, &[])].concat();
    let cut_opt = &[&good[..], &opt(1232, 0, b"\x00\x0a\x00\x0812345678")].concat()[..good.len() + 15];
    let table: [(&str, Vec<u8>, u16); 14] = [
        ("a status request", ask(0x1100, [1, 0, 0, 0], &good), NOT_IMPLEMENTED),
        ("an update", ask(0x2900, [1, 0, 0, 0], &good), NOT_IMPLEMENTED),
        ("no question", ask(0x0100, [0, 0, 0, 0], &[]), FORMAT_ERROR),
        ("two questions", ask(0x0100, [2, 0, 0, 0], &[&good[..], &good].concat()), FORMAT_ERROR),
        ("65535 questions", ask(0x0100, [65_535, 0, 0, 0], &good), FORMAT_ERROR),
        ("an answer in a question", ask(0x0100, [1, 1, 0, 0], &good), FORMAT_ERROR),
        ("a claim of many records", ask(0x0100, [1, 0, 0, 65_535], &good), FORMAT_ERROR),
        ("a pointer to itself", ask(0x0100, [1, 0, 0, 0], b"\xc0\x0c\x00\x01\x00\x01"), FORMAT_ERROR),
        ("a long label", ask(0x0100, [1, 0, 0, 0], &long_label), FORMAT_ERROR),
        ("no class", ask(0x0100, [1, 0, 0, 0], &good[..good.len() - 1]), FORMAT_ERROR),
        ("two OPT records", ask(0x0100, [1, 0, 0, 2], &two_opts), FORMAT_ERROR),
        ("half an OPT record", ask(0x0100, [1, 0, 0, 1], cut_opt), FORMAT_ERROR),
        ("the CHAOS class", ask(0x0100, [1, 0, 0, 0], &chaos), REFUSED),
        ("a zone transfer", ask(0x0100, [1, 0, 0, 0], &question("example", 252)), REFUSED),
    ];
    for (what, bytes, rcode) in table {
        let reply = rejected(&bytes);
        assert_eq!(reply[..2], [0x12, 0x34], "{what}");
        assert_eq!(flags(&reply) & 0x800f, 0x8000 | rcode, "{what}");
        assert_eq!(flags(&reply) & 0x7900, u16::from_be_bytes([bytes[2], bytes[3]]) & 0x7900, "{what}: opcode and RD");
        assert!(reply.len() <= 12 + 270, "{what}");
    }
    let too_long = [plain("www.example", 1), vec![0; MAX_QUERY]].concat();
    assert_eq!(flags(&rejected(&too_long)) & 15, FORMAT_ERROR);
}

/// RFC 6891, section 6.1.3: BADVERS is 16, so 0 in the header and 1 in the OPT record.
#[test]
fn a_later_edns_is_told_which_one_is_known() {
    let reply = rejected(&extended("www.example", kind::A, 1232, 0x0001_0000));
    assert_eq!((flags(&reply) & 15, messages::counts(&reply)), (0, [1, 0, 0, 1]));
    assert!(reply.ends_with(b"\x00\x00\x29\x10\x00\x01\x00\x00\x00\x00\x00"), "{reply:x?}");
}

#[test]
fn a_key_has_all_that_an_answer_depends_on() {
    let key = |bytes: &[u8], servers: &[&str]| {
        let servers: Vec<_> = servers.iter().map(|server| server.parse().expect("an address")).collect();
        let mut key = vec![1, 2, 3];
        query(bytes).write_key(&servers, &mut key);
        key
    };
    let here = &["192.0.2.1"][..];
    let base = key(&plain("www.example", 1), here);
    assert_eq!(base, key(&plain("WWW.eXample", 1), here));
    assert_eq!(base, key(&extended("www.example", 1, 1232, 0), here));
    assert_ne!(base, key(&plain("www.example", 28), here));
    assert_ne!(base, key(&plain("ww.example", 1), here));
    assert_ne!(base, key(&extended("www.example", 1, 1232, 0x8000), here), "DO");
    assert_ne!(base, key(&plain("www.example", 1), &["192.0.2.2"]));
    assert_ne!(base, key(&plain("www.example", 1), &["192.0.2.1", "192.0.2.2"]));
    // 'A' and 'a' are numbers of types as well.
    assert_ne!(key(&plain("a", 0x41), here), key(&plain("a", 0x61), here));
}

/// Any bytes, and bytes that are nearly a query.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let nearly = (any::<u16>(), 0u16..4, proptest::collection::vec(any::<u8>(), 0..80), any::<bool>()).prop_map(
        |(id, additional, noise, extension)| {
            let tail = if extension { opt(1232, 0, &[]) } else { Vec::new() };
            [header(id, 0x0100, [1, 0, 0, additional]), question("a.example", 1), tail, noise].concat()
        },
    );
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..600), nearly]
}

proptest! {
    #[test]
    fn no_bytes_are_too_bad(bytes in bytes()) {
        match Query::read(&bytes) {
            Ok(query) => prop_assert!(query.limit(Transport::Udp) >= 512),
            Err(Rejection::Drop) => prop_assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0),
            Err(Rejection::Reply(reply)) => {
                prop_assert!(reply.len() <= 512);
                prop_assert_eq!(&reply[..2], &bytes[..2]);
                prop_assert!(reply[2] & 0x80 != 0);
            }
        }
    }
}
