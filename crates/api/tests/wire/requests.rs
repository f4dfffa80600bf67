//! Requests as clients send them, and as nobody should: each is an operation or a refusal in AWS's words.

use api::{Auth, Call, Refusal, body_limit, limits, refuse};
use ecs::operations::{NOT_HERE, Operation};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use proptest::prelude::*;

use crate::signer::{self, Draft, now};

const ROOT: Auth<'_> = Auth::Local { region: "us-east-1", principal_arn: "arn:aws:iam::123456789012:root" };
const TARGET: &str = "AmazonEC2ContainerServiceV20141113.";

fn head(operation: &str) -> Parts {
    let request = Request::post("/")
        .header("host", "127.0.0.1:4870")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("{TARGET}{operation}"));
    request.body(()).expect("a request that HTTP can carry").into_parts().0
}

fn ask(head: &Parts, body: &[u8]) -> Result<Call, Refusal> {
    api::decode(head, body, &ROOT, now())
}

fn code(decoded: Result<Call, Refusal>) -> &'static str {
    decoded.map_or_else(|refusal| refusal.code(), |_| "")
}

/// 88, as in botocore's model of 2026-11-17.
#[test]
fn every_operation_of_the_model_is_known() {
    assert_eq!(Operation::NAMES.len() + NOT_HERE.len(), 88);
    for name in Operation::NAMES {
        assert_eq!(ask(&head(name), b"{}").expect("all members may be absent").operation.name(), *name);
        assert_eq!(ask(&head(name), b"").expect("no body is an empty one").operation.name(), *name);
    }
    for name in NOT_HERE {
        let refusal = ask(&head(name), b"{}").expect_err("it is not here");
        assert_eq!(refusal.code(), "UnsupportedFeatureException");
        assert!(refusal.to_string().contains(name), "{refusal}");
    }
}

