//! One value of a body on its way into an operation's type: no structure out of an array, no text out of a number, and a
//! misfit says which member it is, in Amazon's words where they are known.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, map};

use crate::refusal::Refusal;

/// A value with its place in the body.
#[derive(Clone, Copy)]
pub(crate) struct Member<'de, 'p> {
    value: &'de Value,
    place: Place<'p>,
}

#[derive(Clone, Copy)]
enum Place<'p> {
    Root,
    Member { parent: &'p Place<'p>, name: &'p str },
    Element { parent: &'p Place<'p>, index: usize },
}

/// `overrides.containerOverrides[0].name`; nothing for the body itself.
impl fmt::Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Root => Ok(()),
            Place::Member { parent: Place::Root, name } => write!(out, "{}", name.escape_debug()),
            Place::Member { parent, name } => write!(out, "{parent}.{}", name.escape_debug()),
            Place::Element { parent, index } => write!(out, "{parent}[{index}]"),
        }
    }
}

/// A member that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    kind: Kind,
    place: Option<String>,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// JSON of another type.
    Type,
    /// The right type, and not what the operation takes.
    Content,
}

impl Misfit {
    /// The innermost place counts.
    fn at(mut self, place: &Place<'_>) -> Self {
        self.place.get_or_insert_with(|| place.to_string());
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_deref() {
            None | Some("") => out.write_str(&self.message),
            Some(place) => write!(out, "{}: {place}", self.message),
        }
    }
}

impl std::error::Error for Misfit {}

impl Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { kind: Kind::Content, place: None, message: message.to_string() }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("The member '{field}' is missing"))
    }
}

impl From<Misfit> for Refusal {
    fn from(misfit: Misfit) -> Self {
        match misfit.kind {
            Kind::Type => Refusal::Serialization(misfit.to_string()),
            Kind::Content => Refusal::InvalidParameter(misfit.to_string()),
        }
    }
}

impl<'de> Member<'de, 'static> {
    pub(crate) fn root(value: &'de Value) -> Self {
        Member { value, place: Place::Root }
    }
}

impl Member<'_, '_> {
    /// The words are those of Amazon's own parser, as its SerializationExceptions show them.
    fn no(&self, wanted: &str) -> Misfit {
        let found = match self.value {
            Value::Null => "NULL_VALUE",
            Value::Bool(true) => "TRUE_VALUE",
            Value::Bool(false) => "FALSE_VALUE",
            Value::Number(number) if number.is_f64() => "DECIMAL_VALUE",
            Value::Number(_) => "NUMBER_VALUE",
            Value::String(_) => "STRING_VALUE",
            Value::Array(_) => return self.misfit("Start of list found where not expected".to_owned()),
            Value::Object(_) => return self.misfit("Start of structure or map found where not expected".to_owned()),
        };
        self.misfit(format!("{found} can not be converted to {wanted}"))
    }

    fn misfit(&self, message: String) -> Misfit {
        Misfit { kind: Kind::Type, place: Some(self.place.to_string()), message }
    }
}

macro_rules! numbers {
    ($($method:ident $wanted:literal,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match self.value {
                Value::Number(_) => {
                    // What remains is a fraction for an integer, or one out of range.
                    let read: Result<V::Value, serde_json::Error> = self.value.$method(visitor);
                    read.map_err(|_| self.no($wanted))
                }
                _ => Err(self.no($wanted)),
            }
        })*
    };
}

