//! RegisterTaskDefinition's verdict on a task definition: what is registered, or the ClientException that Amazon answers.
//!
//! The rules are those of `lint`, without what is this host's alone: a definition that this host cannot run is registered
//! all the same, as Amazon registers one that no container instance of a cluster can run.

use crate::fields::TASK_DEFINITION;
use crate::input::{Document, MAX_TASK_DEFINITION_BYTES, registered_size};
use crate::lint::{Findings, Place, amazons_rules, check_shape, typed};
use crate::task_definition::TaskDefinition;

/// "These errors are usually caused by a client action" (API_RegisterTaskDefinition). The first that is found, as Amazon
/// gives one alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ClientException {
    /// Amazon's words where they are known; else ours, with the place in front.
    pub message: String,
    /// `containerDefinitions[0].image`; empty for the definition as a whole.
    pub path: String,
}

impl ClientException {
    /// What `__type` of the answer says.
    pub const NAME: &'static str = "ClientException";
}

/// The definition as it is to be registered. Members that Amazon does not know are passed over, as the service does.
///
/// # Errors
/// A ClientException.
pub fn validate(document: &Document) -> Result<TaskDefinition, ClientException> {
    let bytes = registered_size(&document.value);
    if bytes > MAX_TASK_DEFINITION_BYTES {
        let message = format!("Actual length: '{bytes}'. Max allowed length is '{MAX_TASK_DEFINITION_BYTES}' bytes.");
        return Err(ClientException { message, path: String::new() });
    }
    let mut findings = Findings::default();
    let value = check_shape(&document.value, &TASK_DEFINITION, &mut findings);
    amazons_rules(&Place::root(&value), document.origin, &mut findings);
    // Types are asked only of what has no error: they would say the same in other words.
    let mut untyped = Findings::default();
    let definition = if findings.has_exceptions() { None } else { typed(value, &mut untyped) };
    definition.ok_or_else(|| {
        let first = findings.into_exception().or_else(|| untyped.into_exception());
        let (message, path) = first.unwrap_or_else(|| ("Invalid task definition.".to_owned(), String::new()));
        ClientException { message, path }
    })
}
