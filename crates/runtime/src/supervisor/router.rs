//! A log router's stop waits for the output of those that it routes: they have stopped before it, but what they wrote
//! last may still be on its way from the segments to the router's socket.

use agent_protocol::TaskSpec;
use ecs::log_options::AWSFIRELENS;
use ecs::{ContainerName, Timestamp};

use super::container::Container;

/// How long a router is kept for that, at most: as long as a shipper tries after its task has ended. A router that takes
/// nothing any more is not worth more.
const KEPT_MS: u64 = 10_000;
/// Between two looks.
const LOOK_MS: u64 = 5;

/// A stop signal that is held back.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) router: ContainerName,
    until: Timestamp,
}

impl Held {
    /// Nothing where the container is no router, or has nothing more to get.
    pub(super) fn of(
        task: &TaskSpec,
        router: &ContainerName,
        containers: &mut [Container],
        now: Timestamp,
    ) -> Option<Held> {
        let definition =
            task.containers.iter().map(|container| &container.definition).find(|one| one.name == *router)?;
        definition.firelens_configuration.as_ref()?;
        let held = Held { router: router.clone(), until: now.plus_ms(KEPT_MS) };
        (!held.is_over(task, containers, now)).then_some(held)
    }

    pub(super) fn is_over(&self, task: &TaskSpec, containers: &mut [Container], now: Timestamp) -> bool {
        now >= self.until
            || !task.containers.iter().zip(containers).any(|(spec, container)| {
                let log = spec.definition.log_configuration.as_ref();
                log.is_some_and(|log| log.log_driver == AWSFIRELENS) && !container.is_shipped()
            })
    }

    pub(super) fn look_at(&self, now: Timestamp) -> Timestamp {
        now.plus_ms(LOOK_MS).min(self.until)
    }
}