#[test]
fn what_is_no_request_of_the_protocol_is_refused() {
    type Change = fn(&mut Parts);
    let set = |name: &'static str, value: &'static str| {
        move |head: &mut Parts| drop(head.headers.insert(name, HeaderValue::from_static(value)))
    };
    let changes: [(&str, Change); 5] = [
        ("method", |head| head.method = Method::GET),
        ("path", |head| head.uri = Uri::from_static("/ecs")),
        ("no content type", |head| drop(head.headers.remove("content-type"))),
        ("no target", |head| drop(head.headers.remove("x-amz-target"))),
        ("two targets", |head| {
            let second = HeaderValue::from_static("AmazonEC2ContainerServiceV20141113.RunTask");
            head.headers.append("x-amz-target", second);
        }),
    ];
    for (name, change) in changes {
        let mut head = head("ListClusters");
        change(&mut head);
        assert_eq!(code(ask(&head, b"{}")), "UnknownOperationException", "{name}");
    }
    for (header, value) in [
        ("content-type", "application/json"),
        ("content-type", "application/x-amz-json-1.0"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-amz-target", "ListClusters"),
        ("x-amz-target", "AmazonEC2ContainerServiceV20141113"),
        ("x-amz-target", "AmazonEC2ContainerServiceV20141113."),
        ("x-amz-target", "AmazonEC2ContainerServiceV20141113.listClusters"),
        ("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListClusters "),
        ("x-amz-target", "Logs_20140328.ListClusters"),
    ] {
        let mut head = head("ListClusters");
        set(header, value)(&mut head);
        assert_eq!(code(ask(&head, b"{}")), "UnknownOperationException", "{header}: {value}");
    }
    for good in ["application/x-amz-json-1.1; charset=utf-8", "Application/X-Amz-Json-1.1"] {
        let mut head = head("ListClusters");
        set("content-type", good)(&mut head);
        assert_eq!(code(ask(&head, b"{}")), "", "{good}");
    }
}

#[test]
fn bodies_that_do_not_fit_are_serialization_errors() {
    for body in ["{", "[]", "null", r#"{"cluster": 1}"#, r#"{"cluster": "a", "cluster": "b"}"#] {
        assert_eq!(code(ask(&head("DescribeTasks"), body.as_bytes())), "SerializationException", "{body}");
    }
    // A member that nobody knows, and one that is null, are none.
    assert_eq!(code(ask(&head("DescribeTasks"), br#"{"future": [1], "cluster": null, "tasks": ["a"]}"#)), "");
}

/// At each limit, and one above.
#[test]
fn sizes_are_limited() {
    for (name, limit) in
        [("ListTasks", limits::BODY_BYTES), ("RegisterTaskDefinition", limits::REGISTER_TASK_DEFINITION_BODY_BYTES)]
    {
        let head = head(name);
        assert_eq!(body_limit(&head), limit);
        let mut body = b"{}".to_vec();
        body.resize(limit, b' ');
        assert_eq!(code(ask(&head, &body)), "");
        body.push(b' ');
        assert_eq!(code(ask(&head, &body)), "RequestEntityTooLargeException");
    }
    for (bytes, good) in [(0, true), (1, false)] {
        let mut long = head("ListTasks");
        let used: usize = long.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let value = "a".repeat(limits::HEADER_BYTES - used - "x-long".len() + bytes);
        long.headers.insert("x-long", HeaderValue::from_str(&value).expect("a header's value"));
        assert_eq!(ask(&long, b"{}").is_ok(), good);

        let mut many = head("ListTasks");
        for _ in 0..limits::HEADERS - many.headers.len() + bytes {
            many.headers.append("x-many", HeaderValue::from_static("1"));
        }
        assert_eq!(ask(&many, b"{}").is_ok(), good);

        let mut queried = head("ListTasks");
        let query = format!("/?{}", "a".repeat(limits::URI_BYTES - 2 + bytes));
        queried.uri = query.parse().expect("a URI");
        assert_eq!(ask(&queried, b"{}").is_ok(), good);
    }
}

fn operation() -> impl Strategy<Value = String> {
    let names: Vec<&str> = Operation::NAMES.iter().copied().chain(NOT_HERE).chain(["", "Nothing"]).collect();
    proptest::sample::select(names).prop_map(str::to_owned)
}

/// JSON whose members are likely to be an operation's, and whose types are not.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("cluster"),
        Just("tasks"),
        Just("tags"),
        Just("key"),
        Just("value"),
        Just("count"),
        Just("overrides"),
        Just("attributes"),
        Just("settings"),
        Just("name"),
        Just("maxResults"),
        Just("networkConfiguration"),
        Just("awsvpcConfiguration"),
        Just("subnets"),
        Just("placementConstraints"),
        Just("containerDefinitions"),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..6).prop_map(|members| Value::Object(
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever a body's bytes are, there is an answer, and never that the fault is the server's.
    #[test]
    fn any_body_is_answered(operation in operation(), body in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Err(refusal) = ask(&head(&operation), &body) {
            prop_assert!((400..500).contains(&refusal.status()));
            let response = refuse("id", &refusal);
            prop_assert!(serde_json::from_slice::<serde_json::Value>(response.body()).is_ok());
        }
    }

    #[test]
    fn any_json_is_answered(operation in operation(), body in json()) {
        if let Err(refusal) = ask(&head(&operation), body.to_string().as_bytes()) {
            prop_assert!((400..500).contains(&refusal.status()));
        }
    }

    /// Whatever an Authorization header and a query say, nobody is let in by it.
    #[test]
    fn any_signature_is_answered(
        authorization in "(AWS4-HMAC-SHA256 )?((Credential|SignedHeaders|Signature|[a-zA-Z]{1,4})=?[ -~]{0,40}[,;/ ]{0,2}){0,5}",
        query in "((X-Amz-(Algorithm|Credential|Date|Expires|SignedHeaders|Signature|Security-Token)|[a-z%]{0,3})=?(AWS4-HMAC-SHA256|20261123T120000Z|[0-9a-zA-Z%]{0,70})&?){0,8}",
        body in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("a"));
        headers.insert("x-amz-date", HeaderValue::from_static(signer::DATE));
        if let Ok(value) = HeaderValue::from_str(&authorization) {
            headers.insert("authorization", value);
        }
        let mut head = head("ListClusters");
        head.headers.extend(headers.into_iter().filter_map(|(name, value)| Some((name?, value))));
        if let Ok(uri) = format!("/?{query}").parse() {
            head.uri = uri;
        }
        let nobody = |_: &str| None;
        prop_assert!(api::decode(&head, &body, &Auth::Signed(&nobody), now()).is_err());
        let _ = api::decode(&head, &body, &Auth::AnyKey { principal_arn: "" }, now());
    }

    /// What is signed is accepted, whatever it holds; with one bit of the body changed it is not.
    #[test]
    fn what_is_signed_is_accepted(
        values in proptest::collection::vec(("x-[a-z]{1,8}", "[ !-~]{0,20}"), 0..6),
        query in proptest::collection::btree_map("[a-zA-Z0-9_.~-]{1,6}", "([a-zA-Z0-9_.~-]|%2F|%C3%A4|%20){0,6}", 0..4),
        note in "[a-zA-Z0-9 ]{0,40}",
        region in "[a-z]{2}-[a-z]{1,9}-[0-9]",
        presigned in any::<bool>(),
        bit in 0_u8..8,
        at in any::<proptest::sample::Index>(),
    ) {
        let mut draft = Draft::list_clusters();
        for (name, value) in &values {
            if HeaderName::from_bytes(name.as_bytes()).is_ok() {
                draft.add(name, value);
            }
        }
        draft.query = query.into_iter().collect();
        draft.region = region.clone();
        draft.body = serde_json::json!({ "note": note }).to_string().into_bytes();
        if presigned { draft.presign() } else { draft.sign() }
        let keys = |_: &str| Some(api::Key {
            secret: api::Secret::new(signer::SECRET.to_owned()),
            session_token: None,
            principal_arn: "root".to_owned(),
        });
        let call = api::decode(&draft.head(), &draft.body, &Auth::Signed(&keys), now());
        prop_assert_eq!(call.map(|call| call.caller.region), Ok(region));
        let at = at.index(draft.body.len());
        draft.body[at] ^= 1 << bit;
        let refused = api::decode(&draft.head(), &draft.body, &Auth::Signed(&keys), now());
        prop_assert_eq!(refused, Err(Refusal::SignatureDoesNotMatch));
    }
}
