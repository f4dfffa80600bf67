//! Where an environment file lies, and the variables in its text.
//!
//! Rules: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/use-environment-file.html>, and where that page
//! is silent, what Amazon's agent does (agent/taskresource/envFiles/envfile.go): a value is taken as it stands, without
//! quoting or expansion.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::task_definition::KeyValuePair;

/// "You can specify up to ten environment files": API_ContainerDefinition, environmentFiles.
pub const MAX_ENVIRONMENT_FILES: usize = 10;
/// "The file must have a `.env` file extension": API_EnvironmentFile.
const EXTENSION: &str = ".env";
/// The longest line that Amazon's agent reads: bufio.MaxScanTokenSize of Go.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// One `value` of `environmentFiles`, read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `arn:aws:s3:::bucket/key.env`.
    S3 { bucket: String, key: String },
    /// A file of this host, as an absolute path or a `file://` address. Amazon has no such thing.
    Local(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASource {
    #[error("{0:?} does not end in {EXTENSION}; an environment file must have a {EXTENSION} file extension")]
    Extension(String),
    #[error(
        "invalid s3 arn: {0:?}; arn:aws:s3:::BUCKET/KEY{EXTENSION} is one, and the absolute path of a file of this host will do"
    )]
    Form(String),
}

impl Source {
    pub fn parse(value: &str) -> Result<Self, NotASource> {
        let form = || NotASource::Form(value.to_owned());
        let source = if let Some(path) = value.strip_prefix("file://") {
            Self::Local(absolute(path).ok_or_else(form)?)
        } else if value.starts_with('/') {
            Self::Local(absolute(value).ok_or_else(form)?)
        } else {
            let (bucket, key) = s3_object(value).ok_or_else(form)?;
            Self::S3 { bucket: bucket.to_owned(), key: key.to_owned() }
        };
        if !value.ends_with(EXTENSION) {
            return Err(NotASource::Extension(value.to_owned()));
        }
        Ok(source)
    }
}

/// Bucket and key of `arn:aws:s3:::bucket/key`.
pub fn s3_object(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let (start, partition, service) = (parts.next(), parts.next(), parts.next());
    let (region, account) = (parts.next(), parts.next());
    let well_formed = start == Some("arn")
        && partition.is_some_and(|partition| !partition.is_empty())
        && (service, region, account) == (Some("s3"), Some(""), Some(""));
    let (bucket, key) = parts.next()?.split_once('/')?;
    (well_formed && is_bucket(bucket) && !key.is_empty() && !key.contains('\0')).then_some((bucket, key))
}

fn absolute(path: &str) -> Option<PathBuf> {
    (path.starts_with('/') && !path.contains('\0')).then(|| PathBuf::from(path))
}

/// Lenient about what S3-shaped servers accept; strict about what could end a part of an address.
fn is_bucket(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed) && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReadable {
    #[error("it is not UTF-8 text")]
    NotText,
    #[error("line {line} is longer than {MAX_LINE_BYTES} bytes")]
    LongLine { line: usize },
    #[error("line {line} has a NUL character, which no environment variable can hold")]
    Nul { line: usize },
}

/// The variables of one file. Of a name that comes twice the last line counts; its place is that of the first.
///
/// # Errors
/// A line is no text or too long; it is counted from 1 and never shown, for it may hold a secret.
pub fn parse(content: &[u8]) -> Result<Vec<KeyValuePair>, NotReadable> {
    let text = std::str::from_utf8(content).map_err(|_| NotReadable::NotText)?;
    let mut variables: Vec<KeyValuePair> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (index, line) in text.split('\n').enumerate() {
        let line_number = index + 1;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.len() > MAX_LINE_BYTES {
            return Err(NotReadable::LongLine { line: line_number });
        }
        let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.is_empty()) else { continue };
        if line.starts_with('#') {
            continue;
        }
        if line.contains('\0') {
            return Err(NotReadable::Nul { line: line_number });
        }
        match places.entry(name) {
            Entry::Occupied(place) => variables[*place.get()].value = value.to_owned(),
            Entry::Vacant(place) => {
                place.insert(variables.len());
                variables.push(KeyValuePair { name: name.to_owned(), value: value.to_owned() });
            }
        }
    }
    Ok(variables)
}

