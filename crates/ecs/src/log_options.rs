//! What the options of a log driver mean: which there are, what is checked before a task runs, and the values that
//! several parts of coracle need. Pure.
//!
//! Sources: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_LogConfiguration.html> and, for the drivers
//! that Amazon passes on to Docker, <https://docs.docker.com/engine/logging/drivers/>. Texts in Amazon's words are the
//! ones that RegisterTaskDefinition answers with.

use std::collections::BTreeMap;

use regex::bytes::Regex;

use crate::lint::{Findings, Place, Severity};
use crate::suggest;

pub const AWSLOGS: &str = "awslogs";
pub const AWSLOGS_GROUP: &str = "awslogs-group";
pub const AWSLOGS_REGION: &str = "awslogs-region";
pub const AWSLOGS_STREAM_PREFIX: &str = "awslogs-stream-prefix";
pub const AWSLOGS_STREAM: &str = "awslogs-stream";
pub const AWSLOGS_DATETIME_FORMAT: &str = "awslogs-datetime-format";
pub const AWSLOGS_MULTILINE_PATTERN: &str = "awslogs-multiline-pattern";
pub const JSON_FILE: &str = "json-file";
pub const AWSFIRELENS: &str = "awsfirelens";
/// Docker's, and Amazon's agent's; not among the eight drivers of RegisterTaskDefinition.
pub const NONE: &str = "none";

pub const MODE: &str = "mode";
pub const MAX_BUFFER_SIZE: &str = "max-buffer-size";
pub const MAX_SIZE: &str = "max-size";
pub const MAX_FILE: &str = "max-file";
/// Coracle's own: output older than this goes at the next rotation.
pub const MAX_AGE: &str = "max-age";

/// Of awsfirelens: not the router's option.
pub const BUFFER_LIMIT: &str = "log-driver-buffer-limit";

/// What `max-buffer-size` is when nobody says.
pub const DEFAULT_BUFFER_BYTES: u64 = 10 << 20;

/// Output is kept here whatever the driver, within these.
const OWN: &[&str] = &[MAX_SIZE, MAX_FILE, MAX_AGE];
const ALL_DRIVERS: &[&str] = &[MODE, MAX_BUFFER_SIZE];
/// Of those drivers that put facts about the container beside its output.
const FACTS: &[&str] = &["tag", "labels", "labels-regex", "env", "env-regex"];

/// A driver and the options that are its own.
struct Driver {
    name: &'static str,
    options: &'static [&'static str],
    facts: bool,
    required: &'static [&'static str],
}

static DRIVERS: &[Driver] = &[
    Driver {
        name: AWSLOGS,
        options: &[
            AWSLOGS_GROUP,
            AWSLOGS_REGION,
            AWSLOGS_STREAM_PREFIX,
            AWSLOGS_STREAM,
            AWSLOGS_DATETIME_FORMAT,
            AWSLOGS_MULTILINE_PATTERN,
            "awslogs-create-group",
            "awslogs-endpoint",
            "awslogs-credentials-endpoint",
            "awslogs-force-flush-interval-seconds",
            "awslogs-max-buffered-events",
            "awslogs-format",
            "tag",
        ],
        facts: false,
        required: &[AWSLOGS_REGION, AWSLOGS_GROUP],
    },
    Driver { name: JSON_FILE, options: &["compress"], facts: true, required: &[] },
    Driver { name: "journald", options: &[], facts: true, required: &[] },
    Driver {
        name: "syslog",
        options: &[
            "syslog-address",
            "syslog-facility",
            "syslog-format",
            "syslog-tls-ca-cert",
            "syslog-tls-cert",
            "syslog-tls-key",
            "syslog-tls-skip-verify",
        ],
        facts: true,
        required: &[],
    },
    Driver {
        name: "gelf",
        options: &[
            "gelf-address",
            "gelf-compression-level",
            "gelf-compression-type",
            "gelf-tcp-max-reconnect",
            "gelf-tcp-reconnect-delay",
        ],
        facts: true,
        required: &["gelf-address"],
    },
    Driver {
        name: "fluentd",
        options: &[
            "fluentd-address",
            "fluentd-async",
            "fluentd-async-connect",
            "fluentd-async-reconnect-interval",
            "fluentd-buffer-limit",
            "fluentd-max-retries",
            "fluentd-read-timeout",
            "fluentd-request-ack",
            "fluentd-retry-wait",
            "fluentd-sub-second-precision",
            "fluentd-write-timeout",
        ],
        facts: true,
        required: &[],
    },
    Driver {
        name: "splunk",
        options: &[
            "splunk-caname",
            "splunk-capath",
            "splunk-format",
            "splunk-gzip",
            "splunk-gzip-level",
            "splunk-index",
            "splunk-insecureskipverify",
            "splunk-source",
            "splunk-sourcetype",
            "splunk-token",
            "splunk-url",
            "splunk-verify-connection",
        ],
        facts: true,
        required: &["splunk-token", "splunk-url"],
    },
    Driver { name: NONE, options: &[], facts: false, required: &[] },
];

