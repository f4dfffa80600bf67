//! `coracle log-shipper`: one process a task, one thread a container.

use std::process::ExitCode;
use std::time::Duration;

use agent_protocol::{ContainerSecrets, ContainerSpec, TaskSpec};
use runtime::shipper::Shipper;
use runtime::spawn::SupervisorArgs;
use runtime::task_dir;

use crate::connect::Outlet;
use crate::driver::{Driver, is_shipped};
use crate::message::Origin;
use crate::ship::{Manner, Shipment};

/// How long shipping goes on after its task has stopped, at most, while the service does not answer. What it has not
/// taken by then is lost, and counted.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Docker's driver posts every five seconds; a second is soon enough for people to notice.
const LINGER_OF_REQUESTS: Duration = Duration::from_millis(500);

/// Ships a task's output to its end. To be called in a process of its own that has one thread.
pub fn run(args: &SupervisorArgs) -> ExitCode {
    let mut shipper = match Shipper::begin(args) {
        Ok(shipper) => shipper,
        Err(error) => {
            eprintln!("coracle: {error}");
            return ExitCode::FAILURE;
        }
    };
    let secrets = std::mem::take(&mut shipper.secrets);
    match task_dir::read_spec(&args.places.state) {
        Ok(Some(task)) if task.id == args.id => {
            if !ship_all(&task, &secrets) {
                return ExitCode::FAILURE;
            }
        }
        // Its start was given up.
        Ok(_) => {}
        Err(error) => eprintln!("the task cannot be read: {error}"),
    }
    let errors = shipper.end();
    for error in &errors {
        eprintln!("{error}");
    }
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether all containers came to their end.
fn ship_all(task: &TaskSpec, secrets: &[ContainerSecrets]) -> bool {
    let hostname = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let shipped = task.containers.iter().filter(|container| is_shipped(&container.definition));
    std::thread::scope(|scope| {
        let threads: Vec<_> = shipped
            .map(|container| {
                let hostname = hostname.as_str();
                scope.spawn(move || ship(task, container, secrets, hostname))
            })
            .collect();
        // Every one is waited for, whatever becomes of another.
        let done: Vec<bool> = threads.into_iter().map(|thread| thread.join().unwrap_or(false)).collect();
        done.into_iter().all(|done| done)
    })
}

fn ship(task: &TaskSpec, container: &ContainerSpec, secrets: &[ContainerSecrets], hostname: &str) -> bool {
    let name = &container.definition.name;
    let own = secrets.iter().find(|secrets| secrets.container == *name);
    let log_options = own.map(|secrets| secrets.log_options.clone()).unwrap_or_default();
    let (outlet, target, manner) = match Driver::of(task, container, &log_options, hostname) {
        Ok(Some(driver)) => {
            let (target, manner) = (driver.target(), manner(&driver, container));
            (Ok(Outlet::new(driver, Origin::of(task, container, hostname))), target, manner)
        }
        Ok(None) => return true,
        Err(error) => (Err(error.to_string()), String::new(), Manner::default()),
    };
    match Shipment::new(task, name.clone(), outlet, target, manner) {
        Ok(shipment) => match shipment.run() {
            Ok(()) => true,
            Err(error) => {
                eprintln!("container {name}: {error}: {:?}", std::error::Error::source(&error));
                // With its directory gone there is nothing left that another shipper could do.
                !task.places.state.exists()
            }
        },
        Err(error) => {
            eprintln!("container {name}: {error}");
            !task.places.state.exists()
        }
    }
}

fn manner(driver: &Driver, container: &ContainerSpec) -> Manner {
    let is_router = container
        .definition
        .log_configuration
        .as_ref()
        .is_some_and(|log| log.log_driver == ecs::log_options::AWSFIRELENS);
    match driver {
        Driver::Fluentd(settings) => Manner {
            first_wait: Some(settings.retry_wait),
            max_retries: settings.max_retries,
            receiver_ends: is_router,
            ..Manner::default()
        },
        Driver::Splunk(_) => Manner { linger: LINGER_OF_REQUESTS, ..Manner::default() },
        Driver::Syslog(_) | Driver::Gelf(_) | Driver::Journald(_) => Manner::default(),
    }
}
