//! What name servers are asked, what of their replies is believed, and what of them an asker gets.

mod messages;

use std::slice::from_ref;

use dns::forward::{self, Extension, Verdict};
use dns::{Answer, Query, Transport, kind};
use messages::{counts, extended, flags, header, opt, plain, query, question, record, record_at, reply, soa};
use proptest::prelude::*;

const ID: u16 = 0xbeef;
/// QR, RD, RA.
const GOOD: u16 = 0x8180;
const CUT: u16 = 0x8380;

fn judge(bytes: &[u8]) -> Verdict {
    forward::judge(&query(&plain("www.example", 1)), ID, Extension::Edns, bytes)
}

#[track_caller]
fn believed(bytes: &[u8]) -> Answer {
    match judge(bytes) {
        Verdict::Final(answer) => answer,
        other => panic!("not an answer: {other:?}"),
    }
}

fn written(answer: &Answer, asked: &Query, transport: Transport, age_s: u32) -> Vec<u8> {
    let mut bytes = vec![0xff; 7];
    answer.write(asked, transport, age_s, &mut bytes);
    bytes
}

#[test]
fn a_request_in_bytes() {
    let asked = query(&plain("wWw.example", 28));
    // RD and AD; a question as it was spelt; EDNS with 1232 bytes (0x04d0).
    let expected = [
        &b"\xbe\xef\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01\x03wWw\x07example\x00\x00\x1c\x00\x01"[..],
        b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00",
    ];
    assert_eq!(forward::request(&asked, ID, Extension::Edns), expected.concat());
    let without = forward::request(&asked, ID, Extension::Plain);
    assert_eq!(without[..12], *b"\xbe\xef\x01\x20\x00\x01\x00\x00\x00\x00\x00\x00");
    assert_eq!(without.len(), 12 + 13 + 4);
    let with_do = forward::request(&query(&extended("www.example", 1, 4096, 0x8000)), ID, Extension::Edns);
    assert!(with_do.ends_with(b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00"), "DO and no option is passed on");
}

#[test]
fn what_of_a_reply_is_believed() {
    let a = [record(1, 300, &[192, 0, 2, 1])];
    let good = reply(ID, GOOD, 1, [&a, &[], &[]]);
    assert!(matches!(judge(&good), Verdict::Final(_)));
    let spelt = [header(ID, GOOD, [1, 0, 1, 0]), question("WWW.EXAMPLE", 1), soa(60, 60)].concat();
    assert!(matches!(judge(&spelt), Verdict::Final(_)));
    let not_the_reply = [
        ("nothing", Vec::new()),
        ("half a header", good[..11].to_vec()),
        ("another id", reply(ID + 1, GOOD, 1, [&a, &[], &[]])),
        ("a question", reply(ID, 0x0100, 1, [&[], &[], &[]])),
        ("another type", reply(ID, GOOD, 28, [&a, &[], &[]])),
        ("another name", [header(ID, GOOD, [1, 0, 0, 0]), question("www.exampla", 1)].concat()),
        ("a longer name", [header(ID, GOOD, [1, 0, 0, 0]), question("www.example.org", 1)].concat()),
        ("no question", header(ID, GOOD, [0, 0, 0, 0])),
        ("a notification", reply(ID, 0xa180, 1, [&a, &[], &[]])),
    ];
    for (what, bytes) in not_the_reply {
        assert_eq!(judge(&bytes), Verdict::NotTheReply, "{what}");
    }
    let bad_cookie = [opt(1232, 0x0100_0000, &[])];
    let ask_next = [
        ("SERVFAIL", reply(ID, GOOD | 2, 1, [&[], &[], &[]])),
        ("REFUSED", reply(ID, GOOD | 5, 1, [&[], &[], &[]])),
        ("SERVFAIL without the question", header(ID, GOOD | 2, [0, 0, 0, 0])),
        ("NXDOMAIN without the question", header(ID, GOOD | 3, [0, 0, 0, 0])),
        ("a referral", reply(ID, 0x8100, 1, [&[], &[record(2, 60, &[0])], &[]])),
        ("BADCOOKIE", reply(ID, GOOD, 1, [&a, &[], &bad_cookie])),
        ("fewer records than claimed", good[..good.len() - 1].to_vec()),
    ];
    for (what, bytes) in ask_next {
        assert_eq!(judge(&bytes), Verdict::AskNext, "{what}");
    }
}

/// RFC 6891, section 7: a server that knows no EDNS answers FORMERR, NOTIMP, or without an OPT record.
#[test]
fn servers_without_edns_are_asked_again_without() {
    for rcode in [1, 4] {
        for bytes in [reply(ID, GOOD | rcode, 1, [&[], &[], &[]]), header(ID, GOOD | rcode, [0, 0, 0, 0])] {
            assert_eq!(judge(&bytes), Verdict::AskPlainly);
            let asked = query(&plain("www.example", 1));
            assert_eq!(forward::judge(&asked, ID, Extension::Plain, &bytes), Verdict::AskNext);
        }
    }
}

#[test]
fn what_fitted_of_a_truncated_reply() {
    let records = [record(1, 300, &[192, 0, 2, 1]), record(1, 300, &[192, 0, 2, 2])];
    let whole = reply(ID, CUT, 1, [&records, &[], &[]]);
    let Verdict::Truncated(Some(part)) = judge(&whole[..whole.len() - 3]) else { panic!("truncated") };
    assert_eq!(part.lifetime_s(), 0, "nobody else gets it");
    let bytes = written(&part, &query(&plain("www.example", 1)), Transport::Udp, 0);
    assert_eq!((counts(&bytes), flags(&bytes)), ([1, 1, 0, 0], CUT));
    assert!(matches!(judge(&reply(ID, CUT, 1, [&[], &[], &[]])), Verdict::Truncated(_)));
}

#[test]
fn an_asker_gets_its_own_id_spelling_flags_and_ttls() {
    let records = [record(5, 300, b"\x01x\xc0\x10"), record(1, 20, &[192, 0, 2, 1])];
    let additional = [opt(4096, 0, b"\x00\x0a\x00\x0812345678"), record(1, 9, &[192, 0, 2, 9])];
    // AA and AD besides; the asker has not asked for AD.
    let answer = believed(&reply(ID, GOOD | 0x0420, 1, [&records, &[], &additional]));
    assert_eq!(answer.lifetime_s(), 20);
    let bytes = written(&answer, &query(&plain("WWW.example", 1)), Transport::Udp, 7);
    let expected = [
        header(0x1234, GOOD, [1, 2, 0, 0]),
        question("WWW.example", 1),
        record(5, 293, b"\x01x\xc0\x10"),
        record(1, 13, &[192, 0, 2, 1]),
    ];
    assert_eq!(bytes, expected.concat(), "the OPT record and what is behind it is not the asker's");
    let with_do = query(&extended("www.example", 1, 1232, 0x8000));
    let bytes = written(&answer, &with_do, Transport::Udp, 500);
    let expected = [
        header(0x1234, GOOD | 0x20, [1, 2, 0, 1]),
        question("www.example", 1),
        record(5, 0, b"\x01x\xc0\x10"),
        record(1, 0, &[192, 0, 2, 1]),
        opt(4096, 0x8000, &[]),
    ];
    assert_eq!(bytes, expected.concat());
}

#[test]
fn how_long_an_answer_lasts() {
    let a = |ttl| record(1, ttl, &[192, 0, 2, 1]);
    let cname = record(5, 300, b"\x01x\xc0\x10");
    let name_error = GOOD | 3;
    let table: [(&str, Vec<u8>, u32); 11] = [
        ("the least of all", reply(ID, GOOD, 1, [&[a(300), a(60)], &[], &[]]), 60),
        ("zero is zero", reply(ID, GOOD, 1, [&[a(0)], &[], &[]]), 0),
        ("at most a day", reply(ID, GOOD, 1, [&[a(604_800)], &[], &[]]), 86_400),
        ("the sign bit is zero (RFC 2181, 8)", reply(ID, GOOD, 1, [&[a(0x8000_0001)], &[], &[]]), 0),
        ("no data: MINIMUM", reply(ID, GOOD, 1, [&[], &[soa(200, 30)], &[]]), 30),
        ("no data: the SOA's own TTL", reply(ID, GOOD, 1, [&[], &[soa(30, 200)], &[]]), 30),
        ("no name", reply(ID, name_error, 1, [&[], &[soa(200, 30)], &[]]), 30),
        ("no name: at most five minutes", reply(ID, name_error, 1, [&[], &[soa(9000, 9000)], &[]]), 300),
        ("no name and no SOA: not kept (RFC 2308, 5)", reply(ID, name_error, 1, [&[], &[], &[]]), 0),
        ("an alias to nothing", reply(ID, name_error, 1, [from_ref(&cname), &[soa(200, 30)], &[]]), 30),
        ("an alias with no such record", reply(ID, GOOD, 28, [from_ref(&cname), &[soa(200, 30)], &[]]), 30),
    ];
    for (what, bytes, seconds) in table {
        let kind = u16::from_be_bytes([bytes[25], bytes[26]]);
        let asked = query(&plain("www.example", kind));
        let Verdict::Final(answer) = forward::judge(&asked, ID, Extension::Edns, &bytes) else { panic!("{what}") };
        assert_eq!(answer.lifetime_s(), seconds, "{what}");
    }
    assert_eq!(Answer::failure(&query(&plain("www.example", 1)), kind::SERVER_FAILURE).lifetime_s(), 1);
}

/// A TXT answer of some 700 bytes with two authorities.
#[test]
fn long_answers_over_udp() {
    let text = record(16, 300, &[&[200u8][..], &[b'x'; 200]].concat());
    let authority = record_at(&messages::name("example"), 2, 1, 60, &messages::name("ns.example"));
    let bytes = reply(ID, GOOD, 16, [&vec![text; 3], &vec![authority; 2], &[]]);
    let asked = query(&plain("www.example", 16));
    let Verdict::Final(answer) = forward::judge(&asked, ID, Extension::Edns, &bytes) else { panic!("an answer") };
    let cut = written(&answer, &asked, Transport::Udp, 0);
    assert!(cut.len() <= 512);
    assert_eq!((counts(&cut), flags(&cut)), ([1, 2, 0, 0], CUT));
    assert_eq!(counts(&written(&answer, &asked, Transport::Tcp, 0)), [1, 3, 2, 0]);
    // 12 + 17 + 3 * 213 + 11 bytes are the answers alone: without the authorities nothing is missed.
    let wide = query(&extended("www.example", 16, 680, 0));
    let bytes = written(&answer, &wide, Transport::Udp, 0);
    assert_eq!((counts(&bytes), flags(&bytes)), ([1, 3, 0, 1], GOOD));
}

/// Whole, cut and disturbed replies.
fn replies() -> impl Strategy<Value = Vec<u8>> {
    let section = || proptest::collection::vec((any::<u16>(), any::<u32>(), 0usize..120), 0..6);
    (
        any::<u16>(),
        section(),
        section(),
        section(),
        proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        any::<usize>(),
    )
        .prop_map(|(flags, answers, authorities, additional, noise, end)| {
            let records = |wanted: Vec<(u16, u32, usize)>| -> Vec<Vec<u8>> {
                wanted.into_iter().map(|(kind, ttl, length)| record(kind % 64, ttl, &vec![b'x'; length])).collect()
            };
            let mut bytes = reply(ID, flags, 1, [&records(answers), &records(authorities), &records(additional)]);
            let length = bytes.len();
            for (at, byte) in noise {
                bytes[at % length] = byte;
            }
            if end % 4 == 0 {
                bytes.truncate(end / 4 % length);
            }
            bytes
        })
}

proptest! {
    #[test]
    fn no_reply_is_too_bad(bytes in prop_oneof![replies(), proptest::collection::vec(any::<u8>(), 0..300)], payload in any::<u16>(), age in any::<u32>()) {
        let asked = query(&extended("www.example", 1, payload, 0));
        if let Verdict::Final(answer) | Verdict::Truncated(Some(answer)) =
            forward::judge(&asked, ID, Extension::Edns, &bytes)
        {
            for transport in [Transport::Udp, Transport::Tcp] {
                let sent = written(&answer, &asked, transport, age);
                prop_assert!(sent.len() <= asked.limit(transport));
                prop_assert_eq!(&sent[..2], &[0x12, 0x34]);
                // As many records as it says: it reads to its last byte as a reply to itself.
                let again = forward::judge(&asked, 0x1234, Extension::Edns, &sent);
                prop_assert_ne!(again, Verdict::NotTheReply);
            }
        }
    }
}
