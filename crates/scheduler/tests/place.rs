//! Where tasks go: every strategy's choice against all that fit, and what is told where nothing does.

use std::collections::BTreeMap;

use ecs::operations::shapes::{Attribute, PlacementStrategy};
use ecs::task_definition::PlacementConstraint;
use ecs::{ContainerInstanceId, LaunchType, TaskId, Timestamp};
use proptest::prelude::*;
use scheduler::{Claim, Constraints, Demand, Fleet, Instance, InstanceStatus, Lack, Strategy as Read, Wanted, place};

fn id(number: u8) -> ContainerInstanceId {
    // Spread over all ids, as random ones are.
    ContainerInstanceId::from_bytes([number.wrapping_mul(83); 16])
}

fn task(number: u32) -> TaskId {
    TaskId::from_bytes((u128::from(number) << 96 | u128::from(number)).to_be_bytes())
}

fn instance(number: u8, zone: Option<&str>, cpu: u32, memory_mib: u64) -> Instance {
    let zone = zone.map(|zone| Attribute {
        name: Some("ecs.availability-zone".to_owned()),
        value: Some(zone.to_owned()),
        ..Attribute::default()
    });
    let parity = Attribute {
        name: Some("parity".to_owned()),
        value: Some(if number.is_multiple_of(2) { "even" } else { "odd" }.to_owned()),
        ..Attribute::default()
    };
    Instance {
        id: id(number),
        status: InstanceStatus::Active,
        agent_connected: true,
        agent_version: "1".to_owned(),
        host_name: format!("host-{number}"),
        registered_at: Timestamp::from_epoch_ms(0),
        attributes: zone.into_iter().chain([parity]).collect(),
        cpu,
        memory_mib,
        reserved_tcp_ports: vec![22],
        reserved_udp_ports: Vec::new(),
        gpus: 1,
        interfaces: 2,
    }
}

fn wanted<'a>(demand: &'a Demand, group: &'a str) -> Wanted<'a> {
    Wanted {
        demand,
        launch_type: LaunchType::Ec2,
        group,
        family: "web",
        constraints: &[],
        strategies: &[],
        attributes: &[],
    }
}

fn demand(cpu: u32, memory_mib: u64) -> Demand {
    Demand { cpu, memory_mib, ..Demand::default() }
}

fn claim(number: u32, on: u8, group: &str, demand: &Demand) -> Claim {
    Claim { task: task(number), instance: id(on), group: Some(group.to_owned()), demand: demand.clone() }
}

fn strategy(kind: &str, field: &str) -> PlacementStrategy {
    let field = (!field.is_empty()).then(|| field.to_owned());
    PlacementStrategy { kind: Some(kind.to_owned()), field }
}

fn constraint(kind: &str, expression: Option<&str>) -> PlacementConstraint {
    PlacementConstraint { kind: Some(kind.to_owned()), expression: expression.map(str::to_owned) }
}

