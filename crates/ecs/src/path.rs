//! Paths into JSON, as messages show them: `containerDefinitions[0].portMappings[1].hostPort`.

/// A member's path below `path`. Names that would be misread go in brackets: `dockerLabels["com.example"]`.
pub(crate) fn member_path(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '-' | '$'));
    match (plain, path.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{path}.{name}"),
        (false, _) => format!("{path}[{name:?}]"),
    }
}

pub(crate) fn item_path(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// The path of what `path` stands in; `None` at the top.
pub(crate) fn parent(path: &str) -> Option<&str> {
    path.rfind(['.', '[']).map(|end| &path[..end]).or_else(|| (!path.is_empty()).then_some(""))
}
