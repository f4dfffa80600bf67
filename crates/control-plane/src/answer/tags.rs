//! Operations of tags.

use ecs::operations::tags::{
    ListTagsForResourceRequest, ListTagsForResourceResponse, TagResourceRequest, TagResourceResponse,
    UntagResourceRequest, UntagResourceResponse,
};
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};

pub fn tag(_context: &mut Context, _request: &TagResourceRequest) -> Answer<TagResourceResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn untag(_context: &mut Context, _request: &UntagResourceRequest) -> Answer<UntagResourceResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn list(_context: &mut Context, _request: &ListTagsForResourceRequest) -> Answer<ListTagsForResourceResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}
