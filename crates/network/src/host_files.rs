//! The host's own name, hosts and resolv.conf: where containers inherit from.

use std::fs;
use std::io;

use crate::error::Error;
use crate::resolv::ResolvConf;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved keeps the servers that its stub on 127.0.0.53 asks.
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// A host without the file has no name servers; that is no error.
pub(crate) fn resolv_conf() -> Result<ResolvConf, Error> {
    let conf = ResolvConf::parse(&read(RESOLV_CONF)?);
    if !conf.servers.is_empty() && conf.only_loopback() {
        let behind = ResolvConf::parse(&read(RESOLVED_CONF)?);
        if !behind.only_loopback() {
            return Ok(behind);
        }
    }
    Ok(conf)
}

/// As it stands, for a container in the host's own namespace, to which the host's loopback is reachable.
pub(crate) fn resolv_conf_as_is() -> Result<ResolvConf, Error> {
    Ok(ResolvConf::parse(&read(RESOLV_CONF)?))
}

pub(crate) fn hosts() -> Result<String, Error> {
    read(HOSTS)
}

pub(crate) fn hostname() -> Result<String, Error> {
    let name = nix::unistd::gethostname()
        .map_err(|errno| Error::Read { path: "the host's name".into(), source: errno.into() })?;
    Ok(name.to_string_lossy().into_owned())
}

fn read(path: &str) -> Result<String, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}
