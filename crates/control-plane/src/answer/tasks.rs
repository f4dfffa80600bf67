//! Operations of tasks.

use ecs::operations::agent::{
    SubmitAttachmentStateChangesRequest, SubmitAttachmentStateChangesResponse, SubmitContainerStateChangeRequest,
    SubmitContainerStateChangeResponse, SubmitTaskStateChangeRequest, SubmitTaskStateChangeResponse,
};
use ecs::operations::tasks::{
    DescribeTasksRequest, DescribeTasksResponse, ExecuteCommandRequest, ExecuteCommandResponse,
    GetTaskProtectionRequest, GetTaskProtectionResponse, ListTasksRequest, ListTasksResponse, RunTaskRequest,
    RunTaskResponse, StartTaskRequest, StartTaskResponse, StopTaskRequest, StopTaskResponse,
    UpdateTaskProtectionRequest, UpdateTaskProtectionResponse,
};
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};

pub fn run(_context: &mut Context, _request: &RunTaskRequest) -> Answer<RunTaskResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn start(_context: &mut Context, _request: &StartTaskRequest) -> Answer<StartTaskResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn stop(_context: &mut Context, _request: &StopTaskRequest) -> Answer<StopTaskResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn describe(_context: &mut Context, _request: &DescribeTasksRequest) -> Answer<DescribeTasksResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn list(_context: &mut Context, _request: &ListTasksRequest) -> Answer<ListTasksResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn execute_command(_context: &mut Context, _request: &ExecuteCommandRequest) -> Answer<ExecuteCommandResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn get_protection(
    _context: &mut Context,
    _request: &GetTaskProtectionRequest,
) -> Answer<GetTaskProtectionResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn update_protection(
    _context: &mut Context,
    _request: &UpdateTaskProtectionRequest,
) -> Answer<UpdateTaskProtectionResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn submit_task_state(
    _context: &mut Context,
    _request: &SubmitTaskStateChangeRequest,
) -> Answer<SubmitTaskStateChangeResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn submit_container_state(
    _context: &mut Context,
    _request: &SubmitContainerStateChangeRequest,
) -> Answer<SubmitContainerStateChangeResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}

pub fn submit_attachment_states(
    _context: &mut Context,
    _request: &SubmitAttachmentStateChangesRequest,
) -> Answer<SubmitAttachmentStateChangesResponse> {
    Err(ApiError::new(ErrorCode::UnsupportedFeature, "Not built yet."))
}
