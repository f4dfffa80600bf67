//! Signatures: Amazon's public test suite is accepted, and whatever was changed after it was signed is refused.

use api::sigv4::{self, PathForm, Request, Rules};
use api::{Auth, Call, Key, Refusal, Secret};
use ecs::Timestamp;
use ecs::operations::Operation;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::signer::{self, DATE, Draft, KEY, SECRET, now};

const ROOT: &str = "arn:aws:iam::123456789012:root";

fn key(session_token: Option<&str>) -> Key {
    Key {
        secret: Secret::new(SECRET.to_owned()),
        session_token: session_token.map(|token| Secret::new(token.to_owned())),
        principal_arn: ROOT.to_owned(),
    }
}

fn decode_at(draft: &Draft, token: Option<&str>, at: Timestamp) -> Result<Call, Refusal> {
    let keys = |id: &str| (id == KEY).then(|| key(token));
    api::decode(&draft.head(), &draft.body, &Auth::Signed(&keys), at)
}

fn decode(draft: &Draft) -> Result<Call, Refusal> {
    decode_at(draft, None, now())
}

/// One line of the suite's file, and the request below it.
struct Case<'a> {
    name: &'a str,
    path: PathForm,
    token: Option<&'a str>,
    request: &'a str,
}

fn cases(text: &str) -> impl Iterator<Item = Case<'_>> {
    text.split("\n=== ").skip(1).map(|case| {
        let (title, request) = case.split_once('\n').expect("a request below its title");
        let words: Vec<&str> = title.split(' ').collect();
        let [name, _, path, token] = words[..] else { panic!("{title}") };
        let path = if path == "normalised" { PathForm::Normalised } else { PathForm::AsSent };
        Case { name, path, token: Some(token).filter(|token| *token != "-"), request }
    })
}

/// 38 cases, each signed in its header and in its query.
#[test]
fn amazons_test_suite_is_accepted() {
    let suite = include_str!("data/aws-signing-test-suite.txt");
    let now = Timestamp::from_rfc3339("2015-08-30T12:36:00Z").expect("the suite's date");
    let mut accepted = 0;
    for case in cases(suite) {
        let (head, body) = case.request.split_once("\n\n").unwrap_or((case.request, ""));
        let (line, lines) = head.split_once('\n').expect("headers below the request's line");
        let (method, rest) = line.split_once(' ').expect("a method");
        let (target, _) = rest.rsplit_once(' ').expect("a version");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        // A header that goes on in the next line is one with a space there (RFC 9112, 5.2).
        for header in lines.replace("\n ", " ").lines() {
            let (name, value) = header.split_once(':').expect("a header");
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
            headers.append(name, HeaderValue::from_str(value).expect("a header's value"));
        }
        let body = body.trim_end().as_bytes();
        let request = Request { method, path, query, headers: &headers, authority: None, body };
        let rules = Rules { services: &["service"], path: case.path };
        let keys = |id: &str| (id == KEY).then(|| key(case.token));
        let signed =
            sigv4::verify(&request, &rules, &keys, now).unwrap_or_else(|refusal| panic!("{}: {refusal}", case.name));
        assert_eq!((signed.region.as_str(), signed.service.as_str()), ("us-east-1", "service"));
        assert_eq!((signed.access_key_id.as_str(), signed.principal_arn.as_str()), (KEY, ROOT));

        // The same with another secret.
        let other = |_: &str| Some(Key { secret: Secret::new("another".to_owned()), ..key(case.token) });
        let refusal = sigv4::verify(&request, &rules, &other, now);
        assert_eq!(refusal, Err(Refusal::SignatureDoesNotMatch), "{}", case.name);
        accepted += 1;
    }
    assert_eq!(accepted, 76);
}

#[test]
fn a_signed_request_is_a_call() {
    type Way = fn(&mut Draft);
    let ways: [Way; 2] = [Draft::sign, Draft::presign];
    for sign in ways {
        let mut draft = Draft::list_clusters();
        sign(&mut draft);
        let Call { caller, operation } = decode(&draft).expect("it is signed");
        assert_eq!(caller.region, "eu-north-7");
        assert_eq!(caller.access_key_id, KEY);
        assert_eq!(caller.principal_arn, ROOT);
        let Operation::ListClusters(request) = operation else { panic!("{operation:?}") };
        assert_eq!(request.max_results, Some(5));
    }
}

type Change = fn(&mut Draft);

