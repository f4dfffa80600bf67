//! Rules as the AWS CLI takes and shows them: `--protocol tcp --port 80-90 --cidr 10.0.0.0/8`
//! (<https://docs.aws.amazon.com/cli/latest/reference/ec2/authorize-security-group-ingress.html>).

use std::fmt;

use super::{Code, Error, Peer, PortRange, RuleProtocol};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

fn malformed(what: String) -> Error {
    Error::new(Code::InvalidParameterValue, what)
}

impl RuleProtocol {
    /// `protocol`: a name, a number, or -1 or all for everything. `port`: a port, a range, or -1 or all; of ICMP a type, or
    /// a type and a code as `8-0`. TCP and UDP want one.
    pub fn read(protocol: &str, port: Option<&str>) -> Result<RuleProtocol, Error> {
        let port = port.map(str::trim).filter(|port| !matches!(*port, "-1" | "all" | ""));
        let given = protocol.to_ascii_lowercase();
        let number = given.parse::<u8>().ok();
        match (given.as_str(), number) {
            ("tcp", _) | (_, Some(TCP)) => Ok(RuleProtocol::Tcp(ports(port)?)),
            ("udp", _) | (_, Some(UDP)) => Ok(RuleProtocol::Udp(ports(port)?)),
            ("icmp", _) | (_, Some(ICMP)) => icmp(port).map(|(icmp_type, code)| RuleProtocol::Icmp { icmp_type, code }),
            ("icmpv6", _) | (_, Some(ICMPV6)) => {
                icmp(port).map(|(icmp_type, code)| RuleProtocol::Icmpv6 { icmp_type, code })
            }
            ("-1" | "all", _) => without_ports(port, RuleProtocol::All),
            (_, Some(number)) => without_ports(port, RuleProtocol::Number(number)),
            (_, None) => Err(malformed(format!(
                "Invalid value '{protocol}' for IP protocol. Unknown protocol: it is tcp, udp, icmp, icmpv6, a number, or all."
            ))),
        }
    }

    /// EC2's `ipProtocol`.
    pub fn name(&self) -> String {
        match self {
            RuleProtocol::All => "-1".to_owned(),
            RuleProtocol::Tcp(_) => "tcp".to_owned(),
            RuleProtocol::Udp(_) => "udp".to_owned(),
            RuleProtocol::Icmp { .. } => "icmp".to_owned(),
            RuleProtocol::Icmpv6 { .. } => "icmpv6".to_owned(),
            RuleProtocol::Number(number) => number.to_string(),
        }
    }

    /// EC2's `fromPort` and `toPort`: -1 for all types or codes of ICMP.
    pub fn from_and_to(&self) -> Option<(i32, i32)> {
        let or_all = |number: Option<u8>| number.map_or(-1, i32::from);
        match *self {
            RuleProtocol::All | RuleProtocol::Number(_) => None,
            RuleProtocol::Tcp(ports) | RuleProtocol::Udp(ports) => Some((ports.from.into(), ports.to.into())),
            RuleProtocol::Icmp { icmp_type, code } | RuleProtocol::Icmpv6 { icmp_type, code } => {
                Some((or_all(icmp_type), or_all(code)))
            }
        }
    }

    /// For people: `80`, `80-90`, `all`, `type 8 code 0`.
    pub fn ports_text(&self) -> String {
        match *self {
            RuleProtocol::All | RuleProtocol::Number(_) => "all".to_owned(),
            RuleProtocol::Tcp(PortRange { from: 0, to: u16::MAX })
            | RuleProtocol::Udp(PortRange { from: 0, to: u16::MAX }) => "all".to_owned(),
            RuleProtocol::Tcp(PortRange { from, to }) | RuleProtocol::Udp(PortRange { from, to }) => {
                if from == to {
                    from.to_string()
                } else {
                    format!("{from}-{to}")
                }
            }
            RuleProtocol::Icmp { icmp_type, code } | RuleProtocol::Icmpv6 { icmp_type, code } => {
                match (icmp_type, code) {
                    (None, _) => "all".to_owned(),
                    (Some(icmp_type), None) => format!("type {icmp_type}"),
                    (Some(icmp_type), Some(code)) => format!("type {icmp_type} code {code}"),
                }
            }
        }
    }
}

fn without_ports(port: Option<&str>, protocol: RuleProtocol) -> Result<RuleProtocol, Error> {
    match port {
        None => Ok(protocol),
        Some(port) => Err(malformed(format!("'{port}': this protocol has no ports, so a rule allows all of it"))),
    }
}

