//! A VPC for tests: one subnet, a group that lets everything in, one that lets in nothing but its members.
#![allow(dead_code, unreachable_pub, reason = "each test file uses the part it needs")]

use std::sync::Arc;

use aws::ec2::{NetworkInterfaceId, SecurityGroupId, SubnetId, VpcNetwork};
use ecs::task_definition::NetworkMode;
use network::{ContainerRequest, InterfaceRequest, Request};
use serde_json::{Value, json};

use super::task;

pub const OPEN: &str = "sg-00000001";
pub const CLOSED: &str = "sg-00000002";
const SUBNET: &str = "subnet-00000001";

/// `10.0.1.0/24` with these members of its own beside.
pub fn vpc(subnet: Value) -> VpcNetwork {
    let everywhere =
        |id: &str| json!({"securityGroupRuleId": id, "protocol": "all", "peer": {"cidrIpv4": "0.0.0.0/0"}});
    let everywhere6 = |id: &str| json!({"securityGroupRuleId": id, "protocol": "all", "peer": {"cidrIpv6": "::/0"}});
    let mut network = json!({
        "vpcs": [{"vpcId": "vpc-00000001", "cidrBlock": "10.0.0.0/16", "isDefault": true}],
        "subnets": [{
            "subnetId": SUBNET, "vpcId": "vpc-00000001", "cidrBlock": "10.0.1.0/24", "availabilityZone": "here",
        }],
        "securityGroups": [
            {
                "groupId": OPEN, "groupName": "open", "vpcId": "vpc-00000001",
                "ingress": [everywhere("sgr-00000001"), everywhere6("sgr-00000002")],
                "egress": [everywhere("sgr-00000003"), everywhere6("sgr-00000004")],
            },
            {
                "groupId": CLOSED, "groupName": "default", "vpcId": "vpc-00000001",
                "ingress": [
                    {"securityGroupRuleId": "sgr-00000005", "protocol": "all", "peer": {"referencedGroup": CLOSED}},
                ],
                "egress": [everywhere("sgr-00000006")],
            },
        ],
    });
    for (name, value) in subnet.as_object().unwrap() {
        network["subnets"][0][name] = value.clone();
    }
    serde_json::from_value(network).unwrap()
}

pub fn interface(network: &Arc<VpcNetwork>, group: &str) -> InterfaceRequest {
    InterfaceRequest {
        network_interface_id: NetworkInterfaceId::from_random(7),
        network: Arc::clone(network),
        subnet: SubnetId::try_from(SUBNET.to_owned()).unwrap(),
        security_groups: vec![SecurityGroupId::try_from(group.to_owned()).unwrap()],
        assign_public_ip: false,
        domain: "eu-central-1.compute.internal".into(),
    }
}

pub fn awsvpc(number: u8, interface: InterfaceRequest, containers: Vec<ContainerRequest>) -> Request {
    Request { task: task(number), mode: NetworkMode::Awsvpc, containers, interface: Some(interface) }
}
