//! RunTask's `networkConfiguration`, as JSON or as the AWS CLI's shorthand.
//!
//! Shape: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_AwsVpcConfiguration.html>. Shorthand:
//! <https://docs.aws.amazon.com/cli/latest/userguide/cli-usage-shorthand.html>.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// "There's a limit of 16 subnets that can be specified."
pub const MAX_SUBNETS: usize = 16;
/// "There's a limit of 5 security groups that can be specified."
pub const MAX_SECURITY_GROUPS: usize = 5;
/// More than the largest that is right.
const MAX_BYTES: usize = 16 << 10;
/// Of braces and brackets in shorthand.
const MAX_DEPTH: usize = 8;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsVpcConfiguration {
    /// Ids; a host's own configuration also has names. Empty: the default one, where Amazon asks for at least one.
    pub subnets: Vec<String>,
    /// Empty: the VPC's default group, as at Amazon's.
    pub security_groups: Vec<String>,
    /// None: DISABLED.
    pub assign_public_ip: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it is no JSON: {0}")]
    Json(String),
    #[error("at character {at}: {wanted}")]
    Shorthand { at: usize, wanted: &'static str },
    #[error("{path}: {wanted}")]
    Member { path: String, wanted: String },
    #[error("{list} can have at most {most} items.")]
    TooMany { list: &'static str, most: usize },
    #[error("{path}: {given:?} is there twice")]
    Twice { path: &'static str, given: String },
}

const ROOT: &str = "awsvpcConfiguration";

/// Reads `{"awsvpcConfiguration": {…}}` or `awsvpcConfiguration={subnets=[…],…}`.
pub fn read(text: &str) -> Result<AwsVpcConfiguration, Error> {
    if text.len() > MAX_BYTES {
        return Err(Error::Json(format!("more than {MAX_BYTES} bytes")));
    }
    let value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| Error::Json(error.to_string()))?
    } else {
        shorthand(text)?
    };
    let root = object(&value, "the configuration")?;
    if let Some(name) = root.keys().find(|name| *name != ROOT) {
        return Err(member(name, format!("there is no such member; the only one is {ROOT}")));
    }
    let inner = root.get(ROOT).ok_or_else(|| member(ROOT, "it is missing".to_owned()))?;
    let mut configuration = AwsVpcConfiguration::default();
    for (name, value) in object(inner, ROOT)? {
        match name.as_str() {
            "subnets" => configuration.subnets = texts(value, "subnets")?,
            "securityGroups" => configuration.security_groups = texts(value, "securityGroups")?,
            "assignPublicIp" => configuration.assign_public_ip = Some(switch(value)?),
            other => {
                let known = "the members are subnets, securityGroups and assignPublicIp";
                return Err(member(&format!("{ROOT}.{other}"), format!("there is no such member; {known}")));
            }
        }
    }
    check(&configuration)?;
    Ok(configuration)
}

/// Amazon's limits, wherever the configuration came from.
pub fn check(configuration: &AwsVpcConfiguration) -> Result<(), Error> {
    let lists = [
        ("subnets", &configuration.subnets, MAX_SUBNETS),
        ("securityGroups", &configuration.security_groups, MAX_SECURITY_GROUPS),
    ];
    for (list, items, most) in lists {
        if items.len() > most {
            return Err(Error::TooMany { list, most });
        }
        if let Some((_, given)) = items.iter().enumerate().find(|(at, item)| items[..*at].contains(item)) {
            return Err(Error::Twice { path: list, given: given.clone() });
        }
    }
    Ok(())
}

fn member(path: &str, wanted: String) -> Error {
    Error::Member { path: path.to_owned(), wanted }
}

fn object<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| member(path, "an object is wanted".to_owned()))
}

fn texts(value: &Value, name: &str) -> Result<Vec<String>, Error> {
    let path = |at: usize| format!("{ROOT}.{name}[{at}]");
    let items = value.as_array().ok_or_else(|| member(&format!("{ROOT}.{name}"), "a list is wanted".to_owned()))?;
    let text = |(at, item): (usize, &Value)| match item.as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        Some(_) | None => Err(member(&path(at), "an id is wanted".to_owned())),
    };
    items.iter().enumerate().map(text).collect()
}