/// Options that are known and change nothing here, with what happens instead.
const WITHOUT_EFFECT: &[(&[&str], &str)] = &[
    (
        &[
            "awslogs-endpoint",
            "awslogs-credentials-endpoint",
            "awslogs-force-flush-interval-seconds",
            "awslogs-max-buffered-events",
        ],
        "output of awslogs stays on this host; read it with `coracle logs --group`",
    ),
    (&["awslogs-format"], "events are kept as the container writes them"),
    (&["compress"], "rotated output is kept as it is"),
    (
        &["fluentd-async", "fluentd-async-connect", "fluentd-async-reconnect-interval"],
        "output is always sent by another process, and tried again until it is taken",
    ),
    (&["fluentd-read-timeout", "fluentd-write-timeout"], "the shipper has timeouts of its own"),
    (&["gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"], "the shipper connects again until the task's end"),
];
/// Drivers whose output is kept on this host, where nothing is put beside it.
const LOCAL: &[&str] = &[AWSLOGS, JSON_FILE];

fn without_effect(driver: &str, option: &str) -> Option<&'static str> {
    if LOCAL.contains(&driver) && FACTS.contains(&option) {
        return Some("nothing is put beside output that stays on this host");
    }
    WITHOUT_EFFECT.iter().find(|(options, _)| options.contains(&option)).map(|(_, instead)| *instead)
}

impl Driver {
    fn knows(&self, option: &str) -> bool {
        let facts: &[&str] = if self.facts { FACTS } else { &[] };
        [self.options, facts, ALL_DRIVERS, OWN].iter().any(|options| options.contains(&option))
    }
}

/// What a container's writes do when its log cannot be got rid of fast enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They wait.
    Blocking,
    /// They go on, and output is lost: Amazon's default since 2025-06-25
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-account-settings.html>, defaultLogDriverMode).
    NonBlocking,
}

/// The option `mode`.
pub fn mode(options: &BTreeMap<String, String>) -> Mode {
    match options.get(MODE).map(String::as_str) {
        Some("blocking") => Mode::Blocking,
        Some(_) | None => Mode::NonBlocking,
    }
}

/// The option `max-buffer-size`, in bytes; without it the older ones that mean the same: fluentd's, and that of
/// awsfirelens (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/firelens-docker-buffer-limit.html>).
pub fn buffer_bytes(options: &BTreeMap<String, String>) -> u64 {
    let names = [MAX_BUFFER_SIZE, "fluentd-buffer-limit", BUFFER_LIMIT];
    let given = names.iter().find_map(|name| options.get(*name)).and_then(|size| size_bytes(size));
    given.filter(|bytes| *bytes > 0).unwrap_or(DEFAULT_BUFFER_BYTES)
}

