//! What security groups cost on a full host: `group_scale [INTERFACES] [GROUPS] [RULES] [shared|own]`, as root, in a
//! network namespace of its own that ends with it. Attaches that many interfaces, each with so many groups of so many rules,
//! the same for all of them or each one's own, and prints what the first and the last of them took, what a change of
//! one rule takes then, putting everything back after `flush ruleset`, and detaching one.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws::ec2::{NetworkInterfaceId, SecurityGroupId, VpcNetwork};
use ecs::task_definition::NetworkMode;
use ecs::{ContainerName, TaskId};
use network::{
    Attachment, ContainerRequest, FirewallChange, InterfaceRequest, Request, Settings, Standing, StandingInterface,
};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

struct Scale {
    interfaces: u32,
    groups: u32,
    rules: u32,
    /// Each interface has groups of its own.
    own: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, usual: u32| arguments.get(at).map_or(Ok(usual), |text| text.parse());
    let own = arguments.get(3).is_some_and(|word| word == "own");
    let scale = Scale { interfaces: number(0, 500)?, groups: number(1, 5)?, rules: number(2, 20)?, own };
    let directory = std::env::temp_dir().join(format!("group-scale-{}", std::process::id()));
    // The process has one thread yet, so all of it is in there.
    unshare(CloneFlags::CLONE_NEWNET)?;
    measure(&directory, &scale)?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

fn measure(directory: &Path, scale: &Scale) -> Result<(), Box<dyn Error>> {
    let settings = Settings::new("scale", &directory.join("netns"));
    let mut network = network(scale)?;
    let shared = Arc::new(network.clone());
    let mut attached: Vec<Attachment> = Vec::new();
    for number in 0..scale.interfaces {
        let request = request(scale, number, &shared)?;
        let begin = Instant::now();
        let made = network::attach(&settings, &request)?;
        if number == 0 || number + 1 == scale.interfaces || (number + 1) % 100 == 0 {
            println!("attach {:>5}: {:>9.2?}, nftables {:>9.2?}", number + 1, begin.elapsed(), firewall(&made));
        }
        attached.push(made);
    }
    network.security_groups[0].ingress.pop();
    timed("change of one rule", || network::apply_groups(&settings, &network))?;
    timed("no change", || network::apply_groups(&settings, &network))?;
    let standing: Vec<Standing> =
        attached.iter().zip(0..).map(|(made, number)| standing(scale, number, made)).collect::<Result<_, _>>()?;
    let restore = || network::restore(&settings, &network, &standing, FirewallChange::Removed);
    timed("a look whether all is there", restore)?;
    // As `nft flush ruleset` would.
    network::remove_bridge_and_table(&settings);
    timed("all of it put back", restore)?;
    timed("detach", || network::detach(&settings, &task(0)).into_iter().next().map_or(Ok(true), Err))?;
    for number in 1..scale.interfaces {
        network::detach(&settings, &task(number));
    }
    Ok(())
}

fn timed(what: &str, work: impl Fn() -> Result<bool, network::Error>) -> Result<(), network::Error> {
    let begin = Instant::now();
    let changed = work()?;
    println!("{what}: {:.2?} (changed: {changed})", begin.elapsed());
    Ok(())
}

fn firewall(made: &Attachment) -> Duration {
    made.stages.iter().filter(|stage| stage.name == "nftables").map(|stage| stage.took).sum()
}

fn group_id(number: u32) -> Result<SecurityGroupId, aws::ec2::BadId> {
    SecurityGroupId::try_from(format!("sg-{number:08x}"))
}

fn groups_of(scale: &Scale, number: u32) -> Result<Vec<SecurityGroupId>, aws::ec2::BadId> {
    let first = if scale.own { number * scale.groups } else { 0 };
    (first..first + scale.groups).map(group_id).collect()
}

/// Every kind of rule in turn: ports of a network, of the group's own members, and IPv6.
fn network(scale: &Scale) -> Result<VpcNetwork, Box<dyn Error>> {
    let count = if scale.own { scale.groups * scale.interfaces } else { scale.groups };
    let mut groups = Vec::new();
    for group in 0..count {
        let rule = |number: u32| {
            let peer = match number % 3 {
                0 => json!({ "cidrIpv4": format!("192.0.2.{}/32", number % 256) }),
                1 => json!({ "cidrIpv6": format!("2001:db8::{number:x}/128") }),
                _ => json!({ "referencedGroup": format!("sg-{group:08x}") }),
            };
            let port = 1000 + number;
            json!({ "securityGroupRuleId": format!("sgr-{number:08x}"), "peer": peer,
                    "protocol": { "tcp": { "from": port, "to": port + 1 } } })
        };
        let ingress: Vec<_> = (0..scale.rules).map(rule).collect();
        let egress = json!([{ "securityGroupRuleId": "sgr-ffffffff", "protocol": "all",
                              "peer": { "cidrIpv4": "0.0.0.0/0" } }]);
        groups.push(json!({ "groupId": format!("sg-{group:08x}"), "groupName": format!("g{group}"),
                            "vpcId": "vpc-00000001", "ingress": ingress, "egress": egress }));
    }
    Ok(serde_json::from_value(json!({
        "vpcs": [{ "vpcId": "vpc-00000001", "cidrBlock": "10.0.0.0/16" }],
        "subnets": [{ "subnetId": "subnet-00000001", "vpcId": "vpc-00000001", "cidrBlock": "10.0.0.0/18",
                      "ipv6CidrBlock": "fd00:1::/64", "availabilityZone": "here" }],
        "securityGroups": groups,
    }))?)
}

fn task(number: u32) -> TaskId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    TaskId::from_bytes(bytes)
}

fn request(scale: &Scale, number: u32, network: &Arc<VpcNetwork>) -> Result<Request, Box<dyn Error>> {
    let container = ContainerRequest {
        name: ContainerName::try_from("web".to_owned())?,
        port_mappings: Vec::new(),
        disable_networking: false,
        hostname: None,
        extra_hosts: Vec::new(),
        dns_servers: Vec::new(),
        dns_search_domains: Vec::new(),
        links: Vec::new(),
        runtime_id: "0123456789abcdef".repeat(4),
    };
    let interface = InterfaceRequest {
        network_interface_id: NetworkInterfaceId::from_random(number.into()),
        network: Arc::clone(network),
        subnet: network.subnets[0].subnet_id.clone(),
        security_groups: groups_of(scale, number)?,
        assign_public_ip: false,
        domain: "here.compute.internal".to_owned(),
    };
    let mode = NetworkMode::Awsvpc;
    Ok(Request { task: task(number), mode, containers: vec![container], interface: Some(interface) })
}

fn standing(scale: &Scale, number: u32, made: &Attachment) -> Result<Standing, Box<dyn Error>> {
    let interface = made.interface.as_ref().ok_or("an awsvpc task has an interface")?;
    let interface = StandingInterface {
        host_link: interface.host_link.clone(),
        mac_address: interface.mac_address.clone(),
        private_ipv4_address: interface.private_ipv4_address,
        ipv6_address: interface.ipv6_address,
        public_ipv4_address: interface.public_ipv4_address,
        security_groups: groups_of(scale, number)?,
    };
    Ok(Standing { task: task(number), containers: Vec::new(), interface: Some(interface), is_on_host: false })
}
