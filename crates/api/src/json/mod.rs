//! A request's body: bounded, strict JSON, then handed to the operation's own type member by member.

mod member;
mod value;

pub(crate) use member::Member;
pub(crate) use value::object;
