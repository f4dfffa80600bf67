//! How large a request may be. Each is far above what Amazon's own quotas let a good request be
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html>).

/// Bytes of a request's path and query.
pub const URI_BYTES: usize = 8 * 1024;
/// Bytes of all headers, names and values.
pub const HEADER_BYTES: usize = 64 * 1024;
/// Headers of one request.
pub const HEADERS: usize = 100;

/// Bytes of a body. The largest good one is TagResource's with 50 tags, written in escapes of six bytes a character.
pub const BODY_BYTES: usize = 128 * 1024;
/// Bytes of RegisterTaskDefinition's body: 64 KiB of definition, written in escapes of six bytes a character.
pub const REGISTER_TASK_DEFINITION_BODY_BYTES: usize = 384 * 1024;

/// Objects and arrays within each other.
pub const JSON_DEPTH: usize = 64;
/// Values of one body: members, elements, and what they hold.
pub const JSON_VALUES: usize = 50_000;
/// Bytes of a member's name.
pub const JSON_NAME_BYTES: usize = 1024;

/// Clocks may differ by this much.
pub const SKEW_S: u64 = 15 * 60;
/// A presigned request is good for so long at most: seven days.
pub const PRESIGNED_S: u64 = 604_800;
/// Bytes of an access key id and of a region.
pub const ACCESS_KEY_ID_BYTES: usize = 128;
pub const REGION_BYTES: usize = 64;
