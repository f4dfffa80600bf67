//! Names as programs that are linked against musl look them up.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;

use serde_json::{Value, json};

/// Each name's addresses, sorted, or what getaddrinfo says instead.
pub(crate) fn resolve(names: &[&str]) -> Value {
    let found = names.iter().map(|name| {
        let outcome = match (*name, 0).to_socket_addrs() {
            Ok(addresses) => {
                let mut addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
                addresses.sort();
                json!(addresses)
            }
            Err(error) => json!(error.to_string()),
        };
        ((*name).to_owned(), outcome)
    });
    json!(found.collect::<BTreeMap<_, _>>())
}
