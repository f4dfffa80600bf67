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

/// A random UUID (RFC 9562, version 4), as Amazon's agent names endpoints, credentials and attachments.
pub fn uuid() -> Result<String, NoDice> {
    let mut bytes = bytes::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

/// Randomness for an id of EC2's.
pub fn random() -> Result<u128, NoDice> {
    Ok(u128::from_le_bytes(bytes()?))
}

fn bytes<const N: usize>() -> Result<[u8; N], NoDice> {
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).map_err(NoDice)?;
    Ok(bytes)
}
