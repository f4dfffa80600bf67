//! Why a task that could not be started is STOPPED, in Amazon's words
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>). Pure.

use ecs::task::StopCode;

use super::reconcile::Why;
use crate::driver::StartError;
use crate::recovery::chain;
use crate::wanted_images::ImageError;

/// "Container and task reason length": Amazon's agent cuts there.
const MAX_REASON_CHARACTERS: usize = 1024;

/// What was left of a start that its agent did not live to end.
pub(crate) const INTERRUPTED: &str =
    "ResourceInitializationError: the container instance's agent ended while it was starting the task";

/// Something that every task needs, this one too.
pub(crate) fn resource(error: &dyn std::error::Error) -> Why {
    failed(format!("ResourceInitializationError: {}", chain(error)))
}

/// Of a standalone task whose host was started again.
pub(crate) fn rebooted(host_name: &str) -> Why {
    Why { code: StopCode::TerminationNotice, reason: format!("Host EC2 (instance {host_name}) stopped/terminated.") }
}

pub(crate) fn interrupted() -> Why {
    failed(INTERRUPTED.to_owned())
}

fn failed(reason: String) -> Why {
    Why { code: StopCode::TaskFailedToStart, reason: reason.chars().take(MAX_REASON_CHARACTERS).collect() }
}

pub(crate) fn of_start(error: &StartError<ImageError>) -> Why {
    let whole = || chain(error);
    match error {
        // Both have Amazon's name in their own words.
        StartError::Environment(cause) => failed(chain(cause)),
        StartError::Volumes(cause) => failed(chain(cause)),
        StartError::Images(ImageError::Login { cause, .. }) => failed(chain(cause)),
        StartError::Images(cause) => failed(format!("CannotPullContainerError: {}", chain(cause))),
        StartError::Network(network::Error::PortTaken { .. }) => {
            failed(format!("CannotStartContainerError: {}", whole()))
        }
        StartError::Network(_) | StartError::Interface(_) | StartError::VpcNetwork(_) => {
            failed(format!("ContainerNetworkingError: {}", whole()))
        }
        StartError::Gpu(_) => failed(whole()),
        StartError::Dice(_)
        | StartError::Directory(_)
        | StartError::NameTaken { .. }
        | StartError::Spawn(_)
        | StartError::Size(_)
        | StartError::Firelens(_)
        | StartError::RouterFile { .. }
        | StartError::Shipping(_)
        | StartError::Unwanted
        | StartError::Handover(_) => failed(format!("ResourceInitializationError: {}", whole())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{ResourceInitializationError, Stage};

    #[test]
    fn reasons_begin_with_amazons_names() {
        let environment = ResourceInitializationError { stage: Stage::Secrets, problems: vec!["p".repeat(2_000)] };
        let why = of_start(&StartError::Environment(environment));
        assert!(why.reason.starts_with("ResourceInitializationError: unable to pull secrets or registry auth"));
        assert_eq!((why.reason.chars().count(), why.code), (MAX_REASON_CHARACTERS, StopCode::TaskFailedToStart));
        let name = ecs::ContainerName::try_from("web".to_owned()).expect("a name");
        let cause = "Bad Name".parse::<images::Reference>().expect_err("no name");
        let why = of_start(&StartError::Images(ImageError::Name { container: name, cause }));
        assert!(
            why.reason.starts_with("CannotPullContainerError: container web: its image's name is wrong: "),
            "{why:?}"
        );
    }
}
