//! Answers a registry's challenge: <https://distribution.github.io/distribution/spec/auth/token/>.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use serde::Deserialize;

use super::Registry;
use super::credentials::Login;
use crate::limits::MAX_TOKEN_BYTES;
use crate::pull::PullError;

#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    Basic,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// Finds an `Authorization` for the next attempt.
    pub(super) async fn authorize(&self, response: &Response<Incoming>, attempt: u32) -> Result<(), PullError> {
        let denied = || PullError::Denied { host: self.host().to_owned(), why: self.login.explain(None) };
        let offered: Vec<&str> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let challenge = choose(&offered).ok_or_else(|| {
            self.refused("it wants a login of a kind that is not supported; Basic and Bearer are".to_owned())
        })?;
        let value = match challenge {
            // A login that was refused once is refused again.
            Challenge::Basic if attempt > 1 => return Err(denied()),
            Challenge::Basic => self.login.basic().ok_or_else(denied)?,
            Challenge::Bearer { realm, service, scope } => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
                format!("Bearer {}", self.token(&realm, service.as_deref(), &scope).await?)
            }
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| denied())?;
        value.set_sensitive(true);
        *self.authorization.lock().expect("no holder panics") = Some(value);
        Ok(())
    }

    async fn token(&self, realm: &str, service: Option<&str>, scope: &str) -> Result<String, PullError> {
        let realm_uri: Uri = realm.parse().map_err(|_| self.refused("its token endpoint is no address".to_owned()))?;
        self.origin.may_authorize_at(&realm_uri).map_err(|why| self.refused(why))?;
        let mut query = vec![("scope", scope)];
        query.extend(service.map(|service| ("service", service)));
        let mut headers = HeaderMap::new();
        let (request, body) = match &self.login {
            Login::Identity { token } => {
                query.extend([("grant_type", "refresh_token"), ("client_id", "coracle"), ("refresh_token", token)]);
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(header::CONTENT_TYPE, form);
                (Request::post(realm_uri), Bytes::from(encode(&query)))
            }
            Login::None | Login::Helper { .. } | Login::Basic { .. } => {
                if let Some(basic) = self.login.basic() {
                    let mut basic = HeaderValue::from_str(&basic).expect("base64 is plain text");
                    basic.set_sensitive(true);
                    headers.insert(header::AUTHORIZATION, basic);
                }
                let separator = if realm.contains('?') { '&' } else { '?' };
                let uri: Uri = format!("{realm}{separator}{}", encode(&query))
                    .parse()
                    .map_err(|_| self.refused("its token endpoint is no address".to_owned()))?;
                (Request::get(uri), Bytes::new())
            }
        };
        let response = self.send(request, headers, body).await?;
        if !response.status().is_success() {
            // A redirect is not followed either: credentials were meant for this address alone.
            return Err(self.failed_token(response).await);
        }
        let what = "the answer of the token endpoint";
        let bytes = self.body(response, MAX_TOKEN_BYTES, what).await?;
        let token: Token =
            serde_json::from_slice(&bytes).map_err(|error| self.refused(format!("{what} is malformed: {error}")))?;
        let token = token.token.filter(|token| !token.is_empty()).or(token.access_token);
        token.filter(|token| !token.is_empty()).ok_or_else(|| self.refused(format!("{what} has no token")))
    }

    async fn failed_token(&self, response: Response<Incoming>) -> PullError {
        match response.status().as_u16() {
            400 | 401 | 403 | 404 => PullError::Denied { host: self.host().to_owned(), why: self.login.explain(None) },
            _ => self.failed(response, "a token").await,
        }
    }
}

fn encode(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                byte => out.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    out
}

/// Bearer rather than Basic where both are offered.
fn choose(offered: &[&str]) -> Option<Challenge> {
    let challenges: Vec<Challenge> = offered.iter().filter_map(|value| parse(value)).collect();
    let (bearer, basic): (Vec<_>, Vec<_>) =
        challenges.into_iter().partition(|each| matches!(each, Challenge::Bearer { .. }));
    bearer.into_iter().chain(basic).next()
}

/// `Bearer realm="…",service="…",scope="…"`; commas and escaped quotes may stand inside the quotes.
fn parse(value: &str) -> Option<Challenge> {
    let (scheme, mut rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    while let Some((name, after)) = rest.split_once('=') {
        let (text, next) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        match name.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
            "realm" => realm = Some(text),
            "service" => service = Some(text),
            "scope" => scope = Some(text),
            _ => {}
        }
        rest = next;
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

fn unquote(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => out.push(characters.next()?.1),
            character => out.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_the_specification_writes_them() {
        let text = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(choose(&["Basic realm=\"x\"", text]), Some(expected));
        assert_eq!(choose(&["basic realm=\"x\""]), Some(Challenge::Basic));
        let unquoted =
            Challenge::Bearer { realm: "https://a/t".to_owned(), service: Some("x".to_owned()), scope: None };
        assert_eq!(parse("bearer realm=https://a/t, service=x"), Some(unquoted));
        for nonsense in [
            "Bearer",
            "Bearer realm",
            "Bearer service=\"x\"",
            "Bearer realm=\"x",
            "Negotiate",
            "",
            "Bearer =",
            "Bearer realm=\"\\",
        ] {
            assert_eq!(choose(&[nonsense]), None, "{nonsense}");
        }
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(
            encode(&[("scope", "repository:a/b:pull"), ("service", "x y&z")]),
            "scope=repository%3Aa%2Fb%3Apull&service=x%20y%26z"
        );
    }
}
