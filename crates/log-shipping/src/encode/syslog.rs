//! The syslog driver's lines (<https://docs.docker.com/engine/logging/drivers/syslog/>): RFC 3164, RFC 5424 and the
//! short form of local sockets; RFC 5425 counts octets over TLS.

use std::path::{Path, PathBuf};

use runtime::logs::Stream;

use crate::calendar;
use crate::message::{Message, Origin};
use crate::options::{Address, OptionError, Options};
use crate::tag;

/// RFC 3164 and RFC 5426.
const PORT: u16 = 514;
const LOCAL_SOCKET: &str = "/dev/log";
/// RFC 5424, section 6.2.1.
const ERROR: u8 = 3;
const INFORMATIONAL: u8 = 6;
const DAEMON: u8 = 3;

/// In the order of their numbers, RFC 5424, table 1; 12 to 15 have no name in Docker's driver.
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Docker's default: the local form, without a host name.
    Local,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A line end after each message.
    Lines,
    /// "MSG-LEN SP SYSLOG-MSG": RFC 5425, section 4.3.
    OctetCounting,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub address: Address,
    pub certificates: Certificates,
    facility: u8,
    format: Format,
    framing: Framing,
    tag: String,
}

/// What a TLS connection trusts and shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// The host's own roots when there is none.
    pub authority: Option<PathBuf>,
    /// The client's certificate with its key.
    pub own: Option<(PathBuf, PathBuf)>,
    pub unverified: bool,
    /// Another name than the address's.
    pub name: Option<String>,
}

impl Settings {
    pub(crate) fn of(options: &Options<'_>, origin: &Origin) -> Result<Settings, OptionError> {
        let address = match options.filled("syslog-address") {
            None => Address::UnixDatagram(LOCAL_SOCKET.into()),
            Some(text) => Address::parse(text, PORT).map_err(|wrong| options.bad("syslog-address", wrong))?,
        };
        let format = match options.filled("syslog-format") {
            None => Format::Local,
            Some("rfc3164") => Format::Rfc3164,
            Some("rfc5424") => Format::Rfc5424,
            Some("rfc5424micro") => Format::Rfc5424Micro,
            Some(other) => {
                let wrong = format!("is rfc3164, rfc5424 or rfc5424micro, not {other:?}");
                return Err(options.bad("syslog-format", wrong));
            }
        };
        let is_tls = matches!(address, Address::Tls { .. });
        let counted = is_tls && matches!(format, Format::Rfc5424 | Format::Rfc5424Micro);
        Ok(Settings {
            address,
            certificates: certificates(options)?,
            facility: facility(options)?,
            format,
            framing: if counted { Framing::OctetCounting } else { Framing::Lines },
            tag: tag::of(options, origin)?,
        })
    }

    /// `process` is the number that stands in brackets.
    pub fn encode(&self, origin: &Origin, message: &Message, process: u32, out: &mut Vec<u8>) {
        let severity = match message.stream {
            Stream::Stdout => INFORMATIONAL,
            Stream::Stderr => ERROR,
        };
        let priority = self.facility << 3 | severity;
        let (tag, host, time) = (&self.tag, &origin.hostname, message.time);
        let head = match self.format {
            Format::Local => format!("<{priority}>{} {tag}[{process}]: ", calendar::bsd(time)),
            Format::Rfc3164 => format!("<{priority}>{} {host} {tag}[{process}]: ", calendar::bsd(time)),
            Format::Rfc5424 => format!("<{priority}>1 {} {host} {tag} {process} {tag} - ", calendar::rfc3339(time)),
            Format::Rfc5424Micro => {
                format!("<{priority}>1 {} {host} {tag} {process} {tag} - ", calendar::rfc3339_micro(time))
            }
        };
        if self.framing == Framing::OctetCounting {
            let length = head.len() + message.bytes.len() + 1;
            out.extend_from_slice(format!("{length} ").as_bytes());
        }
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&message.bytes);
        out.push(b'\n');
    }
}

