//! `coracle task-supervisor`, hidden: the process that one task lives in. It is found by its first argument before
//! anything else of this binary has run, because it must have one thread and few pages.

use std::ffi::OsString;
use std::process::ExitCode;

use agent::Host;
use agent_protocol::TaskSpec;
use ecs::TaskId;
use runtime::spawn::{SUBCOMMAND, SupervisorArgs};
use runtime::supervisor;
use runtime::task_dir::Roots;

/// Nothing where the command line is of another command.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != SUBCOMMAND {
        return None;
    }
    let words: Vec<OsString> = words.collect();
    Some(match SupervisorArgs::from_words(&words) {
        Ok(arguments) => supervise(arguments),
        Err(error) => {
            eprintln!("coracle: {error}");
            ExitCode::FAILURE
        }
    })
}

fn supervise(arguments: SupervisorArgs) -> ExitCode {
    let host = host(&arguments);
    supervisor::supervise(arguments, |task, spec| teardown(host, task, spec))
}

/// The driver's own, out of the task's places and the environment that the driver left us.
fn host(arguments: &SupervisorArgs) -> Result<Host, String> {
    let above = |path: &std::path::Path, levels: usize| path.ancestors().nth(levels).map(std::path::Path::to_owned);
    let roots = (|| {
        Some(Roots {
            data: above(&arguments.places.state, 2)?,
            run: above(&arguments.places.run, 2)?,
            cgroup_parent: above(&arguments.places.cgroup, 1)?,
        })
    })();
    let roots = roots.ok_or("the task's directories are not below coracle's")?;
    Host::new(roots, |name| std::env::var(name).ok()).map_err(|error| error.to_string())
}

/// Takes away what of the task's network does not go with its namespaces.
fn teardown(host: Result<Host, String>, task: &TaskId, _spec: Option<&TaskSpec>) -> Vec<String> {
    match host {
        Ok(host) => network::detach(&host.network, task).iter().map(|error| agent::recovery::chain(error)).collect(),
        Err(error) => vec![error],
    }
}
