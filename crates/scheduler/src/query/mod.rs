//! The cluster query language: `memberOf` constraints and the filter of ListContainerInstances
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-query-language.html>).
//!
//! ```text
//! expr    := and { ("||" | "or") and }
//! and     := not { ("&&" | "and") not }
//! not     := [ "!" | "not" ] primary
//! primary := "(" expr ")" | subject operator [ argument ]
//! ```
//!
//! Where an instance lacks what is asked about, a test is false, and its negation (`!=`, `!in`, `!~`, `!exists`) is true.

mod parse;

use std::cmp::Ordering;

use ecs::Timestamp;
use regex::Regex;

use crate::fleet::Instance;
use crate::member::Member;

pub use parse::{MAX_EXPRESSION_CHARACTERS, QueryError};

/// An expression that has been read.
#[derive(Clone, Debug)]
pub struct Query(Expression);

#[derive(Clone, Debug)]
enum Expression {
    Any(Vec<Expression>),
    All(Vec<Expression>),
    Not(Box<Expression>),
    Test(Subject, Check),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    AgentConnected,
    AgentVersion,
    Attribute(String),
    Ec2InstanceId,
    RegisteredAt,
    RunningTasksCount,
    TaskGroup,
}

#[derive(Clone, Debug)]
enum Check {
    Exists,
    NotExists,
    Equals(String),
    NotEquals(String),
    Compare(Comparison, String),
    In(Vec<String>),
    NotIn(Vec<String>),
    Matches(Regex),
    NotMatches(Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

/// What of an instance can be asked about.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub instance: &'a Instance,
    pub running_tasks: usize,
    groups: Groups<'a>,
}

/// The groups of the tasks on an instance.
#[derive(Clone, Copy, Debug)]
enum Groups<'a> {
    Of(&'a Member),
    Given(&'a [&'a str]),
}

impl<'a> Facts<'a> {
    pub(crate) fn of(member: &'a Member) -> Self {
        Self { instance: &member.instance, running_tasks: member.tasks(), groups: Groups::Of(member) }
    }

    /// Of an instance outside a fleet.
    pub fn new(instance: &'a Instance, running_tasks: usize, groups: &'a [&'a str]) -> Self {
        Self { instance, running_tasks, groups: Groups::Given(groups) }
    }

    /// The values of a subject: none where the instance lacks it, several groups where it has several tasks.
    fn any(&self, subject: &Subject, test: &mut dyn FnMut(&str) -> bool) -> bool {
        let instance = self.instance;
        match subject {
            Subject::AgentConnected => test(if instance.agent_connected { "true" } else { "false" }),
            Subject::AgentVersion => test(&instance.agent_version),
            Subject::Attribute(name) => {
                let mut named = instance.attributes.iter().filter(|attribute| attribute.name.as_ref() == Some(name));
                named.any(|attribute| test(attribute.value.as_deref().unwrap_or_default()))
            }
            Subject::Ec2InstanceId => test(&instance.host_name),
            Subject::RegisteredAt => test(&instance.registered_at.rfc3339()),
            Subject::RunningTasksCount => test(&self.running_tasks.to_string()),
            Subject::TaskGroup => match self.groups {
                Groups::Of(member) => member.groups.iter().any(|(group, _)| test(group)),
                Groups::Given(groups) => groups.iter().any(|group| test(group)),
            },
        }
    }
}

impl Query {
    /// # Errors
    /// Where and how it is no expression.
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        parse::parse(text).map(Query)
    }

    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        holds(&self.0, facts)
    }
}

fn holds(expression: &Expression, facts: &Facts<'_>) -> bool {
    match expression {
        Expression::Any(parts) => parts.iter().any(|part| holds(part, facts)),
        Expression::All(parts) => parts.iter().all(|part| holds(part, facts)),
        Expression::Not(part) => !holds(part, facts),
        Expression::Test(subject, check) => passes(subject, check, facts),
    }
}

fn passes(subject: &Subject, check: &Check, facts: &Facts<'_>) -> bool {
    let any = |test: &mut dyn FnMut(&str) -> bool| facts.any(subject, test);
    match check {
        Check::Exists => any(&mut |_| true),
        Check::NotExists => !any(&mut |_| true),
        Check::Equals(wanted) => any(&mut |value| compare(subject, value, wanted) == Some(Ordering::Equal)),
        Check::NotEquals(wanted) => !any(&mut |value| compare(subject, value, wanted) == Some(Ordering::Equal)),
        Check::Compare(comparison, wanted) => any(&mut |value| {
            compare(subject, value, wanted).is_some_and(|order| match comparison {
                Comparison::Greater => order == Ordering::Greater,
                Comparison::GreaterEqual => order != Ordering::Less,
                Comparison::Less => order == Ordering::Less,
                Comparison::LessEqual => order != Ordering::Greater,
            })
        }),
        Check::In(list) => any(&mut |value| is_in(subject, value, list)),
        Check::NotIn(list) => !any(&mut |value| is_in(subject, value, list)),
        Check::Matches(pattern) => any(&mut |value| pattern.is_match(value)),
        Check::NotMatches(pattern) => !any(&mut |value| pattern.is_match(value)),
    }
}

fn is_in(subject: &Subject, value: &str, list: &[String]) -> bool {
    list.iter().any(|wanted| compare(subject, value, wanted) == Some(Ordering::Equal))
}

/// Nothing where the two cannot be compared.
fn compare(subject: &Subject, value: &str, wanted: &str) -> Option<Ordering> {
    match subject {
        Subject::AgentVersion => Some(version(value).cmp(&version(wanted))),
        Subject::RegisteredAt => Some(Timestamp::from_rfc3339(value)?.cmp(&Timestamp::from_rfc3339(wanted)?)),
        Subject::AgentConnected => Some(value.cmp(wanted.to_ascii_lowercase().as_str())),
        Subject::RunningTasksCount => number(value)?.partial_cmp(&number(wanted)?),
        Subject::Attribute(_) | Subject::Ec2InstanceId | Subject::TaskGroup => match (number(value), number(wanted)) {
            (Some(value), Some(wanted)) => value.partial_cmp(&wanted),
            _ => Some(value.cmp(wanted)),
        },
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// `1.10.0` is after `1.9.2`; what is no number sorts as text behind it.
fn version(text: &str) -> Vec<(u64, String)> {
    let parts = text.trim_start_matches('v').split(['.', '-', '+']);
    parts
        .map(|part| part.parse().map_or_else(|_| (u64::MAX, part.to_owned()), |number| (number, String::new())))
        .collect()
}