fn ports(port: Option<&str>) -> Result<PortRange, Error> {
    let Some(text) = port else { return Ok(PortRange { from: 0, to: u16::MAX }) };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let wrong =
        || malformed(format!("'{text}' is neither a port, such as 80, nor a range, such as 8000-8010, nor all"));
    let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse::<u16>().map_err(|_| wrong()),
        false => Err(wrong()),
    };
    let (from, to) = (number(from)?, number(to)?);
    if from > to {
        return Err(malformed(format!("Invalid TCP/UDP port range ({from}:{to})")));
    }
    Ok(PortRange { from, to })
}

fn icmp(port: Option<&str>) -> Result<(Option<u8>, Option<u8>), Error> {
    let Some(text) = port else { return Ok((None, None)) };
    let wrong =
        || malformed(format!("'{text}' is neither a type of ICMP, such as 8, nor a type and a code, such as 3-4"));
    let (icmp_type, code) = text.split_once('-').map_or((text, None), |(icmp_type, code)| (icmp_type, Some(code)));
    let icmp_type = icmp_type.parse::<u8>().map_err(|_| wrong())?;
    // `8--1` is every code of type 8, as EC2 writes it.
    let code = code.filter(|code| *code != "-1").map(|code| code.parse::<u8>().map_err(|_| wrong())).transpose()?;
    Ok((Some(icmp_type), code))
}

impl Peer {
    /// A block, or one address.
    pub fn read_cidr(text: &str) -> Result<Peer, Error> {
        let wrong = || malformed(format!("CIDR block {text} is malformed"));
        match text.parse::<ipnetwork::IpNetwork>().map_err(|_| wrong())? {
            ipnetwork::IpNetwork::V4(network) if network.ip() == network.network() => Ok(Peer::CidrIpv4(network)),
            ipnetwork::IpNetwork::V6(network) if network.ip() == network.network() => Ok(Peer::CidrIpv6(network)),
            ipnetwork::IpNetwork::V4(network) => Err(host_bits(text, &network.network(), network.prefix())),
            ipnetwork::IpNetwork::V6(network) => Err(host_bits(text, &network.network(), network.prefix())),
        }
    }
}

fn host_bits(text: &str, network: &dyn fmt::Display, prefix: u8) -> Error {
    malformed(format!("CIDR block {text} is not the block's first address; it would be {network}/{prefix}"))
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::CidrIpv4(network) => network.fmt(out),
            Peer::CidrIpv6(network) => network.fmt(out),
            Peer::ReferencedGroup(group) => group.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_and_ports_are_the_aws_clis() {
        let read = |protocol, port| RuleProtocol::read(protocol, port).map_err(|error| error.message);
        assert_eq!(read("tcp", Some("80")), Ok(RuleProtocol::Tcp(PortRange { from: 80, to: 80 })));
        assert_eq!(read("17", Some("1-9")), Ok(RuleProtocol::Udp(PortRange { from: 1, to: 9 })));
        assert_eq!(read("TCP", None), Ok(RuleProtocol::Tcp(PortRange { from: 0, to: 65535 })));
        assert_eq!(read("icmp", Some("8")), Ok(RuleProtocol::Icmp { icmp_type: Some(8), code: None }));
        assert_eq!(read("icmp", Some("3-4")), Ok(RuleProtocol::Icmp { icmp_type: Some(3), code: Some(4) }));
        assert_eq!(read("58", Some("-1")), Ok(RuleProtocol::Icmpv6 { icmp_type: None, code: None }));
        assert_eq!(read("-1", None), Ok(RuleProtocol::All));
        assert_eq!(read("50", Some("all")), Ok(RuleProtocol::Number(50)));
        for (protocol, port) in [
            ("tcp", "80-"),
            ("tcp", "90-80"),
            ("tcp", "+8"),
            ("tcp", "65536"),
            ("icmp", "256"),
            ("50", "1"),
            ("x", "1"),
        ] {
            assert!(read(protocol, Some(port)).is_err(), "{protocol} {port}");
        }
        assert_eq!(read("tcp", Some("8000-8010")).expect("a range").ports_text(), "8000-8010");
        assert_eq!(read("icmp", Some("3-4")).expect("a type").from_and_to(), Some((3, 4)));
    }

    #[test]
    fn a_block_begins_where_it_says() {
        assert_eq!(Peer::read_cidr("10.0.0.0/8").expect("a block").to_string(), "10.0.0.0/8");
        assert_eq!(Peer::read_cidr("10.0.0.1").expect("an address").to_string(), "10.0.0.1/32");
        assert_eq!(Peer::read_cidr("::/0").expect("a block").to_string(), "::/0");
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "ten", ""] {
            assert!(Peer::read_cidr(bad).is_err(), "{bad}");
        }
    }
}
