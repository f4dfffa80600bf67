//! A container's output on disk: what its supervisor writes while it runs and anybody reads, then or later.
//!
//! `<directory>/<container>.log.<n>` are its segments, the highest number the newest. Numbers only grow, so a reader
//! that follows never meets a renamed file. The directory is the task's `<state>/logs`, and for `awslogs` the stream's
//! own (`groups` draws it). What goes over the network is shipped from the segments by another process, which says how
//! far it has come in `shipped/<container>` (`position`); shipping itself is not done here.

mod cursor;
mod events;
pub mod groups;
mod limits;
mod position;
pub mod reader;
pub mod record;
mod source;
pub mod writer;

pub use events::{EVENT_PATIENCE_MS, Event, Joiner, MAX_EVENT_BYTES};
pub use limits::{Limits, Shipping};
pub use position::{Position, Shipped, read_shipped, write_shipped};
pub use reader::{ReadError, ReadOptions, Reader, Record, read, read_streams};
pub use record::{MAX_PIECE_BYTES, Stream};
pub(crate) use writer::SHORT_READ_BYTES;
pub use writer::{Lost, Writer};

use std::path::{Path, PathBuf};

use agent_protocol::{ContainerSpec, TaskSpec};
use ecs::ContainerName;

use crate::task_dir::LOGS_NAME;

/// Not a letter of a container's name, so that names and numbers cannot be confused.
const INFIX: &str = ".log.";

/// The directory of a container's segments.
pub fn directory(task: &TaskSpec, container: &ContainerSpec) -> PathBuf {
    match groups::of_container(task, container) {
        Some(stream) => stream.directory,
        None => task.places.state.join(LOGS_NAME),
    }
}

/// Whether a container's output is kept at all: the driver `none` keeps nothing.
pub fn is_kept(container: &ContainerSpec) -> bool {
    Limits::of(container.definition.log_configuration.as_ref()).kept
}

pub(crate) fn segment_path(logs: &Path, container: &ContainerName, number: u64) -> PathBuf {
    logs.join(format!("{container}{INFIX}{number}"))
}

/// The numbers of a container's segments that exist, lowest first.
pub(crate) fn segments(logs: &Path, container: &ContainerName) -> std::io::Result<Vec<u64>> {
    let prefix = format!("{container}{INFIX}");
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(logs)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix(&prefix)).and_then(|rest| rest.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}
