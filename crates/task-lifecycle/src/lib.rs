//! One task's next step: which container starts, which is told to stop, when the task has ended, and what
//! DescribeTasks says about it meanwhile.
//!
//! [`TaskRun`] is told what happened (`on`), is asked what to do (`poll`) and when to come back (`deadline`). It owns
//! no process, reads no clock and never waits; carrying out is the task supervisor's. The rules are Amazon's:
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html> and, for
//! `dependsOn`, `startTimeout`, `stopTimeout` and `essential`,
//! <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>.

mod depends;
mod run;
pub mod state;

pub use run::{
    Action, ContainerProgress, ContainerRules, DEFAULT_STOP_TIMEOUT_S, Event, HealthRules, Progress, RestartRules,
    Signal, TaskRun, words,
};
