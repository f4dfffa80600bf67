//! `links`: which other containers of its task a container knows by name. As in Docker's default bridge, names are
//! known through links alone, and a link needs an address on both sides.

use ecs::ContainerName;
use ecs::link::Link;

use super::{ContainerRequest, NetworkPlan, Refusal, Request, refuse};

/// Another container under the names that the linking one knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkPlan {
    /// Its place among the task's containers.
    pub(crate) container: usize,
    /// Alias, hostname, and its name where that is not the alias: Docker's order.
    pub(crate) names: Vec<String>,
}

/// Where there is no bridge there is nothing to link.
pub(super) fn none(asked: &ContainerRequest) -> Result<(), Refusal> {
    if asked.links.is_empty() {
        return Ok(());
    }
    Err(refuse(asked, "links", "containers are linked in networkMode bridge alone".into()))
}

/// Fills in the links of a plan that is complete otherwise.
pub(super) fn add(request: &Request, plan: &mut NetworkPlan) -> Result<(), Refusal> {
    for (place, asked) in request.containers.iter().enumerate() {
        for (at, text) in asked.links.iter().enumerate() {
            let no = |wanted: String| refuse(asked, &format!("links[{at}]"), wanted);
            let link = Link::parse(text).map_err(|error| no(error.to_string()))?;
            let known = |other: &ContainerRequest| other.name.as_str() == link.container;
            let container = request.containers.iter().position(known).ok_or_else(|| {
                let names: Vec<&str> = request.containers.iter().map(|other| other.name.as_str()).collect();
                no(format!("there is no container {:?}; the containers are: {}", link.container, names.join(", ")))
            })?;
            if container == place {
                return Err(no("a container cannot be linked to itself".into()));
            }
            for apart in [place, container].map(|place| &request.containers[place]) {
                if apart.disable_networking {
                    return Err(no(format!("container {} has disableNetworking, so it has no address", apart.name)));
                }
            }
            let link = of(link, container, &plan.containers[container].hostname, &request.containers[container].name);
            plan.containers[place].links.push(link);
        }
    }
    refuse_circles(plan)
}

fn of(link: Link<'_>, container: usize, hostname: &Option<String>, name: &ContainerName) -> LinkPlan {
    let mut names = vec![link.alias.to_owned()];
    for more in [hostname.as_deref().unwrap_or_default(), name.as_str()] {
        if !more.is_empty() && !names.iter().any(|known| known == more) {
            names.push(more.to_owned());
        }
    }
    LinkPlan { container, names }
}

/// Each of a circle's containers would have to start before the other.
fn refuse_circles(plan: &NetworkPlan) -> Result<(), Refusal> {
    let mut finished = vec![false; plan.containers.len()];
    for start in 0..plan.containers.len() {
        let mut way = Vec::new();
        if let Some(circle) = find_circle(plan, start, &mut finished, &mut way) {
            let names = circle.iter().map(|place| plan.containers[*place].name.clone()).collect();
            return Err(Refusal::CircularLinks { names });
        }
    }
    Ok(())
}

/// Depth first; a task has ten containers at most.
fn find_circle(plan: &NetworkPlan, at: usize, finished: &mut [bool], way: &mut Vec<usize>) -> Option<Vec<usize>> {
    if let Some(seen) = way.iter().position(|place| *place == at) {
        return Some([&way[seen..], &[at]].concat());
    }
    if finished[at] {
        return None;
    }
    way.push(at);
    let circle = plan.containers[at].links.iter().find_map(|link| find_circle(plan, link.container, finished, way));
    way.pop();
    finished[at] = true;
    circle
}
