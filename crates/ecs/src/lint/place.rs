//! A value together with where it stands: what the rules walk over.

use serde_json::Value;

use crate::path::{item_path, member_path};

/// A value that was well formed, and its path. Members that were not are absent.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) path: String,
    pub(crate) value: &'a Value,
}

impl<'a> Place<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { path: String::new(), value }
    }

    pub(crate) fn member(&self, name: &str) -> Option<Place<'a>> {
        let value = self.value.get(name)?;
        Some(Place { path: member_path(&self.path, name), value })
    }

    /// The path of a member, there or not.
    pub(crate) fn path_of(&self, name: &str) -> String {
        member_path(&self.path, name)
    }

    /// The items of a list member; none where it is absent.
    pub(crate) fn items(&self, name: &str) -> Vec<Place<'a>> {
        let items = self.value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let path = self.path_of(name);
        let places = items.iter().enumerate().map(|(index, value)| Place { path: item_path(&path, index), value });
        // What was malformed stands as null, so that the others keep their places.
        places.filter(|place| !place.value.is_null()).collect()
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.value.get(name).and_then(Value::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.value.get(name).and_then(Value::as_i64)
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.value.get(name).and_then(Value::as_bool)
    }
}
