//! The table of members against Amazon's own list, against the page that documents it, and against the tests it names.
//!
//! `data/model-members.txt` has every member of RegisterTaskDefinition's input, of the task definition in answers and
//! of RunTask's overrides, one a line, from the service model of botocore 1.44.5: name, type, `required`, values.

use std::collections::{BTreeMap, HashSet};

use ecs::fields::{Here, Kind, Row, Rule, Shape, TASK_DEFINITION, TASK_OVERRIDE, markdown, rows};

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
    assert!(page == markdown(), "MEMBERS.md is to be the output of `cargo run -p ecs --example members`");
}

fn all_rows() -> Vec<Row> {
    rows(&TASK_DEFINITION).into_iter().chain(rows(&TASK_OVERRIDE)).collect()
}

#[test]
fn every_effective_member_names_its_test() {
    let all = all_rows();
    let unshown: Vec<&str> =
        all.iter().filter(|row| row.is_effective() && row.shown_by.is_none()).map(|row| row.path.as_str()).collect();
    assert!(unshown.is_empty(), "these need `.shown_by(…)` in src/fields: {unshown:?}");
    // What is not effective is warned about or refused with words.
    for row in &all {
        match row.here {
            Here::Partly(text) | Here::Mapped(text) | Here::NoEffect(text) => assert!(!text.is_empty(), "{}", row.path),
            Here::Refused { why, instead } => assert!(!why.is_empty() && !instead.is_empty(), "{}", row.path),
            Here::Effective | Here::ReadOnly => {}
        }
    }
}

/// `tests/host/volumes.rs: a_scratch_volume_is_shared`: the file is there, and has a test of this name.
#[test]
fn the_tests_that_the_table_names_exist() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wrong = Vec::new();
    for row in all_rows() {
        let Some(shown_by) = row.member.shown_by else { continue };
        let found = shown_by.split_once(": ").is_some_and(|(file, name)| {
            let source = std::fs::read_to_string(top.join(file)).unwrap_or_default();
            let at = source.find(&format!("fn {name}("));
            // The attribute stands just before, at most with others.
            at.is_some_and(|at| source[..at].lines().rev().take(4).any(|line| line.trim() == "#[test]"))
        });
        if !found {
            wrong.push(format!("{}: {shown_by}", row.path));
        }
    }
    assert!(wrong.is_empty(), "no such tests:\n{}", wrong.join("\n"));
}
