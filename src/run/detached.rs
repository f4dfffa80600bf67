//! `coracle run --detach`: the task's id at once, and then until the task has started or could not be.

use agent::driver::Started;
use agent::{Host, ending, events};
use agent_protocol::TaskStatus;
use ecs::task::{LastStatus, StopCode};
use runtime::client::{self, ClientError};

use super::attached::final_status;
use super::report::Report;
use crate::clock;
use crate::failure::{Explain, Failure};

/// Waits until every container has started, so that whoever asked can go on with `exec` or a published port. A task
/// that stops before that is an error where it failed to start; its directories stay to be inspected.
pub(super) fn until_started(host: &Host, started: &Started, report: &mut Report) -> Result<i32, Failure> {
    report.detached(started)?;
    let waiting = || format!("waiting for the start of task {}", started.spec.id);
    let mut last: Option<TaskStatus> = None;
    match client::connect(&started.spec.places).and_then(client::Client::watch) {
        Ok(watch) => {
            for status in watch {
                let status = status.doing(waiting())?;
                report.events_for_programs(&events::between(last.as_ref(), &status, clock::now()));
                match status.last_status {
                    LastStatus::Running => return Ok(0),
                    LastStatus::Stopped => break,
                    LastStatus::Provisioning
                    | LastStatus::Pending
                    | LastStatus::Activating
                    | LastStatus::Deactivating
                    | LastStatus::Stopping
                    | LastStatus::Deprovisioning => last = Some(status),
                }
            }
        }
        // It has ended already; its file has the last word.
        Err(ClientError::Gone { .. }) => {}
        Err(error) => return Err(Failure::from(error).doing(waiting())),
    }
    let status = final_status(host, &started.spec)?;
    if status.stop_code != Some(StopCode::TaskFailedToStart) {
        return Ok(0);
    }
    let mut failure = Failure::new(format!("task {} failed to start", started.spec.id));
    failure.chain.extend(status.containers.iter().filter_map(|container| container.reason.clone()));
    let code = u8::try_from(ending::exit_code(&started.spec, &status)).unwrap_or(u8::MAX);
    Err(failure.exit(code).next(format!("coracle inspect {}", started.spec.id)))
}