fn facility(options: &Options<'_>) -> Result<u8, OptionError> {
    let Some(text) = options.filled("syslog-facility") else { return Ok(DAEMON) };
    if let Some((_, number)) = FACILITIES.iter().find(|(name, _)| *name == text) {
        return Ok(*number);
    }
    let wrong = || options.bad("syslog-facility", format!("is invalid syslog facility {text:?}"));
    text.parse().ok().filter(|number| *number <= 23).ok_or_else(wrong)
}

fn certificates(options: &Options<'_>) -> Result<Certificates, OptionError> {
    let path = |name| options.filled(name).map(|path| Path::new(path).to_owned());
    let own = match (path("syslog-tls-cert"), path("syslog-tls-key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(options.bad("syslog-tls-cert", "needs syslog-tls-key")),
        (None, Some(_)) => return Err(options.bad("syslog-tls-key", "needs syslog-tls-cert")),
    };
    // Docker's driver takes any value of it for true.
    let unverified = options.text("syslog-tls-skip-verify").is_some();
    Ok(Certificates { authority: path("syslog-tls-ca-cert"), own, unverified, name: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example;
    use crate::options::example::options;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, OptionError> {
        Settings::of(&Options::new("syslog", &options(pairs)), &example::origin())
    }

    fn line(pairs: &[(&str, &str)], message: &Message) -> String {
        let mut out = Vec::new();
        settings(pairs).expect("good options").encode(&example::origin(), message, 9103, &mut out);
        String::from_utf8(out).expect("text")
    }

    /// Docker's page on log tags has this line: "Aug  7 18:33:19 HOSTNAME hello-world/foobar/5790672ab6a0[9103]: Hello
    /// from Docker." daemon is 3, and 3 * 8 + 6 = 30 is "informational".
    #[test]
    fn the_line_of_dockers_documentation() {
        let tag = ("tag", "{{.ImageName}}/{{.Name}}/{{.ID}}");
        let message = example::message("Hello from Docker.");
        assert_eq!(
            line(&[tag, ("syslog-format", "rfc3164")], &message),
            "<30>Aug  7 18:33:19 HOSTNAME hello-world/foobar/5790672ab6a0[9103]: Hello from Docker.\n"
        );
        assert_eq!(line(&[], &message), "<30>Aug  7 18:33:19 5790672ab6a0[9103]: Hello from Docker.\n");
    }

    #[test]
    fn rfc_5424_with_its_precisions_and_over_tls_its_octet_count() {
        let message = Message { stream: Stream::Stderr, ..example::message("x") };
        let common = [("tag", "web"), ("syslog-facility", "local4")];
        let with = |format: &'static str| [common[0], common[1], ("syslog-format", format)];
        // Local use 4 is facility 20, and RFC 5424's first example has priority 34 = 4 * 8 + 2: here 20 * 8 + 3.
        assert_eq!(line(&with("rfc5424"), &message), "<163>1 2015-08-07T18:33:19Z HOSTNAME web 9103 web - x\n");
        assert_eq!(
            line(&with("rfc5424micro"), &message),
            "<163>1 2015-08-07T18:33:19.250000Z HOSTNAME web 9103 web - x\n"
        );
        let tls = [&with("rfc5424")[..], &[("syslog-address", "tcp+tls://logs:6514")]].concat();
        let counted = line(&tls, &message);
        let (count, rest) = counted.split_once(' ').expect("a count");
        assert_eq!(count.parse(), Ok(rest.len()));
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let text = |pairs: &[(&str, &str)]| settings(pairs).expect_err("bad options").to_string();
        assert!(text(&[("syslog-facility", "loud")]).contains("invalid syslog facility"));
        assert!(text(&[("syslog-facility", "24")]).contains("invalid syslog facility"));
        assert!(text(&[("syslog-format", "json")]).contains("rfc5424micro"));
        assert!(text(&[("syslog-address", "logs")]).contains("proto://address"));
        assert!(text(&[("syslog-tls-cert", "/a")]).contains("syslog-tls-key"));
    }
}