/// What files in this order add to an environment: "If multiple environment files are specified that contain the same
/// variable, they're processed from the top down", so the first wins; `environment` wins over all of them.
pub fn merge(environment: &[KeyValuePair], files: impl IntoIterator<Item = Vec<KeyValuePair>>) -> Vec<KeyValuePair> {
    let mut known: HashSet<String> = environment.iter().map(|variable| variable.name.clone()).collect();
    files.into_iter().flatten().filter(|variable| known.insert(variable.name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<KeyValuePair> {
        let pair = |(name, value): &(&str, &str)| KeyValuePair { name: (*name).to_owned(), value: (*value).to_owned() };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn lines_are_read_as_amazons_agent_reads_them() {
        let text =
            b"# a comment\nA=1\n #B=2\r\nURL=http://x/?a=b\nQUOTED=\"as it is\"\nEMPTY=\nno variable\n=nameless\n\
            A=2\nexport C=3\r\nD=$A";
        let expected = pairs(&[
            ("A", "2"),
            (" #B", "2"),
            ("URL", "http://x/?a=b"),
            ("QUOTED", "\"as it is\""),
            ("EMPTY", ""),
            ("export C", "3"),
            ("D", "$A"),
        ]);
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse(b""), Ok(Vec::new()));
    }

    #[test]
    fn what_no_environment_can_hold_is_refused_by_line() {
        assert_eq!(parse(b"A=1\nB=\xff"), Err(NotReadable::NotText));
        assert_eq!(parse(b"A=1\nB=x\0y"), Err(NotReadable::Nul { line: 2 }));
        let long = format!("A=1\nB={}", "x".repeat(MAX_LINE_BYTES - 2));
        assert!(parse(long.as_bytes()).is_ok());
        assert_eq!(parse(format!("{long}y").as_bytes()), Err(NotReadable::LongLine { line: 2 }));
    }

    #[test]
    fn the_first_file_wins_and_environment_wins_over_files() {
        let files = [pairs(&[("A", "file 1"), ("B", "file 1")]), pairs(&[("B", "file 2"), ("C", "file 2")])];
        assert_eq!(merge(&pairs(&[("A", "own")]), files), pairs(&[("B", "file 1"), ("C", "file 2")]));
    }

    /// A megabyte of them, as large as a file may be.
    #[test]
    fn many_variables_are_read_soon() {
        let text: String = (0..100_000).map(|number| format!("A{number}=x\n")).collect();
        let begun = std::time::Instant::now();
        let variables = parse(text.as_bytes()).expect("text");
        assert_eq!(merge(&variables[1..], [variables.clone(), variables.clone()]), variables[..1]);
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn files_lie_in_s3_or_here() {
        let s3 = |bucket: &str, key: &str| Ok(Source::S3 { bucket: bucket.to_owned(), key: key.to_owned() });
        let form = |text: &str| Err(NotASource::Form(text.to_owned()));
        let extension = |text: &str| Err(NotASource::Extension(text.to_owned()));
        for (value, expected) in [
            ("arn:aws:s3:::s3_bucket_name/envfile_object_name.env", s3("s3_bucket_name", "envfile_object_name.env")),
            ("arn:aws-cn:s3:::b.c/a/b:c/.env", s3("b.c", "a/b:c/.env")),
            ("/etc/web.env", Ok(Source::Local("/etc/web.env".into()))),
            ("file:///etc/web.env", Ok(Source::Local("/etc/web.env".into()))),
            ("arn:aws:s3:::bucket/web.txt", extension("arn:aws:s3:::bucket/web.txt")),
            ("/etc/web", extension("/etc/web")),
            ("web.env", form("web.env")),
            ("file://web.env", form("file://web.env")),
            ("arn:aws:s3:::.env", form("arn:aws:s3:::.env")),
            ("arn:aws:s3:::/x.env", form("arn:aws:s3:::/x.env")),
            ("arn:aws:s3:::a?b/x.env", form("arn:aws:s3:::a?b/x.env")),
            ("arn:aws:sqs:::bucket/x.env", form("arn:aws:sqs:::bucket/x.env")),
            ("s3://bucket/x.env", form("s3://bucket/x.env")),
        ] {
            assert_eq!(Source::parse(value), expected, "{value}");
        }
    }
}
