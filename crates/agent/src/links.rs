//! The variables by which Docker tells a container of those that it is linked to. Pure.
//!
//! Names and order: <https://docs.docker.com/engine/network/links/#environment-variables>. A linked container's own
//! variables are told too; those of them that are secrets travel with the secrets.

use std::net::Ipv4Addr;

use agent_protocol::{ContainerSecrets, ContainerSpec, TaskSpec};
use ecs::link::Link;
use ecs::task_definition::{KeyValuePair, TransportProtocol};

use crate::metadata_file;

/// Of a linked container's variables, those that say nothing to others: Docker leaves them out as well.
const NOT_TOLD: [&str; 2] = ["HOME", "PATH"];

/// Fills in `link_environment`, and adds linked containers' secrets to those of the linking ones. The network has
/// refused what is wrong with links; a container without an address is told nothing of.
pub(crate) fn add(spec: &mut TaskSpec, secrets: &mut Vec<ContainerSecrets>) {
    let before = secrets.clone();
    for place in 0..spec.containers.len() {
        let linking = &spec.containers[place];
        let mut variables = Vec::new();
        for text in &linking.definition.links {
            let Ok(link) = Link::parse(text) else { continue };
            let linked = spec.containers.iter().find(|linked| linked.definition.name.as_str() == link.container);
            let Some((linked, address)) = linked.and_then(|linked| Some((linked, linked.network.ipv4_address?))) else {
                continue;
            };
            let prefix = link.alias.to_uppercase().replace('-', "_");
            variables.extend(of_ports(&prefix, address, &ports(linked)));
            let name = format!("{}/{}", metadata_file::docker_name(spec, linking), link.alias);
            variables.push(pair(format!("{prefix}_NAME"), name));
            let told = environment(linked).into_iter().filter(|variable| !NOT_TOLD.contains(&variable.name.as_str()));
            variables.extend(told.map(|variable| pair(format!("{prefix}_ENV_{}", variable.name), variable.value)));
            let secret = before.iter().find(|secrets| secrets.container == linked.definition.name);
            tell_secrets(&prefix, secret, linking, secrets);
        }
        // What is secret is not told in the open, even where another source has a variable of its name.
        let hidden = secrets.iter().find(|secrets| secrets.container == linking.definition.name);
        let is_hidden =
            |name: &str| hidden.is_some_and(|hidden| hidden.environment.iter().any(|(secret, _)| secret == name));
        variables.retain(|variable| !is_hidden(&variable.name));
        spec.containers[place].link_environment = variables;
    }
}

fn pair(name: String, value: String) -> KeyValuePair {
    KeyValuePair { name, value }
}

fn tell_secrets(
    prefix: &str,
    linked: Option<&ContainerSecrets>,
    linking: &ContainerSpec,
    secrets: &mut Vec<ContainerSecrets>,
) {
    let own = environment(linking);
    let told = linked.into_iter().flat_map(|linked| &linked.environment);
    let told = told.map(|(name, value)| (format!("{prefix}_ENV_{name}"), value.clone()));
    // What the linking container sets itself wins over what links tell.
    let told: Vec<_> = told.filter(|(name, _)| !own.iter().any(|variable| variable.name == *name)).collect();
    if told.is_empty() {
        return;
    }
    match secrets.iter_mut().find(|secrets| secrets.container == linking.definition.name) {
        Some(known) => {
            for (name, value) in told {
                if !known.environment.iter().any(|(known, _)| *known == name) {
                    known.environment.push((name, value));
                }
            }
        }
        None => secrets.push(ContainerSecrets {
            container: linking.definition.name.clone(),
            environment: told,
            files: Vec::new(),
            log_options: [].into(),
        }),
    }
}

