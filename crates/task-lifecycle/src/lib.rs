//! One task's next step: which container starts, which is told to stop, whose health is looked at, when the task has
//! ended, and what DescribeTasks says about it meanwhile.
//!
//! [`TaskRun`] is told what happened (`on`), is asked what to do (`poll`) and when to come back (`deadline`). It owns
//! no process, reads no clock and never waits; carrying out is the task supervisor's. The rules are Amazon's:
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html> and, for
//! `dependsOn`, `startTimeout`, `stopTimeout`, `essential`, `healthCheck` and `restartPolicy`,
//! <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>. Where the page is silent,
//! the ECS agent's behaviour decides.

mod container;
mod depends;
mod health;
mod progress;
mod rules;
mod run;
pub mod state;

pub use progress::{ContainerProgress, Progress};
pub use rules::{ContainerRules, DEFAULT_STOP_TIMEOUT_S, HealthRules, RestartRules};
pub use run::{Action, Event, Signal, TaskRun, words};