/// A change after signing, and the error's `__type`.
const AFTER: &[(&str, Change, &str)] = &[
    ("method", |d| d.method = "PUT".to_owned(), MISMATCH),
    ("path", |d| d.path = "/a".to_owned(), MISMATCH),
    ("escaped path", |d| d.path = "/%2F".to_owned(), MISMATCH),
    ("path with a plus", |d| d.path = "/+".to_owned(), MISMATCH),
    ("query", |d| d.query.push(("Action".to_owned(), "ListClusters".to_owned())), MISMATCH),
    ("empty parameter", |d| d.query.push(("Z".to_owned(), String::new())), MISMATCH),
    ("body", |d| d.body[0] = b' ', MISMATCH),
    ("longer body", |d| d.body.push(b' '), MISMATCH),
    ("no body", |d| d.body.clear(), MISMATCH),
    ("host", |d| d.set("host", "127.0.0.1:4871"), MISMATCH),
    ("no host", |d| d.headers.retain(|(name, _)| name != "host"), INCOMPLETE),
    ("two hosts", |d| d.add("host", "127.0.0.1:4870"), INCOMPLETE),
    ("content type", |d| d.set("content-type", "application/x-amz-json-1.0"), MISMATCH),
    ("target", |d| d.set("x-amz-target", "AmazonEC2ContainerServiceV20141113.DeleteCluster"), MISMATCH),
    ("target's case", |d| d.set("x-amz-target", "amazonEC2ContainerServiceV20141113.ListClusters"), MISMATCH),
    ("two targets", |d| d.add("x-amz-target", "AmazonEC2ContainerServiceV20141113.DeleteCluster"), MISMATCH),
    ("no target", |d| d.headers.retain(|(name, _)| name != "x-amz-target"), INCOMPLETE),
    ("one more x-amz header", |d| d.add("x-amz-anything", "1"), INCOMPLETE),
    ("payload's hash", |d| d.add("x-amz-content-sha256", &"0".repeat(64)), INCOMPLETE),
];

