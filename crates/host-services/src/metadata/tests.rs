//! Every key of Amazon's examples is there, and no other: what Amazon's agent shows of a task on EC2, of one on Fargate,
//! and of their containers' use.

use std::collections::BTreeSet;

use agent_protocol::{TaskSpec, TaskStatus};
use ecs::Timestamp;
use runtime::stats::detail::{BlockCount, Detail, Link};
use serde_json::{Value, json};

use super::stats::{self, Sample, Subject};
use super::{ClockDrift, EphemeralStorage, Extra, Version};

const TASK: &str = "158d1c8083dd49d6b527399fd6414f5c";

/// The task of Amazon's example, as far as it is Amazon's.
fn spec(mode: &str, members: &Value) -> TaskSpec {
    let mut spec = json!({
        "format": 1, "id": TASK, "family": "curltest", "revision": 26, "cluster": "default",
        "account_id": "111122223333", "region": "us-west-2", "group": "family:curltest", "launch_type": "EC2",
        "created_at": 1, "network_mode": mode, "pids_limit": 64,
        "containers": [{
            "definition": {
                "name": "curl", "image": "111122223333.dkr.ecr.us-west-2.amazonaws.com/curltest:latest",
                "cpu": 10, "memory": 128,
                "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/metadata"}},
            },
            "image": {"digest": "sha256:d691", "layers": [], "config": {}},
            "network": {
                "namespace": {"received": {"index": 0}}, "hostname": "h", "hosts": "",
                "resolv_conf": "search us-west-2.compute.internal\nnameserver 169.254.170.2\noptions ndots:1\n",
            },
            "runtime_id": "ee08638adaaf009d78c248913f629e38299471d45fe7dc944d1039077e3424ca",
            "endpoint_id": "e",
        }],
        "tags": [{"key": "tag-use", "value": "task-metadata-endpoint-test"}],
        "places": {"state": "/s", "run": "/r", "cgroup": "/c", "supervisor_cgroup": "/p"},
    });
    merge(&mut spec, members);
    serde_json::from_value(spec).expect("a spec")
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => {
            into.iter_mut().zip(from).for_each(|(one, other)| merge(one, other))
        }
        (into, from) => *into = from.clone(),
    }
}

fn interface() -> Value {
    json!({"network_interface": {
        "attachmentId": "a", "networkInterfaceId": "eni-0123456789abcdef0", "subnetId": "subnet-0123456789abcdef0",
        "availabilityZone": "us-west-2d", "securityGroups": ["sg-0123456789abcdef0"],
        "macAddress": "0e:10:e2:01:bd:91", "privateIpv4Address": "10.0.2.61",
        "privateDnsName": "ip-10-0-2-61.us-west-2.compute.internal", "subnetIpv4CidrBlock": "10.0.0.0/20",
        "subnetGateway": "10.0.2.1", "hostLink": "eni0a00023d",
    }})
}

fn status(members: &Value) -> TaskStatus {
    let mut status = json!({
        "format": 1, "id": TASK, "version": 3, "supervisor": {"pid": 1, "start_time": 1, "boot_id": "b"},
        "last_status": "RUNNING", "desired_status": "RUNNING",
        "pull_started_at": 1_601_599_386.202, "pull_stopped_at": 1_601_599_386.312,
        "containers": [{
            "name": "curl", "last_status": "RUNNING", "created_at": 1_601_599_386.326, "started_at": 1_601_599_386.767,
        }],
    });
    merge(&mut status, members);
    serde_json::from_value(status).expect("a status")
}

fn shown(version: Version, spec: &TaskSpec, status: &TaskStatus, extra: Extra) -> Value {
    serde_json::to_value(super::task(version, spec, status, extra)).expect("plain data")
}

/// Every path to a member; of lists, to their first one's.
fn keys(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(value, "", &mut found);
    found
}

