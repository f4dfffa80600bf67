//! Whether a configuration is one that could be carried out.

use super::{Error, VpcNetwork};

/// What is wrong, and where: `subnets[2].cidrBlock`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}")]
pub struct Problem {
    pub path: String,
    #[source]
    pub error: Error,
}

pub fn check(_network: &VpcNetwork) -> Result<(), Problem> {
    Ok(())
}
