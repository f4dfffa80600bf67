//! Whether an instance can take a task, and if not, what it lacks.

use ecs::task_definition::PlacementConstraint;

use super::Lack;
use crate::fleet::InstanceStatus;
use crate::member::Member;
use crate::query::{Facts, Query, QueryError};
use crate::{Demand, Wanted};

/// Constraints that have been read
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PlacementConstraint.html>).
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    distinct: bool,
    queries: Vec<(String, Query)>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadConstraint {
    #[error("{given:?} is no placement constraint; there are distinctInstance and memberOf")]
    Kind { given: String },
    #[error("a distinctInstance constraint has no expression")]
    Expression,
    #[error("a memberOf constraint needs an expression")]
    NoExpression,
    #[error("the expression of a memberOf constraint cannot be read")]
    Query(#[source] QueryError),
}

impl Constraints {
    /// Those that can be read.
    pub(super) fn read(given: &[PlacementConstraint]) -> Constraints {
        let mut constraints = Constraints::default();
        for constraint in given {
            // A bad one was refused before it got here.
            let _ = constraints.add(constraint);
        }
        constraints
    }

    /// Whether all of them can be read.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(given: &[PlacementConstraint]) -> Result<(), BadConstraint> {
        let mut constraints = Constraints::default();
        given.iter().try_for_each(|constraint| constraints.add(constraint))
    }

    fn add(&mut self, given: &PlacementConstraint) -> Result<(), BadConstraint> {
        let expression = given.expression.as_deref().filter(|expression| !expression.trim().is_empty());
        match (given.kind.as_deref().unwrap_or_default(), expression) {
            ("distinctInstance", None) => self.distinct = true,
            ("distinctInstance", Some(_)) => return Err(BadConstraint::Expression),
            ("memberOf", Some(expression)) => {
                let query = Query::parse(expression).map_err(BadConstraint::Query)?;
                self.queries.push((expression.to_owned(), query));
            }
            ("memberOf", None) => return Err(BadConstraint::NoExpression),
            (other, _) => return Err(BadConstraint::Kind { given: other.to_owned() }),
        }
        Ok(())
    }
}

/// What is first found missing: resources, then attributes and constraints, as Amazon goes about it.
pub(super) fn lack(member: &Member, wanted: &Wanted<'_>, constraints: &Constraints) -> Option<Lack> {
    let instance = &member.instance;
    if instance.status != InstanceStatus::Active {
        return Some(Lack::NotActive);
    }
    if !instance.agent_connected {
        return Some(Lack::AgentDisconnected);
    }
    resources(member, wanted.demand).or_else(|| place(member, wanted, constraints))
}

fn resources(member: &Member, demand: &Demand) -> Option<Lack> {
    let free = member.free_cpu();
    if demand.cpu > free {
        return Some(Lack::Cpu { needs: demand.cpu, free });
    }
    let free_mib = member.free_memory_mib();
    if demand.memory_mib > free_mib {
        return Some(Lack::Memory { needs_mib: demand.memory_mib, free_mib });
    }
    for port in &demand.tcp_ports {
        let held_by = member.tcp_holder(*port);
        if held_by.is_some() || member.instance.reserved_tcp_ports.contains(port) {
            return Some(Lack::Port { port: *port, protocol: "tcp", held_by: held_by.cloned() });
        }
    }
    for port in &demand.udp_ports {
        let held_by = member.udp_holder(*port);
        if held_by.is_some() || member.instance.reserved_udp_ports.contains(port) {
            return Some(Lack::Port { port: *port, protocol: "udp", held_by: held_by.cloned() });
        }
    }
    if demand.interfaces > member.free_interfaces() {
        return Some(Lack::Interfaces);
    }
    let free = member.free_gpus();
    (demand.gpus > free).then_some(Lack::Gpu { needs: demand.gpus, free })
}

fn place(member: &Member, wanted: &Wanted<'_>, constraints: &Constraints) -> Option<Lack> {
    if let Some(name) = wanted.attributes.iter().find(|name| !member.instance.has_attribute(name)) {
        return Some(Lack::Attribute { name: name.clone() });
    }
    if constraints.distinct
        && member.groups.contains_key(wanted.group)
        && let Some(task) = member.task_of(wanted.group)
    {
        return Some(Lack::Distinct { task });
    }
    let facts = Facts::of(member);
    let failed = constraints.queries.iter().find(|(_, query)| !query.matches(&facts));
    failed.map(|(expression, _)| Lack::Constraint { expression: expression.clone() })
}
