//! The walk over the table: is every member known, of its type, right by itself, and what becomes of it.

use serde_json::{Map, Value};

use super::{Findings, Severity};
use crate::fields::{Here, Kind, Member, Rule, Shape, TASK_DEFINITION, TASK_OVERRIDE};
use crate::json::kind_of;
use crate::path::{item_path, member_path};
use crate::suggest;

/// The longest piece of a file that a message repeats, in characters.
const MAX_QUOTED: usize = 60;
/// How many names of containers or volumes a hint lists.
const MAX_NAMES: usize = 20;

/// Checks `value` against `shape`. Returns what was well formed: without null, unknown and empty members; malformed
/// items of lists become null so that the indexes stay true.
pub(crate) fn check_shape(value: &Map<String, Value>, shape: &'static Shape, findings: &mut Findings) -> Value {
    Value::Object(structure(value, shape, "", findings))
}

fn structure(
    value: &Map<String, Value>,
    shape: &'static Shape,
    path: &str,
    findings: &mut Findings,
) -> Map<String, Value> {
    let mut well_formed = Map::new();
    for (name, given) in value {
        let at = member_path(path, name);
        let Some(member) = shape.member(name) else {
            unknown(name, shape, &at, findings);
            continue;
        };
        if given.is_null() {
            continue;
        }
        let Some(checked) = checked(given, &member.kind, member, &at, findings) else {
            let fault = if given.as_str() == Some("") { Fault::Missing } else { Fault::Malformed };
            if let Some(words) = amazons_words(shape, member, fault) {
                findings.amazon_says(words);
            }
            continue;
        };
        // `false` of a member that works may be the opposite of its default: `essential`.
        let works = matches!(member.here, Here::Effective | Here::Partly(_));
        // A label without a value is a label.
        let labels = matches!(member.kind, Kind::TextMap) && checked.as_object().is_some_and(|map| !map.is_empty());
        let blank = is_blank(&checked) && !labels;
        if member.required || !blank || (works && checked.is_boolean()) {
            tell_effect(member, &checked, &at, findings);
            well_formed.insert(name.clone(), checked);
        }
    }
    for member in shape.members.iter().filter(|member| member.required) {
        if value.get(member.name).is_none_or(Value::is_null) {
            let wanted = wanted(&member.kind);
            findings.error(member_path(path, member.name), format!("missing; {wanted} is wanted here"));
            if let Some(words) = amazons_words(shape, member, Fault::Missing) {
                findings.amazon_says(words);
            }
        }
    }
    well_formed
}

#[derive(Clone, Copy)]
enum Fault {
    Missing,
    Malformed,
}

/// What Amazon says to a member that is missing or malformed, where that is known.
fn amazons_words(shape: &Shape, member: &Member, fault: Fault) -> Option<&'static str> {
    Some(match (shape.name, member.name, fault) {
        ("TaskDefinition", "family", Fault::Missing) => "Family can not be blank.",
        ("TaskDefinition", "family", Fault::Malformed) => "Family contains invalid characters.",
        ("TaskDefinition", "containerDefinitions", Fault::Missing) => "Container list cannot be empty.",
        ("TaskDefinition", "cpu", _) => "Invalid 'cpu' setting for task.",
        ("TaskDefinition", "memory", _) => "Invalid 'memory' setting for task.",
        ("ContainerDefinition", "name", Fault::Missing) => "Container.name should not be null or empty.",
        ("ContainerDefinition", "name", Fault::Malformed) => "Container.name contains invalid characters.",
        ("ContainerDefinition", "image", Fault::Missing) => "Container.image should not be null or empty.",
        _ => return None,
    })
}

/// What Amazon's own answers fill in for "nothing": it says nothing, so nothing is said about it.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_blank),
    }
}

fn tell_effect(member: &Member, value: &Value, at: &str, findings: &mut Findings) {
    if is_blank(value) {
        return;
    }
    match member.here {
        Here::Effective | Here::Partly(_) | Here::ReadOnly => {}
        Here::NoEffect(why) => findings.add(Severity::NoEffect, at, why),
        Here::Mapped(why) => {
            let message = value.as_str().map_or_else(|| why.to_owned(), |text| format!("{}: {why}", quoted(text)));
            findings.add(Severity::Mapped, at, message);
        }
        Here::Refused { why, instead } => {
            findings.refuse(at, why);
            findings.hint(instead);
        }
    }
}

/// The value if it is what the member wants; `None` after a finding, or silently for a read-only member.
fn checked(given: &Value, kind: &Kind, member: &Member, at: &str, findings: &mut Findings) -> Option<Value> {
    match (kind, given) {
        (Kind::Text, Value::String(text)) => follows_text_rule(text, member, at, findings).then(|| given.clone()),
        (Kind::Integer, Value::Number(number)) if !number.is_f64() => {
            follows_number_rule(given, member, at, findings).then(|| given.clone())
        }
        (Kind::Boolean, Value::Bool(_)) | (Kind::Timestamp, Value::Number(_) | Value::String(_)) => Some(given.clone()),
        (Kind::List(item), Value::Array(items)) => {
            let check = |(index, value)| checked(value, item, member, &item_path(at, index), findings);
            let items: Vec<Value> = items.iter().enumerate().map(check).map(Option::unwrap_or_default).collect();
            Some(Value::Array(items))
        }
        (Kind::TextMap, Value::Object(members)) => {
            let mut texts = Map::new();
            for (name, value) in members {
                if let Some(text) = checked(value, &Kind::Text, member, &member_path(at, name), findings) {
                    texts.insert(name.clone(), text);
                }
            }
            Some(Value::Object(texts))
        }
        (Kind::Structure(shape), Value::Object(members)) => {
            Some(Value::Object(structure(members, shape, at, findings)))
        }
        _ if member.here == Here::ReadOnly => None,
        (kind, given) => {
            wrong_type(given, kind, at, findings);
            None
        }
    }
}