macro_rules! texts {
    ($($method:ident,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match self.value {
                Value::String(text) => visitor.visit_borrowed_str(text).map_err(|misfit: Misfit| misfit.at(&self.place)),
                _ => Err(self.no("a String")),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Member<'de, '_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(_) => {
                let read: Result<V::Value, serde_json::Error> = self.value.deserialize_any(visitor);
                read.map_err(Misfit::custom)
            }
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(elements) => visitor.visit_seq(Elements { left: elements.iter(), next: 0, place: self.place }),
            Value::Object(members) => visitor.visit_map(Members::of(members, self.place)),
        }
        .map_err(|misfit| misfit.at(&self.place))
    }

    numbers! {
        deserialize_i8 "an Integer",
        deserialize_i16 "an Integer",
        deserialize_i32 "an Integer",
        deserialize_i64 "a Long",
        deserialize_u8 "an Integer",
        deserialize_u16 "an Integer",
        deserialize_u32 "an Integer",
        deserialize_u64 "a Long",
        deserialize_f32 "a Float",
        deserialize_f64 "a Double",
    }

    texts! {
        deserialize_char,
        deserialize_str,
        deserialize_string,
        deserialize_bytes,
        deserialize_byte_buf,
        deserialize_identifier,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(self.no("a Boolean")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Array(_) => self.deserialize_any(visitor),
            _ => Err(self.no("a List")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Object(_) => self.deserialize_any(visitor),
            _ => Err(self.no("a Structure or Map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }

    /// An enumeration's values are texts in Amazon's JSON.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.value {
            Value::String(text) => {
                let read: Result<V::Value, Misfit> = visitor.visit_enum(StrDeserializer::new(text));
                read.map_err(|misfit| misfit.at(&self.place))
            }
            _ => Err(self.no("a String")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }
}

struct Elements<'de, 'p> {
    left: std::slice::Iter<'de, Value>,
    next: usize,
    place: Place<'p>,
}

impl<'de> SeqAccess<'de> for Elements<'de, '_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some(value) = self.left.next() else { return Ok(None) };
        let place = Place::Element { parent: &self.place, index: self.next };
        self.next += 1;
        seed.deserialize(Member { value, place }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

struct Members<'de, 'p> {
    left: map::Iter<'de>,
    /// Whose name has been given out.
    value: Option<(&'de str, &'de Value)>,
    place: Place<'p>,
}

impl<'de, 'p> Members<'de, 'p> {
    fn of(members: &'de Map<String, Value>, place: Place<'p>) -> Self {
        Self { left: members.iter(), value: None, place }
    }
}

impl<'de> MapAccess<'de> for Members<'de, '_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((name, value)) = self.left.next() else { return Ok(None) };
        self.value = Some((name, value));
        seed.deserialize(serde::de::value::BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some((name, value)) = self.value.take() else {
            return Err(Misfit::custom("a member's value was asked for before its name"));
        };
        seed.deserialize(Member { value, place: Place::Member { parent: &self.place, name } })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

#[cfg(test)]
mod tests {
    use ecs::operations::Operation;
    use ecs::operations::tasks::RunTaskRequest;
    use serde_json::json;

    use super::*;

    fn refused(operation: &str, body: Value) -> Refusal {
        Operation::read(operation, Member::root(&body)).expect("it is here").expect_err("it does not fit").into()
    }

    #[test]
    fn members_become_the_operation() {
        let body = json!({
            "cluster": "c", "count": 2, "enableExecuteCommand": true, "overrides": {"cpu": "256", "any": [1, 2.5, {}]},
            "tags": [{"key": "a", "value": "b"}, {"key": "c"}], "aMemberOfTheFuture": {"x": [1]},
        });
        let Some(Ok(Operation::RunTask(RunTaskRequest { cluster, count, overrides, tags, .. }))) =
            Operation::read("RunTask", Member::root(&body))
        else {
            panic!("a RunTask is read");
        };
        assert_eq!((cluster.as_deref(), count), (Some("c"), Some(2)));
        assert_eq!(overrides.expect("it is there"), json!({"cpu": "256", "any": [1, 2.5, {}]}));
        assert_eq!(tags.expect("they are there").len(), 2);
    }

    #[test]
    fn a_misfit_says_what_and_where() {
        let serialization = [
            (json!({"cluster": 1}), "NUMBER_VALUE can not be converted to a String: cluster"),
            (json!({"cluster": ["a"]}), "Start of list found where not expected: cluster"),
            (json!({"cluster": {}}), "Start of structure or map found where not expected: cluster"),
            (json!({"count": "2"}), "STRING_VALUE can not be converted to a Long: count"),
            (json!({"count": 1.5}), "DECIMAL_VALUE can not be converted to a Long: count"),
            (json!({"count": u64::MAX}), "NUMBER_VALUE can not be converted to a Long: count"),
            (
                json!({"enableExecuteCommand": "true"}),
                "STRING_VALUE can not be converted to a Boolean: enableExecuteCommand",
            ),
            (json!({"tags": {}}), "Start of structure or map found where not expected: tags"),
            (json!({"tags": "a"}), "STRING_VALUE can not be converted to a List: tags"),
            (json!({"tags": [["a", "b"]]}), "Start of list found where not expected: tags[0]"),
            (
                json!({"tags": [{"key": "a"}, {"key": true}]}),
                "TRUE_VALUE can not be converted to a String: tags[1].key",
            ),
            (
                json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": [1]}}}),
                "NUMBER_VALUE can not be converted to a String: networkConfiguration.awsvpcConfiguration.subnets[0]",
            ),
        ];
        for (body, message) in serialization {
            assert_eq!(refused("RunTask", body), Refusal::Serialization(message.to_owned()));
        }
        assert_eq!(
            refused("RunTask", json!({"tags": [{"value": "a"}]})),
            Refusal::InvalidParameter("The member 'key' is missing: tags[0]".to_owned())
        );
    }
}