fn collect(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{path}/{name}");
                found.insert(path.clone());
                collect(member, &path, found);
            }
        }
        Value::Array(items) => items.iter().take(1).for_each(|item| collect(item, path, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn named(names: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in names.split_whitespace() {
        let path = format!("/{name}");
        // A member's parents are members.
        let parents = path.match_indices('/').skip(1).map(|(end, _)| path[..end].to_owned());
        found.extend(parents.collect::<Vec<_>>());
        found.insert(path);
    }
    found
}

const LABELS: [&str; 5] =
    ["cluster", "container-name", "task-arn", "task-definition-family", "task-definition-version"];

fn labels() -> String {
    LABELS.map(|label| format!("Containers/Labels/com.amazonaws.ecs.{label}")).join(" ")
}

/// "Example task with tags metadata response" of
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-examples.html>, without the
/// tags of a container instance, of which there is none, and with the members that were documented later.
#[test]
fn a_task_on_ec2_has_every_key_of_the_example() {
    let extra = Extra { vpc_id: Some("vpc-1".to_owned()), with_tags: true, ..Extra::default() };
    let task = shown(Version::V4, &spec("awsvpc", &interface()), &status(&json!({})), extra);
    let expected = named(&format!(
        "Cluster TaskARN Family Revision DesiredStatus KnownStatus PullStartedAt PullStoppedAt AvailabilityZone
         TaskTags/tag-use LaunchType VPCID Group FaultInjectionEnabled
         Containers/DockerId Containers/Name Containers/DockerName Containers/Image Containers/ImageID {}
         Containers/DesiredStatus Containers/KnownStatus Containers/Limits/CPU Containers/Limits/Memory
         Containers/CreatedAt Containers/StartedAt Containers/Type Containers/LogDriver
         Containers/LogOptions/awslogs-group Containers/ContainerARN Containers/Networks/NetworkMode
         Containers/Networks/IPv4Addresses Containers/Networks/AttachmentIndex Containers/Networks/MACAddress
         Containers/Networks/IPv4SubnetCIDRBlock Containers/Networks/DomainNameServers
         Containers/Networks/DomainNameSearchList Containers/Networks/PrivateDNSName
         Containers/Networks/SubnetGatewayIpv4Address",
        labels()
    ));
    assert_eq!(keys(&task), expected);
    let container = &task["Containers"][0];
    assert_eq!(
        (&task["Cluster"], &task["Revision"], &task["PullStartedAt"], &task["TaskTags"]["tag-use"]),
        (&json!("default"), &json!("26"), &json!("2020-10-02T00:43:06.202Z"), &json!("task-metadata-endpoint-test"))
    );
    assert_eq!(task["TaskARN"], format!("arn:aws:ecs:us-west-2:111122223333:task/default/{TASK}"));
    assert_eq!(container["Labels"]["com.amazonaws.ecs.container-name"], "curl");
    assert_eq!(container["Limits"], json!({"CPU": 10, "Memory": 128}));
    assert_eq!(container["StartedAt"], "2020-10-02T00:43:06.767Z");
    assert_eq!(
        container["Networks"][0],
        json!({
            "NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.61"], "AttachmentIndex": 0,
            "MACAddress": "0e:10:e2:01:bd:91", "IPv4SubnetCIDRBlock": "10.0.0.0/20",
            "DomainNameServers": ["169.254.170.2"], "DomainNameSearchList": ["us-west-2.compute.internal"],
            "PrivateDNSName": "ip-10-0-2-61.us-west-2.compute.internal", "SubnetGatewayIpv4Address": "10.0.2.1/20",
        })
    );
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate-response.html>
#[test]
fn a_task_on_fargate_has_what_only_fargate_has() {
    let mut members = interface();
    merge(&mut members, &json!({"launch_type": "FARGATE", "cpu": 256, "memory_mib": 512}));
    let drift = ClockDrift {
        clock_error_bound: 0.5,
        reference_timestamp: "2020-10-02T00:43:06.202Z".to_owned(),
        clock_synchronization_status: "SYNCHRONIZED",
    };
    let storage = EphemeralStorage { utilized: 261, reserved: 20480 };
    let extra = Extra { clock_drift: Some(drift), ephemeral_storage: Some(storage), ..Extra::default() };
    let task = shown(Version::V4, &spec("awsvpc", &members), &status(&json!({})), extra);
    assert_eq!(task["Cluster"], "arn:aws:ecs:us-west-2:111122223333:cluster/default");
    assert_eq!(task["Limits"], json!({"CPU": 0.25, "Memory": 512}));
    assert_eq!(task["EphemeralStorageMetrics"], json!({"Utilized": 261, "Reserved": 20480}));
    assert_eq!(
        task["ClockDrift"],
        json!({
            "ClockErrorBound": 0.5, "ReferenceTimestamp": "2020-10-02T00:43:06.202Z",
            "ClockSynchronizationStatus": "SYNCHRONIZED",
        })
    );
    let container = &task["Containers"][0];
    assert_eq!((&container["DockerName"], &container["Snapshotter"]), (&json!("curl"), &json!("overlayfs")));
    assert_eq!(container["Labels"]["com.amazonaws.ecs.cluster"], task["Cluster"]);
}

#[test]
fn older_versions_lack_what_version_4_added() {
    let spec = spec("awsvpc", &interface());
    let status = status(&json!({}));
    for version in [Version::V2, Version::V3] {
        let task = shown(version, &spec, &status, Extra::default());
        let expected = named(&format!(
            "Cluster TaskARN Family Revision DesiredStatus KnownStatus PullStartedAt PullStoppedAt AvailabilityZone
             Containers/DockerId Containers/Name Containers/DockerName Containers/Image Containers/ImageID {}
             Containers/DesiredStatus Containers/KnownStatus Containers/Limits/CPU Containers/Limits/Memory
             Containers/CreatedAt Containers/StartedAt Containers/Type Containers/Networks/NetworkMode
             Containers/Networks/IPv4Addresses",
            labels()
        ));
        assert_eq!(keys(&task), expected, "{version:?}");
    }
}

#[test]
fn a_container_in_bridge_mode_shows_each_port_its_address_and_its_volumes() {
    let spec = spec(
        "bridge",
        &json!({
            "volumes": [
                {"name": "host", "source": {"kind": "host", "path": "/srv"}},
                {"name": "own", "source": {"kind": "scratch"}},
            ],
            "containers": [{
                "definition": {
                    "dockerLabels": {"team": "web"},
                    "healthCheck": {"command": ["CMD", "true"]},
                    "restartPolicy": {"enabled": true},
                    "mountPoints": [
                        {"sourceVolume": "host", "containerPath": "/h"}, {"sourceVolume": "own", "containerPath": "/o"},
                    ],
                },
                "network": {
                    "ipv4_address": "172.29.0.2", "ipv6_address": "fd00::2",
                    "bindings": [
                        {"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32768, "protocol": "tcp"},
                        {"bindIP": "::", "containerPortRange": "90-91", "hostPortRange": "40000-40001",
                         "protocol": "udp"},
                    ],
                },
            }],
        }),
    );
    let status = status(&json!({"containers": [{
        "last_status": "STOPPED", "exit_code": 3, "finished_at": 1_601_599_387, "health_status": "UNHEALTHY",
        "health_status_since": 1_601_599_387,
        "health_output": "no", "restart_count": 2,
    }]}));
    let container = super::container(Version::V4, &spec, &status, &spec.containers[0]);
    let container = serde_json::to_value(container).expect("plain data");
    let port = |inside: u16, outside: u16, protocol: &str, ip: &str| json!({"ContainerPort": inside, "Protocol": protocol, "HostPort": outside, "HostIp": ip});
    let expected = [port(80, 32768, "tcp", "0.0.0.0"), port(90, 40000, "udp", "::"), port(91, 40001, "udp", "::")];
    assert_eq!(container["Ports"], json!(expected));
    assert_eq!(
        container["Networks"],
        json!([{"NetworkMode": "bridge", "IPv4Addresses": ["172.29.0.2"], "IPv6Addresses": ["fd00::2"]}])
    );
    assert_eq!(
        container["Volumes"],
        json!([{"Source": "/srv", "Destination": "/h"}, {"DockerName": "own", "Destination": "/o"}])
    );
    assert_eq!(
        container["Health"],
        json!({"status": "UNHEALTHY", "statusSince": "2020-10-02T00:43:07.000Z", "output": "no"})
    );
    assert_eq!(container["Labels"]["team"], "web");
    for (name, value) in [
        ("DesiredStatus", json!("STOPPED")),
        ("KnownStatus", json!("STOPPED")),
        ("ExitCode", json!(3)),
        ("FinishedAt", json!("2020-10-02T00:43:07.000Z")),
        ("RestartCount", json!(2)),
    ] {
        assert_eq!(container[name], value, "{name}");
    }
    let in_version_2 = super::container(Version::V2, &spec, &status, &spec.containers[0]);
    assert!(in_version_2.networks.is_empty(), "version 2 is of awsvpc mode");
}

#[test]
fn a_port_of_an_interface_is_the_hosts_as_well() {
    let mut members = interface();
    merge(&mut members, &json!({"containers": [{"definition": {"portMappings": [{"containerPort": 80}]}}]}));
    let spec = spec("awsvpc", &members);
    let container = super::container(Version::V4, &spec, &status(&json!({})), &spec.containers[0]);
    let container = serde_json::to_value(container).expect("plain data");
    assert_eq!(container["Ports"], json!([{"ContainerPort": 80, "Protocol": "tcp", "HostPort": 80}]));
}

/// "Example container stats response" of the same page.
#[test]
fn stats_have_every_key_of_the_example() {
    let sample = |at_ms: u64, received_bytes: u64| {
        let mut detail = Detail { pids: Some(3), ..Detail::default() };
        detail.cpu.each_ns = vec![1, 2];
        detail.memory.usage_bytes = Some(1_806_336);
        detail.memory.max_usage_bytes = Some(6_299_648);
        detail.memory.stat = [("active_anon".to_owned(), 606_208)].into();
        detail.block_bytes = vec![BlockCount { major: 8, minor: 0, operation: "Read".to_owned(), value: 4096 }];
        let link = Link { received_bytes, ..Link::default() };
        detail.links = Some([("eth0".to_owned(), link)].into());
        Sample { at: Timestamp::from_epoch_ms(at_ms), detail }
    };
    let subject = Subject { docker_id: "5fc2", docker_name: "/ecs-curltest-26-curl" };
    let shown = stats::of(subject, &sample(1_601_599_873_410, 1084), Some(&sample(1_601_599_871_410, 84)));
    let cpu = |name: &str| {
        ["total_usage", "percpu_usage", "usage_in_kernelmode", "usage_in_usermode"]
            .map(|member| format!("{name}/cpu_usage/{member}"))
            .into_iter()
            .chain([format!("{name}/system_cpu_usage"), format!("{name}/online_cpus")])
            .chain(["periods", "throttled_periods", "throttled_time"].map(|it| format!("{name}/throttling_data/{it}")))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let block =
        ["io_service_bytes", "io_serviced", "io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time"]
            .map(|name| format!("blkio_stats/{name}_recursive"))
            .join(" ");
    let link =
        ["rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped"]
            .map(|name| format!("networks/eth0/{name}"))
            .join(" ");
    let expected = named(&format!(
        "read preread pids_stats/current {block} blkio_stats/sectors_recursive num_procs storage_stats {} {}
         memory_stats/usage memory_stats/max_usage memory_stats/stats/active_anon memory_stats/limit name id {link}
         network_rate_stats/rx_bytes_per_sec network_rate_stats/tx_bytes_per_sec
         blkio_stats/io_service_bytes_recursive/major blkio_stats/io_service_bytes_recursive/minor
         blkio_stats/io_service_bytes_recursive/op blkio_stats/io_service_bytes_recursive/value",
        cpu("cpu_stats"),
        cpu("precpu_stats")
    ));
    assert_eq!(keys(&shown), expected);
    assert_eq!(
        (&shown["read"], &shown["preread"]),
        (&json!("2020-10-02T00:51:13.410Z"), &json!("2020-10-02T00:51:11.410Z"))
    );
    assert_eq!(shown["network_rate_stats"], json!({"rx_bytes_per_sec": 500.0, "tx_bytes_per_sec": 0.0}));
    let alone = stats::of(subject, &sample(1, 1), None);
    assert_eq!(alone["preread"], "0001-01-01T00:00:00Z");
    assert!(alone.get("network_rate_stats").is_none());
    let restarted = stats::of(subject, &sample(2_000, 1), Some(&sample(1_000, 2)));
    assert!(restarted.get("network_rate_stats").is_none(), "counters that went back have no rate");
}