#[test]
fn what_is_missing_is_told_for_every_instance() {
    let mut fleet = Fleet::default();
    for number in 0..8 {
        fleet.put_instance(instance(number, Some("a"), 1024, 1024));
    }
    fleet.put_instance(Instance { status: InstanceStatus::Draining, ..instance(0, Some("a"), 1024, 1024) });
    fleet.put_instance(Instance { agent_connected: false, ..instance(1, Some("a"), 1024, 1024) });
    fleet.put_claim(claim(2, 2, "g", &demand(1000, 0)));
    fleet.put_claim(claim(3, 3, "g", &demand(0, 1000)));
    fleet.put_claim(claim(4, 4, "g", &Demand { tcp_ports: vec![80], ..Demand::default() }));
    fleet.put_claim(claim(5, 5, "g", &Demand { interfaces: 2, ..Demand::default() }));
    fleet.put_claim(claim(6, 6, "g", &Demand { gpus: 1, ..Demand::default() }));
    fleet.put_claim(claim(7, 7, "mine", &Demand::default()));
    let demand = Demand { cpu: 128, memory_mib: 128, tcp_ports: vec![80], udp_ports: vec![53], gpus: 1, interfaces: 1 };
    let distinct = [constraint("distinctInstance", None)];
    let mut asked = wanted(&demand, "mine");
    asked.constraints = &distinct;
    let lacks: BTreeMap<_, _> = place(&fleet, &asked, 0).expect_err("nothing fits").lacks.into_iter().collect();
    let expected = [
        (0, Lack::NotActive, "INACTIVE"),
        (1, Lack::AgentDisconnected, "AGENT"),
        (2, Lack::Cpu { needs: 128, free: 24 }, "RESOURCE:CPU"),
        (3, Lack::Memory { needs_mib: 128, free_mib: 24 }, "RESOURCE:MEMORY"),
        (4, Lack::Port { port: 80, protocol: "tcp", held_by: Some(task(4)) }, "RESOURCE:PORTS"),
        (5, Lack::Interfaces, "RESOURCE:ENI"),
        (6, Lack::Gpu { needs: 1, free: 0 }, "RESOURCE:GPU"),
        (7, Lack::Distinct { task: task(7) }, "MemberOf placement constraint unsatisfied."),
    ];
    for (number, lack, reason) in expected {
        assert_eq!(lacks.get(&id(number)), Some(&lack), "{number}");
        assert_eq!(lack.reason(), reason);
    }
    // What was given back is there again, and what has changed of an instance leaves its claims alone.
    fleet.remove_claim(&id(4), &task(4));
    assert_eq!(place(&fleet, &asked, 0).expect("the port is free").instance, id(4));
    fleet.put_instance(Instance { attributes: Vec::new(), ..instance(2, None, 1024, 1024) });
    assert_eq!(fleet.remaining(&id(2)), Some((24, 1024)));
    let attributes = ["parity".to_owned()];
    let small = Demand::default();
    let asked = Wanted { attributes: &attributes, ..wanted(&small, "x") };
    let only = [constraint("memberOf", Some("ec2InstanceId == host-2"))];
    let lacks = place(&fleet, &Wanted { constraints: &only, ..asked }, 0).expect_err("it lacks the attribute").lacks;
    assert!(lacks.contains(&(id(2), Lack::Attribute { name: "parity".to_owned() })));
}

/// Amazon: "if the desired status of the existing task is STOPPED (but the last status isn't), a new incoming task can be
/// placed on the same instance despite the distinctInstance placement constraint".
#[test]
fn who_is_to_stop_keeps_what_it_has_and_is_no_other_of_its_group() {
    let mut fleet = Fleet::default();
    fleet.put_instance(instance(1, Some("a"), 1024, 1024));
    let (large, small) = (demand(1000, 0), demand(24, 0));
    fleet.put_claim(claim(1, 1, "mine", &large));
    let distinct = [constraint("distinctInstance", None)];
    let asked = Wanted { constraints: &distinct, ..wanted(&small, "mine") };
    let lacks = place(&fleet, &asked, 0).expect_err("it is there already").lacks;
    assert_eq!(lacks, [(id(1), Lack::Distinct { task: task(1) })]);
    fleet.put_claim(Claim { group: None, ..claim(1, 1, "mine", &large) });
    assert_eq!(place(&fleet, &asked, 0).expect("it is to stop").instance, id(1));
    let lacks = place(&fleet, &wanted(&large, "mine"), 0).expect_err("it is there still").lacks;
    assert_eq!(lacks, [(id(1), Lack::Cpu { needs: 1000, free: 24 })]);
    fleet.remove_claim(&id(1), &task(1));
    assert_eq!(fleet.remaining(&id(1)), Some((1024, 1024)));
}

/// How often each instance is chosen, of so many that the dice decide.
fn chosen(fleet: &Fleet, asked: &Wanted<'_>, times: u64) -> BTreeMap<ContainerInstanceId, u32> {
    let mut chosen = BTreeMap::new();
    for number in 0..times {
        let dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *chosen.entry(place(fleet, asked, dice).expect("there is room").instance).or_default() += 1;
    }
    chosen
}

