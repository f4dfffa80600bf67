//! The forms of `valueFrom`: how a secret is named in SSM Parameter Store and in Secrets Manager.
//!
//! Source: "Pass sensitive data to an Amazon ECS container",
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/specifying-sensitive-data.html>. An ARN's region and
//! account are read past: there is one store here, the host's.

/// Amazon's longest name of a secret; a parameter's may be longer, and none in use is.
pub const MAX_NAME: usize = 512;

/// One `valueFrom`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueFrom {
    /// A parameter by its name or ARN.
    Parameter { name: Name },
    /// A secret by its ARN, with what may follow it: `:json-key:version-stage:version-id`.
    Secret(Selector),
}

/// Which value of which secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub name: Name,
    /// The secret's value is a JSON object, and this is the name of a member of it.
    pub json_key: Option<String>,
    /// `AWSCURRENT` where neither is given.
    pub version_stage: Option<String>,
    pub version_id: Option<String>,
}

/// What a secret is called, without an ARN around it and without a leading slash, which an ARN does not keep.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAValueFrom {
    #[error("it is empty; the name of a parameter or the ARN of a secret is wanted")]
    Empty,
    #[error(
        "{0:?} is no name of a secret: 1 to {MAX_NAME} letters, digits and any of /_+=.@- (or an ARN of ssm or secretsmanager)"
    )]
    Name(String),
    #[error("it is an ARN, but neither arn:aws:ssm:…:parameter/NAME nor arn:aws:secretsmanager:…:secret:NAME")]
    Arn,
    /// The words of Amazon's agent, in agent/taskresource/asmsecret/asmsecret.go.
    #[error(
        "an invalid ARN format for the AWS Secrets Manager secret was specified. Specify a valid ARN and try again: after its name come none or all three of :json-key:version-stage:version-id"
    )]
    Selector,
}

