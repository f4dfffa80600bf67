//! A body of any operation: a call, or a refusal that is the client's.
#![no_main]

use api::{Auth, decode, refuse};
use ecs::Timestamp;
use ecs::operations::{NOT_HERE, Operation};
use http::Request;
use libfuzzer_sys::fuzz_target;

const ROOT: Auth<'_> = Auth::Local { region: "us-east-1", principal_arn: "arn:aws:iam::123456789012:root" };

// The first byte chooses the operation.
fuzz_target!(|input: &[u8]| {
    let Some((&first, body)) = input.split_first() else { return };
    let names: Vec<&str> = Operation::NAMES.iter().copied().chain(NOT_HERE).collect();
    let target = format!("AmazonEC2ContainerServiceV20141113.{}", names[usize::from(first) % names.len()]);
    let request = Request::post("/").header("content-type", "application/x-amz-json-1.1").header("x-amz-target", target);
    let (head, ()) = request.body(()).expect("a request that HTTP can carry").into_parts();
    if let Err(refusal) = decode(&head, body, &ROOT, Timestamp::from_epoch_ms(0)) {
        assert!((400..500).contains(&refusal.status()));
        let response = refuse("id", &refusal);
        serde_json::from_slice::<serde_json::Value>(response.body()).expect("an error is JSON");
    }
});
