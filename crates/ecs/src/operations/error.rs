//! How an operation is refused: the exceptions that Amazon's model declares for ECS
//! (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html> and each operation's page).

use std::fmt;

/// The text is what `__type` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    AccessDenied,
    AttributeLimitExceeded,
    Blocked,
    Client,
    ClusterContainsCapacityProvider,
    ClusterContainsContainerInstances,
    ClusterContainsServices,
    ClusterContainsTasks,
    ClusterNotFound,
    Conflict,
    InvalidParameter,
    LimitExceeded,
    MissingVersion,
    NamespaceNotFound,
    NoUpdateAvailable,
    PlatformTaskDefinitionIncompatibility,
    PlatformUnknown,
    ResourceInUse,
    ResourceNotFound,
    Server,
    ServiceNotActive,
    ServiceNotFound,
    TargetNotConnected,
    TargetNotFound,
    UnsupportedFeature,
    UpdateInProgress,
}

impl ErrorCode {
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::AccessDenied => "AccessDeniedException",
            ErrorCode::AttributeLimitExceeded => "AttributeLimitExceededException",
            ErrorCode::Blocked => "BlockedException",
            ErrorCode::Client => "ClientException",
            ErrorCode::ClusterContainsCapacityProvider => "ClusterContainsCapacityProviderException",
            ErrorCode::ClusterContainsContainerInstances => "ClusterContainsContainerInstancesException",
            ErrorCode::ClusterContainsServices => "ClusterContainsServicesException",
            ErrorCode::ClusterContainsTasks => "ClusterContainsTasksException",
            ErrorCode::ClusterNotFound => "ClusterNotFoundException",
            ErrorCode::Conflict => "ConflictException",
            ErrorCode::InvalidParameter => "InvalidParameterException",
            ErrorCode::LimitExceeded => "LimitExceededException",
            ErrorCode::MissingVersion => "MissingVersionException",
            ErrorCode::NamespaceNotFound => "NamespaceNotFoundException",
            ErrorCode::NoUpdateAvailable => "NoUpdateAvailableException",
            ErrorCode::PlatformTaskDefinitionIncompatibility => "PlatformTaskDefinitionIncompatibilityException",
            ErrorCode::PlatformUnknown => "PlatformUnknownException",
            ErrorCode::ResourceInUse => "ResourceInUseException",
            ErrorCode::ResourceNotFound => "ResourceNotFoundException",
            ErrorCode::Server => "ServerException",
            ErrorCode::ServiceNotActive => "ServiceNotActiveException",
            ErrorCode::ServiceNotFound => "ServiceNotFoundException",
            ErrorCode::TargetNotConnected => "TargetNotConnectedException",
            ErrorCode::TargetNotFound => "TargetNotFoundException",
            ErrorCode::UnsupportedFeature => "UnsupportedFeatureException",
            ErrorCode::UpdateInProgress => "UpdateInProgressException",
        }
    }

    /// The HTTP status: the server's own faults are 500, the client's 400.
    pub fn status(self) -> u16 {
        if self == ErrorCode::Server { 500 } else { 400 }
    }
}

/// The answer to an operation that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub code: ErrorCode,
    /// Amazon's words where they are known.
    pub message: String,
    /// Of a ConflictException: what is in the way.
    pub resource_ids: Vec<String>,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), resource_ids: Vec::new() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidParameter, message)
    }

    pub fn client(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Client, message)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for ApiError {}