impl Name {
    pub fn parse(text: &str) -> Result<Self, NotAValueFrom> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
            return Err(NotAValueFrom::Name(text.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// Under which the credentials of an IAM role are kept: `arn:aws:iam::111122223333:role/web` is
    /// `iam/111122223333/role/web`. Nothing where it is no role's ARN.
    pub fn of_role(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (Some("arn"), Some(_partition), Some("iam"), Some(""), Some(account), Some(role)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_role = role.strip_prefix("role/").is_some_and(|name| !name.is_empty());
        (is_account && is_role).then(|| Name::parse(&format!("iam/{account}/{role}")).ok()).flatten()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// "Secrets Manager automatically adds a hyphen and six random characters after the secret name at the end of the
    /// ARN" (<https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html>): the name before
    /// them, where it may be that they are there.
    pub fn without_suffix(&self) -> Option<Name> {
        const SUFFIX: usize = 6;
        let (name, suffix) = self.0.rsplit_once('-')?;
        let is_one = suffix.len() == SUFFIX && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_one && !name.is_empty()).then(|| Name(name.to_owned()))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl ValueFrom {
    /// What is no ARN is the name of a parameter, as Amazon has it.
    pub fn parse(text: &str) -> Result<Self, NotAValueFrom> {
        if text.is_empty() {
            return Err(NotAValueFrom::Empty);
        }
        let Some(rest) = text.strip_prefix("arn:") else {
            return Ok(Self::Parameter { name: Name::parse(text)? });
        };
        let mut parts = rest.splitn(5, ':');
        let (_partition, service) = (parts.next(), parts.next());
        let (_region, _account) = (parts.next(), parts.next());
        let resource = parts.next().ok_or(NotAValueFrom::Arn)?;
        match service {
            Some("ssm") => {
                let name = resource.strip_prefix("parameter/").ok_or(NotAValueFrom::Arn)?;
                Ok(Self::Parameter { name: Name::parse(name)? })
            }
            Some("secretsmanager") => {
                Selector::parse(resource.strip_prefix("secret:").ok_or(NotAValueFrom::Arn)?).map(Self::Secret)
            }
            _ => Err(NotAValueFrom::Arn),
        }
    }

    pub fn name(&self) -> &Name {
        match self {
            Self::Parameter { name } => name,
            Self::Secret(selector) => &selector.name,
        }
    }
}

impl Selector {
    /// The whole value of the secret's current version.
    pub fn current(name: Name) -> Self {
        Self { name, json_key: None, version_stage: None, version_id: None }
    }

    fn parse(text: &str) -> Result<Self, NotAValueFrom> {
        let given = |part: &str| Some(part.to_owned()).filter(|part| !part.is_empty());
        match text.split(':').collect::<Vec<_>>().as_slice() {
            [name] => Ok(Self::current(Name::parse(name)?)),
            [name, key, stage, id] => Ok(Self {
                name: Name::parse(name)?,
                json_key: given(key),
                version_stage: given(stage),
                version_id: given(id),
            }),
            _ => Err(NotAValueFrom::Selector),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a good name")
    }

    #[test]
    fn a_roles_credentials_have_a_name() {
        let role = |arn| Name::of_role(arn).map(|name| name.to_string());
        assert_eq!(role("arn:aws:iam::111122223333:role/web"), Some("iam/111122223333/role/web".to_owned()));
        assert_eq!(role("arn:aws-cn:iam::111122223333:role/a/b"), Some("iam/111122223333/role/a/b".to_owned()));
        for no_role in [
            "",
            "web",
            "arn:aws:iam::111122223333:user/web",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::1:role/web",
            "arn:aws:iam:eu-central-1:111122223333:role/web",
            "arn:aws:iam::111122223333:role/a:b",
        ] {
            assert_eq!(role(no_role), None, "{no_role}");
        }
    }

    /// The examples of
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html> and
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-ssm-paramstore.html>.
    #[test]
    fn amazons_forms_are_read() {
        let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:appauthexample-AbCdEf";
        let selector = |key: &str, stage: &str, id: &str| {
            let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            ValueFrom::Secret(Selector {
                name: name("appauthexample-AbCdEf"),
                json_key: given(key),
                version_stage: given(stage),
                version_id: given(id),
            })
        };
        let cases = [
            (arn.to_owned(), selector("", "", "")),
            (format!("{arn}:username1::"), selector("username1", "", "")),
            (format!("{arn}::AWSPREVIOUS:"), selector("", "AWSPREVIOUS", "")),
            (
                format!("{arn}:::9d4cb84b-ad69-40c0-a0ab-cead36b967e8"),
                selector("", "", "9d4cb84b-ad69-40c0-a0ab-cead36b967e8"),
            ),
            (format!("{arn}:username1:AWSPREVIOUS:"), selector("username1", "AWSPREVIOUS", "")),
            ("parameter_name".to_owned(), ValueFrom::Parameter { name: name("parameter_name") }),
            (
                "arn:aws:ssm:us-east-1:123456789012:parameter/prod/db".to_owned(),
                ValueFrom::Parameter { name: name("/prod/db") },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(ValueFrom::parse(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        let secret = "arn:aws:secretsmanager:us-east-1:1:secret";
        for (text, expected) in [
            ("", NotAValueFrom::Empty),
            ("a b", NotAValueFrom::Name("a b".to_owned())),
            ("/", NotAValueFrom::Name("/".to_owned())),
            ("db:3", NotAValueFrom::Name("db:3".to_owned())),
            ("arn:aws:s3:::bucket/x", NotAValueFrom::Arn),
            ("arn:aws:ssm:us-east-1:1:document/x", NotAValueFrom::Arn),
            ("arn:aws", NotAValueFrom::Arn),
            (&format!("{secret}:db:key"), NotAValueFrom::Selector),
            (&format!("{secret}:db:key:stage"), NotAValueFrom::Selector),
            (&format!("{secret}:db:key:stage:id:more"), NotAValueFrom::Selector),
            (&format!("{secret}::key::"), NotAValueFrom::Name(String::new())),
        ] {
            assert_eq!(ValueFrom::parse(text), Err(expected), "{text}");
        }
        assert!(Name::parse(&"x".repeat(MAX_NAME)).is_ok());
        assert!(Name::parse(&"x".repeat(MAX_NAME + 1)).is_err());
    }

    #[test]
    fn a_suffix_is_a_hyphen_and_six_characters() {
        assert_eq!(name("db-AbCd12").without_suffix(), Some(name("db")));
        for other in ["db", "db-AbCd1", "db-AbCd123", "db-AbC.12", "-AbCd12"] {
            assert_eq!(name(other).without_suffix(), None, "{other}");
        }
    }
}
