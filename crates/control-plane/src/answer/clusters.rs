//! Operations of clusters.

use ecs::operations::clusters::{
    CreateClusterRequest, CreateClusterResponse, DeleteClusterRequest, DeleteClusterResponse, DescribeClustersRequest,
    DescribeClustersResponse, ListClustersRequest, ListClustersResponse, PutClusterCapacityProvidersRequest,
    PutClusterCapacityProvidersResponse, UpdateClusterRequest, UpdateClusterResponse, UpdateClusterSettingsRequest,
    UpdateClusterSettingsResponse,
};
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};

pub fn create(_context: &mut Context, _request: &CreateClusterRequest) -> Answer<CreateClusterResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn delete(_context: &mut Context, _request: &DeleteClusterRequest) -> Answer<DeleteClusterResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn describe(_context: &mut Context, _request: &DescribeClustersRequest) -> Answer<DescribeClustersResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn list(_context: &mut Context, _request: &ListClustersRequest) -> Answer<ListClustersResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn update(_context: &mut Context, _request: &UpdateClusterRequest) -> Answer<UpdateClusterResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn update_settings(
    _context: &mut Context,
    _request: &UpdateClusterSettingsRequest,
) -> Answer<UpdateClusterSettingsResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn put_capacity_providers(
    _context: &mut Context,
    _request: &PutClusterCapacityProvidersRequest,
) -> Answer<PutClusterCapacityProvidersResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}
