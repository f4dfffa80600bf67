//! Where the values of a text stand, for findings that are made long after it was parsed.

use super::{Position, Positions};
use crate::path::{item_path, member_path};

/// An object or list that is open.
struct Open {
    path: String,
    inside: Inside,
}

enum Inside {
    /// `None` until the next member's name is read.
    Object {
        member: Option<String>,
    },
    List {
        index: usize,
    },
}

impl Open {
    /// The path of the value that comes next.
    fn next(&self) -> String {
        match &self.inside {
            Inside::Object { member } => member_path(&self.path, member.as_deref().unwrap_or_default()),
            Inside::List { index } => item_path(&self.path, *index),
        }
    }
}

/// `text` is JSON that was parsed without an error.
pub(super) fn positions(text: &str) -> Positions {
    let mut found = Positions::new();
    let mut open: Vec<Open> = Vec::new();
    let mut here = Position { line: 1, column: 1 };
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let length = if char == '"' { string_length(rest) } else { char.len_utf8() };
        let token = &rest[..length];
        match (char, open.last_mut().map(|open| &mut open.inside)) {
            (' ' | '\t' | '\r' | '\n' | ':', _) => {}
            (',', Some(Inside::Object { member })) => *member = None,
            (',', Some(Inside::List { index })) => *index += 1,
            ('}' | ']', _) => drop(open.pop()),
            ('"', Some(Inside::Object { member: member @ None })) => {
                *member = serde_json::from_str(token).ok();
                note(&mut found, &open, here);
            }
            _ => {
                note(&mut found, &open, here);
                let inside = match char {
                    '{' => Some(Inside::Object { member: None }),
                    '[' => Some(Inside::List { index: 0 }),
                    _ => None,
                };
                if let Some(inside) = inside {
                    open.push(Open { path: open.last().map(Open::next).unwrap_or_default(), inside });
                }
            }
        }
        match char {
            '\n' => here = Position { line: here.line + 1, column: 1 },
            _ => here.column += token.chars().count(),
        }
        rest = &rest[length..];
    }
    found
}

/// The first sight of a value counts: a member's name, a number's first digit.
fn note(found: &mut Positions, open: &[Open], here: Position) {
    let path = open.last().map(Open::next).unwrap_or_default();
    found.entry(path).or_insert(here);
}

/// Bytes of the string that `text` begins with, quotes included. JSON has no line break inside of one.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return index + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_at_their_names_and_items_at_their_beginning() {
        let text = "{\"a\": [1, \"ö]\\\"\", {\"b.c\": nul}],\n \"d\": {\"e\": -2.5e3}, \"f\": \"\\\\\", \"g\": []}";
        let mut found: Vec<(Position, String)> = positions(text).into_iter().map(|(path, at)| (at, path)).collect();
        found.sort();
        let said: Vec<String> = found.iter().map(|(at, path)| format!("{}:{} {path}", at.line, at.column)).collect();
        let wanted = [
            "1:1 ",
            "1:2 a",
            "1:8 a[0]",
            "1:11 a[1]",
            "1:19 a[2]",
            "1:20 a[2][\"b.c\"]",
            "2:2 d",
            "2:8 d.e",
            "2:22 f",
            "2:33 g",
        ];
        assert_eq!(said, wanted);
    }
}
