//! Headers and a query of any text, and a key that nobody has: never let in.
#![no_main]

use api::sigv4::{PathForm, Request, Rules, verify};
use ecs::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

// Lines: the path, the query, then headers with a colon between name and value, and after an empty line the body.
fuzz_target!(|input: &str| {
    let (head, body) = input.split_once("\n\n").unwrap_or((input, ""));
    let mut lines = head.lines();
    let (path, query) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let request = Request { method: "POST", path, query, headers: &headers, authority: None, body: body.as_bytes() };
    let rules = Rules { services: &["ecs"], path: PathForm::Normalised };
    // 2015-08-30T12:36:00Z, the date of Amazon's test suite.
    assert!(verify(&request, &rules, &|_| None, Timestamp::from_epoch_ms(1_440_938_160_000)).is_err());
});
