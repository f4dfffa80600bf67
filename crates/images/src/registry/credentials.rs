//! What `docker login`, `podman login` and their files know about a registry.
//!
//! Credential helpers are programs that such a file names; they are not run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::limits::MAX_TOKEN_BYTES;
use crate::pull::PullError;
use crate::reference::Reference;

/// Names under which Docker's own tools file Docker Hub.
const DOCKER_HUB_ALIASES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// Nothing is known; anonymous access may do.
    None,
    /// A helper would know.
    Helper {
        program: String,
        file: PathBuf,
    },
    Basic {
        user: String,
        password: String,
    },
    /// A refresh token for the token endpoint.
    Identity {
        token: String,
    },
}

/// Secrets stay out of logs.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::None => "None",
            Login::Helper { .. } => "Helper",
            Login::Basic { .. } => "Basic",
            Login::Identity { .. } => "Identity",
        })
    }
}

impl Login {
    /// The value of a Basic `Authorization`.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Login::Basic { user, password } => Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))),
            Login::None | Login::Helper { .. } | Login::Identity { .. } => None,
        }
    }

    /// Why access was denied, and what would help.
    pub(super) fn explain(&self, said: Option<String>) -> String {
        let said = said.map(|said| format!(" ({said})")).unwrap_or_default();
        match self {
            Login::None => format!(
                "it wants a login and none is known for it{said}; add one to auths in ~/.docker/config.json, as `docker login` does. A misspelt or private repository looks the same"
            ),
            Login::Helper { program, file } => format!(
                "it wants a login, and {} leaves that to the credential helper {program}, which is not run{said}; put the login into its auths",
                file.display()
            ),
            Login::Basic { user, .. } => format!(
                "it does not accept the login of user {user:?}{said}; log in again, or check the repository's name"
            ),
            Login::Identity { .. } => format!("it does not accept the identity token{said}; log in again"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    auths: Option<BTreeMap<String, Auth>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The first file that knows the registry decides. Files that are not there are passed over.
pub(crate) fn find(reference: &Reference, files: &[PathBuf]) -> Result<Login, PullError> {
    let mut helper = Login::None;
    for path in files {
        let Some(file) = read(path)? else { continue };
        let wrong = |why: &str| PullError::Credentials { path: path.clone(), why: why.to_owned() };
        if let Some(auth) = best(reference, file.auths.iter().flatten().map(|(key, auth)| (key.as_str(), auth)))
            && let Some(login) = login(auth).map_err(wrong)?
        {
            return Ok(login);
        }
        let named = best(reference, file.cred_helpers.iter().flatten().map(|(key, program)| (key.as_str(), program)));
        if let Some(program) = named.or(file.creds_store.as_ref())
            && helper == Login::None
        {
            helper = Login::Helper { program: format!("docker-credential-{program}"), file: path.clone() };
        }
    }
    Ok(helper)
}

fn read(path: &Path) -> Result<Option<File>, PullError> {
    let wrong = |why: String| PullError::Credentials { path: path.to_owned(), why };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_TOKEN_BYTES => {}
        Ok(_) => return Err(wrong("it is no file of at most 1 MiB".to_owned())),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(wrong(error.to_string())),
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(error.to_string()))
}

/// The longest key that covers the repository: a host, or (podman's) a host and a part of the path.
fn best<'a, T>(reference: &Reference, keys: impl Iterator<Item = (&'a str, T)>) -> Option<T> {
    let covers = |key: &str| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        let (host, path) = key.split_once('/').unwrap_or((key, ""));
        // Docker files its own registry under a version 1 address.
        let path = if matches!(path, "v1" | "v2") { "" } else { path };
        let is_hub = |host: &str| DOCKER_HUB_ALIASES.contains(&host);
        let same_host = host.eq_ignore_ascii_case(reference.host()) || is_hub(host) && is_hub(reference.host());
        let rest = reference.repository().strip_prefix(path)?;
        (same_host && (path.is_empty() || rest.is_empty() || rest.starts_with('/'))).then_some(path.len())
    };
    keys.filter_map(|(key, value)| Some((covers(key)?, value)))
        .max_by_key(|(length, _)| *length)
        .map(|(_, value)| value)
}

/// `None` for the empty entry that `docker login` leaves beside a helper.
fn login(auth: &Auth) -> Result<Option<Login>, &'static str> {
    if let Some(token) = auth.identitytoken.as_ref().filter(|token| !token.is_empty()) {
        return Ok(Some(Login::Identity { token: token.clone() }));
    }
    if let Some(text) = auth.auth.as_ref().filter(|text| !text.is_empty()) {
        let decoded = STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.ok_or("an auth entry is not base64 of user:password")?;
        let (user, password) = pair.split_once(':').ok_or("an auth entry is not base64 of user:password")?;
        return Ok(Some(Login::Basic { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }));
    }
    match (&auth.username, &auth.password) {
        (Some(user), Some(password)) => Ok(Some(Login::Basic { user: user.clone(), password: password.clone() })),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str, reference: &str) -> Login {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        find(&reference.parse().unwrap(), &[dir.path().join("missing"), path]).unwrap()
    }

    fn basic(user: &str, password: &str) -> Login {
        Login::Basic { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn the_nearest_entry_is_taken() {
        // `bTpw` is m:p, `ZGVlcDpw` is deep:p.
        let json = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"bTpw"},
            "r.example:5000":{"username":"u","password":"p:q"},
            "r.example:5000/team":{"auth":"ZGVlcDpw"},
            "token.example":{"identitytoken":"t"},
            "empty.example":{}}}"#;
        assert_eq!(found(json, "nginx"), basic("m", "p"));
        assert_eq!(found(json, "r.example:5000/x"), basic("u", "p:q"));
        assert_eq!(found(json, "r.example:5000/team/x"), basic("deep", "p"));
        assert_eq!(found(json, "r.example:5000/teams"), basic("u", "p:q"));
        assert_eq!(found(json, "r.example/x"), Login::None);
        assert_eq!(found(json, "evil.r.example:5000/x"), Login::None);
        assert_eq!(found(json, "token.example/x"), Login::Identity { token: "t".to_owned() });
        assert_eq!(found(json, "empty.example/x"), Login::None);
    }

    #[test]
    fn helpers_are_named_and_not_run() {
        let json = r#"{"credsStore":"desktop","credHelpers":{"r.example":"ecr-login"}}"#;
        let Login::Helper { program, .. } = found(json, "r.example/x") else { panic!("no helper") };
        assert_eq!(program, "docker-credential-ecr-login");
        assert!(found(json, "nginx").explain(None).contains("docker-credential-desktop, which is not run"));
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        for json in
            ["{", r#"{"auths":{"docker.io":{"auth":"!"}}}"#, r#"{"auths":{"docker.io":{"auth":"bm9jb2xvbg=="}}}"#]
        {
            std::fs::write(&path, json).unwrap();
            let error = find(&"nginx".parse().unwrap(), std::slice::from_ref(&path)).unwrap_err();
            assert!(error.to_string().contains("config.json"), "{error}");
        }
    }
}
