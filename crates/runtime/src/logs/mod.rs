//! A container's output on disk: what its supervisor writes while it runs and anybody reads, then or later.
//!
//! `<state>/logs/<container>.log.<n>` are its segments, the highest number the newest. Numbers only grow, so a reader
//! that follows never meets a renamed file. Shipping to a log service is another crate's.

mod cursor;
pub mod reader;
pub mod record;
pub mod writer;

pub use reader::{ReadError, ReadOptions, Reader, Record, read};
pub use record::Stream;
pub use writer::{Limits, Lost, Writer};

use std::path::{Path, PathBuf};

use ecs::ContainerName;

/// Not a letter of a container's name, so that names and numbers cannot be confused.
const INFIX: &str = ".log.";

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
