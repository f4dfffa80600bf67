//! EC2's operations on a configuration, and files that are applied to one. Words and codes are EC2's
//! (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>).

use aws::ec2::changes::{self, Direction, Uses, Which};
use aws::ec2::defaults::{self, NewIds};
use aws::ec2::input::{self, Surroundings};
use aws::ec2::{
    Code, Error, Peer, RuleProtocol, SecurityGroup, SecurityGroupId, SecurityGroupRule, SecurityGroupRuleId, Subnet,
    SubnetId, Vpc, VpcId, VpcNetwork, WayOut, check,
};
use proptest::prelude::*;

fn sgr(number: u128) -> SecurityGroupRuleId {
    SecurityGroupRuleId::from_random(number)
}

fn start() -> VpcNetwork {
    let ids = NewIds {
        vpc: VpcId::from_random(1),
        subnet: SubnetId::from_random(2),
        group: SecurityGroupId::from_random(3),
        ingress: sgr(4),
        egress: sgr(5),
    };
    defaults::defaults("172.31.0.0/16".parse().expect("a block"), "us-east-1a", ids)
}

fn subnet(number: u128, block: &str) -> Subnet {
    Subnet {
        subnet_id: SubnetId::from_random(number),
        vpc_id: VpcId::from_random(1),
        cidr_block: block.parse().expect("a block"),
        ipv6_cidr_block: None,
        availability_zone: "us-east-1b".to_owned(),
        default_for_az: false,
        way_out: WayOut::Masquerade,
        public_addresses: None,
        slices: Vec::new(),
    }
}

fn group(number: u128, name: &str) -> SecurityGroup {
    SecurityGroup {
        group_id: SecurityGroupId::from_random(number),
        group_name: name.to_owned(),
        description: "for a test".to_owned(),
        vpc_id: VpcId::from_random(1),
        ingress: Vec::new(),
        egress: Vec::new(),
    }
}

