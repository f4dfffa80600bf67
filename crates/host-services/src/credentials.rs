//! The credentials of a task's role, as SDKs fetch them at `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html>).
//!
//! Where they come from is behind `CredentialsSource`: today the host's store of secrets, in which somebody has put
//! them under the role's ARN. Only the task role's are ever given; the execution role is the agent's own matter. A
//! value leaves this module in an answer's body alone: no log, error or `Debug` has one.

use std::fmt;

use ecs::Timestamp;
use ecs::value_from::Name;
use serde::Serialize;
use serde_json::{Map, Value};

/// How long credentials that have no end of their own are said to be good, milliseconds: SDKs ask again some minutes
/// before it is over, and so get what was put there meanwhile.
pub const GOOD_FOR_MS: u64 = 60 * 60 * 1000;

/// The five members of Amazon's answer.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Credentials {
    pub role_arn: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Empty for a user's keys, which have none.
    pub token: String,
    /// RFC 3339.
    pub expiration: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Credentials of {} (secret)", self.role_arn)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("nobody has put credentials of {role_arn} into the host's store of secrets")]
    None { role_arn: String },
    #[error("the credentials of {role_arn} in the host's store of secrets are over since {expiration}")]
    Over { role_arn: String, expiration: String },
    #[error(
        "what the host's store of secrets has for {role_arn} is not an object with the texts AccessKeyId and \
         SecretAccessKey, and perhaps SessionToken and Expiration (RFC 3339)"
    )]
    Malformed { role_arn: String },
    #[error("{role_arn} cannot be looked up in the host's store of secrets")]
    Store {
        role_arn: String,
        #[source]
        cause: secrets::Error,
    },
}

/// Where a task role's credentials come from.
pub trait CredentialsSource: Send + Sync {
    /// The newest of this role. It may wait for a disk or a service.
    ///
    /// # Errors
    /// There are none, or they cannot be had.
    fn of(&self, role_arn: &str, now: Timestamp) -> Result<Credentials, CredentialsError>;
}

/// Credentials that were put there under a role's ARN (`coracle secret put ROLE_ARN`), as
/// `aws configure export-credentials` writes them.
impl CredentialsSource for secrets::Store {
    fn of(&self, role_arn: &str, now: Timestamp) -> Result<Credentials, CredentialsError> {
        let role_arn = || role_arn.to_owned();
        let name = Name::of_role(&role_arn()).ok_or_else(|| CredentialsError::None { role_arn: role_arn() })?;
        let entry = self.find(&name).map_err(|cause| CredentialsError::Store { role_arn: role_arn(), cause })?;
        let entry = entry.ok_or_else(|| CredentialsError::None { role_arn: role_arn() })?;
        let version = entry.current().ok_or_else(|| CredentialsError::None { role_arn: role_arn() })?;
        read(&role_arn(), &version.value.0, now)
    }
}

fn read(role_arn: &str, value: &str, now: Timestamp) -> Result<Credentials, CredentialsError> {
    let malformed = || CredentialsError::Malformed { role_arn: role_arn.to_owned() };
    // The parser's own words could quote the value.
    let members: Map<String, Value> = serde_json::from_str(value).map_err(|_| malformed())?;
    let text = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Err(malformed()),
    };
    let needed = |name: &str| text(name)?.filter(|text| !text.is_empty()).ok_or_else(malformed);
    let expiration = match text("Expiration")? {
        None => now.plus_ms(GOOD_FOR_MS),
        Some(given) => Timestamp::from_rfc3339(&given).ok_or_else(malformed)?,
    };
    if expiration <= now {
        let expiration = expiration.rfc3339();
        return Err(CredentialsError::Over { role_arn: role_arn.to_owned(), expiration });
    }
    Ok(Credentials {
        role_arn: role_arn.to_owned(),
        access_key_id: needed("AccessKeyId")?,
        secret_access_key: needed("SecretAccessKey")?,
        token: text("SessionToken")?.unwrap_or_default(),
        expiration: expiration.rfc3339(),
    })
}

#[cfg(test)]
mod tests {
    use secrets::{Kind, Store, Value as Secret};

    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/team/web";
    const NOW: Timestamp = Timestamp::from_epoch_ms(1_795_398_837_042);

    fn put(store: &Store, role_arn: &str, value: &str) {
        let name = Name::of_role(role_arn).expect("a role's ARN");
        store.put(&name, Kind::SecretsManager, Secret(value.to_owned()), NOW).expect("the store works");
    }

    #[test]
    fn a_roles_own_and_nobody_elses() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::new(directory.path().join("secrets"));
        assert!(matches!(store.of(ROLE, NOW), Err(CredentialsError::None { .. })));
        put(&store, ROLE, r#"{"AccessKeyId": "AKIA", "SecretAccessKey": "hunter2"}"#);
        let found = store.of(ROLE, NOW).expect("they were put there");
        let shown = serde_json::to_value(&found).expect("plain data");
        let expected = serde_json::json!({
            "RoleArn": ROLE, "AccessKeyId": "AKIA", "SecretAccessKey": "hunter2", "Token": "",
            "Expiration": "2026-11-23T02:53:57.042Z",
        });
        assert_eq!(shown, expected);
        assert!(!format!("{found:?}").contains("hunter2"));
        for other in ["arn:aws:iam::111122223333:role/web", "arn:aws:iam::999999999999:role/team/web", "web", ""] {
            assert!(matches!(store.of(other, NOW), Err(CredentialsError::None { .. })), "{other}");
        }
        put(&store, ROLE, r#"{"AccessKeyId": "new", "SecretAccessKey": "x"}"#);
        assert_eq!(store.of(ROLE, NOW).expect("they were put there").access_key_id, "new");
    }

    #[test]
    fn values_are_read_as_the_cli_writes_them_and_no_error_shows_one() {
        let exported = r#"{"Version": 1, "AccessKeyId": "ASIA", "SecretAccessKey": "hunter2", "SessionToken": "token",
            "Expiration": "2026-11-23T03:00:00+00:00"}"#;
        let found = read(ROLE, exported, NOW).expect("as it is written");
        assert_eq!((found.token.as_str(), found.expiration.as_str()), ("token", "2026-11-23T03:00:00.000Z"));
        let over = exported.replace("03:00:00", "01:00:00");
        assert!(matches!(read(ROLE, &over, NOW), Err(CredentialsError::Over { .. })));
        for bad in [
            "hunter2",
            "[]",
            "{}",
            r#"{"AccessKeyId": "hunter2"}"#,
            r#"{"AccessKeyId": "", "SecretAccessKey": "hunter2"}"#,
            r#"{"AccessKeyId": 5, "SecretAccessKey": "hunter2"}"#,
            r#"{"AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "hunter2"}"#,
        ] {
            let error = read(ROLE, bad, NOW).expect_err(bad);
            assert!(matches!(error, CredentialsError::Malformed { .. }) && !format!("{error:?}").contains("hunter2"));
        }
    }
}
