//! Requests in, plans or refusals out.

use ecs::task_definition::TransportProtocol::{Tcp, Udp};
use proptest::prelude::*;

use super::*;

fn container_asking(port_mappings: Vec<PortMapping>) -> ContainerRequest {
    ContainerRequest {
        name: ContainerName::try_from("web".to_owned()).unwrap(),
        port_mappings,
        disable_networking: false,
        hostname: None,
        extra_hosts: Vec::new(),
        dns_servers: Vec::new(),
        dns_search_domains: Vec::new(),
        links: Vec::new(),
        runtime_id: "0123456789abcdef".repeat(4),
    }
}

fn request(mode: NetworkMode, containers: Vec<ContainerRequest>) -> Request {
    Request { task: TaskId::from_bytes([1; 16]), mode, containers, interface: None }
}

fn plan_json(mode: NetworkMode, mappings: &str) -> Result<NetworkPlan, String> {
    let mappings: Vec<PortMapping> = serde_json::from_str(mappings).unwrap();
    plan(&request(mode, vec![container_asking(mappings)])).map_err(|refusal| refusal.to_string())
}

fn published(mappings: &str) -> Vec<Publish> {
    let plan = plan_json(NetworkMode::Bridge, mappings).unwrap();
    match &plan.containers[0].place {
        Place::Bridge { publish } => publish.clone(),
        other => panic!("{other:?}"),
    }
}

fn one(protocol: TransportProtocol, port: u16) -> Ports {
    Ports { protocol, first: port, last: port, is_range: false }
}

#[test]
fn mappings_are_static_dynamic_or_ranges() {
    let found = published(
        r#"[{"containerPort":80,"hostPort":8080},{"containerPort":53,"hostPort":0,"protocol":"udp"},
            {"containerPort":81},{"containerPortRange":"9000-9004"}]"#,
    );
    let range = Ports { protocol: Tcp, first: 9000, last: 9004, is_range: true };
    let expected = [
        Publish { container: one(Tcp, 80), host: HostPort::Static(8080) },
        Publish { container: one(Udp, 53), host: HostPort::Dynamic },
        Publish { container: one(Tcp, 81), host: HostPort::Dynamic },
        Publish { container: range, host: HostPort::Dynamic },
    ];
    assert_eq!(found, expected);
}

