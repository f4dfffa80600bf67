//! `coracle run`'s options about an awsvpc task's interface, and its launch type.

use std::net::IpAddr;

use clap::Args;
use ecs::LaunchType;
use ecs::network_configuration::{self, AwsVpcConfiguration};
use ecs::task_definition::{NetworkMode, TaskDefinition};

use crate::failure::{BAD_INPUT, Explain, Failure};

#[derive(Args, Debug)]
pub(super) struct NetworkArguments {
    /// The subnet of an awsvpc task, by id or block; may be given more than once, as RunTask's subnets.
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    subnet: Vec<String>,
    /// A security group of its interface, by id or name; may be given more than once.
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    security_group: Vec<String>,
    /// Give its interface an address of the LAN, where the subnet has some.
    #[arg(long)]
    assign_public_ip: bool,
    /// All three as the AWS CLI has them: its shorthand, or JSON.
    #[arg(long, value_name = "awsvpcConfiguration={…}", conflicts_with_all = ["subnet", "security_group", "assign_public_ip"])]
    network_configuration: Option<String>,
    /// An address of this host to publish a bridge-mode task's ports at; may be given more than once. Otherwise
    /// CORACLE_PUBLISH_ADDRESSES, or all.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    publish_address: Vec<String>,
    /// EC2, FARGATE or EXTERNAL; what the definition requires, or EXTERNAL.
    #[arg(long, value_name = "TYPE")]
    launch_type: Option<String>,
}

impl NetworkArguments {
    pub(super) fn launch_type(&self, definition: &TaskDefinition) -> Result<LaunchType, Failure> {
        let asked = self.launch_type.as_deref().map(LaunchType::read).transpose();
        let chosen = asked.and_then(|asked| ecs::launch_type::choose(asked, definition));
        chosen.doing("--launch-type").map_err(|failure| failure.exit(BAD_INPUT))
    }

    /// Where ports are published, if it is said.
    pub(super) fn publish_addresses(&self, mode: NetworkMode) -> Result<Option<Vec<IpAddr>>, Failure> {
        if self.publish_address.is_empty() {
            return Ok(None);
        }
        let bad = |failure: Failure| failure.exit(BAD_INPUT);
        if mode != NetworkMode::Bridge {
            let what = format!("--publish-address: the definition has networkMode {mode}, which publishes no ports");
            return Err(bad(Failure::new(what).next("networkMode bridge, or leave --publish-address out")));
        }
        let given = self.publish_address.join(",");
        network::publish_addresses(&given)
            .map(Some)
            .map_err(|error| bad(Failure::new(format!("--publish-address {given}: {}", error.wanted))))
    }

    pub(super) fn configuration(&self, mode: NetworkMode) -> Result<AwsVpcConfiguration, Failure> {
        let (option, configuration) = match &self.network_configuration {
            Some(text) => ("--network-configuration", network_configuration::read(text)),
            None => {
                let configuration = AwsVpcConfiguration {
                    subnets: self.subnet.clone(),
                    security_groups: self.security_group.clone(),
                    assign_public_ip: self.assign_public_ip.then_some(true),
                };
                ("--subnet and --security-group", network_configuration::check(&configuration).map(|()| configuration))
            }
        };
        let bad = |failure: Failure| failure.exit(BAD_INPUT);
        let next = "awsvpcConfiguration={subnets=[subnet-…],securityGroups=[sg-…],assignPublicIp=DISABLED}";
        let configuration = configuration.doing(option).next(next).map_err(bad)?;
        // In RunTask's words.
        if mode != NetworkMode::Awsvpc && configuration != AwsVpcConfiguration::default() {
            let what = "Network Configuration is not valid for the given networkMode of this task definition.";
            return Err(bad(Failure::new(what).next(format!("networkMode awsvpc; the definition has {mode}"))));
        }
        Ok(configuration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> NetworkArguments {
        NetworkArguments {
            subnet: Vec::new(),
            security_group: Vec::new(),
            assign_public_ip: false,
            network_configuration: None,
            publish_address: Vec::new(),
            launch_type: None,
        }
    }

    #[test]
    fn ports_are_published_at_addresses_that_a_host_can_have() {
        let at = |addresses: &[&str], mode| {
            let publish_address = addresses.iter().map(|address| (*address).to_owned()).collect();
            NetworkArguments { publish_address, ..given() }.publish_addresses(mode)
        };
        let local: [IpAddr; 2] = [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
        assert_eq!(at(&["127.0.0.1", "::1"], NetworkMode::Bridge).expect("good addresses"), Some(local.to_vec()));
        assert_eq!(at(&[], NetworkMode::Awsvpc).expect("nothing is asked"), None);
        for (addresses, mode, why) in [
            (&["0.0.0.0"], NetworkMode::Bridge, "leave it out"),
            (&["localhost"], NetworkMode::Bridge, "--publish-address localhost: addresses of this host"),
            (&["127.0.0.1"], NetworkMode::Host, "networkMode host, which publishes no ports"),
        ] {
            let refused = at(addresses, mode).expect_err("it is refused");
            assert!(refused.to_string().contains(why), "{refused}");
        }
    }

    #[test]
    fn options_and_the_aws_clis_own_say_the_same() {
        let options = NetworkArguments {
            subnet: vec!["subnet-1".to_owned()],
            security_group: vec!["web".to_owned()],
            assign_public_ip: true,
            ..given()
        };
        let text = "awsvpcConfiguration={subnets=[subnet-1],securityGroups=[web],assignPublicIp=ENABLED}";
        let whole = NetworkArguments { network_configuration: Some(text.to_owned()), ..given() };
        let read = |arguments: &NetworkArguments| arguments.configuration(NetworkMode::Awsvpc).expect("it is right");
        assert_eq!(read(&options), read(&whole));
        let refused = whole.configuration(NetworkMode::Bridge).expect_err("a bridge has no subnets");
        assert!(refused.to_string().contains("Network Configuration is not valid"), "{refused}");
        assert!(given().configuration(NetworkMode::Bridge).is_ok());
    }
}