fn wanted(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Integer => "a whole number",
        Kind::Boolean => "true or false",
        Kind::Timestamp => "a time",
        Kind::List(_) => "a list",
        Kind::TextMap => "an object with text members",
        Kind::Structure(_) => "an object",
    }
}

fn wrong_type(given: &Value, kind: &Kind, at: &str, findings: &mut Findings) {
    findings.error(at, format!("{} is wanted here, not {}", wanted(kind), shown(given)));
    let hint = match (kind, given) {
        (Kind::Text, Value::Number(_) | Value::Bool(_)) => Some(format!("write \"{given}\"")),
        (Kind::Integer, Value::String(text)) if text.parse::<i64>().is_ok() => {
            Some(format!("write {text} without quotes"))
        }
        (Kind::Boolean, Value::String(text)) if matches!(text.as_str(), "true" | "false") => {
            Some(format!("write {text} without quotes"))
        }
        (Kind::Integer, Value::Number(number)) => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
            whole.map(|number| format!("write {number:.0}"))
        }
        (Kind::List(Kind::Text), Value::String(text)) => Some(format!("write [{}]", quoted(text))),
        (Kind::List(_), Value::Object(_)) => Some("put it into brackets: [{…}]".to_owned()),
        _ => None,
    };
    if let Some(hint) = hint {
        findings.hint(hint);
    }
}

fn follows_text_rule(text: &str, member: &Member, at: &str, findings: &mut Findings) -> bool {
    let optional_and_empty = text.is_empty() && !member.required && !matches!(member.kind, Kind::List(_));
    if member.here == Here::ReadOnly || optional_and_empty {
        return true;
    }
    match member.rule {
        Rule::Any | Rule::Within(..) => true,
        Rule::OneOf(values) if values.contains(&text) || member.extensions.contains(&text) => true,
        Rule::OneOf(values) => {
            let values = [values, member.extensions].concat();
            findings.error(at, format!("{} is none of {}", quoted(text), values.join(", ")));
            if let Some(meant) = suggest::closest(text, values.iter().copied()) {
                findings.hint(format!("did you mean {meant:?}?"));
            }
            false
        }
        Rule::Grammar(verdict) => match verdict(text) {
            Ok(()) => true,
            Err(right) => {
                findings.error(at, format!("{} is not possible here", quoted(text)));
                findings.hint(right);
                false
            }
        },
    }
}

fn follows_number_rule(given: &Value, member: &Member, at: &str, findings: &mut Findings) -> bool {
    let (least, most) = match member.rule {
        Rule::Within(least, most) => (least, most),
        Rule::Any | Rule::OneOf(_) | Rule::Grammar(_) => (i64::from(i32::MIN), i64::from(i32::MAX)),
    };
    let inside = given.as_i64().is_some_and(|number| (least..=most).contains(&number));
    if !inside && member.here != Here::ReadOnly {
        findings.error(at, format!("{given} is out of range: {least} to {most}"));
    }
    inside
}

fn unknown(name: &str, shape: &'static Shape, at: &str, findings: &mut Findings) {
    // Amazon passes over what it does not know: newer clients send newer members.
    findings.refuse(at, format!("{} has no such member", shape.name));
    if let Some(meant) = suggest::closest(name, shape.members.iter().map(|member| member.name)) {
        findings.hint(format!("did you mean {meant:?}?"));
    } else if let Some(owner) =
        owner_of(name, &TASK_DEFINITION, shape).or_else(|| owner_of(name, &TASK_OVERRIDE, shape))
    {
        findings.hint(format!("it belongs into {owner}"));
    }
}

/// The path of the structure, other than `except`, that has a member of this name.
fn owner_of(name: &str, root: &'static Shape, except: &'static Shape) -> Option<String> {
    let mut open = std::collections::VecDeque::from([(String::new(), root)]);
    while let Some((path, shape)) = open.pop_front() {
        // Names as plain as these are in too many structures to point anywhere.
        let telling = !matches!(name, "name" | "value" | "type" | "options" | "key");
        if telling && !std::ptr::eq(shape, except) && shape.member(name).is_some() {
            return Some(if path.is_empty() { format!("the top of the {}", root.name) } else { path });
        }
        for member in shape.members {
            if let Some(inner) = member.kind.shape() {
                let list = if matches!(member.kind, Kind::List(_)) { "[]" } else { "" };
                open.push_back((format!("{}{list}", member_path(&path, member.name)), inner));
            }
        }
    }
    None
}

/// A piece of the file for a message: what it is, and its text where that is short.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text {}", quoted(text)),
        Value::Number(_) | Value::Bool(_) | Value::Null => value.to_string(),
        Value::Array(_) | Value::Object(_) => kind_of(value).to_owned(),
    }
}

/// `the containers are: a, b`; a file may have more than anybody reads, and repeat them in thousands of findings.
pub(super) fn known(what: &str, names: &[&str]) -> String {
    let more = if names.len() > MAX_NAMES { ", …" } else { "" };
    format!("the {what} are: {}{more}", names[..names.len().min(MAX_NAMES)].join(", "))
}

/// `text` in quotes, cut where it is long; control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
