//! Reading an enum whose variant is told by a member among its others.
//!
//! `serde` itself keeps the members in a form of its own and reads the variant from that: every type below is compiled
//! once more for it. Here the text is gone through twice instead, first for the tag, then for the variant's own type.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a whole object is read from again.
pub type Text<'a> = serde_json::Deserializer<serde_json::de::SliceRead<'a>>;

/// An object and what its tag says.
pub struct Tagged {
    pub tag: String,
    text: Box<RawValue>,
}

impl Tagged {
    /// # Errors
    /// No object, no such member or a tag that is no text.
    pub fn read<'de, D: Deserializer<'de>>(tag: &'static str, from: D) -> Result<Tagged, D::Error> {
        let text = <Box<RawValue> as serde::Deserialize>::deserialize(from)?;
        let mut reader = Text::from_slice(text.get().as_bytes());
        let tag = reader.deserialize_map(TagOf(tag)).map_err(D::Error::custom)?;
        Ok(Tagged { tag, text })
    }

    /// The object's members, of which the tag is one that the type need not know.
    pub fn members<T: DeserializeOwned, E: Error>(&self) -> Result<T, E> {
        serde_json::from_slice(self.bytes()).map_err(E::custom)
    }

    /// The whole object, as a reader that was derived from its enum wants it.
    pub fn read_with<T, E: Error>(&self, read: impl FnOnce(&mut Text<'_>) -> serde_json::Result<T>) -> Result<T, E> {
        read(&mut serde_json::Deserializer::from_slice(self.bytes())).map_err(E::custom)
    }

    fn bytes(&self) -> &[u8] {
        self.text.get().as_bytes()
    }
}

struct TagOf(&'static str);

impl<'de> Visitor<'de> for TagOf {
    type Value = String;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object with the member {}", self.0)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<String, M::Error> {
        let mut tag = None;
        while let Some(name) = members.next_key::<String>()? {
            if name == self.0 {
                tag = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        tag.ok_or_else(|| M::Error::missing_field(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::Tagged;

    fn read(text: &str) -> Result<(String, Vec<u8>), String> {
        #[derive(serde::Deserialize)]
        struct Circle {
            radii: Vec<u8>,
        }
        let tagged = Tagged::read("kind", &mut serde_json::Deserializer::from_str(text)).map_err(|e| e.to_string())?;
        let circle: Circle = tagged.members::<_, serde_json::Error>().map_err(|error| error.to_string())?;
        Ok((tagged.tag, circle.radii))
    }

    #[test]
    fn the_tag_is_found_wherever_it_stands() {
        let circle = Ok(("circle".to_owned(), vec![1, 2]));
        assert_eq!(read(r#"{"kind": "circle", "radii": [1, 2]}"#), circle);
        assert_eq!(read(r#" {"radii": [1, 2], "other": {"kind": "square"}, "kind": "circle"} "#), circle);
    }

    #[test]
    fn what_has_no_tag_is_refused() {
        for (text, message) in [
            (r#"{"radii": [1]}"#, "missing field `kind` at line 1 column 14"),
            (r#"{"kind": 7}"#, "invalid type: integer `7`, expected a string at line 1 column 10"),
            ("[]", "invalid type: sequence, expected an object with the member kind at line 1 column 0"),
            (r#"{"kind": "circle", "radii": 1}"#, "invalid type: integer `1`, expected a sequence at line 1 column 29"),
            (r#"{"kind": "circle""#, "EOF while parsing an object at line 1 column 17"),
        ] {
            assert_eq!(read(text), Err(message.to_owned()), "{text}");
        }
    }
}