/// A size as Docker writes it: `10m`, `512KB`, `4096`; k, m, g, t are powers of 1024.
pub fn size_bytes(size: &str) -> Option<u64> {
    let size = size.trim().to_ascii_lowercase();
    let size = size.strip_suffix('b').unwrap_or(&size);
    let (digits, unit) = match size.char_indices().last()? {
        (end, 'k') => (&size[..end], 1 << 10),
        (end, 'm') => (&size[..end], 1 << 20),
        (end, 'g') => (&size[..end], 1 << 30),
        (end, 't') => (&size[..end], 1 << 40),
        (_, _) => (size, 1),
    };
    digits.trim_end().parse::<u64>().ok()?.checked_mul(unit)
}

/// A span as Go writes it, and in days: `90s`, `1h30m`, `7d`. In milliseconds.
pub fn span_ms(span: &str) -> Option<u64> {
    let mut rest = span.trim();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit())?);
        let unit_length = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            "d" => 24 * 60 * 60 * 1000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(ms)?)?;
        rest = tail;
    }
    (total > 0).then_some(total)
}

/// The log stream's name: "prefix-name/container-name/ecs-task-id", and without a prefix "the container ID that is
/// assigned by the Docker daemon".
pub fn awslogs_stream(options: &BTreeMap<String, String>, container: &str, task_id: &str, runtime_id: &str) -> String {
    match (options.get(AWSLOGS_STREAM_PREFIX), options.get(AWSLOGS_STREAM)) {
        (Some(prefix), _) => format!("{prefix}/{container}/{task_id}"),
        (None, Some(stream)) => stream.clone(),
        (None, None) => runtime_id.to_owned(),
    }
}

/// How the first line of an event that has several looks: `awslogs-datetime-format` and `awslogs-multiline-pattern`.
#[derive(Clone, Debug)]
pub struct EventStart(Regex);

impl EventStart {
    /// Nothing where every line is an event. Of both options the date's wins, as in Docker's driver.
    pub fn of(options: &BTreeMap<String, String>) -> Result<Option<EventStart>, regex::Error> {
        let pattern = match (options.get(AWSLOGS_DATETIME_FORMAT), options.get(AWSLOGS_MULTILINE_PATTERN)) {
            (Some(format), _) => datetime_pattern(format),
            (None, Some(pattern)) => pattern.clone(),
            (None, None) => return Ok(None),
        };
        Regex::new(&pattern).map(|pattern| Some(EventStart(pattern)))
    }

    /// Whether a line begins an event: it matches anywhere in it.
    pub fn begins(&self, line: &[u8]) -> bool {
        self.0.is_match(line)
    }
}

/// A regular expression with strftime's conversions in it, as Docker's awslogs driver takes it, as one without. What
/// is no conversion of the driver stands for itself
/// (<https://docs.docker.com/engine/logging/drivers/awslogs/#awslogs-datetime-format>).
fn datetime_pattern(format: &str) -> String {
    let mut pattern = String::new();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek().and_then(|conversion| conversion_pattern(*conversion))) {
            ('%', Some(meaning)) => {
                pattern.push_str(meaning);
                letters.next();
            }
            (letter, _) => pattern.push(letter),
        }
    }
    pattern
}

fn conversion_pattern(conversion: char) -> Option<&'static str> {
    Some(match conversion {
        'A' => "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day",
        'a' => "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)",
        'B' => "(?:January|February|March|April|May|June|July|August|September|October|November|December)",
        'b' => "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)",
        'd' => "(?:0[1-9]|[12][0-9]|3[01])",
        'f' => "[0-9]{6}",
        'H' => "(?:[01][0-9]|2[0-3])",
        'I' => "(?:0[1-9]|1[0-2])",
        'j' => "(?:[012][0-9]{2}|3[0-5][0-9]|36[0-6])",
        // Milliseconds come with their point: ".000".
        'L' => "\\.[0-9]{3}",
        'M' | 'S' => "[0-5][0-9]",
        'm' => "(?:0[1-9]|1[0-2])",
        'p' => "[AP]M",
        'w' => "[0-6]",
        'Y' => "[0-9]{4}",
        'y' => "[0-9]{2}",
        'Z' => "[A-Z]{1,4}T",
        'z' => "[+-][0-9]{4}",
        _ => return None,
    })
}

