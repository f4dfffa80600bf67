//! The one place of this crate that throws dice.

use std::fs::File;
use std::io::{self, Read};

use ecs::TaskId;

#[derive(Debug, thiserror::Error)]
#[error("cannot read random bytes from /dev/urandom")]
pub struct NoDice(#[source] io::Error);

pub fn task_id() -> Result<TaskId, NoDice> {
    Ok(TaskId::from_bytes(bytes()?))
}

/// Docker's notion of a container id: 64 hexadecimal digits.
pub fn runtime_id() -> Result<String, NoDice> {
    Ok(bytes::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn bytes<const N: usize>() -> Result<[u8; N], NoDice> {
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).map_err(NoDice)?;
    Ok(bytes)
}
