//! Operations of capacity providers.

use ecs::operations::capacity_providers::{
    CreateCapacityProviderRequest, CreateCapacityProviderResponse, DeleteCapacityProviderRequest,
    DeleteCapacityProviderResponse, DescribeCapacityProvidersRequest, DescribeCapacityProvidersResponse,
    UpdateCapacityProviderRequest, UpdateCapacityProviderResponse,
};
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};

pub fn create(
    _context: &mut Context,
    _request: &CreateCapacityProviderRequest,
) -> Answer<CreateCapacityProviderResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn update(
    _context: &mut Context,
    _request: &UpdateCapacityProviderRequest,
) -> Answer<UpdateCapacityProviderResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn delete(
    _context: &mut Context,
    _request: &DeleteCapacityProviderRequest,
) -> Answer<DeleteCapacityProviderResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn describe(
    _context: &mut Context,
    _request: &DescribeCapacityProvidersRequest,
) -> Answer<DescribeCapacityProvidersResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}
