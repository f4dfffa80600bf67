//! The table of members against Amazon's own list, and against the page that documents it.
//!
//! `data/model-members.txt` has every member of RegisterTaskDefinition's input, of the task definition in answers and
//! of RunTask's overrides, one a line, from the service model of botocore 1.44.5: name, type, `required`, values.

use std::collections::{BTreeMap, HashSet};

use ecs::fields::{Here, Kind, Rule, Shape, TASK_DEFINITION, TASK_OVERRIDE, markdown};

fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::Text => "string".to_owned(),
        Kind::Integer => "integer".to_owned(),
        Kind::Boolean => "boolean".to_owned(),
        Kind::Timestamp => "timestamp".to_owned(),
        Kind::List(item) => format!("list<{}>", type_of(item)),
        Kind::TextMap => "map<string>".to_owned(),
        Kind::Structure(shape) => shape.name.to_owned(),
    }
}

/// Name to type, values and whether nobody has to be told that it is missing.
type Members = BTreeMap<String, (String, Vec<String>, bool)>;

fn add(shape: &'static Shape, seen: &mut HashSet<*const Shape>, members: &mut Members) {
    if !seen.insert(shape) {
        return;
    }
    for member in shape.members {
        let mut values = match member.rule {
            Rule::OneOf(values) => values.iter().map(|value| (*value).to_owned()).collect(),
            Rule::Any | Rule::Within(..) | Rule::Grammar(_) => Vec::new(),
        };
        values.sort();
        let name = format!("{}.{}", shape.name, member.name);
        members.insert(name, (type_of(&member.kind), values, member.required || member.here == Here::ReadOnly));
        if let Some(inner) = member.kind.shape() {
            add(inner, seen, members);
        }
    }
}

#[test]
fn the_table_has_every_member_of_amazons_model_and_no_other() {
    let mut table = Members::new();
    let mut seen = HashSet::new();
    add(&TASK_DEFINITION, &mut seen, &mut table);
    add(&TASK_OVERRIDE, &mut seen, &mut table);
    let model = include_str!("data/model-members.txt");
    let mut named = HashSet::new();
    for line in model.lines() {
        let mut words = line.split(' ');
        let (name, kind) = (words.next().expect("a name"), words.next().expect("a type"));
        let rest: Vec<&str> = words.collect();
        let required = rest.contains(&"required");
        let values: Vec<&str> =
            rest.iter().find(|word| **word != "required").map(|word| word.split('|').collect()).unwrap_or_default();
        let (our_kind, our_values, our_required) =
            table.get(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(our_kind, kind, "{name}");
        assert!(*our_required || !required, "{name} is required");
        // Where the table has a list of its own, it is Amazon's; read-only members need none.
        if !our_values.is_empty() && !values.is_empty() {
            assert_eq!(*our_values, values, "{name}");
        }
        named.insert(name.to_owned());
    }
    let others: Vec<&String> = table.keys().filter(|name| !named.contains(*name)).collect();
    assert!(others.is_empty(), "not in Amazon's model: {others:?}");
    assert_eq!(named.len(), 195);
}

#[test]
fn the_page_of_members_is_the_table() {
    let page = include_str!("../MEMBERS.md");
    assert!(page.ends_with(&markdown()), "MEMBERS.md is to end with:\n{}", markdown());
}
