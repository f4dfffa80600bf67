//! What EC2 answers a request that it refuses
//! (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>).

use std::fmt;

/// Amazon's code, and its words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    pub code: Code,
    pub message: String,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    DependencyViolation,
    InvalidGroupDuplicate,
    InvalidGroupNotFound,
    InvalidGroupReserved,
    InvalidParameterCombination,
    InvalidParameterValue,
    InvalidPermissionDuplicate,
    InvalidPermissionMalformed,
    InvalidPermissionNotFound,
    InvalidSecurityGroupRuleIdNotFound,
    InvalidSubnetConflict,
    InvalidSubnetRange,
    InvalidSubnetIdNotFound,
    InvalidVpcRange,
    InvalidVpcIdNotFound,
    CannotDelete,
    MissingParameter,
    RulesPerSecurityGroupLimitExceeded,
    SecurityGroupLimitExceeded,
    SubnetLimitExceeded,
    VpcLimitExceeded,
}

impl Code {
    pub fn name(self) -> &'static str {
        match self {
            Code::DependencyViolation => "DependencyViolation",
            Code::InvalidGroupDuplicate => "InvalidGroup.Duplicate",
            Code::InvalidGroupNotFound => "InvalidGroup.NotFound",
            Code::InvalidGroupReserved => "InvalidGroup.Reserved",
            Code::InvalidParameterCombination => "InvalidParameterCombination",
            Code::InvalidParameterValue => "InvalidParameterValue",
            Code::InvalidPermissionDuplicate => "InvalidPermission.Duplicate",
            Code::InvalidPermissionMalformed => "InvalidPermission.Malformed",
            Code::InvalidPermissionNotFound => "InvalidPermission.NotFound",
            Code::InvalidSecurityGroupRuleIdNotFound => "InvalidSecurityGroupRuleId.NotFound",
            Code::InvalidSubnetConflict => "InvalidSubnet.Conflict",
            Code::InvalidSubnetRange => "InvalidSubnet.Range",
            Code::InvalidSubnetIdNotFound => "InvalidSubnetID.NotFound",
            Code::InvalidVpcRange => "InvalidVpc.Range",
            Code::InvalidVpcIdNotFound => "InvalidVpcID.NotFound",
            Code::CannotDelete => "CannotDelete",
            Code::MissingParameter => "MissingParameter",
            Code::RulesPerSecurityGroupLimitExceeded => "RulesPerSecurityGroupLimitExceeded",
            Code::SecurityGroupLimitExceeded => "SecurityGroupLimitExceeded",
            Code::SubnetLimitExceeded => "SubnetLimitExceeded",
            Code::VpcLimitExceeded => "VpcLimitExceeded",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