/// All that is set for a container, secrets left out: the last of a name counts, as in a process.
fn environment(container: &ContainerSpec) -> Vec<KeyValuePair> {
    let of_image = container.image.config.env.iter().filter_map(|variable| {
        let (name, value) = variable.split_once('=')?;
        Some(pair(name.to_owned(), value.to_owned()))
    });
    // Files have no name that `environment` has.
    let own = container.definition.environment.iter().chain(&container.environment_from_files);
    let own = own.chain(&container.injected_environment).cloned();
    let mut variables: Vec<KeyValuePair> = Vec::new();
    for variable in of_image.chain(own) {
        match variables.iter_mut().find(|known| known.name == variable.name) {
            Some(known) => known.value = variable.value,
            None => variables.push(variable),
        }
    }
    variables
}

/// What the image exposes and the definition maps: TCP first, then by number.
fn ports(container: &ContainerSpec) -> Vec<(TransportProtocol, u16)> {
    let mut ports = Vec::new();
    for exposed in &container.image.config.exposed_ports {
        let (number, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let protocol = match protocol {
            "tcp" => TransportProtocol::Tcp,
            "udp" => TransportProtocol::Udp,
            _ => continue,
        };
        ports.extend(number.parse::<u16>().ok().map(|number| (protocol, number)));
    }
    for mapping in &container.definition.port_mappings {
        let protocol = mapping.protocol.unwrap_or_default();
        ports.extend(mapping.container_port.map(|number| (protocol, number)));
        let range = mapping.container_port_range.as_deref().and_then(|range| range.split_once('-'));
        if let Some((Ok(first), Ok(last))) = range.map(|(first, last)| (first.parse::<u16>(), last.parse::<u16>())) {
            ports.extend((first..=last).map(|number| (protocol, number)));
        }
    }
    ports.sort_by_key(|(protocol, number)| (*protocol == TransportProtocol::Udp, *number));
    ports.dedup();
    ports
}

fn of_ports(prefix: &str, address: Ipv4Addr, ports: &[(TransportProtocol, u16)]) -> Vec<KeyValuePair> {
    let name = |protocol: TransportProtocol| match protocol {
        TransportProtocol::Tcp => "tcp",
        TransportProtocol::Udp => "udp",
    };
    let place = |protocol, number: u16| format!("{}://{address}:{number}", name(protocol));
    let stem = |protocol, number: u16| format!("{prefix}_PORT_{number}_{}", name(protocol).to_uppercase());
    let mut variables = Vec::new();
    if let Some(&(protocol, number)) = ports.first() {
        variables.push(pair(format!("{prefix}_PORT"), place(protocol, number)));
    }
    // Consecutive ports of one protocol are told as a range too.
    let follows = |(one, number): &(TransportProtocol, u16), (other, next): &(TransportProtocol, u16)| {
        one == other && number.checked_add(1) == Some(*next)
    };
    for run in ports.chunk_by(follows) {
        for &(protocol, number) in run {
            let stem = stem(protocol, number);
            variables.push(pair(stem.clone(), place(protocol, number)));
            variables.push(pair(format!("{stem}_ADDR"), address.to_string()));
            variables.push(pair(format!("{stem}_PORT"), number.to_string()));
            variables.push(pair(format!("{stem}_PROTO"), name(protocol).to_owned()));
        }
        if let (&[(protocol, first), ..], &[.., (_, last)]) = (run, run)
            && first != last
        {
            let stem = stem(protocol, first);
            variables.push(pair(format!("{stem}_START"), place(protocol, first)));
            variables.push(pair(format!("{stem}_PORT_START"), first.to_string()));
            variables.push(pair(format!("{stem}_END"), place(protocol, last)));
            variables.push(pair(format!("{stem}_PORT_END"), last.to_string()));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use agent_protocol::SecretValue;
    use serde_json::json;

    use super::*;
    use crate::example;

    fn task() -> TaskSpec {
        let mut spec = example::spec(&["web", "my-db"]);
        spec.containers[0].definition.links = vec!["my-db:the-db".to_owned()];
        let linked = &mut spec.containers[1];
        linked.image.config.env = vec!["PATH=/bin".to_owned(), "VERSION=1".to_owned()];
        linked.image.config.exposed_ports = vec!["5433/tcp".to_owned(), "53/udp".to_owned(), "9/sctp".to_owned()];
        let mappings = json!([{"containerPort": 5432}, {"containerPort": 5432, "hostPort": 1}, {"containerPort": 80}]);
        linked.definition.port_mappings = serde_json::from_value(mappings).expect("port mappings");
        linked.definition.environment = vec![pair("VERSION".to_owned(), "2".to_owned())];
        spec
    }

    fn shown(variables: &[KeyValuePair]) -> Vec<String> {
        variables.iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect()
    }

    /// The names of the page that the file cites.
    #[test]
    fn a_linked_container_is_told_of_as_docker_does() {
        let mut spec = task();
        add(&mut spec, &mut Vec::new());
        assert_eq!(
            shown(&spec.containers[0].link_environment),
            [
                "THE_DB_PORT=tcp://172.29.0.2:80",
                "THE_DB_PORT_80_TCP=tcp://172.29.0.2:80",
                "THE_DB_PORT_80_TCP_ADDR=172.29.0.2",
                "THE_DB_PORT_80_TCP_PORT=80",
                "THE_DB_PORT_80_TCP_PROTO=tcp",
                "THE_DB_PORT_5432_TCP=tcp://172.29.0.2:5432",
                "THE_DB_PORT_5432_TCP_ADDR=172.29.0.2",
                "THE_DB_PORT_5432_TCP_PORT=5432",
                "THE_DB_PORT_5432_TCP_PROTO=tcp",
                "THE_DB_PORT_5433_TCP=tcp://172.29.0.2:5433",
                "THE_DB_PORT_5433_TCP_ADDR=172.29.0.2",
                "THE_DB_PORT_5433_TCP_PORT=5433",
                "THE_DB_PORT_5433_TCP_PROTO=tcp",
                "THE_DB_PORT_5432_TCP_START=tcp://172.29.0.2:5432",
                "THE_DB_PORT_5432_TCP_PORT_START=5432",
                "THE_DB_PORT_5432_TCP_END=tcp://172.29.0.2:5433",
                "THE_DB_PORT_5432_TCP_PORT_END=5433",
                "THE_DB_PORT_53_UDP=udp://172.29.0.2:53",
                "THE_DB_PORT_53_UDP_ADDR=172.29.0.2",
                "THE_DB_PORT_53_UDP_PORT=53",
                "THE_DB_PORT_53_UDP_PROTO=udp",
                "THE_DB_NAME=/ecs-shop-3-web/the-db",
                "THE_DB_ENV_VERSION=2",
            ]
        );
        assert_eq!(spec.containers[1].link_environment, []);
    }

    /// Docker tells a linked container's whole environment, secrets included; here those cross with the secrets.
    #[test]
    fn a_linked_containers_secrets_are_never_told_in_the_open() {
        let mut spec = task();
        spec.containers[1].definition.environment.push(pair("TOKEN".to_owned(), "placeholder".to_owned()));
        spec.containers[0].definition.environment = vec![pair("THE_DB_ENV_OWN".to_owned(), "mine".to_owned())];
        let secret = |name: &str, value: &str| (name.to_owned(), SecretValue(value.to_owned()));
        let mut secrets = vec![ContainerSecrets {
            container: example::name("my-db"),
            environment: vec![secret("TOKEN", "hunter2"), secret("OWN", "other")],
            files: vec![("/run/x".into(), SecretValue("file".to_owned()))],
            log_options: [].into(),
        }];
        add(&mut spec, &mut secrets);
        let written = serde_json::to_string(&spec).expect("plain data");
        assert!(!written.contains("hunter2") && !written.contains("\"THE_DB_ENV_TOKEN\""), "{written}");
        let web = secrets.iter().find(|secrets| secrets.container.as_str() == "web").expect("it is told");
        assert_eq!(web.environment, [secret("THE_DB_ENV_TOKEN", "hunter2")]);
        assert_eq!(web.files, []);
    }
}
