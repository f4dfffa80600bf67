//! One secret with its versions. Pure.

use std::fmt;

use ecs::Timestamp;
use ecs::value_from::{Name, Selector};
use serde::{Deserialize, Serialize};

use crate::error::NotFound;

/// Secrets Manager's staging labels of the newest version and of the one before it
/// (<https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html>).
pub const CURRENT: &str = "AWSCURRENT";
pub const PREVIOUS: &str = "AWSPREVIOUS";
/// "Versions of a secret: ~100" (<https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html>);
/// beyond that the oldest go.
pub const MAX_VERSIONS: usize = 100;

/// A value on this side of the store. It is neither shown nor compared by accident; `agent_protocol`'s `SecretValue` is
/// what it becomes on its way to a supervisor.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Value(pub String);

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// The service that the secret is at home in. Either's ARN finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Ssm,
    SecretsManager,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    /// Oldest first; never empty.
    pub versions: Vec<Version>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// A UUID, as Secrets Manager's VersionId.
    pub id: String,
    pub stages: Vec<String>,
    pub created_at: Timestamp,
    pub value: Value,
}

/// A new value of a secret.
#[derive(Clone, Debug)]
pub struct Put {
    pub kind: Kind,
    pub id: String,
    pub value: Value,
    pub now: Timestamp,
}

impl Entry {
    /// The new value becomes the current version, and the one that was current the previous.
    pub(crate) fn with(before: Option<Entry>, name: &Name, put: Put) -> Entry {
        let mut versions = before.map(|entry| entry.versions).unwrap_or_default();
        for version in &mut versions {
            let was_current = version.has(CURRENT);
            version.stages.retain(|stage| stage != CURRENT && stage != PREVIOUS);
            if was_current {
                version.stages.push(PREVIOUS.to_owned());
            }
        }
        let stages = vec![CURRENT.to_owned()];
        versions.push(Version { id: put.id, stages, created_at: put.now, value: put.value });
        let too_many = versions.len().saturating_sub(MAX_VERSIONS);
        versions.drain(..too_many);
        Entry { name: name.to_string(), kind: put.kind, versions }
    }

    pub fn current(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.has(CURRENT))
    }

    /// As GetSecretValue: by id, by stage, by both, or the current version; and then, as Amazon's agent, one member of
    /// the value.
    pub fn select(&self, selector: &Selector) -> Result<Value, NotFound> {
        let (stage, id) = (selector.version_stage.as_deref(), selector.version_id.as_deref());
        let version = match (stage, id) {
            (stage, None) => {
                let stage = stage.unwrap_or(CURRENT);
                let found = self.versions.iter().find(|version| version.has(stage));
                found.ok_or_else(|| NotFound::Stage { stage: stage.to_owned() })?
            }
            (stage, Some(id)) => {
                let found = self.versions.iter().find(|version| version.id == id);
                let found = found.ok_or_else(|| NotFound::Version { id: id.to_owned() })?;
                if stage.is_some_and(|stage| !found.has(stage)) {
                    return Err(NotFound::StageOfVersion);
                }
                found
            }
        };
        match &selector.json_key {
            None => Ok(version.value.clone()),
            Some(key) => member(&version.value, key),
        }
    }
}

impl Version {
    fn has(&self, stage: &str) -> bool {
        self.stages.iter().any(|known| known == stage)
    }
}

/// A text as it is, anything else as JSON writes it. (Amazon's agent writes large numbers with an exponent; here they
/// stay as they are written.)
fn member(value: &Value, key: &str) -> Result<Value, NotFound> {
    let no_object = || NotFound::NotAnObject { key: key.to_owned() };
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&value.0).map_err(|_| no_object())?;
    match object.get(key) {
        Some(serde_json::Value::String(text)) => Ok(Value(text.clone())),
        Some(other) => Ok(Value(other.to_string())),
        None => Err(NotFound::JsonKey { key: key.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use ecs::value_from::ValueFrom;

    use super::*;

    fn entry(values: &[&str]) -> Entry {
        let name = Name::parse("db").expect("a good name");
        let mut entry = None;
        for (index, value) in values.iter().enumerate() {
            let put = Put {
                kind: Kind::SecretsManager,
                id: format!("id-{index}"),
                value: Value((*value).to_owned()),
                now: Timestamp::from_epoch_ms(index as u64),
            };
            entry = Some(Entry::with(entry, &name, put));
        }
        entry.expect("there is a value")
    }

    fn get(entry: &Entry, parts: &str) -> Result<String, String> {
        let text = format!("arn:aws:secretsmanager:eu-central-1:1:secret:db{parts}");
        let Ok(ValueFrom::Secret(selector)) = ValueFrom::parse(&text) else { panic!("{text}") };
        entry.select(&selector).map(|value| value.0).map_err(|error| error.to_string())
    }

    #[test]
    fn versions_are_found_by_stage_and_id() {
        let entry = entry(&["first", "second", "third"]);
        let missing = |what: &str| {
            Err(format!("ResourceNotFoundException: Secrets Manager can't find the specified secret value for {what}"))
        };
        for (parts, expected) in [
            ("", Ok("third".to_owned())),
            (":::", Ok("third".to_owned())),
            ("::AWSCURRENT:", Ok("third".to_owned())),
            ("::AWSPREVIOUS:", Ok("second".to_owned())),
            (":::id-0", Ok("first".to_owned())),
            ("::AWSPREVIOUS:id-1", Ok("second".to_owned())),
            ("::AWSPENDING:", missing("staging label: AWSPENDING")),
            (":::id-9", missing("VersionId: id-9")),
            (
                "::AWSCURRENT:id-1",
                Err("InvalidRequestException: You provided a VersionStage that is not associated to the provided \
                     VersionId."
                    .to_owned()),
            ),
        ] {
            assert_eq!(get(&entry, parts), expected, "{parts}");
        }
        let stages: Vec<&[String]> = entry.versions.iter().map(|version| version.stages.as_slice()).collect();
        assert_eq!(stages, [&[][..], &[PREVIOUS.to_owned()], &[CURRENT.to_owned()]]);
    }

    #[test]
    fn one_member_of_a_json_value() {
        let entry =
            entry(&[r#"{"user":"admin","port":5432,"big":12345678,"tls":true,"nothing":null,"more":{"a":[1]}}"#]);
        for (key, expected) in [
            ("user", "admin"),
            ("port", "5432"),
            ("big", "12345678"),
            ("tls", "true"),
            ("nothing", "null"),
            ("more", r#"{"a":[1]}"#),
        ] {
            assert_eq!(get(&entry, &format!(":{key}::")).as_deref(), Ok(expected), "{key}");
        }
        assert_eq!(
            get(&entry, ":none::"),
            Err("retrieved secret from Secrets Manager did not contain json key none".to_owned())
        );
    }

    #[test]
    fn no_error_shows_the_value() {
        let entry = entry(&["hunter2"]);
        let error = get(&entry, ":user::").expect_err("it is no JSON");
        assert!(error.contains("user") && !error.contains("hunter2"), "{error}");
        assert!(!format!("{entry:?}").contains("hunter2"));
    }

    #[test]
    fn only_the_newest_versions_are_kept() {
        let many: Vec<String> = (0..MAX_VERSIONS + 3).map(|number| number.to_string()).collect();
        let entry = entry(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(entry.versions.len(), MAX_VERSIONS);
        assert_eq!(entry.versions[0].id, "id-3");
        assert_eq!(get(&entry, "").as_deref(), Ok("102"));
    }
}
