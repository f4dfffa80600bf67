//! JSON within limits (RFC 8259).
//!
//! A member that is there twice is refused: Amazon takes the last, and what reads a request before it may take the first.
//! A member that is null is absent, as Amazon's protocol has it.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::limits;
use crate::refusal::Refusal;

/// The body, which must be an object. No body at all is the empty one.
pub(crate) fn object(body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let left = Cell::new(limits::JSON_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Bounded { depth: 0, left: &left }.deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Refusal::Serialization("The body must be a JSON object".to_owned())),
        Err(error) => Err(Refusal::Serialization(format!("The body is not JSON that is read here: {error}"))),
    }
}

#[derive(Clone, Copy)]
struct Bounded<'a> {
    depth: usize,
    left: &'a Cell<usize>,
}

impl Bounded<'_> {
    fn count<E: Error>(self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| E::custom(format!("more than {} values", limits::JSON_VALUES)))?);
        Ok(())
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= limits::JSON_DEPTH {
            return Err(E::custom(format!("objects and arrays nested deeper than {}", limits::JSON_DEPTH)));
        }
        Ok(Self { depth: self.depth + 1, left: self.left })
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        self.count()?;
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(deeper)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if name.len() > limits::JSON_NAME_BYTES {
                let text = format!("a member's name of more than {} bytes", limits::JSON_NAME_BYTES);
                return Err(A::Error::custom(text));
            }
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("the member '{}' is there twice", name.escape_debug())));
            }
            let value = members.next_value_seed(deeper)?;
            object.insert(name, value);
        }
        object.retain(|_, value| !value.is_null());
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(body: &[u8], words: &str) {
        match object(body) {
            Err(Refusal::Serialization(message)) => {
                assert!(message.contains(words), "{}: {message}", String::from_utf8_lossy(body).escape_debug());
            }
            other => panic!("{}: {other:?}", String::from_utf8_lossy(body).escape_debug()),
        }
    }

    #[test]
    fn objects_are_read() {
        assert_eq!(object(b"").unwrap(), json!({}));
        let body = br#" {"a": [1, -2, 0.5, "\u00e4\n", true], "b": {"c": null, "d": {}}, "e": null} "#;
        assert_eq!(object(body).unwrap(), json!({"a": [1, -2, 0.5, "ä\n", true], "b": {"d": {}}}));
    }

    #[test]
    fn what_is_no_object_of_json_is_refused() {
        for body in ["[]", "null", "\"a\"", "1", "true"] {
            refused(body.as_bytes(), "must be a JSON object");
        }
        let malformed: [&[u8]; 14] = [
            b" ",
            b"{",
            b"{\"a\":}",
            b"{\"a\":1,}",
            b"{'a':1}",
            b"{\"a\":1} {}",
            b"{\"a\":01}",
            b"{\"a\":1e999}",
            b"{\"a\":NaN}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\n\"}",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
            b"{a:1}",
        ];
        for body in malformed {
            refused(body, "The body is not JSON");
        }
    }

    #[test]
    fn a_member_is_there_once() {
        refused(br#"{"cluster":"a","tasks":[],"cluster":"b"}"#, "'cluster' is there twice");
        refused(br#"{"tags":[{"key":null,"key":"b"}]}"#, "'key' is there twice");
        refused(br#"{"a":1,"\u0061":2}"#, "'a' is there twice");
    }

    /// At each limit, and one above.
    #[test]
    fn limits_hold() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(object(nested(limits::JSON_DEPTH).as_bytes()).is_ok());
        refused(nested(limits::JSON_DEPTH + 1).as_bytes(), "deeper than 64");
        refused(&[b"{\"a\":".as_slice(), &b"[".repeat(1_000_000)].concat(), "deeper than 64");
        refused(b"{\"a\":".repeat(1_000_000).as_slice(), "deeper than 64");

        let many = |count: usize| format!("{{\"a\":[{}]}}", vec!["1"; count].join(","));
        assert!(object(many(limits::JSON_VALUES - 2).as_bytes()).is_ok());
        refused(many(limits::JSON_VALUES - 1).as_bytes(), "more than 50000 values");

        let named = |bytes: usize| format!("{{\"{}\":1}}", "a".repeat(bytes));
        assert!(object(named(limits::JSON_NAME_BYTES).as_bytes()).is_ok());
        refused(named(limits::JSON_NAME_BYTES + 1).as_bytes(), "more than 1024 bytes");
    }
}
