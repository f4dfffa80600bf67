//! Random graphs, random ends, random health, random requests: the machine never hangs, never starts early, stops in
//! order, gives no action twice, and always says when it wants to be asked again.

mod world;

use ecs::Timestamp;
use ecs::task::{ContainerLastStatus, LastStatus};
use ecs::task_definition::{ContainerCondition, ContainerDependency};
use proptest::prelude::*;
use task_lifecycle::{ContainerRules, Event, HealthRules, RestartRules};
use world::{Behaviour, Check, Pace, Scenario, TICK_MS, World, name};

/// Every moment of a scenario is a multiple of the tick, so that a world that ticks misses none.
fn ticks(range: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    range.prop_map(|ticks| ticks * TICK_MS)
}

fn scenario() -> impl Strategy<Value = Scenario> {
    (1usize..6).prop_flat_map(|count| {
        let rules = (0..count).map(container).collect::<Vec<_>>();
        let behaviours = proptest::collection::vec(behaviour(), count);
        let requests = (proptest::option::of(ticks(1..100)), proptest::option::of(ticks(1..200)));
        (rules, behaviours, requests, any::<bool>()).prop_map(|(mut rules, behaviours, (stop_at, kill_at), repeat)| {
            rules[0].essential = true;
            Scenario { rules, behaviours, stop_at, kill_at, repeat }
        })
    })
}

/// Depends only on containers before it, so there is no circle.
fn container(place: usize) -> BoxedStrategy<ContainerRules> {
    let condition = prop_oneof![
        Just(ContainerCondition::Start),
        Just(ContainerCondition::Complete),
        Just(ContainerCondition::Success),
        Just(ContainerCondition::Healthy)
    ];
    let depends_on = if place == 0 {
        Just(Vec::new()).boxed()
    } else {
        proptest::collection::vec((0..place, condition), 0..3).boxed()
    };
    let health = (1u32..4, 1u32..4, 1u32..4, 0u32..8).prop_map(|(interval_s, timeout_s, retries, start_period_s)| {
        HealthRules { interval_s, timeout_s, retries, start_period_s }
    });
    let restart = (1u32..6, prop_oneof![Just(vec![]), Just(vec![0]), Just(vec![1, 137])])
        .prop_map(|(attempt_period_s, ignored_exit_codes)| RestartRules { ignored_exit_codes, attempt_period_s });
    let timeouts = (0u32..8, proptest::option::of(1u32..8));
    (depends_on, any::<bool>(), timeouts, prop::option::weighted(0.7, health), prop::option::weighted(0.3, restart))
        .prop_map(move |(depends_on, essential, (stop_timeout_s, start_timeout_s), health_check, restart)| {
            ContainerRules {
                name: name(place),
                essential,
                depends_on: depends_on
                    .into_iter()
                    .map(|(on, condition)| ContainerDependency { container_name: name(on), condition })
                    .collect(),
                stop_timeout_s,
                start_timeout_s,
                health_check,
                restart,
            }
        })
        .boxed()
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let check = (ticks(1..20), prop_oneof![3 => Just(Some(0)), 2 => Just(Some(1)), 1 => Just(None)]);
    let check = check.prop_map(|(takes_ms, exit_code)| Check { takes_ms, exit_code });
    (
        prop::bool::weighted(0.9),
        ticks(1..8),
        proptest::collection::vec(prop::option::weighted(0.7, ticks(0..60)), 1..4),
        prop_oneof![Just(0), Just(1), Just(137)],
        any::<bool>(),
        any::<bool>(),
        proptest::collection::vec(check, 1..5),
    )
        .prop_map(|(starts, start_takes_ms, lives_ms, exit_code, stubborn, aborts, checks)| Behaviour {
            starts,
            start_takes_ms,
            lives_ms,
            exit_code,
            stubborn,
            aborts,
            checks,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn every_task_runs_waits_for_what_runs_or_ends_in_order_and_stays_ended(scenario in scenario()) {
        let mut world = World::new(&scenario, Pace::Deadlines);
        world.play_to_rest()?;
        world.play_to_the_end()?;
        let mut run = world.run;
        let end = run.progress();
        prop_assert_eq!(end.last_status, LastStatus::Stopped);
        prop_assert!(end.containers.iter().all(|container| container.last_status == ContainerLastStatus::Stopped));
        prop_assert!(end.stop_code.is_some() && end.stopped_reason.is_some());
        prop_assert!(end.stopping_at <= end.stopped_at);
        for container in (0..scenario.rules.len()).map(name) {
            let never = Timestamp::from_epoch_ms(u64::MAX);
            run.on(Event::ContainerStarted { container: container.clone() }, never);
            run.on(Event::HealthCheckEnded { container: container.clone(), exit_code: Some(0) }, never);
            run.on(Event::ContainerExited { container, exit_code: 5, oom: true }, never);
        }
        run.on(Event::KillRequested, Timestamp::from_epoch_ms(u64::MAX));
        prop_assert_eq!(run.poll(), None);
        prop_assert_eq!(run.deadline(), None);
        prop_assert_eq!(run.progress(), end);
    }

    /// Being asked all the time finds nothing to do that being asked at the deadlines does not.
    #[test]
    fn the_deadline_wakes_for_everything(scenario in scenario()) {
        let mut asked = World::new(&scenario, Pace::Deadlines);
        asked.play_to_rest()?;
        asked.play_to_the_end()?;
        let mut always = World::new(&scenario, Pace::EveryTick);
        always.play_to_rest()?;
        always.play_to_the_end()?;
        prop_assert_eq!(asked.done, always.done);
        prop_assert_eq!(asked.run.progress(), always.run.progress());
    }
}
