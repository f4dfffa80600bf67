//! Which addresses a request may go to. Pure.

use std::net::{IpAddr, Ipv6Addr};

use http::Uri;
use http::header::{self, HeaderMap};

use crate::pull::PullError;

/// Scheme, host and port of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// HTTP without TLS: for loopback, and hosts that were named so.
    pub(super) is_plain: bool,
    pub(super) authority: String,
}

impl Origin {
    pub(super) fn uri(&self, path: &str) -> Result<Uri, PullError> {
        let scheme = if self.is_plain { "http" } else { "https" };
        let uri = Uri::builder().scheme(scheme).authority(self.authority.as_str()).path_and_query(path).build();
        uri.map_err(|error| PullError::Refused { host: self.authority.clone(), why: error.to_string() })
    }

    /// Whether a request there may carry this registry's credentials.
    pub(super) fn is_of(&self, uri: &Uri) -> bool {
        let is_plain = uri.scheme_str() == Some("http");
        let port = |text: Option<u16>| text.unwrap_or(if is_plain { 80 } else { 443 });
        let Ok(own) = self.authority.parse::<http::uri::Authority>() else { return false };
        is_plain == self.is_plain
            && uri.host().is_some_and(|host| host.eq_ignore_ascii_case(own.host()))
            && port(uri.port_u16()) == port(own.port_u16())
    }

    /// A token endpoint may be elsewhere, but what is sent there is secret.
    pub(super) fn may_authorize_at(&self, realm: &Uri) -> Result<(), String> {
        let host = realm.host().unwrap_or_default();
        if realm.authority().is_some_and(|authority| authority.as_str().contains('@')) || host.is_empty() {
            return Err(format!("its token endpoint {realm} is no plain address"));
        }
        let own = self.authority.parse::<http::uri::Authority>().map(|own| own.host().to_owned()).unwrap_or_default();
        match realm.scheme_str() {
            Some("https") => {}
            Some("http") if self.is_plain && host.eq_ignore_ascii_case(&own) => {}
            Some("http") if self.is_plain && is_loopback_host(host) && is_loopback_host(&own) => {}
            _ => return Err(format!("its token endpoint {realm} does not use https, so no credentials go there")),
        }
        is_allowed(host)
    }
}

/// Where a redirect leads, if that is somewhere to go.
pub(super) fn redirected(from: &Uri, headers: &HeaderMap) -> Result<Uri, String> {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or("it redirects without saying where to")?;
    let to: Uri = if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = from.clone().into_parts();
        parts.path_and_query =
            Some(location.parse().map_err(|_| "it redirects to an address that is none".to_owned())?);
        Uri::from_parts(parts).map_err(|error| error.to_string())?
    } else {
        location.parse().map_err(|_| "it redirects to an address that is none".to_owned())?
    };
    match (from.scheme_str(), to.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) => {}
        (_, Some("http")) => return Err(format!("it redirects from https to {to}, which is not encrypted")),
        (_, _) => return Err(format!("it redirects to {to}, which is neither http nor https")),
    }
    let host = to.host().ok_or("it redirects to an address without a host")?;
    is_allowed(host)?;
    if is_loopback_host(host) && !is_loopback_host(from.host().unwrap_or_default()) {
        return Err(format!("it redirects to {to}, which is this host itself"));
    }
    Ok(to)
}

/// For a registry's own name, with or without a port.
pub(super) fn is_allowed_authority(authority: &str) -> Result<(), String> {
    match authority.parse::<http::uri::Authority>() {
        Ok(parsed) => is_allowed(parsed.host()),
        Err(error) => Err(format!("{authority} is no host: {error}")),
    }
}

fn is_allowed(host: &str) -> Result<(), String> {
    match address(host) {
        Some(address) if is_forbidden(address) => Err(format!("{host} is a link-local address, where no registry is")),
        Some(_) | None => Ok(()),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Link-local addresses are where clouds and this host serve credentials to whoever asks.
pub(crate) fn is_forbidden(address: IpAddr) -> bool {
    const EC2_METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast() || v6 == EC2_METADATA_V6
        }
    }
}

/// `localhost`, 127.0.0.0/8 and ::1, with or without a port.
pub(super) fn is_loopback_host(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None if authority.matches(':').count() == 1 => authority.split(':').next().unwrap_or_default(),
        None => authority,
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(from: &str, to: &str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, to.parse().unwrap());
        redirected(&from.parse().unwrap(), &headers).map(|uri| uri.to_string())
    }

    #[test]
    fn redirects_go_only_where_they_may() {
        assert_eq!(
            redirect("https://r.example/v2/a", "https://cdn.example/x?y=1").unwrap(),
            "https://cdn.example/x?y=1"
        );
        assert_eq!(redirect("https://r.example:5/v2/a", "/b").unwrap(), "https://r.example:5/b");
        assert!(redirect("http://127.0.0.1:5/v2/a", "http://127.0.0.1:6/b").is_ok());
        let refused = [
            "http://cdn.example/x",
            "file:///etc/passwd",
            "ftp://cdn.example/",
            "//cdn.example/x",
            "https://169.254.169.254/latest",
            "https://169.254.170.2/",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://[fd00:ec2::254]/",
            "https://0.0.0.0/",
            "https://127.0.0.1/",
            "https://localhost:1/",
            "https://[::1]/",
            "nonsense",
        ];
        for to in refused {
            assert!(redirect("https://r.example/v2/a", to).is_err(), "{to}");
        }
        assert!(redirect("http://127.0.0.1:5/v2/a", "http://169.254.169.254/").is_err());
    }

    #[test]
    fn credentials_belong_to_one_origin() {
        let origin = Origin { is_plain: false, authority: "r.example".to_owned() };
        assert!(origin.is_of(&"https://R.example:443/v2/".parse().unwrap()));
        for other in ["http://r.example/", "https://r.example:444/", "https://x.r.example/", "https://r.example.evil/"]
        {
            assert!(!origin.is_of(&other.parse().unwrap()), "{other}");
        }
        assert!(origin.may_authorize_at(&"https://auth.example/token".parse().unwrap()).is_ok());
        for realm in
            ["http://r.example/token", "https://169.254.169.254/", "https://u:p@auth.example/", "http://127.0.0.1/"]
        {
            assert!(origin.may_authorize_at(&realm.parse().unwrap()).is_err(), "{realm}");
        }
        let plain = Origin { is_plain: true, authority: "127.0.0.1:5000".to_owned() };
        assert!(plain.may_authorize_at(&"http://127.0.0.1:5001/token".parse().unwrap()).is_ok());
        assert!(plain.may_authorize_at(&"http://other.example/token".parse().unwrap()).is_err());
    }
}
