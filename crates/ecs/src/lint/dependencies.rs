//! Rules about `dependsOn`: the names are there, nothing waits for itself, nothing waits for the task's end.

use std::collections::HashMap;

use super::Findings;
use super::place::Place;
use super::shape::known;
use crate::link::Link;

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    let containers = root.items("containerDefinitions");
    let named: Vec<(&str, &Place<'_>)> =
        containers.iter().filter_map(|container| Some((container.text("name")?, container))).collect();
    for container in &containers {
        for dependency in container.items("dependsOn") {
            condition(&dependency, &named, findings);
        }
    }
    cycles(&named, findings);
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDependency.html>: COMPLETE and SUCCESS "can't
/// be set on an essential container".
fn condition(dependency: &Place<'_>, named: &[(&str, &Place<'_>)], findings: &mut Findings) {
    let condition = dependency.text("condition").unwrap_or_default();
    let Some(name) = dependency.text("containerName") else { return };
    match named.iter().find(|(each, _)| *each == name) {
        None => {
            let names: Vec<&str> = named.iter().map(|(each, _)| *each).collect();
            // The plus is Amazon's.
            let words = format!("Cannot depend on container + '{name}' because it does not exist");
            findings.client_exception(dependency.path_of("containerName"), words);
            findings.hint(known("containers", &names));
        }
        Some((_, target)) => {
            let essential = target.flag("essential") != Some(false);
            if essential && matches!(condition, "COMPLETE" | "SUCCESS") {
                let words =
                    "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container";
                findings.client_exception(dependency.path_of("condition"), words);
                findings.hint(format!("set \"essential\": false on {name:?}"));
            }
            if condition == "HEALTHY" && target.member("healthCheck").is_none() {
                let message = format!("{name:?} has no health check, so HEALTHY would never be true");
                findings.error(dependency.path_of("condition"), message);
                findings.hint(format!("give {name:?} a healthCheck, or use START here"));
            }
        }
    }
}

/// Whom a container waits for: a link and volumesFrom are dependencies as well, in Amazon's agent.
fn waits_for<'a>(container: &Place<'a>) -> Vec<&'a str> {
    let links = container.items("links").into_iter().filter_map(|link| link.value.as_str());
    let linked = links.filter_map(|link| Some(Link::parse(link).ok()?.container));
    let named = |list: &str, name: &str| {
        let items = container.items(list).into_iter();
        items.filter_map(|item| item.text(name)).collect::<Vec<_>>()
    };
    named("dependsOn", "containerName")
        .into_iter()
        .chain(named("volumesFrom", "sourceContainer"))
        .chain(linked)
        .collect()
}

/// A finding where a container waits for one that waits for it, by whatever way. The walk is linear: a file may name
/// many more containers than run.
fn cycles(named: &[(&str, &Place<'_>)], findings: &mut Findings) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut index: HashMap<&str, usize> = HashMap::new();
    for (at, (name, _)) in named.iter().enumerate() {
        index.entry(name).or_insert(at);
    }
    let edges: Vec<Vec<usize>> = named
        .iter()
        .map(|(_, container)| waits_for(container).into_iter().filter_map(|name| index.get(name).copied()).collect())
        .collect();
    let mut marks = vec![Mark::New; named.len()];
    for start in 0..named.len() {
        // Depth first with the way kept in hand, so that no number of containers overflows the stack.
        let mut way: Vec<(usize, usize)> = Vec::new();
        if marks[start] == Mark::New {
            marks[start] = Mark::Open;
            way.push((start, 0));
        }
        while let Some((at, next)) = way.last_mut() {
            let (from, edge) = (*at, *next);
            *next += 1;
            let Some(&to) = edges[from].get(edge) else {
                marks[from] = Mark::Done;
                way.pop();
                continue;
            };
            match marks[to] {
                Mark::New => {
                    marks[to] = Mark::Open;
                    way.push((to, 0));
                }
                Mark::Open => {
                    let begin = way.iter().position(|(at, _)| *at == to).unwrap_or_default();
                    let names = way[begin..].iter().map(|(at, _)| *at).chain([to]).map(|at| named[at].0);
                    let message = format!("a cycle: {}", names.collect::<Vec<_>>().join(" waits for "));
                    let container = named[to].1;
                    let lists = ["dependsOn", "links", "volumesFrom"];
                    let list = lists.into_iter().find(|name| container.member(name).is_some()).unwrap_or("dependsOn");
                    findings.error(container.path_of(list), message);
                }
                Mark::Done => {}
            }
        }
    }
}