/// Checks the options of one `logConfiguration`.
pub(crate) fn check(log: &Place<'_>, findings: &mut Findings) {
    let Some(name) = log.text("logDriver") else { return };
    let options = log.member("options");
    let given: Vec<(&str, &str)> = options
        .as_ref()
        .and_then(|options| options.value.as_object())
        .map(|members| members.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect())
        .unwrap_or_default();
    let path_of = |option: &str| match &options {
        Some(options) => options.path_of(option),
        None => log.path_of("options"),
    };
    for (option, value) in &given {
        common_value(option, value, path_of(option), findings);
    }
    let Some(driver) = DRIVERS.iter().find(|driver| driver.name == name) else { return };
    let secrets: Vec<&str> = log.items("secretOptions").iter().filter_map(|secret| secret.text("name")).collect();
    let is_given = |wanted: &&str| given.iter().any(|(option, _)| option == wanted) || secrets.contains(wanted);
    if !driver.required.iter().all(is_given) {
        // Amazon names all of them, whichever is missing.
        let all = driver.required.join(", ");
        findings.client_exception(log.path_of("options"), format!("Log driver {name} requires options: {all}"));
    }
    for (option, value) in &given {
        if driver.knows(option) {
            if name == AWSLOGS {
                awslogs_value(option, value, path_of(option), findings);
            }
            if let Some(instead) = without_effect(name, option) {
                findings.add(Severity::NoEffect, path_of(option), instead);
            }
            continue;
        }
        let message = format!("Log driver {name} disallows options: {option}");
        match name {
            AWSLOGS => findings.client_exception(path_of(option), message),
            // Docker refuses those of its drivers when the container starts.
            _ => findings.add(Severity::NoEffect, path_of(option), message),
        }
        let known = driver.options.iter().chain(ALL_DRIVERS).copied();
        if let Some(near) = suggest::closest(option, known) {
            findings.hint(format!("did you mean {near:?}?"));
        }
    }
    if driver.name == AWSLOGS
        && let [Some(_), Some(_)] =
            [AWSLOGS_DATETIME_FORMAT, AWSLOGS_MULTILINE_PATTERN].map(|one| given.iter().find(|(name, _)| *name == one))
    {
        let message = format!("{AWSLOGS_DATETIME_FORMAT} is followed, this is not");
        findings.add(Severity::NoEffect, path_of(AWSLOGS_MULTILINE_PATTERN), message);
    }
}

/// Options that every driver has.
fn common_value(option: &str, value: &str, path: String, findings: &mut Findings) {
    let wanted = match option {
        MODE if matches!(value, "blocking" | "non-blocking") => return,
        MODE => "blocking or non-blocking",
        MAX_BUFFER_SIZE | MAX_SIZE if size_bytes(value).is_some_and(|bytes| bytes > 0) => return,
        // Docker's own default for "no limit".
        MAX_SIZE if value == "-1" => return,
        MAX_BUFFER_SIZE | MAX_SIZE => "a size as 512k, 10m or 1g",
        MAX_FILE if value.parse::<u64>().is_ok_and(|count| count > 0) => return,
        MAX_FILE => "a number of files, 1 or more",
        MAX_AGE if span_ms(value).is_some() => return,
        MAX_AGE => "a span as 90s, 12h or 7d",
        _ => return,
    };
    findings.error(path, format!("{value:?} is not {wanted}"));
}

