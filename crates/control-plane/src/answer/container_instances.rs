//! Operations of container instances.

use ecs::operations::container_instances::{
    DeregisterContainerInstanceRequest, DeregisterContainerInstanceResponse, DescribeContainerInstancesRequest,
    DescribeContainerInstancesResponse, ListContainerInstancesRequest, ListContainerInstancesResponse,
    RegisterContainerInstanceRequest, RegisterContainerInstanceResponse, UpdateContainerAgentRequest,
    UpdateContainerAgentResponse, UpdateContainerInstancesStateRequest, UpdateContainerInstancesStateResponse,
};
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};

pub fn register(
    _context: &mut Context,
    _request: &RegisterContainerInstanceRequest,
) -> Answer<RegisterContainerInstanceResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn deregister(
    _context: &mut Context,
    _request: &DeregisterContainerInstanceRequest,
) -> Answer<DeregisterContainerInstanceResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn describe(
    _context: &mut Context,
    _request: &DescribeContainerInstancesRequest,
) -> Answer<DescribeContainerInstancesResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn list(
    _context: &mut Context,
    _request: &ListContainerInstancesRequest,
) -> Answer<ListContainerInstancesResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn update_state(
    _context: &mut Context,
    _request: &UpdateContainerInstancesStateRequest,
) -> Answer<UpdateContainerInstancesStateResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn update_agent(
    _context: &mut Context,
    _request: &UpdateContainerAgentRequest,
) -> Answer<UpdateContainerAgentResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}
