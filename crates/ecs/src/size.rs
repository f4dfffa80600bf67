//! Task sizes: the strings of `cpu` and `memory` as numbers.
//!
//! "It can be expressed as an integer using CPU units (for example, 1024) or as a string using vCPUs (for example,
//! 1 vCPU or 1 vcpu)"; memory "as an integer using MiB or as a string using GB (for example, 1GB or 1 GB)":
//! <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html>.

/// CPU units of one core.
pub const CPU_UNITS_PER_VCPU: u32 = 1024;
/// "Supported values are between 128 CPU units (0.125 vCPUs) and 196608 CPU units (192 vCPUs)", same page.
pub const MIN_TASK_CPU: u32 = 128;
pub const MAX_TASK_CPU: u32 = 196_608;
pub const MIB_PER_GB: u32 = 1024;
/// "Don't specify less than 6 MiB of memory for your containers", API_ContainerDefinition, Docker 20.10 and later.
pub const MIN_MEMORY_MIB: u64 = 6;
/// 64 TiB: beyond any host, and still far from where arithmetic on bytes would overflow.
pub const MAX_MEMORY_MIB: u64 = 64 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error("{given:?} is no CPU size; write CPU units (\"256\") or vCPUs (\"0.25 vCPU\")")]
    NotCpu { given: String },
    #[error("{given:?} is {units} CPU units; a task has between {MIN_TASK_CPU} and {MAX_TASK_CPU}")]
    CpuOutOfRange { given: String, units: u64 },
    #[error("{given:?} is no memory size; write MiB (\"512\") or GB (\"0.5 GB\")")]
    NotMemory { given: String },
    #[error("{given:?} is {mib} MiB; a task has between {MIN_MEMORY_MIB} and {MAX_MEMORY_MIB}")]
    MemoryOutOfRange { given: String, mib: u64 },
}

/// CPU units of a task's `cpu`. Parts of a unit are cut off.
pub fn cpu_units(given: &str) -> Result<u32, SizeError> {
    let units =
        scaled(given, "vcpu", CPU_UNITS_PER_VCPU).ok_or_else(|| SizeError::NotCpu { given: given.to_owned() })?;
    u32::try_from(units)
        .ok()
        .filter(|units| (MIN_TASK_CPU..=MAX_TASK_CPU).contains(units))
        .ok_or_else(|| SizeError::CpuOutOfRange { given: given.to_owned(), units })
}

/// MiB of a task's `memory`. Parts of a MiB are cut off.
pub fn memory_mib(given: &str) -> Result<u64, SizeError> {
    let mib = scaled(given, "gb", MIB_PER_GB).ok_or_else(|| SizeError::NotMemory { given: given.to_owned() })?;
    if (MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&mib) {
        Ok(mib)
    } else {
        Err(SizeError::MemoryOutOfRange { given: given.to_owned(), mib })
    }
}

/// The number in `given`: whole, or with `unit` behind it (in any case, after spaces or none) a decimal times `factor`.
fn scaled(given: &str, unit: &str, factor: u32) -> Option<u64> {
    let given = given.trim().to_ascii_lowercase();
    match given.strip_suffix(unit) {
        None => given.bytes().all(|byte| byte.is_ascii_digit()).then(|| given.parse().ok())?,
        Some(number) => decimal(number.trim_end()).map(|number| (number * f64::from(factor)) as u64),
    }
}

/// `1`, `0.5`, `.25`, `2.`: digits with at most one point, nothing else that Rust reads as a number.
fn decimal(text: &str) -> Option<f64> {
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    let only = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if digits && only { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazons_examples_read_as_amazon_reads_them() {
        for (given, units) in [("256", 256), ("1 vCPU", 1024), ("1 vcpu", 1024), (".5 vcpu", 512), ("0.25vCPU", 256)] {
            assert_eq!(cpu_units(given), Ok(units), "{given}");
        }
        for (given, mib) in [("512", 512), ("1GB", 1024), ("1 GB", 1024), ("0.5 GB", 512), (".5gb", 512)] {
            assert_eq!(memory_mib(given), Ok(mib), "{given}");
        }
    }

    #[test]
    fn what_is_no_size_says_what_would_be() {
        for given in ["", "vcpu", "1 2", "1.5", "-1", "+5", "1e3", "inf vcpu", "NaN", "1 GB", "١"] {
            assert!(matches!(cpu_units(given), Err(SizeError::NotCpu { .. })), "{given}");
        }
        for given in ["512MB", "512 MiB", "1 vCPU", "..5 GB", "0x10", "99999999999999999999"] {
            assert!(matches!(memory_mib(given), Err(SizeError::NotMemory { .. })), "{given}");
        }
        assert_eq!(
            memory_mib("512MB").map_err(|error| error.to_string()),
            Err("\"512MB\" is no memory size; write MiB (\"512\") or GB (\"0.5 GB\")".to_owned())
        );
    }

    #[test]
    fn sizes_beyond_the_limits_are_refused() {
        for given in ["127", "0", "196609", "18446744073709551615", "0.1 vCPU", "99999999999999999999999 vCPU"] {
            assert!(matches!(cpu_units(given), Err(SizeError::CpuOutOfRange { .. })), "{given}");
        }
        for given in ["5", "0", "67108865", "0.001 GB", "9999999999999999999999999 GB"] {
            assert!(matches!(memory_mib(given), Err(SizeError::MemoryOutOfRange { .. })), "{given}");
        }
    }
}
