//! Reading the options of a log driver: values, addresses, and what is wrong with them. Pure.
//!
//! Defaults and refusals are those of Docker's drivers (<https://docs.docker.com/engine/logging/configure/>), which
//! Amazon's agent hands the options to. Which options there are is told by `ecs::log_options`, before a task runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ecs::log_options;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("{driver}: {name} is expected")]
    Missing { driver: &'static str, name: &'static str },
    #[error("{driver}: log opt {name} {wrong}")]
    Bad { driver: &'static str, name: String, wrong: String },
}

/// One container's options, those that are secrets among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    driver: &'static str,
    given: &'a BTreeMap<String, String>,
}

impl<'a> Options<'a> {
    pub(crate) fn new(driver: &'static str, given: &'a BTreeMap<String, String>) -> Options<'a> {
        Options { driver, given }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.given.get(name).map(String::as_str)
    }

    /// Docker takes an empty option for one that is not given.
    pub(crate) fn filled(&self, name: &str) -> Option<&'a str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    pub(crate) fn required(&self, name: &'static str) -> Result<&'a str, OptionError> {
        self.filled(name).ok_or(OptionError::Missing { driver: self.driver, name })
    }

    pub(crate) fn bad(&self, name: &str, wrong: impl Into<String>) -> OptionError {
        OptionError::Bad { driver: self.driver, name: name.to_owned(), wrong: wrong.into() }
    }

    /// The words of Go's `strconv.ParseBool`.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, OptionError> {
        match self.filled(name) {
            None => Ok(None),
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(Some(false)),
            Some(other) => Err(self.bad(name, format!("is true or false, not {other:?}"))),
        }
    }

    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>, OptionError> {
        let Some(text) = self.filled(name) else { return Ok(None) };
        let wrong = || self.bad(name, format!("is a time as 500ms, 1s or 1m30s, not {text:?}"));
        log_options::span_ms(text).map(|ms| Some(Duration::from_millis(ms))).ok_or_else(wrong)
    }

    pub(crate) fn whole(&self, name: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, OptionError> {
        let Some(text) = self.filled(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let wrong = || self.bad(name, format!("is a number from {} to {}, not {text:?}", range.start(), range.end()));
        number.map(Some).ok_or_else(wrong)
    }
}

/// Where a driver sends to. What stands at the name `UnixOfContainer` is a container's to choose, so a link there is
/// not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Udp { host: String, port: u16 },
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix(PathBuf),
    UnixOfContainer(PathBuf),
    UnixDatagram(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Udp { host, port } => write!(out, "udp://{host}:{port}"),
            Address::Tcp { host, port } => write!(out, "tcp://{host}:{port}"),
            Address::Tls { host, port } => write!(out, "tcp+tls://{host}:{port}"),
            Address::Unix(path) | Address::UnixOfContainer(path) => write!(out, "unix://{}", path.display()),
            Address::UnixDatagram(path) => write!(out, "unixgram://{}", path.display()),
        }
    }
}

impl Address {
    /// `scheme://host:port` or `scheme:///path`; a host without a port gets `default_port`.
    pub(crate) fn parse(text: &str, default_port: u16) -> Result<Address, String> {
        let (scheme, place) =
            text.split_once("://").ok_or_else(|| format!("should be in form proto://address, got {text}"))?;
        match scheme {
            "unix" | "unixgram" if !place.starts_with('/') => Err(format!("has no absolute path: {text}")),
            "unix" => Ok(Address::Unix(place.into())),
            "unixgram" => Ok(Address::UnixDatagram(place.into())),
            "udp" | "tcp" | "tcp+tls" => {
                let (host, port) = host_and_port(place.trim_end_matches('/'), default_port)
                    .ok_or_else(|| format!("has no host, or a port that is none: {text}"))?;
                Ok(match scheme {
                    "udp" => Address::Udp { host, port },
                    "tcp" => Address::Tcp { host, port },
                    _ => Address::Tls { host, port },
                })
            }
            other => Err(format!("starts with udp, tcp, tcp+tls, unix or unixgram, not {other}")),
        }
    }
}

/// IPv6 addresses stand in brackets.
pub(crate) fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => default_port,
    };
    (!host.is_empty() && !host.contains('/')).then(|| (host.to_owned(), port))
}

#[cfg(test)]
pub(crate) mod example {
    use super::*;

    pub(crate) fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_their_default_ports() {
        let host = |host: &str, port| (host.to_owned(), port);
        let (a, b) = host("192.168.1.42", 123);
        assert_eq!(Address::parse("tcp://192.168.1.42:123", 514), Ok(Address::Tcp { host: a, port: b }));
        assert_eq!(Address::parse("udp://logs", 514), Ok(Address::Udp { host: "logs".to_owned(), port: 514 }));
        assert_eq!(Address::parse("tcp+tls://[::1]:6514", 1), Ok(Address::Tls { host: "::1".to_owned(), port: 6514 }));
        assert_eq!(Address::parse("unix:///dev/log", 1), Ok(Address::Unix("/dev/log".into())));
        for wrong in ["logs:514", "tcp://", "tcp://a:0", "tcp://a:b", "unix://x", "http://a"] {
            assert!(Address::parse(wrong, 514).is_err(), "{wrong}");
        }
    }
}
