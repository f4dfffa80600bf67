//! Random graphs, random ends, random requests: the machine never hangs, never starts early, stops in order, and a
//! late or repeated event changes nothing.

use std::collections::BTreeMap;

use ecs::task::{ContainerLastStatus, LastStatus, StopCode};
use ecs::task_definition::{ContainerCondition, ContainerDependency};
use ecs::{ContainerName, Timestamp};
use proptest::prelude::*;
use task_lifecycle::{Action, ContainerRules, Event, Signal, TaskRun};

/// Steps within which every task must have ended; far above what the largest one needs.
const PATIENCE: usize = 2_000;

fn name(place: usize) -> ContainerName {
    ContainerName::try_from(format!("c{place}")).expect("a good name")
}

/// How one simulated container behaves.
#[derive(Clone, Debug)]
struct Behaviour {
    starts: bool,
    lives_ms: u64,
    exit_code: i32,
    /// Ignores the stop signal.
    stubborn: bool,
    start_takes_ms: u64,
}

#[derive(Clone, Debug)]
struct Scenario {
    rules: Vec<ContainerRules>,
    behaviour: Vec<Behaviour>,
    stop_at: Option<u64>,
    kill_at: Option<u64>,
    repeat: bool,
}

fn scenario() -> impl Strategy<Value = Scenario> {
    (1usize..6).prop_flat_map(|count| {
        let rules = (0..count).map(container).collect::<Vec<_>>();
        let behaviour = proptest::collection::vec(behaviour(), count);
        (rules, behaviour, proptest::option::of(0u64..20_000), proptest::option::of(0u64..30_000), any::<bool>())
            .prop_map(|(mut rules, behaviour, stop_at, kill_at, repeat)| {
                rules[0].essential = true;
                Scenario { rules, behaviour, stop_at, kill_at, repeat }
            })
    })
}

/// Depends only on containers before it, so there is no cycle.
fn container(place: usize) -> BoxedStrategy<ContainerRules> {
    let condition = prop_oneof![
        Just(ContainerCondition::Start),
        Just(ContainerCondition::Complete),
        Just(ContainerCondition::Success)
    ];
    let depends_on = if place == 0 {
        Just(Vec::new()).boxed()
    } else {
        proptest::collection::vec((0..place, condition), 0..3).boxed()
    };
    (depends_on, any::<bool>(), 0u32..8, proptest::option::of(1u32..8))
        .prop_map(move |(depends_on, essential, stop_timeout_s, start_timeout_s)| ContainerRules {
            name: name(place),
            essential,
            depends_on: depends_on
                .into_iter()
                .map(|(on, condition)| ContainerDependency { container_name: name(on), condition })
                .collect(),
            stop_timeout_s,
            start_timeout_s,
        })
        .boxed()
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    (prop::bool::weighted(0.9), 0u64..15_000, prop_oneof![Just(0), Just(1), Just(137)], any::<bool>(), 0u64..50)
        .prop_map(|(starts, lives_ms, exit_code, stubborn, start_takes_ms)| Behaviour {
            starts,
            lives_ms,
            exit_code,
            stubborn,
            start_takes_ms,
        })
}

/// A supervisor without processes: a queue of what will happen.
struct World<'a> {
    scenario: &'a Scenario,
    run: TaskRun,
    now: u64,
    agenda: BTreeMap<(u64, u64), Event>,
    serial: u64,
    ended: Vec<bool>,
}

