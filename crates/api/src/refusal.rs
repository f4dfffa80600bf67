//! How a request is refused before it is an operation: the errors that all of Amazon's services share
//! (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html>), in the words they come with.

use thiserror::Error;

use crate::limits;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("Missing Authentication Token")]
    MissingAuthenticationToken,
    /// The signature cannot be read, or leaves unsigned what must be signed. The text says what.
    #[error("{0}")]
    IncompleteSignature(String),
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method. Consult the service documentation for details."
    )]
    SignatureDoesNotMatch,
    /// Times as in `x-amz-date`.
    #[error("Signature expired: {signed} is now earlier than {earliest} ({now} - {} min.)", limits::SKEW_S / 60)]
    SignatureExpired { signed: String, earliest: String, now: String },
    #[error("Signature not yet current: {signed} is still later than {latest} ({now} + {} min.)", limits::SKEW_S / 60)]
    SignatureNotYetCurrent { signed: String, latest: String, now: String },
    #[error("Signature expired: the request was good until {until}, and it is {now}")]
    PresignedExpired { until: String, now: String },
    #[error("Credential should be scoped to correct service: '{service}'. ")]
    WrongService { service: String },
    #[error("The security token included in the request is invalid.")]
    UnrecognizedClient,
    /// What would be a request of an operation is none: no target, another protocol.
    #[error("{0}")]
    UnknownOperation(String),
    #[error(
        "The operation {operation} is part of Amazon ECS, but not of coracle as yet. What is left out is listed in its \
         README."
    )]
    NotHere { operation: String },
    #[error("{0}")]
    Serialization(String),
    /// JSON of the right types that no operation could take.
    #[error("{0}")]
    InvalidParameter(String),
    #[error("The request's {what} must have at most {limit} bytes")]
    TooLarge { what: &'static str, limit: usize },
    #[error("The request must have at most {} headers", limits::HEADERS)]
    TooManyHeaders,
    /// Of a browser on this host, which sends them wherever the page says.
    #[error("Requests of web pages are not accepted")]
    WebPage,
    /// Behind a name that means this host may be such a page as well.
    #[error(
        "{host:?} is not known to be a name of this host. Ask for an address, for localhost or for the host's name, or give \
         coracle serve this one with --tls-name"
    )]
    AnotherHost { host: String },
}

impl Refusal {
    /// What `__type` says.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Refusal::IncompleteSignature(_) => "IncompleteSignatureException",
            Refusal::SignatureDoesNotMatch
            | Refusal::SignatureExpired { .. }
            | Refusal::SignatureNotYetCurrent { .. }
            | Refusal::PresignedExpired { .. }
            | Refusal::WrongService { .. } => "InvalidSignatureException",
            Refusal::UnrecognizedClient => "UnrecognizedClientException",
            Refusal::UnknownOperation(_) => "UnknownOperationException",
            Refusal::NotHere { .. } => "UnsupportedFeatureException",
            Refusal::Serialization(_) => "SerializationException",
            Refusal::InvalidParameter(_) => "InvalidParameterException",
            Refusal::TooLarge { .. } | Refusal::TooManyHeaders => "RequestEntityTooLargeException",
            Refusal::WebPage | Refusal::AnotherHost { .. } => "AccessDeniedException",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::TooLarge { .. } | Refusal::TooManyHeaders => 413,
            Refusal::MissingAuthenticationToken
            | Refusal::IncompleteSignature(_)
            | Refusal::SignatureDoesNotMatch
            | Refusal::SignatureExpired { .. }
            | Refusal::SignatureNotYetCurrent { .. }
            | Refusal::PresignedExpired { .. }
            | Refusal::WrongService { .. }
            | Refusal::UnrecognizedClient
            | Refusal::UnknownOperation(_)
            | Refusal::NotHere { .. }
            | Refusal::Serialization(_)
            | Refusal::InvalidParameter(_)
            | Refusal::WebPage
            | Refusal::AnotherHost { .. } => 400,
        }
    }
}
