//! Every member of RegisterTaskDefinition's input and of RunTask's `overrides`: its type, the rule for its value alone,
//! and what becomes of it here. The table that `lint` walks and that the documentation lists.
//!
//! Members and types are those of Amazon's service model of 2026-11-17
//! (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html>). Rules that need more
//! than one member are in `lint`.
//!
#![doc = include_str!("../MEMBERS.md")]

mod container;
mod overrides;
mod page;
mod task;

pub use container::CONTAINER_DEFINITION;
pub use overrides::TASK_OVERRIDE;
pub use page::{Row, json, markdown, rows};
pub use task::TASK_DEFINITION;

/// What becomes of a member that a file sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// Does what Amazon says.
    Effective,
    /// Does what Amazon says for some values; the text says which. The rules of `lint` refuse the others.
    Partly(&'static str),
    /// Does something else that serves the same end; the text says what.
    Mapped(&'static str),
    /// Accepted, and nothing comes of it; the text says why.
    NoEffect(&'static str),
    /// Refused, since the task would not be the same without it.
    Refused { why: &'static str, instead: &'static str },
    /// In answers only; ignored without a word.
    ReadOnly,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Text,
    Integer,
    Boolean,
    /// Seconds since 1970 as a number, or a date as text: clients print both.
    Timestamp,
    List(&'static Kind),
    /// An object whose members are all text.
    TextMap,
    Structure(&'static Shape),
}

/// What a text or a number must be by itself. For a list or map it holds for each of its items.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    Any,
    OneOf(&'static [&'static str]),
    Within(i64, i64),
    /// Returns what would be right.
    Grammar(fn(&str) -> Result<(), String>),
}

#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub rule: Rule,
    /// Values that coracle knows besides those of an `OneOf`, which are Amazon's.
    pub extensions: &'static [&'static str],
    pub here: Here,
    /// The test that shows it, from the repository's top: `tests/host/volumes.rs: name_of_the_test`.
    pub shown_by: Option<&'static str>,
}

/// One of Amazon's structures.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub members: &'static [Member],
}

impl Shape {
    pub fn member(&self, name: &str) -> Option<&'static Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

impl Kind {
    /// The structure inside, if there is one.
    pub fn shape(&self) -> Option<&'static Shape> {
        match self {
            Kind::Structure(shape) => Some(shape),
            Kind::List(item) => item.shape(),
            Kind::Text | Kind::Integer | Kind::Boolean | Kind::Timestamp | Kind::TextMap => None,
        }
    }
}

const fn member(name: &'static str, kind: Kind, here: Here) -> Member {
    Member { name, kind, required: false, rule: Rule::Any, extensions: &[], here, shown_by: None }
}

/// A member that works as Amazon says.
const fn works(name: &'static str, kind: Kind) -> Member {
    member(name, kind, Here::Effective)
}

const fn partly(name: &'static str, kind: Kind, what: &'static str) -> Member {
    member(name, kind, Here::Partly(what))
}

const fn no_effect(name: &'static str, kind: Kind, why: &'static str) -> Member {
    member(name, kind, Here::NoEffect(why))
}

const fn refused(name: &'static str, kind: Kind, why: &'static str, instead: &'static str) -> Member {
    member(name, kind, Here::Refused { why, instead })
}

const fn read_only(name: &'static str, kind: Kind) -> Member {
    member(name, kind, Here::ReadOnly)
}

impl Member {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn shown_by(mut self, test: &'static str) -> Self {
        self.shown_by = Some(test);
        self
    }

    const fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    const fn within(self, least: i64, most: i64) -> Self {
        self.rule(Rule::Within(least, most))
    }

    const fn extended_by(mut self, values: &'static [&'static str]) -> Self {
        self.extensions = values;
        self
    }

    const fn one_of(self, values: &'static [&'static str]) -> Self {
        self.rule(Rule::OneOf(values))
    }
}

const TEXTS: Kind = Kind::List(&Kind::Text);
/// The model's `integer`: 32 bits with a sign.
const INT_MAX: i64 = i32::MAX as i64;
