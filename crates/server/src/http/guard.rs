//! What a request says of where it comes from. No page that a browser shows is a client of this API: neither one of another
//! site's, which names itself in `Origin`, nor one whose name was made to mean this host after it was loaded (DNS rebinding),
//! which has its own name in `Host`.

use api::Refusal;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;

use super::Door;

/// The same for every route; where there is TLS, only who has this host's name has a certificate for it. Root's socket is
/// no browser's.
pub(super) fn check(door: &Door, names: &[String], head: &Parts) -> Result<(), Refusal> {
    let tls = match door {
        Door::Socket => return Ok(()),
        Door::Tcp { tls, .. } => *tls,
    };
    if head.headers.contains_key(ORIGIN) {
        return Err(Refusal::WebPage);
    }
    if tls {
        return Ok(());
    }
    let in_headers =
        head.headers.get_all(HOST).iter().map(|host| std::str::from_utf8(host.as_bytes()).unwrap_or_default());
    let in_target = head.uri.authority().map(Authority::as_str);
    match in_headers.chain(in_target).find(|host| !is_here(host, names)) {
        Some(host) => Err(Refusal::AnotherHost { host: host.to_owned() }),
        None => Ok(()),
    }
}

/// A page can have every name but these. An address cannot be made to mean another one.
fn is_here(host: &str, names: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host().trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let last = host.rsplit('.').next().unwrap_or(host);
    address.is_ok()
        || last.eq_ignore_ascii_case("localhost")
        || names.iter().any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::is_here;

    #[test]
    fn addresses_and_names_of_this_host_are_here() {
        let names = ["box".to_owned(), "box.example".to_owned()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:4870",
            "[::1]:4870",
            "localhost",
            "LocalHost:80",
            "a.localhost",
            "box:1",
            "box.example.",
        ] {
            assert!(is_here(host, &names), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:4870",
            "localhost.example",
            "127.0.0.1.example",
            "boxx",
            "a b",
            "http://box",
        ] {
            assert!(!is_here(host, &names), "{host}");
        }
    }
}
