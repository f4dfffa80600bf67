//! Operations of discovery.

use ecs::operations::agent::{DiscoverPollEndpointRequest, DiscoverPollEndpointResponse};
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};

pub fn poll_endpoint(
    _context: &mut Context,
    _request: &DiscoverPollEndpointRequest,
) -> Answer<DiscoverPollEndpointResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}