#[test]
fn bad_mappings_are_refused_by_field() {
    let cases = [
        (r#"[{}]"#, "portMappings[0]"),
        (r#"[{"containerPort":0}]"#, "portMappings[0]"),
        (r#"[{"containerPort":1},{"containerPort":80,"containerPortRange":"1-2"}]"#, "portMappings[1]"),
        (r#"[{"containerPortRange":"1-2","hostPort":5}]"#, "portMappings[0].hostPort"),
        (r#"[{"containerPortRange":"2-1"}]"#, "portMappings[0].containerPortRange"),
        (r#"[{"containerPortRange":"0-1"}]"#, "portMappings[0].containerPortRange"),
        (r#"[{"containerPortRange":"1-65536"}]"#, "portMappings[0].containerPortRange"),
        (r#"[{"containerPortRange":"+1-2"}]"#, "portMappings[0].containerPortRange"),
        (r#"[{"containerPortRange":"80"}]"#, "portMappings[0].containerPortRange"),
    ];
    for (mappings, field) in cases {
        let said = plan_json(NetworkMode::Bridge, mappings).unwrap_err();
        assert!(said.starts_with(&format!("container web: {field}: ")), "{mappings} gave {said}");
    }
}

#[test]
fn one_port_cannot_be_published_twice_but_once_a_protocol() {
    let said =
        plan_json(NetworkMode::Bridge, r#"[{"containerPort":80,"hostPort":80},{"containerPort":81,"hostPort":80}]"#);
    assert!(said.unwrap_err().contains("tcp host port 80 twice"));
    let both = r#"[{"containerPort":53,"hostPort":53},{"containerPort":53,"hostPort":53,"protocol":"udp"}]"#;
    assert!(plan_json(NetworkMode::Bridge, both).is_ok());
}

#[test]
fn the_number_of_ports_has_a_limit() {
    assert!(plan_json(NetworkMode::Bridge, r#"[{"containerPortRange":"1001-1200"}]"#).is_ok());
    let said = plan_json(NetworkMode::Bridge, r#"[{"containerPortRange":"1000-1200"}]"#).unwrap_err();
    assert_eq!(said, "the task publishes 201 ports; at most 200 are possible");
}

#[test]
fn host_mode_maps_a_port_to_itself() {
    assert!(plan_json(NetworkMode::Host, r#"[{"containerPort":80,"hostPort":80},{"containerPort":81}]"#).is_ok());
    let said = plan_json(NetworkMode::Host, r#"[{"containerPort":80,"hostPort":8080}]"#).unwrap_err();
    assert!(said.contains("portMappings[0].hostPort") && said.contains("80"), "{said}");
}

#[test]
fn none_has_no_ports() {
    assert!(plan_json(NetworkMode::None, r#"[{"containerPort":80}]"#).unwrap_err().contains("portMappings"));
}

/// What `10.0.1.0/24` is configured as, with members that a test replaces.
fn vpc(subnet: serde_json::Value) -> VpcNetwork {
    let mut network = serde_json::json!({
        "vpcs": [{"vpcId": "vpc-00000001", "cidrBlock": "10.0.0.0/16"}],
        "subnets": [{
            "subnetId": "subnet-00000001", "vpcId": "vpc-00000001", "cidrBlock": "10.0.1.0/24",
            "ipv6CidrBlock": "fd00:1::/64", "availabilityZone": "here",
        }],
        "securityGroups": [
            {"groupId": "sg-00000001", "groupName": "default", "vpcId": "vpc-00000001"},
            {"groupId": "sg-0000000f", "groupName": "default", "vpcId": "vpc-0000000f"},
        ],
        "overlay": {"thisHost": "a", "hosts": []},
    });
    for (name, value) in subnet.as_object().unwrap() {
        network["subnets"][0][name] = value.clone();
    }
    serde_json::from_value(network).unwrap()
}

fn interface(network: VpcNetwork) -> InterfaceRequest {
    InterfaceRequest {
        network_interface_id: NetworkInterfaceId::from_random(5),
        network: Arc::new(network),
        subnet: SubnetId::try_from("subnet-00000001".to_owned()).unwrap(),
        security_groups: vec![group("sg-00000001")],
        assign_public_ip: false,
        domain: "eu-central-1.compute.internal".into(),
    }
}

fn group(id: &str) -> SecurityGroupId {
    SecurityGroupId::try_from(id.to_owned()).unwrap()
}

fn plan_interface(
    interface: Option<InterfaceRequest>,
    containers: Vec<ContainerRequest>,
) -> Result<NetworkPlan, String> {
    let request = Request { interface, ..request(NetworkMode::Awsvpc, containers) };
    plan(&request).map_err(|refusal| refusal.to_string())
}

#[test]
fn an_awsvpc_task_has_one_interface_for_all_its_containers() {
    let off = ContainerRequest { disable_networking: true, ..container_asking(Vec::new()) };
    let mappings = r#"[{"containerPort":80,"hostPort":80},{"containerPort":81},{"containerPortRange":"9000-9004"}]"#;
    let web = container_asking(serde_json::from_str(mappings).unwrap());
    let planned = plan_interface(Some(interface(vpc(serde_json::json!({})))), vec![web, off]).unwrap();
    let places: Vec<_> = planned.containers.iter().map(|container| container.place.clone()).collect();
    assert_eq!(places, [Place::Interface, Place::Loopback]);
    let interface = planned.interface.unwrap();
    let address = std::net::Ipv4Addr::new(10, 0, 1, 5);
    assert_eq!(interface.private_dns_name(address), "ip-10-0-1-5.eu-central-1.compute.internal");
    assert_eq!(interface.ipv6(address), Some("fd00:1::a00:105".parse().unwrap()));
    assert_eq!(interface.gateway(), std::net::Ipv4Addr::new(10, 0, 1, 1));
    // 256 less the first four and the last.
    assert_eq!(interface.candidates(9).count(), 251);
}

#[test]
fn interfaces_that_cannot_be_are_refused_by_field() {
    use serde_json::json;
    let web = || vec![container_asking(Vec::new())];
    let base = || interface(vpc(json!({})));
    let six = vec![group("sg-00000001"); 6];
    let elsewhere = SubnetId::try_from("subnet-0000000f".to_owned()).unwrap();
    let slices = json!([{"host": "b", "cidrBlock": "10.0.1.0/25"}]);
    let outside = json!([{"host": "a", "cidrBlock": "10.0.2.0/25"}]);
    let public = json!({"interface": "eth0", "first": "192.0.2.9", "last": "192.0.2.8"});
    let cases = [
        (
            InterfaceRequest { subnet: elsewhere, ..base() },
            "subnets[0]: the subnet ID 'subnet-0000000f' does not exist",
        ),
        (InterfaceRequest { security_groups: six, ..base() }, "securityGroups: "),
        (InterfaceRequest { security_groups: Vec::new(), ..base() }, "securityGroups: "),
        (
            InterfaceRequest { security_groups: vec![group("sg-00000001"), group("sg-00000002")], ..base() },
            "securityGroups[1]: the security group 'sg-00000002' does not exist",
        ),
        (
            InterfaceRequest { security_groups: vec![group("sg-0000000f")], ..base() },
            "securityGroups[0]: sg-0000000f is in vpc-0000000f",
        ),
        (InterfaceRequest { assign_public_ip: true, ..base() }, "assignPublicIp: "),
        (
            InterfaceRequest { assign_public_ip: true, ..interface(vpc(json!({"publicAddresses": public}))) },
            "assignPublicIp: the public addresses of subnet-00000001 end",
        ),
        (interface(vpc(json!({"slices": slices}))), "subnets[0]: no slice"),
        (interface(vpc(json!({"slices": outside}))), "subnets[0]: slice 10.0.2.0/25 does not lie"),
        (interface(vpc(json!({"ipv6CidrBlock": "fd00:1::/112"}))), "subnets[0]: the IPv6 block"),
    ];
    for (asked, said) in cases {
        let found = plan_interface(Some(asked), web()).unwrap_err();
        assert!(found.starts_with(&format!("networkConfiguration.awsvpcConfiguration.{said}")), "{said}: {found}");
    }
    // Amazon's words, from ecs-agent's and moto's tests of RunTask.
    let said = "Network Configuration must be provided when networkMode 'awsvpc' is specified.";
    assert_eq!(plan_interface(None, web()).unwrap_err(), said);
    let off = ContainerRequest { disable_networking: true, ..container_asking(Vec::new()) };
    assert!(plan_interface(Some(base()), vec![off]).unwrap_err().contains("networkMode none"));
}

#[test]
fn what_an_awsvpc_container_cannot_have_is_refused_by_field() {
    let base = || container_asking(Vec::new());
    let mapping = serde_json::from_str(r#"[{"containerPort":80,"hostPort":8080}]"#).unwrap();
    let entry = HostEntry { hostname: "db".into(), ip_address: "192.0.2.1".into() };
    let cases = [
        (ContainerRequest { hostname: Some("web".into()), ..base() }, "hostname"),
        (ContainerRequest { links: vec!["db".into()], ..base() }, "links"),
        (ContainerRequest { extra_hosts: vec![entry], ..base() }, "extraHosts"),
        (container_asking(mapping), "portMappings[0].hostPort"),
        (ContainerRequest { dns_servers: vec!["x".into()], ..base() }, "dnsServers[0]"),
    ];
    for (container, field) in cases {
        let said = plan_interface(Some(interface(vpc(serde_json::json!({})))), vec![container]).unwrap_err();
        assert!(said.starts_with(&format!("container web: {field}: ")), "{field}: {said}");
    }
}

#[test]
fn a_host_gives_out_its_own_part_of_a_subnet_that_spans_hosts() {
    let slices = serde_json::json!([
        {"host": "b", "cidrBlock": "10.0.1.128/25"}, {"host": "a", "cidrBlock": "10.0.1.0/26"},
    ]);
    let planned =
        plan_interface(Some(interface(vpc(serde_json::json!({"slices": slices})))), vec![container_asking(Vec::new())]);
    let all: Vec<_> = planned.unwrap().interface.unwrap().candidates(0).collect();
    assert_eq!((all.len(), all[0].octets(), all[59].octets()), (60, [10, 0, 1, 4], [10, 0, 1, 63]));
}

#[test]
fn names_that_would_break_a_file_are_refused() {
    let entry = |hostname: &str, address: &str| HostEntry { hostname: hostname.into(), ip_address: address.into() };
    let base = || container_asking(Vec::new());
    let cases = [
        (ContainerRequest { hostname: Some("a\nb".into()), ..base() }, "hostname"),
        (ContainerRequest { hostname: Some(String::new()), ..base() }, "hostname"),
        (ContainerRequest { extra_hosts: vec![entry("a b", "1.2.3.4")], ..base() }, "extraHosts[0].hostname"),
        (ContainerRequest { extra_hosts: vec![entry("a", "1.2.3")], ..base() }, "extraHosts[0].ipAddress"),
        (ContainerRequest { dns_servers: vec!["1.1.1.1\noptions x".into()], ..base() }, "dnsServers[0]"),
        (ContainerRequest { dns_search_domains: vec!["a".into(), "b\tc".into()], ..base() }, "dnsSearchDomains[1]"),
    ];
    for (container, field) in cases {
        for mode in [NetworkMode::Bridge, NetworkMode::Host, NetworkMode::None] {
            let said = plan(&request(mode, vec![container.clone()])).unwrap_err().to_string();
            assert!(said.starts_with(&format!("container web: {field}: ")), "{said}");
        }
    }
}

#[test]
fn extra_hosts_are_addresses_or_the_gateway() {
    let mut asked = container_asking(Vec::new());
    asked.extra_hosts = serde_json::from_str(
        r#"[{"hostname":"db","ipAddress":"fd00::1"},{"hostname":"up","ipAddress":"host-gateway"}]"#,
    )
    .unwrap();
    asked.dns_search_domains = vec![".".into(), "corp.example.".into()];
    let plan = plan(&request(NetworkMode::Bridge, vec![asked])).unwrap();
    let addresses: Vec<_> = plan.containers[0].extra_hosts.iter().map(|host| host.address).collect();
    assert_eq!(addresses, [ExtraAddress::Given("fd00::1".parse().unwrap()), ExtraAddress::HostGateway]);
    assert_eq!(plan.containers[0].hostname.as_deref(), Some("0123456789ab"));
}

/// Three containers, the n-th of which has the n-th links.
fn linked(mode: NetworkMode, links: [&[&str]; 3]) -> Result<NetworkPlan, String> {
    let named = |(place, name): (usize, &str)| ContainerRequest {
        name: ContainerName::try_from(name.to_owned()).unwrap(),
        links: links[place].iter().map(|link| (*link).to_owned()).collect(),
        disable_networking: name == "cut-off",
        hostname: (name == "db").then(|| "db.example".to_owned()),
        ..container_asking(Vec::new())
    };
    let containers = ["web", "db", "cut-off"].into_iter().enumerate().map(named).collect();
    plan(&request(mode, containers)).map_err(|refusal| refusal.to_string())
}

#[test]
fn a_link_knows_the_other_container_by_dockers_names() {
    let plan = linked(NetworkMode::Bridge, [&["db:the-db", "db"], &[], &[]]).unwrap();
    let names: Vec<_> = plan.containers[0].links.iter().map(|link| (link.container, link.names.join(" "))).collect();
    assert_eq!(names, [(1, "the-db db.example db".to_owned()), (1, "db db.example".to_owned())]);
}

#[test]
fn links_that_cannot_be_are_refused_by_field() {
    let cases: [([&[&str]; 3], &str); 6] = [
        (
            [&["db", "none"], &[], &[]],
            "container web: links[1]: there is no container \"none\"; the containers are: web, db",
        ),
        ([&["web"], &[], &[]], "container web: links[0]: a container cannot be linked to itself"),
        ([&["cut-off"], &[], &[]], "container web: links[0]: container cut-off has disableNetworking"),
        ([&[], &[], &["db"]], "container cut-off: links[0]: container cut-off has disableNetworking"),
        ([&["db:a b"], &[], &[]], "container web: links[0]: \"db:a b\" is no link"),
        ([&["db"], &["web"], &[]], "links: web -> db -> web are linked in a circle"),
    ];
    for (links, expected) in cases {
        let said = linked(NetworkMode::Bridge, links).unwrap_err();
        assert!(said.starts_with(expected), "{said}");
    }
    for mode in [NetworkMode::Host, NetworkMode::None] {
        let said = linked(mode, [&["db"], &[], &[]]).unwrap_err();
        assert_eq!(said, "container web: links: containers are linked in networkMode bridge alone");
    }
}

fn any_mapping() -> impl Strategy<Value = PortMapping> {
    let port = || prop::option::of(prop_oneof![Just(0u16), 1u16..100, Just(65535u16)]);
    let range = prop::option::of("[0-9]{0,6}-?[0-9]{0,6}");
    let protocol = prop::option::of(prop_oneof![Just(Tcp), Just(Udp)]);
    (port(), port(), range, protocol).prop_map(|(container_port, host_port, container_port_range, protocol)| {
        PortMapping { container_port, host_port, protocol, container_port_range, name: None, app_protocol: None }
    })
}

proptest! {
    #[test]
    fn whatever_is_asked_a_plan_publishes_no_static_port_twice_and_no_port_0(
        mappings in prop::collection::vec(prop::collection::vec(any_mapping(), 0..4), 0..4),
    ) {
        let containers = mappings.into_iter().map(container_asking).collect();
        let Ok(plan) = plan(&request(NetworkMode::Bridge, containers)) else { return Ok(()) };
        let mut taken = std::collections::BTreeSet::new();
        let mut count = 0;
        for container in &plan.containers {
            let Place::Bridge { publish } = &container.place else { panic!("{container:?}") };
            for one in publish {
                prop_assert!(0 < one.container.first && one.container.first <= one.container.last);
                count += usize::from(one.container.count());
                if let HostPort::Static(port) = one.host {
                    prop_assert!(port != 0 && one.container.count() == 1);
                    prop_assert!(taken.insert((one.container.protocol, port)));
                }
            }
        }
        prop_assert!(count <= MAX_PUBLISHED_PORTS);
    }
}