/// Ids that lie close to each other, instances of unlike size, and half of them shut out.
#[test]
fn at_random_each_that_fits_is_as_likely() {
    let mut fleet = Fleet::default();
    for number in 0..40_u8 {
        let id = ContainerInstanceId::from_bytes((u128::from(number).pow(9) << 64).to_be_bytes());
        fleet.put_instance(Instance { id, ..instance(number, Some("a"), 1024 * u32::from(number + 1), 1024) });
    }
    let (demand, even) = (demand(128, 128), [constraint("memberOf", Some("attribute:parity == even"))]);
    let times = chosen(&fleet, &Wanted { constraints: &even, ..wanted(&demand, "g") }, 20_000);
    assert_eq!(times.len(), 20);
    // 1,000 each, give or take five times the spread of so many throws.
    assert!(times.values().all(|times| times.abs_diff(1000) < 160), "{times:?}");
}

#[test]
fn the_dice_decide_between_instances_and_zones_with_equally_many_tasks() {
    let mut fleet = Fleet::default();
    for number in 0..6_u8 {
        fleet.put_instance(instance(number, Some(["a", "b"][usize::from(number % 2)]), 1024, 1024));
        fleet.put_claim(claim(u32::from(number), number, "g", &demand(1, 1)));
    }
    let (needs, spread) = (demand(1, 1), [strategy("spread", "instanceId")]);
    let times = chosen(&fleet, &Wanted { strategies: &spread, ..wanted(&needs, "g") }, 600);
    assert_eq!(times.len(), 6, "{times:?}");
    let of_zone: u32 = (0..6_u8).step_by(2).map(|number| times[&id(number)]).sum();
    assert!((200..400).contains(&of_zone), "{times:?}");
}

#[test]
fn reserved_ports_are_nobodys() {
    let mut fleet = Fleet::default();
    fleet.put_instance(instance(1, None, 1024, 1024));
    let ssh = Demand { tcp_ports: vec![22], ..Demand::default() };
    let lacks = place(&fleet, &wanted(&ssh, "g"), 0).expect_err("it is reserved").lacks;
    assert_eq!(lacks, [(id(1), Lack::Port { port: 22, protocol: "tcp", held_by: None })]);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let good = [constraint("distinctInstance", None), constraint("memberOf", Some("task:group == a"))];
    assert_eq!(Constraints::check(&good), Ok(()));
    for (kind, expression) in
        [("distinctInstance", Some("task:group == a")), ("memberOf", None), ("memberOf", Some("x")), ("", None)]
    {
        assert!(Constraints::check(&[constraint(kind, expression)]).is_err(), "{kind} {expression:?}");
    }
    assert_eq!(Read::read(&strategy("spread", "host")), Ok(Read::SpreadInstances));
    assert_eq!(Read::read(&strategy("binpack", "MEMORY")), Ok(Read::BinpackMemory));
    for (kind, field) in [("spread", ""), ("spread", "attribute:"), ("binpack", "disk"), ("binpack", ""), ("best", "")]
    {
        assert!(Read::read(&strategy(kind, field)).is_err(), "{kind} {field}");
    }
}

/// One instance as the tests see it.
#[derive(Clone, Debug, Default)]
struct Seen {
    zone: Option<&'static str>,
    cpu: u32,
    memory_mib: u64,
    tasks: Vec<(u32, u32, u64, bool)>,
}

impl Seen {
    fn free(&self) -> (u32, u64) {
        let used = self.tasks.iter().fold((0, 0), |sum, task| (sum.0 + task.1, sum.1 + task.2));
        (self.cpu.saturating_sub(used.0), self.memory_mib.saturating_sub(used.1))
    }

    fn of_group(&self) -> usize {
        self.tasks.iter().filter(|task| task.3).count()
    }
}