fn awslogs_value(option: &str, value: &str, path: String, findings: &mut Findings) {
    match option {
        AWSLOGS_GROUP | AWSLOGS_REGION if value.is_empty() => {
            findings
                .client_exception(path, format!("Log driver awslogs option '{option}' should not be null or empty."));
        }
        AWSLOGS_GROUP if !is_group(value) => {
            findings.error(path, format!("{value:?} is no name of a log group"));
            findings.hint("up to 512 letters, digits and . - _ / #");
        }
        AWSLOGS_STREAM_PREFIX | AWSLOGS_STREAM
            if value.is_empty() || value.contains([':', '*']) || value.len() > 512 =>
        {
            findings.error(path, format!("{value:?} makes no name of a log stream"));
            findings.hint("up to 512 letters, without : and *");
        }
        AWSLOGS_DATETIME_FORMAT | AWSLOGS_MULTILINE_PATTERN => {
            let alone = BTreeMap::from([(option.to_owned(), value.to_owned())]);
            if let Err(cause) = EventStart::of(&alone) {
                let cause = cause.to_string();
                let cause = cause.lines().last().unwrap_or_default();
                findings.error(path, format!("{value:?} is no regular expression: {cause}"));
            }
        }
        "awslogs-create-group" if value != "true" => {
            let text =
                "Log driver awslogs option 'awslogs-create-group' should only be set to 'true', else omit option.";
            findings.client_exception(path, text);
        }
        _ => {}
    }
}

