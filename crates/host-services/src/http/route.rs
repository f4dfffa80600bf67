//! What a path asks for. Pure; who may ask is not its matter.

use crate::metadata::Version;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Of the container whose endpoint it is.
    Container {
        version: Version,
        endpoint: String,
    },
    /// Of the task of the container whose endpoint it is; of the caller's in version 2.
    Task {
        version: Version,
        endpoint: Option<String>,
        with_tags: bool,
    },
    ContainerStats {
        version: Version,
        endpoint: String,
    },
    TaskStats {
        version: Version,
        endpoint: Option<String>,
    },
    /// Version 2 knows containers by their Docker id.
    ContainerById {
        docker_id: String,
    },
    ContainerStatsById {
        docker_id: String,
    },
    /// The version is in Amazon's errors.
    Credentials {
        version: u8,
        id: String,
    },
    Protection {
        endpoint: String,
    },
    Fault {
        endpoint: String,
    },
    Nothing,
}

impl Route {
    /// A slash at the end makes no difference, a second one does.
    pub(super) fn of(path: &str, query: Option<&str>) -> Route {
        let Some(path) = path.strip_prefix('/') else { return Route::Nothing };
        let parts: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
        let own = |text: &&str| (*text).to_owned();
        match parts.as_slice() {
            ["v1", "credentials"] => Route::Credentials { version: 1, id: parameter(query, "id") },
            ["v2", "credentials"] => Route::Credentials { version: 2, id: String::new() },
            ["v2", "credentials", id] => Route::Credentials { version: 2, id: own(id) },
            ["v2", rest @ ..] => version_2(rest),
            ["v3", endpoint, rest @ ..] => endpoint_of(Version::V3, own(endpoint), rest),
            ["v4", endpoint, rest @ ..] => endpoint_of(Version::V4, own(endpoint), rest),
            // `/v4/`, as with an endpoint that nobody has.
            ["v3"] => endpoint_of(Version::V3, String::new(), &[]),
            ["v4"] => endpoint_of(Version::V4, String::new(), &[]),
            ["api", endpoint, "task-protection", "v1", "state"] => Route::Protection { endpoint: own(endpoint) },
            ["api", endpoint, "fault", "v1", _kind, "start" | "stop" | "status"] => {
                Route::Fault { endpoint: own(endpoint) }
            }
            _ => Route::Nothing,
        }
    }

    /// What the agent takes for it.
    pub(super) fn methods(&self) -> &'static [&'static str] {
        match self {
            Route::Protection { .. } => &["GET", "PUT"],
            Route::Fault { .. } => &["POST"],
            Route::Container { .. }
            | Route::Task { .. }
            | Route::ContainerStats { .. }
            | Route::TaskStats { .. }
            | Route::ContainerById { .. }
            | Route::ContainerStatsById { .. }
            | Route::Credentials { .. }
            | Route::Nothing => &["GET"],
        }
    }
}

fn version_2(rest: &[&str]) -> Route {
    let version = Version::V2;
    match rest {
        ["metadata"] => Route::Task { version, endpoint: None, with_tags: false },
        ["metadataWithTags"] => Route::Task { version, endpoint: None, with_tags: true },
        ["metadata" | "metadataWithTags", docker_id] => Route::ContainerById { docker_id: (*docker_id).to_owned() },
        ["stats"] => Route::TaskStats { version, endpoint: None },
        ["stats", docker_id] => Route::ContainerStatsById { docker_id: (*docker_id).to_owned() },
        _ => Route::Nothing,
    }
}

fn endpoint_of(version: Version, endpoint: String, rest: &[&str]) -> Route {
    match rest {
        [] => Route::Container { version, endpoint },
        ["task"] => Route::Task { version, endpoint: Some(endpoint), with_tags: false },
        ["taskWithTags"] => Route::Task { version, endpoint: Some(endpoint), with_tags: true },
        ["stats"] => Route::ContainerStats { version, endpoint },
        ["task", "stats"] => Route::TaskStats { version, endpoint: Some(endpoint) },
        _ => Route::Nothing,
    }
}

/// The first of this name; ids need no escapes, and one that has any is nobody's.
fn parameter(query: Option<&str>, name: &str) -> String {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_path() {
        let endpoint = || "e".to_owned();
        for version in [Version::V3, Version::V4] {
            let base = format!("/{}/e", version.name().to_lowercase());
            for (path, route) in [
                ("", Route::Container { version, endpoint: endpoint() }),
                ("/task", Route::Task { version, endpoint: Some(endpoint()), with_tags: false }),
                ("/taskWithTags", Route::Task { version, endpoint: Some(endpoint()), with_tags: true }),
                ("/stats", Route::ContainerStats { version, endpoint: endpoint() }),
                ("/task/stats", Route::TaskStats { version, endpoint: Some(endpoint()) }),
                ("/other", Route::Nothing),
                ("//task", Route::Nothing),
                ("/task//", Route::Nothing),
                ("/task/stats/more", Route::Nothing),
            ] {
                for slash in ["", "/"] {
                    let expected = if slash == "/" && path.ends_with('/') { Route::Nothing } else { route.clone() };
                    assert_eq!(Route::of(&format!("{base}{path}{slash}"), None), expected, "{base}{path}{slash}");
                }
            }
        }
        let version = Version::V2;
        for (path, route) in [
            ("/v2/metadata", Route::Task { version, endpoint: None, with_tags: false }),
            ("/v2/metadataWithTags", Route::Task { version, endpoint: None, with_tags: true }),
            ("/v2/metadata/abc", Route::ContainerById { docker_id: "abc".to_owned() }),
            ("/v2/stats", Route::TaskStats { version, endpoint: None }),
            ("/v2/stats/abc", Route::ContainerStatsById { docker_id: "abc".to_owned() }),
            ("/v2/credentials/x", Route::Credentials { version: 2, id: "x".to_owned() }),
            ("/v2/credentials", Route::Credentials { version: 2, id: String::new() }),
            ("/api/e/task-protection/v1/state", Route::Protection { endpoint: endpoint() }),
            ("/api/e/fault/v1/network-latency/start", Route::Fault { endpoint: endpoint() }),
        ] {
            assert_eq!(Route::of(path, None), route, "{path}");
            assert_eq!(Route::of(&format!("{path}/"), None), route, "{path}/");
        }
        assert_eq!(
            Route::of("/v1/credentials", Some("a=b&id=x&id=y")),
            Route::Credentials { version: 1, id: "x".to_owned() }
        );
        assert_eq!(Route::of("/v1/credentials", None), Route::Credentials { version: 1, id: String::new() });
        for nothing in ["", "/", "*", "/v2", "/v5/e", "/V4/e", "/v4/e/../f", "/api/e", "/v2/credentials/a/b"] {
            assert_eq!(Route::of(nothing, None), Route::Nothing, "{nothing}");
        }
    }
}
