//! Connections to a registry: the certificates laid out for it, and what a broken one means.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use crate::https::{self, Client};
use crate::pull::{Deadlines, PullError};

/// Trusts what lies in the registry's own folder, too.
pub(super) fn client(certificates: Option<&Path>, deadlines: &Deadlines) -> Result<Client, PullError> {
    let files = certificates.map(certificate_files).transpose()?.unwrap_or_default();
    https::client(&files, deadlines.connect)
        .map_err(|https::BadCertificate { path, why }| PullError::Credentials { path, why })
}

/// `*.crt`, as Docker's certs.d has them.
fn certificate_files(dir: &Path) -> Result<Vec<PathBuf>, PullError> {
    let wrong = |error: io::Error| PullError::Credentials { path: dir.to_owned(), why: error.to_string() };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// No connection, or one that broke, with a hint where the cause has a known cure.
pub(super) fn unreachable(host: String, error: impl StdError + Send + Sync + 'static) -> PullError {
    let mut hint = "";
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(each) = cause {
        let text = each.to_string();
        if text.contains("NotValidYet") || text.contains("not valid yet") {
            hint = "; its certificate is not valid yet, so check this host's clock";
        } else if text.contains("UnknownIssuer") {
            hint = "; its certificate is signed by nobody known here: lay its CA's certificate out as <certificates>/<host>/ca.crt";
        } else if text.contains("InvalidContentType") || text.contains("corrupt message") {
            hint = "; it does not speak TLS: name it as insecure if plain HTTP is meant";
        }
        cause = each.source();
    }
    PullError::Unreachable { host, hint, source: Box::new(error) }
}