/// `[\.\-_/#A-Za-z0-9]+`, at most 512: CreateLogGroup's logGroupName.
fn is_group(name: &str) -> bool {
    name.len() <= 512 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn findings(log: Value) -> Vec<String> {
        let mut findings = Findings::default();
        check(&Place { path: "log".to_owned(), value: &log }, &mut findings);
        let document = crate::input::read(b"{}").expect("an object");
        findings.in_file_order(&document).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn options_without_effect_are_named() {
        let fluentd = json!({ "logDriver": "fluentd", "options": { "fluentd-async": "true", "tag": "t" } });
        assert_eq!(
            findings(fluentd),
            [
                "no effect: log.options.fluentd-async: output is always sent by another process, and tried again until it \
              is taken"
            ]
        );
        let file = json!({ "logDriver": "json-file", "options": { "labels": "a", "max-file": "3" } });
        assert_eq!(
            findings(file),
            ["no effect: log.options.labels: nothing is put beside output that stays on this host"]
        );
    }

    #[test]
    fn awslogs_is_refused_in_amazons_words() {
        let log = |options: Value| json!({ "logDriver": "awslogs", "options": options });
        let good = json!({ "awslogs-group": "/ecs/web", "awslogs-region": "eu-west-1", "awslogs-stream-prefix": "p",
                           "mode": "blocking", "max-buffer-size": "25m", "max-age": "7d", "awslogs-create-group": "true" });
        assert_eq!(findings(log(good)), Vec::<String>::new());
        assert_eq!(
            findings(json!({ "logDriver": "awslogs" })),
            ["error: log.options: Log driver awslogs requires options: awslogs-region, awslogs-group"]
        );
        let bad = json!({ "awslogs-group": "", "awslogs-region": "eu-west-1", "log_key": "log",
                          "awslogs-create-group": "false" });
        assert_eq!(
            findings(log(bad)),
            [
                "error: log.options.awslogs-group: Log driver awslogs option 'awslogs-group' should not be null or empty.",
                "error: log.options.log_key: Log driver awslogs disallows options: log_key",
                "error: log.options.awslogs-create-group: Log driver awslogs option 'awslogs-create-group' should only \
                 be set to 'true', else omit option.",
            ]
        );
        let both = json!({ "awslogs-group": "g", "awslogs-region": "r", "awslogs-datetime-format": "[%Y",
                           "awslogs-multiline-pattern": "^INFO" });
        let both = findings(log(both));
        assert!(
            both[0].contains("no regular expression")
                && both[1].starts_with("no effect: log.options.awslogs-multiline-pattern"),
            "{both:?}"
        );
    }

    #[test]
    fn unknown_options_and_wrong_values_are_named() {
        let found = findings(json!({ "logDriver": "json-file", "options": { "max-sise": "1m", "max-file": "0",
            "mode": "async", "max-buffer-size": "lots", "max-size": "-1", "max-age": "1w" } }));
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found.iter().any(|one| one.starts_with("no effect: log.options.max-sise: ")), "{found:?}");
        assert!(found.contains(&"error: log.options.mode: \"async\" is not blocking or non-blocking".to_owned()));
        assert!(found.iter().any(|one| one.contains("max-age")) && found.iter().any(|one| one.contains("max-file")));
        // A plugin's options are its own; a secret option is given.
        assert!(findings(json!({ "logDriver": "awsfirelens", "options": { "Name": "cloudwatch" } })).is_empty());
        let splunk = json!({ "logDriver": "splunk", "options": { "splunk-url": "u" },
                             "secretOptions": [{ "name": "splunk-token", "valueFrom": "t" }] });
        assert!(findings(splunk).is_empty());
    }

    #[test]
    fn sizes_and_spans() {
        let sizes = [
            ("10m", Some(10 << 20)),
            ("1G", Some(1 << 30)),
            ("512KB", Some(512 << 10)),
            ("4096", Some(4096)),
            ("1 m", Some(1 << 20)),
            ("-1", None),
            ("99999999999999999999g", None),
            ("", None),
            ("é", None),
        ];
        for (text, bytes) in sizes {
            assert_eq!(size_bytes(text), bytes, "{text}");
        }
        let spans = [
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("0s", None),
            ("5", None),
            ("", None),
            ("h", None),
            ("1w", None),
        ];
        for (text, ms) in spans {
            assert_eq!(span_ms(text), ms, "{text}");
        }
    }

    /// "using_awslogs" of the developer guide: `prefix-name/container-name/ecs-task-id`.
    #[test]
    fn streams_are_named_as_amazon_names_them() {
        let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let name = |pairs: &[(&str, &str)]| awslogs_stream(&options(pairs), "app", "task", "runtime");
        assert_eq!(name(&[(AWSLOGS_STREAM_PREFIX, "ecs")]), "ecs/app/task");
        assert_eq!(name(&[]), "runtime");
        assert_eq!(name(&[(AWSLOGS_STREAM, "mine")]), "mine");
    }

    /// The examples of Docker's page on the driver, which Amazon's refers to.
    #[test]
    fn events_begin_as_in_the_documentation() {
        let begins = |option: &str, value: &str, line: &str| {
            let options = BTreeMap::from([(option.to_owned(), value.to_owned())]);
            EventStart::of(&options).expect("a pattern").expect("there is one").begins(line.as_bytes())
        };
        let format = r"\[%b %d, %Y %H:%M:%S\]";
        let date = |line: &str| begins(AWSLOGS_DATETIME_FORMAT, format, line);
        assert!(date("[May 01, 2017 19:00:01] A message was logged"));
        assert!(date("[May 01, 2017 19:00:04] Another multi-line message was logged"));
        assert!(!date("Some random message") && !date("with some random words"));
        assert!(!date("[May 32, 2017 19:00:01] no such day") && !date("[May 01, 2017 25:00:01] no such hour"));
        let info = |line: &str| begins(AWSLOGS_MULTILINE_PATTERN, "^INFO", line);
        assert!(info("INFO Another message was logged") && !info("     Some random message"));
        let others = [
            ("%A %d %B %y %I:%M %p", "Monday 02 January 06 03:04 PM"),
            ("%a %w %j", "Tue 2 366"),
            ("%Y-%m-%dT%H:%M:%S%L%z", "2026-11-23T05:06:07.089+0100"),
            ("%H:%M:%S.%f %Z", "05:06:07.123456 CEST"),
            ("100%", "100%"),
        ];
        for (format, line) in others {
            assert!(begins(AWSLOGS_DATETIME_FORMAT, format, line), "{format}");
        }
        assert!(EventStart::of(&BTreeMap::new()).expect("nothing is well formed").is_none());
    }
}