/// The same in the Authorization header.
const AFTER_IN_HEADER: &[(&str, Change, &str)] = &[
    ("no signature", |d| d.headers.retain(|(name, _)| name != "authorization"), MISSING),
    ("empty", |d| d.set("authorization", ""), INCOMPLETE),
    ("another scheme", |d| d.set("authorization", "Bearer abc"), INCOMPLETE),
    ("two headers", |d| d.add("authorization", "AWS4-HMAC-SHA256 Credential=a"), INCOMPLETE),
    ("in the query too", |d| d.presign(), INCOMPLETE),
    ("a signature in the query", |d| d.query.push(("x-amz-signature".to_owned(), String::new())), INCOMPLETE),
    ("another algorithm", |d| swap(d, "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), INCOMPLETE),
    ("asymmetric algorithm", |d| swap(d, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), INCOMPLETE),
    ("no algorithm", |d| swap(d, "AWS4-HMAC-SHA256 ", ""), INCOMPLETE),
    ("algorithm in lower case", |d| swap(d, "AWS4-HMAC-SHA256", "aws4-hmac-sha256"), INCOMPLETE),
    ("no credential", |d| swap(d, "Credential=", "Credentia="), INCOMPLETE),
    ("credential twice", |d| swap(d, "Credential=", "Credential=a/b/c/d/e, Credential="), INCOMPLETE),
    ("no signed headers", |d| swap(d, "SignedHeaders=", "SignedHeader="), INCOMPLETE),
    ("no equal sign", |d| swap(d, "Signature=", "Signature"), INCOMPLETE),
    ("one field more", |d| swap(d, "Signature=", "Another=1, Signature="), INCOMPLETE),
    ("a comma at the end", |d| d.header("authorization").push(','), INCOMPLETE),
    ("truncated", |d| cut(d.header("authorization")), MISMATCH),
    ("longer", |d| d.header("authorization").push('0'), MISMATCH),
    ("twice as long", |d| d.header("authorization").push_str(&"0".repeat(64)), MISMATCH),
    ("upper case", |d| upper_signature(d), MISMATCH),
    ("no hexadecimal", |d| swap(d, "Signature=", "Signature=zz"), MISMATCH),
    ("another key", |d| swap(d, KEY, "AKIDOTHER"), UNRECOGNIZED),
    ("no key", |d| swap(d, KEY, ""), INCOMPLETE),
    ("another region", |d| swap(d, "eu-north-7", "eu-north-8"), MISMATCH),
    ("no region", |d| swap(d, "eu-north-7", ""), INCOMPLETE),
    ("a region that is none", |d| swap(d, "eu-north-7", "eu:north"), INCOMPLETE),
    ("another service", |d| swap(d, "/ecs/", "/ec2/"), MISMATCH),
    ("another terminator", |d| swap(d, "aws4_request", "aws5_request"), INCOMPLETE),
    ("another day", |d| swap(d, "20261123/", "20261122/"), INCOMPLETE),
    ("one part more", |d| swap(d, "/ecs/", "/ecs/ecs/"), INCOMPLETE),
    ("host unsigned", |d| swap(d, ";host", ""), INCOMPLETE),
    ("target unsigned", |d| swap(d, ";x-amz-target", ""), INCOMPLETE),
    ("date unsigned", |d| swap(d, ";x-amz-date", ""), INCOMPLETE),
    ("one header more", |d| swap(d, ";x-amz-date", ";user-agent;x-amz-date"), MISMATCH),
    ("a header that is not there", |d| swap(d, ";host", ";date;host"), INCOMPLETE),
    ("a header twice", |d| swap(d, ";host", ";host;host"), INCOMPLETE),
    ("a header in upper case", |d| swap(d, ";host", ";Host"), INCOMPLETE),
    ("headers in another order", |d| swap(d, "content-type;host", "host;content-type"), INCOMPLETE),
    ("a session token", |d| d.add("x-amz-security-token", "token"), UNRECOGNIZED),
    ("no date", |d| d.headers.retain(|(name, _)| name != "x-amz-date"), INCOMPLETE),
    ("two dates", |d| d.add("x-amz-date", DATE), INCOMPLETE),
    ("another date", |d| d.set("x-amz-date", "20261123T120001Z"), MISMATCH),
    ("no such date", |d| d.set("x-amz-date", "20261123T120060Z"), INCOMPLETE),
    ("an extended date", |d| d.set("x-amz-date", "2026-11-23T12:00:00Z"), INCOMPLETE),
];

/// And in the query.
const AFTER_IN_QUERY: &[(&str, Change, &str)] = &[
    ("in the header too", |d| d.add("authorization", "AWS4-HMAC-SHA256 Credential=a"), INCOMPLETE),
    ("another algorithm", |d| *d.parameter("X-Amz-Algorithm") = "AWS4-HMAC-SHA1".to_owned(), INCOMPLETE),
    ("no algorithm", |d| d.query.retain(|(name, _)| name != "X-Amz-Algorithm"), INCOMPLETE),
    ("expires", |d| *d.parameter("X-Amz-Expires") = "61".to_owned(), MISMATCH),
    ("never expires", |d| *d.parameter("X-Amz-Expires") = "604801".to_owned(), INCOMPLETE),
    ("expires at once", |d| *d.parameter("X-Amz-Expires") = "0".to_owned(), INCOMPLETE),
    ("expires in words", |d| *d.parameter("X-Amz-Expires") = "+60".to_owned(), INCOMPLETE),
    ("expires far off", |d| *d.parameter("X-Amz-Expires") = "99999999999999999999".to_owned(), INCOMPLETE),
    ("no expiry", |d| d.query.retain(|(name, _)| name != "X-Amz-Expires"), INCOMPLETE),
    ("two expiries", |d| d.query.push(("X-Amz-Expires".to_owned(), "60".to_owned())), INCOMPLETE),
    ("two signatures", |d| d.query.push(("X-Amz-Signature".to_owned(), "0".repeat(64))), INCOMPLETE),
    ("no signature", |d| d.query.retain(|(name, _)| name != "X-Amz-Signature"), INCOMPLETE),
    ("truncated", |d| cut(d.parameter("X-Amz-Signature")), MISMATCH),
    ("a session token", |d| d.query.push(("X-Amz-Security-Token".to_owned(), "token".to_owned())), UNRECOGNIZED),
    ("another date", |d| *d.parameter("X-Amz-Date") = "20261123T120001Z".to_owned(), MISMATCH),
    ("another parameter's case", |d| d.query[0].0 = "x-amz-algorithm".to_owned(), INCOMPLETE),
];

/// Signed as it stands, and still refused.
const SIGNED: &[(&str, Change, &str)] = &[
    ("another algorithm", |d| d.algorithm = "AWS4-HMAC-SHA512".to_owned(), INCOMPLETE),
    ("another secret", |d| d.secret = "another".to_owned(), MISMATCH),
    ("another key", |d| d.key = "AKIDOTHER".to_owned(), UNRECOGNIZED),
    ("another service", |d| d.service = "ec2".to_owned(), MISMATCH),
    ("another terminator", |d| d.terminator = "aws4".to_owned(), INCOMPLETE),
    ("another day", |d| d.day = "20261122".to_owned(), INCOMPLETE),
    ("host unsigned", |d| d.unsigned.push("host".to_owned()), INCOMPLETE),
    ("target unsigned", |d| d.unsigned.push("x-amz-target".to_owned()), INCOMPLETE),
    ("nothing signed", |d| d.unsigned = d.headers.iter().map(|(name, _)| name.clone()).collect(), INCOMPLETE),
    ("unsigned payload", |d| d.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), MISMATCH),
    ("payload in parts", |d| d.set("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), MISMATCH),
    ("another payload", |d| d.set("x-amz-content-sha256", &"0".repeat(64)), MISMATCH),
];

const MISMATCH: &str = "InvalidSignatureException";
const INCOMPLETE: &str = "IncompleteSignatureException";
const UNRECOGNIZED: &str = "UnrecognizedClientException";
const MISSING: &str = "MissingAuthenticationTokenException";

fn swap(draft: &mut Draft, from: &str, to: &str) {
    let text = draft.header("authorization");
    assert!(text.contains(from), "{from} is not in {text}");
    *text = text.replacen(from, to, 1);
}

fn cut(text: &mut String) {
    text.pop();
}

fn upper_signature(draft: &mut Draft) {
    let text = draft.header("authorization");
    let (before, signature) = text.rsplit_once('=').expect("a signature");
    *text = format!("{before}={}", signature.to_uppercase());
}

fn refused(name: &str, draft: &Draft, code: &str) {
    match decode(draft) {
        Ok(call) => panic!("{name}: accepted as {call:?}"),
        Err(refusal) => assert_eq!(refusal.code(), code, "{name}: {refusal}"),
    }
}

#[test]
fn whatever_is_changed_after_signing_is_refused() {
    for (name, change, code) in AFTER.iter().chain(AFTER_IN_HEADER) {
        let mut draft = Draft::list_clusters();
        draft.sign();
        change(&mut draft);
        refused(name, &draft, code);
    }
    for (name, change, code) in AFTER.iter().chain(AFTER_IN_QUERY) {
        let mut draft = Draft::list_clusters();
        draft.presign();
        change(&mut draft);
        refused(&format!("presigned: {name}"), &draft, code);
    }
}

#[test]
fn what_is_signed_against_the_rules_is_refused() {
    for (name, change, code) in SIGNED {
        let mut draft = Draft::list_clusters();
        change(&mut draft);
        let mut presigned = draft.clone();
        draft.sign();
        presigned.presign();
        refused(name, &draft, code);
        refused(&format!("presigned: {name}"), &presigned, code);
    }
}

#[test]
fn what_changes_nothing_that_is_signed_is_accepted() {
    let mut draft = Draft::list_clusters();
    draft.set("x-note", "a b");
    draft.query =
        vec![("a".to_owned(), "%2F".to_owned()), ("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())];
    draft.sign();
    let changes: [(&str, Change); 6] = [
        ("an unsigned header", |d| d.set("user-agent", "another")),
        ("one more", |d| d.add("accept-encoding", "gzip")),
        ("white space", |d| d.set("x-note", "  a     b  ")),
        ("parameters in another order", |d| d.query.reverse()),
        ("an escape in lower case", |d| *d.parameter("a") = "%2f".to_owned()),
        ("fields without spaces between them", |d| {
            let text = d.header("authorization");
            *text = text.replace(", ", ",");
        }),
    ];
    for (name, change) in changes {
        let mut changed = draft.clone();
        change(&mut changed);
        assert!(decode(&changed).is_ok(), "{name}: {:?}", decode(&changed));
    }
    let mut declared = Draft::list_clusters();
    let hash = signer::hex(&hmac_sha256::Hash::hash(&declared.body));
    declared.set("x-amz-content-sha256", &hash);
    declared.sign();
    assert!(decode(&declared).is_ok());
}

/// What HTTP/2 has instead of a host header.
#[test]
fn an_authority_stands_for_the_host() {
    let mut draft = Draft::list_clusters();
    draft.sign();
    let mut head = draft.head();
    head.headers.remove("host");
    head.uri = "https://127.0.0.1:4870/".parse().expect("a URI");
    let keys = |id: &str| (id == KEY).then(|| key(None));
    assert!(api::decode(&head, &draft.body, &Auth::Signed(&keys), now()).is_ok());
    head.uri = "https://127.0.0.2:4870/".parse().expect("a URI");
    let refusal = api::decode(&head, &draft.body, &Auth::Signed(&keys), now());
    assert_eq!(refusal, Err(Refusal::SignatureDoesNotMatch));
}

#[test]
fn a_signature_is_good_for_fifteen_minutes_around_its_date() {
    let mut draft = Draft::list_clusters();
    draft.sign();
    let at = |seconds: i64| Timestamp::from_epoch_ms(now().epoch_ms.saturating_add_signed(seconds * 1000));
    for (seconds, message) in [
        (0, None),
        (900, None),
        (-900, None),
        (
            901,
            Some(
                "Signature expired: 20261123T120000Z is now earlier than 20261123T120001Z (20261123T121501Z - 15 min.)",
            ),
        ),
        (
            -901,
            Some(
                "Signature not yet current: 20261123T120000Z is still later than 20261123T115959Z (20261123T114459Z + 15 min.)",
            ),
        ),
    ] {
        let refusal = decode_at(&draft, None, at(seconds)).err();
        assert_eq!(refusal.map(|refusal| refusal.to_string()).as_deref(), message, "{seconds} s");
    }

    // A presigned one may not be late at all.
    for (expires, seconds, good) in [
        ("60", 60, true),
        ("60", 61, false),
        ("60", -900, true),
        ("60", -901, false),
        ("604800", 604_800, true),
        ("604800", 604_801, false),
        ("1", 2, false),
    ] {
        let mut draft = Draft { expires: expires.to_owned(), ..Draft::list_clusters() };
        draft.presign();
        let decoded = decode_at(&draft, None, at(seconds));
        assert_eq!(decoded.is_ok(), good, "{expires} s, after {seconds} s: {decoded:?}");
    }
}

#[test]
fn a_session_token_goes_with_the_key_that_has_one() {
    let mut with = Draft::list_clusters();
    with.set("x-amz-security-token", "a/session+token==");
    with.sign();
    let mut presigned = Draft::list_clusters();
    presigned.query.push(("X-Amz-Security-Token".to_owned(), "a%2Fsession%2Btoken%3D%3D".to_owned()));
    presigned.presign();
    let mut without = Draft::list_clusters();
    without.sign();
    let own = Some("a/session+token==");
    for (draft, token, good) in [
        (&with, own, true),
        (&presigned, own, true),
        (&without, None, true),
        (&with, Some("a/session+token=="), true),
        (&with, Some("another"), false),
        (&with, None, false),
        (&presigned, Some("another"), false),
        (&presigned, None, false),
        (&without, own, false),
    ] {
        let decoded = decode_at(draft, token, now());
        let want = if good { None } else { Some("UnrecognizedClientException") };
        assert_eq!(decoded.as_ref().err().map(Refusal::code), want, "{token:?}: {decoded:?}");
    }
}

/// Any key and signature, but a scope there must be; over the socket of root not even that.
#[test]
fn other_doors_ask_less() {
    let any = Auth::AnyKey { principal_arn: ROOT };
    let local = Auth::Local { region: "us-east-1", principal_arn: ROOT };
    let mut unsigned = Draft::list_clusters();
    let mut signed = Draft { key: "test".to_owned(), secret: "test".to_owned(), ..Draft::list_clusters() };
    signed.sign();
    let who = |draft: &Draft, auth: &Auth<'_>| {
        let call = api::decode(&draft.head(), &draft.body, auth, Timestamp::from_epoch_ms(0));
        call.map(|call| (call.caller.region, call.caller.access_key_id, call.caller.principal_arn))
    };
    let caller = |region: &str, key: &str| Ok((region.to_owned(), key.to_owned(), ROOT.to_owned()));
    assert_eq!(who(&unsigned, &any), Err(Refusal::MissingAuthenticationToken));
    assert_eq!(who(&unsigned, &local), caller("us-east-1", ""));
    assert_eq!(who(&signed, &any), caller("eu-north-7", "test"));
    assert_eq!(who(&signed, &local), caller("eu-north-7", "test"));
    unsigned.set("authorization", "nonsense");
    assert!(who(&unsigned, &any).is_err());
    assert!(who(&unsigned, &local).is_err());
    let mut other = Draft { service: "s3".to_owned(), ..Draft::list_clusters() };
    other.sign();
    assert_eq!(who(&other, &any), Err(Refusal::WrongService { service: "ecs".to_owned() }));
}

#[test]
fn a_secret_is_never_shown() {
    let shown = format!("{:?}", key(Some("a-token")));
    assert!(!shown.contains(SECRET) && !shown.contains("a-token"), "{shown}");
}