fn switch(value: &Value) -> Result<bool, Error> {
    match value.as_str() {
        Some("ENABLED") => Ok(true),
        Some("DISABLED") => Ok(false),
        Some(_) | None => Err(member(&format!("{ROOT}.assignPublicIp"), "ENABLED or DISABLED is wanted".to_owned())),
    }
}

fn shorthand(text: &str) -> Result<Value, Error> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let root = reader.pairs(0)?;
    match reader.peek() {
        None => Ok(root),
        Some(_) => Err(reader.wants("the end is wanted")),
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn wants(&self, wanted: &'static str) -> Error {
        Error::Shorthand { at: self.at + 1, wanted }
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn takes(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self) -> Result<String, Error> {
        self.peek();
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| b"=,[]{} \t\n".contains(byte)).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.wants("a word is wanted"));
        }
        self.at += length;
        Ok(String::from_utf8_lossy(&rest[..length]).into_owned())
    }

    fn pairs(&mut self, depth: usize) -> Result<Value, Error> {
        let mut members = Map::new();
        loop {
            let name = self.word()?;
            if !self.takes(b'=') {
                return Err(self.wants("= is wanted"));
            }
            members.insert(name, self.value(depth + 1)?);
            if !self.takes(b',') {
                return Ok(Value::Object(members));
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(self.wants("fewer braces are wanted"));
        }
        if self.takes(b'{') {
            let members = self.pairs(depth)?;
            return if self.takes(b'}') { Ok(members) } else { Err(self.wants(", or } is wanted")) };
        }
        if !self.takes(b'[') {
            return Ok(Value::String(self.word()?));
        }
        let mut items = Vec::new();
        while !self.takes(b']') {
            if !items.is_empty() && !self.takes(b',') {
                return Err(self.wants(", or ] is wanted"));
            }
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        read(text).expect_err(text).to_string()
    }

    /// The example of `aws ecs run-task help`, and the same as JSON.
    #[test]
    fn shorthand_and_json_say_the_same() {
        let expected = AwsVpcConfiguration {
            subnets: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
            security_groups: vec!["sg-1".to_owned()],
            assign_public_ip: Some(true),
        };
        let short = "awsvpcConfiguration={subnets=[subnet-1, subnet-2],securityGroups=[sg-1],assignPublicIp=ENABLED}";
        let json = r#"{"awsvpcConfiguration": {"subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-1"],
            "assignPublicIp": "ENABLED"}}"#;
        assert_eq!(read(short), Ok(expected.clone()));
        assert_eq!(read(json), Ok(expected));
        assert_eq!(read("awsvpcConfiguration={subnets=[]}"), Ok(AwsVpcConfiguration::default()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("awsvpcConfiguration={subnet=[a]}", "awsvpcConfiguration.subnet: there is no such member"),
            ("vpc={subnets=[a]}", "vpc: there is no such member"),
            ("awsvpcConfiguration={subnets=[a}", "at character 32: , or ] is wanted"),
            ("awsvpcConfiguration={subnets=a}", "awsvpcConfiguration.subnets: a list is wanted"),
            ("awsvpcConfiguration={assignPublicIp=yes}", "assignPublicIp: ENABLED or DISABLED is wanted"),
            ("awsvpcConfiguration={subnets=[a]} x", "at character 35: the end is wanted"),
            ("awsvpcConfiguration={subnets=[a,a]}", "subnets: \"a\" is there twice"),
            ("", "at character 1: a word is wanted"),
            ("{", "it is no JSON"),
            (r#"{"awsvpcConfiguration": {"subnets": [1]}}"#, "awsvpcConfiguration.subnets[0]: an id is wanted"),
        ];
        for (text, expected) in cases {
            assert!(refused(text).contains(expected), "{text}: {}", refused(text));
        }
        let groups = "awsvpcConfiguration={securityGroups=[a,b,c,d,e,f]}";
        assert_eq!(refused(groups), "securityGroups can have at most 5 items.");
        let subnets: Vec<String> = (0..17).map(|number| format!("s{number}")).collect();
        let subnets = format!("awsvpcConfiguration={{subnets=[{}]}}", subnets.join(","));
        assert_eq!(refused(&subnets), "subnets can have at most 16 items.");
        assert!(read(&format!("a={}", "[".repeat(5000))).is_err());
    }
}
