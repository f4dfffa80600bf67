//! Operations of task definitions.

use ecs::operations::task_definitions::{
    DeleteTaskDefinitionsRequest, DeleteTaskDefinitionsResponse, DeregisterTaskDefinitionRequest,
    DeregisterTaskDefinitionResponse, DescribeTaskDefinitionRequest, DescribeTaskDefinitionResponse,
    ListTaskDefinitionFamiliesRequest, ListTaskDefinitionFamiliesResponse, ListTaskDefinitionsRequest,
    ListTaskDefinitionsResponse, RegisterTaskDefinitionRequest, RegisterTaskDefinitionResponse,
};
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};

pub fn register(
    _context: &mut Context,
    _request: &RegisterTaskDefinitionRequest,
) -> Answer<RegisterTaskDefinitionResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn deregister(
    _context: &mut Context,
    _request: &DeregisterTaskDefinitionRequest,
) -> Answer<DeregisterTaskDefinitionResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn delete(
    _context: &mut Context,
    _request: &DeleteTaskDefinitionsRequest,
) -> Answer<DeleteTaskDefinitionsResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn describe(
    _context: &mut Context,
    _request: &DescribeTaskDefinitionRequest,
) -> Answer<DescribeTaskDefinitionResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn list(_context: &mut Context, _request: &ListTaskDefinitionsRequest) -> Answer<ListTaskDefinitionsResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn list_families(
    _context: &mut Context,
    _request: &ListTaskDefinitionFamiliesRequest,
) -> Answer<ListTaskDefinitionFamiliesResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}
