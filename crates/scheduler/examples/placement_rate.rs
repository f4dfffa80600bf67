//! How many placements a second on a full-sized cluster, and what it takes:
//! `cargo run --release -p scheduler --example placement_rate -- [INSTANCES] [TASKS]` (10000 and 1000000 by default).
//!
//! Each placement is the choice and its claim, as RunTask makes them; a snapshot is kept every thousandth, as the control
//! plane publishes one a batch. Seconds are those that this process had a processor, so that others on the machine do not
//! count.

use ecs::operations::shapes::{Attribute, PlacementStrategy};
use ecs::task_definition::PlacementConstraint;
use ecs::{ContainerInstanceId, LaunchType, TaskId, Timestamp};
use scheduler::{Claim, Demand, Fleet, Instance, InstanceStatus, Wanted, place};

const SNAPSHOT_EVERY: u32 = 1000;
const GROUPS: u32 = 1000;
const ZONES: [&str; 3] = ["a", "b", "c"];
const DISKS: [&str; 3] = ["ssd", "nvme", "hdd"];

fn main() {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse::<u32>().expect("a number"));
    let instances = arguments.next().unwrap_or(10_000);
    let tasks = arguments.next().unwrap_or(1_000_000);
    println!(
        "{instances} instances, {tasks} tasks in {GROUPS} groups; placements a second of a processor by tenth of the way"
    );
    ROWS.iter().for_each(|row| run(row, instances, tasks));
}

/// A strategy's or a constraint's type, and its field or expression.
type Given = (&'static str, Option<&'static str>);

struct Row {
    strategies: &'static [Given],
    constraints: &'static [Given],
    snapshot_every: u32,
}

const ZONE: Given = ("spread", Some("attribute:ecs.availability-zone"));
const INSTANCE: Given = ("spread", Some("instanceId"));
const MEMORY: Given = ("binpack", Some("memory"));
const DISTINCT: Given = ("distinctInstance", None);
const MEMBER_OF: Given = ("memberOf", Some("attribute:disk in [ssd, nvme] and agentConnected == true"));

const fn row(strategies: &'static [Given], constraints: &'static [Given]) -> Row {
    Row { strategies, constraints, snapshot_every: SNAPSHOT_EVERY }
}

const ROWS: [Row; 11] = [
    row(&[("random", None)], &[]),
    row(&[MEMORY], &[]),
    row(&[INSTANCE], &[]),
    row(&[ZONE], &[]),
    row(&[ZONE, INSTANCE], &[]),
    row(&[ZONE, MEMORY], &[]),
    row(&[ZONE, MEMORY], &[DISTINCT]),
    row(&[("random", None)], &[MEMBER_OF]),
    row(&[INSTANCE], &[DISTINCT, MEMBER_OF]),
    row(&[ZONE, MEMORY], &[DISTINCT, MEMBER_OF]),
    Row { strategies: &[ZONE, INSTANCE], constraints: &[], snapshot_every: 1 },
];

fn run(row: &Row, instances: u32, tasks: u32) {
    let strategies: Vec<PlacementStrategy> = row
        .strategies
        .iter()
        .map(|(kind, field)| PlacementStrategy { kind: Some((*kind).to_owned()), field: field.map(str::to_owned) })
        .collect();
    let constraints: Vec<PlacementConstraint> = row
        .constraints
        .iter()
        .map(|(kind, text)| PlacementConstraint { kind: Some((*kind).to_owned()), expression: text.map(str::to_owned) })
        .collect();
    let mut fleet = Fleet::default();
    // Twice what is needed where an expression leaves two of three instances.
    let spare = if row.constraints.contains(&MEMBER_OF) { 2 } else { 1 };
    let per_instance = tasks.div_ceil(instances) * spare + 1;
    for number in 0..instances {
        fleet.put_instance(instance(number, per_instance));
    }
    let before = resident_kib();
    let demand = Demand { cpu: 10, memory_mib: 16, ..Demand::default() };
    let mut snapshot = fleet.clone();
    let mut rates = Vec::new();
    let tenth = (tasks / 10).max(1);
    let mut since = processor_s();
    for number in 0..tasks {
        let group = format!("service:{}", number % GROUPS);
        let wanted = Wanted {
            demand: &demand,
            launch_type: LaunchType::Ec2,
            group: &group,
            family: "web",
            constraints: &constraints,
            strategies: &strategies,
            attributes: &[],
        };
        let found = place(&fleet, &wanted, mixed(u64::from(number))).expect("there is room for all");
        let task = TaskId::from_bytes(spread(number));
        fleet.put_claim(Claim { task, instance: found.instance, group: Some(group), demand: demand.clone() });
        if number % row.snapshot_every == 0 {
            snapshot = fleet.clone();
        }
        if (number + 1) % tenth == 0 {
            let now = processor_s();
            rates.push((f64::from(tenth) / (now - since)) as u64);
            since = now;
        }
    }
    let bytes = resident_kib().saturating_sub(before) * 1024 / u64::from(tasks.max(1));
    println!("{}: {rates:?}, {bytes} bytes a task", row.name());
    drop(snapshot);
}

impl Row {
    fn name(&self) -> String {
        let given = |(kind, rest): &Given| rest.map_or((*kind).to_owned(), |rest| format!("{kind} {rest}"));
        let all: Vec<String> = self.strategies.iter().chain(self.constraints).map(given).collect();
        format!("{}, a snapshot every {}", all.join(", "), self.snapshot_every)
    }
}

fn instance(number: u32, tasks: u32) -> Instance {
    let attribute = |name: &str, values: &[&str], number: usize| Attribute {
        name: Some(name.to_owned()),
        value: Some(values[number % values.len()].to_owned()),
        ..Attribute::default()
    };
    let at = number as usize;
    // Of each disk as many in every zone.
    let attributes = vec![attribute("ecs.availability-zone", &ZONES, at), attribute("disk", &DISKS, at / ZONES.len())];
    Instance {
        id: ContainerInstanceId::from_bytes(spread(number)),
        status: InstanceStatus::Active,
        agent_connected: true,
        agent_version: "1".to_owned(),
        host_name: format!("host-{number}"),
        registered_at: Timestamp::from_epoch_ms(0),
        attributes,
        cpu: tasks * 10,
        memory_mib: u64::from(tasks) * 16,
        reserved_tcp_ports: Vec::new(),
        reserved_udp_ports: Vec::new(),
        gpus: 0,
        interfaces: 0,
    }
}

/// Numbers as far apart as random ones (the finalizer of SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn spread(number: u32) -> [u8; 16] {
    (u128::from(mixed(u64::from(number))) << 64 | u128::from(number)).to_be_bytes()
}

/// For which this thread ran so far; the first number is in nanoseconds (Linux, Documentation/scheduler/sched-stats).
fn processor_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a kernel with CONFIG_SCHED_INFO");
    let ran = text.split(' ').next().and_then(|first| first.parse::<f64>().ok());
    ran.expect("a number") / 1e9
}

/// Of this process (proc_pid_status(5)).
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
