//! Operations of attributes.

use ecs::operations::attributes::{
    DeleteAttributesRequest, DeleteAttributesResponse, ListAttributesRequest, ListAttributesResponse,
    PutAttributesRequest, PutAttributesResponse,
};
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};

pub fn put(_context: &mut Context, _request: &PutAttributesRequest) -> Answer<PutAttributesResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn delete(_context: &mut Context, _request: &DeleteAttributesRequest) -> Answer<DeleteAttributesResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn list(_context: &mut Context, _request: &ListAttributesRequest) -> Answer<ListAttributesResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}