const STRATEGIES: [(&str, &str); 6] = [
    ("random", ""),
    ("spread", "instanceId"),
    ("spread", "attribute:ecs.availability-zone"),
    ("spread", "attribute:parity"),
    ("binpack", "cpu"),
    ("binpack", "memory"),
];

/// What a strategy leaves of those that fit.
fn narrowed(left: Vec<u8>, seen: &BTreeMap<u8, Seen>, strategy: (&str, &str)) -> Vec<u8> {
    let in_zone = |zone: Option<&str>| -> usize {
        match zone {
            None => usize::MAX,
            Some(zone) => seen.values().filter(|other| other.zone == Some(zone)).map(Seen::of_group).sum(),
        }
    };
    let of_parity = |number: u8| -> usize {
        seen.iter().filter(|(other, _)| *other % 2 == number % 2).map(|(_, seen)| seen.of_group()).sum()
    };
    let score = |number: &u8| -> u64 {
        let one = &seen[number];
        match strategy {
            ("random", _) => 0,
            ("spread", "instanceId") => one.of_group() as u64,
            ("spread", "attribute:parity") => of_parity(*number) as u64,
            ("spread", _) => in_zone(one.zone) as u64,
            ("binpack", "cpu") => u64::from(one.free().0),
            (_, _) => one.free().1,
        }
    };
    let least = left.iter().map(score).min();
    left.into_iter().filter(|number| Some(score(number)) == least).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_choice_is_one_of_the_best(
        sizes in proptest::collection::vec((0..3_usize, 1..5_u32, 1..5_u64), 1..12),
        steps in proptest::collection::vec((0..12_u8, 0..3_u32, 0..3_u64, any::<bool>(), any::<bool>()), 0..40),
        strategies in proptest::collection::vec(0..STRATEGIES.len(), 0..4),
        needs in (0..3_u32, 0..3_u64),
        dice in any::<u64>(),
    ) {
        let mut fleet = Fleet::default();
        let mut seen: BTreeMap<u8, Seen> = BTreeMap::new();
        for (number, (zone, cpu, memory)) in sizes.iter().enumerate() {
            let number = u8::try_from(number).expect("few");
            let zone = [None, Some("a"), Some("b")][*zone];
            fleet.put_instance(instance(number, zone, cpu * 100, memory * 100));
            seen.insert(number, Seen { zone, cpu: cpu * 100, memory_mib: memory * 100, tasks: Vec::new() });
        }
        for (number, (on, cpu, memory, of_group, goes)) in steps.iter().enumerate() {
            let number = u32::try_from(number).expect("few");
            let Some(one) = seen.get_mut(on) else { continue };
            let needs = demand(cpu * 50, memory * 50);
            fleet.put_claim(claim(number, *on, if *of_group { "g" } else { "other" }, &needs));
            if *goes {
                fleet.remove_claim(&id(*on), &task(number));
            } else {
                one.tasks.push((number, cpu * 50, memory * 50, *of_group));
            }
        }
        for (number, one) in &seen {
            prop_assert_eq!(fleet.remaining(&id(*number)), Some(one.free()));
        }
        let needs = demand(needs.0 * 50, needs.1 * 50);
        let given: Vec<PlacementStrategy> =
            strategies.iter().map(|index| strategy(STRATEGIES[*index].0, STRATEGIES[*index].1)).collect();
        let asked = Wanted { strategies: &given, ..wanted(&needs, "g") };
        let fitting: Vec<u8> = seen
            .iter()
            .filter(|(_, one)| one.free().0 >= needs.cpu && one.free().1 >= needs.memory_mib)
            .map(|(number, _)| *number)
            .collect();
        let best = strategies.iter().fold(fitting, |left, index| narrowed(left, &seen, STRATEGIES[*index]));
        match place(&fleet, &asked, dice) {
            Ok(placement) => {
                prop_assert!(best.iter().any(|number| id(*number) == placement.instance), "{:?} of {best:?}", placement);
            }
            Err(unplaceable) => {
                prop_assert!(best.is_empty());
                prop_assert_eq!(unplaceable.lacks.len(), seen.len());
            }
        }
    }
}
