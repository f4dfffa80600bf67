//! Why a task goes nowhere: for each instance of a cluster, what it lacked, in words.

use std::fmt;

use ecs::ContainerInstanceId;
use scheduler::{Fleet, Lack, Unplaceable, Wanted};

use crate::placing;
use crate::records::TaskRecord;
use crate::state::State;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is there, or would go there now.
    Fits(ContainerInstanceId),
    Fails(Report),
}

/// What `coracle explain` prints, a line an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Empty where there are no instances.
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub instance: ContainerInstanceId,
    pub host_name: String,
    /// `RESOURCE:MEMORY`.
    pub reason: &'static str,
    /// `needs 512 MiB, 380 free`.
    pub detail: String,
}

/// Where a task that has no instance would go now.
pub fn task(state: &State, task: &TaskRecord) -> Verdict {
    match (&task.instance, state.fleets.get(&task.cluster)) {
        (Some(instance), _) => Verdict::Fits(instance.clone()),
        (None, Some(fleet)) => placing::with_wanted(state, task, |wanted| explain(fleet, wanted)),
        (None, None) => Verdict::Fails(Report { lines: Vec::new() }),
    }
}

pub fn explain(fleet: &Fleet, wanted: &Wanted<'_>) -> Verdict {
    match scheduler::place(fleet, wanted, 0) {
        Ok(placement) => Verdict::Fits(placement.instance),
        Err(unplaceable) => Verdict::Fails(report(fleet, &unplaceable)),
    }
}

pub fn report(fleet: &Fleet, unplaceable: &Unplaceable) -> Report {
    let line = |(id, lack): &(ContainerInstanceId, Lack)| Line {
        instance: id.clone(),
        host_name: fleet.instance(id).map(|instance| instance.host_name.clone()).unwrap_or_default(),
        reason: lack.reason(),
        detail: detail(lack),
    };
    Report { lines: unplaceable.lacks.iter().map(line).collect() }
}

/// What one instance lacked, for people.
pub fn detail(lack: &Lack) -> String {
    match lack {
        Lack::NotActive => "the instance is not ACTIVE".to_owned(),
        Lack::AgentDisconnected => "the instance's agent is disconnected".to_owned(),
        Lack::Cpu { needs, free } => format!("needs {needs} CPU units, {free} free"),
        Lack::Memory { needs_mib, free_mib } => format!("needs {needs_mib} MiB, {free_mib} free"),
        Lack::Port { port, protocol, held_by: Some(task) } => format!("port {port}/{protocol} held by task {task}"),
        Lack::Port { port, protocol, held_by: None } => format!("port {port}/{protocol} reserved on the instance"),
        Lack::Interfaces => "no elastic network interface is free".to_owned(),
        Lack::Gpu { needs, free } => format!("needs {needs} GPUs, {free} free"),
        Lack::Attribute { name } => format!("the instance has no attribute {name}"),
        Lack::Constraint { expression } => format!("{expression} is not true of the instance"),
        Lack::Distinct { task } => format!("task {task} of the same group is there"),
    }
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({}): {}: {}", self.instance, self.host_name, self.reason, self.detail)
    }
}
