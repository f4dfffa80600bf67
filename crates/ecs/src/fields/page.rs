//! The table of members for readers: as the page `MEMBERS.md`, and as JSON for those who compare it with Amazon's model.

use serde_json::{Map, Value, json};

use super::{Here, Kind, Member, Rule, Shape, TASK_DEFINITION, TASK_OVERRIDE};

/// One member by the way to it: `containerDefinitions[].portMappings[].hostPort`.
#[derive(Clone, Debug)]
pub struct Row {
    pub path: String,
    /// What becomes of it, or of the structure around it where that is not effective as a whole.
    pub here: Here,
    /// The way to that structure around it.
    pub with: Option<String>,
    /// Its own test, or that of the structure around it.
    pub shown_by: Option<&'static str>,
    pub member: &'static Member,
}

impl Row {
    /// Whether something comes of this very member: it has a value of its own, and that does what Amazon says.
    pub fn is_effective(&self) -> bool {
        let acts = matches!(self.here, Here::Effective | Here::Partly(_) | Here::Mapped(_));
        acts && self.member.kind.shape().is_none()
    }
}

/// Every member below `shape`, each before what is inside it.
pub fn rows(shape: &'static Shape) -> Vec<Row> {
    let mut rows = Vec::new();
    add_rows("", shape, None, &mut rows);
    rows
}

fn add_rows(prefix: &str, shape: &'static Shape, around: Option<&Row>, rows: &mut Vec<Row>) {
    for member in shape.members {
        let list = if matches!(member.kind, Kind::List(_)) { "[]" } else { "" };
        // What is wrong with a structure is wrong with all that is inside it, however deep.
        let whole = around.filter(|row| {
            row.with.is_some() || matches!(row.here, Here::NoEffect(_) | Here::Refused { .. } | Here::ReadOnly)
        });
        let row = Row {
            path: format!("{prefix}{}{list}", member.name),
            here: whole.map_or(member.here, |row| row.here),
            with: whole.map(|row| row.with.clone().unwrap_or_else(|| row.path.clone())),
            shown_by: member.shown_by.or(around.and_then(|row| row.shown_by)),
            member,
        };
        rows.push(row.clone());
        if let Some(inner) = member.kind.shape() {
            add_rows(&format!("{}.", row.path), inner, Some(&row), rows);
        }
    }
}

const INTRODUCTION: &str = "\
Every member of RegisterTaskDefinition's input and of RunTask's `overrides`, and what becomes of it here: *effective*
members do what Amazon says, each shown by the test beside it; what has *no effect* is accepted, and `coracle lint` and
`coracle run` say so; what is *refused* is an error, with its reason and what to do instead. Empty lists, empty texts, `null`
and `false` of members without effect are passed over without a word. This page is made from the
table in `src/fields`; `coracle lint --members` prints it.
";

/// The page of members in Markdown: `MEMBERS.md` of this crate is this text.
pub fn markdown() -> String {
    let mut text = format!("# Members\n\n{INTRODUCTION}");
    for (title, shape) in [("RegisterTaskDefinition", &TASK_DEFINITION), ("RunTask's overrides", &TASK_OVERRIDE)] {
        text.push_str(&format!("\n## {title}\n\n| Member | Here | Shown by |\n|---|---|---|\n"));
        for row in rows(shape) {
            let shown_by = row.shown_by.filter(|_| row.is_effective());
            let shown_by = shown_by.map_or_else(String::new, |test| format!("`{test}`"));
            text.push_str(&format!("| `{}` | {} | {shown_by} |\n", row.path, what_becomes(&row)));
        }
    }
    text
}

fn what_becomes(row: &Row) -> String {
    let kind = match row.here {
        Here::Effective if row.member.kind.shape().is_some() => "effective, by its members",
        Here::Effective => "effective",
        Here::Partly(_) => "effective in part",
        Here::Mapped(_) => "effective as something else",
        Here::NoEffect(_) => "no effect, warned",
        Here::Refused { .. } => "refused",
        Here::ReadOnly => "in answers only, ignored",
    };
    match (&row.with, row.here) {
        (Some(with), _) => format!("{kind}, with `{with}`"),
        (None, Here::Partly(text) | Here::Mapped(text) | Here::NoEffect(text)) => format!("{kind}: {text}"),
        (None, Here::Refused { why, instead }) => format!("{kind}: {why}; {instead}"),
        (None, Here::Effective | Here::ReadOnly) => kind.to_owned(),
    }
}

/// Every structure of the table by its name, with its members' types, values and what becomes of them.
pub fn json() -> Value {
    let mut shapes = Map::new();
    for root in [&TASK_DEFINITION, &TASK_OVERRIDE] {
        add_shape(root, &mut shapes);
    }
    Value::Object(shapes)
}

/// Shapes that differ in their rules alone, such as Amazon's KeyValuePair in two places, have one entry: the first.
fn add_shape(shape: &'static Shape, shapes: &mut Map<String, Value>) {
    if shapes.contains_key(shape.name) {
        return;
    }
    let members = shape.members.iter().map(|member| (member.name.to_owned(), member_json(member)));
    shapes.insert(shape.name.to_owned(), Value::Object(members.collect()));
    for inner in shape.members.iter().filter_map(|member| member.kind.shape()) {
        add_shape(inner, shapes);
    }
}

fn member_json(member: &Member) -> Value {
    let (here, about) = match member.here {
        Here::Effective => ("effective", None),
        Here::Partly(text) => ("partly", Some(text)),
        Here::Mapped(text) => ("mapped", Some(text)),
        Here::NoEffect(text) => ("noEffect", Some(text)),
        Here::Refused { why, .. } => ("refused", Some(why)),
        Here::ReadOnly => ("readOnly", None),
    };
    let values = match member.rule {
        Rule::OneOf(values) => values,
        Rule::Any | Rule::Within(..) | Rule::Grammar(_) => &[],
    };
    json!({
        "type": type_name(&member.kind), "required": member.required, "values": values, "extensions": member.extensions,
        "here": here, "about": about, "shownBy": member.shown_by,
    })
}

/// As Amazon's model has it: `string`, `list<integer>`, `map<string>`, or the structure's name.
fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Text => "string".to_owned(),
        Kind::Integer => "integer".to_owned(),
        Kind::Boolean => "boolean".to_owned(),
        Kind::Timestamp => "timestamp".to_owned(),
        Kind::List(item) => format!("list<{}>", type_name(item)),
        Kind::TextMap => "map<string>".to_owned(),
        Kind::Structure(shape) => shape.name.to_owned(),
    }
}