impl World<'_> {
    fn plan(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.agenda.insert((at, self.serial), event);
    }

    fn act(&mut self) -> Result<(), TestCaseError> {
        while let Some(action) = self.run.poll() {
            match action {
                Action::Start(container) => self.start(&container)?,
                Action::Signal(container, signal) => self.signal(&container, signal)?,
                Action::Finished => self.plan(self.now + 1, Event::CleanedUp),
            }
        }
        Ok(())
    }

    fn start(&mut self, container: &ContainerName) -> Result<(), TestCaseError> {
        let place = self.place(container);
        let progress = self.run.progress();
        for dependency in &self.scenario.rules[place].depends_on {
            let on = &progress.containers[self.place(&dependency.container_name)];
            let met = match dependency.condition {
                ContainerCondition::Start => on.last_status >= ContainerLastStatus::Running,
                ContainerCondition::Complete => on.exit_code.is_some(),
                ContainerCondition::Success => on.exit_code == Some(0),
                ContainerCondition::Healthy => false,
            };
            prop_assert!(met, "{container} started before {} was met", dependency.container_name);
        }
        let behaviour = self.scenario.behaviour[place].clone();
        let up = self.now + behaviour.start_takes_ms;
        if behaviour.starts {
            self.plan(up, Event::ContainerStarted { container: container.clone() });
            self.plan(up + behaviour.lives_ms, self.exit(place, behaviour.exit_code));
        } else {
            let reason = "CannotStartContainerError: no".to_owned();
            self.plan(up, Event::ContainerFailedToStart { container: container.clone(), reason });
        }
        Ok(())
    }

    fn signal(&mut self, container: &ContainerName, signal: Signal) -> Result<(), TestCaseError> {
        let place = self.place(container);
        prop_assert!(!self.ended[place], "{container} was signalled after its end");
        if signal == Signal::Stop {
            for (other, rules) in self.scenario.rules.iter().enumerate() {
                let depends = rules.depends_on.iter().any(|dependency| dependency.container_name == *container);
                let running = self.run.progress().containers[other].last_status != ContainerLastStatus::Stopped;
                prop_assert!(!(depends && running), "{container} was stopped before {}", rules.name);
            }
        }
        match signal {
            Signal::Stop if self.scenario.behaviour[place].stubborn => {}
            Signal::Stop => self.plan(self.now + 1, self.exit(place, 143)),
            Signal::Kill => self.plan(self.now + 1, self.exit(place, 137)),
        }
        Ok(())
    }

    fn exit(&self, place: usize, exit_code: i32) -> Event {
        Event::ContainerExited { container: name(place), exit_code, oom: false }
    }

    fn place(&self, container: &ContainerName) -> usize {
        self.scenario.rules.iter().position(|rules| rules.name == *container).expect("of this task")
    }

    fn tell(&mut self, event: Event) {
        if let Event::ContainerExited { container, .. } | Event::ContainerFailedToStart { container, .. } = &event {
            let place = self.place(container);
            if !self.ended[place] {
                self.ended[place] = true;
            }
        }
        self.run.on(event, Timestamp::from_epoch_ms(self.now));
    }
}

fn play(scenario: &Scenario) -> Result<TaskRun, TestCaseError> {
    let count = scenario.rules.len();
    let mut world = World {
        scenario,
        run: TaskRun::new(&scenario.rules, Timestamp::from_epoch_ms(0)),
        now: 0,
        agenda: BTreeMap::new(),
        serial: 0,
        ended: vec![false; count],
    };
    if let Some(at) = scenario.stop_at {
        world.plan(at, Event::StopRequested { code: StopCode::UserInitiated, reason: String::new() });
    }
    if let Some(at) = scenario.kill_at {
        world.plan(at, Event::KillRequested);
    }
    for _ in 0..PATIENCE {
        world.act()?;
        if world.run.progress().last_status == LastStatus::Stopped {
            return Ok(world.run);
        }
        let deadline = world.run.deadline().map(|at| at.epoch_ms);
        let next = world.agenda.keys().next().map(|(at, _)| *at);
        world.now = match (deadline, next) {
            (Some(deadline), Some(next)) => deadline.min(next),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return Err(TestCaseError::fail(format!("hangs: {:?}", world.run.progress()))),
        };
        while let Some(entry) = world.agenda.first_entry() {
            if entry.key().0 > world.now {
                break;
            }
            let event = entry.remove();
            if scenario.repeat {
                world.tell(event.clone());
                let before = world.run.progress();
                world.run.on(event.clone(), Timestamp::from_epoch_ms(world.now));
                prop_assert_eq!(&world.run.progress(), &before, "a repeated {:?} changed something", event);
            } else {
                world.tell(event);
            }
        }
        world.tell(Event::TimePassed);
    }
    Err(TestCaseError::fail(format!("not at an end: {:?}", world.run.progress())))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_task_ends_in_order_and_stays_ended(scenario in scenario()) {
        let mut run = play(&scenario)?;
        let end = run.progress();
        prop_assert!(end.containers.iter().all(|container| container.last_status == ContainerLastStatus::Stopped));
        prop_assert!(end.stop_code.is_some() && end.stopped_reason.is_some());
        prop_assert!(end.stopping_at <= end.stopped_at);
        for container in (0..scenario.rules.len()).map(name) {
            run.on(Event::ContainerStarted { container: container.clone() }, Timestamp::from_epoch_ms(u64::MAX));
            run.on(Event::ContainerExited { container, exit_code: 5, oom: true }, Timestamp::from_epoch_ms(u64::MAX));
        }
        run.on(Event::KillRequested, Timestamp::from_epoch_ms(u64::MAX));
        prop_assert_eq!(run.poll(), None);
        prop_assert_eq!(run.progress(), end);
    }
}
