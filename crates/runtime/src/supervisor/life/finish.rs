//! The end of a task: everything goes, and the last status is written.

use std::process::ExitCode;

use agent_protocol::TaskSpec;
use ecs::TaskId;
use task_lifecycle::Event;

use super::super::abandon;
use super::super::journal::chain;
use super::{Life, STATUS_RETRY_MS};
use crate::launch;
use crate::namespaces::TaskNamespaces;
use crate::spawn::SupervisorArgs;
use crate::status_file::Durability;
use crate::task_dir::{self, CONTAINERS_NAME, remove_tree};

/// How often the last status, which must not be lost, is tried before the supervisor ends without it.
const LAST_STATUS_TRIES: u32 = 60;

impl Life {
    /// Everything of the task goes, then the last status is written. Only our own empty cgroup goes after it.
    pub(super) fn finish(mut self, teardown: impl FnOnce(&TaskId, Option<&TaskSpec>) -> Vec<String>) -> ExitCode {
        // Told before the cleaning: an exit is visible at once.
        self.changed = true;
        self.publish();
        self.services.end();
        let mut errors = std::mem::replace(&mut self.namespaces, TaskNamespaces::private()).end();
        errors.extend(self.volumes.release());
        errors.extend(self.remove_containers());
        errors.extend(teardown(&self.spec.id, Some(&self.spec)));
        self.networks.clear();
        // Before anything is forked that would keep them taken for a moment longer than this process lives.
        self.held_ports.clear();
        for directory in [self.spec.places.state.join(CONTAINERS_NAME), self.spec.places.run.clone()] {
            if let Err(cause) = remove_tree(&directory) {
                errors.push(format!("cannot remove {}: {cause}", directory.display()));
            }
        }
        for error in &errors {
            self.journal.say(self.clock.now(), error);
        }
        self.facts.teardown_errors = errors;
        self.run.on(Event::CleanedUp, self.clock.now());
        self.status = self.new_status();
        self.write_last_status();
        self.tell_watchers();
        let args = SupervisorArgs { id: self.spec.id.clone(), places: self.spec.places.clone() };
        if let Err(error) = abandon::leave_own_cgroup(&self.process, &args) {
            self.journal.say(self.clock.now(), &error);
        }
        if self.unwritten.is_some() {
            return ExitCode::FAILURE;
        }
        if let Err(error) = task_dir::retire(&self.spec.places.state) {
            self.journal.complain(self.clock.now(), "the lock stays", &error);
        }
        ExitCode::SUCCESS
    }

    fn write_last_status(&mut self) {
        let reserved =
            self.reserve.take().map(|reserve| reserve.spend(&self.spec.places.state, &self.status, Durability::Disk));
        match reserved {
            Some(Ok(())) => self.unwritten = None,
            Some(Err(_)) | None => self.write_status(Durability::Disk),
        }
        for _ in 0..LAST_STATUS_TRIES {
            if self.unwritten.is_none() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(STATUS_RETRY_MS));
            self.write_status(Durability::Disk);
        }
    }

    fn remove_containers(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        for container in &self.spec.containers {
            errors.extend(launch::remove(&self.spec, container, &self.process.cgroups));
        }
        errors.extend(self.process.cgroups.remove_task(&self.spec).iter().map(|error| chain(error)));
        // What was killed just now were our children or became them.
        self.reap();
        errors
    }
}
