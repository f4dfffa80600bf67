//! Who asks for what, and what a door asks of its callers.

use ecs::operations::Operation;

use crate::sigv4::Key;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Of the request's credential scope; any name of letters, digits and hyphens.
    pub region: String,
    /// Empty where nobody signed.
    pub access_key_id: String,
    /// `arn:aws:iam::123456789012:root`.
    pub principal_arn: String,
}

/// A request that has been let in.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub caller: Caller,
    pub operation: Operation,
}

/// What a listener asks of its callers.
#[derive(Clone, Copy)]
pub enum Auth<'a> {
    /// A signature made with a key that is found here by its id.
    Signed(&'a dyn Fn(&str) -> Option<Key>),
    /// `--dev`: whatever key id and signature. The region still is the one of the credential scope.
    AnyKey { principal_arn: &'a str },
    /// A socket that only root can open: no signature. Where there is one, its scope's region counts.
    Local { region: &'a str, principal_arn: &'a str },
}