fn rule(number: u128, protocol: &str, port: &str, cidr: &str) -> SecurityGroupRule {
    SecurityGroupRule {
        security_group_rule_id: sgr(number),
        protocol: RuleProtocol::read(protocol, Some(port)).expect("a protocol"),
        peer: Peer::read_cidr(cidr).expect("a block"),
        description: String::new(),
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    result.expect_err("it is refused").code
}

#[test]
fn subnets_lie_in_their_vpc_and_apart() {
    let network = start();
    let create = |block: &str| changes::create_subnet(&network, subnet(10, block), sgr(11));
    assert_eq!(create("172.31.16.0/20").expect("there is room").subnets.len(), 2);
    assert_eq!(code(create("172.31.8.0/24")), Code::InvalidSubnetConflict);
    assert_eq!(code(create("10.0.0.0/24")), Code::InvalidSubnetRange);
    assert_eq!(code(create("172.31.16.0/29")), Code::InvalidSubnetRange);
    assert_eq!(code(create("172.31.16.1/24")), Code::InvalidSubnetRange);
    let mut elsewhere = subnet(10, "172.31.16.0/24");
    elsewhere.vpc_id = VpcId::from_random(99);
    assert_eq!(code(changes::create_subnet(&network, elsewhere, sgr(11))), Code::InvalidVpcIdNotFound);
    let mut with_ipv6 = subnet(10, "172.31.16.0/24");
    with_ipv6.ipv6_cidr_block = Some("fd00:1::/64".parse().expect("a block"));
    let changed = changes::create_subnet(&network, with_ipv6.clone(), sgr(11)).expect("it is right");
    assert_eq!(changed.security_groups[0].egress.len(), 2, "IPv6 goes out as IPv4 does");
    with_ipv6.ipv6_cidr_block = Some("fd00:1::/56".parse().expect("a block"));
    assert_eq!(code(changes::create_subnet(&network, with_ipv6, sgr(11))), Code::InvalidSubnetRange);
}

#[test]
fn vpcs_of_a_host_do_not_overlap() {
    let vpc = |number, block: &str| Vpc {
        vpc_id: VpcId::from_random(number),
        cidr_block: block.parse().expect("a block"),
        is_default: false,
    };
    let default = |number: u128| {
        defaults::default_group(VpcId::from_random(number), SecurityGroupId::from_random(number), sgr(90), sgr(91))
    };
    let create = |block| changes::create_vpc(&start(), vpc(50, block), default(50));
    let changed = create("10.1.0.0/16").expect("it is apart");
    assert_eq!(code(create("172.31.128.0/20")), Code::InvalidVpcRange);
    assert_eq!(code(create("10.0.0.0/8")), Code::InvalidVpcRange);
    assert_eq!(code(create("127.0.0.0/16")), Code::InvalidVpcRange);
    assert_eq!(changes::delete_vpc(&changed, "10.1.0.0/16").expect("nothing is in it"), start());
    assert_eq!(code(changes::delete_vpc(&changed, "172.31.0.0/16")), Code::DependencyViolation);
}

#[test]
fn what_is_in_use_stays() {
    let network = start();
    let network = changes::create_group(&network, group(20, "web")).expect("new");
    let (web, default) = (SecurityGroupId::from_random(20), SecurityGroupId::from_random(3));
    let uses = Uses {
        subnets: vec![(SubnetId::from_random(2), "task 1".to_owned())],
        groups: vec![(web.clone(), "task 1".to_owned())],
        starting: None,
    };
    let refused = changes::delete_subnet(&network, "172.31.0.0/20", &uses).expect_err("a task is in it");
    assert_eq!(refused.code, Code::DependencyViolation);
    assert!(refused.message.starts_with("The subnet 'subnet-00000000000000002' has dependencies"), "{refused}");
    assert_eq!(code(changes::delete_group(&network, &web, &uses)), Code::DependencyViolation);
    assert_eq!(code(changes::delete_group(&network, &default, &Uses::default())), Code::CannotDelete);
    assert_eq!(code(changes::delete_subnet(&network, "subnet-none", &uses)), Code::InvalidSubnetIdNotFound);
    let pruned = apply(&network, "", true).expect("right");
    assert_eq!(code(changes::keeps_uses(&network, &pruned, &uses)), Code::DependencyViolation);
    let starting = Uses { starting: Some("task 2".to_owned()), ..Uses::default() };
    assert_eq!(code(changes::delete_group(&network, &web, &starting)), Code::DependencyViolation);
    // A reference from another group, and none from itself.
    let mut reference = rule(30, "tcp", "80", "10.0.0.0/8");
    reference.peer = Peer::ReferencedGroup(web.clone());
    let referred =
        changes::authorize(&network, &default, Direction::Ingress, vec![reference.clone()]).expect("it is right");
    assert_eq!(code(changes::delete_group(&referred, &web, &Uses::default())), Code::DependencyViolation);
    let itself = changes::authorize(&network, &web, Direction::Ingress, vec![reference]).expect("it is right");
    assert_eq!(changes::delete_group(&itself, &web, &Uses::default()).expect("only itself").security_groups.len(), 1);
}

#[test]
fn group_names_are_ec2s() {
    let network = changes::create_group(&start(), group(20, "web")).expect("new");
    let create = |name: &str| changes::create_group(&network, group(21, name));
    for good in ["db", "web 2 (blue)", "Web"] {
        create(good).expect(good);
    }
    assert_eq!(code(create("web")), Code::InvalidGroupDuplicate);
    let reserved = create("sg-web").expect_err("reserved");
    assert_eq!(reserved.message, "Invalid value 'sg-web' for groupName. Group names may not be in the format sg-*.");
    assert_eq!(create("default").expect_err("reserved").message, "Cannot use reserved security group name: default");
    for bad in ["", " x", "naïve", "a\nb", &"x".repeat(256)] {
        assert_eq!(code(create(bad)), Code::InvalidParameterValue, "{bad:?}");
    }
}

#[test]
fn rules_are_added_once_and_taken_away() {
    let group_id = SecurityGroupId::from_random(3);
    let add = |network: &VpcNetwork, rules| changes::authorize(network, &group_id, Direction::Ingress, rules);
    let network = add(&start(), vec![rule(30, "tcp", "80", "0.0.0.0/0"), rule(31, "icmp", "8-0", "10.0.0.0/8")]);
    let network = network.expect("they are right");
    let twice = add(&network, vec![rule(32, "tcp", "80", "0.0.0.0/0")]).expect_err("it is there");
    assert_eq!(
        twice.to_string(),
        "InvalidPermission.Duplicate: the specified rule \"peer: 0.0.0.0/0, TCP, from port: 80, to port: 80, ALLOW\" \
         already exists"
    );
    let many = (0..60u32).map(|port| rule(100 + u128::from(port), "udp", &port.to_string(), "10.0.0.0/8")).collect();
    assert_eq!(code(add(&network, many)), Code::RulesPerSecurityGroupLimitExceeded);
    assert_eq!(code(add(&network, vec![rule(33, "icmp", "8", "::/0")])), Code::InvalidParameterValue);
    let mut stranger = rule(34, "tcp", "80", "10.0.0.0/8");
    stranger.peer = Peer::ReferencedGroup(SecurityGroupId::from_random(77));
    assert_eq!(code(add(&network, vec![stranger])), Code::InvalidGroupNotFound);
    let take = |which: Which| changes::revoke(&network, &group_id, Direction::Ingress, &[which]);
    let wanted = rule(0, "tcp", "80", "0.0.0.0/0");
    let taken = take(Which::Rule { protocol: wanted.protocol, peer: wanted.peer.clone() }).expect("it is there");
    assert_eq!(taken.security_groups[0].ingress.len(), 2);
    assert_eq!(take(Which::Id(sgr(31))).expect("it is there").security_groups[0].ingress.len(), 2);
    let other = Which::Rule { protocol: RuleProtocol::All, peer: wanted.peer };
    assert_eq!(code(take(other)), Code::InvalidPermissionNotFound);
    assert_eq!(code(take(Which::Id(sgr(99)))), Code::InvalidSecurityGroupRuleIdNotFound);
    let nobody = SecurityGroupId::from_random(98);
    assert_eq!(code(changes::authorize(&network, &nobody, Direction::Egress, Vec::new())), Code::InvalidGroupNotFound);
}

const FILE: &str = r#"
[[vpcs]]
cidrBlock = "10.1.0.0/16"

[[subnets]]
cidrBlock = "10.1.1.0/24"
defaultForAz = true
wayOut = "routed"

[[securityGroups]]
groupName = "web"
ingress = [{ protocol = "tcp", ports = 80, cidr = "0.0.0.0/0" }, { protocol = "tcp", ports = "9000-9010", group = "db" }]

[[securityGroups]]
groupName = "db"
description = "only from web"
ingress = [{ protocol = "tcp", ports = 5432, group = "web" }]
egress = []
"#;

fn apply(network: &VpcNetwork, text: &str, prune: bool) -> Result<VpcNetwork, String> {
    let file = input::read(text).map_err(|error| error.to_string())?;
    let mut next = 1000 + network.security_groups.len() as u128 * 1000;
    let mut random = || {
        next += 1;
        next
    };
    let mut around = Surroundings { availability_zone: "us-east-1a", random: &mut random, prune };
    input::apply(network, &file, &mut around).map_err(|problem| format!("{problem}: {}", problem.error))
}

#[test]
fn a_file_is_applied_once() {
    let network = apply(&VpcNetwork::default(), FILE, false).expect("the file is right");
    assert_eq!(apply(&network, FILE, false).expect("once more"), network);
    assert!(network.vpcs[0].is_default && network.default_group(&network.vpcs[0].vpc_id).is_some());
    let web = network.find_group(None, "web").expect("made");
    let db = network.find_group(None, "db").expect("made");
    assert_eq!(db.ingress[0].peer, Peer::ReferencedGroup(web.group_id.clone()));
    assert_eq!((web.ingress.len(), web.egress.len(), db.egress.len()), (2, 1, 0));
    let opened = FILE.replace("ports = 80,", "ports = 443,");
    let changed = apply(&network, &opened, false).expect("the file is right");
    let said = input::differences(&network, &changed);
    assert_eq!(said, [format!("security group web ({}) changed", web.group_id)]);
    // What is not mentioned stays, unless it is pruned.
    let less = "[[subnets]]\ncidrBlock = \"10.1.2.0/24\"\n";
    assert_eq!(apply(&network, less, false).expect("right").subnets.len(), 2);
    let pruned = apply(&network, less, true).expect("right");
    assert_eq!((pruned.subnets.len(), pruned.security_groups.len()), (1, 1));
}

#[test]
fn a_file_moves_the_defaults() {
    let text = r#"
        vpcs = [{ cidrBlock = "10.1.0.0/16", isDefault = true }]
        subnets = [{ cidrBlock = "10.1.1.0/24", defaultForAz = true }, { cidrBlock = "172.31.16.0/24", defaultForAz = true }]
    "#;
    let moved = apply(&start(), text, false).expect("both can be moved");
    assert_eq!(moved.default_vpc().expect("there is one").cidr_block.to_string(), "10.1.0.0/16");
    let defaults =
        moved.subnets.iter().filter(|subnet| subnet.default_for_az).map(|subnet| subnet.cidr_block.to_string());
    assert_eq!(defaults.collect::<Vec<_>>(), ["10.1.1.0/24", "172.31.16.0/24"]);
    assert_eq!(apply(&moved, text, false).expect("once more"), moved);
}

#[test]
fn json_says_the_same_and_mistakes_are_named_by_their_path() {
    let json = r#"{"vpcs": [{"cidrBlock": "10.1.0.0/16"}], "subnets": [{"cidrBlock": "10.1.1.0/24"}]}"#;
    assert_eq!(apply(&VpcNetwork::default(), json, false).expect("right").subnets.len(), 1);
    let cases = [
        (r#"{"subnets": [{"cidrBlock": "10.1.1.0/24", "zone": "x"}]}"#, "subnets[0].zone: unknown field `zone`"),
        (r#"{"subnets": [{"cidrBlock": "10.1.1.0/24"}]}"#, "subnets[0].cidrBlock: InvalidSubnet.Range"),
        (r#"{"vpcs": [{"cidrBlock": "10.1.0.0"}, {}]}"#, "vpcs[1]: missing field `cidrBlock`"),
        ("[[subnets]]\ncidrBlock = \"10.1.1.0/24\"\nwayout = \"none\"", "subnets[0].wayout: unknown field"),
        ("[[subnets]\n", "TOML parse error at line 1"),
        ("{", "EOF"),
        (
            "[[vpcs]]\ncidrBlock = \"10.1.0.0/16\"\n[[securityGroups]]\ngroupName = \"a\"\ningress = [{ ports = 1 }]",
            "securityGroups[0].ingress[0]: InvalidParameterValue",
        ),
        (
            "[[vpcs]]\ncidrBlock = \"10.1.0.0/16\"\n[[securityGroups]]\ngroupName = \"a\"\ningress = [{ group = \"b\" }]",
            "securityGroups[0].ingress[0]: InvalidGroup.NotFound",
        ),
    ];
    for (text, expected) in cases {
        let refused = apply(&VpcNetwork::default(), text, false).expect_err(text);
        assert!(refused.contains(expected), "{text}\n{refused}");
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Subnet { third: u8, prefix: u8 },
    DeleteSubnet(u8),
    Group { name: u8 },
    DeleteGroup(u8),
    Authorize { group: u8, port: u8, from: Option<u8> },
    Revoke { group: u8, port: u8 },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (any::<u8>(), 14u8..31).prop_map(|(third, prefix)| Operation::Subnet { third, prefix }),
        (0u8..8).prop_map(Operation::DeleteSubnet),
        (0u8..6).prop_map(|name| Operation::Group { name }),
        (0u8..6).prop_map(Operation::DeleteGroup),
        (0u8..6, 0u8..3, proptest::option::of(0u8..6)).prop_map(|(group, port, from)| Operation::Authorize {
            group,
            port,
            from
        }),
        (0u8..6, 0u8..3).prop_map(|(group, port)| Operation::Revoke { group, port }),
    ]
}

fn carry_out(network: &VpcNetwork, operation: &Operation, number: u128) -> Result<VpcNetwork, Error> {
    let named = |at: u8| network.security_groups[usize::from(at) % network.security_groups.len()].group_id.clone();
    let cidr = Peer::read_cidr("10.0.0.0/8")?;
    let tcp = |port: u8| RuleProtocol::read("tcp", Some(&port.to_string()));
    match operation {
        Operation::Subnet { third, prefix } => {
            let address = std::net::Ipv4Addr::new(172, 31, *third, 0);
            let block = ipnetwork::Ipv4Network::new(address, *prefix).expect("a prefix");
            let block = ipnetwork::Ipv4Network::new(block.network(), *prefix).expect("a prefix");
            let new = Subnet { cidr_block: block, ..subnet(number, "172.31.16.0/24") };
            changes::create_subnet(network, new, sgr(number + 1))
        }
        Operation::DeleteSubnet(at) => {
            let all = &network.subnets;
            let given = all.get(usize::from(*at) % all.len().max(1)).map(|subnet| subnet.subnet_id.to_string());
            changes::delete_subnet(network, &given.unwrap_or_default(), &Uses::default())
        }
        Operation::Group { name } => changes::create_group(network, group(number, &format!("group {name}"))),
        Operation::DeleteGroup(at) => changes::delete_group(network, &named(*at), &Uses::default()),
        Operation::Authorize { group, port, from } => {
            let new = SecurityGroupRule {
                security_group_rule_id: sgr(number),
                protocol: tcp(*port)?,
                peer: from.map_or(cidr, |from| Peer::ReferencedGroup(named(from))),
                description: String::new(),
            };
            changes::authorize(network, &named(*group), Direction::Ingress, vec![new])
        }
        Operation::Revoke { group, port } => {
            let which = Which::Rule { protocol: tcp(*port)?, peer: cidr };
            changes::revoke(network, &named(*group), Direction::Ingress, &[which])
        }
    }
}

proptest! {
    /// Whatever is done, the configuration stays one that can be carried out, and its file can be read again.
    #[test]
    fn every_operation_leaves_a_right_configuration(operations in proptest::collection::vec(operation(), 0..40)) {
        let mut network = start();
        for (step, operation) in operations.iter().enumerate() {
            if let Ok(changed) = carry_out(&network, operation, 100 + 10 * step as u128) {
                network = changed;
            }
            prop_assert_eq!(check(&network), Ok(()));
        }
        let text = serde_json::to_string(&network).expect("plain data");
        let read: VpcNetwork = serde_json::from_str(&text).expect("it was written by us");
        prop_assert_eq!(read, network);
    }
}
