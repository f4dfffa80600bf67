//! JSON as people write it, read strictly: comments and trailing commas are allowed, everything else that could mean
//! two things is refused with its line and column.
//!
//! `serde_json` does the parsing; this file adds what it leaves out: comments, duplicate members, a depth of our own
//! choosing and NUL. What the JSON says is for others.

mod plain;
mod positions;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::path::{item_path, member_path};
use plain::without_comments;
use positions::positions;

/// The deepest nesting of lists and objects that is read. A task definition needs nine.
pub const MAX_DEPTH: usize = 64;

/// A place in a text: both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}, column {}", self.line, self.column)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("{position}: not UTF-8 text; save the file as UTF-8")]
    NotUtf8 { position: Position },
    #[error(
        "line 1, column 1: the file is UTF-16, as PowerShell's `>` writes it; save it as UTF-8 without a byte order mark"
    )]
    Utf16,
    #[error("line 1, column 1: the file starts with a byte order mark; save it as UTF-8 without one")]
    ByteOrderMark,
    #[error("{position}: a NUL character, which no member of ECS can hold")]
    Nul { position: Position },
    #[error("{position}: {what}")]
    Syntax { position: Position, what: String },
    #[error("{position}: {path} is given twice; keep one of them")]
    DuplicateMember { position: Position, path: String },
    #[error("{position}: nested deeper than {MAX_DEPTH} levels")]
    TooDeep { position: Position },
}

/// Where each value of a text stands, by its path: a member at its name, an item at its beginning.
pub type Positions = HashMap<String, Position>;

/// Reads one JSON value out of `text`. Members keep their order.
pub fn parse(text: &[u8]) -> Result<(Value, Positions), JsonError> {
    let text = utf8(text)?;
    let plain = without_comments(text)?;
    let problem = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(&plain);
    let root = Step::Root;
    let seed = Strict { depth: 0, at: &root, problem: &problem };
    let value = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    let value = value.map_err(|error| {
        let position = position_of(&plain, &error);
        match problem.into_inner() {
            Some(Problem::Duplicate { path }) => JsonError::DuplicateMember { position, path },
            Some(Problem::TooDeep) => JsonError::TooDeep { position },
            Some(Problem::Nul) => JsonError::Nul { position },
            None => JsonError::Syntax { position, what: in_words(&error) },
        }
    })?;
    Ok((value, positions(&plain)))
}

/// The value as a type. It goes by its text: that is the one way into the types for files, messages and values alike, and a
/// second one would be all of their code once more.
pub fn typed<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
    serde_json::from_slice(&serde_json::to_vec(value)?)
}

/// A type as a value, by way of its text as in `typed`.
pub fn value_of<T: Serialize>(typed: &T) -> serde_json::Result<Value> {
    serde_json::from_slice(&serde_json::to_vec(typed)?)
}

fn utf8(text: &[u8]) -> Result<&str, JsonError> {
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        return Err(JsonError::Utf16);
    }
    if text.starts_with(&[0xef, 0xbb, 0xbf]) {
        return Err(JsonError::ByteOrderMark);
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        let good = std::str::from_utf8(&text[..error.valid_up_to()]).expect("valid_up_to bounds valid UTF-8");
        JsonError::NotUtf8 { position: end_of(good) }
    })?;
    match text.find('\0') {
        Some(index) => Err(JsonError::Nul { position: end_of(&text[..index]) }),
        None => Ok(text),
    }
}

/// The position of the character that would follow `text`.
fn end_of(text: &str) -> Position {
    let line = text.matches('\n').count() + 1;
    let last = text.rsplit('\n').next().unwrap_or(text);
    Position { line, column: last.chars().count() + 1 }
}

/// serde_json counts columns in bytes, people in characters.
fn position_of(text: &str, error: &serde_json::Error) -> Position {
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let column = line.char_indices().take_while(|(index, _)| *index < error.column()).count();
    Position { line: error.line().max(1), column: column.max(1) }
}

/// serde_json's own words without its position, and plainer where they name its inner workings.
fn in_words(error: &serde_json::Error) -> String {
    let whole = error.to_string();
    let what = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(what, _)| what);
    match what {
        "EOF while parsing a value" => "the text ends too early".to_owned(),
        "EOF while parsing an object" => "the text ends too early: an object is still open".to_owned(),
        "EOF while parsing a list" => "the text ends too early: a list is still open".to_owned(),
        "EOF while parsing a string" => "the text ends too early: a string is still open".to_owned(),
        "number out of range" => "a number beyond what JSON readers hold".to_owned(),
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" => {
            "half of a surrogate pair, which is no character; write both \\u escapes".to_owned()
        }
        "control character (\\u0000-\\u001F) found while parsing a string" => {
            "a line break or control character inside a string; close the string or write \\n".to_owned()
        }
        "key must be a string" => "a member name in double quotes is wanted here".to_owned(),
        "expected value" => "a value is wanted here".to_owned(),
        "trailing characters" => "more text after the end of the JSON value".to_owned(),
        other => other.to_owned(),
    }
}

/// Where in the document the reader stands, back to the root.
enum Step<'a> {
    Root,
    Member { of: &'a Step<'a>, name: &'a str },
    Item { of: &'a Step<'a>, index: usize },
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Root => Ok(()),
            Step::Member { of, name } => out.write_str(&member_path(&of.to_string(), name)),
            Step::Item { of, index } => out.write_str(&item_path(&of.to_string(), *index)),
        }
    }
}

/// What `serde_json`'s error type has no room for.
enum Problem {
    Duplicate { path: String },
    TooDeep,
    Nul,
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    at: &'a Step<'a>,
    problem: &'a RefCell<Option<Problem>>,
}

impl<'a> Strict<'a> {
    fn refuse<E: serde::de::Error>(&self, problem: Problem) -> E {
        *self.problem.borrow_mut() = Some(problem);
        E::custom("refused")
    }

    fn inside<'b>(&'b self, at: &'b Step<'b>) -> Strict<'b> {
        Strict { depth: self.depth + 1, at, problem: self.problem }
    }

    fn text<E: serde::de::Error>(&self, text: String) -> Result<String, E> {
        if text.contains('\0') { Err(self.refuse(Problem::Nul)) } else { Ok(text) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.text(value.to_owned()).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        if self.depth >= MAX_DEPTH {
            return Err(self.refuse(Problem::TooDeep));
        }
        let mut list = Vec::new();
        loop {
            let step = Step::Item { of: self.at, index: list.len() };
            match items.next_element_seed(self.inside(&step))? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        if self.depth >= MAX_DEPTH {
            return Err(self.refuse(Problem::TooDeep));
        }
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let name = self.text(name)?;
            let step = Step::Member { of: self.at, name: &name };
            if object.contains_key(&name) {
                return Err(self.refuse(Problem::Duplicate { path: step.to_string() }));
            }
            let value = members.next_value_seed(self.inside(&step))?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// What a value is, for messages: `text`, `a number`, …
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a whole number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Bytes of `value` as JSON without white space.
pub(crate) fn compact_size(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("a JSON value is written to memory without errors");
    count.0
}
