//! How long attaching and detaching an awsvpc task takes: `attach_loop N [STANDING] [MODE] [PAUSE_MS]`, as root, in a
//! network namespace of its own that ends with it. Prints the median and the 99th percentile of N cycles while STANDING other
//! tasks stay attached, and where the time of attaching goes. MODE is awsvpc, bridge, host or none. The kernel takes a
//! namespace apart behind a task's back, for tens of milliseconds in which nobody else may change links: PAUSE_MS waits
//! for it after each cycle.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws::ec2::{NetworkInterfaceId, SecurityGroupId, SubnetId, VpcNetwork};
use ecs::task_definition::NetworkMode;
use ecs::{ContainerName, TaskId};
use network::{Attachment, ContainerRequest, InterfaceRequest, Request, Settings};
use nix::sched::{CloneFlags, unshare};

const NETWORK: &str = r#"{
    "vpcs": [{"vpcId": "vpc-00000001", "cidrBlock": "10.0.0.0/16", "isDefault": true}],
    "subnets": [{"subnetId": "subnet-00000001", "vpcId": "vpc-00000001", "cidrBlock": "10.0.0.0/20",
                 "availabilityZone": "here"}],
    "securityGroups": [{"groupId": "sg-00000001", "groupName": "default", "vpcId": "vpc-00000001",
        "ingress": [{"securityGroupRuleId": "sgr-00000001", "protocol": {"tcp": {"from": 80, "to": 80}},
                     "peer": {"cidrIpv4": "0.0.0.0/0"}}],
        "egress": [{"securityGroupRuleId": "sgr-00000002", "protocol": "all", "peer": {"cidrIpv4": "0.0.0.0/0"}}]}]
}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let cycles: u32 = arguments.next().ok_or("attach_loop N [STANDING] [MODE] [PAUSE_MS]")?.parse()?;
    let standing: u32 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let mode: NetworkMode = serde_json::from_value(arguments.next().unwrap_or("awsvpc".into()).into())?;
    let pause_ms: u64 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let directory = std::env::temp_dir().join(format!("attach-loop-{}", std::process::id()));
    // The process has one thread yet, so all of it is in there.
    unshare(CloneFlags::CLONE_NEWNET)?;
    let result = measure(&directory, cycles, standing, mode, Duration::from_millis(pause_ms));
    std::fs::remove_dir_all(&directory).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    result
}

fn measure(
    directory: &Path,
    cycles: u32,
    standing: u32,
    mode: NetworkMode,
    pause: Duration,
) -> Result<(), Box<dyn Error>> {
    let settings = Settings::new("loop", &directory.join("netns"));
    let network: Arc<VpcNetwork> = Arc::new(serde_json::from_str(NETWORK)?);
    let attach = |number| network::attach(&settings, &request(number, mode, &network));
    let others = (1..=standing).map(attach).collect::<Result<Vec<Attachment>, _>>()?;
    let (mut attached, mut detached) = (Vec::new(), Vec::new());
    let mut stages: BTreeMap<(usize, &'static str), Vec<Duration>> = BTreeMap::new();
    for number in standing + 1..=standing + cycles {
        let begin = Instant::now();
        let made = attach(number)?;
        let took = begin.elapsed();
        attached.push(took);
        let known: Duration = made.stages.iter().map(|stage| stage.took).sum();
        stages.entry((usize::MAX, "the rest")).or_default().push(took.saturating_sub(known));
        for (at, stage) in made.stages.iter().enumerate() {
            stages.entry((at, stage.name)).or_default().push(stage.took);
        }
        let begin = Instant::now();
        detach(&settings, number)?;
        detached.push(begin.elapsed());
        drop(made);
        std::thread::sleep(pause);
    }
    println!("{mode:?}, {standing} standing: attach {}, detach {}", figures(&mut attached), figures(&mut detached));
    for ((_, name), mut each) in stages {
        println!("  {name}: {}", figures(&mut each));
    }
    let begin = Instant::now();
    for number in 1..=standing {
        detach(&settings, number)?;
    }
    if standing > 0 {
        println!("  all that stood: detached in {:?}", begin.elapsed());
    }
    drop(others);
    Ok(())
}

fn detach(settings: &Settings, number: u32) -> Result<(), Box<dyn Error>> {
    match network::detach(settings, &task(number)).pop() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn figures(each: &mut [Duration]) -> String {
    each.sort();
    let at = |percent: usize| each.get((each.len() * percent / 100).min(each.len() - 1)).copied().unwrap_or_default();
    let shown = |duration: Duration| format!("{:.2} ms", duration.as_secs_f64() * 1000.0);
    if each.is_empty() { "-".into() } else { format!("p50 {} p99 {}", shown(at(50)), shown(at(99))) }
}

fn task(number: u32) -> TaskId {
    TaskId::from_bytes(u128::from(number).to_be_bytes())
}

fn request(number: u32, mode: NetworkMode, network: &Arc<VpcNetwork>) -> Request {
    let container = ContainerRequest {
        name: ContainerName::try_from("web".to_owned()).expect("a name"),
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
        subnet: SubnetId::try_from("subnet-00000001".to_owned()).expect("an id"),
        security_groups: vec![SecurityGroupId::try_from("sg-00000001".to_owned()).expect("an id")],
        assign_public_ip: false,
        domain: "eu-central-1.compute.internal".to_owned(),
    };
    let interface = (mode == NetworkMode::Awsvpc).then_some(interface);
    Request { task: task(number), mode, containers: vec![container], interface }
}
