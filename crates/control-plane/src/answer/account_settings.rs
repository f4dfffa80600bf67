//! Operations of account settings.

use ecs::operations::account_settings::{
    DeleteAccountSettingRequest, DeleteAccountSettingResponse, ListAccountSettingsRequest, ListAccountSettingsResponse,
    PutAccountSettingDefaultRequest, PutAccountSettingDefaultResponse, PutAccountSettingRequest,
    PutAccountSettingResponse,
};
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};

pub fn put(_context: &mut Context, _request: &PutAccountSettingRequest) -> Answer<PutAccountSettingResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn put_default(
    _context: &mut Context,
    _request: &PutAccountSettingDefaultRequest,
) -> Answer<PutAccountSettingDefaultResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn delete(_context: &mut Context, _request: &DeleteAccountSettingRequest) -> Answer<DeleteAccountSettingResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn list(_context: &mut Context, _request: &ListAccountSettingsRequest) -> Answer<ListAccountSettingsResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}
